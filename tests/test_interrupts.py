"""Ctrl-C, closed pipes and ended parents: a program and its readers end at once and say how."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

SWALLOWS = """
import sys, time
from sfxjax.errors import run_main
from sfxjax.interrupts import last_words

def main():
    with last_words(lambda: print("lists", flush=True)):
        print("started", flush=True)
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                pass

sys.exit(run_main(main, "screen"))
"""

# A reader hangs as on a file server that is gone.
HANGS = """
import time

class Hanging:
    def __enter__(self):
        time.sleep(600)

    def __exit__(self, *_):
        pass

def answer(*_):
    pass
"""

READS = """
import sys
import textwrap
import hangs
from sfxjax.data.reader_process import ReaderProcess
from sfxjax.errors import run_main

def main():
    print("started", flush=True)
    ReaderProcess(hangs.Hanging, hangs.answer, 8).call({}, "the frames")

sys.exit(run_main(main, "screen"))
"""


def started(
    tmp_path: Path, program: str, *arguments: object, variables: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    file = tmp_path / "program.py"
    # A shell's background jobs start with Ctrl-C ignored, and what the tests start would with them.
    default = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    file.write_text(default + program)
    process = subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)} | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    return process


def children(process: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=False
    )
    return [int(word) for word in found.stdout.split()]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_that_is_swallowed_ends_the_program_with_its_lists_and_130(tmp_path: Path) -> None:
    process = started(tmp_path, SWALLOWS)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "lists\n")
    assert err == "screen: error: interrupted; give the same command to go on\n"


@pytest.mark.parametrize(
    "seconds", [1.0, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.1, 0.5, 2.0, 3.0, 4.0))]
)
def test_an_interrupt_while_programs_are_compiled_ends_with_130_and_a_line(
    tmp_path: Path, seconds: float
) -> None:
    status, _, err = interrupted_while_compiling(tmp_path, seconds, "screen", "computing on")
    assert status == 130, err
    assert err.endswith("error: interrupted; give the same command to go on\n") and "Traceback" not in err


@pytest.mark.parametrize(
    "seconds", [0.8, *(pytest.param(each, marks=pytest.mark.slow) for each in (0.1, 0.4, 1.5, 2.0))]
)
def test_live_ends_with_0_and_its_lists_where_a_program_is_being_compiled(
    tmp_path: Path, seconds: float
) -> None:
    """The threads that judge are then in C++ code, which the interpreter's end makes crash."""
    status, out, err = interrupted_while_compiling(tmp_path, seconds, "live", "waiting for", "--no-page")
    assert (status, err) == (0, "")
    assert out.endswith(
        f"written to {tmp_path / 'out'}: frames.csv, spots.csv, hits.lst, misses.lst, summary.json\n"
    )
    assert (tmp_path / "out" / "frames.csv").read_text().startswith("file,event,")


def interrupted_while_compiling(
    tmp_path: Path, seconds: float, command: str, line: str, *options: str
) -> tuple[int, str, str]:
    """Interrupt a command so many seconds after a line, behind which it compiles; returns its status and what it said."""
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["entry/data/data"] = np.random.default_rng(0).poisson(9, (40, 512, 512)).astype(np.uint16)
    program = "import sys\nfrom sfxjax.cli import main\nprint('started', flush=True)\nsys.exit(main(sys.argv[1:]))\n"
    # Compiled anew each time.
    kept = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "compiled")}
    words = command, tmp_path / "run.h5", "--out", tmp_path / "out", *options
    process = started(tmp_path, program, *words, variables=kept)
    assert process.stdout is not None
    while not process.stdout.readline().startswith(line):
        pass
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    "number",
    [*(pytest.param(one, marks=pytest.mark.slow) for one in (signal.SIGINT, signal.SIGTERM)), signal.SIGKILL],
)
def test_a_reader_that_hangs_ends_with_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    (tmp_path / "hangs.py").write_text(HANGS)
    process = started(tmp_path, READS)
    time.sleep(3)
    readers = children(process.pid)
    assert readers
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -number), err
    time.sleep(0.5)
    assert not any(map(alive, readers))


