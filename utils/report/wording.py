"""Numbers and comparisons as people read them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from utils.report.statistics import Comparison, Estimate
from utils.results.metrics import METRICS, Metric

MAIN = "average_accuracy"  # what the answer is given in
NONE = "–"


def value_text(metric: Metric, value: float, half: float = float("nan"), sign: str = "") -> str:
    """A value of a metric, with half of its interval where it has one: '84.5 ± 0.3', '3,145,728'.

    Fractions are shown in percent, seconds in milliseconds. sign: '+' for a sign in front of what
    is above 0, too.
    """
    if math.isnan(value):
        return NONE
    scale = {"": 1, "ms": 1000}.get(metric.unit, 100)
    value, half = scale * value, scale * half
    digits = _digits(metric, value, half)
    text = f"{value:{sign},.{digits}f}"
    if float(text.replace(",", "")) == 0:  # no -0.0
        text = f"{0:.{digits}f}"
    within = "" if math.isnan(half) or (half == 0 and not metric.unit) else f"{half:,.{digits}f}"
    return text.replace("-", "−") + (f" ± {within}" if within else "")


def estimate_text(metric: Metric, estimate: Estimate) -> str:
    """A mean with its interval; without one where there is a single run."""
    return value_text(metric, estimate.mean, estimate.half)


def unit_text(metric: Metric) -> str:
    """Its label with its unit, as a table has it above a column."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def p_text(p: float, sign: str = "") -> str:
    """A probability: '0.003', '< 0.001'; with another sign in front: '= 0.003', '< 0.001'."""
    if math.isnan(p):
        return NONE
    text = f"{p:.3f}" if p < 0.1 else f"{p:.2f}"
    return "< 0.001" if p < 0.001 else f"{sign} {text}" if sign else text


def range_text(differences: Sequence[float]) -> str:
    """Differences of accuracies, from the least to the most: '1.2 to 8.0 points'."""
    ends = [100 * pick(differences) for pick in (min, max)]
    digits = max(_digits(METRICS[MAIN], value, value) for value in ends)
    least, most = (f"{value:.{digits}f}" for value in ends)
    return f"{least if least == most else f'{least} to {most}'} points"


def counted(number: int, what: str) -> str:
    """'1 task', '5 tasks'."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def effect_text(effect: float) -> str:
    """An effect size, in standard deviations: '+1.35'."""
    return NONE if math.isnan(effect) else f"{effect:+.2f}".replace("-", "−")


def sentence(first: str, second: str, comparison: Comparison) -> str:
    """The answer: which of the two is better, by how much, and how sure that is."""
    difference, n = comparison.difference, comparison.difference.n
    if math.isnan(difference.mean):
        return f"{first} and {second} cannot be compared: no run of one of them came to its end."
    better, worse = (first, second) if difference.mean >= 0 else (second, first)
    points = value_text(METRICS[MAIN], abs(difference.mean), difference.half)
    by = f"{points} points of {METRICS[MAIN].label}"
    if n == 1:
        runs = "of one seed" if comparison.paired else "of which one has a single run"
        return f"{better} was ahead of {worse} by {by}, in runs {runs}: too few to be sure."
    of = f"{n} seeds" if comparison.paired else f"{n} runs or more of each"
    sure = f"(n = {of}, p {p_text(comparison.p, '=')}, {comparison.test}"
    if comparison.p_adjusted > comparison.p:
        sure += f"; {p_text(comparison.p_adjusted)} after all comparisons"
    if comparison.certain:
        return f"{better} is better than {worse} by {by} {sure})."
    if difference.mean == 0:
        return f"{first} and {second} are equal in {METRICS[MAIN].label} {sure})."
    return f"{better} is ahead of {worse} by {by}, which may be chance {sure})."


def _digits(metric: Metric, value: float, half: float) -> int:
    """So many that half of the interval has a digit that is not zero, and a small value two."""
    if not metric.unit:
        return 0
    told = (half,) if metric.unit == "points" else (value, half)
    small = min((abs(x) for x in told if abs(x) >= 5e-4), default=1)
    return 1 if small >= 0.1 else 2 if small >= 0.01 else 3
