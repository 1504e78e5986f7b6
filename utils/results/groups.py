"""Runs of one configuration over its seeds, what tells such groups apart, and which are twins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from exps.messages import Told, did_you_mean, shortened, shown
from utils.results import metrics
from utils.results.runs import Run, as_if, data_name, with_key
from utils.system.times import instant_or_unknown

UNKNOWN = "unknown"  # data of results that do not tell them
MISSING = "–"  # a key that a configuration lacks, or that does nothing in it
_SHOWN_DIFFERENCES = 4  # in the name of a group
_LONGEST = 60  # characters of a section's name in it


class GroupError(Told):
    """A group that is asked for and is not there; the text says which there are."""

    status = 2


@dataclass(eq=False)
class Group:
    """The runs of one configuration, one a seed.

    number: from 1, as the report counts; repeats: runs of a seed that a newer one stands for;
    reference: the same network trained on all tasks together, where there is one.
    """

    number: int
    label: str
    runs: list[Run]
    repeats: list[Run] = field(default_factory=list)
    reference: Group | None = None

    @property
    def name(self) -> str:
        """The name of its section."""
        return self.runs[0].name

    @property
    def config(self) -> dict[str, str]:
        """Every key that counts in it, as text."""
        return dict(self.runs[0].config)

    @property
    def tasks(self) -> int:
        """How many tasks it is tested on."""
        return max(run.accs.shape[1] for run in self.runs)

    @property
    def cumul(self) -> bool:
        """Whether it was trained on all tasks together."""
        return all(run.cumul for run in self.runs)

    @property
    def drawn(self) -> list[Run]:
        """The runs that came to their end; all of them where none did."""
        return [run for run in self.runs if run.complete] or self.runs

    def value(self, run: Run, metric: str) -> float:
        """A metric of one of its runs; NaN where it has none. Intransigence is against the
        reference's complete run of the same seed, or the mean of these where there is none.
        """
        if metric != "intransigence" or self.reference is None:
            return run.metrics[metric]
        every = self.reference.drawn
        same = [other for other in every if other.seed == run.seed is not None]
        last = np.mean([other.accs[-1] for other in same or every], axis=0)
        return metrics.intransigence(run.accs, last)

    def values(self, metric: str) -> np.ndarray:
        """A metric of every run, float [runs]."""
        return np.array([self.value(run, metric) for run in self.runs])

    def by_seed(self, metric: str) -> dict[object, float]:
        """A metric of the runs that have it, by their seed; by their file where that is unknown."""
        found = {
            run.path if run.seed is None else run.seed: self.value(run, metric) for run in self.runs
        }
        return {key: value for key, value in found.items() if not np.isnan(value)}


def grouped(runs: Iterable[Run]) -> list[Group]:
    """The runs by configuration, in the order of their first one; of several runs of one seed the
    newest that is complete counts.
    """
    found: dict[tuple[object, ...], list[Run]] = {}
    for run in _with_data([*runs]):
        key = (run.name, run.accs.shape, *run.config.items())
        found.setdefault(key, []).append(run)
    groups = [_group(number, same) for number, same in enumerate(found.values(), start=1)]
    _label(groups)
    for group in groups:
        group.reference = _reference(group, groups)
    return groups


def _with_data(runs: Sequence[Run]) -> list[Run]:
    """The runs; where some are of other data of the same name, `data_dir` is among their keys and
    says which: by the folder of the first run of these data, and their digest if that is not
    enough.
    """
    found: dict[tuple[object, ...], dict[str, str]] = {}  # by data set: a name for each digest
    sets = [tuple(map(run.config.get, ("benchmark", "data", "data_file"))) for run in runs]
    for run, of in zip(runs, sets, strict=True):
        names = found.setdefault(of, {})
        if run.data not in names:
            name = data_name(run) if run.data else UNKNOWN
            names[run.data] = f"{name} ({run.data[:8]})" if name in names.values() else name
    return [
        with_key(run, "data_dir", found[of][run.data]) if len(found[of]) > 1 else run
        for run, of in zip(runs, sets, strict=True)
    ]


def differences(groups: Sequence[Group]) -> dict[str, list[str]]:
    """The keys in which the groups differ, each with its value in every group."""
    keys = dict.fromkeys(key for group in groups for key in group.config)
    values = {key: [group.config.get(key, MISSING) for group in groups] for key in keys}
    return {key: texts for key, texts in values.items() if len(set(texts)) > 1}


def twins(groups: Sequence[Group]) -> list[tuple[Group, Group]]:
    """Every sparse group with its dense twin: they differ in `sparsify`, and in keys that count
    only with it.
    """
    dense = [g for g in groups if g.config.get("sparsify") == "false"]
    sparse = [g for g in groups if g.config.get("sparsify") == "true"]
    return [(s, d) for s in sparse for d in dense if _same(s, d, sparsify=False)]


def find(groups: Sequence[Group], wanted: str) -> Group:
    """The group with this label, else the only one with this section name, else with this number.

    Raises GroupError with those that there are.
    """
    named = [g for g in groups if g.label == wanted] or [g for g in groups if g.name == wanted]
    named = named or [g for g in groups if str(g.number) == wanted]
    if len(named) == 1:
        return named[0]
    listed = "; ".join(f"{g.number} {g.label}" for g in named or groups)
    if named:
        raise GroupError(f"several groups are '{shown(wanted)}': name one by number: {listed}")
    guess = did_you_mean(wanted, [g.label for g in groups])
    raise GroupError(f"there is no group '{shown(wanted)}'{guess}; there are: {listed}")


def _group(number: int, runs: list[Run]) -> Group:
    """The runs of one configuration; of those of one seed, the newest complete one counts."""
    newest = {run.path if run.seed is None else run.seed: run for run in sorted(runs, key=_age)}
    kept = sorted(newest.values(), key=lambda run: (run.seed is None, run.seed, str(run.path)))
    return Group(number, kept[0].name, kept, [run for run in runs if run not in kept])


def _age(run: Run) -> tuple[object, ...]:
    """What puts runs in order, the newest complete one last; of one instant, by their serials
    (`_2` and on, behind the name)."""
    name = run.path.stem
    return run.complete, instant_or_unknown(run.meta.get("started")), len(name), name


def _label(groups: Sequence[Group]) -> None:
    """Name each group after its section, and after what differs where several have that name."""
    for name in dict.fromkeys(group.name for group in groups):
        same = [group for group in groups if group.name == name]
        for group, said in zip(same, _sayings(same), strict=True):
            short = shortened(name, _LONGEST)
            group.label = f"{short} ({said})" if said else short
    labels = [group.label for group in groups]
    for group in groups:
        if labels.count(group.label) > 1:
            group.label += f" #{group.number}"


def _sayings(same: Sequence[Group]) -> list[str]:
    """What tells each of these groups from the others, as short as does; '' for a single one."""
    apart = differences(same)
    # A key that others lack, such as those of a sparse network, follows from one that all have.
    both = {key: texts for key, texts in apart.items() if MISSING not in texts}
    said: list[str] = []
    for keys in (both, apart):
        shown_keys = list(keys)[:_SHOWN_DIFFERENCES]
        more = ["…"] if len(keys) > len(shown_keys) else []
        said = [
            ", ".join([f"{key} = {keys[key][i]}" for key in shown_keys] + more)
            for i in range(len(same))
        ]
        if len(set(said)) == len(same):
            break
    return said


def _reference(group: Group, groups: Sequence[Group]) -> Group | None:
    """The same network trained on all tasks together, with as many tasks, at its end."""
    for other in groups:
        fits = other.cumul and not group.cumul and other.tasks == group.tasks
        complete = any(run.complete for run in other.runs)
        # Trained on all tasks together, the number of epochs means something else.
        if fits and complete and _same(group, other, cumul=True, train_ep=1):
            return other
    return None


def _same(group: Group, other: Group, **changes: Any) -> bool:
    """Whether the two have the same configuration but for these keys."""
    mine, its = (as_if(one.runs[0], **changes) for one in (group, other))
    return mine is not None and mine == its
