"""Rates and ceilings: how fast a call is, and how fast memory and bus could be at most."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

LEAST_REPEATS = 5
MOST_REPEATS = 2000


@dataclass(frozen=True)
class TimedRate:
    """Frames, or vectors, a second.

    Attributes:
        median: over the repeats.
        low: their lower quartile.
        high: their upper quartile.
        repeats: timed calls.
        batch: frames in a call.
        processor: seconds of the host's processor a frame, over all threads of this process; median. What else the
            machine does hardly changes it.
    """

    median: float
    low: float
    high: float
    repeats: int
    batch: int
    processor: float

    def to_json(self) -> dict[str, float]:
        """Return the fields as JSON values, the rates with four figures."""
        return {key: float(f"{value:.4g}") for key, value in asdict(self).items()} | {
            "repeats": self.repeats,
            "batch": self.batch,
        }


@dataclass(frozen=True)
class Timed:
    """What is to be timed.

    Attributes:
        call: a function of a batch.
        batches: taken in turns.
        frames: in each batch.
    """

    call: Callable[[Any], Any]
    batches: Sequence[Any]
    frames: int


def time_calls(timed: Timed, seconds: float) -> TimedRate:
    """Time calls one after the other, each with the next of several batches, each until its result is there.

    The first call of each batch is outside: it compiles, and fills caches of the allocator.

    Args:
        timed: what is timed.
        seconds: to go on for, beyond five calls.
    """
    return measure_in_turns([timed], seconds, rounds=1)[0]


def measure_in_turns(several: Sequence[Timed], seconds: float, rounds: int = 4) -> list[TimedRate]:
    """Time several things in turns, so that what else the machine does weighs on all alike; each as `measure` does.

    Args:
        several: what is timed.
        seconds: to go on for, each.
        rounds: into which that is cut.
    """
    order = [itertools.cycle(timed.batches) for timed in several]
    times: list[list[float]] = [[] for _ in several]
    used: list[list[float]] = [[] for _ in several]
    for timed in several:
        for batch in timed.batches:
            jax.block_until_ready(timed.call(batch))
    for turn in range(1, rounds + 1):
        for timed, batches, mine, processor in zip(several, order, times, used, strict=True):
            if turn > 1:
                # Threads and caches of the other are still warm.
                jax.block_until_ready(timed.call(next(batches)))
            for batch in batches:
                start, before = time.perf_counter(), time.process_time()
                jax.block_until_ready(timed.call(batch))
                mine.append(time.perf_counter() - start)
                processor.append(time.process_time() - before)
                enough = len(mine) * rounds >= LEAST_REPEATS * turn and sum(mine) > seconds * turn / rounds
                if enough or len(mine) >= MOST_REPEATS:
                    break
    return [
        rate_of(mine, processor, timed.frames)
        for timed, mine, processor in zip(several, times, used, strict=True)
    ]


def rate_of(times: Sequence[float], processor: Sequence[float], frames: int) -> TimedRate:
    """Sum up calls of so many frames each: their times, and the processor's, in seconds."""
    low, median, high = (float(value) for value in np.percentile(frames / np.asarray(times), (25, 50, 75)))
    return TimedRate(median, low, high, len(times), frames, float(np.median(processor)) / frames)


def copy_bandwidth(device: jax.Device, seconds: float) -> float:
    """Measure bytes a second, read and written, of a copy within the device's memory."""
    size = 2**26 if device.platform == "cpu" else 2**30
    array = [jax.device_put(jnp.ones(size // 4, jnp.float32), device)]
    # A plain copy could be left out by the compiler; a change of sign moves the same bytes. In place, since a processor
    # takes longer to get new memory from the system than to fill it.
    change = jax.jit(jnp.negative, donate_argnums=0)

    def call(_: int) -> jax.Array:
        array[0] = change(array[0])
        return array[0]

    return 2 * size * time_calls(Timed(call, [0], 1), seconds).median


def bus_bandwidth(device: jax.Device, seconds: float) -> float | None:
    """Measure bytes a second from the host's memory to the device; None where both are one memory."""
    if device.platform == "cpu":
        return None
    size = 2**27
    arrays = [np.full(size, value, np.uint8) for value in (1, 2, 3, 4)]

    def send(first: int) -> list[jax.Array]:
        # Several at once, as the screening does.
        return [jax.device_put(arrays[(first + step) % 4], device) for step in range(4)]

    return 4 * size * time_calls(Timed(send, [0, 1], 1), seconds).median


def operations(parts: Sequence[tuple[Callable[..., Any], tuple[Any, ...], int]]) -> float | None:
    """Count floating-point operations by XLA's cost analysis.

    It counts the body of a loop once, however often that runs, so loops are given part by part.

    Args:
        parts: of each a function, the shapes of its arguments and how often it runs.

    Returns:
        Their sum, or None where XLA does not tell.
    """
    total = 0.0
    for function, arguments, times in parts:
        try:
            found = jax.jit(function).lower(*arguments).cost_analysis()
        except (NotImplementedError, RuntimeError):
            return None
        if not found or "flops" not in found:
            return None
        total += times * max(float(found["flops"]), 0.0)
    return total


def program_memory(program: Any) -> int | None:
    """Return the bytes that a compiled program's arguments, results and intermediates take, or None if it does not tell."""
    try:
        found = program.memory_analysis()
    except (AttributeError, NotImplementedError, RuntimeError):
        return None
    if found is None:
        return None
    parts = (found.argument_size_in_bytes, found.output_size_in_bytes, found.temp_size_in_bytes)
    return int(sum(parts) - found.alias_size_in_bytes)


def peak_memory(device: jax.Device) -> int | None:
    """Return the most bytes in use so far: of the device, or of this process where the device is the processor."""
    statistics = device.memory_stats()
    if statistics and "peak_bytes_in_use" in statistics:
        return int(statistics["peak_bytes_in_use"])
    try:
        import resource
    except ImportError:
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
