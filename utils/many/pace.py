"""How long many runs will still take, by what those like them took: sections differ widely."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import mean
from typing import NamedTuple


class Far(NamedTuple):
    """How far a run is: the share of its training steps that are done, and the seconds it took."""

    share: float = 0.0
    seconds: float = 0.0


class Pace:
    """Runs by number; runs of one group differ in the seed alone, and take about as long."""

    def __init__(self, groups: Mapping[int, str], far: Mapping[int, Far]) -> None:
        """groups: of all runs to be done; far: how far each of them is already."""
        self.groups, self.far = groups, dict(far)  # far: of those that have not ended
        self.before = dict(self.far)
        self.took: dict[str, list[float]] = defaultdict(list)
        self.gained = 0.0  # seconds of runs that have ended, since the beginning

    def reached(self, number: int, far: Far) -> None:
        """A run is so far now; it never goes back."""
        self.far[number] = max(self.far[number], far)

    def ended(self, number: int, seconds: float | None) -> None:
        """A run has ended; seconds: what all of it took, None where it is not whole."""
        last = self.far.pop(number)
        if seconds is not None:
            self.took[self.groups[number]].append(seconds)
        self.gained += (last.seconds if seconds is None else seconds) - self.before[number].seconds

    def left(self, passed: float) -> float | None:
        """Seconds until all have ended, when so many have passed; None while there is no telling.

        A group of which nothing is known yet is taken for the mean of the others.
        """
        gained = self.gained + sum(f.seconds - self.before[n].seconds for n, f in self.far.items())
        whole = {group: list(took) for group, took in self.took.items()}
        for number, far in self.far.items():
            if far.share > 0 and far.seconds > 0:
                whole.setdefault(self.groups[number], []).append(far.seconds / far.share)
        means = {group: mean(found) for group, found in whole.items()}
        if not means or gained <= 0 or passed <= 0:
            return None
        other = mean(means.values())
        work = sum(
            means.get(self.groups[n], other) * (1 - far.share) for n, far in self.far.items()
        )
        return work * passed / gained  # as many at a time as until now
