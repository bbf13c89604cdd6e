"""Works until it is told to stop, and says how it goes: what `sfxjax live` and `screen --follow` share."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence

from sfxjax.interrupts import last_words
from sfxjax.live.keeper import LIVE_LISTS, Keeper
from sfxjax.live.receiver import Receiver
from sfxjax.live.statistics import HitRate, estimated_hit_rate
from sfxjax.text import counted, say

LINE_SECONDS = 10.0


def going_on(keeper: Keeper, errors_again: bool) -> None:
    """Say what an earlier start has left.

    Args:
        keeper: of the lists.
        errors_again: frames that failed are tried again: they are still where they were.
    """
    known = keeper.resumed - (keeper.forget_errors() if errors_again else 0)
    if known:
        say(f"{counted(known, 'frames')} are known from an earlier start: going on")


def receive_until_stopped(
    receiver: Receiver, quiet_for: float | None, update: Callable[[], object] = lambda: None
) -> None:
    """Receive until Ctrl-C or SIGTERM, with a line now and then.

    Args:
        receiver: that works.
        quiet_for: ends once nothing has come for so many seconds; None: goes on.
        update: is called a few times a second.

    Raises:
        UserError: the source cannot be had.
        OSError: the lists cannot be written.
    """
    said = time.monotonic()

    def step() -> None:
        nonlocal said
        update()
        if time.monotonic() - said > LINE_SECONDS:
            said = time.monotonic()
            print(status_line(receiver), flush=True)

    def is_quiet() -> bool:
        last = max(receiver.last_arrival, receiver.started)
        nothing = receiver.idle and not receiver.waiting
        return quiet_for is not None and nothing and time.monotonic() - last > quiet_for

    before = {}
    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, lambda *_: receiver.stop.set())
    try:
        with last_words(receiver.end):
            receiver.run(step, is_quiet)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def status_line(receiver: Receiver) -> str:
    """Return a line about the last minute and the shift."""
    last, shift = receiver.window.sums(time.monotonic()), receiver.keeper.sums
    counts, latencies = receiver.keeper.counts, receiver.latencies
    share = (
        100 * (counts.judged + counts.errors) / max(counts.received - counts.repeated - receiver.waiting, 1)
    )
    rates = [rate_in_words(estimated_hit_rate(sums)) for sums in (last, shift)]
    took = (
        f"; latency {latencies.quantile(0.5):.2f} s, 99 % within {latencies.quantile(0.99):.2f} s"
        if latencies.longest
        else ""
    )
    return (
        f"{counts.received} frames came, {min(share, 100):.0f} % judged; hit rate in the last minute {rates[0]}, "
        f"over the shift {rates[1]}{took}"
    )


def last_lines(receiver: Receiver, more: Sequence[str] = ()) -> list[str]:
    """Return what is said at the end; `more` are names of files written beside the lists."""
    counts, faults = receiver.keeper.counts, receiver.source.faults
    lines = [
        status_line(receiver),
        f"of {counts.received} frames that came {counts.judged} were judged, {counts.left_out} left out by the sample, "
        f"{counts.errors} are errors, {counts.repeated} came twice; {counts.lost} never came",
    ]
    lines += [f"left out {count} messages: {kind}" for kind, count in faults.counts.most_common()]
    return [
        *lines,
        f"written to {receiver.keeper.out}: {', '.join((*LIVE_LISTS, 'summary.json', *more))}",
    ]


def rate_in_words(rate: HitRate) -> str:
    """Return a rate with its interval, in per cent."""
    if not rate.frames:
        return "not known yet"
    return f"{100 * rate.value:.1f} % ({100 * rate.low:.1f} to {100 * rate.high:.1f})"