def test_a_closed_pipe_and_a_name_outside_the_encoding_are_no_tracebacks(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": str(REPOSITORY)}
    program = "from sfxjax.errors import run_main; import sys; sys.exit(run_main(lambda: print('r\\xf6ntgen'), 'x'))"
    shown = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, "r\\xf6ntgen\n", "")
    piped = f"{sys.executable} -m sfxjax.cli --help | true"
    ended = subprocess.run(["bash", "-c", piped], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.stderr == ""


def test_a_platform_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    program = "import sys, jax; from sfxjax.errors import run_main; sys.exit(run_main(lambda: jax.devices() and 0, 'x'))"
    environment = os.environ | {"JAX_PLATFORMS": "nonsense", "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and ended.stderr.startswith("x: error: JAX_PLATFORMS=nonsense cannot be had")
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (["-m", "sfxjax.screen", "x.h5", "--out", "o"], "interrupted\n"),
        (["-m", "train.dann", "--source", "LN83", "--target", "LO19"], "interrupted\n"),
        (
            ["-Bm", "sfxjax.cli", "screen", "x.h5", "--out", "o"],
            "sfxjax screen: error: interrupted; give the same command to go on\n",
        ),
    ],
)
def test_an_interrupt_while_modules_are_imported_ends_with_130_and_a_line(
    tmp_path: Path, call: list[str], line: str
) -> None:
    # A library whose import takes long and hides an interrupt, as NumPy's does.
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(
        "import time\nprint('started', flush=True)\ntry:\n    time.sleep(60)\n"
        "except BaseException as error:\n    raise ImportError('numpy is broken') from error\n"
    )
    # A shell's background jobs start with Ctrl-C ignored, and what the tests start would with them.
    (tmp_path / "sitecustomize.py").write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    )
    process = subprocess.Popen(
        [sys.executable, *call],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, line)


def test_a_program_that_uses_the_package_keeps_its_own_ctrl_c(tmp_path: Path) -> None:
    code = "import signal, sfxjax; assert signal.getsignal(signal.SIGINT) is signal.default_int_handler"
    start = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (tmp_path / "mine.py").write_text(f"{start}{code.replace('; ', chr(10))}\n")
    for call in (["-c", start + code], [str(tmp_path / "mine.py")], ["-m", "mine"]):
        done = subprocess.run(
            [sys.executable, *call],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


AMID_JAX = """
import sys, types
from sfxjax.errors import run_main

def main():
    # What JAX's C++ code calls may not raise: it ends the program with a stack trace then.
    source = '''
import time
def called():
    print("started", flush=True)
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("raised", flush=True)
'''
    space = {}
    exec(compile(source, "/venv/site-packages/jax/_src/lib/__init__.py", "exec"), space)
    space["called"]()

sys.exit(run_main(main, "screen"))
"""


def test_an_interrupt_amid_jax_raises_nothing_there_and_ends_the_program(tmp_path: Path) -> None:
    process = started(tmp_path, AMID_JAX)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "screen: error: interrupted; give the same command to go on\n"


def test_readers_that_start_say_nothing_of_an_interrupt(tmp_path: Path) -> None:
    # As a terminal does it, which tells all processes of a command.
    (tmp_path / "hangs.py").write_text(HANGS)
    for _ in range(2):
        process = started(tmp_path, "import os\nos.setsid()\n" + READS)
        deadline = time.monotonic() + 30
        while not children(process.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err == "screen: error: interrupted; give the same command to go on\n"


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_take_no_file_and_are_no_fault(closed: str, tmp_path: Path) -> None:
    program = textwrap.dedent(
        f"""
        import os, sys
        from sfxjax.errors import run_main

        def main():
            print("said")
            print("complained", file=sys.stderr)
            with open({str(tmp_path / "list")!r}, "wb", buffering=0) as stream:
                os.write(1, b"of a library")
                os.write(2, b"of a library")
                stream.write(b"frames")

        sys.exit(run_main(main))
        """
    )
    (tmp_path / "program.py").write_text(program)
    call = f"{shlex.quote(sys.executable)} {shlex.quote(str(tmp_path / 'program.py'))} {closed}"
    ended = subprocess.run(["sh", "-c", call], cwd=REPOSITORY, capture_output=True, timeout=60, check=False)
    assert ended.returncode == 0 and b"Traceback" not in ended.stderr
    assert (tmp_path / "list").read_bytes() == b"frames"
