"""How large the result of an experiment becomes: known before its first step."""

from __future__ import annotations

from exps.experiment import Experiment
from exps.facts import Findings

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
    "synapses_by_birth": (
        ("num_batch", "scenario", "hidden_layers", "dynamic", "context", "old_synapse_lr"),
        "take fewer tasks or layers, or a scenario with one head for all tasks",
    ),
}


def result_bytes(exp: Experiment, pictures: int) -> dict[str, int]:
    """The bytes of a result by its parts, each with what is like it; `costs` takes in the rest.

    pictures: of a task, to train on.
    """
    exp = exp.in_effect
    tasks, trained = exp.num_batch, 1 if exp.cumul else exp.num_batch
    epoch = max(-(-pictures // exp.mb_size), 1)
    each = [-(-exp.steps(task, epoch) // epoch) for task in (0, 1)]  # epochs
    epochs = each[0] + (trained - 1) * each[1]
    hidden = exp.hidden_layers if exp.uses("hidden_layers") else 1
    winners = exp.sparsify * (hidden + 2 * exp.uses("percent_on_conv"))
    layers = hidden + (tasks if exp.scenario == "task" and not exp.cumul else 1)
    contexts, old = (name in exp.all_methods for name in ("contexts", "old_synapses"))
    count = 4 if pictures * max(each) < 2**31 else 8
    numbers = {
        "accs": trained * tasks * (1 + contexts) + tasks,
        "entropy": epochs * (4 + winners) + winners,
        "synapses_by_birth": layers + trained * (layers * (tasks + 5 + 6 * old) + hidden),
    }
    if "ridge" in exp.all_methods:
        numbers["ridge_strength"] = 1
    if "census" not in exp.all_methods:
        del numbers["synapses_by_birth"]
    return {
        "on_idxs": count * trained * exp.hidden_units * (exp.record_stats and any(each)),
        **{part: 8 * n for part, n in numbers.items()},
        "costs": 2**16 + 2**10 * (layers + 2),
    }


def too_large(exp: Experiment, pictures: int) -> Findings:
    """The keys that make a result larger than it may be, and why, if they do."""
    parts = result_bytes(exp, pictures)
    size = sum(parts.values())
    if size > MAX_RESULT:
        largest = max(GROWS, key=lambda part: parts.get(part, 0))
        keys, remedy = GROWS[largest]
        yield (
            keys,
            f"the result would have {size / 2**20:,.0f} MiB, above all {largest}, and the limit is "
            f"{MAX_RESULT >> 20} MiB; {remedy}",
        )
