"""The installed command and what is installed with it."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import sfxjax
from sfxjax import cli, errors
from sfxjax.data.frames import ReadOptions
from sfxjax.screen.options import FRAME_OPTIONS, add_frame_arguments, options_of_frames

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def called_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "_installed_name", "")


def test_version_and_list_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"sfxjax {sfxjax.__version__}\n"
    for arguments in ([], ["--help"]):
        assert cli.main(arguments) == 0
        listed = capsys.readouterr().out
        assert all(f"sfxjax {name} " in listed for name in cli.COMMANDS)
    assert cli.main(["train"]) == 0
    assert "sfxjax train dann" in (listed := capsys.readouterr().out) and "sfxjax screen" not in listed


def test_the_version_needs_no_jax() -> None:
    code = "import sys; from sfxjax import cli; cli.main(['--version']); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tain"], "sfxjax: error: no command 'tain'; did you mean train?\n"),
        (["train", "dan"], "sfxjax: error: no command 'train dan'; did you mean train dann?\n"),
        (
            ["--frames", "3"],
            "no command '--frames'; there are bench, label, live, play, screen, simulate, spots, train\n",
        ),
        (
            ["train", "dann", "--source", "LN83", "--target", "XX"],
            "sfxjax train dann: error: no set named 'XX'",
        ),
        (
            ["screen", "nowhere.h5", "--model", "x", "--out", "y"],
            "sfxjax screen: error: no such file or folder",
        ),
    ],
)
def test_mistakes_are_one_line_in_the_name_of_the_command(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


@pytest.mark.parametrize("name", [*cli.COMMANDS, "train adapt --model day-one"])
def test_help_shows_every_default(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*name.split(), "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith(f"usage: sfxjax {name.partition(' --')[0]} ")
    assert not re.search(r"\(default: ?\)", text)
    twice = re.findall(r"\(([^()]*)\) \(default: ([^()]*)\)", text)
    assert not [pair for pair in twice if "default" in pair[0] or same_value(*pair)]
    if name in cli.COMMANDS and name.startswith("train") and name != "train day_one":
        for option, default in (("--frames", 2000), ("--batch", 32), ("--seed", 0)):
            assert f"(default: {default})" in text.partition(f" {option} ")[2]


@pytest.mark.parametrize("name", ["screen", "spots", "live", "play"])
def test_commands_that_read_frames_are_told_the_same_of_them(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert shown >= {f"--{option.replace('_', '-')}" for option in FRAME_OPTIONS}


def test_what_is_said_of_frames_is_what_they_are_read_by() -> None:
    parser = argparse.ArgumentParser()
    add_frame_arguments(parser)
    words = "--dataset /d --mask m.h5:/m --good-bits 0x4 --bad-bits 3 --geometry g.geom --allow-links"
    found = options_of_frames(parser.parse_args(words.split()), growing=True)
    expected = {"dataset": "/d", "mask": "m.h5:/m", "good_bits": 4, "bad_bits": 3, "geometry": "g.geom"}
    assert found == ReadOptions(**expected, allow_links=True, growing=True)
    assert options_of_frames(parser.parse_args(["--mask-good", "0"])) == ReadOptions(mask_good=0)
    assert options_of_frames(parser.parse_args([])) == ReadOptions()


def same_value(one: str, other: str) -> bool:
    """Tell whether two words are one value, as 7 and 7.0."""
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


def test_a_closed_pipe_ends_a_command_quietly() -> None:
    code = "import sys; from sfxjax import cli; sys.exit(cli.main(['bench', 'throughput', '--list']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == errors.EXIT_BROKEN_PIPE


def test_every_package_is_installed() -> None:
    listed = set(tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in (REPOSITORY / "sfxjax").rglob("__init__.py")
    }
    found |= {
        "sfxjax." + ".".join(path.parent.relative_to(REPOSITORY).parts)
        for path in (REPOSITORY / "bench").rglob("__init__.py")
    }
    assert listed == found


def test_a_wheel_holds_nothing_beside_sfxjax_and_leaves_a_users_train_alone(tmp_path: Path) -> None:
    setuptools = pytest.importorskip("setuptools")
    if int(setuptools.__version__.partition(".")[0]) < 77:
        pytest.skip("this version of setuptools cannot build the package")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--disable-pip-version-check"]
    build = [sys.executable, "-m", "pip", "wheel", str(REPOSITORY), *options, "--wheel-dir", str(tmp_path)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("sfxjax-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(site)
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"sfxjax"}
    templates = ("page.html", "screen/report.html", "screen/spots_report.html")
    names_of_words = ("claims.toml", "methods.toml", "page.toml")
    templates += tuple(f"bench/paper/{name}" for name in ("report.html", "table.html", *names_of_words))
    assert {f"sfxjax/{template}" for template in templates} <= set(names)
    assert "sfxjax/py.typed" in names and "sfxjax/bench/throughput/stages.py" in names
    (entry_points,) = (site / name for name in names if name.endswith("entry_points.txt"))
    assert "sfxjax = sfxjax.cli:main" in entry_points.read_text()
    (tmp_path / "train.py").write_text("print('my own training')\n")
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r}); import sfxjax.cli, train\n"
        "assert sfxjax.__file__.startswith(sys.path[0]); sys.exit(sfxjax.cli.main(['bench', 'throughput', '--list']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("my own training\n") and "screening-2d" in done.stdout
