from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks import make_stream
from benchmarks.boundaries import blurry, mixed
from benchmarks.stream import Pictures, Samples, TaskStream, among_seen, build_stream

SIZES = st.lists(st.integers(2, 60), min_size=2, max_size=5)
SEEDS = st.integers(0, 2**32 - 1)
DIGITS = {"benchmark": "digits", "num_batch": 5, "scenario": "class"}


def classes(sizes: list[int]) -> TaskStream:
    """A class a task, so many pictures of each, in a shuffled order."""
    y = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    y = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    pictures = Pictures(torch.zeros(len(y), 1, 1, 1, dtype=torch.uint8), y)
    views = [(label,) for label in range(len(sizes))]
    names = [str(label) for label in range(len(sizes))]
    about = {"mean": (0.0,), "std": (1.0,), "source": "made up", "names": names}
    return build_stream(pictures, pictures, views, scenario="class", **about)


def views(samples: Samples) -> Tensor:
    return torch.as_tensor(samples.view).expand(len(samples))


def used(stream: TaskStream) -> list[tuple[int, int]]:
    """Every picture that is trained, with its view, in order."""
    return [
        pair
        for task in stream.training
        for pair in zip(task.train.rows.tolist(), views(task.train).tolist(), strict=True)
    ]


@given(SIZES, st.floats(0, 1), SEEDS)
def test_neighbours_exchange_half_of_the_share_of_the_smaller(
    sizes: list[int], share: float, seed: int
) -> None:
    stream = blurry(classes(sizes), share, seed)
    gone = [int(share / 2 * min(pair)) for pair in pairwise(sizes)]
    for i, (task, size) in enumerate(zip(stream.training, sizes, strict=True)):
        before, after = ([0, *gone][i], [*gone, 0][i])
        expected = {i - 1: before, i: size - before - after, i + 1: after}
        assert Counter(views(task.train).tolist()) == {k: n for k, n in expected.items() if n}
        # A view each still tells the right output.
        assert torch.equal(stream.labels(stream.train, task.train), views(task.train))
    assert sorted(used(stream)) == sorted(used(classes(sizes)))
    assert [len(task.test) for task in stream.tasks] == sizes


@given(SIZES, SEEDS)
def test_random_parts_are_equal_and_use_every_picture_once(sizes: list[int], seed: int) -> None:
    stream = mixed(classes(sizes), seed)
    found = [len(task.train) for task in stream.training]
    assert max(found) - min(found) <= 1
    assert sorted(used(stream)) == sorted(used(classes(sizes)))


def test_random_parts_have_all_classes_in_proportion() -> None:
    stream = mixed(classes([4000, 2000, 2000]), 3)
    for task in stream.training:
        shares = views(task.train).bincount() / len(task.train)
        torch.testing.assert_close(shares, torch.tensor([0.5, 0.25, 0.25]), atol=0.04, rtol=0)


@given(SEEDS, SEEDS)
def test_the_seed_alone_draws(one: int, other: int) -> None:
    torch.manual_seed(other)
    for make in (partial(blurry, classes([50] * 3), 0.6), partial(mixed, classes([75] * 2))):
        assert used(make(one)) == used(make(one))
        assert one == other or used(make(one)) != used(make(other))


def test_more_tasks_leave_what_the_first_ones_exchange() -> None:
    few, many = (blurry(classes([40] * n), 0.5, 1).training for n in (3, 5))
    assert [set(views(t.train).tolist()) for t in few[:2]] == [{0, 1}, {0, 1, 2}]
    assert [set(views(t.train).tolist()) for t in many[1:3]] == [{0, 1, 2}, {1, 2, 3}]


def test_a_blur_of_nothing_is_a_sharp_boundary(make_exp: Callable) -> None:
    sharp = make_stream(make_exp(**DIGITS))
    none = make_stream(make_exp(**DIGITS, stream="blurry", blur=0.0))
    assert used(none) == used(sharp)
    for a, b in zip(sharp.training, none.training, strict=True):
        assert torch.equal(
            sharp.inputs(sharp.train, a.train), none.inputs(none.train, b.train)
        ) and torch.equal(sharp.labels(sharp.train, a.train), none.labels(none.train, b.train))


@pytest.mark.parametrize("tasks", ["permute", "rotate"])
@pytest.mark.parametrize("stream", ["blurry", "random"])
def test_pictures_are_seen_as_their_own_task_sees_them(
    make_exp: Callable, stream: str, tasks: str
) -> None:
    keys = {**DIGITS, "tasks": tasks, "num_batch": 3, "scenario": "domain"}
    sharp = make_stream(make_exp(**keys))
    soft = make_stream(make_exp(**keys, stream=stream, blur=0.5))
    assert sorted(used(soft)) == sorted(used(sharp)) and used(soft) != used(sharp)
    for task in soft.training:
        assert len(views(task.train).unique()) > 1
        for view in views(task.train).unique().tolist():
            some = task.train.take((views(task.train) == view).nonzero().flatten())
            alone = sharp.inputs(sharp.train, Samples(some.rows, view))
            assert torch.equal(soft.inputs(soft.train, some), alone)


@pytest.mark.parametrize("stream", ["blurry", "random"])
def test_what_is_held_out_is_not_trained(make_exp: Callable, stream: str) -> None:
    found = make_stream(make_exp(**DIGITS, stream=stream, blur=0.5, validation=0.3))
    tested = torch.cat([task.test.rows for task in found.tasks])
    trained = torch.cat([task.train.rows for task in found.training])
    assert sorted(torch.cat([tested, trained]).tolist()) == list(range(len(found.train.y)))


def test_cumulative_training_knows_no_boundaries(make_exp: Callable) -> None:
    plain = make_stream(make_exp(**DIGITS, cumul=True))
    found = make_stream(make_exp(**DIGITS, cumul=True, stream="random"))
    assert used(found) == used(plain)


@given(SIZES, st.floats(0, 1), SEEDS, st.booleans())
def test_outputs_are_seen_as_soon_as_pictures_of_them_come(
    sizes: list[int], share: float, seed: int, soft: bool
) -> None:
    stream = classes(sizes)
    found = among_seen(blurry(stream, share, seed) if soft else mixed(stream, seed))
    most = 0
    for task, tested in zip(found.training, found.tasks, strict=True):
        most = max(most, int(views(task.train).max()) + 1)
        assert task.among == tested.among == most
