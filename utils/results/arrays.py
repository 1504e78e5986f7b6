"""What a result has recorded, read as numbers and checked: it may come from anybody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

AGES = ("0", "up to ¼", "up to ½", "up to ¾", "below 1", "1")  # of which synapses are counted
LARGEST = 1e18  # of any number in a result: sums and squares of such stay finite


def numbers(stats: Mapping[str, Any], name: str, dimensions: int) -> np.ndarray | None:
    """This part of the stats as floats, None where it is missing; raises ValueError where it is
    something else than real numbers in so many dimensions.
    """
    if stats.get(name) is None:
        return None
    try:
        array = np.asarray(stats[name])
        found = array.astype(float) if array.dtype.kind in "biuf" else None
    except (ValueError, TypeError, OverflowError, MemoryError):
        found = None
    if found is not None and found.size == 0 and found.ndim < dimensions:
        found = found.reshape(found.shape + (0,) * (dimensions - found.ndim))
    if found is None or found.ndim != dimensions:
        raise ValueError(f"{name} is not an array of numbers with {dimensions} dimension(s)")
    if np.any(np.abs(found) > LARGEST):
        raise ValueError(f"{name} holds numbers beyond {LARGEST:g}")
    return found


@dataclass(frozen=True, eq=False)
class Synapses:
    """Of a network that changes, after each of t tasks trained (T in all), in each of M layers:
    L hidden ones, then the classifiers.

    weights: [M], all there are; by_birth: [t, M, T + 1], synapses by the task of their birth, first
    those that were there before; by_age: [t, M, 6], synapses of age 0, up to ¼, ½, ¾, below 1, and
    1, or None where none grow old; frozen: [t, M], the share of them that could not learn in the
    task; rates: [t, M], their mean learning-rate factor in it; fresh: [t, L], units recruited.
    """

    weights: np.ndarray
    by_birth: np.ndarray
    by_age: np.ndarray | None
    frozen: np.ndarray
    rates: np.ndarray
    fresh: np.ndarray

    @property
    def counts(self) -> np.ndarray:
        """How many synapses there are, [t, M]."""
        return np.asarray(self.by_birth.sum(2))

    def density(self) -> np.ndarray:
        """The share of all weights that are synapses after each task, [t]."""
        return np.asarray(self.counts.sum(1) / self.weights.sum())

    def mean(self, shares: np.ndarray) -> np.ndarray:
        """Of shares [t, M] of the synapses of each layer, those of all synapses: [t]."""
        return np.asarray((shares * self.counts).sum(1) / self.counts.sum(1))


def synapses(stats: Mapping[str, Any], tasks: int) -> Synapses | None:
    """What is recorded of the synapses of a network that changes; None of others, and of results
    that were made before births were recorded. Raises ValueError for what does not fit together.
    """
    by_birth = numbers(stats, "synapses_by_birth", 3)
    if by_birth is None or not len(by_birth):
        return None
    trained, layers, _ = by_birth.shape
    weights = _part(stats, "weights", (layers,))
    frozen = _part(stats, "frozen_synapses", (trained, layers))
    rates = _part(stats, "learning_rate_factor", (trained, layers))
    fresh = _part(stats, "fresh_units", (trained, None))
    by_age = None
    if stats.get("synapses_by_age") is not None:
        by_age = _part(stats, "synapses_by_age", (trained, layers, len(AGES)))
    found = Synapses(weights, by_birth, by_age, frozen, rates, fresh)
    count, hidden = found.counts, fresh.shape[1]
    if trained > tasks or by_birth.shape[2] != tasks + 1 or hidden >= layers:
        raise ValueError(f"synapses_by_birth is {list(by_birth.shape)} for {tasks} task(s)")
    counted = np.all(by_birth >= 0) and np.all(count <= weights) and np.all(count.sum(1) > 0)
    if not counted or max(frozen.max(), rates.max()) > 1:
        raise ValueError("synapses_by_birth and what is with it are no counts and shares")
    return found


def shares(stats: Mapping[str, Any], name: str, accs: np.ndarray) -> np.ndarray | None:
    """This part, in the shape of accs, NaN where not tested; None where it is missing."""
    found = numbers(stats, name, 2)
    if found is None:
        return None
    if found.shape != accs.shape or not np.all(np.isnan(found) | ((found >= 0) & (found <= 1))):
        raise ValueError(f"{name} is {list(found.shape)} or holds other than shares")
    return found


def _part(stats: Mapping[str, Any], name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Numbers from 0, in this shape (None: of any length)."""
    found = numbers(stats, name, len(shape))
    if found is None:
        raise ValueError(f"{name} is missing")
    fits = all(n in (None, m) for n, m in zip(shape, found.shape, strict=True))
    if not fits or not np.all(found >= 0):  # NaN is not, either
        raise ValueError(f"{name} is {list(found.shape)} or holds something below 0")
    return found
