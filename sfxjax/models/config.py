"""The shape of a network's convolutional base."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sfxjax.errors import UserError
from sfxjax.preprocess.box_filter import check_spot

Stem = Literal["block_extrema", "space_to_depth"]


@dataclass(frozen=True)
class BaseConfig:
    """Shape of a convolutional base.

    Attributes:
        dimensions: 2 for frames, 1 for reduced vectors.
        stem: how a frame first shrinks: "block_extrema" keeps the largest and the smallest value of each block of pixels,
            "space_to_depth" makes each block's pixels the channels of one pixel. Frames only.
        block: edge of the stem's blocks, pixels.
        spot: edge of the box filter that adds up the pixels of a spot before "block_extrema", pixels, odd; 1 for none.
        noise_normalised: whether values are scaled to the frame's noise. For frames with "block_extrema" only; for vectors
            most of whose values are noise (`sfxjax.reductions.registry.is_noise_filled`).
        channels: of each convolutional block, bottom to top.
        features: length of the feature vector.
        dropout: rate in the top two blocks.

    Raises:
        UserError: there is no such base.
    """

    dimensions: int = 2
    stem: Stem = "block_extrema"
    block: int = 8
    spot: int = 3
    noise_normalised: bool = True
    channels: tuple[int, ...] = (8, 16)
    features: int = 16
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if self.dimensions not in (1, 2) or self.stem not in ("block_extrema", "space_to_depth"):
            raise UserError(
                f"no convolutional base with {self.dimensions} dimensions and the stem {self.stem!r}"
            )
        if self.dimensions == 1:
            object.__setattr__(self, "spot", 1)
        check_spot(self.spot)
        object.__setattr__(self, "channels", tuple(self.channels))

    @property
    def equivariant(self) -> bool:
        """Whether rotating the frame by 90 degrees or mirroring it does the same to its maps: not with "space_to_depth"."""
        return self.dimensions == 2 and self.stem == "block_extrema"

    @property
    def maps(self) -> tuple[Any, ...]:
        """The settings that the maps or vectors read by a base depend on: bases that agree in them can share the maps."""
        if self.dimensions == 1:
            return self.dimensions, self.noise_normalised
        if self.stem == "space_to_depth":
            return self.dimensions, self.stem, self.block
        return self.dimensions, self.stem, self.block, self.spot, self.noise_normalised

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self) | {"channels": list(self.channels)}
