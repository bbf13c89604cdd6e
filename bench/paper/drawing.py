"""What the figures share: their colours, how frames are shown, and how a picture is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from sfxjax.files import atomic_write
from sfxjax.screen.pictures import frame_picture

CLASS_COLOURS = {"HIT": "#2e7d32", "MAYBE": "#b26a00", "MISS": "#555555"}
RED, BLUE = "#c4342b", "#2b62c4"
DOTS_PER_INCH = 100
GREYS = 64


def new_figure(width: float, height: float) -> Any:
    """Make a figure without pyplot's global state, sizes in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Any, title: str, path: Path) -> None:
    """Write a figure under a title as a PNG of GREYS greys and as many colours, whole or not at all."""
    from PIL import Image  # comes with matplotlib

    figure.suptitle(title, fontsize=11)
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


def show_frame(axis: Any, frame: np.ndarray, good: np.ndarray, title: str, shrink: int = 2) -> None:
    """Draw a frame into axes that count in its pixels, as `sfxjax.screen.pictures.frame_picture` does, with a title."""
    height, width = frame.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(frame_picture(frame, good, shrink), extent=extent, interpolation="antialiased")
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=10)


def outline(axis: Any, ss: float, fs: float, side: int, width: float) -> None:
    """Draw a red square into axes that count in pixels, by its first row and column."""
    from matplotlib.patches import Rectangle

    axis.add_patch(Rectangle((fs, ss), side, side, fill=False, edgecolor=RED, linewidth=width))
