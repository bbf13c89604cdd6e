"""The hit rate while the beam is on: `sfxjax live SOURCE --out DIR`. See --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from sfxjax.command_line import new_parser, read_port, refuse_unused
from sfxjax.data.formats import read_image
from sfxjax.data.masks import load_mask
from sfxjax.errors import UserError, run_main
from sfxjax.interrupts import ctrl_c_is_the_usual_end
from sfxjax.live.alarms import Alarms, read_alarms
from sfxjax.live.command import going_on, last_lines, receive_until_stopped
from sfxjax.live.frames import Faults
from sfxjax.live.judge import Judge, judging_threads
from sfxjax.live.keeper import Keeper
from sfxjax.live.monitor import Monitor
from sfxjax.live.receiver import Receiver, Source
from sfxjax.live.server import monitor_application, serve_page
from sfxjax.live.sources.files import FileSource
from sfxjax.live.zeromq import ZeroMQSource, is_address
from sfxjax.screen.fitted import load_fitted, visible_spots
from sfxjax.screen.options import add_frame_arguments, add_spot_arguments, options_of_frames
from sfxjax.text import say
from sfxjax.web import LOOPBACK, listen, uvicorn_of


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = new_parser("sfxjax.live", "Tell the hits of a stream, or of files being written, as they come.")
    parser.add_argument(
        "source", nargs="+", metavar="SOURCE", help="tcp://HOST:PORT, or files, folders or quoted patterns"
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for everything written"
    )
    stream = parser.add_argument_group("stream")
    stream.add_argument(
        "--stream",
        default="stream2",
        metavar="KIND",
        help="stream2 and stream1 (DECTRIS), msgpack (OM, CrystFEL), karabo",
    )
    stream.add_argument(
        "--socket", choices=("PULL", "SUB", "REQ"), help="of ZeroMQ; by default the kind's own"
    )
    stream.add_argument(
        "--subscribe",
        default="",
        metavar="TEXT",
        help="beginning of the messages a SUB socket takes; by default it takes all",
    )
    stream.add_argument("--request", metavar="TEXT", help="what a REQ socket asks with (next)")
    stream.add_argument(
        "--shared",
        action="store_true",
        help="several receivers take from this stream: count no frames as lost",
    )
    stream.add_argument(
        "--written-as",
        metavar="FILE",
        help="file that a series is written to, such as /data/run_{series}.h5, for hits.lst",
    )
    read = parser.add_argument_group("frames")
    add_frame_arguments(read)
    decide = parser.add_argument_group("decision")
    decide.add_argument(
        "--model", metavar="DIR", help="folder of `sfxjax label` or of `sfxjax train adapt --model day-one`"
    )
    add_spot_arguments(decide)
    page = parser.add_argument_group("page")
    page.add_argument("--alarms", type=Path, metavar="FILE.toml", help="what the page warns of")
    page.add_argument(
        "--port", type=read_port, default=0, help="of the page; 0: as the last time, or a free one"
    )
    page.add_argument(
        "--host",
        default=LOOPBACK,
        help="address to show the page on; others than the loopback let other machines see it",
    )
    page.add_argument("--no-page", action="store_true", help="serve no page")
    parser.add_argument("--overwrite", action="store_true", help="replace lists that are in the folder")
    parser.add_argument(
        "--quiet-for",
        type=float,
        metavar="S",
        help="end once nothing has come for S seconds; by default Ctrl-C ends it",
    )
    parser.add_argument(
        "--compilation-cache",
        action="store_true",
        help="keep compiled programs, so that the next start is quick",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse_arguments(arguments)
    fitted = None if options.model is None else load_fitted(options.model)
    min_snr, min_spots = visible_spots(options.min_snr, options.min_spots, fitted)
    _refuse_without_effect(options)
    alarms = Alarms(read_alarms(options.alarms))
    faults = Faults(say)
    mask = None
    streamed = any(map(is_address, options.source))
    # Of files their reader takes it.
    if options.mask is not None and streamed:
        bits = options.mask_good, options.good_bits, options.bad_bits
        mask = load_mask(options.mask, *bits, allow_links=options.allow_links, read_image=read_image).good
    settings = {
        "source": options.source,
        "min_snr": min_snr,
        "min_spots": min_spots,
        "mask": options.mask,
        "mask_good": options.mask_good,
        "dataset": options.dataset,
    }
    # Only what was said, so that lists of before these options are gone on with.
    more = {name: getattr(options, name) for name in ("good_bits", "bad_bits", "geometry")}
    settings |= {name: value for name, value in more.items() if value is not None}
    if fitted is not None:
        settings |= fitted.settings()
        say(fitted.line())
    if not options.no_page:
        uvicorn_of("live")
    keeper = Keeper(options.out, settings, options.overwrite, options.written_as, say)
    going_on(keeper, errors_again=not streamed)
    source = _frame_source(options, faults, keeper)
    from sfxjax.compilation import keep_compiled
    from sfxjax.devices import device_line

    keep_compiled(options.compilation_cache)
    say(device_line())
    judge = Judge(min_snr, min_spots, mask, fitted)
    monitor = None if options.no_page else Monitor(alarms)
    receiver = Receiver(source, judge, keeper, judging_threads(), options.shared)
    if isinstance(source, FileSource):
        receiver.rest, receiver.about = source.rest, source.about
    if monitor is not None:
        receiver.looked_at = monitor.looked_at
        _open_page(monitor, options)
    say(f"waiting for frames from {source.name}; Ctrl-C ends it")
    update = (lambda: None) if monitor is None else partial(monitor.update, receiver)
    ctrl_c_is_the_usual_end()
    receive_until_stopped(receiver, options.quiet_for, update)
    keeper.close()
    for line in last_lines(receiver):
        say(line)
    return 0


def _refuse_without_effect(options: argparse.Namespace) -> None:
    """Refuse options that have no effect with the others."""
    if any(map(is_address, options.source)):
        refuse_unused(options, ("dataset", "geometry"), "on a stream")
        if options.mask is None:
            refuse_unused(options, ("mask_good", "good_bits", "bad_bits"), "on a stream without --mask")
    else:
        refuse_unused(
            options, ("stream", "socket", "subscribe", "request", "shared", "written_as"), "on files"
        )
    if options.no_page:
        refuse_unused(options, ("alarms", "port", "host"), "with --no-page")


def _open_page(monitor: Monitor, options: argparse.Namespace) -> None:
    listening, token = listen(options.out / ".page.json", options.port, options.host)
    port = listening.getsockname()[1]
    serve_page(monitor_application(monitor, token, port, options.host), listening)
    monitor.pictures.start()
    host = f"[{options.host}]" if ":" in options.host else options.host
    say(f"see http://{host}:{port}/?token={token}")


def _frame_source(options: argparse.Namespace, faults: Faults, keeper: Keeper) -> Source:
    addresses = [text for text in options.source if is_address(text)]
    if addresses and len(options.source) > 1:
        raise UserError("a stream is one address, and goes without files; start a receiver for each")
    if addresses:
        return ZeroMQSource(
            addresses[0], options.stream, faults, options.socket, options.subscribe, options.request
        )
    read = options_of_frames(options, growing=True, panels_apart=True)
    return FileSource(
        options.source, read, faults, lambda file, event: (file, event) in keeper.seen, say, keeper.files
    )


if __name__ == "__main__":
    sys.exit(run_main(main))
