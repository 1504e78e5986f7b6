"""The parts of a run together: tests in the middle change nothing, and what ends goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from utils.training.record import TRAINING
from utils.training.trainer import Trainer

CLASSES = {"mnist_mode": "split", "scenario": "class", "outputs": "seen"}
KINDS: dict[str, dict[str, Any]] = {
    "reference": {"engine": "reference"},
    "dense": {"engine": "dense", "sparsify": False, "methods": ("er",), "buffer_size": 40},
    "sparse": {"engine": "sparse", "hidden_layers": 2, "methods": ("lwf",)},
    "stacked": {"engine": "stacked", "hidden_units": 128, "percent_on_fc": 0.0625},
    "contexts": {"context": "prototype", "context_units": 16},
    "icarl": {**CLASSES, "methods": ("icarl",), "buffer_size": 40},
    "dgr": {**CLASSES, "methods": ("dgr",), "dgr_units": 16, "dgr_latent": 4},
}


def measured(trainer: Trainer) -> dict[str, Any]:
    times = ("elapsed", "train_seconds")
    return {k: v for k, v in trainer.record.stats().items() if k not in times}


@pytest.mark.parametrize("kind", KINDS)
def test_tests_in_the_middle_change_no_number(
    experiment: Callable, stream_of: Callable, kind: str
) -> None:
    """Of loss, accuracies and weights, with dropout."""
    exp = experiment(**KINDS[kind], dropout=0.5, train_ep=2, train_ep_inc=1)
    stream = stream_of(exp, train=160, test=40)
    plain = Trainer.of(exp, stream)
    plain.run()
    looking, seen = Trainer.of(exp, stream), []

    def look(done: bool) -> None:
        if looking.place.phase == TRAINING:
            seen.append([looking.test(task) for task in range(2)])

    looking.run(keep=look)
    assert len(seen) >= 3
    np.testing.assert_equal(measured(looking), measured(plain))
    for one, other in zip(
        looking.engine.weights().values(), plain.engine.weights().values(), strict=True
    ):
        assert torch.equal(one, other)


def test_the_last_test_is_that_of_the_run(experiment: Callable, stream_of: Callable) -> None:
    """By the same rule: of classes seen, with what methods classify by."""
    for kind in ("icarl", "contexts", "sparse"):
        exp = experiment(**KINDS[kind], train_ep=1, train_ep_inc=1)
        trainer = Trainer.of(exp, stream_of(exp, train=160, test=40))
        trainer.run()
        assert [trainer.test(task) for task in range(2)] == trainer.record.accs[-1].tolist()


def test_it_goes_on(experiment: Callable, stream_of: Callable) -> None:
    class Enough(Exception):
        pass

    exp = experiment(train_ep=2, train_ep_inc=1)
    stream = stream_of(exp, train=160, test=40)
    whole = Trainer.of(exp, stream)
    whole.run()
    trainer, calls = Trainer.of(exp, stream), [0]

    def end(_: bool) -> None:
        calls[0] += 1
        if calls[0] == 4:
            raise Enough

    with pytest.raises(Enough):
        trainer.run(keep=end)
    assert trainer.place.step == 2  # two batches were tested before
    trainer.run()
    np.testing.assert_equal(measured(trainer), measured(whole))
