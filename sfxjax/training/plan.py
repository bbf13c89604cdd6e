"""What a training run is to do: one network, from which labels, by which recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from sfxjax.errors import UserError
from sfxjax.training.recipe import Recipe

Method = Literal["supervised", "reduced", "transfer", "dann", "adapt"]
TITLES: dict[str, str] = {
    "supervised": "2D CNN",
    "reduced": "1D CNN",
    "transfer": "transfer learning",
    "dann": "DANN",
    "adapt": "adaptation without labels",
}


@dataclass(frozen=True)
class Plan:
    """One run.

    Attributes:
        method: "supervised" (whole frames) and "reduced" (vectors) train on the source alone; "transfer" starts from a network
            of the source and trains on labels of the target; "dann" and "adapt" train on labels of the source and frames of
            the target without labels.
        source: name of the first set.
        target: name of the second, or None.
        labels: labelled training frames, of the target in transfer and else of the source; None: all of the paper's
            training part.
        reduction: name of a reduction, or None for whole frames.
        recipe: how the network is trained.
        data: by name what each set that is not simulated consists of, as `SetDescription.to_json` gives it; None:
            all are simulated.
        frames: of each simulated set.
        base: folder of the run that transfer starts from, or None.
        adaptation: key of `sfxjax.training.adaptation.METHODS` for "adapt", else None.
    """

    method: Method
    source: str
    target: str | None
    labels: int | None
    reduction: str | None
    recipe: Recipe
    data: Any = None
    frames: int = 2000
    base: str | None = None
    adaptation: str | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise UserError("--source and --target are the same set; name two")

    @property
    def labelled(self) -> str:
        """Name of the set whose labels are trained on."""
        return self.target if self.method == "transfer" and self.target else self.source

    @property
    def unlabelled(self) -> str | None:
        """Name of the set whose frames are trained on without labels, if any."""
        return self.target if self.method in ("dann", "adapt") else None

    @property
    def sets(self) -> list[str]:
        """Names of the sets that the run needs."""
        return [self.source] if self.target is None else [self.source, self.target]

    def title(self) -> str:
        """Name the network for people."""
        what = TITLES[self.method] if self.reduction is None else f"{TITLES[self.method]} on {self.reduction}"
        return f"{what}, {self.source}" + ("" if self.target is None else f" -> {self.target}")

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {key: getattr(self, key) for key in self.__dataclass_fields__} | {
            "recipe": self.recipe.to_json()
        }


def folder_name(reduction: str) -> str:
    """Return a reduction's name as part of a folder's: `mine.py:bright` becomes `bright`."""
    return reduction.rpartition(":")[2]
