from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.apart import held_out
from benchmarks.stream import (
    Blends,
    Made,
    Pictures,
    Samples,
    TaskStream,
    build_stream,
    joint,
)

SCENARIOS = ("domain", "task", "class")
LABELS = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])


def make_pictures(channels: int = 1) -> Pictures:
    x = torch.arange(8 * channels * 4, dtype=torch.uint8).view(8, channels, 2, 2)
    return Pictures(x, LABELS)


def make(scenario: str = "task", **changes) -> TaskStream:
    """Four classes, two pictures of each, in two tasks: labels 2 and 0, then 3 and 1."""
    values = {
        "views": [(2, 0), (3, 1)],
        "scenario": scenario,
        "mean": (0.0,),
        "std": (1.0,),
        "source": "made up",
        "names": ["even", "odd"],
    }
    pictures = make_pictures(changes.pop("channels", 1))
    return build_stream(pictures, pictures, **(values | changes))


def permuted(scenario: str = "domain") -> TaskStream:
    views = [(0, 1, 2, 3)] * 2
    return make(scenario, views=views, permutations=torch.tensor([[3, 2, 1, 0], [1, 0, 3, 2]]))


def test_samples_keep_a_view_each_when_taken():
    one = Samples(torch.tensor([5, 6, 7]), 1).take(torch.tensor([2, 0]))
    assert one.rows.tolist() == [7, 5] and one.view == 1
    each = Samples(torch.tensor([5, 6, 7]), torch.tensor([0, 1, 2])).take(slice(1, None))
    assert each.rows.tolist() == [6, 7] and each.view.tolist() == [1, 2]
    assert len(each) == 2


@pytest.mark.parametrize(
    ("scenario", "heads", "second"),
    [("domain", (2,), [1, 0, 1, 0]), ("task", (2, 2), [1, 0, 1, 0]), ("class", (4,), [3, 2, 3, 2])],
)
def test_outputs_follow_the_scenario(scenario, heads, second):
    stream = make(scenario)
    even, odd = stream.tasks
    assert stream.head_sizes == heads
    assert even.train.rows.tolist() == [0, 2, 4, 6] and odd.train.rows.tolist() == [1, 3, 5, 7]
    assert stream.labels(stream.train, even.train).tolist() == [1, 0, 1, 0]
    assert stream.labels(stream.train, odd.train).tolist() == second
    assert stream.training == stream.tasks and even.outputs is None


def test_labels_outside_a_view_have_no_output():
    assert make("domain").targets.tolist() == [[1, -1, 0, -1], [-1, 1, -1, 0]]


def test_inputs_are_normalised_by_channel():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    stream = make(channels=3, mean=mean, std=std)
    inputs = stream.inputs(stream.train, stream.tasks[1].train)
    expected = stream.train.x[1::2] / 255 - torch.tensor(mean).view(3, 1, 1)
    torch.testing.assert_close(inputs, expected / torch.tensor(std).view(3, 1, 1))
    assert stream.input_shape == (3, 2, 2)


def test_inputs_are_permuted_as_their_view_says():
    stream = permuted()
    pixels = stream.inputs(stream.train, stream.tasks[1].train.take(slice(1))) * 255
    torch.testing.assert_close(pixels, torch.tensor([[[[1.0, 0.0], [3.0, 2.0]]]]))


def test_a_view_each_gives_what_one_view_gives():
    stream = permuted()
    rows, views = torch.tensor([0, 3, 3]), torch.tensor([1, 0, 1])
    mixed = stream.inputs(stream.train, Samples(rows, views))
    for i, (row, view) in enumerate(zip(rows, views.tolist(), strict=True)):
        alone = stream.inputs(stream.train, Samples(row.view(1), view))
        assert torch.equal(mixed[i : i + 1], alone)


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("build", [make, permuted])
def test_joint_trains_on_every_sample_of_every_task(build, scenario):
    stream = build(scenario)
    (union,) = joint(stream).training
    assert len(union.train) == sum(len(task.train) for task in stream.training)
    inputs = joint(stream).inputs(stream.train, union.train)
    parts = [stream.inputs(stream.train, task.train) for task in stream.training]
    assert torch.equal(inputs, torch.cat(parts))


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("build", [make, permuted])
def test_joint_scores_every_task_by_its_own_outputs(build, scenario):
    stream = joint(build(scenario))
    assert len(stream.head_sizes) == 1
    for task in stream.tasks:
        right = set(stream.labels(stream.test, task.test).tolist())
        allowed = set(range(stream.head_sizes[0]) if task.outputs is None else task.outputs)
        assert right <= allowed and task.head == 0
        assert (right == allowed) or scenario != "task"
    (union,) = stream.training
    assert set(stream.labels(stream.train, union.train).tolist()) == set(range(*stream.head_sizes))


def test_joint_gives_every_class_of_every_task_an_output_of_its_own():
    stream = joint(make("task"))
    assert stream.head_sizes == (4,)
    assert [task.outputs for task in stream.tasks] == [(0, 1), (2, 3)]
    assert stream.targets.tolist() == [[1, -1, 0, -1], [-1, 3, -1, 2]]


def test_tasks_with_the_same_labels_share_their_rows():
    stream = permuted()
    assert stream.tasks[0].train.rows is stream.tasks[1].train.rows
    moved = stream.to(torch.device("meta"))
    assert moved.tasks[0].train.rows is moved.tasks[1].train.rows
    assert moved.training[0].train.rows is moved.tasks[0].train.rows
    moved = held_out(stream, 0.5, 0).to(torch.device("meta"))
    assert moved.test.x is moved.train.x  # a device holds pictures once


