"""Tests between two steps of an epoch change nothing that follows: dropout goes on, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from utils.engines.batch import Batch

KINDS: dict[str, dict[str, Any]] = {
    "reference": {"engine": "reference"},
    "reference, relu": {"engine": "reference", "sparsify": False},
    "dense": {"engine": "dense"},
    "dense, cnn": {"engine": "dense", "cnn": True, "percent_on_conv": 0.2, "hidden_units": 32},
    "dense, bf16": {"engine": "dense", "precision": "bf16"},
    "sparse": {"engine": "sparse", "hidden_layers": 2},
    "stacked": {"engine": "stacked", "hidden_units": 128, "percent_on_fc": 0.0625},
    "by context": {"context": "prototype", "context_units": 16},
    "by task": {"mnist_mode": "split", "scenario": "task", "methods": ("xdg",)},
}


@pytest.mark.parametrize("kind", KINDS)
def test_in_the_middle_of_an_epoch(
    experiment: Callable, stream_of: Callable, staged: Callable, kind: str
) -> None:
    exp = experiment(**KINDS[kind], dropout=0.5)
    stream = stream_of(exp, train=160, test=40)

    def trained(tested: bool) -> list[torch.Tensor]:
        its = staged(exp, stream)
        its.begin(0)
        its.engine.begin_epoch(5)
        said = []
        for start in range(0, 160, 32):
            samples = stream.training[0].train.take(slice(start, start + 32))
            batch = Batch.of(samples, stream.training[0].head)
            said += its.engine.step(batch)
            if tested and start == 32:
                its.engine.logits(stream.tasks[0].test, 0)
                if kind not in ("by context", "by task"):
                    its.engine.features(stream.tasks[0].test)
        its.engine.end_epoch()
        return [*said, *its.engine.model.state_dict().values()]

    for one, other in zip(trained(True), trained(False), strict=True):
        assert torch.equal(one, other)
