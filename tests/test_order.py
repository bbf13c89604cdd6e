"""Numbers at a place of the sorted order, against NumPy's sort."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from sfxjax.order import at_place, highest_of_each, median_of_known


@pytest.fixture(params=["cpu", "gpu"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to find digits; the computing is on the processor either way."""
    monkeypatch.setattr(jax, "default_backend", lambda: request.param)
    return request.param


def _numbers(count: int) -> np.ndarray:
    numbers = np.exp(np.random.default_rng(0).normal(0, 20, count)).astype(np.float32)
    numbers[:7] = [0, 0, np.inf, 1e-38, np.finfo(np.float32).max, 3, 3]
    return numbers


def test_the_number_at_each_place_is_that_of_the_sorted_order(backend):
    numbers = _numbers(60)
    found = jax.jit(jax.vmap(at_place, (None, 0)))(numbers, np.arange(60))
    np.testing.assert_array_equal(found, np.sort(numbers))


@pytest.mark.parametrize("unknown", [0, 1, 2, 37, 60])
def test_the_median_is_numpys_of_what_is_known(backend, unknown):
    numbers = np.random.default_rng(1).gamma(1, 3, 60).astype(np.float32)
    numbers[:unknown] = np.nan
    expected = np.nan if unknown == 60 else np.nanmedian(numbers)
    np.testing.assert_allclose(jax.jit(median_of_known)(numbers), expected, rtol=1e-6)


def test_highest_numbers_of_rows_with_equal_ones_among_them():
    rows = np.random.default_rng(2).integers(-3, 9, (20, 17)).astype(np.float32)
    rows[3], rows[4, :5] = 2, np.inf
    places = (0, 1, 2, 8, 16)
    np.testing.assert_array_equal(
        jax.jit(highest_of_each, static_argnums=1)(rows, places), -np.sort(-rows, axis=1)[:, places]
    )
