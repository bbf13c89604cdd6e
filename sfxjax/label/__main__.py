"""Label frames of a run in the browser: `sfxjax label FILES --out labels/`. See --help."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from sfxjax.command_line import between, new_parser, read_port, screen_call, whole_in
from sfxjax.data.inputs import find_files
from sfxjax.devices import device_line
from sfxjax.errors import UserError, run_main
from sfxjax.interrupts import ctrl_c_is_the_usual_end
from sfxjax.progress import progress
from sfxjax.screen.options import add_frame_arguments, options_of_frames
from sfxjax.text import say
from sfxjax.web import listen, uvicorn_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = new_parser(
        "sfxjax.label", "Label frames of a run in the browser, and fit the day-one model to the labels."
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="files, folders or quoted patterns")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the labels and of the model"
    )
    parser.add_argument(
        "--model", choices=("day-one",), default="day-one", help="that is fitted to the labels"
    )
    parser.add_argument(
        "--name", default="labels", help="of the labeller: each has a file, and their agreement is shown"
    )
    parser.add_argument(
        "--audit",
        type=whole_in(0, 10**6),
        default=100,
        metavar="N",
        help="frames drawn at random to judge by, at most half of the run",
    )
    parser.add_argument(
        "--recall", type=between(0, 1), default=0.95, metavar="R", help="recall to find a threshold for"
    )
    parser.add_argument(
        "--port", type=read_port, default=0, help="of the page; 0: as the last time, or a free one"
    )
    add_frame_arguments(parser)
    options = parser.parse_args(arguments)
    uvicorn = uvicorn_of("label")
    from sfxjax.label.server import application
    from sfxjax.label.session import Session
    from sfxjax.screen.sources import opened_run
    from sfxjax.screen.spots import counted_frames, reading_processes
    from sfxjax.spots.definition import MIN_SNR, MIN_SPOTS

    read = options_of_frames(options, panels_apart=True)
    print(device_line(), flush=True)
    with opened_run(read, find_files(options.files)) as sources:
        counted = []
        with progress("counting spots", len(sources.run)) as advance:
            for frame in counted_frames(sources, MIN_SNR, MIN_SPOTS, processes=reading_processes(None)):
                counted.append(frame)
                advance(1)
        session = Session(
            sources, counted, options.out, options.name, options.audit, options.recall, MIN_SNR, MIN_SPOTS
        )
        if not session.frames:
            raise UserError("no frame could be read")
        listening, token = listen(options.out / f".{options.name}.address.json", options.port)
        port = listening.getsockname()[1]
        print(f"label at http://127.0.0.1:{port}/?token={token}", flush=True)
        say(session.plan_line())
        say(f"next, after Ctrl-C: {screen_call(options, options.files, options.out)}")
        server = uvicorn.Server(uvicorn.Config(application(session, token, port), log_level="warning"))
        ctrl_c_is_the_usual_end()
        # Once it has ended in order, the server raises what it was interrupted by.
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        say(f"ended: {session.end_line()}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
