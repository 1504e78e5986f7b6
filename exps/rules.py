"""What no key tells alone: values that contradict each other, or are of no use together.

Each rule yields the keys involved, the likeliest culprit first, and the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from exps import schedule
from exps.experiment import KEYS, Experiment
from exps.messages import all_of, either
from exps.sizes import too_large

Finding = tuple[tuple[str, ...], str]

Shape = tuple[int, int, int]  # of a picture: channels, height, width

CLASSES = {"mnist": 10, "cifar": 10, "cifar100": 100}
PICTURES = {"mnist": 60_000}  # to train on
OTHER_PICTURES = 50_000  # of CIFAR-10, CIFAR-100, and what is not listed
SAMPLE = 1000  # of CIFAR-10
PICTURE: dict[str, Shape] = {"mnist": (1, 28, 28), "cifar": (3, 32, 32), "cifar100": (3, 32, 32)}
CONV_CHANNELS = (64, 128)  # of the CNN
CONV_KERNEL = 5  # pixels a side, without padding
MAX_WEIGHTS = 2_000_000_000  # 8 GB as float32, and again as much for gradients and for momentum


def contradictions(exp: Experiment) -> Iterator[Finding]:
    """Why the experiment cannot be run, if it cannot.

    Pictures in a data_dir set by hand may be of any size: `misfits` has the last word on them.
    """
    yield from _number_of_tasks(exp)
    yield from _class_order(exp)
    yield from _data(exp)
    yield from _nesterov(exp)
    yield from _engine(exp)
    if exp.data_dir == KEYS["data_dir"].default:
        yield from misfits(exp, usual_picture(exp))
    yield from _no_winner(exp)
    yield from _no_tolerance(exp)
    yield from _context(exp)
    yield from _old_synapses(exp)
    yield from _dynamic(exp)
    yield from _methods(exp)
    yield from too_large(exp, max(usual_pictures(exp)))


def usual_picture(exp: Experiment) -> Shape:
    """The shape of the pictures that its data set has."""
    channels, height, width = PICTURE[exp.benchmark]
    more = 2 * exp.in_effect.padding
    return channels, height + more, width + more


def misfits(exp: Experiment, picture: Shape) -> Iterator[Finding]:
    """Why its network cannot be one for pictures of this shape, if it cannot."""
    smallest = min(picture[1:])
    if exp.cnn and smallest <= 2 * (CONV_KERNEL - 1):
        side = 2 * CONV_KERNEL - 1
        yield (
            ("cnn", "benchmark"),
            f"two convolutions of {CONV_KERNEL} × {CONV_KERNEL} leave nothing of pictures of"
            f" {picture[1]} × {picture[2]}; the CNN needs {side} × {side} at least",
        )
        return
    yield from _size(exp, picture)
    yield from _no_weight(exp, picture)
    yield from _no_growth(exp.in_effect, picture)


def doubts(exp: Experiment) -> Iterator[Finding]:
    """Why the experiment, which can be run, might not be what was meant."""
    yield from _single_class(exp)
    yield from _winners_in_evaluation(exp)
    yield from _nothing_masked(exp)
    yield from _nothing_shared(exp)
    yield from _nothing_old(exp)
    yield from _nothing_later(exp)


def never_due(
    exp: Experiment, steps: Sequence[int], picture: Shape | None = None
) -> Iterator[Finding]:
    """What never happens in a run whose tasks, one after the other, have so many steps an epoch.

    picture: the shape of its pictures, where they are at hand: it need not be the usual one.
    """
    exp = exp.in_effect
    tasks = [(epoch, schedule.steps(exp, i, epoch)) for i, epoch in enumerate(steps)]
    due = [schedule.times(exp, *task) for task in tasks]
    longest = max(total for _, total in tasks)
    synapses = _fc_width(exp) * max(
        round(n * exp.initial_density_fc) for n in _fc_inputs(exp, picture)
    )
    moved = any(
        round(synapses * schedule.share(exp, moments[0], total))
        for moments, (_, total) in zip(due, tasks, strict=True)
        if moments
    )
    length: tuple[str, ...] = ("train_ep", "train_ep_inc")
    if exp.dynamic == "set" and not moved:
        yield (
            ("dynamic", *length),
            "synapses move after every epoch of a task but its last, so here none ever does; "
            "train a task for two epochs or more",
        )
    length = (*length, "mb_size", "num_batch", "validation", "benchmark", "mnist_mode", "data")
    if exp.dynamic == "rigl" and not moved:
        yield (
            ("dynamic", *length),
            f"synapses move every {schedule.RIGL_EVERY} steps until three quarters of a task, and "
            f"none has more than {longest:,} steps here, so none ever does; train for longer, or "
            "in smaller mini-batches",
        )
    if exp.dynamic == "grow" and exp.grow_every and max(map(len, due)) == 1:
        yield (
            ("grow_every", *length),
            f"no task is long enough for a second growth before three quarters of its {longest:,} "
            "steps at most, so all grows at the start, as with grow_every = 0",
        )
    if picture not in (None, usual_picture(exp)):
        yield from _nothing_masked(exp, picture)


def usual_steps(exp: Experiment) -> list[int]:
    """The steps an epoch of the tasks, one after the other, with `usual_pictures`."""
    return [-(-n // exp.mb_size) for n in usual_pictures(exp)]


def usual_pictures(exp: Experiment) -> list[int]:
    """How many pictures the tasks, one after the other, train on, where the data set is the usual
    one and its classes have as many each."""
    n = SAMPLE if exp.in_effect.data == "sample" else PICTURES.get(exp.benchmark, OTHER_PICTURES)
    if not exp.permuted:
        n = n * _classes_per_task(exp) // CLASSES[exp.benchmark]
    tasks = [exp.num_batch * n] if exp.cumul else [n] * exp.num_batch
    return [max(round(n * (1 - exp.validation)), 1) for n in tasks]


def _nothing_masked(exp: Experiment, picture: Shape | None = None) -> Iterator[Finding]:
    for keys, density, inputs in _masked(exp, picture):
        if density < 1 and all(round(n * density) == n for n in inputs):
            idle = "" if keys[0] != "initial_density_fc" else ", so none can move"
            yield (
                keys,
                f"{keys[0]} = {density:g} leaves out no weight of a unit of {max(inputs)} "
                f"inputs{idle}",
            )


def _nothing_shared(exp: Experiment) -> Iterator[Finding]:
    share = exp.context_overlap
    if exp.counts("context_overlap") and share > 0 and round(exp.context_units * share) < 1:
        yield (
            ("context_overlap", "context_units"),
            f"context_overlap = {share:g} of {exp.context_units} units is none",
        )


def _nothing_later(exp: Experiment) -> Iterator[Finding]:
    if exp.train_ep_inc or not exp.counts("train_ep_inc"):
        return
    exp = exp.in_effect
    idle = {
        "context": (exp.context != "none", "have no context"),
        "dynamic": (exp.dynamic != "none", "change no synapse"),
        "old_synapse_lr": (exp.old_synapse_lr < 1, "slow no old synapse"),
    }
    keys = [key for key, (on, _) in idle.items() if on]
    if keys:
        reasons = all_of([idle[key][1] for key in keys])
        yield ("train_ep_inc", *keys), f"tasks after the first are not trained, so they {reasons}"


def _nothing_old(exp: Experiment) -> Iterator[Finding]:
    if exp.old_synapse_lr == 1:
        return
    if exp.num_batch == 1:
        yield ("old_synapse_lr", "num_batch"), "there is one task, and no synapse is ever old"
    elif (
        exp.in_effect.context != "none"
        and exp.context_overlap == 0
        and exp.context_units * exp.num_batch <= exp.hidden_units
    ):
        yield (
            ("old_synapse_lr", "context_overlap", "context_units"),
            "contexts share no unit here, so no task trains a synapse of an earlier one; "
            "set context_overlap above 0 for old synapses to matter",
        )


def _single_class(exp: Experiment) -> Iterator[Finding]:
    alone = not exp.permuted and _classes_per_task(exp) == 1
    if alone and exp.scenario != "class":
        yield (
            ("num_batch", "scenario", "benchmark"),
            f"with one class a task and scenario {exp.scenario} there is nothing to choose from, "
            "and the accuracy is always 100 %; take fewer tasks or scenario = class",
        )


def _classes_per_task(exp: Experiment) -> int:
    return 2 if exp.benchmark == "mnist" else CLASSES[exp.benchmark] // exp.num_batch


def _number_of_tasks(exp: Experiment) -> Iterator[Finding]:
    if exp.permuted:
        return  # any number of permutations will do
    classes = CLASSES[exp.benchmark]
    allowed = [n for n in range(1, classes + 1) if classes % n == 0]
    what = f"{exp.benchmark} can be split into"
    if exp.benchmark == "mnist":
        allowed, what = [1, 2, 3, 4, 5], "split MNIST has two digits a task and so"
    if exp.num_batch not in allowed:
        yield (
            ("num_batch", "mnist_mode", "benchmark"),
            f"{what} {either(allowed)} tasks, not num_batch = {exp.num_batch}",
        )


def _class_order(exp: Experiment) -> Iterator[Finding]:
    classes = CLASSES[exp.benchmark]
    order = exp.class_order
    if exp.permuted or isinstance(order, str) or sorted(order) == list(range(classes)):
        return
    twice = next((c for c in order if order.count(c) > 1), None)
    foreign = next((c for c in order if c >= classes), None)
    if foreign is not None:
        fault = f"there is no class {foreign}"
    elif twice is not None:
        fault = f"class {twice} comes more than once"
    else:
        fault = f"it has {len(order)} of the {classes} classes"
    yield (
        ("class_order", "benchmark", "mnist_mode"),
        f"class_order must name each class of {exp.benchmark}, 0 to {classes - 1}, once; {fault}",
    )


def _data(exp: Experiment) -> Iterator[Finding]:
    if exp.data == "sample" and exp.benchmark != "cifar":
        yield (
            ("data", "benchmark"),
            f"the sample is one of CIFAR-10; with benchmark = {exp.benchmark} choose data = full",
        )


def _nesterov(exp: Experiment) -> Iterator[Finding]:
    if exp.optimizer == "sgd" and exp.nesterov and exp.momentum == 0:
        yield (
            ("nesterov", "momentum"),
            "nesterov needs momentum; set momentum above 0 or nesterov = false",
        )


def _engine(exp: Experiment) -> Iterator[Finding]:
    fits = exp.sparsify and not exp.cnn and exp.sparse_layers == "own"
    if exp.engine == "sparse" and not fits:
        yield (
            ("engine", "cnn", "sparsify", "sparse_layers"),
            "engine = sparse is for MLPs of own k-winner layers; choose engine = auto",
        )


def _context(exp: Experiment) -> Iterator[Finding]:
    if exp.in_effect.context == "none":
        return
    size, k = exp.context_units, round(exp.hidden_units * exp.percent_on_fc)
    if exp.cnn:
        yield ("context", "cnn"), "contexts are for MLPs; choose cnn = false or context = none"
    if exp.cumul:
        yield ("context", "cumul"), "contexts are tasks that come one after the other; not cumul"
    if exp.sparse_layers != "own":
        yield ("context", "sparse_layers"), "contexts need sparse_layers = own"
    if size > exp.hidden_units:
        yield (
            ("context_units", "hidden_units"),
            f"{size} units of a context are more than the {exp.hidden_units} that there are",
        )
    if size < k:
        yield (
            ("context_units", "percent_on_fc", "hidden_units"),
            f"{k} units win, but only the {size} of a context may; "
            "choose more context_units or a smaller percent_on_fc",
        )


def _old_synapses(exp: Experiment) -> Iterator[Finding]:
    if exp.old_synapse_lr == 1:
        return
    if exp.weight_decay > 0:
        yield (
            ("weight_decay", "old_synapse_lr"),
            "weight decay would move the old synapses too; set weight_decay = 0",
        )
    if exp.cumul:
        yield ("old_synapse_lr", "cumul"), "with cumul there is one task, and no synapse is old"
    if exp.old_synapse_rule == "importance" and exp.engine == "sparse":
        yield (
            ("engine", "old_synapse_rule"),
            "importance needs the gradient of every synapse in every step, which engine = sparse "
            "does not compute; choose engine = auto",
        )


def _methods(exp: Experiment) -> Iterator[Finding]:
    for name in exp.methods:
        if exp.cumul:
            yield ("methods", "cumul"), f"with cumul there is no earlier task for {name}"
    if "er" in exp.methods and exp.in_effect.context != "none":
        yield (
            ("methods", "context"),
            "a step in a context trains its units alone, and pictures of earlier tasks have "
            "others; choose er or contexts",
        )
    if "ewc" in exp.methods and exp.engine == "sparse":
        yield (
            ("engine", "methods"),
            "ewc pulls every weight in every step, and engine = sparse touches few; choose "
            "engine = auto",
        )
    if exp.engine == "sparse" and exp.optimizer != "sgd":
        yield (
            ("engine", "optimizer"),
            f"{exp.optimizer} moves every weight in every step, and engine = sparse touches few; "
            "choose engine = auto",
        )


def _dynamic(exp: Experiment) -> Iterator[Finding]:
    if exp.in_effect.dynamic == "none":
        return
    if exp.sparse_layers != "own":
        yield ("dynamic", "sparse_layers"), "synapses that change need sparse_layers = own"
    if exp.cumul:
        yield ("dynamic", "cumul"), "synapses change from task to task; not with cumul"
    if exp.dynamic == "grow" and exp.max_density_fc <= exp.initial_density_fc:
        yield (
            ("max_density_fc", "initial_density_fc"),
            f"max_density_fc = {exp.max_density_fc:g} is not above initial_density_fc = "
            f"{exp.initial_density_fc:g}, so nothing could grow",
        )


def _no_growth(exp: Experiment, picture: Shape) -> Iterator[Finding]:
    if exp.dynamic != "grow" or exp.max_density_fc <= exp.initial_density_fc:
        return
    inputs = _fc_inputs(exp, picture)
    if all(round(n * exp.max_density_fc) == round(n * exp.initial_density_fc) for n in inputs):
        yield (
            ("max_density_fc", "initial_density_fc"),
            f"max_density_fc = {exp.max_density_fc:g} and initial_density_fc = "
            f"{exp.initial_density_fc:g} are as many synapses of a unit of {max(inputs)} inputs, "
            "so nothing could grow",
        )
        return
    if exp.grow_units == "fresh":
        share = exp.grow_per_task / (exp.max_density_fc - exp.initial_density_fc)
        count, what = _fc_width(exp) * share, "no fresh unit to a task"
    else:
        fewest = min(inputs)
        count, what = fewest * exp.grow_per_task, f"no synapse to a unit of {fewest} inputs"
    if round(count) < 1:
        yield (
            ("grow_per_task", "hidden_units", "max_density_fc"),
            f"grow_per_task = {exp.grow_per_task:g} gives {what}",
        )


def _size(exp: Experiment, picture: Shape) -> Iterator[Finding]:
    classes = CLASSES[exp.benchmark] if exp.permuted else _classes_per_task(exp)
    outputs = classes * (1 if exp.scenario == "domain" else exp.num_batch)  # of all heads
    weights = exp.hidden_units * (sum(_fc_inputs(replace(exp, context="none"), picture)) + outputs)
    if weights > MAX_WEIGHTS:
        yield (
            ("hidden_units", "hidden_layers", "cnn", "benchmark", "num_batch", "scenario"),
            f"the model would have {weights / 1e9:.1f} billion weights; "
            f"the limit is {MAX_WEIGHTS / 1e9:.0f} billion",
        )


@dataclass(frozen=True)
class _Winners:
    """How many of the `n` units or channels of a layer win, as keys[0] asks."""

    keys: tuple[str, ...]
    asked: float
    n: int
    what: str
    training: int
    evaluation: int


def _winners(exp: Experiment) -> Iterator[_Winners]:
    """By the layers' own formulas; of the convolutions, for the one with the fewest channels."""
    if not exp.sparsify:
        return
    n, share, factor = exp.hidden_units, exp.percent_on_fc, exp.k_inference_factor
    k = round(n * share)
    keys = ("percent_on_fc", "hidden_units", "sparsify")
    yield _Winners(keys, share, n, "units", k, int(k * factor))
    if exp.cnn:
        n, share = min(CONV_CHANNELS), exp.percent_on_conv
        k, in_evaluation = round(n * share), round(n * (share * factor))
        keys = ("percent_on_conv", "cnn", "sparsify")
        yield _Winners(keys, share, n, "channels", k, in_evaluation)


