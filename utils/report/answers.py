"""What a report says: its groups, the pairs compared in it, and the sentences at its beginning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from exps.experiment import definition
from exps.messages import all_of, shown
from utils.report.ranking import Line, Ranking, lines, rank
from utils.report.statistics import Comparison, compare, estimate, holm
from utils.report.wording import MAIN, counted, estimate_text, range_text, sentence
from utils.results.groups import UNKNOWN, Group, GroupError, differences, find, grouped, twins
from utils.results.metrics import ACCURACY, ANYTIME, METRICS
from utils.results.runs import Run, program, release

# Groups are of other versions where both differ: with other methods the code that counts is other.
PROGRAMS = program, release
# Keys that say when metrics are measured: with another one they are other numbers of a network.
MEASURED = {"eval_pictures": ANYTIME, "eval_every": ANYTIME, "eval_tasks": ("forgetting",)}


@dataclass(frozen=True)
class Pair:
    """Two groups compared. metrics: those that both have, first minus second; twins: whether they
    are the same network sparse and dense; apart: the metrics that are left out, as the two have
    different values of the key named here, which says when it is measured (`MEASURED`).
    """

    first: Group
    second: Group
    metrics: dict[str, Comparison]
    twins: bool
    apart: dict[str, str]

    @property
    def sentence(self) -> str:
        """Which is better, by how much, how sure that is, and of what it knows nothing."""
        said = sentence(self.first.label, self.second.label, self.metrics[MAIN])
        for group in (self.first, self.second):
            lost = sum(not run.complete for run in group.runs)
            if 0 < lost < len(group.runs):
                runs = f"{lost} of the {len(group.runs)} runs of {group.label}"
                said += f" {runs} did not come to their end, and are not in this."
        return said


@dataclass(frozen=True)
class Report:
    """All that the tables, the pictures and the page are made from.

    pairs: those asked for first; rankings: of three groups and more on the same tasks; lines: those
    of sweeps; problems: a line for every file that could not be read; command: what would make this
    report again.
    """

    groups: list[Group]
    pairs: list[Pair]
    rankings: list[Ranking]
    lines: list[Line]
    problems: list[str]
    asked: int = 0
    command: str = ""

    @property
    def answer(self) -> list[str]:
        """The answer, the shortest first: one sentence, or a few."""
        compared = {group for pair in self.pairs for group in (pair.first, pair.second)}
        ranked = {group for ranking in self.rankings for group in ranking.groups}
        others = [_single(group) for group in self.groups if group not in compared | ranked]
        pairs = _summary(self.pairs) + [pair.sentence for pair in self.pairs]
        rankings = [text for ranking in self.rankings for text in ranking.sentences]
        pairs_first = self.asked or compared.issuperset(ranked)
        return (pairs + rankings if pairs_first else rankings + pairs) + others

    @property
    def notes(self) -> list[str]:
        """What to know before the numbers are believed."""
        found = list(_notes_on_tasks(self.groups))
        found += [note for group in self.groups for note in _notes(group)]
        found += [note for pair in self.pairs for note in _notes_on(pair)]
        found += [note for ranking in self.rankings for note in _notes_on_ranking(ranking)]
        if self.command and self.rankings:
            both = " ".join(str(group.number) for group in self.rankings[0].groups[-2:])
            found.append(f"any two groups are compared by {self.command} --compare {both}")
        return found


def make_report(
    runs: Iterable[Run], problems: Sequence[str] = (), compared: Sequence[Sequence[str]] = ()
) -> Report:
    """Group the runs, and compare the pairs asked for, then all twins, then any two groups that
    are alone with their tasks; of more groups on the same tasks all with the best.

    Raises GroupError for a pair of which there is no such group, or that is one group.
    """
    groups = grouped(runs)
    asked = [(find(groups, a), find(groups, b)) for a, b in compared]
    for first, second in asked:
        if first is second:
            raise GroupError(f"--compare: {first.label} cannot be compared with itself")
    found = twins(groups)
    alone = [(same[0], same[1]) for same in _by_tasks(groups) if len(same) == 2]
    chosen: dict[frozenset[Group], tuple[Group, Group]] = {}
    for two in (*asked, *found, *alone):
        chosen.setdefault(frozenset(two), two)  # B and A are A and B
    are_twins = {*map(frozenset, found)}
    pairs = [_pair(*two, twins=both in are_twins) for both, two in chosen.items()]
    adjusted = holm([pair.metrics[MAIN] for pair in pairs])
    pairs = [
        replace(pair, metrics=pair.metrics | {MAIN: comparison})
        for pair, comparison in zip(pairs, adjusted, strict=True)
    ]
    told = [group for group in groups if group.by_seed(MAIN)]
    rankings, swept = [], lines(told, ["num_batch"])  # other tasks: seen, but not ranked
    for same in _by_tasks(told):
        here = lines(same)
        swept += here
        if len({line.key for line in here}) == 1:
            rankings += [rank(line.groups, line) for line in here if len(line.groups) > 2]
        answered = [*chosen, *({*ranking.groups} for ranking in rankings)]
        if len(same) > 1 and {*same} not in answered:
            rankings.append(rank(same))
    return Report(groups, pairs, rankings, swept, list(problems), len({*asked}))


def _pair(first: Group, second: Group, *, twins: bool) -> Pair:
    both = {name: (first.by_seed(name), second.by_seed(name)) for name in ACCURACY | ANYTIME}
    both = {name: (a, b) for name, (a, b) in both.items() if name == MAIN or (a and b)}
    keys = differences([first, second])
    apart = {name: key for key, names in MEASURED.items() if key in keys for name in names}
    apart = {name: key for name, key in apart.items() if name in both}
    alike = _tasks(first) == _tasks(second)
    metrics = {n: compare(*its, same_tasks=alike) for n, its in both.items() if n not in apart}
    return Pair(first, second, metrics, twins, apart)


def _summary(pairs: Sequence[Pair]) -> list[str]:
    """How often sparse is better than dense, where that takes several comparisons."""
    found = [pair for pair in pairs if pair.twins]
    if len(found) < 3:
        return []
    sure = [pair for pair in found if pair.metrics[MAIN].certain]
    apart = [(p.metrics[MAIN].difference.mean, p.first.config["sparsify"] == "true") for p in sure]
    ahead = [abs(by) for by, sparse_first in apart if (by > 0) == sparse_first]
    behind = [abs(by) for by, sparse_first in apart if (by > 0) != sparse_first]
    rest = len(found) - len(ahead) - len(behind)
    said = [f"better in {len(ahead)} (by {range_text(ahead)})"] if ahead else []
    said += [f"worse in {len(behind)} (by {range_text(behind)})"] if behind else []
    said += [f"not surely either in {rest}"] if rest else []
    return [
        f"Sparse networks against their dense twins, {len(found)} comparisons of"
        f" {METRICS[MAIN].label}: {', '.join(said)}."
    ]


def _decides(key: str, group: Group) -> bool:
    """Whether a key decides what is tested; of one of a user's benchmark the result says it."""
    known = definition(key)
    return known.tests if known else key in group.runs[0].meta.get("tested", ())


