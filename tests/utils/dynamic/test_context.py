"""Which units a context gets, and which context a picture."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from utils.dynamic.context import Contexts, nearest


def contexts(tasks: int, width: int, size: int, overlap: float = 0.0) -> Contexts:
    return Contexts(
        tasks, 3, 1, width=width, size=size, overlap=overlap, device=torch.device("cpu")
    )


def test_fresh_units_are_those_that_won_least() -> None:
    some = contexts(2, width=6, size=2)
    some.recruit([torch.tensor([0.5, 0.0, 0.3, 0.1, 0.9, 0.2])], seed=0)
    some.recruit([torch.tensor([0.5, 0.9, 0.3, 0.1, 0.9, 0.2])], seed=0)
    assert some.units[:, 0].tolist() == [[1, 3], [2, 5]]


def test_a_share_is_taken_over_from_earlier_contexts() -> None:
    some = contexts(2, width=8, size=4, overlap=0.5)
    for _ in range(2):
        some.recruit([torch.linspace(0, 1, 8)], seed=0)
    assert some.units[:, 0].tolist() == [[0, 1, 2, 3], [0, 1, 4, 5]]


@given(
    tasks=st.integers(1, 6), size=st.integers(1, 5), overlap=st.sampled_from([0.0, 0.3, 0.5, 1.0])
)
def test_units_are_shared_out_evenly(tasks: int, size: int, overlap: float) -> None:
    """Whatever is asked for, a context has `size` different units; none twice before all once."""
    some = contexts(tasks, width=8, size=size, overlap=overlap)
    for _ in range(tasks):
        some.recruit([torch.zeros(8)], seed=3)
    assert all(len(set(row)) == size for row in some.units[:, 0].tolist())
    used = some.units[:, 0].flatten().bincount(minlength=8)
    if overlap == 0:
        assert used.max() - used.min() <= 1


def test_the_prototype_is_the_mean_of_all_pictures() -> None:
    some = contexts(2, width=4, size=2)
    some.recruit([torch.zeros(4)], seed=0)
    pictures = torch.rand(7, 3)
    some.learn(0, pictures[:5])
    some.learn(0, pictures[5:])
    torch.testing.assert_close(some.prototypes(), pictures.mean(0, keepdim=True))


def test_nearest_is_the_smallest_distance() -> None:
    x, prototypes = torch.randn(50, 9), torch.randn(6, 9)
    assert torch.equal(nearest(x, prototypes), torch.cdist(x, prototypes).argmin(1))