def _no_winner(exp: Experiment) -> Iterator[Finding]:
    for w in _winners(exp):
        among = f"among {w.n} {w.what}"
        if w.training < 1:
            yield w.keys, f"{w.keys[0]} = {w.asked:g} leaves no winner {among}"
        elif w.evaluation < 1:
            yield (
                ("k_inference_factor", *w.keys),
                f"k_inference_factor = {exp.k_inference_factor:g} leaves no winner {among} in "
                f"evaluation; in training {w.training} win",
            )


def _winners_in_evaluation(exp: Experiment) -> Iterator[Finding]:
    asks = f"k_inference_factor = {exp.k_inference_factor:g}"
    winners = list(_winners(exp))
    for w in winners:
        if w.evaluation > w.n:
            yield (
                ("k_inference_factor", *w.keys),
                f"{asks} with {w.keys[0]} = {w.asked:g} asks for more winners than there are "
                f"{w.what} in evaluation, so all {w.n} win",
            )
    same = all(w.evaluation == w.training for w in winners)
    if winners and exp.k_inference_factor != 1 and same:
        yield (
            ("k_inference_factor", *winners[0].keys),
            f"{asks} changes nothing: {winners[0].training} {winners[0].what} win in evaluation as "
            "in training",
        )


def _no_weight(exp: Experiment, picture: Shape) -> Iterator[Finding]:
    for keys, density, inputs in _masked(exp, picture):
        if round(min(inputs) * density) < 1:
            yield (
                keys,
                f"{keys[0]} = {density:g} leaves no weight for a unit of {min(inputs)} inputs;"
                f" choose at least {1 / min(inputs):.3g}",
            )


