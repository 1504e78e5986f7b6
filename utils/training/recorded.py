"""What is kept of every test picture, or counted of all, in the tests after tasks (`record`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from benchmarks.stream import Task, TaskStream
from exps.config import Experiment

Answers = list[tuple[Tensor, Tensor, Tensor]]  # of batches: predicted, confidence, right; [n] each


@dataclass
class Kept:
    """parts: arrays by their names in a result (docs/results.md); {} where nothing is asked for.
    starts: where the pictures of each task begin; offsets: and the outputs of each head."""

    parts: dict[str, np.ndarray] = field(default_factory=dict)
    starts: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, done: int, number: int, task: Task, answers: Answers) -> None:
        """What was answered after task `done` of the pictures of a task, the stream's `number`."""
        columns = (torch.cat(column).cpu().numpy() for column in zip(*answers, strict=True))
        predicted, confidence, right = columns
        if "picture_confidence" in self.parts:
            mine = done, slice(self.starts[number], self.starts[number] + len(right))
            self.parts["picture_confidence"][mine] = confidence
            self.parts["picture_correct"][mine] = predicted == right
        if "confusion" in self.parts:
            where = right + self.offsets[task.head], predicted + self.offsets[task.head]
            np.add.at(self.parts["confusion"][done], where, 1)


def nothing_kept(exp: Experiment, stream: TaskStream) -> Kept:
    """Of a run that has not begun."""
    tested, trained = [len(task.test) for task in stream.tasks], len(stream.training)
    parts: dict[str, np.ndarray] = {}
    if "confidence" in exp.record:
        shape = trained, sum(tested)
        parts["picture_tasks"] = np.repeat(np.arange(len(tested), dtype=np.int16), tested)
        parts["picture_correct"] = np.zeros(shape, np.bool_)
        parts["picture_confidence"] = np.full(shape, np.nan, np.float16)
    if "confusion" in exp.record:
        outputs = sum(stream.head_sizes)
        parts["confusion"] = np.zeros((trained, outputs, outputs), np.int32)
        if stream.scenario == "class":
            parts["output_tasks"] = np.zeros(outputs, np.int16)
            for task, targets in enumerate(stream.targets.cpu().numpy()):
                parts["output_tasks"][targets[targets >= 0]] = task
    return Kept(parts, _starts(tested), _starts(stream.head_sizes))


def _starts(sizes: list[int] | tuple[int, ...]) -> list[int]:
    return [sum(sizes[:i]) for i in range(len(sizes))]
