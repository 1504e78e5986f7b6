"""What no key tells alone: values that contradict each other, or are of no use together.

Each rule yields the keys involved, the likeliest culprit first, and the reason. What is to be said
of one benchmark, network, method or optimiser alone says its file, in functions of these names:

    absent(exp)                          why there are no data: then nothing else is asked
    contradictions(exp)                  why the experiment cannot be run
    misfits(exp, layers)                 why not with these hidden layers
    doubts(exp)                          why it might not be what was meant
    never_due(exp, tasks, layers)        what never happens in tasks of so many steps

A method that gives every task a part of the network says in its file how large that is, and what is
asked of all these is in `exps.parts`:

    part_of(exp, units)                  how many of so many units
    PART_KEYS                            the keys that decide it
"""

from __future__ import annotations

from collections.abc import Sequence

from exps import parts, plugins, sparseness
from exps.experiment import KEYS, Experiment
from exps.facts import Finding, Findings, Layer, Shape, width
from exps.messages import all_of, either
from exps.plugins import is_path
from exps.sizes import too_large

__all__ = [
    "Finding",
    "absent",
    "contradictions",
    "doubts",
    "misfits",
    "never_due",
    "stacks",
    "usual_steps",
]

MAX_WEIGHTS = 2_000_000_000  # 8 GB as float32, and again as much for gradients and for momentum


def contradictions(exp: Experiment) -> Findings:
    """Why the experiment cannot be run, if it cannot.

    Pictures in a data_dir set by hand may be of any size: `misfits` has the last word on them.
    """
    missing = absent(exp)
    yield from missing
    if missing:
        return
    yield from _number_of_tasks(exp)
    yield from _class_order(exp)
    yield from _mixed(exp)
    yield from _data(exp)
    yield from _engine(exp)
    yield from _stacked(exp)
    if exp.data_dir == KEYS["data_dir"].default:
        yield from misfits(exp, exp.facts.picture)
    yield from sparseness.no_winner(exp)
    yield from _no_tolerance(exp)
    if exp.counts("patience") and exp.patience and exp.eval_every:
        why = "tests after so many steps are planned, and patience may leave steps out"
        yield ("patience", "eval_every"), f"{why}; set one of them to 0"
    yield from _one_name_each(exp)
    if "grow" in exp.methods:
        what = f"methods = grow lets synapses grow, and dynamic = {exp.dynamic} lets them move"
        yield ("methods", "dynamic"), f"{what}; choose one"
    for name in exp.methods if exp.cumul else ():
        yield ("methods", "cumul"), f"with cumul there is no earlier task for {name}"
    if len(exp.parts) > 1:
        names = all_of(list(exp.parts))
        yield ("methods", "context"), f"{names} each give a task a part of the network; choose one"
    for name in exp.parts:
        yield from parts.contradictions(exp.in_effect, name)
    yield from plugins.findings(exp.plug_ins, "contradictions", exp.in_effect)
    yield from _lazy(exp)
    yield from too_large(exp, usual_pictures(exp), usual_tested(exp))


def absent(exp: Experiment) -> list[Finding]:
    """Why there are no data."""
    return list(plugins.findings(exp.plug_ins, "absent", exp.in_effect))


def misfits(exp: Experiment, picture: Shape) -> Findings:
    """Why its network cannot be one for pictures of this shape, if it cannot."""
    exp = exp.in_effect
    try:
        layers = exp.layers(picture)
    except ValueError as error:
        own = f"{exp.model} is for pictures, and these are features; choose model = mlp or linear"
        yield ("cnn", "model", "benchmark"), own if picture[:2] == (1, 1) else str(error)
        return
    if layers is None:  # what does not say it is known when it is made
        return
    yield from _size(exp, layers, picture)
    layers = exp.part.layers(picture) or layers
    yield from sparseness.no_weight(exp, layers)
    yield from plugins.findings(exp.plug_ins, "misfits", exp, layers)


def doubts(exp: Experiment) -> Findings:
    """Why the experiment, which can be run, might not be what was meant."""
    yield from _single_class(exp)
    yield from _more_watched(exp)
    yield from _classes_left(exp)
    yield from _mirrored(exp)
    yield from sparseness.winners_in_evaluation(exp)
    yield from sparseness.nothing_masked(exp)
    yield from sparseness.thinned(exp)
    yield from plugins.findings(exp.plug_ins, "doubts", exp.in_effect)
    yield from _nothing_later(exp)
    yield from _all_pictures(exp)