def _tasks(group: Group) -> tuple[object, ...]:
    """What it is trained and tested on."""
    return (group.tasks, *((k, v) for k, v in group.config.items() if _decides(k, group)))


def _by_tasks(groups: Sequence[Group]) -> list[list[Group]]:
    """The groups that have the same tasks."""
    found: dict[tuple[object, ...], list[Group]] = {}
    for group in groups:
        found.setdefault(_tasks(group), []).append(group)
    return list(found.values())


def _single(group: Group) -> str:
    """A sentence on a group that is compared with no other."""
    mean, lost = (estimate(group.values(name)) for name in (MAIN, "forgetting"))
    if not mean.n:
        return f"No run of {group.label} came to its end, so there is no average accuracy."
    forgets = f"; forgetting {estimate_text(METRICS['forgetting'], lost)} points"
    return (
        f"{group.label} reaches an average accuracy of {estimate_text(METRICS[MAIN], mean)} %"
        f" (n = {mean.n}) over {counted(group.tasks, 'task')}{forgets if lost.n else ''}."
    )


def _notes_on_tasks(groups: Sequence[Group]) -> Iterator[str]:
    """Which groups of one section are on other tasks, and so are not set against each other."""
    for name in dict.fromkeys(group.name for group in groups):
        same = [group for group in groups if group.name == name]
        if len(_by_tasks(same)) > 1:
            keys = [k for k in differences(same) if any(_decides(k, group) for group in same)]
            yield (
                f"the groups of {shown(name)} are not all on the same tasks (they differ in"
                f" {all_of(keys or ['their number'])}): those on others are neither compared seed"
                " by seed nor ranked"
            )


