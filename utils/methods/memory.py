"""Pictures that are kept: by row number and view, never as a copy; they are where they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from exps import parts
from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key, When
from exps.kinds import Choice, Whole
from utils.engines.batch import Part
from utils.methods.base import Costs, draws

DRAW = 4  # sets the draws of memories apart from whatever else is drawn from the seed
KEYS = {
    "buffer_size": Key(
        500,
        Whole(1, 10_000_000, "pictures"),
        "how many earlier pictures are kept in memory",
        When("buffer_per_class = 0", lambda exp: not (by_class(exp) and per_class(exp))),
    ),
    "buffer": Key(
        "reservoir",
        Choice(("reservoir", "class")),
        "which pictures are kept: reservoir: a sample of all so far, from the first step on; "
        "class: as many of every class, drawn when its task ends",
    ),
    "buffer_per_class": Key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "so many of every class of every task are kept, however many there are; 0: they share "
        "buffer_size",
        When("buffer = class, where there is a choice", lambda exp: by_class(exp)),
    ),
}


def by_class(exp: Experiment) -> bool:
    """Whether as many pictures of every class are kept: some methods leave no choice."""
    return bool(getattr(exp, "buffer", "class") == "class")


def per_class(exp: Experiment) -> int:
    """How many of every class are kept; 0: as many as there is room for."""
    return int(getattr(exp, "buffer_per_class", 0))


def no_parts(exp: Experiment, method: str) -> Findings:
    """Why pictures of earlier tasks cannot be trained on."""
    for name in exp.parts:
        _, chosen = parts.chosen_by(exp, name)
        yield (
            ("methods", "context"),
            f"with {chosen} a step trains the units of its task alone, and earlier tasks have "
            f"others; choose {method} or {chosen}",
        )


def too_few(exp: Experiment) -> Findings:
    """Why not every class can have a place."""
    kinds = sum(exp.sizes)
    if by_class(exp) and not exp.buffer_per_class and exp.buffer_size < kinds:
        yield (
            ("buffer_size", "buffer_per_class", "num_batch"),
            f"{exp.buffer_size} pictures leave none for some of the {kinds} classes of all tasks; "
            "choose a larger buffer_size, or buffer_per_class",
        )


class Memory:
    """rows, views: int64 [n], the pictures that are kept."""

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        self.rows = self.views = torch.zeros(0, dtype=torch.int64)
        self.generator = draws(DRAW, exp.seed)
        self.heads = torch.tensor([task.head for task in stream.training])

    def __len__(self) -> int:
        return len(self.rows)

    def draw(self, count: int, earlier: int | None = None) -> Tensor:
        """Places int64 of so many different ones, or all; earlier: only of tasks before this one.
        Where there are several heads, as many for each and at least one, head after head: so parts
        have the same sizes in every step.
        """
        views = self.views[: len(self)]
        able = torch.ones(len(self), dtype=torch.bool) if earlier is None else views < earlier
        heads = self.heads[views]
        found = heads[able].unique().tolist()
        each, more = divmod(count, max(len(found), 1))
        drawn = []
        for i, head in enumerate(found):
            mine = (able & (heads == head)).nonzero().flatten()
            share = max(each + (i < more), 1)
            drawn.append(mine[torch.randperm(len(mine), generator=self.generator)[:share]])
        return torch.cat(drawn) if drawn else torch.zeros(0, dtype=torch.int64)

    def samples(self, places: Tensor, device: torch.device) -> Samples:
        """The pictures at these places; device: that of the pictures."""
        return Samples(self.rows[places].to(device), self.views[places].to(device))

    def parts(self, places: Tensor, weight: float, current: Part) -> list[Part]:
        """The pictures at these places as parts of a mini-batch, one for every head, which share
        the weight by how many they are."""
        heads, device = self.heads[self.views[places]], current.samples.rows.device
        found = []
        for head in heads.unique().tolist():
            some = places[heads == head]
            among = current.outputs if head == current.head else None
            share = weight * (len(some) / len(places))
            found.append(Part(self.samples(some, device), head, share, among))
        return found

    def costs(self) -> Costs:
        """Pictures, and the bytes of their numbers."""
        bytes_ = self.rows.element_size() * (self.rows.numel() + self.views.numel())
        return Costs(pictures=len(self), memory=bytes_)

    def state(self) -> dict[str, Any]:
        """All of it."""
        state = self.generator.get_state()
        return {"rows": self.rows, "views": self.views, "generator": state}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.rows, self.views = state["rows"].clone(), state["views"].clone()
        self.generator.set_state(state["generator"])


class Reservoir(Memory):
    """A sample of all pictures offered so far, each with the same chance (Vitter, 1985, "Random
    sampling with a reservoir"); seen: how many were offered.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.rows = torch.zeros(exp.buffer_size, dtype=torch.int64)
        self.views = torch.zeros(exp.buffer_size, dtype=torch.int64)
        self.seen = 0

    def __len__(self) -> int:
        return min(self.seen, len(self.rows))

    def offer(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Keep each of them with the chance that it has now: places int64 [kept], and which of the
        pictures are there now, int64 [kept]."""
        rows = samples.rows.cpu()
        views = samples.view.cpu() if isinstance(samples.view, Tensor) else samples.view
        count = torch.arange(self.seen, self.seen + len(rows))
        # The n-th picture takes place n, or a random one of n + 1 once there is no free place.
        drawn = torch.rand(len(rows), generator=self.generator, dtype=torch.float64) * (count + 1)
        place = torch.where(count < len(self.rows), count, drawn.long())
        latest = {place[n].item(): n for n in (place < len(self.rows)).nonzero().flatten().tolist()}
        places, which = (torch.tensor([*n], dtype=torch.int64) for n in (latest, latest.values()))
        self.rows[places] = rows[which]
        self.views[places] = views if isinstance(views, int) else views[which]
        self.seen += len(rows)
        return places, which

    def state(self) -> dict[str, Any]:
        """All of it."""
        return super().state() | {"seen": self.seen}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        super().restore(state)
        self.seen = state["seen"]


class ByClass(Memory):
    """As many pictures of every class of every task as there is room for, in an order of their
    own: where a class has to make room, it keeps the first. kinds: int64 [n], which class of which
    task a picture is of.
    """

    def __init__(self, exp: Experiment, stream: TaskStream) -> None:
        super().__init__(exp, stream)
        self.stream, self.size, self.each = stream, exp.buffer_size, exp.buffer_per_class
        self.kinds = torch.zeros(0, dtype=torch.int64)

    def kinds_of(self, samples: Samples) -> Tensor:
        """Which class of which task, int64 [n]."""
        labels = self.stream.train.y[samples.rows].cpu()
        view = samples.view.cpu() if isinstance(samples.view, Tensor) else samples.view
        return view * self.stream.targets.shape[1] + labels

    def room(self, kinds: int) -> int:
        """For how many pictures of each of so many."""
        return self.each or self.size // kinds

    def shuffled(self, samples: Samples) -> Samples:
        """The same pictures in an order drawn now."""
        some = torch.randperm(len(samples), generator=self.generator)
        return samples.take(some.to(samples.rows.device))

    def keep(self, samples: Samples) -> None:
        """Keep the first of each of their classes, which are new; the others make room."""
        views = samples.view
        if isinstance(views, int):
            views = torch.full_like(samples.rows, views)
        kinds = torch.cat([self.kinds, self.kinds_of(samples)])
        rows = torch.cat([self.rows, samples.rows.cpu()])
        views = torch.cat([self.views, views.cpu()])
        found = kinds.unique().tolist()
        first = [(kinds == kind).nonzero().flatten()[: self.room(len(found))] for kind in found]
        stay = torch.cat(first)
        self.rows, self.views, self.kinds = rows[stay], views[stay], kinds[stay]

    def state(self) -> dict[str, Any]:
        """All of it."""
        return super().state() | {"kinds": self.kinds}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        super().restore(state)
        self.kinds = state["kinds"].clone()


def make_memory(exp: Experiment, stream: TaskStream) -> Reservoir | ByClass:
    """The memory that `buffer` names."""
    return (Reservoir if exp.buffer == "reservoir" else ByClass)(exp, stream)
