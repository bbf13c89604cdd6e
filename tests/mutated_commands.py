"""Damaged inputs given to the commands, as a user gives them: the status and what is said."""

from __future__ import annotations

import contextlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

from screen_cases import REPOSITORY

# Set names of a training that cannot last: one epoch of one step.
_TRAINING = ("train", "supervised", "--epochs", "1", "--steps", "1", "--batch", "2", "--seed", "0")


def command_of(reader: str, path: Path, out: Path) -> list[str]:
    """Return the words of a command that reads a damaged input.

    Args:
        reader: name of what reads it in `mutated_inputs`.
        path: of the input.
        out: folder for what the command writes.
    """
    good = str(path.parent / "a.cxi")
    screen = ["screen", "--out", str(out), "--no-report"]
    training = [*_TRAINING, "--out", str(out)]
    return {
        "read_frames": [*screen, "--write-hits", str(path)],
        "read_list": [*screen, str(path)],
        "read_mask": [*screen, good, "--mask", str(path), "--mask-good", "1"],
        "read_geometry": [*screen, good, "--geometry", str(path)],
        "read_table": [*training, "--sets", str(path), "--source", "mine"],
        "read_labels": [
            *training,
            "--set",
            f"mine={good}",
            f"labels={path}",
            "min_spots=10",
            "--source",
            "mine",
        ],
        "read_model": [*screen, good, "--model", str(path), "--readers", "1"],
        "read_recalibration": [*screen, good, "--model", str(path.parent / "fitted")],
        "read_journal": [*screen, good],
    }[reader]


def prepare(reader: str, path: Path, out: Path) -> None:
    """Put a damaged input where a command looks for it."""
    shutil.rmtree(out, ignore_errors=True)
    places = {
        "read_recalibration": path.parent / "fitted" / "recalibration.json",
        "read_journal": out / "screening.journal",
    }
    if reader in places and path.is_file():
        places[reader].parent.mkdir(exist_ok=True)
        shutil.copy(path, places[reader])


def run_here(words: list[str]) -> tuple[int, str, str]:
    """Run a command in this process; returns its status, and what it said to either stream."""
    from sfxjax.cli import main

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
    return status, out.getvalue(), error.getvalue()


def run_apart(words: list[str]) -> tuple[int, str, str]:
    """Run a command as a user does."""
    call = [sys.executable, "-m", "sfxjax.cli", *words]
    done = subprocess.run(call, cwd=REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, done.stdout, done.stderr


def fault_of(status: int, said: str, complained: str) -> str:
    """Say what is wrong with how a command ended, empty if nothing is."""
    if status not in (0, 1, 2):
        return f"status {status}: {complained[-3000:]}"
    if "Traceback" in said + complained:
        return f"a traceback: {complained[-3000:]}"
    if status == 2 and "error: " not in complained:
        return f"no line: {complained[-300:]!r}"
    unprinted = [c for c in said + complained if not (c.isprintable() or c in "\n\r\t")]
    return f"unprinted characters {unprinted[:9]}" if unprinted else ""


def read_by_command(reader: str, path: Path, apart: bool) -> tuple[str, str]:
    """Run the command that reads an input; returns "read", "refused" or "fault", and why."""
    out = path.parent / "out"
    prepare(reader, path, out)
    status, said, complained = (run_apart if apart else run_here)(command_of(reader, path, out))
    fault = fault_of(status, said, complained)
    return ("fault", fault) if fault else ("read" if status < 2 else "refused", complained[-200:])
