"""What a report says: its groups, the pairs compared in it, and the sentences at its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from exps.experiment import KEYS
from exps.messages import all_of, shown
from utils.metrics import ACCURACY, METRICS
from utils.report.groups import (
    UNKNOWN,
    Group,
    GroupError,
    differences,
    find,
    grouped,
    twins,
)
from utils.report.runs import Run
from utils.report.statistics import Comparison, compare, estimate, holm
from utils.report.wording import estimate_text, sentence

MAIN = "average_accuracy"  # what the answer is given in
_TESTED = tuple(name for name, key in KEYS.items() if key.tests)


@dataclass(frozen=True)
class Pair:
    """Two groups compared. metrics: those that both have, first minus second; twins: whether they
    are the same network sparse and dense.
    """

    first: Group
    second: Group
    metrics: dict[str, Comparison]
    twins: bool

    @property
    def sentence(self) -> str:
        """Which is better, by how much, and how sure that is."""
        return sentence(self.first.label, self.second.label, MAIN, self.metrics[MAIN])


@dataclass(frozen=True)
class Report:
    """All that the tables, the pictures and the page are made from.

    problems: a line for every file that could not be read.
    """

    groups: list[Group]
    pairs: list[Pair]
    problems: list[str]

    @property
    def answer(self) -> list[str]:
        """The answer, the shortest first: one sentence, or a few."""
        compared = {group for pair in self.pairs for group in (pair.first, pair.second)}
        others = [same for same in _by_tasks(self.groups) if compared.isdisjoint(same)]
        sentences = [pair.sentence for pair in self.pairs]
        return _summary(self.pairs) + sentences + [_highest(same) for same in others]

    @property
    def notes(self) -> list[str]:
        """What to know before the numbers are believed."""
        of_groups = [note for group in self.groups for note in _notes(group)]
        of_pairs = [note for pair in self.pairs for note in _notes_on(pair)]
        return [*_notes_on_tasks(self.groups), *of_groups, *of_pairs]


def make_report(
    runs: Iterable[Run], problems: Sequence[str] = (), compared: Sequence[Sequence[str]] = ()
) -> Report:
    """Group the runs, and compare the pairs asked for, then all twins, then any two groups that
    are alone with their tasks.

    Raises GroupError for a pair of which there is no such group, or that is one group.
    """
    groups = grouped(runs)
    asked = [(find(groups, a), find(groups, b)) for a, b in compared]
    for first, second in asked:
        if first is second:
            raise GroupError(f"--compare: {first.label} cannot be compared with itself")
    found = twins(groups)
    alone = [(same[0], same[1]) for same in _by_tasks(groups) if len(same) == 2]
    chosen = list(dict.fromkeys([*asked, *found]))
    chosen += [(a, b) for a, b in alone if not {(a, b), (b, a)} & {*chosen}]
    pairs = [_pair(a, b, (a, b) in found) for a, b in chosen]
    adjusted = holm([pair.metrics[MAIN] for pair in pairs])
    pairs = [
        replace(pair, metrics=pair.metrics | {MAIN: comparison})
        for pair, comparison in zip(pairs, adjusted, strict=True)
    ]
    return Report(groups, pairs, list(problems))


def _pair(first: Group, second: Group, are_twins: bool) -> Pair:
    metrics, alike = {}, _tasks(first) == _tasks(second)
    for name in ACCURACY:
        a, b = first.by_seed(name), second.by_seed(name)
        if name == MAIN or (a and b):
            metrics[name] = compare(a, b, same_tasks=alike)
    return Pair(first, second, metrics, are_twins)


def _summary(pairs: Sequence[Pair]) -> list[str]:
    """How often sparse is better than dense, where that takes several comparisons."""
    found = [pair.metrics[MAIN] for pair in pairs if pair.twins]
    if len(found) < 3:
        return []
    ahead = [c.difference.mean for c in found if c.certain and c.difference.mean > 0]
    behind = [-c.difference.mean for c in found if c.certain and c.difference.mean < 0]
    rest = len(found) - len(ahead) - len(behind)
    said = [f"better in {_range(ahead)}"] if ahead else []
    said += [f"worse in {_range(behind)}"] if behind else []
    said += [f"not surely either in {rest}"] if rest else []
    return [
        f"Sparse networks against their dense twins, {len(found)} comparisons of"
        f" {METRICS[MAIN].label}: {', '.join(said)}."
    ]


def _range(differences: Sequence[float]) -> str:
    """How many there are, and from what to what: '4 (by 1.2 to 8.0 points)'."""
    least, most = (f"{100 * value:.1f}" for value in (min(differences), max(differences)))
    return f"{len(differences)} (by {least if least == most else f'{least} to {most}'} points)"


def _tasks(group: Group) -> tuple[object, ...]:
    """What it is trained and tested on."""
    return (group.tasks, *(group.config.get(name, "") for name in _TESTED))


def _by_tasks(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups that have the same tasks."""
    found: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        found.setdefault(_tasks(group), []).append(group)
    return list(found.values())


