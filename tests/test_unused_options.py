"""Options that have no effect with the others are refused in one line, and mistyped ones in one."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.data.frames import ReadOptions
from sfxjax.errors import UserError, run_main
from sfxjax.training import command

FRAMES = np.random.default_rng(0).poisson(20, (4, 60, 50)).astype(np.uint16)
PAIR = "--source LN83 --target LO19"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "simulated_data", lambda *_: pytest.fail("simulated"))
    return cases.write_cxi(tmp_path / "run.cxi", FRAMES)


def refusal(module: str, words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line that a refused command says to standard error."""
    main = import_module(module).main
    try:
        status = run_main(lambda: main(words.split()), "sfxjax")
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr().err
    assert status == 2 and said.count("\n") == 1 and "error: " in said, said
    return said


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        ("sfxjax.screen.__main__", "run.cxi --out o --process 0", "--process has no effect without --distr"),
        (
            "sfxjax.screen.__main__",
            "run.cxi --out o --processes 2 --coordinator h:1",
            "--coordinator and --processes",
        ),
        (
            "sfxjax.screen.__main__",
            "run.cxi --out o --threshold 0",
            "--threshold has no effect without --model",
        ),
        (
            "sfxjax.screen.__main__",
            "run.cxi --out o --model x --min-spots 5",
            "--min-spots has no effect with --model",
        ),
        ("sfxjax.screen.__main__", "run.cxi --out o --mask-good 1", "--mask-good without a mask"),
        (
            "sfxjax.screen.__main__",
            "run.cxi --out o --bad-bits 1 --good-bits 2",
            "--good-bits and --bad-bits without",
        ),
        (
            "sfxjax.screen.__main__",
            "run.cxi --out o --mask m.h5 --mask-good 1 --bad-bits 1",
            "--mask-good goes without",
        ),
        ("sfxjax.screen.spots", "run.cxi --out o --mask-good 0", "--mask-good without a mask"),
        ("sfxjax.screen.spots", "one.tif --out o --dataset /d", "--dataset /d: none of the files is HDF5"),
        ("sfxjax.label.__main__", "run.cxi --out o --mask-good 0", "--mask-good without a mask"),
        ("sfxjax.live.__main__", "run.cxi --out o --no-page --mask-good 0", "--mask-good without a mask"),
        ("sfxjax.live.__main__", "run.cxi --out o --shared", "--shared has no effect on files"),
        (
            "sfxjax.live.__main__",
            "run.cxi --out o --no-page --port 8000",
            "--port has no effect with --no-page",
        ),
        ("sfxjax.live.__main__", "tcp://h:1 --out o --dataset /d", "--dataset has no effect on a stream"),
        ("sfxjax.live.__main__", "tcp://h:1 --out o --geometry g", "--geometry has no effect on a stream"),
        (
            "sfxjax.live.__main__",
            "tcp://h:1 --out o --bad-bits 1",
            "--bad-bits has no effect on a stream without",
        ),
        (
            "sfxjax.live.__main__",
            "tcp://h:1 --out o --mask-good 1",
            "--mask-good has no effect on a stream without",
        ),
        (
            "sfxjax.live.__main__",
            "tcp://h:1 --out o --no-page --request x",
            "--request has no effect on a PULL socket",
        ),
        ("sfxjax.live.__main__", "tcp://h:1 --out o --no-page --subscribe x", "give --socket SUB"),
        ("sfxjax.simulate.command", "--clean --frames 2000", "--clean removes sets of the cache"),
        ("sfxjax.training.dann", f"{PAIR} --binning 4", "--binning has no effect without --network plain"),
        ("sfxjax.training.dann", f"{PAIR} --process 1", "--process has no effect without --distributed"),
        ("sfxjax.training.dann", f"{PAIR} --set a=run.cxi", "--set a is not used"),
        ("sfxjax.training.dann", f"{PAIR} --data d --frames 2000", "--frames has no effect with --data"),
        (
            "sfxjax.training.supervised",
            "--dataset a --set a=run.cxi --data d",
            "--data has no effect on sets of your",
        ),
        (
            "sfxjax.training.transfer",
            f"{PAIR} --base b --base-labels 9",
            "--base-labels has no effect with --base",
        ),
        ("bench.scaling", "--json o.json --gpus 8", "--gpus has no effect without --predict"),
        ("bench.throughput.__main__", "--list --json o.json", "--json has no effect with --list"),
        ("bench.paper.__main__", "--page --seeds 1", "--seeds has no effect with --page"),
    ],
)
def test_options_without_effect_are_refused(
    run: Path, module: str, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "one.tif" in words:
        fabio = pytest.importorskip("fabio")
        fabio.tifimage.TifImage(data=FRAMES[0]).write("one.tif")
    assert message in refusal(module, words, capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run.cxi", "the following arguments are required: --out; try "),
        ("run.cxi --out o --mask-god 1", "unrecognized arguments: --mask-god 1; try "),
        ("run.cxi --out o --mask-good 7", "argument --mask-good: invalid choice: "),
    ],
)
def test_mistyped_options_are_one_line(
    run: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal("sfxjax.screen.__main__", words, capsys)
    assert message in said and said.endswith(" --help\n")


def test_a_word_on_the_files_own_masks_holds_where_one_file_has_a_mask(tmp_path: Path) -> None:
    from sfxjax.data.read import FrameReader
    from sfxjax.data.stack_masks import check_used

    bare, masked = cases.write_cxi(tmp_path / "a.cxi", FRAMES), cases.write_cxi(tmp_path / "b.cxi", FRAMES)
    with h5py.File(masked, "r+") as file:
        file["/entry_1/data_1/mask"] = np.zeros(FRAMES.shape[1:], np.uint16)
    options = ReadOptions(bad_bits=1)
    with FrameReader(options) as reader:
        stacks = reader.stacks(str(bare))
        with pytest.raises(UserError, match="--bad-bits without a mask"):
            check_used(options, stacks)
        check_used(options, stacks + reader.stacks(str(masked)))
