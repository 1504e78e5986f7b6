"""What an accuracy matrix and the activity of a network come to: metrics, with their papers.

In all of them `accs` is float [T, T], `accs[i, j]`: accuracy (0 to 1) on task j after training on
task i, NaN where it was not tested. A network trained once on all tasks together (cumul) has one
row, [1, T]. What a definition needs and a run does not have makes the metric NaN: a run that was
cut short has no average accuracy, a single task cannot be forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from utils.results import answers, curve
from utils.results.arrays import LARGEST, numbers, shares, synapses

NAN = float("nan")
MAX_TASKS = 1000  # as many as an experiment may have


@dataclass(frozen=True)
class Metric:
    """How a metric is shown.

    unit: `%` for fractions that are shown in percent, `points` for differences of such, `ms` for
    seconds that are shown in milliseconds, or ''.
    """

    label: str
    unit: str
    meaning: str


ACCURACY = {
    "average_accuracy": Metric(
        "average accuracy", "%", "mean accuracy over all tasks after the last one"
    ),
    "average_accuracy_given_task": Metric(
        "average accuracy, task known", "%", "the same among the classes of each task alone"
    ),
    "learning_accuracy": Metric(
        "learning accuracy", "%", "accuracy on a task right after training on it, mean over all"
    ),
    "forgetting": Metric(
        "forgetting", "points", "best earlier accuracy on a task minus the last, mean over all"
    ),
    "bwt": Metric(
        "backward transfer", "points", "last accuracy on a task minus that right after training"
    ),
    "fwt": Metric(
        "forward transfer", "points", "accuracy on a task just before it, minus untrained"
    ),
    "intransigence": Metric(
        "intransigence", "points", "what training on all tasks together learns better"
    ),
}
ANYTIME = {
    "anytime_accuracy": Metric(
        "average anytime accuracy", "%", "mean accuracy on the tasks so far, over all tests"
    ),
    "min_accuracy": Metric(
        "min-ACC", "%", "lowest accuracy on a task since it was learned, mean over the earlier ones"
    ),
    "worst_case_accuracy": Metric(
        "worst-case accuracy",
        "%",
        "the same, with the last task as it is at the end",
    ),
    "stability_gap": Metric(
        "stability gap", "points", "fall on earlier tasks while one is trained that comes back"
    ),
    "windowed_forgetting": Metric(
        "windowed forgetting",
        "points",
        "largest fall of the accuracy on a task within 10 tests in a row, mean over all",
    ),
    "windowed_plasticity": Metric("windowed plasticity", "points", "the largest rise, likewise"),
    "learning_area": Metric(
        "learning curve area", "%", "accuracy on a task while it is trained, mean over its tests"
    ),
    "plasticity": Metric(
        "plasticity", "points", "that of later tasks minus that of the first, a fresh network's"
    ),
}
ANSWERS = {
    "calibration_error": Metric(
        "calibration error", "points", "confidence against accuracy at the end (ECE, 15 bins)"
    ),
    "recency_bias": Metric(
        "recency bias", "%", "of the wrong predictions at the end, those of the latest classes"
    ),
}
SPARSITY = {
    "active_percentage": Metric(
        "active units", "%", "inputs of the classifier that are on in training"
    ),
    "entropy_ratio": Metric(
        "duty-cycle entropy", "%", "of its maximum, at the end: 100 % if all win equally often"
    ),
    "dead_units": Metric(
        "dead units", "%", "inputs of the classifier that were never on in training"
    ),
    "winner_overlap": Metric(
        "winner overlap", "%", "use of the same units by two tasks, mean over all pairs"
    ),
    "weight_density": Metric("weight density", "%", "weights that are not masked"),
}
COST = {
    "params": Metric("parameters", "", "weights and biases"),
    "active_params": Metric("parameters, active", "", "those that are not masked"),
    "macs": Metric("multiply-adds", "", "for one picture, forward, computed densely"),
    "active_macs": Metric(
        "multiply-adds, active", "", "those of weights not masked, with inputs that are on"
    ),
}
METHODS = {
    "method_parameters": Metric(
        "extra parameters", "", "numbers that methods hold beside the network, or in others"
    ),
    "kept_pictures": Metric("pictures kept", "", "that methods have in memory at the end"),
    "kept_bytes": Metric("memory for them (bytes)", "", "and for what is kept with them"),
    "method_macs": Metric(
        "extra multiply-adds a step", "", "of methods, beside those of the step itself"
    ),
    "step_seconds": Metric(
        "time a step", "ms", "of training, what methods do between tasks included"
    ),
}
CHANGE = {
    "context_found": Metric(
        "context found", "%", "pictures whose context was found at the end, mean over all tasks"
    ),
    "synapses_in_use": Metric(
        "synapses in use", "%", "of all weights, at the end: not masked, and in a context"
    ),
    "frozen_synapses": Metric(
        "frozen synapses", "%", "of those in use, in the last task: they could not learn"
    ),
}
METRICS = ACCURACY | ANYTIME | ANSWERS | SPARSITY | COST | METHODS | CHANGE


def average_accuracy(accs: np.ndarray) -> float:
    """Mean over the tasks of the accuracy after the last one: ACC = 1/T sum_j a[T, j].

    Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, 2017. The only one that
    a network trained on all tasks together has as well.
    """
    return float(np.mean(accs[-1]))


def learning_accuracy(accs: np.ndarray) -> float:
    """Mean over the tasks of the accuracy right after training on each: LA = 1/T sum_j a[j, j].

    Riemer et al., Learning to Learn without Forgetting by Maximizing Transfer and Minimizing
    Interference, 2019.
    """
    return float(np.mean(np.diagonal(accs))) if _one_by_one(accs) else NAN


def forgetting_curves(accs: np.ndarray) -> np.ndarray:
    """f[k, j], how much of task j is forgotten after task k: the best accuracy on it after any
    earlier task minus that after task k, float [T, T]; NaN for j >= k.

    Chaudhry et al., Riemannian Walk for Incremental Learning, 2018. 'Earlier' takes in what was
    tested before training on j; where that was not (eval_tasks = seen) it is left out. From there
    on a value that is missing makes those behind it NaN.
    """
    tasks = accs.shape[1]
    found = np.full((tasks, tasks), np.nan)
    if not _one_by_one(accs):
        return found
    for j in range(tasks - 1):
        column = np.where(np.isnan(accs[:, j]) & (np.arange(tasks) < j), -np.inf, accs[:, j])
        found[j + 1 :, j] = np.maximum.accumulate(column)[j:-1] - column[j + 1 :]
    return found


def forgetting(accs: np.ndarray) -> float:
    """Mean of the forgetting of all tasks but the last, after the last: 1/(T-1) sum_j f[T, j].

    Chaudhry et al., Riemannian Walk for Incremental Learning, 2018. Below 0 where the last accuracy
    is the best. NaN for a single task.
    """
    last = forgetting_curves(accs)[-1, :-1]
    return float(np.mean(last)) if len(last) else NAN


def backward_transfer(accs: np.ndarray) -> float:
    """What later tasks did to earlier ones: BWT = 1/(T-1) sum_{j<T} (a[T, j] - a[j, j]).

    Lopez-Paz and Ranzato, Gradient Episodic Memory for Continual Learning, 2017. NaN for a single
    task.
    """
    if not _one_by_one(accs) or len(accs) == 1:
        return NAN
    return float(np.mean((accs[-1] - np.diagonal(accs))[:-1]))


def forward_transfer(accs: np.ndarray, untrained: np.ndarray) -> float:
    """What earlier tasks did for later ones: FWT = 1/(T-1) sum_{j>1} (a[j-1, j] - b[j]).

    untrained: float [T], b: the accuracy of the untrained network on each task. Lopez-Paz and
    Ranzato, Gradient Episodic Memory for Continual Learning, 2017. NaN for a single task, and where
    tasks are not tested before they are trained (eval_tasks = seen).
    """
    if not _one_by_one(accs) or len(accs) == 1:
        return NAN
    return float(np.mean(np.diagonal(accs, 1) - untrained[1:]))


def intransigence(accs: np.ndarray, cumulative: np.ndarray) -> float:
    """What is not learned: I = 1/T sum_j (a*[j] - a[j, j]).

    cumulative: float [T], a*: the accuracy on each task of the same network trained on all tasks
    together. Chaudhry et al., Riemannian Walk for Incremental Learning, 2018, take for a*[j] a
    network trained on the tasks up to j; here it is the one trained on all T, which is the same for
    j = T. Below 0 where training one by one learns better.
    """
    return float(np.mean(cumulative - np.diagonal(accs))) if _one_by_one(accs) else NAN


def accuracy_seen(accs: np.ndarray) -> np.ndarray:
    """Mean accuracy over the tasks trained so far, after each: float [T], sum_{j<=k} a[k, j] / k.

    Chaudhry et al., 2018 (A_k). A network trained on all tasks together gives one number, [1].
    """
    if not _one_by_one(accs):
        return np.mean(accs, axis=1)
    return np.array([np.mean(row[: k + 1]) for k, row in enumerate(accs)])


def active_percentage(perc_on_avg: np.ndarray) -> float:
    """Mean over the epochs of the percentage of the classifier's inputs that are not zero in
    training, after dropout, as a fraction (0 to 1); NaN where it was not recorded.

    perc_on_avg: float [E], percent.
    """
    return float(np.mean(perc_on_avg)) / 100 if perc_on_avg.any() else NAN


def entropy_curve(entropy: np.ndarray, max_entropy: np.ndarray) -> np.ndarray:
    """The entropy of the duty cycles as a fraction of its maximum, over all k-winner layers: [E].

    entropy: float [E, L] bits, max_entropy: float [L] bits. 1 if all units win equally often, 0 if
    always the same ones do. Ahmad and Scheinkman, How Can We Be So Dense? The Benefits of Using
    Highly Sparse Representations, 2019. NaN without k-winner layers (L = 0), and where it is above
    its maximum by more than rounding, which then is none: many values tied, so more than k units
    won, or the result is of a version whose maximum was too low where more than half of them win.
    """
    most = float(np.sum(max_entropy))
    if most <= 0:
        return np.full(len(entropy), np.nan)
    share = np.sum(entropy, axis=1) / most
    return np.where(share > 1 + 1e-4, np.nan, np.minimum(share, 1))


def dead_units(on_idxs: np.ndarray) -> float:
    """Fraction of the classifier's inputs that were not on in a single training sample of any task.

    on_idxs: int [T, U], in how many training samples of a task each of them was on. NaN where
    nothing was recorded, so no unit at all was on.
    """
    return float(np.mean(on_idxs.sum(0) == 0)) if on_idxs.any() else NAN


def winner_overlaps(on_idxs: np.ndarray) -> np.ndarray:
    """How much every two tasks use the same units: float [T, T], sum_u min(p_i[u], p_j[u]).

    on_idxs: int [T, U]; p_i = on_idxs[i] / sum_u on_idxs[i, u]: the share that each unit has in all
    that was on during task i. 1: the same units equally often; 0: not one unit in common. This is
    the intersection of histograms of Swain and Ballard, Color Indexing, 1991. NaN for a task in
    which nothing was recorded.
    """
    total = on_idxs.sum(1, keepdims=True).astype(float)
    share = on_idxs / np.where(total > 0, total, np.nan)
    return np.array([np.minimum(row, share).sum(1) for row in share]).reshape(2 * (len(share),))


def winner_overlap(on_idxs: np.ndarray) -> float:
    """Mean overlap of the winners of two different tasks; NaN for a single task."""
    pairs = winner_overlaps(on_idxs)[np.triu_indices(len(on_idxs), 1)]
    return float(np.mean(pairs)) if len(pairs) else NAN


def weight_density(densities: Mapping[str, float], params: Mapping[str, float]) -> float:
    """Fraction of all weights that are not masked: the layers' densities, weighted by their size.

    densities, params: by the layer's name; what a layer has of parameters stands for its size. NaN
    where the two do not name the same layers.
    """
    if not densities or set(densities) != set(params):
        return NAN
    return sum(densities[name] * params[name] for name in densities) / sum(params.values())


def measure(stats: Mapping[str, Any]) -> dict[str, float]:
    """Every metric of a run by name, in the order of METRICS; NaN for what it cannot have.

    stats: as `load_results` gives it, of 2019 as well. Metrics in % and points are fractions (0 to
    1). Intransigence is NaN: it needs another run. All of a run that was cut short is NaN but what
    its network is: density, parameters and multiply-adds. Raises ValueError for stats of another
    form.
    """
    accs = accuracies(stats)
    values = _of_accuracies(stats, accs) | _of_activity(stats, accs) | _of_methods(stats)
    values |= _of_curve(stats, accs)
    values["calibration_error"] = answers.error_of_calibration(stats)
    values["recency_bias"] = answers.bias_to_the_latest(stats)
    if np.isnan(accs[-1]).all():
        values = dict.fromkeys(values, NAN)
    values |= _of_costs(stats)
    return {name: values[name] for name in METRICS}


def accuracies(stats: Mapping[str, Any]) -> np.ndarray:
    """The accuracy matrix, float [T, T] or [1, T]; raises ValueError for anything else."""
    accs = numbers(stats, "accs", 2)
    if accs is None:
        raise ValueError("it has no accuracy matrix (accs)")
    if accs.shape[0] not in (1, accs.shape[1]) or not 1 <= accs.shape[1] <= MAX_TASKS:
        raise ValueError(
            f"accs is {list(accs.shape)}, not [T, T] or [1, T] with T up to {MAX_TASKS}"
        )
    if not np.all(np.isnan(accs) | ((accs >= 0) & (accs <= 1))):
        raise ValueError("accs holds numbers that are no accuracies from 0 to 1")
    return accs


def entropies(stats: Mapping[str, Any]) -> np.ndarray | None:
    """`entropy_curve` of a run, None where it has no k-winner layers or did not record it."""
    entropy, most = numbers(stats, "entropy", 2), numbers(stats, "max_entropy", 1)
    if entropy is None or most is None or not len(most) or not len(entropy):
        return None
    if entropy.shape[1] != len(most):
        raise ValueError(f"entropy is {list(entropy.shape)}, but max_entropy is {list(most.shape)}")
    return entropy_curve(entropy, most)


def usage(stats: Mapping[str, Any]) -> np.ndarray | None:
    """`on_idxs`, None where nothing was recorded; raises ValueError for what is no count.

    Results of 2019, which have no `meta`, repeat one count of all tasks, training and testing, in
    every row: that says nothing on a task, so it is None as well.
    """
    on_idxs = numbers(stats, "on_idxs", 2)
    if on_idxs is None or not on_idxs.any():
        return None
    if not np.all((on_idxs >= 0) & np.isfinite(on_idxs)):
        raise ValueError("on_idxs holds numbers that are no counts")
    repeated = len(on_idxs) > 1 and bool(np.all(on_idxs == on_idxs[0]))
    return None if repeated and "meta" not in stats else on_idxs


def _of_accuracies(stats: Mapping[str, Any], accs: np.ndarray) -> dict[str, float]:
    untrained, tasks = numbers(stats, "untrained", 1), accs.shape[1]
    given = shares(stats, "accs_given_task", accs)
    if untrained is not None and untrained.shape != (tasks,):
        raise ValueError(f"untrained is {list(untrained.shape)}, but there are {tasks} task(s)")
    return {
        "average_accuracy": average_accuracy(accs),
        "average_accuracy_given_task": NAN if given is None else average_accuracy(given),
        "learning_accuracy": learning_accuracy(accs),
        "forgetting": forgetting(accs),
        "bwt": backward_transfer(accs),
        "fwt": NAN if untrained is None else forward_transfer(accs, untrained),
        "intransigence": NAN,
    }


def _of_curve(stats: Mapping[str, Any], accs: np.ndarray) -> dict[str, float]:
    found = curve.read_curve(stats, accs)
    return {name: NAN if found is None else getattr(curve, name)(found) for name in ANYTIME}


def _of_activity(stats: Mapping[str, Any], accs: np.ndarray) -> dict[str, float]:
    active, bits, on_idxs = numbers(stats, "perc_on_avg", 1), entropies(stats), usage(stats)
    if on_idxs is not None and len(on_idxs) > len(accs):
        raise ValueError(f"on_idxs is {list(on_idxs.shape)}, but accs has {len(accs)} row(s)")
    right, some = shares(stats, "context_right", accs), synapses(stats, accs.shape[1])
    return {
        "active_percentage": NAN if active is None else active_percentage(active),
        "entropy_ratio": NAN if bits is None else float(bits[-1]),
        "dead_units": NAN if on_idxs is None else dead_units(on_idxs),
        "winner_overlap": NAN if on_idxs is None else winner_overlap(on_idxs),
        "context_found": NAN if right is None else float(np.mean(right[-1])),
        "synapses_in_use": NAN if some is None else float(some.density()[-1]),
        "frozen_synapses": NAN if some is None else float(some.mean(some.frozen)[-1]),
    }


def _of_costs(stats: Mapping[str, Any]) -> dict[str, float]:
    layers, densities = stats.get("costs"), stats.get("weight_density")
    try:
        layers = [dict(layer) for layer in layers or []]
        if not all(0 <= float(layer[part]) <= LARGEST for layer in layers for part in COST):
            raise ValueError("numbers below 0 or without bounds")
        sums = {part: sum(float(layer[part]) for layer in layers) for part in COST}
        sizes = {str(layer["name"]): float(layer["params"]) for layer in layers}
        shares = {str(name): float(share) for name, share in dict(densities or {}).items()}
        if not layers:
            return dict.fromkeys((*COST, "weight_density"), NAN)
        return sums | {"weight_density": weight_density(shares, sizes)}
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"costs or weight_density is of another form ({error!r:.60})") from None


def _of_methods(stats: Mapping[str, Any]) -> dict[str, float]:
    """What all methods together cost, 0 where there are none; NaN in results that do not tell."""
    found, seconds, steps = (stats.get(key) for key in ("method_costs", "train_seconds", "steps"))
    if seconds is None or steps is None:
        return dict.fromkeys(METHODS, NAN)
    parts = ("parameters", "pictures", "memory", "macs")
    try:
        costs = [[float(dict(cost)[part]) for part in parts] for cost in dict(found or {}).values()]
        told = np.array([*costs, [float(seconds), float(steps), 0, 0]])
        if not np.all((told >= 0) & (told <= LARGEST)):
            raise ValueError("numbers below 0 or without bounds")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        why = f"method_costs, steps or train_seconds is of another form ({error!r:.60})"
        raise ValueError(why) from None
    taken, count = told[-1, :2].tolist()
    values = [*told[:-1].sum(0).tolist(), taken / count if count else NAN]
    return dict(zip(METHODS, values, strict=True))


def _one_by_one(accs: np.ndarray) -> bool:
    """Whether the tasks were trained one after the other, not together."""
    return accs.shape[0] == accs.shape[1]
