"""What the figures share: how frames are shown, and how a picture is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sfxjax.files import atomic_write
from sfxjax.screen.pictures import frame_picture

CLASS_COLOURS = {"HIT": "#2e7d32", "MAYBE": "#b26a00", "MISS": "#555555"}


DOTS_PER_INCH = 100


GREYS = 64


class Example(NamedTuple):
    """One frame to show.

    Attributes:
        crop: (724, 724) detector units.
        label: MISS, MAYBE or HIT.
        number: of the frame in its set, from 1.
    """

    crop: np.ndarray
    label: int
    number: int


class DrawnPanel(NamedTuple):
    """One panel of Fig. 9: how well a linear classifier tells source from target features, per cent; None: too few frames."""

    network: str
    label: int
    told_apart: float | None


def title_of(name: str, simulated: bool) -> str:
    """Name a set for a title, and say so when it is simulated."""
    return f"simulated set {name}" if simulated else name


def new_figure(width: float, height: float) -> Any:
    """Make a figure without pyplot's global state, sizes in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write a figure as a PNG of GREYS greys and as many colours, whole or not at all."""
    from PIL import Image  # comes with matplotlib

    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
        # Noise in full colour takes megabytes.
        with Image.open(temporary) as picture:
            fewer = _fewer_colours(np.asarray(picture.convert("RGB")))
        fewer.save(temporary, optimize=True)


def _fewer_colours(pixels: np.ndarray) -> Any:
    """Reduce (height, width, 3) uint8 pixels to evenly spaced greys and, chosen apart from them, the other colours.

    Chosen all together, the few pixels of a thin red line would be lost among the greys of a frame.
    """
    from PIL import Image

    coloured = np.ptp(pixels.astype(np.int16), axis=-1) > 16
    places = np.round(pixels.mean(-1) * (GREYS - 1) / 255).astype(np.uint8)
    palette = np.repeat(np.linspace(0, 255, GREYS).round().astype(int), 3).tolist()
    if coloured.any():
        others = Image.fromarray(pixels[coloured][None]).quantize(GREYS)
        places[coloured] = np.asarray(others)[0] + GREYS
        palette += (others.getpalette() or [])[: 3 * GREYS]
    picture = Image.fromarray(places)
    picture.putpalette(palette)
    return picture


def show_frame(axis: Any, frame: np.ndarray, good: np.ndarray, shrink: int = 2) -> None:
    """Draw a frame into axes that count in its pixels, as `sfxjax.screen.pictures.frame_picture` does."""
    height, width = frame.shape
    axis.imshow(
        frame_picture(frame, good, shrink),
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="antialiased",
    )
    axis.set(xticks=[], yticks=[])
