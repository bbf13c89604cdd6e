"""Memory on the way to a device."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from sfxjax.devices import memory_for_device


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_memory_for_a_device_begins_where_jax_needs_no_copy_of_it(dtype: str) -> None:
    # Held, so that each has memory of its own.
    arrays = [memory_for_device((edge, 7, 5), dtype) for edge in range(1, 30)]
    for number, array in enumerate(arrays):
        array[:] = number
    for number, array in enumerate(arrays):
        assert array.dtype == np.dtype(dtype) and array.shape == (number + 1, 7, 5)
        assert array.flags.c_contiguous and array.ctypes.data % 64 == 0
        np.testing.assert_array_equal(jax.device_put(array), np.full(array.shape, number, dtype))
