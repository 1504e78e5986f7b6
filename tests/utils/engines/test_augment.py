"""Pictures are moved and mirrored, each by itself, evenly, and only where they are trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.stream import Made
from exps.config import Experiment
from utils.engines.augment import PADDING, Augment, mixed, moved
from utils.engines.batch import Batch, Part
from utils.engines.cuda_graph import CudaGraphEngine

CPU = torch.device("cpu")
PLACES = 2 * PADDING + 1
COLOURS: dict[str, Any] = {"benchmark": "cifar", "data": "sample", "scenario": "task"}


def of(augment: str, seed: int = 0) -> Augment:
    return Augment(Experiment(name="Test", augment=augment, seed=seed), CPU)


def by_hand(x: np.ndarray, down: int, right: int, flip: bool) -> np.ndarray:
    """A picture [channels, height, width], pixel by pixel."""
    out = np.zeros_like(x)
    _, height, width = x.shape
    for i in range(height):
        for j in range(width):
            row, column = i + down - PADDING, j + right - PADDING
            if 0 <= row < height and 0 <= column < width:
                out[:, i, width - 1 - j if flip else j] = x[:, row, column]
    return out


@given(
    channels=st.integers(1, 3),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    down=st.integers(0, 2 * PADDING),
    right=st.integers(0, 2 * PADDING),
    flip=st.booleans(),
)
def test_a_picture_is_moved_and_mirrored(
    channels: int, height: int, width: int, down: int, right: int, flip: bool
) -> None:
    x = torch.rand(1, channels, height, width)
    found = moved(x, torch.tensor([down]), torch.tensor([right]), torch.tensor([flip]))
    assert np.array_equal(found[0].numpy(), by_hand(x[0].numpy(), down, right, flip))


def drawn(augment: Augment, n: int) -> Tensor:
    """Which move each of n pictures was given, int64 [n, 3]: found by looking at it."""
    side = 3 * PADDING
    x = torch.arange(1.0, side * side + 1).view(1, 1, side, side)
    every = {
        by_hand(x[0].numpy(), down, right, flip).tobytes(): (down, right, flip)
        for down in range(PLACES)
        for right in range(PLACES)
        for flip in (False, True)
    }
    assert len(every) == 2 * PLACES**2
    return torch.tensor([every[one.tobytes()] for one in augment(x.expand(n, -1, -1, -1)).numpy()])


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_moves_are_even_and_independent(seed: int) -> None:
    """χ² of all 162 of them, and of pairs of pictures one after the other: 99.99 % lie below."""
    n = 162 * 40
    found = drawn(of("crop_flip", seed), n)
    cell = (found[:, 0] * PLACES + found[:, 1]) * 2 + found[:, 2]
    counts = cell.bincount(minlength=162)
    assert float(((counts - 40) ** 2 / 40).sum()) < 161 + 3.72 * (2 * 161) ** 0.5
    for i, places in enumerate((PLACES, PLACES, 2)):
        pairs = (found[:-1, i] * places + found[1:, i]).bincount(minlength=places**2)
        wanted = (n - 1) / places**2
        cells = places**2 - 1
        assert float(((pairs - wanted) ** 2 / wanted).sum()) < cells + 4.5 * (2 * cells) ** 0.5


def test_only_crop_flip_mirrors() -> None:
    found = drawn(of("crop"), 500)
    assert not found[:, 2].any() and len(found[:, :2].unique(dim=0)) == PLACES**2
    assert torch.equal(found[:, :2], drawn(of("crop_flip"), 500)[:, :2])
    assert not torch.equal(drawn(of("crop", seed=1), 50), found[:50])


@given(sizes=st.lists(st.integers(0, 20), max_size=5))
def test_a_picture_is_moved_by_its_number(sizes: list[int]) -> None:
    """However many are seen at a time."""
    x, one, other = torch.rand(sum(sizes), 1, 5, 5), of("crop_flip"), of("crop_flip")
    parts = [one(some) for some in x.split(sizes)] if sizes else [x]
    assert torch.equal(torch.cat(parts), other(x)) and int(one.count) == sum(sizes)


def test_the_numbers_are_those_of_splitmix64() -> None:
    """As its authors' program has them, for the seed 1234567."""
    n = torch.arange(1, 4) * (0x9E3779B97F4A7C15 - 2**64) + 1234567
    wanted = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [z % 2**64 for z in mixed(n).tolist()] == wanted


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize("benchmark", [COLOURS, {}], ids=["cifar", "permuted"])
def test_all_parts_of_a_step_are_moved_and_no_test_is(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str, benchmark: Any
) -> None:
    """Before pixels are permuted, and before they are normalised; generated ones are not."""
    exp = experiment(augment="crop_flip", engine=engine, **benchmark)
    stream, seen = stream_of(exp), []
    net, *_ = built(exp, stream)
    inputs = stream.inputs
    one, two = (task.train.take(slice(8)) for task in stream.training)
    made = Made.of(torch.randint(256, (3, *stream.input_shape), dtype=torch.uint8), torch.ones(3))

    def spy(*args: Any) -> Tensor:
        seen.append(inputs(*args))
        return seen[-1].clone()

    object.__setattr__(stream, "inputs", spy)
    try:
        net.begin_epoch(1)
        net.step(Batch((Part(one, 0), Part(two, 0), Part(Made(*vars(made).values()), 0, 0.0))))
        net.logits(one, 0, training=True)
    finally:
        object.__delattr__(stream, "inputs")
    again = Augment(exp, CPU)
    for found, samples in zip(seen[:2], (one, two), strict=True):
        x = again(stream.train.x[samples.rows].float())
        if stream.permutations is not None:
            x = x.flatten(1)[:, stream.permutations[samples.view]].view_as(x)
        std, mean = (t.view(-1, 1, 1) for t in (stream.std, stream.mean))
        torch.testing.assert_close(found, (x / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert torch.equal(seen[2], inputs(stream.train, made))
    assert torch.equal(seen[3], inputs(stream.train, one)) and int(again.count) == 16


class Again:
    """A recorder that keeps the step itself."""

    def warm_up(self, step: Callable[[], None]) -> None:
        step()

    def record(self, step: Callable[[], None]) -> Callable[[], None]:
        return step


def test_a_recorded_step_draws_anew(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(augment="crop", sparsify=False, dropout=0.0)
    stream = stream_of(exp)
    plain, *_ = built(exp, stream)
    other, *_ = built(exp, stream)
    recorded = CudaGraphEngine(exp, other.model, stream, CPU, Again())
    for engine in (plain, recorded):
        engine.begin_epoch(6)
        for i in range(6):
            engine.step(Batch.of(stream.training[0].train.take(slice(32 * i, 32 * i + 32)), 0))
    assert recorded.recorded.replay is not None
    for a, b in zip(plain.model.parameters(), recorded.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert int(plain.augment.count) == int(recorded.augment.count) == 6 * 32


def test_engines_that_cannot_leave_it_to_others(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    few = {"hidden_units": 256, "percent_on_fc": 1 / 64}
    exp = experiment(**few)
    assert built(exp, stream_of(exp))[0].name == "sparse"
    for keys in (
        {"augment": "crop"},
        {"lr_schedule": "cosine"},
        {"lr_warmup": 3},
        {"clip_norm": 1.0},
        {"label_smoothing": 0.1},
    ):
        other = replace(exp, **keys)
        engine, *_ = built(other, stream_of(other))
        assert engine.name == "dense"
        assert engine.why_not_faster == f"sparse: it knows nothing of {next(iter(keys))}"
