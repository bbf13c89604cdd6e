"""Reductions from a user's file: the good ones go through everything, the bad ones end in a line that says why."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import screen_cases as cases

from sfxjax.errors import UserError, run_main
from sfxjax.models.checkpoint import TrainedModel, example_maps, load_model, save_model
from sfxjax.models.networks import HitClassifier
from sfxjax.models.stem import BaseConfig
from sfxjax.reductions import user_code as reduction_loader
from sfxjax.reductions.check import check_reduction
from sfxjax.reductions.provenance import find_reduction
from sfxjax.reductions.reduce import preprocess_and_reduce
from sfxjax.reductions.registry import ORIGINS, REDUCTIONS, get_reduction, origin_of, reduced_shape
from sfxjax.reductions.user_code import load_reduction
from sfxjax.screen.scorer import Screener

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "brightest_in_ring.py"
HEAD = "import jax\nimport jax.numpy as jnp\nimport numpy as np\n\n"


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test starts as a new process does, as far as reductions go."""
    before = dict(REDUCTIONS)
    ORIGINS.clear()
    monkeypatch.setattr(reduction_loader, "_modules", {})
    yield
    REDUCTIONS.clear()
    REDUCTIONS.update(before)


def write(folder: Path, source: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(HEAD + source)
    return path


def frame() -> np.ndarray:
    made = np.random.default_rng(3).normal(0, 0.1, (720, 720)).astype(np.float32)
    made[100:700:60, 50:700:90] += 3
    return made


def test_the_example_is_loaded_under_its_name() -> None:
    spec = f"{EXAMPLE}:brightest_in_ring"
    assert load_reduction(spec) == spec
    assert reduced_shape(spec) == (255,)
    ss, fs = np.indices((720, 720)) - 359.5
    ring = np.hypot(ss, fs) // 2
    valid = np.random.default_rng(4).random((720, 720)) > 0.2
    valid[355:365, 355:365] = False
    expected = [frame()[(ring == r) & valid].max(initial=0) for r in range(255)]
    np.testing.assert_array_equal(jax.jit(get_reduction(spec))(frame(), valid), expected)
    # The name will do wherever the library's names do.
    crop = cases.frames(1, 724)[0]
    assert preprocess_and_reduce(crop, reduction=get_reduction(spec)).shape == (255,)
    with pytest.raises(UserError, match="unknown reduction 'brightest_in_ring'.*file.py:function"):
        load_reduction("brightest_in_ring")


def test_names_of_the_library_are_at_hand() -> None:
    assert load_reduction("rwd") == "row_wise_decomposition"
    assert load_reduction("spot_signal_to_noise") == "spot_signal_to_noise"
    assert origin_of("spot_signal_to_noise") is None
    for name in ("diagonal", "mine.py", ":f", "mine.py:"):
        with pytest.raises(UserError, match="unknown reduction|not loaded"):
            load_reduction(name)


def test_reductions_of_the_library_pass_the_check() -> None:
    for name in ("row_and_column_decomposition", "soft_spot_counts"):
        check_reduction(REDUCTIONS[name], name)


GOOD = {
    "the frame alone": ("def f(frame):\n    return frame.max(0)", (720,)),
    "an option beside the frame": ("def f(frame, width=8):\n    return frame[:, ::width].max(0)", (90,)),
    "options beside the mask": (
        "def f(frame, valid=None, *, low=-9):\n"
        "    return (frame if valid is None else jnp.where(valid, frame, low)).max(1)",
        (720,),
    ),
    "any arguments": ("def f(*given):\n    return g(*given)\ndef g(frame, valid):\n"
        "    return frame.max(0) if valid is None else jnp.where(valid, frame, 0).max(0)", (720,)),
    "whole numbers": ("def f(frame):\n    return (frame > 1).sum(0)", (720,)),
    "yes or no": ("def f(frame):\n    return (frame > 2).any(0)", (720,)),
    "channels": ("def f(frame):\n    return jnp.stack([frame.max(0), frame.min(0)], -1)", (720, 2)),
    "compiled on its own": ("@jax.jit\ndef f(frame):\n    return frame.max(0)", (720,)),
    "a lambda": ("f = lambda frame: frame.max(0)", (720,)),
    "an object": ("class Rows:\n    def __call__(self, frame):\n        return frame.max(1)\nf = Rows()", (720,)),
}  # fmt: skip


@pytest.mark.parametrize("case", GOOD)
def test_functions_of_many_kinds_are_reductions(case: str, tmp_path: Path) -> None:
    source, shape = GOOD[case]
    spec = load_reduction(f"{write(tmp_path, source)}:f")
    assert reduced_shape(spec) == shape
    reduction = get_reduction(spec)
    assert reduction(frame(), None).dtype == np.float32
    # A function of the frame alone sees 0 for what is masked.
    valid = np.random.default_rng(5).random((720, 720)) > 0.3
    np.testing.assert_array_equal(reduction(frame(), valid), reduction(np.where(valid, frame(), 0), valid))


BAD = {
    "no such function": ("def other(frame):\n    return frame.max(0)", "there is no f in .*mine.py; it has other"),
    "no function at all": ("x = 1", "it has no function"),
    "a number": ("f = 3", "is not a function but an int"),
    "a class": ("class f: pass", "is not a function but a type"),
    "no argument": ("def f():\n    return jnp.zeros(3)", r"takes \(\); a reduction takes \(frame, valid\) or \(frame\)"),
    "three arguments": ("def f(a, b, c):\n    return a.max(0)", r"takes \(a, b, c\)"),
    "a keyword without a value": ("def f(frame, *, width):\n    return frame.max(0)", "takes .*width"),
    "a syntax error": ("def f(frame:\n", "cannot be imported .SyntaxError"),
    "an error on import": ("x = 1\ny = missing\n", "cannot be imported .NameError.*'missing'.*line 6"),
    "leaving Python": ("raise SystemExit(3)", "cannot be imported .SystemExit"),
    "a missing package": ("import no_such_package", "cannot be imported .ModuleNotFoundError"),
    "if": ("def f(frame):\n    return frame.max(0) if frame.sum() > 0 else frame.min(0)", "depends on the frame's values"),
    "int": ("def f(frame):\n    return frame[: int(frame.max())].max(0)", "depends on the frame's values"),
    "NumPy": ("def f(frame):\n    return jnp.asarray(np.max(np.asarray(frame), 0))", "hands the frame to NumPy"),
    "a bool index": ("def f(frame):\n    return frame[frame > 1]", "its length depends on the frame"),
    "a mistake": ("def f(frame):\n    return frame.maximum(0)", "fails for a frame .*AttributeError"),
    "a wrong shape": ("def f(frame):\n    return frame + jnp.zeros(7)", "fails for a frame .*(TypeError|ValueError)"),
    "a number as result": ("def f(frame):\n    return frame.max()", r"array of shape \(\)"),
    "a frame as result": ("def f(frame):\n    return frame[None]", r"array of shape \(1, 720, 720\)"),
    "nothing in it": ("def f(frame):\n    return frame[:0].max(1)", r"array of shape \(0,\)"),
    "a pair": ("def f(frame):\n    return frame.max(0), frame.max(1)", "returns a tuple"),
    "nothing": ("def f(frame):\n    frame.max(0)", "returns a NoneType"),
    "complex numbers": ("def f(frame):\n    return jnp.fft.fft(frame.max(0))", "type complex64"),
    "NaN": ("def f(frame):\n    return frame.max(0) / jnp.abs(frame).max()", "gives NaN for a frame of zeros"),
    "infinity": ("def f(frame):\n    return 1 / jnp.abs(frame).max(0)", "gives infinity for a frame of zeros"),
    "all masked": (
        "def f(frame, valid):\n    return frame.max(0) if valid is None else jnp.where(valid, frame, -jnp.inf).max(0)",
        "gives infinity for a frame of which no pixel is valid",
    ),
    "the logarithm of noise": ("def f(frame):\n    return jnp.log(frame).mean(0)", "gives NaN for random frames"),
    "a mask ignored": ("def f(frame, valid):\n    return frame.max(0)", "`valid` excludes decide its numbers.*jnp.where"),
    "None is not all": (
        "def f(frame, valid):\n    return frame.max(0) if valid is None else jnp.where(valid, frame, 0).min(0)",
        "other numbers for valid=None",
    ),
    "another shape under a mask": (
        "def f(frame, valid):\n    return frame.max(0) if valid is None else jnp.zeros(3)",
        r"returns \(720,\) without a mask and \(3,\) with one",
    ),
    "random numbers": ("def f(frame):\n    return frame.max(0) + np.random.rand()", "traced anew.*random"),
    "random numbers, compiled": (
        "@jax.jit\ndef f(frame):\n    return frame.max(0) + np.random.rand()", "traced anew.*random"
    ),
    "a counter": (
        "seen = 0\ndef f(frame):\n    global seen\n    seen += 1\n    return frame.max(0) * seen", "variables that change"
    ),
    "a store": ("kept = []\ndef f(frame):\n    kept.append(frame)\n    return frame.max(0)", "keeps values of a frame"),
    "a constant": ("def f(frame):\n    return jnp.arange(5.0)", "the same .* numbers for different frames"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_reduction_ends_in_a_line(case: str, tmp_path: Path, capsys) -> None:
    source, words = BAD[case]
    spec = f"{write(tmp_path, source)}:f"
    with pytest.raises(UserError, match=words) as told:
        load_reduction(spec)
    message = str(told.value)
    assert message.startswith(spec)
    assert "\n" not in message
    assert spec not in REDUCTIONS
    assert not ORIGINS
    assert run_main(lambda: load_reduction(spec) and None) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_such_file_or_module(tmp_path: Path) -> None:
    for spec, words in (
        (f"{tmp_path}/none.py:f", "there is no such file"),
        (f"{tmp_path}:f", "directory|folder|no such"),
        ("no_such_module:f", "there is no module no_such_module"),
        ("sfxjax.no_such_module:f", "there is no module"),
        ("sys:exit", "has no source file"),
    ):
        with pytest.raises(UserError, match=words):
            load_reduction(spec)


def test_a_function_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "beamline_reductions"
    package.mkdir()
    (package / "__init__.py").write_text("")
    write(package, "def columns(frame):\n    return frame.max(0)", "rings.py")
    write(package, "from beamline_reductions import missing", "broken.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = load_reduction("beamline_reductions.rings:columns")
    np.testing.assert_array_equal(get_reduction(spec)(frame(), None), frame().max(0))
    source = origin_of(spec)
    assert source is not None
    assert source["function"] == "columns"
    with pytest.raises(UserError, match="cannot be imported .ImportError"):
        load_reduction("beamline_reductions.broken:f")


def test_a_file_is_run_once_for_each_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counter = tmp_path / "runs"
    body = f"open({str(counter)!r}, 'a').write('x')\ndef f(frame):\n    return frame.max(0)\n"
    path = write(tmp_path, body + "def g(frame):\n    return frame.min(0)\n")
    spec = load_reduction(f"{path}:f")
    reduction = get_reduction(spec)
    assert load_reduction(f"{path}:f") == spec
    load_reduction(f"{path}:g")
    monkeypatch.chdir(tmp_path)
    load_reduction("./mine.py:f")
    assert counter.read_text() == "x"
    assert get_reduction(spec) is reduction
    # Its name is no other module's, and no file is written beside it.
    assert "mine" not in sys.modules
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["mine.py", "runs"]

    write(tmp_path, body + "# changed\n")
    with pytest.raises(UserError, match="has changed since this process loaded it"):
        load_reduction(f"{path}:f")
    assert get_reduction(spec) is reduction
    # Under a name that nothing was compiled for the new content will do.
    assert load_reduction("../" + tmp_path.name + "/mine.py:f") == f"../{tmp_path.name}/mine.py:f"
    assert counter.read_text() == "xx"


@functools.cache
def weights(config: BaseConfig) -> dict[str, Any]:
    maps = example_maps(config, None if config.dimensions == 2 else "rwd")
    return dict(jax.jit(HitClassifier(config).init)(jax.random.key(0), maps))


def trained_on(reduction: str | None) -> TrainedModel:
    """A network whose untrained weights give vectors scores that differ clearly."""
    config = BaseConfig(dimensions=1 if reduction else 2, channels=(2, 2))
    variables = weights(config)
    leaves, tree = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    params = jax.tree.unflatten(tree, [rng.normal(0, 0.5, leaf.shape).astype(np.float32) for leaf in leaves])
    return TrainedModel(config, variables | {"params": params}, reduction=reduction)


def forget() -> None:
    """Go on as a new process would."""
    ORIGINS.clear()
    reduction_loader._modules.clear()


@pytest.mark.slow
def test_a_model_names_the_code_that_made_its_vectors_and_does_not_run_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    path = write(
        tmp_path, f"open({str(mark)!r}, 'a').write('x')\ndef f(frame):\n    return frame.max(0)\ng = f\n"
    )
    spec = load_reduction(f"{path}:f")
    source = origin_of(spec)
    folder = save_model(tmp_path / "run" / "model", trained_on(spec))
    assert source is not None
    recorded = json.loads((folder / "model.json").read_text())
    assert recorded["reduction"] == spec
    assert recorded["reduction_source"] == {"function": "f", "sha256": source["sha256"]}
    # Loaded before in this process, that will do.
    assert load_model(folder).reduction == spec
    forget()
    mark.unlink()
    with pytest.raises(UserError, match=f"made by {spec}; give --reduction {spec} to run that code"):
        load_model(folder)
    assert not mark.exists()
    assert load_model(folder, reduction=spec).reduction == spec
    assert mark.read_text() == "x"

    # Elsewhere on disk, the same content is the same code.
    moved = tmp_path / "moved.py"
    moved.write_bytes(path.read_bytes())
    forget()
    assert load_model(folder, reduction=f"{moved}:f").reduction == f"{moved}:f"
    assert find_reduction(spec, source) == f"{moved}:f"
    for other in (f"{moved}:g", "rwd"):
        with pytest.raises(UserError, match=f"made by {spec}, not by {other}"):
            load_model(folder, reduction=other)
    with moved.open("a") as file:
        file.write("# one line more\n")
    forget()
    with pytest.raises(UserError, match="is not the code this model was trained with.*SHA-256"):
        load_model(folder, reduction=f"{moved}:f")
    with pytest.raises(UserError, match="to run that code"):
        load_model(folder)


@pytest.mark.slow
def test_models_of_the_library_need_nothing_given(tmp_path: Path) -> None:
    vectors = save_model(tmp_path / "vectors", trained_on("rwd"))
    whole = save_model(tmp_path / "whole", trained_on(None))
    assert json.loads((vectors / "model.json").read_text())["reduction"] == "row_wise_decomposition"
    for given in (None, "rwd", "row_wise_decomposition"):
        assert load_model(vectors, reduction=given).reduction == "row_wise_decomposition"
    assert load_model(whole).reduction is None
    with pytest.raises(UserError, match="made by row_wise_decomposition, not by cwd"):
        load_model(vectors, reduction="cwd")
    with pytest.raises(UserError, match="reads whole frames, not vectors made by rwd"):
        load_model(whole, reduction="rwd")


DAMAGE = {
    "a reduction this version lacks": ({"reduction": "wavelets"}, "wavelets, a reduction that this version"),
    "code without a checksum": ({"reduction": "mine.py:f"}, "mine.py:f, a reduction that this version"),
    "no text": ({"reduction": ["rwd"]}, "damaged"),
    "signs for the terminal": ({"reduction": "\x1b[2Jrwd"}, "damaged"),
    "a source without a checksum": ({"reduction": "a.py:f", "reduction_source": {"function": "f"}}, "damaged"),
    "a source that is a list": ({"reduction": "a.py:f", "reduction_source": ["f"]}, "damaged"),
    "a checksum that is a number": (
        {"reduction": "a.py:f", "reduction_source": {"function": "f", "sha256": 1}}, "damaged"
    ),
}  # fmt: skip


def test_damaged_names_of_reductions_end_in_a_line(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "model", trained_on("rwd"))
    described = json.loads((folder / "model.json").read_text())
    for changes, words in DAMAGE.values():
        (folder / "model.json").write_text(json.dumps(described | changes))
        with pytest.raises(UserError, match=words):
            load_model(folder)


@pytest.mark.slow
def test_the_example_screens_a_run(tmp_path: Path) -> None:
    """As a researcher's file does: trained elsewhere, a model and ten lines beside it."""
    example = tmp_path / EXAMPLE.name
    example.write_bytes(EXAMPLE.read_bytes())
    spec = f"{example}:brightest_in_ring"
    model = trained_on(load_reduction(spec))
    folder = save_model(tmp_path / "runs" / "rings" / "model", model).parent
    data = cases.frames(5)
    file = cases.write_cxi(tmp_path / "r0001.cxi", data)
    expected = Screener(model).scores(data)
    assert len(np.unique(expected)) == 5
    forget()
    REDUCTIONS.pop(spec)
    with pytest.raises(UserError, match="give --reduction"):
        cases.screen(file, "--model", folder, "--out", tmp_path / "out")
    assert cases.screen(file, "--model", folder, "--out", tmp_path / "out", "--reduction", spec) == 0
    np.testing.assert_array_equal(cases.scores(tmp_path / "out"), expected)


def test_the_command_says_what_to_give(tmp_path: Path) -> None:
    path = write(tmp_path, "def f(frame):\n    return frame.max(0)")
    folder = save_model(tmp_path / "model", trained_on(load_reduction(f"{path}:f")))
    file = cases.write_cxi(tmp_path / "r0001.cxi", cases.frames(1))
    told = cases.command(file, "--model", folder, "--out", tmp_path / "out")
    assert told.returncode == 2
    assert told.stderr.splitlines()[-1].endswith(f"give --reduction {path}:f to run that code")


def test_the_readers_need_no_reduction() -> None:
    modules = "sfxjax.screen.__main__, sfxjax.data.workers, sfxjax.screen.prepared_frames"
    code = f"import sys; import {modules}; sys.exit('jax' in sys.modules or 'scipy.optimize' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=cases.REPOSITORY, check=False).returncode == 0
