"""Learning without forgetting and dark experience replay, against their formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import kl_div

from exps.config import ConfigError, from_texts
from utils.engines.batch import Batch
from utils.methods.base import Moment
from utils.methods.distill import distillation

HEADS = {"scenario": "task", "mnist_mode": "split", "num_batch": 3}
CLASSES = {"scenario": "class", "mnist_mode": "split", "num_batch": 3}
NOW = Moment(task=2, step=0, epoch=8, total=16)


def test_distillation_is_the_divergence_from_the_teacher_up_to_its_entropy() -> None:
    torch.manual_seed(0)
    logits, teacher = torch.randn(5, 6), torch.randn(5, 4)
    wanted = torch.zeros(5, 6)
    wanted[:, :4] = (teacher / 3).softmax(1)
    entropy = -(wanted * wanted.clamp(min=1e-30).log()).sum(1).mean()
    right = kl_div((logits / 3).log_softmax(1), wanted, reduction="batchmean") + entropy
    torch.testing.assert_close(distillation(logits, teacher, None, 3.0), right)
    among = distillation(logits, teacher, 4, 3.0)
    torch.testing.assert_close(among, distillation(logits[:, :4], teacher, None, 3.0))
    assert among < right  # outputs that do not count take no probability away


@pytest.mark.parametrize("engine", ["reference", "dense", "sparse"])
def test_lwf_holds_every_earlier_head_to_what_it_said(
    experiment: Callable, stream_of: Callable, built: Callable, engine: str
) -> None:
    exp = experiment(**HEADS, methods=("lwf",), lwf_strength=2.0, dropout=0.0, engine=engine)
    stream = stream_of(exp)
    built_engine, [method], _ = built(exp, stream)
    built_engine.begin_epoch(2)
    samples = stream.tasks[2].train.take(slice(32))
    said = [built_engine.logits(samples, head, training=True)[0] for head in (0, 1)]
    method.begin_task(built_engine, 2)
    batch = method.before_step(built_engine, Batch.of(samples, 2), NOW)
    assert [(part.head, part.weight) for part in batch.parts] == [(2, 1.0), (0, 0.0), (1, 0.0)]
    assert len(batch.pictures) == 1  # whose features are computed once
    logits = built_engine.step(batch, [method.loss])
    right = sum(distillation(logits[i + 1], said[i], None) for i in (0, 1)) * 4 * 2.0 / 2
    torch.testing.assert_close(method.loss(logits, [], batch), right)


@pytest.mark.parametrize(("outputs", "scaled"), [("all", False), ("seen", True)])
def test_lwf_in_one_head_is_over_the_outputs_that_were_trained(
    experiment: Callable, stream_of: Callable, built: Callable, outputs: str, scaled: bool
) -> None:
    keys = {"methods": ("lwf",), "lwf_weight": "tasks", "lwf_strength": 0.4, "lwf_scaled": scaled}
    exp = experiment(**CLASSES, **keys, outputs=outputs, lwf_temperature=3.0)
    stream = stream_of(exp)
    engine, [method], _ = built(exp, stream)
    engine.begin_epoch(1)
    method.begin_task(engine, 0)
    task = stream.training[2]
    batch = Batch.of(task.train.take(slice(16)), 0)
    batch = Batch((batch.current._replace(outputs=task.among),))
    assert method.before_step(engine, batch, NOW) == batch  # nothing was said yet
    assert method.loss([], [], batch) is None
    said, _ = engine.logits(batch.current.samples, 0, training=True)
    method.begin_task(engine, 2)
    batch = method.before_step(engine, batch, NOW)
    assert batch.current.weight == pytest.approx(1 / 3)
    logits, trained = torch.randn(16, 6), 4 if outputs == "seen" else 6
    right = distillation(logits, said[:, :trained], None, 3.0) * 0.4 * 2 / 3 * (9 if scaled else 1)
    torch.testing.assert_close(method.loss([logits], [], batch), right)


@pytest.mark.parametrize("name", ["der", "derpp"])
def test_der_holds_pictures_to_what_was_said_when_they_came(
    experiment: Callable, stream_of: Callable, built: Callable, name: str
) -> None:
    keys: dict[str, Any] = {"buffer_size": 20, "der_batch": 8, "der_alpha": 0.3}
    exp = experiment(**HEADS, methods=(name,), **keys, dropout=0.0)
    stream = stream_of(exp)
    engine, [method], _ = built(exp, stream)
    engine.begin_epoch(4)
    kept: dict[tuple[int, int], torch.Tensor] = {}
    for task in (0, 1, 2):
        samples = stream.tasks[task].train.take(slice(32))
        batch = method.before_step(engine, Batch.of(samples, task), NOW)
        logits = engine.step(batch, [method.loss])
        if task == 2:
            break
        method.after_step(engine, batch, logits)
        for row, its in zip(samples.rows.tolist(), logits[0], strict=True):
            kept[row, task] = its
    asked = [i for i, part in enumerate(batch.parts) if part.weight == 0]
    assert sum(batch.parts[i].size for i in asked) == 8
    errors = []
    for i in asked:
        part = batch.parts[i]
        for n, row in enumerate(part.samples.rows.tolist()):
            errors.append((logits[i][n] - kept[row, part.head]) ** 2)
    right = 0.3 * torch.cat(errors).mean()
    torch.testing.assert_close(method.loss(logits, [], batch), right)
    more = [part for part in batch.parts[1:] if part.weight]
    assert sum(part.weight for part in more) == pytest.approx(0.5 if name == "derpp" else 0)


def test_der_compares_the_outputs_that_counted_when_pictures_came(
    experiment: Callable, stream_of: Callable, built: Callable
) -> None:
    keys = {"buffer_size": 20, "der_batch": 8, "der_alpha": 1.0}
    exp = experiment(**CLASSES, outputs="seen", methods=("der",), **keys)
    stream = stream_of(exp)
    _, [method], _ = built(exp, stream)
    task = stream.training[0]
    batch = Batch((Batch.of(task.train.take(slice(20)), 0).current._replace(outputs=task.among),))
    said = torch.randn(20, 6)
    method.after_step(None, batch, [said])
    batch = method.before_step(None, batch, NOW)
    [(part, _, _)] = method.asked
    rows = batch.parts[part].samples.rows
    places = [task.train.rows[:20].tolist().index(row) for row in rows.tolist()]
    logits = [torch.randn(20, 6), torch.randn(len(rows), 6)]
    right = (logits[1][:, :2] - said[places, :2]).square().mean()
    torch.testing.assert_close(method.loss(logits, [], batch), right)


@pytest.mark.parametrize("name", ["er", "agem", "lwf", "der", "derpp", "gdumb", "icarl"])
def test_contexts_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"choose {name} or context = prototype"):
        from_texts("Test", {"methods": f"contexts, {name}"})


@pytest.mark.parametrize(("soft", "known"), [("tasks", 2), ("blurry", 4), ("random", 6)])
def test_lwf_keeps_what_was_said_of_all_classes_that_came(
    experiment: Callable, stream_of: Callable, built: Callable, soft: str, known: int
) -> None:
    exp = experiment(**CLASSES, methods=("lwf",), outputs="seen", stream=soft, blur=0.5)
    stream = stream_of(exp)
    engine, [method], _ = built(exp, stream)
    method.begin_task(engine, 1)
    train = stream.training[1].train
    logits, _ = engine.logits(train, 0, training=True)
    torch.testing.assert_close(method.said[0][train.rows], logits[:, :known])