def never_due(exp: Experiment, steps: Sequence[int], picture: Shape | None = None) -> Findings:
    """What never happens in a run whose tasks, one after the other, have so many steps an epoch.

    picture: the shape of its pictures, where they are at hand: it need not be the usual one.
    """
    exp = exp.in_effect
    tasks = [(epoch, exp.steps(i, epoch)) for i, epoch in enumerate(steps)]
    longest = max((total for _, total in tasks), default=0)
    if exp.eval_every >= longest > 0:
        yield (
            ("eval_every",),
            "so many steps are never reached within a task, of which the longest "
            f"has {longest} steps: all tests are those after tasks",
        )
    yield from _warmup(exp, tasks)
    epochs = max((-(-total // epoch) for epoch, total in tasks if total), default=0)
    if exp.patience >= epochs > 0:
        yield (
            ("patience",),
            f"no task is trained for more than {epochs} epoch(s), so none ends early",
        )
    layers = exp.part.layers_for(picture)
    if layers is not None:
        args = exp, tasks, layers
        yield from plugins.findings(exp.plug_ins, "never_due", *args)
    if picture not in (None, exp.facts.picture):
        yield from sparseness.nothing_masked(exp, picture)


def usual_steps(exp: Experiment) -> list[int]:
    """The steps an epoch of the tasks, one after the other, with `usual_pictures`."""
    return [-(-n // exp.mb_size) for n in usual_pictures(exp)]


def usual_pictures(exp: Experiment) -> list[int]:
    """How many pictures the tasks, one after the other, train on, where the data set is the usual
    one and its classes have as many each."""
    facts = exp.in_effect.facts
    each = [facts.pictures * size // facts.classes for size in exp.in_effect.sizes]
    tasks = [sum(each)] if exp.cumul else each
    if exp.in_effect.stream == "random":
        tasks = [sum(each) // len(each)] * len(each)
    left = [n * (1 - exp.validation) for n in tasks]
    if exp.counts("watched"):
        left = [n * (1 - exp.watched * (exp.steps(i, 1) > 0)) for i, n in enumerate(left)]
    return [max(round(n), 1) for n in left]


def usual_tested(exp: Experiment) -> list[int]:
    """How many pictures of the tasks are tested on, in the same case."""
    facts = exp.in_effect.facts
    of = facts.pictures * exp.validation if exp.validation else facts.tested
    return [max(round(of * size / facts.classes), 1) for size in exp.in_effect.sizes]


def _nothing_later(exp: Experiment) -> Findings:
    if exp.train_ep_inc or not exp.counts("train_ep_inc"):
        return
    found = [name for name in exp.all_methods if name != "census"]
    if found:
        keys = [plugins.CHOSEN_BY.get(name, "methods") for name in found]
        yield (
            ("train_ep_inc", *keys),
            f"tasks after the first are not trained, so {all_of(found)} can do nothing in them",
        )


def _all_pictures(exp: Experiment) -> Findings:
    tested = max(usual_tested(exp))
    if exp.in_effect.eval_pictures >= tested and exp.data_dir == KEYS["data_dir"].default:
        yield (
            ("eval_pictures",),
            f"eval_pictures = {exp.eval_pictures} leaves out none of the {tested} test pictures of"
            " a task",
        )


def _single_class(exp: Experiment) -> Findings:
    few = max if exp.scenario == "domain" else min  # of the outputs of a head
    if few(exp.in_effect.sizes) == 1 and exp.scenario != "class":
        yield (
            ("num_batch", "classes_per_task", "scenario", "benchmark"),
            f"with one class a task and scenario {exp.scenario} there is nothing to choose from, "
            "and the accuracy is always 100 %; take fewer tasks or scenario = class",
        )


def _more_watched(exp: Experiment) -> Findings:
    if exp.counts("watched") and exp.watched > 0.5:
        yield (
            ("watched",),
            "more pictures of a task are watched than trained on; choose less, 0.1 for example",
        )


def _classes_left(exp: Experiment) -> Findings:
    facts, own = exp.facts, exp.in_effect.classes_per_task
    left = facts.classes - sum(exp.in_effect.sizes) if facts.split else 0
    if not own and left < facts.task_classes:
        return  # too few for a task
    if left > 0:
        are = "is" if left == 1 else "are"
        why = f"{left} of the {facts.classes} classes {are} in no task: the last in class_order"
        more = "" if own else "; classes_per_task says how many each task has"
        yield ("classes_per_task" if own else "num_batch",), why + more


def _mirrored(exp: Experiment) -> Findings:
    if exp.augment == "crop_flip" and not exp.facts.mirrored:
        yield (
            ("augment", "benchmark"),
            f"a picture of {exp.benchmark} in a mirror is another sign; choose augment = crop",
        )


def _warmup(exp: Experiment, tasks: Sequence[tuple[int, int]]) -> Findings:
    totals = [total for _, total in tasks if total]
    least = sum(totals) if exp.lr_restart == "never" or exp.cumul else min(totals, default=0)
    if exp.lr_warmup and exp.lr_warmup >= least:
        yield (
            ("lr_warmup", "lr_restart"),
            f"none of {least} steps is at the full lr",
        )


def _one_name_each(exp: Experiment) -> Findings:
    names = [plugins.stem(name) for name in exp.all_methods]
    files = [v for kind, v in exp.plug_ins if plugins.is_path(v) and kind is not plugins.METHOD]
    names += map(plugins.stem, files)
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield plugins.KEYS, f"two files are called {name}: give them different names"


def _number_of_tasks(exp: Experiment) -> Findings:
    allowed, asked = exp.facts.tasks, sum(exp.in_effect.classes_per_task)
    if asked > exp.facts.classes:
        yield (
            ("classes_per_task", "benchmark"),
            f"classes_per_task asks for {asked} classes, and {exp.benchmark} has"
            f" {exp.facts.classes}",
        )
    elif not asked and allowed and exp.num_batch not in allowed:
        yield (
            ("num_batch", "mnist_mode", "benchmark"),
            f"{exp.benchmark} can be split into {either(allowed)} tasks, not num_batch = "
            f"{exp.num_batch}" + "; for uneven ones set classes_per_task" * (exp.num_batch > 1),
        )


def _class_order(exp: Experiment) -> Findings:
    classes = exp.facts.classes
    order = exp.in_effect.class_order
    if isinstance(order, str) or sorted(order) == list(range(classes)):
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


def _mixed(exp: Experiment) -> Findings:
    """Why the tasks cannot run into each other; a method of which nothing is known may."""
    stream = exp.in_effect.stream
    if stream == "tasks":
        return
    if exp.scenario == "task":
        yield (
            ("stream", "scenario"),
            f"with stream = {stream} a mini-batch has pictures of several tasks, and with scenario "
            "= task a head is for those of one; choose scenario = domain or class",
        )
    for name in exp.parts:
        yield (
            ("stream", "context", "methods"),
            f"{name} trains the units of one task at a time, and with stream = {stream} pictures "
            "of others come with them; choose stream = tasks",
        )


def _data(exp: Experiment) -> Findings:
    if exp.data == "sample" and not exp.counts("data"):
        yield (
            ("data", "benchmark"),
            f"there is no sample of {exp.benchmark}, only of {KEYS['data'].when.text}; choose data"
            " = full",
        )


def _engine(exp: Experiment) -> Findings:
    fits = exp.sparsify and exp.fully_connected and exp.sparse_layers == "own"
    if exp.engine == "sparse" and not fits:
        yield (
            ("engine", "cnn", "model", "sparsify", "sparse_layers"),
            "engine = sparse is for MLPs of own k-winner layers; choose engine = auto",
        )
    if exp.engine in ("sparse", "stacked") and exp.unusual:
        yield (
            ("engine", exp.unusual),
            f"engine = {exp.engine} knows nothing of {exp.unusual}; choose engine = auto",
        )


def stacks(exp: Experiment) -> bool:
    """Whether its networks are of the kind of which many train together, in a stack."""
    own = exp.sparse_layers == "own" and exp.percent_on_fc * 16 <= 1
    plain = exp.fully_connected and not exp.all_methods and exp.optimizer == "sgd"
    plain = plain and not exp.unusual
    return plain and (own or not exp.sparsify) and not any(is_path(v) for _, v in exp.plug_ins)


def _stacked(exp: Experiment) -> Findings:
    if exp.engine == "stacked" and not stacks(exp) and not exp.unusual:
        yield (
            ("engine", "model", "methods", "optimizer", "sparse_layers", "percent_on_fc"),
            "engine = stacked is for MLPs that sgd trains, without methods, of ReLUs or of own"
            " k-winners of which at most 1 in 16 wins; choose engine = auto",
        )


def _lazy(exp: Experiment) -> Findings:
    lazy = hasattr(plugins.load(plugins.OPTIMIZER, exp.optimizer), "basis")
    if exp.engine == "sparse" and not lazy:
        yield (
            ("engine", "optimizer"),
            f"{exp.optimizer} moves every weight in every step, and engine = sparse touches few; "
            "choose engine = auto",
        )


def _size(exp: Experiment, layers: list[Layer], picture: Shape) -> Findings:
    outputs = max(exp.sizes) if exp.scenario == "domain" else sum(exp.sizes)
    weights = sum(n * units for n, units, *_ in layers) + width(layers, picture) * outputs
    if weights > MAX_WEIGHTS:
        own = ("channels",) if not exp.has_hidden else ("hidden_units", "hidden_layers")
        yield (
            (*own, "cnn", "model", "benchmark", "num_batch", "scenario"),
            f"the model would have {weights / 1e9:.1f} billion weights; "
            f"the limit is {MAX_WEIGHTS / 1e9:.0f} billion",
        )


def _no_tolerance(exp: Experiment) -> Findings:
    if exp.expected_acc is not None and exp.expected_tol is None:
        yield (
            ("expected_acc",),
            "say with expected_tol by how many points an accuracy may miss it and still be as "
            "expected",
        )
