"""What the page is told, a few times a second: one line of JSON for all who look on."""

from __future__ import annotations

import json
import math
import time
from collections import deque
from dataclasses import asdict
from typing import Any

from sfxjax.live.alarms import Alarms, MonitorState
from sfxjax.live.judge import Looks
from sfxjax.live.keeper import JudgedFrame
from sfxjax.live.pictures import Pictures
from sfxjax.live.receiver import Receiver
from sfxjax.live.statistics import HitRate, Sums, estimated_hit_rate
from sfxjax.screen.lists import HIT
from sfxjax.text import printable

# Points of the hit rate's course: once there are more, two become one.
HISTORY_SECONDS, HISTORY_POINTS = 5.0, 360
# Classes of the number of spots a frame shows: from each of these on.
SPOT_CLASSES = (0, 1, 2, 4, 8, 16, 32, 64)
RATE_SECONDS = 5.0


class Monitor:
    """Gathers what the page shows.

    Args:
        alarms: tells what is wrong.

    Attributes:
        pictures: of the frames.
        line: the newest state, JSON.
    """

    def __init__(self, alarms: Alarms) -> None:
        self.pictures = Pictures()
        self.line = "{}"
        self._alarms = alarms
        self._last_hit = time.monotonic()
        self._since_hit = 0
        self._spots = [0] * len(SPOT_CLASSES)
        self._history: list[tuple[float, float, Sums]] = []
        self._span = HISTORY_SECONDS
        self._before: tuple[float, Sums] | None = None
        self._arrivals: deque[tuple[float, int, int]] = deque()

    def looked_at(self, judged: JudgedFrame, looks: Looks) -> None:
        """Take in a frame that was judged; judging threads call this."""
        self.pictures.looked_at(judged, looks)
        self._alarms.looked_at(looks)
        self._since_hit += 1
        if judged.label == HIT:
            self._last_hit, self._since_hit = time.monotonic(), 0
        expected = 0.0 if judged.spots is None else judged.spots.expected
        # From a half on it is one.
        place = sum(expected >= least - 0.5 for least in SPOT_CLASSES[1:])
        self._spots[place] += 1

    def update(self, receiver: Receiver) -> None:
        """Bring the line up to date."""
        now = time.monotonic()
        counts, sums = receiver.keeper.counts, receiver.keeper.sums
        self._record(now, sums)
        recent = receiver.window.sums(now)
        rates = estimated_hit_rate(recent), estimated_hit_rate(sums)
        self._arrivals.append((now, counts.received, counts.judged))
        while now - self._arrivals[0][0] > RATE_SECONDS:
            self._arrivals.popleft()
        seconds = max(now - self._arrivals[0][0], 1e-9)
        came, judged = (counts.received - self._arrivals[0][1], counts.judged - self._arrivals[0][2])
        share = recent.judged / recent.weight if recent.weight else math.nan
        latency = receiver.recent_latencies.quantile(0.99)
        state = MonitorState(
            *rates,
            now - self._last_hit,
            self._since_hit,
            now - max(receiver.last_arrival, receiver.started),
            latency,
            share,
        )
        pictures = self.pictures
        about = {
            "time": time.time(),
            "source": printable(receiver.source.name),
            "seconds": now - receiver.started,
            "now": asdict(rates[0]),
            "shift": asdict(rates[1]),
            "spots_now": recent.spots / recent.weight if recent.weight else math.nan,
            "came": came / seconds,
            "judged": judged / seconds,
            "share": share,
            "latency": {"median": receiver.recent_latencies.quantile(0.5), "most": latency},
            "counts": asdict(counts),
            "waiting": receiver.waiting,
            "faults": dict(receiver.source.faults.counts.most_common(12)),
            "spots": dict(zip(map(str, SPOT_CLASSES), self._spots, strict=True)),
            "history": [_history_point(start, end, part) for start, end, part in self._history],
            "hit": {"version": pictures.hit.version, **pictures.hit.about},
            "powder": {"version": pictures.powder.version, **pictures.powder.about},
            "profile": pictures.profile,
            "alarms": self._alarms.raised(state),
        }
        self.line = json.dumps(_finite_or_none(about), separators=(",", ":"))

    def _record(self, now: float, sums: Sums) -> None:
        if self._before is None:
            # What an earlier start judged is no part of the course.
            self._before = now, Sums(**asdict(sums))
        before, known = self._before
        if now - before < self._span:
            return
        self._history.append((before, now, sums.minus(known)))
        self._before = now, Sums(**asdict(sums))
        if len(self._history) > HISTORY_POINTS:
            pairs = zip(self._history[::2], self._history[1::2], strict=False)
            self._history = [(first[0], last[1], first[2].plus(last[2])) for first, last in pairs]
            self._span *= 2


def _history_point(start: float, end: float, part: Sums) -> list[float]:
    rate: HitRate = estimated_hit_rate(part)
    ago = time.monotonic() - (start + end) / 2
    return [round(ago, 1), *(round(value, 4) for value in (rate.value, rate.low, rate.high))]


def _finite_or_none(value: Any) -> Any:
    """Replace numbers that JSON does not have by null."""
    if isinstance(value, dict):
        return {key: _finite_or_none(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_or_none(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
