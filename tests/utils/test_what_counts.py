"""A key that is said to do nothing changes no number, and one that is said to count is read; and
a result is as large as is said beforehand.

Whole runs on a few pictures: of experiments drawn from all keys, each twice.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from benchmarks import make_stream
from exps.experiment import ABOUT, Experiment
from exps.kinds import Choice, Switch
from exps.manual import all_keys
from exps.plugins import One
from exps.rules import contradictions
from exps.sizes import result_bytes
from models import make_model
from utils.engines.choose import make_engine
from utils.engines.winners.around import SETTINGS
from utils.live.progress import Progress
from utils.methods.make import make_methods
from utils.system.runtime import seed_everything
from utils.training.loop import run_stream
from utils.training.record import empty_record

# What runs read outside of what is called here, and what needs another machine or library.
ELSEWHERE = {*ABOUT, "cnn", "device", "checkpoint_every", "keep_weights", "begin_with"}
_OWN = TemporaryDirectory(prefix="own-")  # gone with the process


def own_files() -> list[str]:
    """Pictures of which some are split off to be tested on, and features with others for that."""
    folder, draw = Path(_OWN.name), np.random.default_rng(0)
    y, x = np.arange(16) % 4, draw.normal(size=(16, 12, 12))
    np.savez(folder / "two.npz", x=x, y=y)
    np.savez(folder / "four.npz", x_train=x[:, 0], y_train=y, x_test=x[:4, 0], y_test=y[:4])
    return [str(folder / "two.npz"), str(folder / "four.npz")]


TASKS = {"cifar": [1, 2, 5], "cifar100": [2, 5], "split": [1, 2], "perm": [1, 2, 3]}
TASKS |= {"rotate": [1, 2, 3], "arrays": [1, 2], "fashion": [1, 2], "emnist": [1, 2]}
KEYS = all_keys()
NAMED = {key: list(k.kind.names) for key, k in KEYS.items() if isinstance(k.kind, Choice | One)}
SWITCHES = {key: [False, True] for key, k in KEYS.items() if isinstance(k.kind, Switch)}
CHOICES: dict[str, list[Any]] = {
    **NAMED,
    **SWITCHES,
    "benchmark": [
        *("mnist", "mnist", "mnist", "cifar", "cifar100", "fashion", "emnist", "arrays", "arrays")
    ],
    "data_file": own_files(),
    "rotation_max": [180.0, 20.0],
    "test_share": [0.2, 0.5],
    "picture_size": [0, 12],
    "data_mean": [(), (0.4,)],
    "data_std": [(), (0.4,)],
    "classes_per_task": [(), (), (), (3, 1), (2, 2)],
    "blur": [0.0, 0.6],
    # What most others go with comes more often, or few draws could be run.
    "cumul": [False, False, False, True],
    "engine": [*("auto", "reference", "dense") * 3, "sparse", "stacked"],
    "stream": [*["tasks"] * 4, "blurry", "random"],
    "augment": [*["none"] * 4, "crop", "crop_flip"],
    "lr_schedule": [*["constant"] * 3, "cosine", "step"],
    "class_order": ["sorted", "random"],
    "padding": [0, 2],
    "validation": [0.0, 0.3],
    "model": ["mlp", "mlp", "mlp", "cnn", "resnet18"],
    "channels": [10, 12],
    "filters": [8, 12],
    "patch_size": [3, 5],
    "patch_stride": [1, 2],
    "patch_grid": [1, 2],
    "patch_whitening": [0.1, 1.0],
    "patch_power": [1.0, 0.5],
    "cnn": [False, False, False, True],
    "hidden_units": [16, 24],
    "hidden_layers": [1, 2],
    "dropout": [0.0, 0.4],
    "sparsify": [True, True, False],
    "percent_on_fc": [0.125, 0.3],
    "percent_on_conv": [0.1, 0.4],
    "k_inference_factor": [1.0, 1.6],
    "boost_strength": [0.0, 1.5],
    "boost_strength_factor": [1.0, 0.5],
    "duty_cycle_period": [7, 1000],
    "weight_sparsity_fc": [1.0, 0.4],
    "weight_sparsity_conv": [1.0, 0.4],
    "dynamic": ["none", "none", "grow", "set", "rigl"],
    "initial_density_fc": [0.1, 0.2],
    "initial_density_conv": [1.0, 0.3, 0.2],
    "grow_per_task": [0.1, 0.15],
    "grow_every": [0, 2],
    "max_density_fc": [0.5, 0.4],
    "max_density_conv": [0.5, 0.4],
    "context_units": [8, 10],
    "context_overlap": [0.0, 0.5],
    "context_shrink": [0.06, 0.5],
    "old_synapse_lr": [1.0, 0.3, 0.0],
    "methods": [
        *((), (), ("ewc",), ("er",), ("er", "ewc", "census"), ("dgr",), ("xdg",), ("separate",)),
        *(("si",), ("mas",), ("lwf",), ("agem",), ("der",), ("derpp",), ("gdumb",), ("icarl",)),
    ],
    "classifier": ["softmax", "softmax", "softmax", "ncm", "slda", "ridge"],
    "features": ["trained", "trained", "first", "random"],
    "slda_shrinkage": [0.01, 0.1],
    "ridge_strength": [0.0, 10.0],
    "si_strength": [0.1, 10.0],
    "si_damping": [0.1, 0.01],
    "mas_strength": [1.0, 10.0],
    "mas_pictures": [0, 5],
    "update_every": [0, 0, 2],
    "lwf_strength": [1.0, 2.0],
    "lwf_temperature": [2.0, 3.0],
    "agem_batch": [0, 3],
    "der_batch": [0, 3],
    "der_alpha": [0.5, 1.0],
    "der_beta": [0.5, 1.0],
    "icarl_temperature": [1.0, 2.0],
    "buffer_per_class": [0, 1],
    "xdg_gated": [0.5, 0.25],
    "ewc_strength": [10.0, 20.0],
    "ewc_pictures": [0, 5],
    "ewc_decay": [1.0, 0.5],
    "buffer_size": [20, 30],
    "er_batch": [0, 3],
    "dgr_units": [0, 12],
    "dgr_latent": [3, 5],
    "dgr_lr": [0.001, 0.01],
    "optimizer": ["sgd", "sgd", "sgd_lazy", "adam", "adamw"],
    "adam_beta1": [0.9, 0.8],
    "adam_beta2": [0.999, 0.9],
    "adam_eps": [1e-8, 1e-3],
    "lr": [0.1, 0.05],
    "lr_steps": [(0.5, 0.75), (0.3,)],
    "lr_gamma": [0.1, 0.5],
    "lr_warmup": [0, 0, 2],
    "clip_norm": [0.0, 0.0, 0.5],
    "label_smoothing": [0.0, 0.0, 0.1],
    "momentum": [0.9, 0.5],
    "weight_decay": [0.0, 1e-3],
    "mb_size": [8, 20],
    "train_ep": [1, 2],
    "train_ep_inc": [1, 2],
    "train_steps": [0, 0, 3],
    "train_steps_inc": [0, 0, 2],
    "record": [(), ("confidence",), ("confidence", "confusion")],
    "eval_every": [0, 0, 1, 2],
    "patience": [0, 0, 0, 2],  # of two epochs none ends early
    "watched": [0.1, 0.5],
    "eval_pictures": [0, 3],
    "seed": [0, 1],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that mean nothing, a few of every class."""
    path, draw = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for name, shape, classes, each in (
        ("mnist", (12, 12), 10, 4),
        ("fashion", (12, 12), 10, 4),
        ("emnist-balanced", (12, 12), 47, 2),
        ("emnist-letters", (12, 12), 26, 2),
        ("cifar10", (12, 12, 3), 10, 4),
        ("cifar100", (12, 12, 3), 100, 2),
    ):
        parts = {}
        for part, n in (("train", each), ("test", 1)):
            labels = np.tile(np.arange(classes, dtype=np.uint8), n)
            parts[f"x_{part}"] = draw.integers(0, 256, (len(labels), *shape), dtype=np.uint8)
            parts[f"y_{part}"] = labels
        np.savez(path / f"{name}.npz", **parts)
    return path


