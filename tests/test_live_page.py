"""The monitor page: what it is told, who may see it, and what it warns of."""

from __future__ import annotations

import http.client
import json
import re
import socket
import time
from pathlib import Path

import live_cases as cases
import numpy as np
import pytest
from matplotlib import image

from sfxjax.errors import UserError
from sfxjax.live.alarms import DEFAULTS, Alarms, MonitorState, read_alarms
from sfxjax.live.judge import Judge, Looks
from sfxjax.live.keeper import Keeper
from sfxjax.live.monitor import Monitor
from sfxjax.live.pictures import Pictures
from sfxjax.live.server import monitor_application, serve_page
from sfxjax.live.statistics import HitRate
from sfxjax.web import listen


def monitored(tmp_path: Path) -> tuple[Monitor, Keeper]:
    from test_live_receiver import Given, run

    from sfxjax.live.receiver import Receiver

    monitor = Monitor(Alarms(read_alarms(None)))
    keeper = Keeper(tmp_path / "o", {})
    receiver = Receiver(Given(list(range(30)), waits=True), cases.judge, keeper, 2)  # type: ignore[arg-type]
    receiver.looked_at = monitor.looked_at
    run(receiver, 30)
    monitor.pictures.make()
    monitor.update(receiver)
    return monitor, keeper