@pytest.mark.parametrize("build", [make, permuted, lambda: joint(permuted())])
def test_everything_moves_to_a_device(build):
    moved = build().to(torch.device("meta"))
    samples = [s for t in moved.training + moved.tasks for s in (t.train, t.test)]
    views = [s.view for s in samples if isinstance(s.view, torch.Tensor)]
    pictures = [moved.train.x, moved.train.y, moved.test.x, moved.test.y]
    others = [moved.targets, moved.mean, moved.std, moved.permutations]
    for tensor in [*pictures, *others, *views, *(s.rows for s in samples)]:
        assert tensor is None or tensor.device.type == "meta"
    one = Samples(torch.tensor([0]), 3).through(lambda tensor: tensor.to("meta"))
    assert one.rows.device.type == "meta" and one.view == 3


def held(stream: TaskStream, share: float = 0.5, seed: int = 0) -> list[set[bytes]]:
    """The pictures of each task that are tested on instead of trained on."""
    tasks = held_out(stream, share, seed).tasks
    return [{bytes(x.numpy()) for x in stream.train.x[task.test.rows]} for task in tasks]


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0.01, 0.99), st.integers(0, 99))
def test_every_class_goes_both_ways(first: int, second: int, share: float, seed: int) -> None:
    y = torch.tensor([0] * first + [1] * second)  # as an archive of folders gives them
    pictures = Pictures(torch.arange(len(y), dtype=torch.uint8).view(-1, 1, 1, 1), y)
    (task,) = held_out(stream_of(pictures), share, seed).tasks
    for label, n in ((0, first), (1, second)):
        tested = int((y[task.test.rows] == label).sum())
        trained = int((y[task.train.rows] == label).sum())
        assert tested + trained == n and trained >= 1
        assert tested >= 1 or n == 1
        assert abs(tested - n * share) <= 1
    assert torch.equal(task.train.rows.sort().values, task.train.rows)


def test_the_seed_draws_what_is_held_out_and_the_order_does_not() -> None:
    y = torch.arange(200) % 4
    pictures = Pictures(torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1), y)
    order = y.argsort(stable=True)
    in_order = Pictures(pictures.x[order], y[order])
    assert held(stream_of(pictures)) == held(stream_of(in_order))
    assert held(stream_of(pictures)) != held(stream_of(pictures), seed=1)
    # Where classes are in other tasks, the same pictures of each are held out.
    apart = build_stream(pictures, pictures, [(0, 1), (2, 3)], names=["a", "b"], **MADE_UP)
    assert set.union(*held(apart)) == held(stream_of(pictures))[0]


def test_tasks_that_share_rows_share_what_is_held_out() -> None:
    first, second = held_out(permuted(), 0.5, seed=0).tasks
    assert first.train.rows is second.train.rows and first.test.rows is second.test.rows
    assert (first.train.view, second.test.view) == (0, 1)


MADE_UP = {"scenario": "domain", "mean": (0.0,), "std": (1.0,), "source": "made up"}


def stream_of(pictures: Pictures) -> TaskStream:
    """One task with all the classes of these pictures."""
    view = tuple(pictures.y.unique().tolist())
    return build_stream(pictures, pictures, [view], names=["all"], **MADE_UP)


def test_float_pictures_are_in_their_own_units():
    x = torch.randn(8, 3, 2, 2)
    mean, std = (0.1, -20.0, 3.0), (0.5, 0.25, 2.0)
    pictures = Pictures(x, LABELS)
    stream = build_stream(
        pictures,
        pictures,
        [(0, 1), (2, 3)],
        scenario="task",
        mean=mean,
        std=std,
        source="made up",
        names=["one", "two"],
    )
    inputs = stream.inputs(pictures, stream.tasks[1].train)
    expected = x[LABELS >= 2] - torch.tensor(mean).view(3, 1, 1)
    torch.testing.assert_close(inputs, expected / torch.tensor(std).view(3, 1, 1))
    made = Made.of(x, LABELS)
    torch.testing.assert_close(stream.inputs(pictures, made)[LABELS >= 2], inputs)
    assert torch.equal(made.x, x) and stream.grain == 0
    sent = held_out(stream, 0.5, 0)
    assert sum(len(task.test) for task in sent.tasks) == 4


def test_blended_pixels_are_sums_of_four():
    """One view for all pictures, or one each, to the bit; then no input is a grey level."""
    draw = torch.Generator().manual_seed(0)
    places = torch.randint(0, 4, (2, 4, 4), generator=draw)
    shares = torch.rand(2, 4, 4, generator=draw)
    blends = Blends(places, shares)
    stream = make("domain", channels=3, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), blends=blends)
    rows, views = torch.tensor([5, 0, 7]), torch.tensor([1, 0, 1])
    found = stream.inputs(stream.train, Samples(rows, views))
    for i, (row, view) in enumerate(zip(rows.tolist(), views.tolist(), strict=True)):
        x = stream.train.x[row].double().flatten(1) / 255
        expected = sum(x[:, places[view, k]] * shares[view, k] for k in range(4))
        mean, std = stream.mean.view(3, 1), stream.std.view(3, 1)
        torch.testing.assert_close(found[i].flatten(1), ((expected - mean) / std).float())
        alone = stream.inputs(stream.train, Samples(rows[i : i + 1], view))
        assert torch.equal(found[i : i + 1], alone)
    plain = make("domain", blends=blends)
    assert plain.grain == 0 and make("domain").grain == 1 / 255
    assert plain.to(torch.device("cpu")).blends is not None
