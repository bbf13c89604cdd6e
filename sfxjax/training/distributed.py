"""Training one network in several processes, each with its own devices, joined by `jax.distributed`.

Every process runs the same program on the same data; each step's batch is shared by all devices, and gradients and batch
statistics are averaged over them. Only process 0 writes.
"""

from __future__ import annotations

import jax
import numpy as np

from sfxjax.errors import UserError


def writes() -> bool:
    """Tell whether this process is the one that writes files."""
    return jax.process_index() == 0


def check_same_start(epoch: int) -> None:
    """Make sure that all processes begin at the same epoch, as they do where they read the same checkpoints.

    Args:
        epoch: how many this process takes to be done.

    Raises:
        UserError: another process takes more or fewer to be done.
    """
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    epochs = np.ravel(multihost_utils.process_allgather(np.int32(epoch)))
    if np.any(epochs != epochs[0]):
        raise UserError(
            f"the processes found checkpoints of different epochs ({', '.join(map(str, epochs))}); "
            "give them an output folder that all of them see"
        )


def wait_for_all(where: str) -> None:
    """Wait until all processes are here, so that what process 0 has written before can be read after.

    Args:
        where: names the place; it is the same in all processes.
    """
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
