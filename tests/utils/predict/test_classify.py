"""What a kept network says is what its run has measured: every engine, method and scenario."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import make_stream
from benchmarks.stream import TaskStream
from exps.config import Experiment
from utils.live.progress import Progress
from utils.predict.classify import Said, classify
from utils.predict.network import experiment as experiment_of
from utils.predict.network import load_network
from utils.predict.pictures import Asked
from utils.results import weights
from utils.results.about import WeightsError
from utils.results.weights import Kept
from utils.training.kept import about
from utils.training.loop import run_stream
from utils.training.record import empty_record

SPLIT: dict[str, Any] = {"mnist_mode": "split", "num_batch": 3}
HEADS: dict[str, Any] = {**SPLIT, "scenario": "task"}
CLASSES: dict[str, Any] = {**SPLIT, "scenario": "class"}
CONTEXTS: dict[str, Any] = {"context": "prototype", "context_units": 24, "context_overlap": 0.5}
DEEP: dict[str, Any] = {
    "hidden_layers": 2,
    "dropout": 0.2,
    "train_ep": 3,
    "weight_sparsity_fc": 0.5,
    "boost_strength": 1.5,
}
OLD: dict[str, Any] = {"old_synapse_lr": 0.3, "weight_decay": 0.0}
GROW: dict[str, Any] = {"dynamic": "grow", "initial_density_fc": 0.2, "grow_per_task": 0.1}
SMALL_DGR = {"methods": ("dgr",), "dgr_units": 16, "dgr_latent": 4}
BUFFER = {"buffer_size": 40}
PATCHES: dict[str, Any] = {"model": "patches", "filters": 12, "percent_on_conv": 0.25}
FIXED: dict[str, Any] = {"features": "random", "classifier": "ridge"}
KINDS: dict[str, dict[str, Any]] = {
    **{
        f"{engine}, deep": {"engine": engine, **DEEP} for engine in ("reference", "dense", "sparse")
    },
    **{
        f"{engine}, bf16": {"engine": engine, "precision": "bf16"} for engine in ("dense", "sparse")
    },
    "stacked": {"engine": "stacked", "hidden_units": 128, "percent_on_fc": 0.0625},
    "relu": {"sparsify": False},
    "adam": {"optimizer": "adam", "lr": 0.001, "engine": "reference"},
    "cnn": {"cnn": True, "percent_on_conv": 0.2, "hidden_units": 32},
    "padding": {"padding": 2},
    "heads": HEADS,
    "pairs": {**SPLIT, "scenario": "domain"},
    "classes": CLASSES,
    "classes seen": {**CLASSES, "outputs": "seen"},
    "heads together": {**HEADS, "cumul": True},
    "contexts": CONTEXTS,
    "contexts, sparse": {**CONTEXTS, "engine": "sparse", "hidden_layers": 2, **GROW},
    "contexts, classes": {**CONTEXTS, **CLASSES, "methods": ("ewc",)},
    "xdg and ewc": {**HEADS, "methods": ("ewc", "xdg"), "xdg_gated": 0.5},
    "separate": {**HEADS, "methods": ("separate",), "hidden_layers": 2},
    "grow": {**GROW, "grow_every": 2},
    "fresh units": {**GROW, "grow_units": "fresh"},
    "set": {"dynamic": "set", "initial_density_fc": 0.2, "train_ep": 2},
    "old synapses": OLD,
    "ewc": {"methods": ("ewc",)},
    "si and er": {"methods": ("er", "si"), "si_strength": 0.5, **BUFFER},
    "mas": {"methods": ("mas",), "mas_strength": 0.1},
    "lwf": {"methods": ("lwf",), **HEADS},
    "derpp": {"methods": ("derpp",), **BUFFER},
    "agem": {"methods": ("agem",), **BUFFER},
    "gdumb": {"methods": ("gdumb",), **BUFFER},
    "icarl": {**CLASSES, "methods": ("icarl",), **BUFFER},
    "dgr": SMALL_DGR,
    "ncm, random": {**FIXED, "classifier": "ncm", **CLASSES},
    "slda, first": {**FIXED, "classifier": "slda", "features": "first", **HEADS},
    "ridge, patches": {**FIXED, **PATCHES, **CLASSES},
    "ridge, trained": {**FIXED, "features": "trained", **SPLIT, "scenario": "domain"},
    "resnet18": {"model": "resnet18", "channels": 4, "percent_on_conv": 0.25, **HEADS},
    "turned": {"mnist_mode": "rotate"},
    "gaussians": {**CONTEXTS, "context": "gaussian", "context_shrink": 0.3, **CLASSES},
}
Make = Callable[..., Any]


@pytest.fixture
def keep(experiment: Make, stream_of: Make, built: Make, tmp_path: Path) -> Make:
    """A run whose weights are kept: the accuracies after its last task, its stream, the weights."""

    def make(**keys: Any) -> tuple[np.ndarray, TaskStream, Kept]:
        exp: Experiment = experiment(**{"train_ep": 1, "train_ep_inc": 1} | keys)
        stream = stream_of(exp, train=300, test=150)
        if exp.counts("padding") and exp.padding:
            stream = stream_of_padded(exp)
        engine, methods, order = built(exp, stream)
        record = empty_record(exp, stream, engine.model)
        with Progress(len(stream.training), quiet=True) as progress:
            run_stream(exp, stream, engine, methods, order, record, progress)
        told = about(exp, stream, engine, methods, record, len(stream.training), {"run": "R"})
        path = weights.save(tmp_path / "R.safetensors", *told)
        return record.accs[-1], stream, weights.read(path)

    return make


def stream_of_padded(exp: Experiment) -> TaskStream:
    stream = make_stream(exp)
    tasks = [
        replace(task, train=task.train.take(slice(300)), test=task.test.take(slice(150)))
        for task in stream.tasks
    ]
    return replace(stream, training=tuple(tasks), tasks=tuple(tasks))


def ask(kept: Kept, stream: TaskStream, task: int, told: int | None) -> Said:
    """About the test pictures of a task."""
    rows = stream.tasks[task].test.rows
    x, y = stream.test.x[rows], stream.test.y[rows]
    return classify(kept, experiment_of(kept), Asked([str(i) for i in rows], x, y), told)


@pytest.mark.parametrize("kind", KINDS)
def test_the_accuracy_of_the_run(keep: Make, kind: str) -> None:
    accs, stream, kept = keep(**KINDS[kind])
    found = [ask(kept, stream, task, task).accuracy for task in range(len(stream.tasks))]
    assert found == accs.tolist()
    assert len(set(found)) > 1 or found[0] > 0.3, "something was learned"


def test_tasks_that_need_not_be_told(keep: Make) -> None:
    """In split classes a label says what is right, whichever task it is of."""
    for keys in ({"scenario": "domain"}, {"scenario": "class", "outputs": "seen"}):
        accs, stream, kept = keep(**SPLIT, **keys)
        found = [ask(kept, stream, task, None).accuracy for task in range(3)]
        assert found == accs.tolist()
    accs, stream, kept = keep(num_batch=1)
    assert ask(kept, stream, 0, None).accuracy == accs[0]


def test_tasks_that_have_to_be_told(keep: Make) -> None:
    for keys, why in ((HEADS, "chosen among its own"), ({}, "an order of its own")):
        _, stream, kept = keep(**keys)
        with pytest.raises(WeightsError, match=why):
            ask(kept, stream, 0, None)
        with pytest.raises(WeightsError, match="it has tasks 1 to"):
            ask(kept, stream, 0, len(stream.tasks))


def test_contexts_are_found(keep: Make) -> None:
    """By the pictures themselves, as for as many as in the run."""
    _, stream, kept = keep(**CONTEXTS)
    said = ask(kept, stream, 1, 1)
    means = []  # of the pictures that each task was trained on, as the network saw them
    for task in stream.training:
        x = stream.inputs(stream.train, task.train).flatten(1).double()
        means.append(x.mean(0))
    test = stream.inputs(stream.test, stream.tasks[1].test).flatten(1).double()
    nearest = torch.cdist(test, torch.stack(means)).argmin(1)
    assert said.context is not None and torch.equal(said.context, nearest)


SINGLE = ["sparse, deep", "relu", "cnn", "ewc", "derpp", "set"]
SINGLE += ["ncm, random", "slda, first", "ridge, patches", "ridge, trained"]


def test_confidence_and_names(keep: Make) -> None:
    _, stream, kept = keep(**HEADS, dropout=0.4)
    said = ask(kept, stream, 1, 1)
    network, normalise = load_network(kept.path)
    rows = stream.tasks[1].test.rows
    with torch.no_grad():
        logits = network(normalise(stream.test.x[rows], task=1), head=1)
    assert torch.allclose(logits.softmax(1).max(1).values, said.confidence, atol=1e-5)
    assert torch.equal(logits.argmax(1), said.output)
    assert said.names == ["2", "3"]
    assert not network.training


@pytest.mark.parametrize("kind", SINGLE)
def test_a_module_of_torch(keep: Make, kind: str) -> None:
    """It is the network and nothing else, and classifies as the run did."""
    accs, stream, kept = keep(**KINDS[kind])
    network, normalise = load_network(kept.path)
    assert not [name for name, _ in network.named_buffers() if "ewc" in name]
    for i, task in enumerate(stream.tasks):
        x, y = stream.test.x[task.test.rows], stream.test.y[task.test.rows]
        with torch.no_grad():
            right = network(normalise(x, task=i), task.head).argmax(1) == stream.targets[i, y]
        assert right.double().mean().item() == pytest.approx(accs[i], abs=1.5 / len(x))


def test_no_single_module(keep: Make) -> None:
    _, _, kept = keep(**CONTEXTS)
    with pytest.raises(WeightsError, match="parts of the network"):
        load_network(kept.path)