def _highest(groups: Sequence[Group]) -> str:
    """A sentence on the best of the groups, and on the one behind it."""
    means = {group: estimate(group.values(MAIN)) for group in groups}
    known = [group for group in groups if means[group].n]
    if not known:
        names = ", ".join(group.label for group in groups)
        return f"No run of {names} came to its end, so there is no average accuracy."
    known.sort(key=lambda group: -means[group].mean)
    said = [f"{estimate_text(METRICS[MAIN], means[g])} % (n = {means[g].n})" for g in known[:2]]
    tasks = f"{known[0].tasks} task" + ("" if known[0].tasks == 1 else "s")
    if len(groups) == 1:
        lost = estimate(known[0].values("forgetting"))
        forgets = f"; forgetting {estimate_text(METRICS['forgetting'], lost)} points"
        return (
            f"{known[0].label} reaches an average accuracy of {said[0]} over {tasks}"
            f"{forgets if lost.n else ''}."
        )
    follows, test = "", ""
    if len(known) > 1:
        follows = f"; {known[1].label} follows with {said[1]}"
        numbers = f"{known[0].number} {known[1].number}"
        test = f" Whether that is chance: python -m utils.report PATH --compare {numbers}."
    return (
        f"Of {len(groups)} groups on the same {tasks}, {known[0].label} has the highest average"
        f" accuracy, {said[0]}{follows}.{test}"
    )


def _notes_on_tasks(groups: Sequence[Group]) -> Iterator[str]:
    """Which groups of one section are on other tasks, and so are not set against each other."""
    for name in dict.fromkeys(group.name for group in groups):
        same = [group for group in groups if group.name == name]
        if len(_by_tasks(same)) > 1:
            keys = [key for key in differences(same) if key in _TESTED]
            yield (
                f"the groups of {shown(name)} are not all on the same tasks (they differ in"
                f" {all_of(keys or ['their number'])}): those on others are neither compared seed"
                " by seed nor ranked"
            )


def _notes(group: Group) -> list[str]:
    notes = []
    if group.config.get("validation", "0.0") != "0.0":
        notes.append(f"{group.label}: tested on validation pictures, not on the test pictures")
    if group.config.get("data_dir") == UNKNOWN:
        notes.append(
            f"{group.label}: its results do not tell which data they are of, so they are a group of"
            " their own"
        )
    if sum(run.complete for run in group.runs) == 1:
        notes.append(f"{group.label}: a single run came to its end, so there is no interval")
    for run in group.runs:
        if not run.complete:
            notes.append(
                f"{run.path.name} ({group.label}): {run.status} after {run.done} of"
                f" {len(run.accs)} tasks, so in none of the metrics that need its end"
            )
    for run in group.repeats:
        notes.append(
            f"{run.path.name} ({group.label}): another run of seed {run.seed}; the newest complete"
            " one counts"
        )
    if (programs := len({program(run) for run in group.runs})) > 1:
        notes.append(f"{group.label}: its runs were made by {programs} versions of the program")
    if group.reference is not None:
        notes.append(f"{group.label}: intransigence is against {group.reference.label}")
    return notes


def _notes_on(pair: Pair) -> Iterator[str]:
    first, second, main = pair.first, pair.second, pair.metrics[MAIN]
    both = f"{first.label} and {second.label}"
    left = max(len(group.by_seed(MAIN)) for group in (first, second)) - main.difference.n
    if _tasks(first) != _tasks(second):
        yield f"{both} are not on the same tasks: their accuracies measure different things"
    if main.paired and left:
        yield f"{both} are compared by the {main.difference.n} seed(s) that both have a run of"
    programs = [{program(run) for run in group.runs} for group in (first, second)]
    if programs[0] != programs[1]:
        yield f"{both} were not made by the same version of the program"


def program(run: Run) -> str:
    """Which version of the program made the run."""
    return shown(str(run.meta.get("code") or run.meta.get("version") or "unknown"), 100)
