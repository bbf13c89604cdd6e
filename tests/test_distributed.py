"""Two processes joined by `jax.distributed` train the network that one process with two devices trains."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
WORKER = "distributed-worker"


def fitted(folder: Path | None):
    """Train a small 1D network on all devices of all processes."""
    from sfxjax.models.stem import BaseConfig
    from sfxjax.training.config import TrainingConfig
    from sfxjax.training.loop import Validation, fit
    from sfxjax.training.step import Domains

    rng = np.random.default_rng(0)
    positive = np.arange(24) % 3 == 0
    source = (rng.normal(size=(24, 40, 1)) + positive[:, None, None]).astype(np.float32)
    target = (0.6 * rng.normal(size=(24, 40, 1)) + 0.3).astype(np.float32)
    base = BaseConfig(dimensions=1, channels=(3, 4), features=5, dropout=0.1)
    recipe = TrainingConfig(base=base, epochs=2, steps_per_epoch=3, batch=8)
    data = Domains(source, positive.astype(np.float32), target)
    return fit(recipe, data, Validation(source, positive, target), folder)


def leaves(result) -> list[np.ndarray]:
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves((result.params, result.batch_stats))]


def work(port: int, process: int, folder: Path) -> None:
    """Run one of the two processes."""
    import jax

    import sfxjax.training.loop
    from sfxjax.errors import UserError
    from sfxjax.processes import join_processes
    from sfxjax.training.distributed import check_same_start

    options = argparse.Namespace(
        distributed=True, coordinator=f"127.0.0.1:{port}", processes=2, process=process
    )
    assert join_processes(options) == (process, 2)
    assert len(jax.devices()) == 2 and len(jax.local_devices()) == 1
    if process == 1:

        def refuse(*_: object) -> None:
            raise AssertionError("only process 0 may write")

        sfxjax.training.loop.write_checkpoint = refuse  # type: ignore[assignment]
    result = fitted(folder / "checkpoints")
    # The second time there is nothing left to train: both read what process 0 has written.
    again = fitted(folder / "checkpoints")
    assert again.history == result.history and again.epoch == result.epoch
    for one, other in zip(leaves(result), leaves(again), strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(UserError, match="different epochs"):
        check_same_start(process)
    np.savez(folder / f"{process}.npz", *leaves(result))
    (folder / f"{process}.json").write_text(json.dumps(result.history))


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    import jax

    assert len(jax.devices()) == 2
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY)}
    started = [
        subprocess.Popen(
            [sys.executable, __file__, WORKER, str(port), str(process), str(tmp_path)],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(2)
    ]
    try:
        alone = fitted(None)
        said = [process.communicate(timeout=240)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], said
    for process in range(2):
        with np.load(tmp_path / f"{process}.npz") as stored:
            for found, expected in zip(stored.values(), leaves(alone), strict=True):
                np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)
        history = json.loads((tmp_path / f"{process}.json").read_text())
        for found, expected in zip(history, alone.history, strict=True):
            assert found == pytest.approx(expected, rel=1e-4)


if __name__ == "__main__" and sys.argv[1] == WORKER:
    work(int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
