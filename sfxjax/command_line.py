"""How every command line is read: one kind of parser, whose help shows all defaults."""

from __future__ import annotations

import argparse

from sfxjax.errors import command_name


class _Help(argparse.HelpFormatter):
    """Adds the default of every option that has one and does not say it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help or ""
        # 0 is a default like any other, though it equals False.
        unsaid = action.default is not False and action.default not in (None, argparse.SUPPRESS, [])
        return f"{text} (default: %(default)s)".strip() if unsaid and "default" not in text else action.help


def new_parser(module: str, description: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Make a parser that calls itself as the user called the command.

    Args:
        module: that `python -m` runs, such as `train.dann`.
        description: for the help.
        epilog: at the end of the help.
    """
    return argparse.ArgumentParser(
        prog=command_name(module), description=description, epilog=epilog, formatter_class=_Help
    )
