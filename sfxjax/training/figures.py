"""Pictures of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sfxjax.files import atomic_write


def plot_learning_curves(history: list[dict[str, Any]], kept_epoch: int, title: str, path: Path) -> None:
    """Plot validation loss and accuracy of the label and the domain classifier by epoch (the paper's Fig. 10).

    Args:
        history: one record an epoch, from `sfxjax.training.loop.fit`.
        kept_epoch: marked by a line.
        title: above the picture.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    epochs = [record["epoch"] for record in history]
    heads = [("label classifier", "label", "source validation frames, classes weighted alike")]
    if "domain_loss" in history[0]:
        heads.append(("domain classifier", "domain", "validation frames of source and target"))
    figure = Figure(figsize=(9, 3.2 * len(heads)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(heads), 2, squeeze=False, sharex=True)
    for row, (name, key, frames) in zip(axes, heads, strict=True):
        for axis, quantity in zip(row, ("loss", "accuracy"), strict=True):
            scale = 100 if quantity == "accuracy" else 1
            axis.plot(
                epochs, [scale * record[f"{key}_{quantity}"] for record in history], marker=".", color="C0"
            )
            axis.axvline(kept_epoch, color="0.6", linewidth=1, linestyle=":")
            axis.set_title(f"{name}: {quantity}\n{frames}", fontsize=9)
            axis.set_ylabel("cross entropy (nats)" if quantity == "loss" else "balanced accuracy (%)")
            axis.grid(alpha=0.3)
            if key == "domain":
                chance = 0.693 if quantity == "loss" else 50
                axis.axhline(chance, color="C3", linewidth=1, linestyle="--", label="chance")
                axis.legend(fontsize=8)
            elif quantity == "loss":
                axis.set_ylim(bottom=0)
    for axis in axes[-1]:
        axis.set_xlabel(f"epoch (dotted: epoch {kept_epoch}, kept)")
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130)
