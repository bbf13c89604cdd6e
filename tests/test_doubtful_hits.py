"""The warning of a count of spots: it speaks where hits rest on the detector, and is silent where crystals make them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import screen_cases as cases

PROFILE = np.array([[60, 90, 60], [90, 200, 90], [60, 90, 60]], np.uint16)
SHAPE = (160, 160)


def run(path: Path, frames: int, crystals: int, defects: int, seed: int = 0) -> Path:
    """Write frames of which the first show a crystal's nine spots, each at other places, and a share the detector's own."""
    rng = np.random.default_rng(seed)
    values = rng.poisson(40, (frames, *SHAPE)).astype(np.uint16)
    fixed = [(14 + 16 * k, 22 + 12 * k) for k in range(8)]
    for number, frame in enumerate(values):
        places = [tuple(place) for place in rng.integers(6, 150, (9, 2))] if number < crystals else []
        # Flickering: what comes again need not come in every frame.
        places += fixed if frames - number <= defects else []
        for ss, fs in places:
            frame[ss - 1 : ss + 2, fs - 1 : fs + 2] += PROFILE
    return cases.write_cxi(path, values)


@pytest.mark.parametrize(
    ("crystals", "defects", "warned"), [(8, 0, None), (0, 0, None), (6, 6, 6), (0, 16, 16)]
)
def test_hits_that_rest_on_the_detector_are_counted_and_others_are_not(
    tmp_path: Path, crystals: int, defects: int, warned: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = run(tmp_path / "run.cxi", 16, crystals, defects)
    assert cases.screen(path, "--out", tmp_path / "o") == 0
    said = capsys.readouterr().out
    labels = [row["label"] for row in cases.rows(tmp_path / "o")]
    assert labels == ["HIT"] * crystals + ["MISS"] * (16 - crystals - defects) + ["HIT"] * defects
    warnings = json.loads((tmp_path / "o" / "summary.json").read_text())["warnings"]
    if warned is None:
        assert warnings == [] and "Expect these hits" not in said
        return
    assert re.match(
        rf"{warned} of {crystals + defects} hits show most of their spots in 8 squares", warnings[0]
    )
    assert warnings[0] in said and 'class="warning"' in (tmp_path / "o" / "report.html").read_text()
