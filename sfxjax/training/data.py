"""Whole sets in memory, as networks read them: pre-processed once, for any number of trainings and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from sfxjax.crop import CROP
from sfxjax.data.batches import READ_BATCH, filled, in_background
from sfxjax.data.labels import MISS, UNLABELLED
from sfxjax.data.sets import FrameSet
from sfxjax.mapping import map_in_threads, map_leading
from sfxjax.models.inputs import base_for, finish_inputs, network_inputs
from sfxjax.models.stem import BaseConfig
from sfxjax.preprocess.validity import settle
from sfxjax.reductions.registry import is_noise_filled

# Half the precision of float32 and the same range: a normalised pixel lies within +-5 and carries noise of 0.03.
MAP_DTYPE = jnp.bfloat16


def from_both_ends(reduction: str | None, maps: np.ndarray) -> np.ndarray:
    """Add to noise-filled vectors the same backwards, as frames rotated by 180 degrees give them: twice the labelled data.

    Args:
        reduction: name of a reduction, or None for whole frames.
        maps: (n, ...).

    Returns:
        (2 n, ...), the added ones last; (n, ...) as they are of other reductions and of frames.
    """
    return np.concatenate([maps, maps[:, ::-1]]) if is_noise_filled(reduction) else maps


@dataclass(frozen=True)
class PreparedSet:
    """All frames of one set.

    Attributes:
        name: such as `LN83`.
        simulated: whether its frames are simulated.
        labels: int8 (n,): MISS, MAYBE, HIT or UNLABELLED.
        statistics: float32 (n, 6), `sfxjax.evaluation.domain_check`.
        masked: what a network reads of each frame with the set's mask, as `sfxjax.screen` would score it: (n, ...) by the
            name of the reduction, None for whole frames. Frames are bfloat16 maps of `sfxjax.models.stem.stem`, vectors
            float32.
        bare: the same without the mask.
        base: that whole frames were prepared for.
    """

    name: str
    simulated: bool
    labels: np.ndarray
    statistics: np.ndarray
    masked: dict[str | None, np.ndarray] = field(repr=False)
    bare: dict[str | None, np.ndarray] = field(repr=False)
    base: BaseConfig = field(default_factory=BaseConfig)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positives(self) -> np.ndarray:
        """Bool (n,): Hit or Maybe, the paper's positive class."""
        return self.labels > MISS

    @property
    def labelled(self) -> np.ndarray:
        """Numbers of the frames with a label, int (k,)."""
        return np.flatnonzero(self.labels != UNLABELLED)

    def title(self) -> str:
        """Name the set, and say so when it is simulated."""
        return title(self)

    def check(self, base: BaseConfig, reduction: str | None) -> None:
        """Raise a ValueError where a base reads other maps or vectors than these."""
        if base.maps != base_for(reduction, self.base).maps:
            raise ValueError(
                f"{self.name} was prepared for {self.base}, which does not do for {base}; prepare it for that"
            )

    def training(self, reduction: str | None, indices: range | np.ndarray) -> np.ndarray:
        """Return what training sees: every second frame without the mask, so that its rims decide nothing.

        Args:
            reduction: name of a reduction, or None for whole frames.
            indices: frames, 0-based.
        """
        indices = np.asarray(indices)
        maps = self.masked[reduction][indices]
        maps[1::2] = self.bare[reduction][indices[1::2]]
        return maps


def title(frames: FrameSet | PreparedSet) -> str:
    """Name a set, and say so when it is simulated."""
    return f"simulated set {frames.name}" if frames.simulated else frames.name


def prepare(
    frame_set: FrameSet,
    reductions: Iterable[str | None],
    base: BaseConfig | None = None,
    advance: Callable[[int], None] = lambda frames: None,
) -> PreparedSet:
    """Read and pre-process a set once for several reductions.

    Args:
        frame_set: the open set.
        reductions: names, and None for whole frames.
        base: whose stem shrinks whole frames; by default the default base.
        advance: told the number of frames done, batch by batch.
    """
    names = tuple(dict.fromkeys(reductions))
    covered = frame_set.covered()
    bare_mask = np.ones((CROP, CROP), bool) if covered is None else covered
    parts: list[tuple[list[np.ndarray], np.ndarray]] = []
    with closing(in_background(frame_set.batches(range(len(frame_set)), READ_BATCH))) as batches:
        for batch in batches:
            count = len(batch.crops)
            own = bare_mask if batch.mask is None else batch.mask
            # One compiled shape.
            masks = np.stack(np.broadcast_arrays(own, bare_mask), axis=-3)
            arguments = [
                filled(np.asarray(values), READ_BATCH)
                for values in (batch.crops, batch.limits, batch.negatives_invalid)
            ]
            if masks.ndim == 4:
                masks = filled(masks, READ_BATCH)
            maps, statistics = map_in_threads(
                partial(_prepare_some, arguments, masks, names, base), READ_BATCH
            )
            parts.append(([np.asarray(part)[:count] for part in maps], np.asarray(statistics)[:count]))
            advance(count)
    masked: dict[str | None, np.ndarray] = {}
    bare: dict[str | None, np.ndarray] = {}
    for place, name in enumerate(names):
        both = np.concatenate([maps[place] for maps, _ in parts])
        masked[name], bare[name] = both[:, 0], both[:, -1]
    return PreparedSet(
        frame_set.name,
        frame_set.simulated,
        frame_set.labels,
        np.concatenate([statistics for _, statistics in parts]),
        masked,
        bare,
        base_for(None, base),
    )


def _prepare_some(
    arguments: list[np.ndarray],
    masks: np.ndarray,
    names: tuple[str | None, ...],
    base: BaseConfig | None,
    first: int,
    size: int,
) -> tuple[list[jax.Array], jax.Array]:
    crops, limits, negatives = (values[first : first + size] for values in arguments)
    own = masks[first : first + size] if masks.ndim == 4 else masks
    return _prepare(crops, limits, negatives, own, names, base_for(None, base))


@partial(jax.jit, static_argnames=("names", "base"))
def _prepare(
    crops: jax.Array,
    limits: jax.Array,
    negatives: jax.Array,
    masks: jax.Array,
    names: Sequence[str | None],
    base: BaseConfig,
) -> tuple[list[jax.Array], jax.Array]:
    """Return for each name (n, masks, ...), and the statistics (n, 6) under the first mask."""

    def one(arguments: tuple[jax.Array, ...]) -> tuple[list[jax.Array], jax.Array]:
        crop, limit, negatives_invalid = arguments[:3]

        def under(mask: jax.Array) -> tuple[list[jax.Array], jax.Array]:
            pixels, _ = settle(crop, mask, limit, negatives_invalid)
            inputs, statistics = network_inputs(pixels, names, base)
            maps = [
                finish_inputs(values[None], base_for(name, base))[0].astype(
                    MAP_DTYPE if name is None else jnp.float32
                )
                for name, values in zip(names, inputs, strict=True)
            ]
            return maps, statistics

        maps, statistics = jax.lax.map(under, arguments[3] if len(arguments) > 3 else masks)
        return maps, statistics[0]

    return map_leading(one, (crops, limits, negatives) + ((masks,) if masks.ndim == 4 else ()))
