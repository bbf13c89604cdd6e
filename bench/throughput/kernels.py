"""Which of a program's kernels take the device longest, by JAX's profiler."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax

CALLS = 5
NAMED = 3


def slowest_kernels(call: Callable[[Any], Any], batches: list[Any]) -> list[dict[str, Any]]:
    """Profile calls of a compiled program.

    Args:
        call: of a batch.
        batches: taken in turns.

    Returns:
        The three kernels that took longest, each with its `name` and its `share` of the time of all; none where the profiler
        says nothing of the device.
    """
    jax.block_until_ready([call(batch) for batch in batches])
    with TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for number in range(CALLS):
                jax.block_until_ready(call(batches[number % len(batches)]))
        files = list(Path(folder).rglob("*.xplane.pb"))
        if not files:
            return []
        profile = jax.profiler.ProfileData.from_file(str(files[0]))
    times: Counter[str] = Counter()
    for plane in profile.planes:
        if not plane.name.startswith("/device:"):
            continue
        for line in plane.lines:
            # Other lines hold the same time once more, by module or by step.
            if not line.name.startswith("Stream"):
                continue
            for event in line.events:
                times[event.name] += int(event.duration_ns)
    total = sum(times.values())
    return [
        {"name": name, "share": round(spent / total, 3)} for name, spent in times.most_common(NAMED) if total
    ]
