"""What methods share whose tasks have units of their own, most of all where the scenario tells
which task a picture is of."""

from __future__ import annotations

from collections.abc import Callable

from exps.experiment import Experiment
from exps.facts import Findings
from exps.messages import all_of
from utils.engines.base import Engine
from utils.methods import base


def contradictions(
    exp: Experiment, name: str, part_of: Callable[[Experiment, int], int], *keys: str
) -> Findings:
    """Why a task that is told cannot have a part of the network; the arguments are `parted`'s."""
    yield from untold(exp, name)
    yield from parted(exp, name, part_of, "methods", *keys)


def untold(exp: Experiment, name: str) -> Findings:
    """Why it is not known at test time which task it is."""
    if exp.scenario != "task":
        yield (
            ("scenario", "methods", "context"),
            f"{name} has to be told at test time which task it is; choose scenario = task",
        )


def parted(
    exp: Experiment, name: str, part_of: Callable[[Experiment, int], int], chosen: str, *keys: str
) -> Findings:
    """Why a task cannot have a part of the network, with the method of this name, which a key has
    chosen: of so many units as many as `part_of` says, which `keys` decide."""
    if not (exp.widths and exp.groups):
        yield (
            (chosen, "cnn", "model"),
            f"{name} gives every task a part of the network, and {exp.model} does not say what that"
            " is; choose model = mlp, cnn or resnet18",
        )
        return
    if exp.sparsify and exp.sparse_layers != "own":
        yield (chosen, "sparse_layers"), f"{name} needs sparse_layers = own"
    for key, share in exp.widths.items():
        units, what = getattr(exp, key), called(key)
        size = part_of(exp, units)
        k = round(units * getattr(exp, share)) if share and exp.sparsify else 0
        if size > units:
            why = f"{size} {what} of a task are more than the {units} that there are"
            yield (*keys, key), f"{why}; choose a smaller {keys[-1]}"
        elif size < 1:
            yield (*keys, key), f"a task has none of {units} {what}"
        elif share and size < k:
            why = f"{k} {what} win, but only the {size} of a task may; choose a smaller {share}"
            yield (*keys, key, share), why
        else:
            continue
        return  # the other widths are in proportion


def idle(exp: Experiment, what: str) -> Findings:
    """What methods can do nothing where tasks share no unit, and so no synapse; what: what tasks
    have."""
    keys = {"ewc": "methods", "mas": "methods", "si": "methods", "old_synapses": "old_synapse_lr"}
    found = {m: keys[m] for m in exp.all_methods if m in keys}
    if found:
        names = [m if key == "methods" else key for m, key in found.items()]
        why = f"{what} share no synapse, so {all_of(names)} can do nothing"
        yield (*dict.fromkeys(found.values()), "context_overlap"), why


def called(key: str) -> str:
    """What a key of `Experiment.widths` counts."""
    return "channels" if "channels" in key else "units"


class OwnUnits(base.Method):
    """Trains the units of a task; which they are says `units_of`, and how many `part_of` of the
    method's file. Nothing is remembered, and nothing held beside the network."""

    told = True

    def begin_task(self, engine: Engine, task: int) -> None:
        """Train the units of the task."""
        engine.enter(task)
