"""A frozen dataclass of options from a command line: its fields are the options, their docstrings the help."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeVar

from sfxjax.errors import EXIT_USER_ERROR, UserError

Options = TypeVar("Options")

_FRAME = re.compile(r"[─-╿]+")


def read_command_line(
    options: type[Options], arguments: Sequence[str] | None = None, *, program: str
) -> Options:
    """Read a command line.

    Args:
        options: a frozen dataclass. Its docstring is the program's description; each field is an option, which needs a
            value where it has no default; a nested dataclass is a group of options.
        arguments: of the command line; None: those of this process.
        program: how it was called, such as "python -m train.dann".

    Returns:
        The options. `--help` is answered here and ends the program.

    Raises:
        UserError: an option is unknown, missing or has an impossible value.
    """
    # Imported late: the processes that read frames import the same modules and parse nothing.
    import tyro

    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                options,
                prog=program,
                args=None if arguments is None else [str(argument) for argument in arguments],
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
            )
    except SystemExit as ended:
        if ended.code != EXIT_USER_ERROR:
            sys.stderr.write(complaint.getvalue())
            raise
        _refuse(complaint.getvalue(), program)


def _refuse(complaint: str, program: str) -> NoReturn:
    """Make one line of tyro's framed text: what is wrong comes above its first rule."""
    lines = [_FRAME.sub(" ", line).strip() for line in complaint.splitlines()[1:]]
    said = lines[: lines.index("")] if "" in lines else lines
    raise UserError(f"{' '.join(said).rstrip('.')}; see {program} --help") from None
