"""Which task's training pictures a picture looks like: what it finds its context by.

Sums over the training pictures of every task, each counted once, of which none is kept; or how sure
each context is of its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.facts import Findings

# Of a context, by number: the logits [n, classes] that its part gives the pictures looked at.
Ask = Callable[[int], Tensor]
MOST = 10**9  # bytes of sums: a checkpoint has room for 1.5 GB besides


class Prototypes:
    """The task whose pictures have the nearest mean.

    total: float64 [tasks, inputs] and count: int64 [tasks], whose ratio is the mean.
    """

    kept = ("total", "count")

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        tasks, inputs, device = (
            len(stream.training),
            math.prod(stream.input_shape),
            stream.train.x.device,
        )
        self.total = torch.zeros(tasks, inputs, dtype=torch.float64, device=device)
        self.count = torch.zeros(tasks, dtype=torch.int64)

    def add(self, task: int, x: Tensor, y: Tensor) -> None:
        """Pictures x [n, inputs] of a task, and the output units y [n] that are right for them."""
        self.total[task] += x.sum(0)
        self.count[task] += len(x)

    def tables(self, known: int) -> tuple[Tensor, ...]:
        """The tasks so far that have pictures, int64 [tasks]; their means, float32 [tasks,
        inputs]."""
        tasks = self.count[:known].nonzero().flatten()
        if not len(tasks):  # of the first task either
            tasks = torch.zeros(1, dtype=torch.int64)
        rows, count = (some.to(self.total.device) for some in (tasks, self.count[tasks]))
        return rows, (self.total[rows] / count.unsqueeze(1)).float()

    def find(self, x: Tensor, tables: tuple[Tensor, ...], ask: Ask) -> Tensor:
        """The task of each of x [n, inputs], int64 [n]."""
        tasks, means = tables
        return tasks[nearest(x, means)]


class Gaussians:
    """The task that has the likeliest class: a Gaussian each, all classes alike beforehand
    (quadratic discriminant analysis; Friedman, 1989, "Regularized discriminant analysis").

    Of a class, a row of them: outer float64 [classes, inputs, inputs] and total [classes, inputs],
    the sums of x xᵀ and of x, and count float64 [classes]. shrink is added to every variance.
    """

    kept = ("outer", "total", "count")

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        views = stream.targets[: len(stream.tasks)]
        own = [view[view >= 0].unique() for view in views]  # the outputs of every task
        self.task_of = torch.tensor([task for task, found in enumerate(own) for _ in found])
        self.first = [int((self.task_of < task).sum() - found[0]) for task, found in enumerate(own)]
        inputs, device = math.prod(stream.input_shape), stream.train.x.device
        self.outer, self.total, self.count = (
            torch.zeros(len(self.task_of), *shape, dtype=torch.float64, device=device)
            for shape in ((inputs, inputs), (inputs,), ())
        )
        self.shrink: float = exp.context_shrink

    def add(self, task: int, x: Tensor, y: Tensor) -> None:
        """Pictures x [n, inputs] of a task, and the output units y [n] that are right for them."""
        for label in y.unique().tolist():
            mine, row = x[y == label].double(), self.first[task] + label
            self.outer[row].addmm_(mine.t(), mine)
            self.total[row] += mine.sum(0)
            self.count[row] += len(mine)

    def tables(self, known: int) -> tuple[Tensor, ...]:
        """Of every class of the tasks so far that has pictures: the task int64 [classes]; what
        makes its Gaussian round, float32 [classes, inputs, inputs]; the mean after that [classes,
        inputs]; and the log of the density there [classes], up to what all share."""
        rows = ((self.task_of < known).to(self.count.device) & (self.count > 0)).nonzero().flatten()
        eye = torch.eye(self.total.shape[1], dtype=torch.float64, device=self.total.device)
        rounds, means, peaks = [], [], []
        for row in rows.tolist():  # one at a time: float64 [inputs, inputs] is large
            mean = self.total[row] / self.count[row]
            covariance = self.outer[row] / self.count[row] - torch.outer(mean, mean)
            factor = torch.linalg.cholesky(covariance + self.shrink * eye)
            whiten = torch.linalg.solve_triangular(factor, eye, upper=False)
            rounds.append(whiten.float())
            means.append((whiten @ mean).float())
            peaks.append(-factor.diagonal().log().sum().float())
        return self.task_of.to(rows.device)[rows], *map(torch.stack, (rounds, means, peaks))

    def find(self, x: Tensor, tables: tuple[Tensor, ...], ask: Ask) -> Tensor:
        """The task of each of x [n, inputs], int64 [n]."""
        task, *gaussians = tables
        logs = [
            peak - 0.5 * (x @ whiten.t() - mean).square().sum(1)
            for whiten, mean, peak in zip(*gaussians, strict=True)
        ]
        return task[torch.stack(logs).argmax(0)]


class Entropies:
    """The task whose context is surest of its answer: the entropy of the classes is lowest
    (Wortsman et al., 2020, "Supermasks in superposition", who follow its gradient). Every context
    answers for every picture; nothing is held. among: by task, how many outputs count after it, the
    first ones; None for all."""

    kept: tuple[str, ...] = ()

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        self.among = [task.among for task in stream.training]

    def add(self, task: int, x: Tensor, y: Tensor) -> None:
        """Pictures of a task need not be known."""

    def tables(self, known: int) -> tuple[Tensor, ...]:
        """The tasks so far, int64 [known]."""
        return (torch.arange(known),)

    def find(self, x: Tensor, tables: tuple[Tensor, ...], ask: Ask) -> Tensor:
        """The task of each of x [n, inputs], int64 [n]."""
        tasks = tables[0].tolist()
        chances = (ask(task)[:, : self.among[tasks[-1]]].softmax(1) for task in tasks)
        return torch.stack([torch.special.entr(p).sum(1) for p in chances]).argmin(0)


Rule = Prototypes | Gaussians | Entropies
RULES: dict[str, type[Rule]] = {
    "prototype": Prototypes,
    "gaussian": Gaussians,
    "entropy": Entropies,
}


def contradictions(exp: Experiment) -> Findings:
    """Why sums cannot be kept."""
    classes, inputs = sum(exp.sizes), math.prod(exp.facts.picture)
    size = 8 * classes * inputs**2
    if exp.context == "gaussian" and size > MOST:
        yield (
            ("context", "num_batch", "benchmark"),
            f"gaussian keeps {inputs:,} x {inputs:,} numbers of each of {classes} classes, "
            f"{size / 1e9:.1f} GB; the limit is {MOST / 1e9:g} GB; choose prototype or fewer tasks",
        )


def nearest(x: Tensor, prototypes: Tensor) -> Tensor:
    """Which prototype [n, inputs] is nearest to each of x [batch, inputs]: int64 [batch]."""
    # |x - p|² without |x|², which is the same for all p.
    distance = (prototypes * prototypes).sum(1) - 2 * x @ prototypes.t()
    return distance.argmin(1)
