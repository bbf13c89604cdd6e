"""Receives frames, judges them in threads, and keeps what is found: the work behind `sfxjax live` and `screen --follow`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from statistics import median
from typing import Any, Protocol

from sfxjax.interrupts import may_be_broken_off
from sfxjax.live.first_frame import FirstFrame, first_frame
from sfxjax.live.frames import Faults, LiveFrame, MessageError, ReplacedFile
from sfxjax.live.judge import Judge, Looks
from sfxjax.live.keeper import JudgedFrame, Keeper
from sfxjax.live.sampling import Buffer
from sfxjax.live.seen import Lost
from sfxjax.live.statistics import Latencies, RecentLatencies, RecentSums, estimated_hit_rate
from sfxjax.screen.found_spots import THRESHOLD
from sfxjax.screen.lists import HIT
from sfxjax.screen.summary import ResultSummary, rate_of_sample, write_summary

# Frames that wait are at most as many as are judged in so many seconds: who looks at a rate wants that of now.
WAIT_SECONDS = 0.3
MOST_WAITING = 256
COMMIT_SECONDS = 0.25
SUMMARY_SECONDS = 5.0
# Ctrl-C leaves a program 0.8 s to end in order.
END_SECONDS = 0.4


class Source(Protocol):
    """Where frames come from.

    Attributes:
        name: for the user.
        waits: its frames stay where they are until they are asked for, so none need be left out.
        faults: counts what cannot be used.
    """

    name: str
    waits: bool
    faults: Faults

    def receive(self, stop: threading.Event) -> Iterator[LiveFrame | ReplacedFile | None]:
        """Give the frames as they come, and None now and then where none come, until told to stop."""


class Receiver:
    """Frames from a source to the lists.

    Args:
        source: of the frames.
        judge: judges them.
        keeper: keeps the lists.
        threads: that judge.
        shared: other receivers take frames of the same series, so numbers that do not come are theirs.
        seed: of the sample's draws.

    Attributes:
        stop: set it to end.
        looked_at: is called in a judging thread with each frame judged and what it looks like.
        about: gives fields of the summary that others know, such as the files.
        rest: gives, once nothing comes any more, the frames that were found and could not be read.
        window: what was judged in the last minute.
        latencies: from a frame's arrival to its place in the lists.
        recent_latencies: the same for the last minute or two.
        last_arrival: when the last frame came, seconds of `time.monotonic`; 0: none yet.
        started: when this began, likewise.
        idle: the source has looked, and nothing is there; not yet where it is still at work on a file.
    """

    def __init__(
        self,
        source: Source,
        judge: Judge,
        keeper: Keeper,
        threads: int,
        shared: bool = False,
        seed: int = 0,
    ) -> None:
        self.source, self.keeper = source, keeper
        self.stop = threading.Event()
        self.window, self.latencies = RecentSums(), Latencies()
        self.recent_latencies = RecentLatencies()
        self.last_arrival, self.started, self.idle = 0.0, time.monotonic(), False
        self._judge, self._threads = judge, threads
        self.looked_at: Callable[[JudgedFrame, Looks], None] = lambda judged, looks: None
        self.about: Callable[[], dict[str, Any]] = dict
        self.rest: Callable[[], list[LiveFrame]] = list
        # What comes while the first frame's program is compiled may wait, for the frames after it are judged fast.
        places = 2 * threads if source.waits else MOST_WAITING
        self._buffer: Buffer[LiveFrame] = Buffer(places, source.waits, seed)
        self._shared = shared
        counts = keeper.counts
        # What waited when an earlier start was killed: files hold it still, a stream does not.
        waited = counts.received - counts.judged - counts.errors - counts.repeated - counts.left_out
        if source.waits:
            counts.received -= waited
        else:
            counts.left_out += waited
        self._lost = Lost(counts.lost, *keeper.place)
        self._received = counts.received
        self._repeated = 0
        self._lock = threading.Lock()
        self._tickets = self._due = 0
        self._weights: dict[int, int] = {}
        self._results: dict[int, JudgedFrame] = {}
        self._service: deque[float] = deque(maxlen=31)
        self._threshold = THRESHOLD
        self._first: FirstFrame | None = None
        self._replaced: ReplacedFile | None = None
        self._forgotten = threading.Event()
        self._broken: BaseException | None = None
        self._workers: list[threading.Thread] = []

    def run(self, step: Callable[[], Any] = lambda: None, until: Callable[[], bool] = lambda: False) -> None:
        """Work until told to stop.

        Args:
            step: is called a few times a second, in this thread.
            until: tells, as often, whether this is to end.

        Raises:
            UserError: the source cannot be had.
            OSError: the lists cannot be written.
        """
        names = [("receive", self._receive), *(("judge", self._work) for _ in range(self._threads))]
        self._workers = [threading.Thread(target=work, name=name, daemon=True) for name, work in names]
        for worker in self._workers:
            worker.start()
        summarised = time.monotonic()
        complete = False
        try:
            while not self.stop.wait(COMMIT_SECONDS):
                self.commit()
                step()
                if time.monotonic() - summarised > SUMMARY_SECONDS:
                    summarised = time.monotonic()
                    self.write_summary()
                if self._broken is not None:
                    break
                if until():
                    complete = True
                    break
        finally:
            self.end(complete)
        if self._broken is not None:
            raise self._broken

    def end(self, complete: bool = False) -> None:
        """Stop, and write what is known: frames that still wait are counted as left out.

        Args:
            complete: nothing comes any more, so that what could not be read is listed as errors.
        """
        self.stop.set()
        left = self._buffer.close()
        until = time.monotonic() + END_SECONDS
        for worker in self._workers:
            worker.join(max(until - time.monotonic(), 0.01))
        may_be_broken_off(self._workers)
        self.keeper.counts.left_out += left
        self.commit(last=True)
        if complete and self._broken is None:
            for frame in self.rest():
                self._received += self._list_unreadable(frame)
            self.commit(last=True)
        self.write_summary()

    def _list_unreadable(self, frame: LiveFrame) -> bool:
        try:
            frame.unpack()
        except MessageError as error:
            return self.keeper.add(JudgedFrame(frame, 1, None, str(error)))
        return False

    @property
    def waiting(self) -> int:
        """How many frames wait or are being judged."""
        return len(self._buffer) + len(self._weights)

    def commit(self, last: bool = False) -> None:
        """Put what was judged into the lists, in the order of arrival.

        Args:
            last: what is still being judged is left out.
        """
        written = []
        counts = self.keeper.counts
        while True:
            with self._lock:
                judged = self._results.pop(self._due, None)
                weight = self._weights.get(self._due, 0)
                if judged is None and not (last and weight):
                    break
                self._weights.pop(self._due, None)
                self._due += 1
            if judged is None:
                counts.left_out += weight
                continue
            written.append(judged)
            if self.keeper.add(judged) and judged.spots is not None:
                is_hit = judged.label == HIT
                self.window.add(time.monotonic(), judged.weight, is_hit, judged.spots.expected)
        with self._lock:
            replaced = self._replaced if last or not self.waiting else None
        if replaced is not None:
            replaced.forgotten = self.keeper.forget(replaced.file)
            with self._lock:
                self._received -= replaced.forgotten
            self._replaced = None
            self._forgotten.set()
        counts.left_out += self._buffer.skipped()
        with self._lock:
            counts.repeated, self._repeated = counts.repeated + self._repeated, 0
            counts.received = self._received
        if not self._shared:
            counts.lost = self._lost.count
        self.keeper.place = self._lost.series, self._lost.expected
        self.keeper.commit()
        now = time.monotonic()
        for judged in written:
            self.latencies.add(now - judged.frame.arrived)
            self.recent_latencies.add(now, now - judged.frame.arrived)

    def write_summary(self) -> None:
        """Replace `summary.json`."""
        faults, counts, sums = self.source.faults, self.keeper.counts, self.keeper.sums
        found = estimated_hit_rate(sums)
        median_latency, most = (self.latencies.quantile(share) for share in (0.5, 0.99))
        summary = ResultSummary(
            sums.hits,
            sums.judged - sums.hits,
            counts.errors,
            rate_of_sample(sums.hits, found.frames, found.value, found.low, found.high),
            self._judge.model,
            self._threshold,
            "the model's",
            self.source.name,
            self._judge.min_snr,
            self._judge.min_spots,
            frames_that_came=asdict(counts),
            # Of this start alone.
            latency={"median": median_latency, "99 %": most} if self.latencies.longest else None,
            messages_left_out=dict(faults.counts),
            masks=[] if self._first is None else self._first.mask_lines,
            values_left_out=[] if self._first is None else self._first.value_lines,
        )
        write_summary(self.keeper.out, replace(summary, **self.about()))

    def _receive(self) -> None:
        try:
            for frame in self.source.receive(self.stop):
                self.idle = frame is None
                if frame is None:
                    continue
                if isinstance(frame, ReplacedFile):
                    # Frames of it that are still being judged are listed first, or they would stay.
                    self._forgotten.clear()
                    self._replaced = frame
                    while not self._forgotten.wait(0.1) and not self.stop.is_set():
                        pass
                    continue
                self.last_arrival = frame.arrived
                if frame.index is not None:
                    self._lost.came(frame.file, frame.index)
                is_known = (frame.file, frame.event) in self.keeper.seen
                if is_known or self._buffer.put(frame):
                    with self._lock:
                        self._received += 1
                        self._repeated += is_known
        except BaseException as error:
            self._broken = error

    def _work(self) -> None:
        while not self.stop.is_set():
            with self._lock:
                # A place in the order goes with a frame, or the lists would not be in the order of arrival.
                taken = self._buffer.take()
                ticket = self._tickets
                if taken is not None:
                    self._tickets += 1
                    self._weights[ticket] = taken[1]
            if taken is None:
                self._buffer.wait(0.1)
                continue
            started = time.monotonic()
            judged, looks = self._judged(*taken)
            if looks is not None:
                self._threshold = judged.threshold
                if self._first is None:
                    self._first = first_frame(looks)
                self.looked_at(judged, looks)
            with self._lock:
                self._results[ticket] = judged
                self._service.append(time.monotonic() - started)
                # A median: a frame for which a program is compiled takes seconds.
                room = int(WAIT_SECONDS * self._threads / max(median(self._service), 1e-6))
                self._buffer.places = min(max(room, 2 * self._threads), MOST_WAITING)

    def _judged(self, frame: LiveFrame, weight: int) -> tuple[JudgedFrame, Looks | None]:
        try:
            judged, looks = self._judge(frame, weight)
        except Exception as error:
            # Whatever it is, the next frame may be judged.
            judged, looks = JudgedFrame(frame, weight, None, f"{type(error).__name__}: {error}"[:300]), None
        if judged.spots is None:
            self.source.faults.add(MessageError("a frame that could not be judged", judged.reason))
        return judged, looks
