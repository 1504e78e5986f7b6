"""What a kept network says of pictures: computed as the tests of its run were."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.stream import Pictures, Samples, Task, TaskStream
from exps.config import Experiment
from exps.messages import shown, shown_path
from utils.engines.choose import make_engine
from utils.methods.make import make_methods, scores_of
from utils.predict.network import build, stream_of
from utils.predict.pictures import Asked
from utils.results.about import WeightsError
from utils.results.weights import Kept
from utils.training.evaluation import answers, restrict
from utils.training.kept import become, require_same, views


@dataclass(frozen=True)
class Said:
    """Of pictures, which: int64 [n], their places among those asked about; output: int64 [n], what
    each was classified as; confidence: float32 [n], the share of it in the softmax; right: int64
    [n], the outputs of their labels, or None without labels; context: int64 [n], the context that
    was found, or None; names: what each output stands for.
    """

    which: Tensor
    output: Tensor
    confidence: Tensor
    right: Tensor | None
    context: Tensor | None
    names: list[str]

    @property
    def accuracy(self) -> float:
        """The share that is classified as labelled."""
        assert self.right is not None
        return int((self.output == self.right).sum()) / len(self.right)


def classify(kept: Kept, exp: Experiment, asked: Asked, task: int | None) -> Said:
    """What the network says; task (from 0): of which the pictures are, where it has to be told.

    Of labelled pictures those are left out whose label is no class of the task. Raises WeightsError
    where it cannot say.
    """
    y = torch.zeros(len(asked.x), dtype=torch.int64) if asked.y is None else asked.y
    stream = stream_of(kept, exp, Pictures(asked.x, y))
    view, chosen = _task(kept, exp, stream, task)
    which = torch.arange(len(y))
    if asked.y is not None:
        known = (y >= 0) & (y < stream.targets.shape[1])
        right = stream.targets[view, y.where(known, 0)]
        which = which[known & (right >= 0)]
        if not len(which):
            names = [name for name, _ in _classes(stream, view)]
            of = "the network's" if task is None else f"those of {_of(chosen)}"
            raise WeightsError(
                f"no label of the pictures is one of {of}: {shown_path(kept.path)} knows"
                f" {shown(', '.join(names), 300)}"
            )
    else:
        stream = replace(stream, targets=stream.targets.clamp(min=0))
    model = build(kept, exp)
    with kept.fitted():
        methods = make_methods(exp, stream)
        engine = make_engine(exp, model, stream, torch.device("cpu"), methods)
    require_same(kept, engine.weights())
    become(engine, methods, kept, kept.network)
    test = replace(chosen, test=Samples(which, view))
    with kept.fitted():
        found = list(answers(engine, test, scores_of(methods)))
    logits = restrict(torch.cat([logits for logits, _, _ in found]), test.outputs)
    if logits.isnan().any():
        raise WeightsError(f"{shown_path(kept.path)}: with these weights it says nothing but NaN")
    output = logits.argmax(1)  # of the softmax it may be another, to within rounding
    confidence = logits.softmax(1).gather(1, output.unsqueeze(1)).squeeze(1)
    contexts = [context for _, _, context in found if context is not None]
    return Said(
        which,
        output,
        confidence,
        None if asked.y is None else torch.cat([labels for _, labels, _ in found]),
        torch.cat(contexts) if contexts else None,
        _names(stream, view, chosen.head),
    )


def _task(kept: Kept, exp: Experiment, stream: TaskStream, task: int | None) -> tuple[int, Task]:
    """Through which view the pictures are seen, and the task by whose rule they are classified."""
    count, among = len(stream.tasks), kept.about.tasks[kept.about.trained - 1].among
    if task is None and count > 1 and (exp.scenario == "task" or views(stream)):
        why = "at test time the task is known, and a class is chosen among its own"
        if exp.scenario != "task":
            how = "in an order" if stream.blends is None else "turned by an angle"
            why = f"every task sees the pixels {how} of its own"
        names = "; ".join(f"{i + 1}: {its.name}" for i, its in enumerate(stream.tasks))
        raise WeightsError(
            f"{shown_path(kept.path)}: which task the pictures are of is not known",
            why,
            f"say it with --task ({shown(names, 300)})",
        )
    if task is not None and not 0 <= task < count:
        raise WeightsError(f"{shown_path(kept.path)}: --task {task + 1}: it has tasks 1 to {count}")
    chosen = stream.tasks[task or 0]
    if among is not None and not exp.cumul:  # as in the tests after the last task
        chosen = replace(chosen, outputs=tuple(range(among)))
    elif task is None:
        chosen = replace(chosen, outputs=None)
    return (task if task is not None else 0 if count == 1 else count), chosen


def _classes(stream: TaskStream, view: int) -> Iterator[tuple[str, int]]:
    """The classes in this view, by name where known, and the output of each."""
    for label, output in enumerate(stream.targets[view].tolist()):
        if output >= 0:
            known = label < len(stream.class_names)
            yield stream.class_names[label] if known else str(label), output


def _names(stream: TaskStream, view: int, head: int) -> list[str]:
    """What each output of the head stands for in this view: the labels, by name where known."""
    found: list[list[str]] = [[] for _ in range(stream.head_sizes[head])]
    for name, output in _classes(stream, view):
        found[output].append(name)
    return ["/".join(names) or f"output {i}" for i, names in enumerate(found)]


def _of(task: Task) -> str:
    return f"task {shown(task.name)!r}"
