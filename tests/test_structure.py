"""How the code lies: imports point one way, a name means one thing, and a module can be read in one sitting."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 350

# From the ground up: a package imports those before it alone. What lies beside them in `sfxjax` is for all of them.
PACKAGES = (
    "pixels",
    "preprocess",
    "data",
    "evaluation",
    "spots",
    "reductions",
    "simulate",
    "models",
    "screen",
    "label",
    "live",
    "training",
)
# `sfxjax screen --follow` is `sfxjax live` on files, and is imported when it is asked for.
UPWARDS = {("sfxjax/screen/spots.py", "sfxjax.live.follow")}

# Names that several modules have because they are called by them: the same idea in each.
COMMON_NAMES = {
    "__all__",
    "main",  # of a command
    "parse_arguments",
    "read_options",
    "RECIPE",  # the settings of a training method
    "STAGES",  # of the throughput benchmark
    "FRAMES_COMPARED",
    "find",  # the frames of a format
    "_identity",  # of a stream's series
    "_forward",  # of a function with a gradient of its own
    "_backward",
    "HIT",  # in labels, and as the word for it in lists
    "MISS",
}


@cache
def modules() -> dict[str, ast.Module]:
    paths = (
        path for folder in ("sfxjax", "train", "bench") for path in sorted((ROOT / folder).rglob("*.py"))
    )
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.Module) -> set[str]:
    """Modules that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def defined(tree: ast.Module) -> set[str]:
    """Names that a module defines at its top level."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {
                name.id
                for target in targets
                for name in ast.walk(target)
                if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }
    return found


def test_no_module_is_longer_than_can_be_read_in_one_sitting() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in modules()}
    assert {path: length for path, length in lengths.items() if length > MOST_LINES} == {}


def test_a_name_is_defined_once() -> None:
    where = defaultdict(set)
    for path, tree in modules().items():
        for name in defined(tree):
            where[name].add(path)
    several = {name: paths for name, paths in where.items() if len(paths) > 1}
    assert {name: paths for name, paths in several.items() if name not in COMMON_NAMES} == {}
    assert several.keys() == COMMON_NAMES, "what only one module has is no common name"


def test_imports_point_one_way() -> None:
    upwards = set()
    for path, tree in modules().items():
        folder = path.split("/")[1]
        # What lies beside the packages is below them all, but for the command that calls them.
        floor = PACKAGES.index(folder) if folder in PACKAGES else -1
        if path.startswith(("bench/", "train/")) or path in ("sfxjax/cli.py", "sfxjax/__init__.py"):
            floor = len(PACKAGES)
        for name in imported(tree):
            parts = name.split(".")
            above = parts[0] in ("bench", "train") and floor < len(PACKAGES)
            if parts[0] == "sfxjax" and len(parts) > 1 and parts[1] in PACKAGES:
                above = PACKAGES.index(parts[1]) > floor
            if above:
                upwards.add((path, ".".join(parts[:3])))
    assert {
        (path, name)
        for path, name in upwards
        if not any((path, m) in UPWARDS for m in (name, name.rpartition(".")[0]))
    } == set()


def test_data_know_no_jax() -> None:
    """Processes that read frames start without it."""
    with_jax = [
        path
        for path, tree in modules().items()
        if path.startswith(("sfxjax/pixels/", "sfxjax/data/"))
        and any(name.split(".")[0] == "jax" for name in imported(tree))
    ]
    assert with_jax == []
    assert len(modules()) > 200
