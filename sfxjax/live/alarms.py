"""What the page warns of, set by a beamline in one TOML file: a table for each alarm, with the numbers given here by default."""

from __future__ import annotations

import math
import random
import statistics
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from sfxjax.errors import UserError
from sfxjax.live.judge import Looks
from sfxjax.live.statistics import HitRate
from sfxjax.toml_files import read_toml

# Each may also be switched off: `on = false`.
DEFAULTS: dict[str, dict[str, float]] = {
    "no_hits": {"seconds": 120.0, "frames": 200.0},
    "rate_fell": {"to": 0.3},
    "strange_frames": {"factor": 3.0, "share": 0.2},
    "saturated": {"pixels": 0.001, "share": 0.2},
    "no_frames": {"seconds": 30.0},
    "latency": {"seconds": 2.0},
    "sample": {"share": 0.1},
}
# Frames looked at for what is strange and saturated, and kept to tell what is usual.
RECENT_FRAMES, USUAL_FRAMES, FEWEST_USUAL = 500, 512, 100

Settings = dict[str, dict[str, float] | None]


def read_alarms(path: Path | None) -> Settings:
    """Read the alarms' settings.

    Args:
        path: of the TOML file; None: all as they are by default.

    Returns:
        The numbers of each alarm by its name; None: switched off.

    Raises:
        UserError: the file is missing or damaged, or names an alarm or number that there is not.
    """
    given: dict[str, object] = {}
    if path is not None:
        given = read_toml(path)
    settings: Settings = {name: dict(numbers) for name, numbers in DEFAULTS.items()}
    for name, table in given.items():
        numbers = settings.get(name)
        if numbers is None or not isinstance(table, dict):
            raise UserError(f"{path}: there is no alarm [{name}]; there are {', '.join(DEFAULTS)}")
        on = table.pop("on", True)
        for key, value in table.items():
            if key not in numbers or isinstance(value, bool) or not isinstance(value, (int, float)):
                raise UserError(f"{path}: [{name}] takes numbers {', '.join(numbers)} and on; not {key}")
            numbers[key] = float(value)
        if not on:
            settings[name] = None
    return settings


@dataclass(frozen=True)
class MonitorState:
    """What alarms are raised by.

    Attributes:
        now: hit rate in the last minute.
        shift: hit rate over the shift.
        since_hit: seconds since the last hit, or since the start.
        frames_since_hit: frames judged since then.
        since_frame: seconds since the last frame came, or since the start.
        latency: seconds within which 99 % of the frames were listed.
        share: of the frames of the last minute, those judged.
    """

    now: HitRate
    shift: HitRate
    since_hit: float
    frames_since_hit: int
    since_frame: float
    latency: float
    share: float


class Alarms:
    """Tells what is wrong.

    Args:
        settings: of `read_alarms`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._usual: list[float] = []
        self._seen = 0
        self._median = math.nan
        self._recent: deque[tuple[bool, bool]] = deque(maxlen=RECENT_FRAMES)
        self._draws = random.Random(0)

    def looked_at(self, looks: Looks) -> None:
        """Take in what a frame looks like."""
        strange, saturated = self._settings["strange_frames"], self._settings["saturated"]
        is_strange = False
        if strange is not None and self._seen >= FEWEST_USUAL:
            usual = abs(self._median)
            is_strange = not usual / strange["factor"] <= abs(looks.brightness) <= usual * strange["factor"]
        is_saturated = saturated is not None and looks.saturated > saturated["pixels"]
        self._recent.append((is_strange, is_saturated))
        # A random sample of the shift (reservoir sampling), so that a slow change is told as well.
        self._seen += 1
        if len(self._usual) < USUAL_FRAMES:
            self._usual.append(looks.brightness)
        elif (place := self._draws.randrange(self._seen)) < USUAL_FRAMES:
            self._usual[place] = looks.brightness
        if self._seen <= FEWEST_USUAL or self._seen % 64 == 0:
            self._median = statistics.median(self._usual)

    def raised(self, state: MonitorState) -> list[dict[str, str]]:
        """Return the alarms that are raised: name and what it says."""
        found = {
            "no_frames": self._no_frames(state),
            "no_hits": self._no_hits(state),
            "rate_fell": self._rate_fell(state),
            "strange_frames": self._share_of(0, "strange_frames", "are much brighter or darker than usual"),
            "saturated": self._share_of(1, "saturated", "hold saturated pixels"),
            "latency": self._latency(state),
            "sample": self._sample(state),
        }
        return [{"name": name, "text": text} for name, text in found.items() if text]

    def _no_frames(self, state: MonitorState) -> str:
        limit = self._settings["no_frames"]
        if limit is None or state.since_frame <= limit["seconds"]:
            return ""
        return f"no frame has come for {state.since_frame:.0f} s"

    def _no_hits(self, state: MonitorState) -> str:
        limit = self._settings["no_hits"]
        if limit is None or state.since_hit <= limit["seconds"] or state.frames_since_hit < limit["frames"]:
            return ""
        return f"no hit for {state.since_hit:.0f} s, among {state.frames_since_hit} frames judged"

    def _rate_fell(self, state: MonitorState) -> str:
        limit = self._settings["rate_fell"]
        if limit is None or not state.now.frames or not state.now.high < limit["to"] * state.shift.value:
            return ""
        return f"the hit rate fell to {100 * state.now.value:.1f} %, over the shift it is {100 * state.shift.value:.1f} %"

    def _share_of(self, which: int, name: str, words: str) -> str:
        limit = self._settings[name]
        flags = [each[which] for each in list(self._recent)]
        if limit is None or len(flags) < 20 or sum(flags) <= limit["share"] * len(flags):
            return ""
        return f"{sum(flags)} of the last {len(flags)} frames {words}"

    def _latency(self, state: MonitorState) -> str:
        limit = self._settings["latency"]
        if limit is None or not state.latency > limit["seconds"]:
            return ""
        return f"frames take up to {state.latency:.1f} s to the lists"

    def _sample(self, state: MonitorState) -> str:
        limit = self._settings["sample"]
        if limit is None or not state.share < limit["share"]:
            return ""
        return f"only {100 * state.share:.1f} % of the frames are judged: more receivers would help"
