"""Compiled winners of filters are those of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba", reason="compiled layers need numba")

from models.filters import Pooled
from utils.engines.compiled.pooled import PooledLoops, nth_largest, threshold

VALUES = st.lists(st.integers(-5, 5), min_size=1, max_size=40)


@given(values=VALUES, data=st.data())
def test_the_nth_largest(values: list[int], data: st.DataObject) -> None:
    n = data.draw(st.integers(0, len(values) - 1))
    some = np.array([*values, 100], np.float32)
    assert nth_largest(some, len(values), n) == sorted(values, reverse=True)[n]


@given(values=VALUES, data=st.data(), guess=st.floats(-10, 10, width=32))
def test_a_guess_changes_no_threshold(values: list[int], data: st.DataObject, guess: float) -> None:
    k, row = data.draw(st.integers(0, len(values) - 1)), np.array(values, np.float32)
    found = threshold(row, k, np.float32(guess), np.empty(len(row) + 1, np.float32))
    assert found == sorted(values, reverse=True)[k]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("filters", "k"), [(1, 1), (20, 0), (20, 20), (33, 4), (33, 50), (300, 12)]
)
@pytest.mark.parametrize(("rows", "columns", "grid"), [(1, 1, 1), (5, 7, 2), (9, 9, 4)])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("signs", [False, True])
def test_loops_are_what_torch_computes(
    dtype: torch.dtype,
    filters: int,
    k: int,
    rows: int,
    columns: int,
    grid: int,
    ties: bool,
    signs: bool,
) -> None:
    torch.manual_seed(filters + k)
    plain = Pooled(filters, k, rows, columns, grid, signs=signs, views=2)
    r = torch.randn(17, 2 * rows * columns, filters)
    r = (r.mul(2).round() if ties else r).to(dtype).transpose(1, 2)
    torch.testing.assert_close(PooledLoops(plain)(r), plain(r), rtol=1e-5, atol=1e-6)