def _notes(group: Group) -> Iterator[str]:
    if group.config.get("validation", "0.0") != "0.0":
        yield f"{group.label}: tested on validation pictures, not on the test pictures"
    if group.config.get("data_dir") == UNKNOWN:
        yield (
            f"{group.label}: its results do not tell which data they are of, so they are a group of"
            " their own"
        )
    if sum(run.complete for run in group.runs) == 1:
        yield f"{group.label}: a single run came to its end, so there is no interval"
    for run in group.runs:
        if not run.complete:
            yield (
                f"{shown(run.path.name, 200)} ({group.label}): {run.status} after {run.done} of"
                f" {len(run.accs)} tasks, so in none of the metrics that need its end"
            )
    for run in group.repeats:
        yield (
            f"{shown(run.path.name, 200)} ({group.label}): another run of seed {run.seed}; the"
            " newest complete one counts"
        )
    if (programs := len({program(run) for run in group.runs})) > 1:
        yield f"{group.label}: its runs were made by {programs} versions of the program"
    if group.reference is not None:
        own = {run.seed for run in group.reference.drawn} - {None}
        others = sum(run.seed not in own for run in group.runs)
        mean = f", of {others} runs against its mean, as it lacks their seeds" if others else ""
        yield f"{group.label}: intransigence is against {group.reference.label}{mean}"


def _notes_on(pair: Pair) -> Iterator[str]:
    first, second, main = pair.first, pair.second, pair.metrics[MAIN]
    both = f"{first.label} and {second.label}"
    left = max(len(group.by_seed(MAIN)) for group in (first, second)) - main.difference.n
    if _tasks(first) != _tasks(second):
        yield f"{both} are not on the same tasks: their accuracies measure different things"
    if main.paired and left:
        yield f"{both} are compared by the {main.difference.n} seed(s) that both have a run of"
    for key in dict.fromkeys(pair.apart.values()):
        names = all_of([METRICS[name].label for name, its in pair.apart.items() if its == key])
        yield f"{both} have another {key} each, and are not compared in {names}"
    if all({by(run) for run in first.runs} != {by(run) for run in second.runs} for by in PROGRAMS):
        yield f"{both} were not made by the same version of the program"


def _notes_on_ranking(ranking: Ranking) -> Iterator[str]:
    best, *others = (len(group.by_seed(MAIN)) for group in ranking.groups)
    leads = zip(ranking.leads, others, strict=True)
    if fewer := sum(c.paired and c.difference.n < max(best, n) for c, n in leads):
        yield f"{ranking.title}: the best is compared with {fewer} by the seeds that both have"
    runs = [run for group in ranking.groups for run in group.runs]
    if all(len(set(map(by, runs))) > 1 for by in PROGRAMS):
        yield f"{ranking.title}: not all were made by the same version of the program"
