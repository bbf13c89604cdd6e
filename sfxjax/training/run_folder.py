"""The folder of a training run: by what it was begun, whether it has ended, and that one process at a time writes into it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfxjax.errors import UserError
from sfxjax.files import atomic_write_json, make_folder, only_process, remove_leftovers
from sfxjax.json_files import read_json
from sfxjax.models.checkpoint import MODEL_FOLDER
from sfxjax.training.config import RunConfig
from sfxjax.training.distributed import writes
from sfxjax.training.scores import LOG

RUN_FORMAT = 2  # of a run's folder: raise it whenever what lies there changes its names or meaning
SETTINGS = "settings.json"
RESULTS = "results.json"
SCORES_FILE = "scores.h5"
# What a person may have changed without a word of the command line.
_OF_SETS = {"labels": "other labels", "files": "other frames, mask or geometry"}


def check_folder(out: Path, plan: RunConfig) -> None:
    """Raise a UserError unless a folder is new, or of a run with these settings by this version's format."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder; name another with --out")
    try:
        earlier = read_json(out / SETTINGS)
    except FileNotFoundError:
        return
    except ValueError as error:
        raise UserError(f"{out / SETTINGS} is damaged ({error}); name another folder with --out") from error
    if not isinstance(earlier, dict) or earlier.get("format") != RUN_FORMAT:
        raise UserError(f"{out} holds a run of another version of sfxjax; delete it and train again")
    now = json.loads(json.dumps(settings_of(plan)))
    if earlier != now:
        raise UserError(
            f"{out} holds a run with {other_settings(earlier, now)}; name another folder with --out, or delete it"
        )


def settings_of(plan: RunConfig) -> dict[str, Any]:
    """Return what `settings.json` is to hold."""
    return {"format": RUN_FORMAT} | plan.to_json()


def finished(plan: RunConfig, out: Path) -> dict[str, Any] | None:
    """Return the results of a run that has ended, or None.

    Raises:
        UserError: the folder is of another run.
    """
    check_folder(out, plan)
    try:
        return read_json(out / RESULTS) if (out / SETTINGS).exists() else None
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{out / RESULTS} is damaged ({error}); delete it and give the command again"
        ) from error


@contextmanager
def begun(plan: RunConfig, out: Path) -> Iterator[None]:
    """Hold a run's folder, with its settings in it, for this process alone; of several that train together one writes.

    Raises:
        UserError: the folder is of another run, or another process trains into it.
    """
    check_folder(out, plan)
    if not writes():
        yield
        return
    make_folder(out)
    with only_process(out, "training"):
        remove_leftovers(out, [SETTINGS, RESULTS, SCORES_FILE, LOG, MODEL_FOLDER])
        atomic_write_json(out / SETTINGS, settings_of(plan))
        yield


def other_settings(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say which settings of a run are others: the labels or files of a set by its name, else the first by their names.

    Args:
        earlier: as its folder holds them, of any origin.
        now: those of today.
    """
    differing = [name for name in now if earlier.get(name) != now[name]]
    if differing == ["data"]:
        sets, before = now["data"] or {}, earlier.get("data") or {}
        said = [
            f"{words} of {name}"
            for name, described in sets.items()
            for key, words in _OF_SETS.items()
            if isinstance(before, dict)
            and isinstance(known := before.get(name), dict)
            and known.get(key) != described.get(key)
        ]
        if said:
            return " and ".join(said)
    if "recipe" in differing and isinstance(earlier.get("recipe"), dict):
        known = earlier["recipe"]
        differing += [name for name in now["recipe"] if known.get(name) != now["recipe"][name]]
        differing.remove("recipe")
    names = ", ".join(differing[:4])
    return f"other settings ({names})" if names else "other settings"