def _masked(
    exp: Experiment, picture: Shape | None = None
) -> Iterator[tuple[tuple[str, ...], float, list[int]]]:
    """Of the layers that a density is for: the keys, it first, the density, and their inputs."""
    if not exp.sparsify:
        return
    shape = ("cnn", "benchmark", "sparsify")
    key = "weight_sparsity_fc" if exp.dynamic == "none" else "initial_density_fc"
    inputs = _fc_inputs(exp, picture)
    yield (key, "hidden_units", "hidden_layers", *shape), getattr(exp, key), inputs
    if exp.cnn:
        channels = (picture or usual_picture(exp))[0]
        inputs = [CONV_KERNEL**2 * n for n in (channels, CONV_CHANNELS[0])]
        yield ("weight_sparsity_conv", *shape), exp.weight_sparsity_conv, inputs


def _no_tolerance(exp: Experiment) -> Iterator[Finding]:
    if exp.expected_acc is not None and exp.expected_tol is None:
        yield (
            ("expected_acc",),
            "say with expected_tol by how many points an accuracy may miss it and still be as "
            "expected",
        )


def _fc_inputs(exp: Experiment, picture: Shape | None = None) -> list[int]:
    """The number of inputs that may be on of each fully connected hidden layer; picture: its shape,
    where it is not the usual one."""
    picture = picture or usual_picture(exp)
    if exp.cnn:
        _, height, width = (side - 2 * (CONV_KERNEL - 1) for side in picture)
        return [CONV_CHANNELS[1] * height * width]
    return [prod(picture)] + [_fc_width(exp)] * (exp.hidden_layers - 1)


def _fc_width(exp: Experiment) -> int:
    """How many units of a fully connected hidden layer may be on."""
    return exp.hidden_units if exp.context == "none" else exp.context_units