def get(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": f"127.0.0.1:{port}", **headers})
    return connection.getresponse()


def test_the_page_pushes_its_state_to_many_and_refuses_strangers(tmp_path: Path) -> None:
    monitor, _ = monitored(tmp_path)
    listening, token = listen(tmp_path / "address.json")
    port = listening.getsockname()[1]
    assert listening.getsockname()[0] == "127.0.0.1"
    assert (tmp_path / "address.json").stat().st_mode & 0o77 == 0
    serve_page(monitor_application(monitor, token, port), listening)
    page = get(port, f"/?token={token}")
    content = page.read().decode()
    assert page.status == 200 and "'self'" in str(page.headers["Content-Security-Policy"])
    # Nothing is fetched from elsewhere.
    assert set(re.findall(r"https?://[^\"\s<]+", content)) == {"http://www.w3.org/2000/svg"}
    for path in ("/", "/state", "/events", "/picture/hit", "/?token=wrong", "/events?token="):
        assert get(port, path).status == 403, path
    assert get(port, f"/state?token={token}", Host=f"elsewhere:{port}").status == 403
    assert get(port, f"/state?token={token}", Origin="http://elsewhere").status == 403
    started = time.monotonic()
    viewers = [get(port, f"/events?token={token}") for _ in range(10)]
    for viewer in viewers:
        told = [
            json.loads(viewer.readline()[6:]) for _ in range(2) if not viewer.fp.peek(1).startswith(b"\n")
        ]
        assert told[0]["counts"]["judged"] == 30
    lines = [viewers[0].readline() for _ in range(8)]
    assert len([line for line in lines if line.startswith(b"data: ")]) >= 3
    assert time.monotonic() - started < 20
    assert get(port, f"/picture/hit?token={token}").read()[:2] == b"\xff\xd8"
    assert get(port, f"/picture/none?token={token}").status == 404


def test_the_state_tells_rates_counts_and_the_last_hit(tmp_path: Path) -> None:
    monitor, keeper = monitored(tmp_path)
    state = json.loads(monitor.line)
    assert state["shift"]["value"] == pytest.approx(1 / 3) and state["shift"]["low"] < 1 / 3
    assert state["counts"] == {**state["counts"], "received": 30, "judged": 30, "left_out": 0, "lost": 0}
    assert state["spots"]["8"] == 10 and sum(state["spots"].values()) == 30
    assert state["hit"]["name"] == "series-1 //27" and state["hit"]["spots"] == [[3.0, 3.0], [9.0, 9.0]]
    # The corner holds the number.
    means = state["profile"]["mean"][:-1]
    assert len(means) > 40 and means == pytest.approx([3.0] * len(means), abs=3)
    assert keeper.sums.hits == 10


def test_the_pictures_keep_small_spots_and_the_powder_the_largest_values(tmp_path: Path) -> None:
    pictures = Pictures()
    for number, place in ((0, (100, 900)), (3, (700, 200))):
        frame = np.random.default_rng(number).poisson(3, (1000, 1300)).astype("u2")
        frame[place] = 4000
        judged, looks = cases.judge(cases_frame(number), 1)
        assert looks is not None
        pictures.looked_at(judged, Looks(3.0, 0.0, frame, None, np.inf))
        pictures.make()
    width, height = pictures.powder.about["shape"]
    path = tmp_path / "powder.jpg"
    path.write_bytes(pictures.powder.content)
    shown = np.asarray(image.imread(path), float)[..., 0]
    assert pictures.powder.about["hits"] == 2
    for ss, fs in ((100, 900), (700, 200)):
        row, column = int(ss * shown.shape[0] / height), int(fs * shown.shape[1] / width)
        near = shown[row - 1 : row + 2, column - 1 : column + 2]
        assert near.min() < np.percentile(shown, 1)


def cases_frame(number: int):  # type: ignore[no-untyped-def]
    from test_live_receiver import frame

    return frame(number)


def state(**changes: float) -> MonitorState:
    rate = HitRate(0.3, 0.25, 0.35, 500)
    usual = {"since_hit": 1.0, "frames_since_hit": 3, "since_frame": 0.1, "latency": 0.5, "share": 1.0}
    return MonitorState(rate, rate, **{**usual, **changes})  # type: ignore[arg-type]


def test_alarms_are_raised_by_what_their_file_says(tmp_path: Path) -> None:
    alarms = Alarms(read_alarms(None))
    assert alarms.raised(state()) == []
    wrong = state(since_hit=200, frames_since_hit=900, since_frame=60, latency=4.0, share=0.02)
    assert [each["name"] for each in alarms.raised(wrong)] == ["no_frames", "no_hits", "latency", "sample"]
    fell = MonitorState(HitRate(0.02, 0.0, 0.05, 300), HitRate(0.3, 0.28, 0.32, 9000), 1.0, 1, 0.1, 0.5, 1.0)
    assert [each["name"] for each in alarms.raised(fell)] == ["rate_fell"]
    path = tmp_path / "alarms.toml"
    path.write_text("[no_hits]\nseconds = 5\nframes = 10\n[latency]\non = false\n[sample]\nshare = 0.01\n")
    alarms = Alarms(read_alarms(path))
    assert [each["name"] for each in alarms.raised(wrong)] == ["no_frames", "no_hits"]
    assert [each["name"] for each in alarms.raised(state(since_hit=6, frames_since_hit=11))] == ["no_hits"]


@pytest.mark.parametrize(
    "content", ["[no_hit]\n", "[no_hits]\nseconds = true\n", "[no_hits]\nminutes = 3\n", "no_hits = 3\n", "["]
)
def test_a_file_of_alarms_with_a_mistake_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "alarms.toml"
    path.write_text(content)
    with pytest.raises(UserError, match="alarms.toml"):
        read_alarms(path)
    assert DEFAULTS["no_hits"]["seconds"] == 120.0


def test_frames_of_another_brightness_and_saturated_ones_are_told() -> None:
    alarms = Alarms(read_alarms(None))
    draws = np.random.default_rng(0)
    frame = np.zeros((1, 1))
    for _ in range(600):
        alarms.looked_at(Looks(float(draws.normal(10, 1)), 0.0, frame, None, np.inf))
    assert alarms.raised(state()) == []
    for _ in range(120):
        alarms.looked_at(Looks(100.0, 0.0, frame, None, np.inf))
    assert [each["name"] for each in alarms.raised(state())] == ["strange_frames"]
    for _ in range(500):
        alarms.looked_at(Looks(10.0, 0.01, frame, None, np.inf))
    assert [each["name"] for each in alarms.raised(state())] == ["saturated"]


def test_what_a_frame_looks_like_leaves_masked_pixels_out() -> None:
    from sfxjax.live.frames import LiveFrame

    values = np.random.default_rng(0).poisson(5, (200, 240)).astype("u2")
    mask = np.ones(values.shape, bool)
    values[:, 200:], mask[:, 200:] = 65535, False
    values[:100, :100] = 500
    frame = LiveFrame("a", "//0", 0.0, lambda: values, 0, mask, saturation=500.0)
    judged, looks = Judge(6.0, 4)(frame, 1)
    assert judged.spots is not None and looks is not None
    kept = values[mask]
    # That many pixels of one value are no measured ones, and count as saturated alone.
    assert looks.brightness == pytest.approx(kept[kept < 500].mean(), rel=0.05)
    assert looks.saturated == pytest.approx(np.mean(kept >= 500), rel=0.05)


def test_a_port_that_is_taken_is_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be listened on"):
            listen(tmp_path / "a.json", taken.getsockname()[1])
    with pytest.raises(UserError, match="cannot be listened on"):
        listen(tmp_path / "a.json", 0, "203.0.113.9")
