"""Every engine with every method and optimiser: it runs and goes on to the bit, or says why not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.stream import Pictures
from exps.config import KEYS, ConfigError, as_text, from_texts
from utils.engines.base import Engine
from utils.engines.choose import EngineError
from utils.methods.base import Method

ENGINES = ("reference", "dense", "sparse")
CONTEXTS: dict[str, Any] = {"context": "prototype", "context_units": 16}
OLD: dict[str, Any] = {"old_synapse_lr": 0.3, "weight_decay": 0.0}
HEADS: dict[str, Any] = {"mnist_mode": "split", "scenario": "task"}
CHANNELS: dict[str, Any] = {"model": "resnet18", "channels": 8, "percent_on_conv": 0.25}
CLASSES: dict[str, Any] = {"mnist_mode": "split", "scenario": "class", "outputs": "seen"}
BLURRY: dict[str, Any] = {"stream": "blurry", "blur": 0.5}
MASKED = {"initial_density_fc": 0.2}
SMALL_DGR = {"dgr_units": 16, "dgr_latent": 4}
SET = {"dynamic": "set", "train_ep": 2, "train_ep_inc": 2, **MASKED}
UNUSUAL: dict[str, Any] = {
    **{"augment": "crop", "lr_schedule": "cosine", "lr_warmup": 2, "clip_norm": 1.0},
    "label_smoothing": 0.1,
}
METHODS: dict[str, dict[str, Any]] = {
    "none": {},
    "contexts": CONTEXTS,
    "contexts by classes": {**CLASSES, **CONTEXTS, "context": "gaussian"},
    "contexts, the surest": {**CONTEXTS, "context": "entropy"},
    "contexts, told": {**HEADS, **CONTEXTS, "context": "given", "context_overlap": 0.5},
    "contexts of channels": {**HEADS, **CHANNELS, "context": "given", "context_units": 4},
    "separate channels and ewc": {**HEADS, **CHANNELS, "methods": ("ewc", "separate")},
    "grow": {"dynamic": "grow", "grow_per_task": 0.1, "grow_every": 1, **MASKED},
    "set": SET,
    "rigl": {"dynamic": "rigl", "mb_size": 2, "train_ep": 3, "train_ep_inc": 3, **MASKED},
    "old_synapses by usage": OLD,
    "old_synapses by importance": {**OLD, "old_synapse_rule": "importance"},
    "ewc": {"methods": ("ewc",)},
    "ewc, online": {"methods": ("ewc",), "ewc_online": True, "ewc_decay": 0.9},
    "si": {"methods": ("si",), "si_strength": 0.5},
    "mas": {"methods": ("mas",), "mas_strength": 0.1},
    "si, any time": {"methods": ("si",), "si_strength": 0.5, "update_every": 2},
    "ewc, any time": {"methods": ("ewc",), "update_every": 2},
    "contexts and si": {**CONTEXTS, "methods": ("si",)},
    "er": {"methods": ("er",), "buffer_size": 40, "er_batch": 8},
    "er, tasks alike, heads": {
        **HEADS,
        "methods": ("er",),
        "buffer": "class",
        "buffer_per_class": 6,
        "er_weight": "tasks",
        "er_batch": 8,
    },
    "agem": {"methods": ("agem",), "buffer_size": 40, "agem_batch": 8},
    "agem, heads": {**HEADS, "methods": ("agem",), "buffer_size": 40, "agem_batch": 8},
    "lwf": {"methods": ("lwf",)},
    "lwf, heads": {**HEADS, "methods": ("lwf",), "lwf_weight": "tasks"},
    "lwf, classes": {**CLASSES, "methods": ("lwf",)},
    "der": {"methods": ("der",), "buffer_size": 40, "der_batch": 8},
    "derpp": {"methods": ("derpp",), "buffer_size": 40, "der_batch": 8},
    "derpp, heads": {**HEADS, "methods": ("derpp",), "buffer_size": 40, "der_batch": 8},
    "gdumb": {"methods": ("gdumb",), "buffer_size": 40},
    "icarl": {**CLASSES, "methods": ("icarl",), "buffer_size": 40},
    "dgr": {"methods": ("dgr",), **SMALL_DGR},
    "dgr, soft, a head a task": {
        **{"methods": ("dgr",), "dgr_labels": "soft", "mnist_mode": "split", "scenario": "task"},
        **SMALL_DGR,
    },
    "census": {"methods": ("census",)},
    "contexts and ewc": {**CONTEXTS, "methods": ("ewc",)},
    "grow and dgr": {
        **{"dynamic": "grow", "grow_per_task": 0.1, "grow_every": 1, **MASKED},
        **{"methods": ("dgr",), **SMALL_DGR},
    },
    "old_synapses and er": {**OLD, "methods": ("er",), "buffer_size": 40, "er_batch": 8},
    "xdg": {**HEADS, "methods": ("xdg",), "hidden_layers": 2},
    "xdg and ewc": {**HEADS, "methods": ("ewc", "xdg"), "xdg_gated": 0.5},
    "xdg and set": {**HEADS, "methods": ("xdg",), **SET},
    "er, moved": {**UNUSUAL, "methods": ("er",), "buffer_size": 40, "er_batch": 8},
    "xdg, moved": {**HEADS, **UNUSUAL, "methods": ("xdg",), "hidden_layers": 2},
    "lwf and si, moved": {**UNUSUAL, "methods": ("lwf", "si")},
    "old_synapses, moved": {**OLD, **UNUSUAL},
    "separate": {**HEADS, "methods": ("separate",), "hidden_layers": 2},
    "ncm": {**CLASSES, "methods": ("ncm",)},
    "slda, heads": {**HEADS, "methods": ("slda",)},
    "ridge": {**CLASSES, "methods": ("ridge",)},
    "ridge, domains, set": {"methods": ("ridge",), **SET},
    "ridge and si": {**CLASSES, "methods": ("ridge", "si")},
    "none, blurry": {**CLASSES, **BLURRY},
    "none, random": {"stream": "random"},
    "er by class, blurry": {
        **{**CLASSES, **BLURRY, "methods": ("er",), "buffer": "class"},
        **{"buffer_size": 40, "er_batch": 8},
    },
    "agem, blurry": {**BLURRY, "methods": ("agem",), "buffer_size": 40, "agem_batch": 8},
    "gdumb, blurry": {**CLASSES, **BLURRY, "methods": ("gdumb",), "buffer_size": 40},
    "lwf and dgr, blurry": {**CLASSES, **BLURRY, "methods": ("lwf", "dgr"), **SMALL_DGR},
    "derpp and ewc, random": {
        **{"stream": "random", "methods": ("derpp", "ewc")},
        **{"buffer_size": 40, "der_batch": 8},
    },
    "ridge, random": {**CLASSES, "stream": "random", "methods": ("ridge",)},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": 0.05},
    "sgd_lazy": {"lr": 0.05},
    "adam": {"lr": 0.001},
    "adamw": {"lr": 0.001},
}
# Of those that are refused, what the message has to name.
REFUSED = {
    **dict.fromkeys(("ewc", "ewc, online", "contexts and ewc", "xdg and ewc"), "ewc"),
    **dict.fromkeys(("derpp and ewc, random", "ewc, any time"), "ewc"),
    **dict.fromkeys(("si", "si, any time", "contexts and si", "ridge and si"), "si"),
    **dict.fromkeys(("mas",), "mas"),
    **dict.fromkeys(("agem", "agem, heads", "agem, blurry"), "agem"),
    "old_synapses by importance": "importance",
    **dict.fromkeys(("contexts of channels", "separate channels and ewc"), "MLPs"),
    **{f"{name}, moved": "augment" for name in ("er", "xdg", "lwf and si", "old_synapses")},
}


def refusal(engine: str, methods: str, optimizer: str) -> str:
    """What says no, by what is known of the sparse engine; '' where the pair runs."""
    if engine != "sparse":
        return ""
    return REFUSED.get(methods, "" if optimizer == "sgd" else optimizer)


def remembered(engine: Engine, methods: list[Method]) -> dict[str, Any]:
    """The network, and what the methods remember, in the end."""
    state = {method.name: method.state() for method in methods}
    return {"model": engine.model.state_dict(), "methods": state}


def bits(value: Any) -> Any:
    """Something that is equal only for the same bits."""
    if isinstance(value, dict):
        times = ("elapsed", "train_seconds")
        return {key: bits(item) for key, item in value.items() if key not in times}
    if isinstance(value, list | tuple):
        return [bits(item) for item in value]
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("engine", ENGINES)
def test_it_runs_and_goes_on_to_the_bit_or_says_why_not(
    experiment: Callable,
    stream_of: Callable,
    built: Callable,
    run_to: Callable,
    engine: str,
    methods: str,
    optimizer: str,
) -> None:
    keys = {"train_ep": 1, "train_ep_inc": 1, **METHODS[methods], **OPTIMIZERS[optimizer]}
    made = experiment(**keys, engine=engine, optimizer=optimizer, hidden_units=32)
    why = refusal(engine, methods, optimizer)
    # What the rules refuse never comes to an engine; but neither would train it wrongly.
    texts = {key: as_text(value) for key, value in keys.items()}
    shared = {"engine": engine, "optimizer": optimizer, "hidden_units": "32", "num_batch": "2"}
    try:
        from_texts("Test", {**texts, **shared, "percent_on_fc": "0.125", "device": "cpu"})
    except ConfigError as error:
        assert why, str(error)
        assert why in str(error)
    else:
        assert not why
    stream = stream_of(made, train=288 if methods == "rigl" else 96, test=20)
    if why:
        # An engine knows methods, and not their keys; it asks for the network and the optimiser
        # first.
        asks_first = optimizer == "sgd" or why == "MLPs"
        first = {"importance": "old_synapses"}.get(why, why) if asks_first else optimizer
        with pytest.raises(EngineError, match=rf"(?s)engine = sparse does not fit.*{first}"):
            built(made, stream)
        return
    whole, *parts, _ = run_to(made, stream)
    expected = remembered(*parts)
    step = 110 if methods == "rigl" else 2
    *_, tree = run_to(made, stream, stop=step)
    assert tree["place"]["task"] == 1 and tree["place"]["step"] == step
    torch.manual_seed(1234)  # another process would have drawn other numbers
    record, *parts, _ = run_to(made, stream, tree=tree)
    assert bits(remembered(*parts)) == bits(expected)
    assert bits(record.stats()) == bits(whole.stats())
    assert np.isfinite(record.stats()["loss"]).all() and not np.isnan(record.accs).any()


@pytest.mark.parametrize("methods", METHODS)
def test_nothing_of_test_pictures_is_remembered(
    experiment: Callable, stream_of: Callable, run_to: Callable, methods: str
) -> None:
    """Other test pictures, with other labels: the network, what methods hold and losses are the
    same to the bit."""
    keys = {"train_ep": 1, "train_ep_inc": 1, **METHODS[methods]}
    exp = experiment(**keys, hidden_units=32)
    stream = stream_of(exp, train=288 if methods == "rigl" else 96, test=20)
    others = Pictures(255 - stream.test.x, stream.test.y.roll(1))
    runs = [run_to(exp, some) for some in (stream, replace(stream, test=others))]
    (one, *parts, _), (two, *other_parts, _) = runs
    assert bits(remembered(*parts)) == bits(remembered(*other_parts))
    assert bits(one.stats()["loss"]) == bits(two.stats()["loss"])


def test_every_method_and_optimizer_takes_part(experiment: Callable) -> None:
    made = [experiment(**keys) for keys in METHODS.values()]
    together = {name for exp in made for name in exp.all_methods}
    assert {"contexts", "grow", "rewire", "old_synapses", *KEYS["methods"].kind.names} <= together
    assert set(OPTIMIZERS) == set(KEYS["optimizer"].kind.names)
