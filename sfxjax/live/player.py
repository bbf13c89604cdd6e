"""Stream the frames of any file as a detector would, at a given rate: `sfxjax play FILE --rate 100`. See --help."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sfxjax.command_line import between, new_parser, whole_in
from sfxjax.data.inputs import find_files
from sfxjax.data.read import FrameReader
from sfxjax.errors import UserError, run_main
from sfxjax.live.packing import MESSAGES, compressed, sendable
from sfxjax.live.zeromq import is_address, zeromq
from sfxjax.screen.options import add_frame_arguments, options_of_frames
from sfxjax.screen.sources import Sources

# Packed frames kept, so that a file played again and again is read and compressed once.
KEPT_BYTES = 2**30
SAY_SECONDS = 10.0


@dataclass(frozen=True)
class Played:
    """How it went.

    Attributes:
        sent: frames sent.
        seconds: that took.
        skipped: frames that nobody took in time.
    """

    sent: int
    seconds: float
    skipped: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = new_parser("sfxjax.live.player", "Stream the frames of files as a detector would, to rehearse.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, folders or quoted patterns")
    parser.add_argument(
        "--to", default="tcp://127.0.0.1:5555", metavar="ADDRESS", help="where to listen; a PUSH socket"
    )
    parser.add_argument("--rate", type=between(0, 1e7), default=10.0, metavar="R", help="frames a second")
    parser.add_argument("--stream", choices=tuple(MESSAGES), default="stream2", help="kind of messages")
    parser.add_argument(
        "--repeat", type=whole_in(1, 10**9), default=1, metavar="N", help="times the files are played"
    )
    parser.add_argument("--series", type=whole_in(0, 10**9), default=1, help="number of the series")
    parser.add_argument(
        "--skip",
        action="store_true",
        help="leave out frames that nobody takes in time, as detectors do, instead of waiting",
    )
    add_frame_arguments(parser.add_argument_group("frames; their mask is sent with the series"))
    options = parser.parse_args(arguments)
    if not is_address(options.to):
        raise UserError(f"{options.to} is no address such as tcp://127.0.0.1:5555")
    zeromq()
    with FrameReader(options_of_frames(options, panels_apart=True)) as reader:
        sources = Sources(reader)
        sources.open(find_files(options.files))
        for line in sources.lines():
            print(line, flush=True)
        frames = _Frames(sources)
        series = MESSAGES[options.stream](options.series, _series_name(sources))
        print(f"{len(frames)} frames at {options.rate:g} a second to {options.to}", flush=True)
        mask = frames.mask()
        with zeromq().Context() as context, context.socket(zeromq().PUSH) as socket:
            _listen(socket, options.to)
            played = play(socket, series, frames, mask, options.rate, options.repeat, options.skip, print)
            socket.close(linger=5000)
    print(
        f"sent {played.sent} frames in {played.seconds:.1f} s ({played.sent / max(played.seconds, 1e-9):.1f} a second)"
        f"{f', left out {played.skipped}' if played.skipped else ''}",
        flush=True,
    )
    return 0


def play(
    socket: Any,
    series: Any,
    frames: _Frames,
    mask: np.ndarray | None,
    rate: float,
    repeat: int = 1,
    skip: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> Played:
    """Send frames as a series.

    Args:
        socket: of ZeroMQ, connected or listening.
        series: makes the messages, of `sfxjax.live.packing`.
        frames: that are sent.
        mask: bool (ss, fs), True where a pixel counts; or None.
        rate: frames a second.
        repeat: times they are sent; numbers go on.
        skip: leave frames out that are not taken in time.
        say: is called with a line now and then.
    """
    zmq = zeromq()
    socket.send_multipart(series.start(frames.shape, len(frames) * repeat, mask))
    started = reported = time.monotonic()
    sent = skipped = number = 0
    for _ in range(repeat):
        for frame, packed in frames.packed():
            message = series.image(number, frame, packed)
            now = time.monotonic()
            if started + number / rate > now:
                time.sleep(started + number / rate - now)
            try:
                socket.send_multipart(message, zmq.NOBLOCK if skip else 0, copy=False)
                sent += 1
            except zmq.Again:
                skipped += 1
            number += 1
            if now - reported > SAY_SECONDS:
                reported = now
                say(f"{sent} frames sent, {sent / (now - started):.1f} a second")
    seconds = time.monotonic() - started
    socket.send_multipart(series.end())
    return Played(sent, seconds, skipped)


class _Frames:
    """The frames of a run of one shape, packed; those that fit are kept."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        first = next(stack for stack in sources.run.stacks if stack.frames)
        same = [stack for stack in sources.run.stacks if stack.raw_shape == first.raw_shape]
        self._places = [(stack, number) for stack in same for number in range(stack.frames)]
        height = int(np.prod(first.raw_shape[:-1]))
        self.shape = height, first.raw_shape[-1]
        self._kept: list[tuple[np.ndarray, bytes]] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._places)

    def mask(self) -> np.ndarray | None:
        """Return which pixels count in all frames, (ss, fs); None: all."""
        good = self._sources.read(*self._places[0]).mask
        return None if good is None else good.reshape(self.shape)

    def packed(self) -> Iterator[tuple[np.ndarray, bytes]]:
        """Give each frame's shape and type, as an array without pixels, and its pixels compressed."""
        yield from self._kept
        for place in self._places[len(self._kept) :]:
            pixels = sendable(self._sources.read(*place).pixels)
            packed = compressed(pixels)
            # Strides of 0: of the frame itself only shape and type are wanted.
            like = np.broadcast_to(np.zeros((), pixels.dtype), pixels.shape)
            self._bytes += len(packed)
            if self._bytes < KEPT_BYTES:
                self._kept.append((like, packed))
            yield like, packed


def _listen(socket: Any, address: str) -> None:
    try:
        socket.setsockopt(zeromq().SNDHWM, 8)
        socket.bind(address)
    except zeromq().ZMQError as error:
        raise UserError(f"{address}: cannot listen there ({error}); name another --to") from error


def _series_name(sources: Sources) -> str:
    """Return a name of the series that is the same whenever the same files are played."""
    described = "\n".join(stack.describe() for stack in sources.run.stacks)
    return hashlib.sha256(described.encode("utf-8", "replace")).hexdigest()[:12]


if __name__ == "__main__":
    sys.exit(run_main(main))
