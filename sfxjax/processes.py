"""Several processes of one job: they meet before they begin, and notice when one of them is gone.

JAX itself ends all processes of a job with a stack trace once one is gone, and waits for five minutes for one that never comes.
Here every process says in one line which one is missing, ends with status 2 within the times below, and the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import hashlib
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from sfxjax.command_line import refuse_unused
from sfxjax.errors import EXIT_USER_ERROR, UserError, at_failure

# Processes may be started one after the other by hand, or by a queue.
JOIN_SECONDS = 120.0
# How often each says that it is there, and after how long a silence it is taken to be gone.
BEAT_SECONDS = 1.0
LOST_SECONDS = 30.0
_PREFIX = "sfxjax/alive/"
_OPTIONS = "sfxjax/options"
# What may differ between the processes of a job.
_OWN_OPTIONS = {"process", "coordinator", "readers", "compilation_cache", "given"}
_DONE, _FAILED = "done", "failed"
_GREETING, _ALL_HERE = b"sfxjax %d\n", b"go\n"
_LONGEST_LINE = 4096


def add_join_arguments(group: argparse._ArgumentGroup, what: str) -> None:
    """Add the options that `join_processes` reads.

    Args:
        group: of a parser.
        what: help text of `--distributed`.
    """
    group.add_argument("--distributed", action="store_true", help=what)
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="where process 0 listens, if nothing else says"
    )
    group.add_argument("--processes", type=int, metavar="N", help="how many processes there are")
    group.add_argument("--process", type=int, metavar="I", help="number of this one, from 0")


def check_alone(options: argparse.Namespace) -> None:
    """Refuse the options of `add_join_arguments` that say which process this is where it is the only one.

    Raises:
        UserError: one was given.
    """
    if not options.distributed:
        refuse_unused(options, ("coordinator", "processes", "process"), "without --distributed")


def join_processes(options: argparse.Namespace) -> tuple[int, int]:
    """Join the processes of `jax.distributed`; returns this one's number and how many there are.

    Under SLURM, Open MPI and Kubernetes JAX finds out by itself who the others are. From then on this process ends, with a line
    and status 2, where another one fails or is gone.

    Args:
        options: of `add_join_arguments`.

    Raises:
        UserError: others did not come in time, cannot be reached, or the options contradict one another.
    """
    given = (options.coordinator, options.processes, options.process)
    check_alone(options)
    if not options.distributed:
        return 0, 1
    if options.processes is not None and options.process is not None:
        if not 0 <= options.process < options.processes:
            raise UserError(
                f"process {options.process} of {options.processes} makes no sense: they are numbered from 0"
            )
        if options.processes == 1:
            return 0, 1
    deadline = time.monotonic() + JOIN_SECONDS
    if None not in given:
        _meet(options.coordinator, options.processes, options.process, deadline)
    import jax

    joined = threading.Event()
    text = f"the other processes were not all there within {JOIN_SECONDS:.0f} s; start all of them by the same command"
    threading.Thread(target=_give_up, args=(joined, deadline, text), daemon=True).start()
    _tell_of_aborts()
    try:
        # JAX aborts where its own time is over, so that it is longer.
        jax.distributed.initialize(*given, initialization_timeout=int(2 * JOIN_SECONDS))
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"the other processes cannot be joined ({reason}); give --coordinator, --processes and --process"
        ) from error
    finally:
        joined.set()
    number, count = jax.process_index(), jax.process_count()
    _this_process["number"] = number
    if count > 1:
        _Watch(number, count).start()
        _compare_options(options, number)
    return number, count


def _compare_options(options: argparse.Namespace, number: int) -> None:
    """Refuse other options than those of process 0: two works would end in one folder.

    Raises:
        UserError: they differ.
    """
    from jax._src import distributed

    client: Any = distributed.global_state.client
    mine = {name: str(value) for name, value in vars(options).items() if name not in _OWN_OPTIONS}
    mine = {name: text if len(text) < 60 else _digest(text) for name, text in mine.items()}
    if number == 0:
        client.key_value_set(_OPTIONS, json.dumps(mine))
        return
    first = json.loads(client.blocking_key_value_get(_OPTIONS, int(1000 * JOIN_SECONDS)))
    for name in sorted(mine.keys() | first.keys()):
        here, there = (each.get(name, "not known") for each in (mine, first))
        if here != there:
            raise UserError(
                f"{name.replace('_', '-')} is {here} in process {number} and {there} in process 0; "
                "give all processes the same options"
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def _give_up(joined: threading.Event, deadline: float, text: str) -> None:
    if not joined.wait(max(deadline - time.monotonic(), 0)):
        _end_process(text)


def _end_process(text: str) -> None:
    """End this process, whatever its other threads wait for."""
    with contextlib.suppress(OSError, ValueError):
        print(f"error: {text}", file=sys.stderr, flush=True)
    os._exit(EXIT_USER_ERROR)


def _meet(coordinator: str, count: int, number: int, deadline: float) -> None:
    """Wait until all processes are there, each of which tells process 0 its number.

    Raises:
        UserError: some did not come in time; the line names them.
    """
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 2**16):
        raise UserError(f"--coordinator {coordinator} is no HOST:PORT")
    address = host.strip("[]"), int(port)
    if number == 0:
        _gather(address, count, deadline)
        return
    while True:
        try:
            with socket.create_connection(address, timeout=5) as line:
                line.sendall(_GREETING % number)
                line.settimeout(max(deadline - time.monotonic(), 0) + 10)
                answer = line.makefile("rb").readline(_LONGEST_LINE)
        except OSError:
            answer = b""
        if answer == _ALL_HERE:
            return
        if answer:
            raise UserError(answer.decode(errors="replace").strip())
        if time.monotonic() > deadline:
            raise UserError(
                f"process 0 was not there, at {coordinator}, within {JOIN_SECONDS:.0f} s; start all {count} processes by the "
                "same command, each with its own --process"
            )
        time.sleep(0.3)


def _gather(address: tuple[str, int], count: int, deadline: float) -> None:
    """Be process 0 of `_meet`."""
    lines: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as opened:
        try:
            server = opened.enter_context(socket.create_server(address))
        except OSError as error:
            raise UserError(
                f"process 0 cannot listen at {address[0]}:{address[1]} ({error.strerror}); "
                "give --coordinator an address of this machine and a port that is free"
            ) from error
        while len(lines) < count - 1 and time.monotonic() < deadline:
            server.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                line = opened.enter_context(server.accept()[0])
                line.settimeout(5)
                words = line.makefile("rb").readline(_LONGEST_LINE).split()
            except OSError:
                continue
            if len(words) == 2 and words[0] == _GREETING.split()[0] and words[1].isdigit():
                number = int(words[1])
                if 0 < number < count:
                    # One that was started again takes the place of the one before.
                    lines[number] = line
        missing = [str(number) for number in range(1, count) if number not in lines]
        text = ""
        if missing:
            named = f"process {missing[0]}" if len(missing) == 1 else f"processes {', '.join(missing)}"
            text = (
                f"{named} of {count} did not come within {JOIN_SECONDS:.0f} s; start all of them by the same command, "
                "each with its own --process"
            )
        for line in lines.values():
            with contextlib.suppress(OSError):
                line.sendall(text.encode() + b"\n" if text else _ALL_HERE)
    if text:
        raise UserError(text)


def _tell_of_aborts() -> None:
    """Say in one line that process 0 is gone, in place of the stack trace that JAX's C++ code prints and aborts with.

    What C++ code writes to the terminal goes nowhere from now on, while Python's own standard error stays what it was.
    """
    if os.name != "posix":
        return
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)

    ctypes.CDLL(None).signal(signal.SIGABRT, _at_abort)


def _aborted(_: int) -> None:
    if _this_process.get("number") == 0:
        _end_process("a library has aborted process 0; start one process alone to see why")
    _end_process(_gone("process 0, which holds the others together, is"))


# Held, since C code calls it.
_at_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(_aborted)
# This process' number, once it is known.
_this_process: dict[str, int] = {}


def _gone(who: str) -> str:
    return f"{who} gone, so this one ends too; give the same command to all processes to go on"


class _Watch:
    """Tells the others that this process is there, and ends it where another one is not any more.

    Args:
        number: of this process.
        count: how many there are.
    """

    def __init__(self, number: int, count: int) -> None:
        from jax._src import distributed

        self._client: Any = distributed.global_state.client
        self._number, self._count = number, count
        self._ending = threading.Event()
        self._heard = time.monotonic()
        self._states: dict[int, tuple[str, float]] = {
            other: ("", self._heard) for other in range(count) if other != number
        }

    def start(self) -> None:
        """Begin, in two threads: a question to a machine that is gone may never be answered."""
        import atexit

        for work in (self._beat, self._look):
            threading.Thread(target=work, daemon=True).start()
        # Called before what JAX has registered, which waits for the others.
        atexit.register(self._leave, _DONE)
        at_failure(self._fail)

    def _say(self, state: str) -> None:
        self._client.key_value_set(f"{_PREFIX}{self._number}", state, allow_overwrite=True)

    def _try_to_say(self, state: str) -> None:
        with contextlib.suppress(Exception):
            self._say(state)

    def _beat(self) -> None:
        turn = 0
        while not self._ending.wait(BEAT_SECONDS):
            turn += 1
            try:
                self._say(str(turn))
                known = self._client.key_value_dir_get(_PREFIX)
            except Exception:
                if not self._ending.is_set():
                    _end_process(_gone("process 0, which holds the others together, is"))
                return
            self._heard = now = time.monotonic()
            for key, state in known:
                other = int(key.rsplit("/", 1)[-1])
                if other != self._number and state != self._states[other][0]:
                    self._states[other] = state, now

    def _look(self) -> None:
        while not self._ending.wait(BEAT_SECONDS):
            now = time.monotonic()
            if now - self._heard > LOST_SECONDS:
                _end_process(_gone(f"process 0 has not answered for {LOST_SECONDS:.0f} s and is probably"))
            for other, (state, since) in self._states.items():
                if state == _FAILED:
                    _end_process(_gone(f"process {other} of {self._count} has failed or was stopped, and is"))
                if state != _DONE and self._heard - since > LOST_SECONDS:
                    _end_process(
                        _gone(
                            f"process {other} of {self._count} has not been heard of for {LOST_SECONDS:.0f} s and is probably"
                        )
                    )

    def _leave(self, state: str) -> None:
        self._ending.set()
        saying = threading.Thread(target=self._try_to_say, args=(state,), daemon=True)
        saying.start()
        saying.join(BEAT_SECONDS)

    def _fail(self, status: int) -> None:
        """Tell the others that this process fails, and end it: JAX's own end waits for all of them."""
        self._leave(_FAILED)
        if self._number == 0:
            # What it said is lost with it.
            time.sleep(1.5 * BEAT_SECONDS)
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
