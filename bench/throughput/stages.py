"""What the stages of `bench.throughput` share: how a stage is described, and the frames and networks that all of them use.

To add a stage, write a function that takes a `Setting` and returns a `Work`, and list it in `STAGES` of its module.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP, FRAME
from sfxjax.models.checkpoint import TrainedModel
from sfxjax.models.stem import BaseConfig
from sfxjax.reductions.row_wise import row_wise_decomposition

from .inputs import random_frames, random_model

DETECTOR = 1920
# Batches that take turns, so that no call meets the data of the one before in a cache.
BATCHES = 3

Section = Literal["single steps", "frames on the device", "host memory", "file", "training"]


class WrongAnswer(Exception):
    """A fast path's output is not the reference's: what is timed would be worthless."""


class NotHere(Exception):
    """What a stage or a comparison needs is not installed, or does not work on this machine."""


@dataclass(frozen=True)
class Published:
    """A figure of the paper, on one A100 40 GB.

    Attributes:
        rate: frames, or vectors, a second.
        includes: what it counts.
    """

    rate: float
    includes: str


PAPER_2D = Published(126, "2D CNN, whole prediction of a frame")
PAPER_1D = Published(11_123, "1D CNN on vectors, pre-processing and RWD not counted")


@dataclass(frozen=True)
class Rival:
    """What others would use for the same, timed right after a stage.

    Attributes:
        name: of the package.
        call: a function of a batch.
        batches: taken in turns.
        frames: in each batch.
        note: what it does, where that is not the same.
    """

    name: str
    call: Callable[[Any], Any]
    batches: Sequence[Any]
    frames: int
    note: str = ""


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        call: a function of a batch; its result is waited for.
        batches: taken in turns.
        frames: in each batch.
        shape: of a batch, and its dtype, in words.
        moved: bytes a frame that memory must move at least: the input read once, the output written once.
        over_bus: bytes a frame sent from the host to the device.
        operations: for `bench.throughput.timing.operations`, of one frame.
        program: the compiled program, where there is one.
        rivals: functions that make what to compare with, and compare the outputs first.
        published: the paper's figure.
        timed: in place of `call`, measures itself for about so many seconds, and returns the time of each repeat and the
            processor's.
        after: called once the stage is timed, with the rate's median, for what else there is to say, as JSON values.
    """

    call: Callable[[Any], Any] | None
    batches: Sequence[Any]
    frames: int
    shape: str
    moved: float = 0.0
    over_bus: float = 0.0
    operations: Sequence[tuple[Callable[..., Any], tuple[Any, ...], int]] = ()
    program: Any = None
    rivals: Sequence[Callable[[], Rival]] = ()
    published: Published | None = None
    timed: Callable[[float], tuple[Sequence[float], Sequence[float]]] | None = None
    after: Callable[[float], dict[str, Any]] = lambda median: {}


@dataclass(frozen=True)
class Stage:
    """One line of the table.

    Attributes:
        name: as `--only` takes it.
        section: which of the rates it is.
        make: compiles, compares the outputs with the reference, and returns what to time.
        quick: whether it is among the stages of a quick run, which does without those like others and long to compile.
    """

    name: str
    section: Section
    make: Callable[[Setting], Work]
    quick: bool = True


