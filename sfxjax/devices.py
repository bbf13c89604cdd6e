"""Which devices a program runs on, simulated ones for checks among them, and memory on the way to them.

A program's main calls these before anything computes: JAX counts its devices once.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfxjax.errors import UserError

if TYPE_CHECKING:
    import jax

# JAX's own arrays begin at a multiple of so many bytes.
_ALIGNED = 64


def simulate_devices(count: int) -> None:
    """Have JAX show the processor as so many devices, to check what many accelerators would compute.

    Args:
        count: of devices, which share the processor's cores.

    Raises:
        UserError: fewer than one, or JAX has counted its devices already.
    """
    if count < 1:
        raise UserError(f"{count} devices make no sense; give at least 1")
    import jax

    # The older way to say the same contradicts the newer one.
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = re.sub(r"--xla_force_host_platform_device_count=\S*", "", flags).strip()
    try:
        jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:
        pass
    if jax.default_backend() != "cpu" or len(jax.devices()) != count:
        raise UserError("the devices have been counted already; ask for simulated ones before anything else")


def device_line() -> str:
    """Name the devices that JAX computes on; with a warning where a GPU of this machine is not among them."""
    import jax

    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        kinds = ", ".join(
            f"{count} {kind}" for kind, count in Counter(d.device_kind for d in devices).items()
        )
        return f"computing on {devices[0].platform}: {kinds}"
    line = f"computing on the processor, {os.cpu_count() or 1} cores"
    if Path("/dev/nvidia0").exists() and os.environ.get("JAX_PLATFORMS", "") != "cpu":
        line += "; this machine has a GPU that JAX does not see: pip install 'sfxjax[cuda]'"
    return line


def free_memory() -> int | None:
    """Return the bytes of memory that this process may still take, as far as the system tells; None: it does not."""
    found = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]))
    # Of a container or a batch job.
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())
        found.append(limit - int((group / "memory.current").read_text()))
    return max(min(found), 0) if found else None


def trainings_at_once(wanted: int) -> int:
    """Return how many trainings may run in threads of one process: as many as wanted on one device, else one.

    Each training takes all devices, and of two that wait for all devices each may hold some.
    """
    import jax

    return wanted if jax.device_count() == 1 else 1


def memory_for_device(shape: tuple[int, ...], dtype: np.dtype | type) -> np.ndarray:
    """Return an array, its values undefined, that JAX on a processor reads where it lies, and copies to an accelerator.

    It copies those that do not begin at a multiple of 64 bytes, as NumPy's own seldom do.
    """
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    whole = np.empty(size + _ALIGNED, np.uint8)
    first = -whole.ctypes.data % _ALIGNED
    return whole[first : first + size].view(dtype).reshape(shape)


class HostBuffer:
    """Memory of the host for arrays on their way to a device.

    An accelerator copies by itself from memory that is locked in place, two to three times as fast as from other memory, but
    only where JAX holds it as an array of its own.

    Args:
        shape: of `array`, whose values are undefined at first.
        dtype: of it.
        device: that the array is for.

    Attributes:
        array: the memory. It may be written to again once whatever reads the copy on the device is done.
    """

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype, device: jax.Device) -> None:
        import jax

        self.array = memory_for_device(shape, dtype)
        self._held: jax.Array | None = None
        if device.platform == "cpu":
            return
        try:
            place = jax.sharding.SingleDeviceSharding(device, memory_kind="pinned_host")
            held = jax.block_until_ready(jax.device_put(self.array, place))
            address = held.unsafe_buffer_pointer()
        except (ValueError, NotImplementedError, RuntimeError):
            return
        buffer = (ctypes.c_byte * self.array.nbytes).from_address(address)
        # The memory is free again when nothing holds the array any more.
        buffer.held = held  # type: ignore[attr-defined]
        self.array = np.ctypeslib.as_array(buffer).view(dtype).reshape(shape)
        self._held = held

    def put(self, place: jax.sharding.Sharding) -> jax.Array:
        """Start copying what `array` holds to the device.

        Args:
            place: over the device alone.
        """
        import jax

        if self._held is None:
            return jax.device_put(self.array, place)
        return jax.device_put(self._held, place.with_memory_kind("device"))


class HostBuffers:
    """Buffers for batches on their way to a device, used again: new pages cost more than what is copied to them.

    Threads may share it.

    Args:
        device: see `HostBuffer`.
    """

    def __init__(self, device: jax.Device) -> None:
        self._device = device
        self._free: list[HostBuffer] = []
        self._lock = threading.Lock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> HostBuffer:
        """Return a buffer that nobody uses."""
        with self._lock:
            for place, buffer in enumerate(self._free):
                if buffer.array.shape == shape and buffer.array.dtype == dtype:
                    return self._free.pop(place)
        return HostBuffer(shape, dtype, self._device)

    def give_back(self, buffer: HostBuffer) -> None:
        """Take back a buffer that may be written to again."""
        with self._lock:
            self._free.append(buffer)
