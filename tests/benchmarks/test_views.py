"""Turned pictures against scipy, and permutations of pictures with channels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from benchmarks.formats import Arrays
from benchmarks.stream import Samples
from benchmarks.views import permuted_stream, rotated_stream, rotations
from exps.experiment import Experiment
from exps.facts import Facts

UNITS: dict[str, Any] = {"mean": (0.0,), "std": (1.0,)}


def turned(x: np.ndarray, angle: float) -> np.ndarray:
    """By `rotations`, float64 [height, width]."""
    blends = rotations(torch.tensor([angle], dtype=torch.float64), *x.shape)
    places, shares = (part[0].numpy() for part in blends)
    return (x.ravel()[places] * shares).sum(0).reshape(x.shape)


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 360), st.integers(0, 2**32 - 1))
def test_pictures_are_turned_as_scipy_turns_them(
    height: int, width: int, angle: float, seed: int
) -> None:
    x = np.random.default_rng(seed).uniform(size=(height, width))
    padded = np.pad(x, 1)  # zeros around it, and bilinear there as well
    expected = ndimage.rotate(padded, angle, reshape=False, order=1)[1:-1, 1:-1]
    np.testing.assert_allclose(turned(x, angle), expected, atol=2e-6)


def test_quarter_turns_are_exact() -> None:
    x = np.arange(9.0).reshape(3, 3)
    for quarters in range(5):
        np.testing.assert_allclose(turned(x, 90.0 * quarters), np.rot90(x, quarters), atol=1e-6)


def arrays(side: int = 3, channels: int = 3) -> Arrays:
    draw = np.random.default_rng(0)
    x = draw.integers(0, 256, (6, side, side, channels), dtype=np.uint8)
    y = np.arange(6) % 2
    return Arrays(x, y, x, y, "made up")


def test_every_task_is_turned_further() -> None:
    exp = Experiment(name="T", num_batch=4, mnist_mode="rotate", rotation_max=90.0)
    its, facts = arrays(channels=1), Facts((1, 3, 3), 2, 6)
    its = Arrays(its.x_train[..., 0], its.y_train, its.x_test[..., 0], its.y_test, "made up")
    stream = rotated_stream(exp, its, facts, **UNITS)
    assert [task.name for task in stream.tasks][::3] == ["rotated by 0°", "rotated by 90°"]
    assert stream.permutations is None and stream.head_sizes == (2,)
    for task, angle in zip(stream.tasks, (0.0, 30.0, 60.0, 90.0), strict=True):
        seen = stream.inputs(stream.train, task.train)[:, 0].numpy()
        for one, raw in zip(seen, its.x_train / 255, strict=True):
            np.testing.assert_allclose(one, turned(raw, angle), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_channels_of_a_pixel_move_together(channels: int) -> None:
    exp = Experiment(name="T", num_batch=2)
    its, facts = arrays(channels=channels), Facts((channels, 3, 3), 2, 6)
    mean, std = (0.1, 0.2, 0.3)[:channels], (1.0, 2.0, 3.0)[:channels]
    stream = permuted_stream(exp, its, facts, mean=mean, std=std)
    assert stream.permutations is not None and stream.permutations.shape == (2, 9 * channels)
    order = stream.permutations[1, :9]
    seen = stream.inputs(stream.train, Samples(torch.arange(6), 1)).flatten(2).numpy()
    pixels = its.x_train.reshape(6, 9, channels)[:, order].transpose(0, 2, 1) / 255
    expected = (pixels - np.array(mean)[:, None]) / np.array(std)[:, None]
    np.testing.assert_allclose(seen, expected, rtol=1e-5, atol=1e-6)
