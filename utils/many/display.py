"""What many runs show: one bar for all of them, a line for each that ends, and a summary."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from exps.messages import shown_path
from utils.many.order import DONE, FAILED, INTERRUPTED, KINDS, NOT_BEGUN, SKIPPED, Order, Outcome
from utils.many.pace import Pace
from utils.many.states import State, progress, read_known
from utils.runs.folder import span
from utils.system.talk import LOG, Bar, say, say_path, warn

REFRESH = 2.0  # seconds between two looks at how far runs are
STATES = {"in use": "in use by another process", "new": "to do", "unfinished": "to be gone on with"}
STATES |= {"done": "done already", "diverged": "diverged before"}


def table(labels: Sequence[str], states: Sequence[State]) -> str:
    """How many runs there are and of which state, and a line on each."""
    counts = Counter(STATES[state.kind] for state in states)
    lines = [f"{_runs(len(states))}: " + ", ".join(f"{n} {what}" for what, n in counts.items())]
    width = max(map(len, labels), default=0)
    for label, state in zip(labels, states, strict=True):
        detail = shown_path(state.path) if state.path else ""
        if state.run:
            detail = f"{state.run.name} ({100 * state.far.share:.0f} %, {state.detail})"
        lines.append(f"  {state.kind:<10}  {label:<{width}}  {detail}".rstrip())
    return "\n".join(lines)


class Display:
    """On a terminal a bar over all runs, those under way counted by what their checkpoints have."""

    def __init__(
        self, orders: Sequence[Order], states: Mapping[int, State], total: int, *, quiet: bool
    ) -> None:
        """orders: what is to be done of `total` runs; states: how far each of them is."""
        self.orders = {order.number: order for order in orders}
        self.total, self.quiet = total, quiet
        self.ended = total - len(orders)
        self.warned: set[str] = set()
        groups = {order.number: order.group for order in orders}
        self.pace = Pace(groups, {number: states[number].far for number in groups})
        self.began = self.looked = time.monotonic()
        self.bar = Bar(
            quiet=quiet,
            total=total,
            initial=self.done,
            bar_format="{n:.1f} of {total} runs {percentage:3.0f}%|{bar}| {elapsed}{postfix}",
        )

    def close(self) -> None:
        """The bar disappears."""
        self.bar.close()

    def look(self) -> None:
        """Bring the bar up to date, from time to time."""
        if not self.bar.shown or time.monotonic() - self.looked < REFRESH:
            return
        self.looked = time.monotonic()
        for folder in {order.results_dir for order in self.orders.values()}:
            found = progress(folder)
            for number, order in self.orders.items():
                it = order.wanted.key, order.wanted.data
                if it in found:  # one that has just ended has no checkpoint any more
                    self.pace.reached(number, found[it])
        self._show()

    def ended_with(self, outcome: Outcome) -> None:
        """One more has ended: a line on it."""
        if self.quiet and outcome.kind in (DONE, SKIPPED) and outcome.path:
            say_path(outcome.path, quiet=True)
        order = self.orders.pop(outcome.number)
        known = read_known(outcome.path) if outcome.kind == DONE and outcome.path else None
        self.pace.ended(outcome.number, known.seconds if known and known.seconds > 0 else None)
        self.ended += 1
        for text in outcome.warnings:
            if text not in self.warned:
                self.warned.add(text)
                warn(text)
        for text in outcome.left:
            warn(f"{order.label}: {text}; it stays as it is, and the run was begun anew")
        if self.quiet:
            LOG.info("%s: %s", order.label, described(outcome))
            return
        stopping = outcome.kind in (INTERRUPTED, NOT_BEGUN)
        left = "" if self.bar.shown or stopping else self._left()
        say(f"{self.ended}/{self.total}  {order.label}: {described(outcome)}{left}")
        self._show()

    @property
    def done(self) -> float:
        """How many runs are done, those under way by their share."""
        return self.ended + sum(far.share for far in self.pace.far.values())

    def _show(self) -> None:
        self.bar.say(self._left().strip(" ()"))
        self.bar.reach(self.done)

    def _left(self) -> str:
        """About how long all of it still takes, and when it ends."""
        seconds = self.pace.left(time.monotonic() - self.began)
        if not seconds:
            return ""
        end = datetime.now() + timedelta(seconds=seconds)
        day = "" if end.date() == datetime.now().date() else f"{end:%Y-%m-%d} "
        return f"  (about {span(seconds)} left, until {day}{end:%H:%M})"


def described(outcome: Outcome) -> str:
    """What has become of a run, in a line."""
    again = f"; its process was killed {outcome.killed} time(s)" if outcome.killed else ""
    if outcome.kind == DONE and outcome.path is not None:
        known = read_known(outcome.path)
        if known is None:
            return f"done, {shown_path(outcome.path)}{again}"
        verdict = f" ({known.verdict})" if known.verdict else ""
        told = f"mean accuracy {100 * known.mean:.2f} %{verdict}, "
        mean = "" if math.isnan(known.mean) else told
        return f"{mean}{span(known.seconds)}, {shown_path(outcome.path)}{again}"
    where = f" ({shown_path(outcome.path)})" if outcome.kind == SKIPPED and outcome.path else ""
    why = f": {outcome.reason.splitlines()[0]}" if outcome.reason else ""
    return f"{outcome.kind}{where}{why}{again}"


def summary(ended: Sequence[tuple[str, Outcome]], log: Path | None) -> str:
    """How many there are of each kind, and of each run where its result is, or why there is none.

    ended: the names of runs, and what has become of them.
    """
    kinds = Counter(outcome.kind for _, outcome in ended)
    counts = [f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind]]
    lines = [f"{_runs(len(ended))}: {', '.join(counts)}"]
    for kind in KINDS:
        for name, outcome in ended:
            if outcome.kind == kind:
                lines += _ending(name, outcome)
    return "\n".join([*lines, *([f"log: {shown_path(log)}"] if log else [])])


def _ending(name: str, outcome: Outcome) -> list[str]:
    """A line on a run, or several on one that failed."""
    path = shown_path(outcome.path) if outcome.path else ""
    line = f"  {outcome.kind}: {name}"
    if outcome.kind != FAILED:
        return [": ".join(part for part in (line, path, outcome.reason) if part)]
    lines = [line.strip() for line in outcome.reason.splitlines()]
    lines += [f"result so far: {path}"] if path else []
    lines += [f"log: {shown_path(outcome.log)}"] if outcome.log else []
    return [line, *(f"    {line}" for line in lines)]


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
