"""plain_data.plain: what passes, what is refused, and how the place is named."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest
import torch

from utils.results import plain_data
from utils.results.plain_data import MAX_DEPTH, NotPlainError, plain


def nested(levels: int) -> list:
    value: list = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_plain_data_is_copied_into_new_containers() -> None:
    value = {"a": [1, 2.5, None, True], "b": (b"x", "text"), 3: np.float32(2)}
    copy = plain(value)
    assert copy == value
    assert copy is not value
    assert copy["a"] is not value["a"]


def test_what_occurs_twice_stays_one_object() -> None:
    row = [1, 2]
    copy = plain([row, row])
    assert copy[0] is copy[1]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0, torch.zeros(2)]}, r"^\['a'\]\[1\]: torch.Tensor is not plain"),
        ({"a": OrderedDict()}, r"^\['a'\]: collections.OrderedDict is not plain"),
        ([np.array([object()])], r"^\[0\]: numpy.ndarray of dtype object is not plain"),
        ([np.zeros(1, "f4,i4")], "not plain"),
        ([np.datetime64(1, "s")], "not plain"),
        ([np.longdouble(1)], "not plain"),
        ([np.ma.zeros(2)], "not plain"),
        ([{1, 2}], r"^\[0\]: builtins.set is not plain"),
        ({"a": {(1, 2): 0}}, r"^\['a'\]: a dict key of type tuple: use text"),
        ({2**63: 0}, "a dict key of type int"),
        ({1.5: 0}, "a dict key of type float"),
        (len, "builtins.builtin_function_or_method is not plain"),
    ],
)
def test_anything_else_is_refused_and_its_place_named(value: object, message: str) -> None:
    if np.longdouble(0).itemsize == 8 and isinstance(value, list) and value[0] is np.longdouble:
        pytest.skip("needs a longdouble that is longer than a double")
    with pytest.raises(NotPlainError, match=message):
        plain(value)


def test_depth_is_limited() -> None:
    assert plain(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(NotPlainError, match="levels deep"):
        plain(nested(MAX_DEPTH + 1))


def test_depth_counts_along_the_longest_way_even_when_parts_are_known_already() -> None:
    parts: list = [[]]
    for _ in range(MAX_DEPTH):
        parts.append([parts[-1]])
    with pytest.raises(NotPlainError, match="levels deep"):
        plain(parts)


def test_a_list_inside_itself_is_refused() -> None:
    loop: list = []
    loop.append(loop)
    with pytest.raises(NotPlainError, match="in itself"):
        plain(loop)


def test_values_are_counted_as_if_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_data, "MAX_VALUES", 1000)
    assert len(plain([0] * 999)) == 999
    bomb: list = [0] * 10
    for _ in range(3):
        bomb = [bomb] * 10
    with pytest.raises(NotPlainError, match="more than 1,000 values"):
        plain(bomb)
