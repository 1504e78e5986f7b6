"""How large the result of an experiment becomes: known before its first step."""

from __future__ import annotations

from collections.abc import Sequence
from operator import mul

from exps.experiment import Experiment
from exps.facts import Findings, width

MAX_RESULT = 512 * 2**20  # bytes of a result file
# Of the parts that can be so large: the keys that they grow with, and what to do.
GROWS = {
    "on_idxs": (
        ("hidden_units", "num_batch", "record_stats"),
        "take fewer units or tasks, or record_stats = false",
    ),
    "entropy": (
        ("train_ep", "train_ep_inc", "num_batch", "hidden_layers"),
        "take fewer epochs, tasks or layers",
    ),
    "curve": (
        ("eval_every", "train_ep", "train_ep_inc", "num_batch"),
        "take a larger eval_every, fewer epochs or fewer tasks",
    ),
    "picture_confidence": (
        ("record", "num_batch", "validation"),
        "take fewer tasks, or record without confidence",
    ),
    "confusion": (
        ("record", "num_batch", "scenario"),
        "take fewer tasks, or record without confusion",
    ),
    "synapses_by_birth": (
        ("num_batch", "scenario", "hidden_layers", "dynamic", "context", "old_synapse_lr"),
        "take fewer tasks or layers, or a scenario with one head for all tasks",
    ),
}


def result_bytes(exp: Experiment, pictures: Sequence[int], tested: Sequence[int]) -> dict[str, int]:
    """The bytes of a result by its parts, each with what is like it; `costs` takes in the rest.

    pictures: of each task that is trained, to train on; tested: of each task, to test on.
    """
    exp = exp.in_effect
    tasks, trained = len(tested), len(pictures)
    lengths = [max(-(-n // exp.mb_size), 1) for n in pictures]  # of an epoch, in steps
    steps = [exp.steps(task, epoch) for task, epoch in enumerate(lengths)]
    each = [-(-total // epoch) for total, epoch in zip(steps, lengths, strict=True)]  # epochs
    tests = [1 + max(total - 1, 0) // exp.eval_every if exp.eval_every else 0 for total in steps]
    epochs = sum(each)
    hidden = exp.hidden_layers if exp.uses("hidden_layers") else int(exp.has_hidden)
    units, winners = _units(exp)
    layers = hidden + (tasks if exp.scenario == "task" and not exp.cumul else 1)
    contexts, old = (name in exp.all_methods for name in ("contexts", "old_synapses"))
    found = contexts and exp.context != "given"  # what is told is not looked for
    count = 4 if max(map(mul, pictures, each)) < 2**31 else 8
    numbers = {
        "accs": trained * tasks * (1 + found + (exp.scenario == "class")) + tasks,
        "entropy": epochs * (4 + winners) + winners,
        "curve": sum(tests) * (2 + tasks),
        "synapses_by_birth": layers + trained * (layers * (tasks + 5 + 6 * old) + hidden),
    }
    if exp.patience and any(each):
        numbers["best_epochs"] = 2 * trained
    if "ridge" in exp.all_methods:
        numbers["ridge_strength"] = 1
    if "census" not in exp.all_methods:
        del numbers["synapses_by_birth"]
    outputs = max(exp.sizes) if exp.scenario == "domain" else sum(exp.sizes)
    each_picture, confusion = (part in exp.record for part in ("confidence", "confusion"))
    return {
        "picture_confidence": sum(tested) * (3 * trained + 2) * each_picture,
        "confusion": outputs * (4 * trained * outputs + 2 * (exp.scenario == "class")) * confusion,
        "on_idxs": count * trained * units * (exp.record_stats and any(each)),
        **{part: 8 * n for part, n in numbers.items()},
        "costs": 2**16 + 2**10 * (layers + 2),
    }


def _units(exp: Experiment) -> tuple[int, int]:
    """The inputs of the classifier, and how many k-winner layers there are; where its network does
    not say, as if they were the hidden units, and two convolutions before them."""
    layers = exp.layers_for()
    if layers is None:
        return exp.hidden_units, 3 * exp.sparsify
    return width(layers, exp.facts.picture), exp.sparsify * sum(layer.winners for layer in layers)


def too_large(exp: Experiment, pictures: Sequence[int], tested: Sequence[int]) -> Findings:
    """The keys that make a result larger than it may be, and why, if they do."""
    parts = result_bytes(exp, pictures, tested)
    size = sum(parts.values())
    if size > MAX_RESULT:
        largest = max(GROWS, key=lambda part: parts.get(part, 0))
        keys, remedy = GROWS[largest]
        yield (
            keys,
            f"the result would have {size / 2**20:,.0f} MiB, above all {largest}, and the limit is "
            f"{MAX_RESULT >> 20} MiB; {remedy}",
        )