class Seen(Experiment):
    """An experiment whose values the code sees as they are, whether they count or not; it notes
    which are read, but by what copies it. Mechanisms that its network lacks stay out of it."""

    noted: ClassVar[set[str]] = set()

    def __getattribute__(self, name: str) -> Any:
        if name in KEYS and sys._getframe(1).f_globals["__name__"] != "dataclasses":
            Seen.noted.add(name)
        return super().__getattribute__(name)

    @property
    def in_effect(self) -> Experiment:
        if not self.sparsify:
            return replace(self, context="none", dynamic="none")
        idle = "dynamic" in self.lacks and self.dynamic != "none"
        return replace(self, dynamic="none") if idle else self


@st.composite
def experiments(draw: st.DrawFn) -> Experiment:
    """Any experiment that can be run here."""
    values = {key: draw(st.sampled_from(some)) for key, some in CHOICES.items()}
    kind = values["benchmark"] if values["benchmark"] != "mnist" else values["mnist_mode"]
    values["num_batch"] = draw(st.sampled_from(TASKS[kind]))
    if values["benchmark"] != "cifar" or values["data"] == "sample":
        values["data"] = "full"
    if kind in ("cifar100", "arrays"):  # there are too few pictures of a class
        values["patience"] = 0
    if values["old_synapse_lr"] < 1:
        values["weight_decay"] = 0.0
    if values["benchmark"] == "emnist" and values["patience"]:
        values["validation"] = 0.0  # its 47 classes have two pictures each, and one is watched
    if values["classifier"] != "softmax" and values["features"] != "trained":  # nothing may act
        values |= {"methods": (), "context": "none", "dynamic": "none", "old_synapse_lr": 1.0}
    exp = Experiment(name="Test", device="cpu", **values)
    if exp.counts("sparse_layers"):
        exp = replace(exp, sparse_layers="own")
    assume(not list(contradictions(exp)))
    return exp