@dataclass
class Setting:
    """What the stages are measured with.

    Attributes:
        quick: as little as gives a figure at all.
        seed: of frames and weights.
        real: crops of real frames, uint16 (n, 724, 724), and their good pixels (724, 724); empty where there are none.
        folder: for files made on the way.
        frames_in_file: of the simulated set that is screened; None: by the machine.
    """

    quick: bool = False
    seed: int = 0
    real: tuple[np.ndarray, np.ndarray] = field(
        default_factory=lambda: (np.empty((0, CROP, CROP), np.uint16), np.ones((CROP, CROP), bool))
    )
    folder: Path = Path()
    frames_in_file: int | None = None

    @cached_property
    def device(self) -> jax.Device:
        """The first device."""
        return jax.local_devices()[0]

    @property
    def on_cpu(self) -> bool:
        """Whether the device is the processor."""
        return self.device.platform == "cpu"

    @property
    def cores(self) -> int:
        """Processors this process may use."""
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def batch(self) -> int:
        """Frames in a batch."""
        return 16 if self.on_cpu else 512

    @property
    def vectors(self) -> int:
        """Reduced frames in a batch."""
        return 512 if self.on_cpu else 32768

    @cached_property
    def crops(self) -> list[np.ndarray]:
        """Batches of crops, uint16 (n, 724, 724), on the host."""
        return [random_frames(self.batch, CROP, self.seed + number) for number in range(BATCHES)]

    @cached_property
    def crops_there(self) -> list[jax.Array]:
        """The same on the device."""
        return [jax.device_put(batch, self.device) for batch in self.crops]

    @cached_property
    def detector_frames(self) -> list[np.ndarray]:
        """Batches of detector frames, uint16 (n, 1920, 1920), on the host."""
        return [random_frames(self.batch, DETECTOR, self.seed + number) for number in range(BATCHES)]

    @cached_property
    def normalized(self) -> list[jax.Array]:
        """Batches of pre-processed frames, float32 (n, 720, 720), on the device."""
        from sfxjax.preprocess.definition import preprocess

        return [preprocess(batch) for batch in self.crops_there]

    @cached_property
    def reduced(self) -> list[jax.Array]:
        """Batches of row-wise decompositions, float32 (n, 720), on the device: of few frames, shifted and scaled."""
        drawn = np.concatenate([np.asarray(row_wise_decomposition(frames)) for frames in self.normalized])
        batches = []
        for number in range(BATCHES):
            rng = np.random.default_rng(self.seed + number)
            chosen = drawn[rng.integers(0, len(drawn), self.vectors)]
            columns = (np.arange(FRAME) + rng.integers(0, FRAME, (self.vectors, 1))) % FRAME
            scale = rng.uniform(0.9, 1.1, (self.vectors, 1)).astype(np.float32)
            batches.append(jax.device_put(scale * np.take_along_axis(chosen, columns, 1), self.device))
        return batches

    @cached_property
    def model_2d(self) -> TrainedModel:
        """The 2D network on frames."""
        return random_model(BaseConfig(), None, self.seed)

    @cached_property
    def model_1d(self) -> TrainedModel:
        """The 1D network on row-wise decompositions."""
        return random_model(BaseConfig(dimensions=1), "row_wise_decomposition", self.seed)


def compare(
    what: str,
    fast: Any,
    reference: Any,
    *,
    atol: float,
    rtol: float = 0.0,
    except_for: float = 0.0,
    spread: float = 0.0,
) -> None:
    """Raise a `WrongAnswer` unless two outputs agree.

    Args:
        what: is compared, in words.
        fast: the output that is timed.
        reference: what it must be.
        atol: allowed difference.
        rtol: allowed difference as a share of the reference's value.
        except_for: share of the values that may differ by more.
        spread: by which the reference's values must differ among themselves, lest any answer be right.
    """
    fast, reference = np.asarray(fast, np.float64), np.asarray(reference, np.float64)
    if spread and np.ptp(reference) < spread:
        raise WrongAnswer(
            f"{what}: the reference's values are too alike to tell a right answer from a wrong one"
        )
    if fast.shape != reference.shape:
        raise WrongAnswer(f"{what}: shape {fast.shape} where the reference has {reference.shape}")
    differs = ~(np.abs(fast - reference) <= atol + rtol * np.abs(reference))
    differs &= ~(np.isnan(fast) & np.isnan(reference))
    if differs.sum() > except_for * differs.size:
        worst = float(np.nanmax(np.where(differs, np.abs(fast - reference), 0)))
        raise WrongAnswer(
            f"{what}: {int(differs.sum())} of {differs.size} values differ from the reference, by up to {worst:.3g}"
        )


def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
    """Compile a function ahead of time for arguments of these shapes."""
    return jax.jit(function).lower(*arguments).compile()


def one_frame(edge: int = CROP, dtype: Any = jnp.uint16) -> jax.ShapeDtypeStruct:
    """Return the shape of a batch of one frame, for counting operations."""
    return jax.ShapeDtypeStruct((1, edge, edge), dtype)
