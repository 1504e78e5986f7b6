"""Why a task cannot have a part of the network: what every method is asked that gives it one.

Such a method says in its file how large a part is, `part_of(exp, units)`, and by `PART_KEYS` which
keys decide that; its `Method` says which units these are.
"""

from __future__ import annotations

from itertools import zip_longest

from exps import plugins
from exps.experiment import PART, Experiment
from exps.facts import Findings
from exps.messages import all_of
from exps.plugins import METHOD, PluginError


def contradictions(exp: Experiment, method: str) -> Findings:
    """Why this method cannot. Raises PluginError for a user's file without `units_of`."""
    module = plugins.load(METHOD, method)
    if not hasattr(module.Method, "units_of"):
        raise PluginError(f"{method}: it has {PART}, so its Method needs units_of")
    keys = getattr(module, "PART_KEYS", (*getattr(module, "KEYS", {}), "methods")[:1])
    chosen, name = chosen_by(exp, method)
    if getattr(module.Method, "told", None) is True:
        yield from untold(exp, name)
    yield from _no_part(exp, method, chosen, name, keys)


def chosen_by(exp: Experiment, method: str) -> tuple[str, str]:
    """The key that a method with parts is chosen by, and what it is called for people."""
    key = plugins.CHOSEN_BY.get(method)
    return (key, f"{key} = {getattr(exp, key)}") if key else ("methods", plugins.stem(method))


def untold(exp: Experiment, name: str) -> Findings:
    """Why it is not known at test time which task it is."""
    if exp.scenario != "task":
        yield (
            ("scenario", "methods", "context"),
            f"{name} has to be told at test time which task it is; choose scenario = task",
        )


def _no_part(
    exp: Experiment, method: str, chosen: str, name: str, keys: tuple[str, ...]
) -> Findings:
    if not (exp.widths and exp.groups):
        yield (
            (chosen, "cnn", "model"),
            f"{name} gives every task a part of the network, and {exp.model} does not say what that"
            " is (WIDTHS and groups); choose model = mlp, cnn or resnet18",
        )
        return
    if exp.sparsify and exp.sparse_layers != "own":
        yield (chosen, "sparse_layers"), f"{name} needs sparse_layers = own"
    smaller = False
    for key, share in exp.widths.items():
        units, what = getattr(exp, key), called(key)
        size = plugins.whole(method, PART, plugins.call(METHOD, method, PART, exp, units))
        k = round(units * getattr(exp, share)) if share and exp.sparsify else 0
        smaller |= size < units
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
    for own, of in zip_longest(exp.parts[method].groups, exp.groups, fillvalue=0):
        if not 0 < own <= of or (smaller and own == of):
            yield (
                ("model", *keys),
                f"of groups of {all_of(list(map(str, exp.groups)))} units a part has"
                f" {all_of(list(map(str, exp.parts[method].groups)))}; each needs some, and fewer"
                f" than there are: see WIDTHS and groups of {exp.model}",
            )
            return


def idle(exp: Experiment, what: str) -> Findings:
    """What methods can do nothing where tasks share no unit, and so no synapse; what: what tasks
    have."""
    found = [m for m in exp.all_methods if m in ("ewc", "mas", "old_synapses", "si")]
    if found and exp.num_batch > 1:
        keys = [plugins.CHOSEN_BY.get(m, "methods") for m in found]
        names = [plugins.CHOSEN_BY.get(m, m) for m in found]
        why = f"{what} share no synapse, so {all_of(names)} can do nothing"
        yield (*dict.fromkeys(keys), "context_overlap"), why


def called(key: str) -> str:
    """What a key of `Experiment.widths` counts."""
    return "channels" if "channels" in key else "units"
