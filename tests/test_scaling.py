"""Predictions for nodes and facilities: arithmetic on measured rates."""

import json
from argparse import Namespace
from pathlib import Path

import pytest

from bench.scaling import devices_for, main, medians, node_limits, scaling_page
from sfxjax.errors import UserError


def test_the_smallest_part_of_a_node_comes_first() -> None:
    limits = node_limits({"judged": 100.0, "read": 700.0}, 8, 2e6, disk=1e9, network=10e9)
    assert [(limit.part, limit.rate) for limit in limits] == [
        ("disk", 500.0),
        ("judged", 800.0),
        ("network", 5000.0),
        ("read", 5600.0),
    ]
    assert limits[1].how == "8 x 100 frames/s"


@pytest.mark.parametrize(
    ("wanted", "rate", "devices"), [(100, 100, 1), (101, 100, 2), (1, 1000, 1), (1e6, 14410, 70)]
)
def test_devices_are_rounded_up(wanted: float, rate: float, devices: int) -> None:
    assert devices_for(wanted, rate) == devices
    assert devices * rate >= wanted > (devices - 1) * rate


def test_the_page_says_what_was_not_measured() -> None:
    record = json.loads(Path("bench/results/throughput-h200.json").read_text())
    options = Namespace(gpus=2, disk=1.0, network=2.0, compression=1.0)
    text = scaling_page(None, record, options)
    assert "On processor cores: not measured" in text
    assert "No node with several GPUs has been measured." in text
    assert f"| 2D CNN | {2 * medians(record)['host-1920-2d']:,.0f} |" in text
    # 1e9 bytes a second of frames of 1920 x 1920 pixels of two bytes.
    assert "| disk | 136 | 1 GB/s / 7.37 MB |" in text


@pytest.mark.parametrize("wrong", [[], ["--predict", "x", "--disk", "0"], ["--predict", "x", "--gpus", "-1"]])
def test_nothing_to_do_and_nonsense_are_refused(wrong: list[str]) -> None:
    with pytest.raises(UserError):
        main(wrong)
