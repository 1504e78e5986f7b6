"""Runs that begin with kept weights: they are that network, methods know what they knew, what does
not go together is refused in words, and an interruption changes no bit."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import run_exps
from benchmarks import make_stream
from exps.config import Experiment
from utils.methods.make import scores_of
from utils.results import load_results, weights
from utils.results.about import WeightsError
from utils.results.answers import calibration_error
from utils.results.metrics import measure
from utils.runs.beginning import begin
from utils.runs.past import past
from utils.runs.session import Session
from utils.training.evaluation import accuracy
from utils.training.kept import about
from utils.training.listener import WithinTested
from utils.training.trainer import Trainer

SPLIT: dict[str, Any] = {"mnist_mode": "split"}
HEADS: dict[str, Any] = {**SPLIT, "scenario": "task"}
CLASSES: dict[str, Any] = {**SPLIT, "scenario": "class", "outputs": "seen"}
CONTEXTS: dict[str, Any] = {"context": "prototype", "context_units": 16}
BUFFER = {"buffer_size": 40}
FIXED: dict[str, Any] = {"features": "random", "classifier": "ridge"}
PATCHES: dict[str, Any] = {"model": "patches", "filters": 12, "percent_on_conv": 0.25}
CLOSED: dict[str, dict[str, Any]] = {
    "ncm": {**FIXED, "classifier": "ncm", **HEADS},
    "slda": {**FIXED, "classifier": "slda", **CLASSES},
    "ridge": {**FIXED, **SPLIT, "scenario": "domain"},
    "ridge, patches": {**FIXED, **PATCHES, **CLASSES},
}
KINDS: dict[str, dict[str, Any]] = {
    "reference": {"engine": "reference", "weight_sparsity_fc": 0.5, "hidden_layers": 2},
    "dense, heads": {"engine": "dense", **HEADS},
    "sparse, classes": {"engine": "sparse", "hidden_layers": 2, **CLASSES},
    "stacked": {"engine": "stacked", "hidden_units": 128, "percent_on_fc": 0.0625},
    "cnn": {"cnn": True, "percent_on_conv": 0.2, "hidden_units": 32},
    "bf16": {"engine": "dense", "precision": "bf16"},
    "contexts": CONTEXTS,
    "contexts, classes": {**CONTEXTS, **CLASSES, "methods": ("ewc",)},
    "xdg and ewc": {**HEADS, "methods": ("ewc", "xdg"), "xdg_gated": 0.5},
    "grow": {"dynamic": "grow", "initial_density_fc": 0.2, "grow_per_task": 0.1, **HEADS},
    "old synapses": {"old_synapse_lr": 0.3, "weight_decay": 0.0, **CLASSES},
    "ewc": {"methods": ("ewc",), **CLASSES},
    "si": {"methods": ("si",), **HEADS},
    "mas": {"methods": ("mas",)},
    "si, any time": {"methods": ("si",), "update_every": 5, **CLASSES},
    "mas, any time": {"methods": ("mas",), "update_every": 5, "stream": "blurry", "blur": 0.5},
    "er, agem": {"methods": ("agem", "er"), "buffer": "class", **BUFFER, **HEADS},
    "lwf": {"methods": ("lwf",), **CLASSES},
    "derpp": {"methods": ("derpp",), **BUFFER, **CLASSES},
    "gdumb": {"methods": ("gdumb",), **BUFFER, **HEADS},
    "icarl": {**CLASSES, "methods": ("icarl",), **BUFFER},
    "dgr": {"methods": ("dgr",), "dgr_units": 16, "dgr_latent": 4, **HEADS},
    "resnet18": {"model": "resnet18", "channels": 4, "percent_on_conv": 0.25, **HEADS},
    "gaussians": {**CONTEXTS, "context": "gaussian", "context_shrink": 0.3, **CLASSES},
    "cosine": {"lr_schedule": "cosine", "lr_warmup": 2},
    **CLOSED,
}
ROTATED: dict[str, Any] = {"mnist_mode": "rotate"}
Make = Callable[..., Any]


@pytest.fixture
def keep(experiment: Make, stream_of: Make, tmp_path: Path) -> Make:
    """The path of the weights of a run of two tasks, and what it measured and remembered."""

    def make(**keys: Any) -> tuple[Path, np.ndarray, dict[str, Tensor]]:
        exp: Experiment = experiment(**{"train_ep": 1, "train_ep_inc": 1} | keys)
        stream = stream_of(exp, train=200, test=100)
        trainer = Trainer.of(exp, stream)
        trainer.run()
        parts = exp, trainer.stream, trainer.engine, trainer.methods, trainer.record
        told = about(*parts, 2, {"run": "R", "data": stream.data})
        path = weights.save(tmp_path / "R.safetensors", *told)
        return path, trainer.record.accs, weights.read(path).tensors

    return make


@pytest.fixture
def begun(experiment: Make, stream_of: Make) -> Make:
    """An engine of three tasks that begins with weights, and all that belongs to it."""

    def make(path: Path, **keys: Any) -> Any:
        keys = {"train_ep": 1, "train_ep_inc": 1, "num_batch": 3} | keys
        exp: Experiment = replace(experiment(**keys), begin_with=str(path))
        stream = stream_of(exp, train=200, test=100)
        trainer = Trainer.of(exp, stream)
        fresh = {name: its.clone() for name, its in trainer.engine.weights().items()}
        found = begin(trainer)
        assert found is not None
        return found, trainer, fresh

    return make


@pytest.mark.parametrize("kind", KINDS)
def test_with_further_tasks(keep: Make, begun: Make, kind: str) -> None:
    """The engine says what the kept one said, methods remember what they did, what is new is as
    the seed draws it; and a third task is learned."""
    path, accs, tensors = keep(**KINDS[kind])
    found, trainer, fresh = begun(path, **KINDS[kind])
    engine, methods, stream = trainer.engine, trainer.methods, trainer.stream
    assert found.first == 2
    scores = scores_of(methods)
    for i, task in enumerate(stream.tasks[:2]):
        # As after the second task: of its classes, where there are more now.
        among = None if task.among is None else tuple(range(stream.tasks[1].among))
        known = replace(task, outputs=among)
        assert accuracy(engine, known, i, scores=scores)[0] == accs[-1][i]
    for name, its in engine.weights().items():
        kept = tensors.get(f"network.{name}")
        if kept is None:
            assert torch.equal(its, fresh[name]), "a new head"
            continue
        place = tuple(slice(n) for n in kept.shape)
        if "sparse" in engine.name and its.is_floating_point():  # it holds weights in two parts
            assert torch.allclose(its[place], kept, rtol=1e-5, atol=1e-7)
        else:
            assert torch.equal(its[place], kept)
        rest = torch.ones_like(its, dtype=torch.bool)
        rest[place] = False
        assert torch.equal(its[rest], fresh[name][rest])
    remembered: dict[str, Tensor] = {}
    for method in methods:
        weights.flat(method.state(), f"methods.{method.name}", remembered)
    old = {name: its for name, its in tensors.items() if name.startswith("methods.")}
    for name, its in old.items():
        if name.startswith(("methods.si.", "methods.census.counts.weights", "methods.dgr.network")):
            continue  # of a task that has ended, or of layers that are larger now
        mine = remembered[name][tuple(slice(n) for n in its.shape)]
        np.testing.assert_array_equal(mine, its, err_msg=name)

    found.fill(trainer)
    trainer.run()
    record = trainer.record
    assert np.array_equal(record.accs[:2, :2], accs) and np.isnan(record.accs[0, 2])
    assert not np.isnan(record.accs[1:]).any() and len(record.epochs) == (kind not in CLOSED)
    chance = record.accs[1, 2]
    assert record.accs[2, 2] > chance or kind in ("gdumb", "icarl", "cnn", "resnet18"), (
        "it is learned"
    )


@pytest.mark.parametrize("kind", CLOSED)
def test_sums_come_to_those_of_a_whole_run(
    keep: Make, begun: Make, experiment: Make, stream_of: Make, kind: str
) -> None:
    path, _, _ = keep(**CLOSED[kind])
    found, trainer, _ = begun(path, **CLOSED[kind])
    found.fill(trainer)
    trainer.run()
    exp = experiment(**{"train_ep": 1, "train_ep_inc": 1, "num_batch": 3} | CLOSED[kind])
    whole = Trainer.of(exp, stream_of(exp, train=200, test=100))
    whole.run()
    assert np.array_equal(trainer.record.accs[2], whole.record.accs[2])
    if kind != "ncm":  # where a head has a task alone, nothing is kept of it but the classifier
        most = whole.record.method_costs[trainer.methods[-1].name]
        assert trainer.record.method_costs[trainer.methods[-1].name] == most


def test_what_was_not_measured_here(keep: Make, begun: Make) -> None:
    """Of earlier tasks there are the accuracies after them, and nothing else."""
    keys = {**CLASSES, "eval_every": 3, "record": ("confidence", "confusion")}
    path, _, _ = keep(**keys)
    found, trainer, _ = begun(path, **keys)
    found.fill(trainer)
    trainer.run()
    record, stats = trainer.record, trainer.record.stats()
    curve = record.curve
    ends = np.flatnonzero(np.diff(curve.tasks, append=-1))
    assert curve.tasks.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and curve.done == 9
    np.testing.assert_array_equal(curve.accs[ends], record.accs)
    assert np.isnan(np.delete(curve.accs[:6], ends[:2], axis=0)).all()
    assert not np.isnan(curve.accs[6:]).any()
    assert np.isnan(record.kept.parts["picture_confidence"][:2]).all()
    assert record.kept.parts["confusion"].sum((1, 2)).tolist() == [0, 0, 300]
    within = [its for its in past(record, trainer.place)[0] if isinstance(its, WithinTested)]
    assert [(its.task, its.step, its.number) for its in within] == [(3, 3, 17), (3, 6, 20)]
    metrics = measure(stats)
    assert metrics["average_accuracy"] == record.accs[2].mean()
    assert np.isnan(metrics["min_accuracy"]) and not np.isnan(metrics["calibration_error"])
    sure, right = (record.kept.parts[f"picture_{n}"][0] for n in ("confidence", "correct"))
    assert np.isnan(calibration_error(sure.astype(float), right))


def test_what_was_held_is_held(keep: Make, begun: Make) -> None:
    """EWC that begins with its kept anchors keeps weights where they were; SGD alone does not."""
    moved = {}
    for strength in (0.0, 1e4):
        keys = {"methods": ("ewc",), "ewc_strength": strength, "optimizer": "adam", "lr": 0.001}
        path, _, tensors = keep(**keys)
        found, trainer, _ = begun(path, **keys)
        found.fill(trainer)
        trainer.run()
        name = "heads.0.weight"
        importance = tensors["network.heads.0.ewc_strength_weight"]
        assert importance.any()
        most = importance > importance.median() if strength else None
        moved[strength] = trainer.engine.weights()[name] - tensors[f"network.{name}"]
    assert moved[1e4][most].norm() < 0.5 * moved[0.0][most].norm()


def test_on_another_stream(keep: Make, begun: Make) -> None:
    """All tasks are new, and so is what methods remember; all else of the network is the kept."""
    path, accs, tensors = keep(methods=("ewc",))
    keys = {"seed": 5, "methods": ("ewc",), "num_batch": 2}
    with pytest.raises(WeightsError, match="task 1 is another one"):
        begun(path, **keys)
    kept = path.read_bytes()
    path.write_bytes(kept.replace(b'\\"name\\": \\"Test\\"', b'\\"name\\": \\"Best\\"'))
    found, trainer, _ = begun(path, **keys)
    assert found.first == 0
    for name, its in trainer.engine.weights().items():
        if "ewc" in name:
            assert not its.any()
        else:
            assert torch.equal(its, tensors[f"network.{name}"])
    found.fill(trainer)
    trainer.run()
    record = trainer.record
    assert not np.isnan(record.accs).any() and not np.array_equal(record.accs, accs)


@pytest.mark.parametrize(
    ("there", "here", "why"),
    [
        (CONTEXTS, {**CONTEXTS, "context": "gaussian"}, "context = prototype there, gaussian here"),
        (FIXED, {**FIXED, "features": "first"}, "features = random there, first here"),
        ({"mnist_mode": "rotate"}, {"mnist_mode": "rotate"}, "task 2 is another one there"),
        ({}, {"mnist_mode": "rotate"}, "pixels are in another order"),
        ({}, {"num_batch": 2}, "all 2 tasks of this stream have been trained"),
        (
            {"benchmark": "digits", "num_batch": 2, "scenario": "class"},
            {"benchmark": "digits", "num_batch": 2, "scenario": "class"},
            "take other ones with --name",
        ),
        ({}, {"num_batch": 1}, "of which there are 1 here"),
        ({}, {"methods": ("ewc",)}, "its methods are none, those here ewc"),
        ({"methods": ("ewc",)}, {}, "its methods are ewc, those here none"),
        ({"methods": ("er",), **BUFFER}, {"methods": ("er",)}, "buffer_size = 40 there, 500 here"),
        ({}, {"hidden_units": 32}, "is (10, 64) there, (10, 32) here"),
        ({}, {"hidden_layers": 2}, "the network here has hidden.1"),
        ({}, {"sparsify": False}, "which the network here has not"),
        ({}, {"seed": 1}, "task 1 is another one there"),
        (
            ROTATED,
            {**ROTATED, "validation": 0.2},
            "validation = 0.0 there, 0.2 here; what is tested",
        ),
        (
            {**ROTATED, "validation": 0.2},
            {**ROTATED, "validation": 0.2, "seed": 1},
            "seed = 0 there, 1 here; what is tested on was trained on",
        ),
        ({}, HEADS, "its scenario is domain, that here is task"),
        ({}, {"padding": 2}, "it takes pictures of 1 × 28 × 28; those here are of 1 × 32 × 32"),
        (HEADS, {**HEADS, "class_order": "random"}, "task 1 is another one there"),
        (
            {**HEADS, "methods": ("separate",), "hidden_units": 48},
            {**HEADS, "methods": ("separate",), "hidden_units": 48},
            "separate shares all units out",
        ),
        (HEADS, {**HEADS, "cumul": True}, "with cumul there is no task behind"),
    ],
)
def test_what_does_not_go_together(
    keep: Make,
    experiment: Make,
    there: dict[str, Any],
    here: dict[str, Any],
    why: str,
) -> None:
    path, _, _ = keep(**there)
    exp = replace(experiment(**{"num_batch": 3} | here), begin_with=str(path))
    trainer = Trainer.of(exp, make_stream(exp))
    with pytest.raises(WeightsError) as error:
        begin(trainer)
    assert why in str(error.value)
    assert len(str(error.value).splitlines()) == 3


TINY = ["--device", "cpu", "--quiet"]
SETS = ["hidden_units=20", "train_ep=1", "train_ep_inc=1", "mnist_mode=split", "methods=ewc"]
SETS += ["percent_on_fc=0.2"]
SMALL = [*TINY, "--set", "train_steps=20", "--set", "train_steps_inc=20", "--set", "num_batch=2"]
SMALL += [word for text in SETS for word in ("--set", text)]


@pytest.fixture
def call(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        status = run_exps.main([*words, "--results-dir", str(tmp_path)])
        return status, *capfd.readouterr()

    return call


def test_the_option(call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--continue is the experiment of the weights, goes on in --dry-run, and after an interruption
    to the bit; the result says what it began with."""
    status, out, _ = call("--name", "MLP_1LayerSparse", *SMALL, "--set", "keep_weights=final")
    first = Path(out.strip())
    assert status == 0
    words = [*TINY, "--continue", str(first), "--set", "num_batch=4"]
    status, out, _ = call(*words, "--dry-run")
    assert status == 0 and "begins with task 3" in out and "work: 40 training steps" in out
    status, out, err = call(*words)
    assert status == 0, err
    config, stats = load_results(out.strip())
    assert (config["hidden_units"], config["num_batch"], config["name"]) == (
        20,
        4,
        "MLP_1LayerSparse",
    )
    told = stats["meta"]["began_with"]
    assert told["run"] == first.stem and told["first_task"] == 3 and len(told["sha256"]) == 64
    assert np.array_equal(stats["accs"][:2, :2], load_results(first)[1]["accs"])
    assert len(stats["loss"]) == len(stats["on_idxs"]) == 2

    calls, ends, before = [0], [0], Session._keeping

    def keeping(self: Session, keeper: Any) -> Callable[[bool], None]:
        def keep(done: bool) -> None:
            calls[0] += 1
            if calls[0] == ends[0]:
                keeper.signals.received = signal.SIGTERM
            keeper(done)

        return keep

    for at in (1, 30, 60):
        calls[0], ends[0] = 0, at
        monkeypatch.setattr(Session, "_keeping", keeping)
        assert call(*words)[0] == 143
        monkeypatch.setattr(Session, "_keeping", before)
        [run] = (tmp_path / ".runs").iterdir()
        status, out, err = call("--resume", run.name, "--quiet")
        assert status == 0, err
        again = load_results(out.strip())[1]
        for name in ("accs", "loss", "train_acc", "on_idxs", "untrained"):
            np.testing.assert_array_equal(again[name], stats[name])


