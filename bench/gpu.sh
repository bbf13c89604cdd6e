#!/usr/bin/env bash
# All figures that need a GPU, in at most eight minutes: every output is compared with its reference before it is timed.
#
#   bench/gpu.sh [--only decision,host] [FILE]
#
# Needs a Python with jax for the GPU, flax, optax, orbax-checkpoint, h5py and scikit-learn; PYTHON=... names another than
# python3. Writes bench/results/throughput-gpu.json, or FILE, after each stage, and its table beside it.
# `--only decision,host` takes three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
only=()
if [[ ${1:-} == --only ]]; then
  [[ -n ${2:-} ]] || { echo 'error: --only needs names, such as --only decision,host' >&2; exit 2; }
  # A decision is what screening gives for a crop on the device.
  only=(--only "${2//decision/screening}")
  shift 2
fi
file=${1:-bench/results/throughput-gpu.json}
python=${PYTHON:-python3}
"$python" -c 'import sys, jax; sys.exit(jax.default_backend() == "cpu")' 2>/dev/null ||
  { echo "error: $python finds no GPU for JAX; install jax[cuda13], or name another Python with PYTHON=..." >&2; exit 2; }
"$python" -m bench.throughput --seconds "${SECONDS_A_STAGE:-0.5}" --minutes 6.5 --json "$file" ${only[@]+"${only[@]}"}
"$python" -m bench.throughput.table "$file" > "${file%.json}.md"
