"""How every command line is read: one kind of parser, whose help shows all defaults."""

from __future__ import annotations

import argparse
import math
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sfxjax.errors import EXIT_USER_ERROR, UserError, command_name, is_installed_command
from sfxjax.text import message_line


class _Help(argparse.HelpFormatter):
    """Adds the default of every option that has one and does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        # 0 is a default like any other, though it equals False.
        unsaid = action.default is not False and action.default not in (None, argparse.SUPPRESS, [], "")
        return f"{text} (default: %(default)s)".strip() if unsaid and "default" not in text else action.help


class CommandParser(argparse.ArgumentParser):
    """A parser that complains in one line, and whose result tells by `given` which options were on the command line."""

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse as argparse does; `given`, a frozen set, holds the names of what was given, defaults are not."""
        chosen = super().parse_args(args, namespace)
        defaults = [action.default for action in self._actions]
        for action in self._actions:
            action.default = argparse.SUPPRESS
        try:
            chosen.given = frozenset(vars(self.parse_known_args(args)[0]))
        finally:
            for action, default in zip(self._actions, defaults, strict=True):
                action.default = default
        return chosen

    def error(self, message: str) -> NoReturn:
        """Say in one line what is wrong with the options, and end."""
        self.exit(
            EXIT_USER_ERROR, message_line(f"{self.prog}: error: {message}; try {self.prog} --help") + "\n"
        )


def refuse_unused(options: argparse.Namespace, names: Iterable[str], why: str) -> None:
    """Refuse options that were given and have no effect.

    Args:
        options: of a `CommandParser`.
        names: of the options, as attributes.
        why: they have none, as "without --distributed".

    Raises:
        UserError: one of them was given.
    """
    # Options that no parser made hold what was given alone.
    given = getattr(options, "given", {name for name, value in vars(options).items() if value is not None})
    unused = [f"--{name.replace('_', '-')}" for name in names if name in given]
    if unused:
        have = "has" if len(unused) == 1 else "have"
        raise UserError(f"{' and '.join(unused)} {have} no effect {why}; see --help")


def new_parser(module: str, description: str, epilog: str | None = None) -> CommandParser:
    """Make a parser that calls itself as the user called the command.

    Args:
        module: that `python -m` runs, such as `train.dann`.
        description: for the help.
        epilog: at the end of the help.
    """
    return CommandParser(
        prog=command_name(module), description=description, epilog=epilog, formatter_class=_Help
    )


def call_of(command: str) -> str:
    """Return how the user calls another command of ours, by the installed `sfxjax` or the interpreter that runs, for a shell.

    Args:
        command: words of `sfxjax.cli.COMMANDS`, such as "screen" or "train reduced".
    """
    if is_installed_command():
        program = Path(sys.argv[0])
        if program.suffix == ".py":  # By `python -m sfxjax.cli`.
            return f"{_as_typed(Path(sys.executable), 'python')} -m sfxjax.cli {command}"
        return f"{_as_typed(program, 'sfxjax')} {command}"
    module = (
        command.replace(" ", ".") if command.partition(" ")[0] in ("train", "bench") else f"sfxjax.{command}"
    )
    return f"{_as_typed(Path(sys.executable), 'python')} -m {module}"


def screen_call(options: argparse.Namespace, files: Iterable[str], model: Path) -> str:
    """Return the command that screens files, read as another command read them, with the model it wrote.

    Args:
        options: of that command; those of reading that `screen` has too are handed on.
        files: as they were given.
        model: folder of the model.
    """
    words = [*files, "--model", str(model)]
    for name in ("dataset", "mask", "mask_good", "good_bits", "bad_bits", "geometry"):
        value = getattr(options, name, None)
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    words += ["--allow-links"] if getattr(options, "allow_links", False) else []
    return f"{call_of('screen')} {shlex.join(words)} --out DIR"


def _as_typed(program: Path, name: str) -> str:
    """Return a program's bare name where that finds it, else its path, from here where it lies below."""
    found = shutil.which(name)
    if found is not None and Path(found).absolute() == program.absolute():
        return name
    here = Path.cwd()
    return shlex.quote(str(program.relative_to(here) if program.is_relative_to(here) else program))


def whole_in(least: int, most: int) -> Callable[[str], int]:
    """Return what reads an option's whole number from `least` to `most`; argparse refuses others."""

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is no whole number from {least} to {most}")
        return value

    return number


def between(least: float, most: float, *, or_least: bool = False) -> Callable[[str], float]:
    """Return what reads an option's number between two others; argparse refuses the rest, NaN too.

    Args:
        least: it is above this.
        most: it is below this.
        or_least: `least` itself will do.
    """

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (least < value < most or (or_least and value == least)):
            how = f"from {least:g} to below {most:g}" if or_least else f"above {least:g} and below {most:g}"
            raise argparse.ArgumentTypeError(f"{text!r} is no number {how}")
        return value

    return number


read_seed = whole_in(0, 2**31 - 1)
read_port = whole_in(0, 2**16 - 1)