def test_another_section(call: Callable, tmp_path: Path) -> None:
    _, out, _ = call("--name", "MLP_1LayerSparse", *SMALL, "--set", "keep_weights=final")
    words = ["--name", "SplitMNISTSparse", *SMALL, "--set", "hidden_layers=1", "--set"]
    words += ["class_order=9,8,7,6,5,4,3,2,1,0", "--set", "weight_sparsity_fc=1"]
    status, out, err = call(*words, "--continue", out.strip())
    assert status == 0, err
    stats = load_results(out.strip())[1]
    assert stats["meta"]["began_with"]["first_task"] == 1 and not np.isnan(stats["accs"]).any()


def test_pictures_that_were_trained_on_are_not_tested_on(call: Callable, tmp_path: Path) -> None:
    """Other parts of the same file; with its own parts, and on another file, it goes on."""
    draw = np.random.default_rng(0)
    for name in ("one", "other"):
        x, y = draw.integers(256, size=(200, 8, 8)).astype(np.uint8), np.arange(200) % 4
        np.savez(tmp_path / f"{name}.npz", x=x, y=y)
    config = tmp_path / "some.cfg"
    text = f"""
[A]
benchmark = arrays
data_file = {tmp_path / "one.npz"}
hidden_units = 20
percent_on_fc = 0.2
tasks = rotate
train_ep = 1
train_ep_inc = 1
num_batch = 1
[B]
like = A
"""
    config.write_text(text)
    shared = [*TINY, "--config", str(config), "--set", "keep_weights=final"]
    status, out, err = call(*shared, "--name", "A")
    assert status == 0, err
    again = [*shared, "--name", "B", "--continue", out.strip(), "--set", "num_batch=2", "--set"]
    status, _, err = call(*again, "test_share=0.5")
    assert status == 1 and "test_share = 0.2 there, 0.5 here; what is tested on was" in err, err
    (tmp_path / "same.npz").symlink_to(tmp_path / "one.npz")
    status, _, err = call(*again, "test_share=0.5", "--set", f"data_file={tmp_path / 'same.npz'}")
    assert status == 1 and "what is tested on was" in err, err
    for more in ("test_share=0.2", f"data_file={tmp_path / 'other.npz'}"):
        status, _, err = call(*again, more)
        assert status == 0, err


def test_wrong_options(call: Callable, tmp_path: Path) -> None:
    for words, status, told in (
        (["--continue", "nothing.pkl"], 1, "there are no weights beside it"),
        (["--continue", "nothing.safetensors"], 1, "there is no such file"),
        (["--continue", "x", "--resume"], 2, "keep one"),
        (["--continue", "x", "--seeds", "0-2"], 2, "goes on with one run"),
    ):
        found, _, err = call(*words)
        assert found == status and told in err, err
