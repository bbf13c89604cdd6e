"""What docs/live.md says can be checked: its arithmetic, its alarms, its batch scripts."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from bench.live.__main__ import load_table
from sfxjax.live.alarms import DEFAULTS

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "live.md").read_text()


def test_the_stages_of_a_million_frames_a_second_are_those_measured() -> None:
    stages = json.loads((ROOT / "bench/results/throughput-h200.json").read_text())["stages"]
    rates = {stage["name"]: stage["rate"]["median"] for stage in stages}
    rows = re.findall(r"^\| `([\w-]+)`: .* \| ([\d.]+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert len(rows) == 6
    for name, rate, count in rows:
        assert float(rate) == pytest.approx(rates[name], rel=1e-3), name
        assert int(count) == math.ceil(1e6 / float(rate)), name


def test_the_figures_under_load_are_those_of_the_record() -> None:
    result = json.loads((ROOT / "bench/results/live-cpu.json").read_text())
    assert load_table(result) in PAGE
    assert f"{result['file_rate']:.1f} frames/s" in PAGE and f"{100 * result['true_hit_rate']:.1f} %" in PAGE
    assert f"{result['seconds']:g} s each" in PAGE and f"mean load of {result['other_load']:.0f}" in PAGE


def test_the_alarms_shown_are_those_that_hold_without_a_file() -> None:
    shown = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    assert tomllib.loads(shown[0]) == DEFAULTS


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_tasks_of_the_job_array_share_the_files_and_receivers_have_folders_of_their_own(
    tmp_path: Path,
) -> None:
    run, commands = tmp_path / "run 1", tmp_path / "bin"
    run.mkdir()
    commands.mkdir()
    for number in range(10):
        (run / f"r{number}.cxi").touch()
    for name, content in (("srun", 'exec "$@"'), ("sfxjax", 'printf "%s\\n" "$@"')):
        (commands / name).write_text(f"#!/bin/bash\n{content}\n")
        (commands / name).chmod(0o755)

    def said(script: str, *arguments: str, **variables: str) -> list[str]:
        path = {"PATH": f"{commands}:/usr/bin:/bin", **variables}
        command = ["bash", str(ROOT / "docs/slurm" / script), *arguments]
        return subprocess.run(
            command, env=path, capture_output=True, text=True, check=True
        ).stdout.splitlines()

    given: list[str] = []
    for task in range(5, 9):
        task_of = {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_MIN": "5",
            "SLURM_ARRAY_TASK_COUNT": "4",
        }
        words = said("screen_files.sbatch", str(run), "out", **task_of)
        assert words[0] == "screen" and words[-2:] == ["--out", f"out/part-{task}"]
        given += words[1:-2]
    assert sorted(given) == sorted(str(path) for path in run.iterdir())
    words = said("live_receivers.sbatch", "tcp://detector:1", "a folder", SLURM_PROCID="3")
    assert words == ["live", "tcp://detector:1", "--shared", "--no-page", "--out", "a folder/receiver-3"]
