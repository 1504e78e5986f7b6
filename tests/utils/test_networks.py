"""The residual network in whole runs: engines agree, and what is cut short goes on to the bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from utils.engines.batch import Batch, Part
from utils.engines.choose import EngineError

SMALL = {
    **{"model": "resnet18", "channels": 4, "mb_size": 16, "train_ep": 1, "train_ep_inc": 1},
    **{"percent_on_conv": 0.5, "boost_strength": 0.5, "lr": 0.02},
}
COLOURS: dict[str, Any] = {"benchmark": "cifar", "data": "sample", "scenario": "task"}
CLASSES: dict[str, Any] = {"mnist_mode": "split", "scenario": "class", "outputs": "seen"}
BUFFER = {"buffer_size": 40}
CASES: dict[str, dict[str, Any]] = {
    "dense": {"sparsify": False},
    "winners and masks": {"weight_sparsity_conv": 0.5},
    "bf16": {"precision": "bf16", "weight_sparsity_conv": 0.5},
    "bf16, groups": {"precision": "bf16", "norm": "group", **COLOURS},
    "no norm, adam": {"norm": "none", "optimizer": "adam", "lr": 0.001},
    "groups, domain": {"norm": "group", "mnist_mode": "split", "scenario": "domain"},
    "er": {**CLASSES, **BUFFER, "methods": ("er",), "er_batch": 8},
    "er, heads": {**COLOURS, **BUFFER, "methods": ("er",), "er_batch": 8, "sparsify": False},
    "der": {**CLASSES, **BUFFER, "methods": ("der",), "der_batch": 8},
    "derpp, heads": {**COLOURS, **BUFFER, "methods": ("derpp",), "der_batch": 8},
    "lwf": {**COLOURS, "methods": ("lwf",)},
    "ewc": {"methods": ("ewc",), "ewc_pictures": 20},
    "ewc, groups": {"methods": ("ewc",), "ewc_pictures": 20, "norm": "group"},
    "mas, no norm": {"methods": ("mas",), "mas_pictures": 20, "norm": "none"},
    "si": {**COLOURS, "methods": ("si",), "optimizer": "adamw", "lr": 0.001},
    "agem": {**COLOURS, **BUFFER, "methods": ("agem",), "agem_batch": 8},
    "gdumb": {**CLASSES, **BUFFER, "methods": ("gdumb",)},
    "icarl": {**CLASSES, **BUFFER, "methods": ("icarl",)},
    "dgr": {"methods": ("dgr",), "dgr_units": 16, "dgr_latent": 4},
    "old synapses": {
        **{"old_synapse_lr": 0.3, "weight_decay": 0.0, "old_synapse_rule": "importance"}
    },
    "cropped, cosine, clipped": {
        **{**COLOURS, **BUFFER, "methods": ("er",), "er_batch": 8, "augment": "crop_flip"},
        **{"lr_schedule": "cosine", "lr_warmup": 2, "lr_restart": "never", "clip_norm": 0.5},
        **{"label_smoothing": 0.1, "optimizer": "adam", "lr": 0.001},
    },
    "all together": {**COLOURS, "cumul": True, "optimizer": "adam", "lr": 0.001},
}


@pytest.mark.parametrize("engine", ["reference", "dense"])
@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_to_the_bit(
    experiment: Callable, stream_of: Callable, run_to: Callable, case: str, engine: str
) -> None:
    exp = experiment(**{**SMALL, **CASES[case], "engine": engine})
    stream = stream_of(exp, train=48, test=10)
    whole, trained, *_ = run_to(exp, stream)
    model = trained.model.state_dict()
    *_, tree = run_to(exp, stream, stop=2)
    torch.manual_seed(1234)  # another process would have drawn other numbers
    record, again, *_ = run_to(exp, stream, tree=tree)
    stats, found = record.stats(), again.model.state_dict()
    for name, value in model.items():
        assert torch.equal(found[name], value), name
    for name in stats.keys() - {"elapsed", "train_seconds"}:
        assert str(stats[name]) == str(whole.stats()[name]), name
    if exp.norm == "batch" and "gdumb" not in exp.methods:
        steps = {int(n) for name, n in model.items() if name.endswith("num_batches_tracked")}
        assert steps == {3 * len(stream.training) if not exp.cumul else 6}


@pytest.mark.parametrize("keys", [{}, {"norm": "group"}, {"norm": "none"}, {"sparsify": False}])
def test_engines_agree(
    experiment: Callable, stream_of: Callable, built: Callable, keys: dict[str, Any]
) -> None:
    """After a step with parts of two heads, of which one is seen twice."""
    exp = experiment(**{**SMALL, **COLOURS, "weight_sparsity_conv": 0.5, **keys})
    stream, found = stream_of(exp, train=48, test=10), []
    for name in ("reference", "dense"):
        engine, *_ = built(replace(exp, engine=name), stream)
        engine.begin_epoch(2)
        one, two = (task.train.take(slice(8)) for task in stream.training)
        for _ in range(2):
            logits = engine.step(Batch((Part(one, 0), Part(two, 1), Part(one, 1, 0.0))))
        tested, _ = engine.logits(two, 1, training=True)
        found.append([*logits, tested, *engine.model.state_dict().values()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=0.01, atol=0.005)


def test_batch_norm_takes_all_pictures_of_a_step_together(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    """Those replayed with those of the task; in tests none depends on another."""
    exp = experiment(**SMALL, sparsify=False, engine="reference")
    stream = stream_of(exp, train=48, test=10)
    engine, *_ = built(exp, stream)
    norm = engine.model.stem[0][1]
    one, two = (task.train.take(slice(8)) for task in stream.training)
    engine.begin_epoch(1)
    weight = engine.model.stem[0][0].weight.detach().clone()
    engine.step(Batch((Part(one, 0), Part(two, 0))))
    x = torch.cat([stream.inputs(stream.train, some) for some in (one, two)])
    out = torch.nn.functional.conv2d(x, weight, padding=1)
    torch.testing.assert_close(norm.running_mean, 0.1 * out.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * out.var((0, 2, 3)))
    together, _ = engine.logits(one, 0, training=True)
    alone, _ = engine.logits(one.take(slice(1)), 0, training=True)
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_the_sparse_engine_says_no(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    exp = experiment(**SMALL, engine="sparse")
    with pytest.raises(EngineError, match="it is for MLPs"):
        built(exp, stream_of(exp))