def measured(exp: Experiment) -> dict[str, Any]:
    """What a whole run of it puts into its result."""
    stream = make_stream(exp)
    order = seed_everything(exp.seed)
    model = make_model(exp, stream.input_shape, stream.head_sizes)
    methods = make_methods(exp, stream)
    engine = make_engine(exp, model, stream, torch.device("cpu"), methods)
    record = empty_record(exp, stream, engine.model)
    with Progress(len(stream.training), quiet=True) as progress:
        run_stream(exp, stream, engine, methods, order, record, progress)
    times = ("elapsed", "train_seconds")
    return {name: value for name, value in record.stats().items() if name not in times}


def seen(exp: Experiment) -> Seen:
    """The same experiment as code sees it that cannot ask what counts."""
    return Seen(**{f.name: getattr(exp, f.name) for f in fields(exp)})


def test_every_key_is_drawn() -> None:
    assert set(CHOICES) == set(KEYS) - (ELSEWHERE - {"cnn", "keep_weights"}) - {
        "num_batch",
        "data_dir",
    }


@settings(max_examples=30)
@given(exp=experiments(), data=st.data())
def test_what_does_nothing_changes_no_number_and_what_counts_is_read(
    folder: Path, exp: Experiment, data: st.DataObject
) -> None:
    exp = replace(exp, data_dir=str(folder))
    before = seen(exp)
    Seen.noted.clear()
    found = measured(before)
    unread = {key for key in KEYS if exp.counts(key)} - Seen.noted - ELSEWHERE
    unread -= {"num_batch"} if exp.in_effect.classes_per_task else set()  # which say as much
    assert not unread, "they count only where they are read"

    arrays = sum(a.nbytes for a in found.values() if isinstance(a, np.ndarray))
    in_32_bits = arrays - found["on_idxs"].nbytes // 2
    stream = make_stream(exp)
    trained, tested = ([len(t.train) for t in stream.training], [len(t.test) for t in stream.tasks])
    parts = result_bytes(exp, trained, tested)
    assert in_32_bits == sum(parts.values()) - parts["costs"]
    assert len(pickle.dumps(found)) - arrays < parts["costs"] - 2**15  # half is for the rest

    # In their basis the sparse engine holds its weights, which rounds otherwise in another one.
    basis = SETTINGS if exp.engine == "sparse" else ()
    idle = [key for key in CHOICES if not exp.counts(key) and key not in ("data", *basis)]
    others = {key: data.draw(st.sampled_from(CHOICES[key]), label=key) for key in idle}
    assert replace(exp, **others).in_effect == exp.in_effect
    np.testing.assert_equal(measured(seen(replace(exp, **others))), found)
