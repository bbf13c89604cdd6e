"""`summary.json` has the same keys, and the same numbers under them, whatever judged the frames."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import screen_cases as cases
from scipy.stats import binomtest

from sfxjax.live.__main__ import main as live
from sfxjax.models.checkpoint import save_model
from sfxjax.screen.summary import ResultSummary, write_summary
from sfxjax.simulate.conditions import Condition, draw_frame

DOCUMENTED = Path(__file__).resolve().parents[1] / "docs" / "summary.md"


@pytest.fixture(scope="module")
def summaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Of one run with a mask, screened without a model and with one, followed, and as live sees it."""
    folder = tmp_path_factory.mktemp("summary")
    model = save_model(folder / "tiny" / "model", cases.tiny_model()).parent
    rng = np.random.default_rng(3)
    shown = [Condition("counting", 3.0, 0.8, spots, "none", (), (320, 320)) for spots in (0, 14, 0, 0) * 2]
    data = np.array([draw_frame(rng, each).values for each in shown])
    data[:, 100:110, 100:120] = 7
    run = folder / "run"
    run.mkdir()
    cases.write_cxi(run / "run.cxi", data)
    (run / "none.cxi").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    mask = np.ones((320, 320), np.uint8)
    mask[100:110, 100:120] = 0
    np.save(folder / "mask.npy", mask)
    given = [run, "--mask", folder / "mask.npy", "--mask-good", "1", "--out"]
    assert cases.screen(*given, folder / "spots", "--no-report") == 1
    assert cases.screen(*given, folder / "model", "--no-report", "--model", model) == 1
    assert cases.screen(*given, folder / "follow", "--no-report", "--follow", "2") == 1
    options = ["--no-page", "--quiet-for", "2"]
    assert live([str(each) for each in (*given, folder / "live", *options)]) == 0
    names = ("spots", "model", "follow", "live")
    return {name: json.loads((folder / name / "summary.json").read_text()) for name in names}


def test_the_keys_are_the_same_and_documented(summaries: dict[str, dict[str, Any]]) -> None:
    keys = ["frames", *(field.name for field in fields(ResultSummary))]
    for name, summary in summaries.items():
        assert list(summary) == keys, name
        assert list(summary["hit_rate"]) == list(summaries["model"]["hit_rate"]), name
    documented = re.findall(r"^\| `(\w+)` ", DOCUMENTED.read_text(), re.MULTILINE)
    assert documented == keys


def test_the_same_frames_have_the_same_numbers_and_lines(summaries: dict[str, dict[str, Any]]) -> None:
    first = summaries["spots"]
    for name, summary in summaries.items():
        assert summary["frames"] == 9 and summary["errors"] == 1, name
        assert summary["hits"] + summary["misses"] == 8 == summary["hit_rate"]["frames"], name
        assert summary["hits"] == summary["hit_rate"]["hits"], name
        interval = binomtest(summary["hits"], 8).proportion_ci(method="wilson")
        found = [summary["hit_rate"][key] for key in ("percent", "low", "high")]
        expected = [100 * summary["hits"] / 8, 100 * interval.low, 100 * interval.high]
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=name)
        (line,) = [line for line in summary["masks"] if "mask.npy" in line]
        assert "200 of 102,400 pixels" in line, name
        assert [line.split(":")[0].rpartition("/")[2] for line in summary["files"]] == ["run.cxi"], name
        assert [Path(path).name for path in summary["unreadable"]] == ["none.cxi"], name
        assert summary["source"] == first["source"].replace("spots", name), name
        if name != "model":
            assert summary["hits"] == 2, name
            assert (summary["threshold"], summary["min_snr"], summary["min_spots"]) == (0.5, 6.0, 4), name
            assert summary["model"] == "the day-one model as it is", name
        # Frames that go on to come have no whole run.
        assert (summary["hit_rate_over_the_run"] is None) == (name == "live")
        assert (summary["frames_that_came"] is None) == (name in ("spots", "model"))
    assert summaries["live"]["frames_that_came"]["judged"] == 8
    assert summaries["model"]["min_snr"] is None and summaries["model"]["threshold_is"] == "the model's"


def test_names_in_it_are_printable_and_of_nothing_there_is_no_rate(tmp_path: Path) -> None:
    from sfxjax.live.statistics import Sums, estimated_hit_rate
    from sfxjax.screen.summary import rate_of_sample, rate_of_scores

    nothing = estimated_hit_rate(Sums())
    of_sample = rate_of_sample(0, nothing.frames, nothing.value, nothing.low, nothing.high)
    of_scores = rate_of_scores(0, np.empty(0))
    assert of_sample == of_scores | {"expected": None, "deviation": None}
    made = ResultSummary(0, 0, 1, of_sample, "m", 0.5, "given", "a\x1b[2J", unreadable={"b\n.h5": "\x07"})
    write_summary(tmp_path, made)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found["source"] == "a\\x1b[2J" and found["unreadable"] == {"b\\n.h5": "\\x07"}
    assert found["frames"] == 1
