"""The one definition of every key that all experiments have, and the experiment made of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any

from exps import plugins
from exps.facts import Facts, Layer, Shape
from exps.keys import ALWAYS, Key, When
from exps.kinds import (
    Choice,
    Choices,
    ClassOrder,
    Device,
    File,
    Folder,
    Kind,
    Line,
    Number,
    OrNone,
    Several,
    Shares,
    Switch,
    Value,
    Whole,
)
from exps.plugins import BENCHMARK, HEADS, IMPLIED, METHOD, MODEL, OPTIMIZER, One, Some

SPARSE = When("sparsify", lambda e: e.sparsify)
BOOSTED = When(
    "sparsify and a boost_strength above 0", lambda e: e.sparsify and e.boost_strength > 0
)
SAMPLED = When(
    "benchmark = cifar",
    lambda e: bool(e.dataset and e.dataset.sample),
)
FULL = When(
    "data = full, and a benchmark that looks there",
    lambda e: e.data == "full" and getattr(plugins.load(BENCHMARK, e.benchmark), "DATA_DIR", True),
)
SHARED_OUT = When("a benchmark whose tasks share out the classes", lambda e: e.facts.split)
BETWEEN = When("more than one task, without cumul", lambda e: e.num_batch > 1 and not e.cumul)
EXPECTING = When("expected_acc", lambda e: e.expected_acc is not None)
STATIC = When("sparsify and dynamic = none", lambda e: e.sparsify and e.dynamic == "none")
TRAINED = When("features other than random", lambda e: e.learning != "random")
IN_EPOCHS = When(
    "train_steps = 0 and features other than random",
    lambda e: not e.train_steps and e.learning != "random",
)
LATER = When(
    "more than one task, without cumul and with features = trained",
    lambda e: e.num_batch > 1 and not e.cumul and e.learning == "trained",
)
LATER_IN_EPOCHS = When(
    f"{LATER.text}, train_steps_inc = 0", lambda e: LATER.holds(e) and not e.train_steps_inc
)
CLOSED = When("a classifier other than softmax", lambda e: e.classifier != "softmax")
IN_TURN = When("cumul = false", lambda e: not e.cumul)
DYNAMIC = When("a dynamic other than none", lambda e: e.dynamic != "none")
STEPPING = When("lr_schedule = step", lambda e: e.lr_schedule == "step")
SCHEDULED = When(
    "more than one task, without cumul and with an lr_schedule other than constant or lr_warmup",
    lambda e: LATER.holds(e) and (e.lr_schedule != "constant" or e.lr_warmup > 0),
)
LAYERED = When("a model of several such layers (mlp)", lambda e: e.uses("hidden_layers"))
FILTERS = When(
    "a model with convolutions (cnn, resnet18), and sparsify",
    lambda e: e.sparsify and e.uses("percent_on_conv"),
)
CHANGING_FILTERS = When(
    "a dynamic other than none, and a model with convolutions before hidden layers (cnn)",
    lambda e: e.dynamic != "none" and e.uses("weight_sparsity_conv") and e.has_hidden,
)
FILTER_WEIGHTS = When(
    "sparsify, and a model with convolutions (cnn, resnet18) whose synapses stay",
    lambda e: e.sparsify and e.uses("weight_sparsity_conv") and not e.filters_change,
)


def key(
    default: Value, kind: Kind, meaning: str, when: When = ALWAYS, *, tests: bool = False
) -> Any:
    """A field of Experiment with its definition as metadata."""
    return field(default=default, metadata={"key": Key(default, kind, meaning, when, tests)})


_FRACTION = Number(0, 1, above=True)
PART = "part_of"  # of a method's file: how many of so many units a task has


@dataclass(frozen=True)
class Experiment:
    """One experiment, typed and complete. Its field defaults are the default experiment.

    `name` is the section's. `scenario` never holds auto: that is resolved when the record is made.
    `changed` names the keys that the command line set to another value than the section's, of
    those that can change the accuracy.
    """

    name: str
    description: str = key("", Line(), "what the experiment is, on one line; not inherited")
    expected_acc: float | None = key(
        None,
        OrNone(Number(0, 100, unit="percent")),
        "the mean accuracy after the last task that the section's values should give; the end of a "
        "run and --check-results say whether it was met; not inherited",
    )
    expected_tol: float | None = key(
        None,
        OrNone(Number(0, 100, unit="points")),
        "by how much the accuracy may lie below expected_acc; one that lies further above is told; "
        "not inherited",
        EXPECTING,
    )
    expected_source: str = key(
        "", Line(), "where expected_acc is from, on one line; not inherited", EXPECTING
    )

    benchmark: str = key(
        "mnist", One(BENCHMARK), "the data set, and how it becomes tasks", tests=True
    )
    num_batch: int = key(
        10,
        Whole(1, 1000, "tasks"),
        "number of tasks: split MNIST 1 to 5; cifar 1, 2, 5 or 10; cifar100 a divisor of 100",
        tests=True,
    )
    cumul: bool = key(
        False, Switch(), "train once on all tasks together instead of one after the other"
    )
    scenario: str = key(
        "auto",
        Choice(("auto", "domain", "task", "class")),
        "what is known at test time (van de Ven & Tolias, 2019): task: which task it is, a head "
        "each; domain: nothing, one head that the tasks share; class: nothing, one head over the "
        "classes of all tasks; auto: domain where every task has all classes, else task",
        tests=True,
    )
    outputs: str = key(
        "all",
        Choice(("all", "seen")),
        "with a head over the classes of all tasks: those that are trained and chosen among; all: "
        "all; seen: those of the tasks so far (van de Ven & Tolias, 2019)",
        When("scenario = class and without cumul", lambda e: e.scenario == "class" and not e.cumul),
    )
    stream: str = key(
        "tasks",
        Choice(("tasks", "blurry", "random")),
        "what is trained in the time of a task; tasks: its pictures; blurry: these but for blur, "
        "and as many of its neighbours; random: an equal part of those of all tasks, mixed",
        BETWEEN,
    )
    blur: float = key(
        0.1,
        Number(0, 1),
        "share of a task's training pictures that are exchanged with its neighbours, half with the "
        "one before and half with the one after; drawn with the seed",
        When(
            f"stream = blurry, {BETWEEN.text}",
            lambda e: e.stream == "blurry" and BETWEEN.holds(e),
        ),
    )
    class_order: str | tuple[int, ...] = key(
        "sorted",
        ClassOrder(),
        "the order in which classes are dealt out to tasks; random is drawn from the seed",
        SHARED_OUT,
        tests=True,
    )
    classes_per_task: tuple[int, ...] = key(
        (),
        Several(Whole(1, 100_000, "classes")),
        "how many classes each task has, such as 50, 10, 10; num_batch is then how many these are; "
        "none: all tasks have as many",
        SHARED_OUT,
        tests=True,
    )
    data: str = key(
        "full",
        Choice(("full", "sample")),
        "sample: the bundled 1,000 training and 200 test pictures of CIFAR-10",
        SAMPLED,
        tests=True,
    )
    data_dir: str = key(
        "data",
        Folder(),
        "where data sets are looked for and kept, relative to the working directory; ~ is the home "
        "folder; one set here must have what is asked for, where a bundled file would do instead",
        FULL,
        tests=True,
    )

    validation: float = key(
        0.0,
        Number(0, 1, below=True),
        "share of the training pictures of every class, drawn with the seed, that are tested on "
        "instead of the test pictures and not trained on: for choosing the values of other keys",
        tests=True,
    )

    model: str = key("mlp", One(MODEL), "the network")
    cnn: bool = key(
        False,
        Switch(),
        "the older spelling of model = cnn",
        When("model = mlp or cnn", lambda e: e.model in ("mlp", "cnn")),
    )
    hidden_units: int = key(
        4000,
        Whole(1, 1_000_000, "units"),
        "width of each hidden layer of the MLP, or of the CNN's fully connected layer",
    )
    hidden_layers: int = key(1, Whole(1, 100, "layers"), "number of hidden layers", LAYERED)
    begin_with: str = key(
        "none",
        File(),
        "a result with weights, or these (keep_weights), with which the network begins instead of "
        "drawn ones, as --continue has it (docs/results.md)",
    )
    dropout: float = key(
        0.5, Number(0, 1, below=True), "probability that a unit is dropped in training", TRAINED
    )

    sparsify: bool = key(True, Switch(), "k-winner layers and masked weights instead of dense")
    sparse_layers: str = key(
        "own",
        Choice(("own", "nupic")),
        "whose sparse layers: own, or those of an installed nupic.torch",
        SPARSE,
    )
    percent_on_fc: float = key(
        0.001,
        _FRACTION,
        "fraction of hidden units that win in a fully connected layer",
        SPARSE,
    )
    percent_on_conv: float = key(
        0.05,
        _FRACTION,
        "fraction of channels that win at each position of a convolution",
        FILTERS,
    )
    k_inference_factor: float = key(
        1.0, Number(0, 1000, above=True), "winners in evaluation per winner in training", SPARSE
    )
    boost_strength: float = key(
        1.0,
        Number(0, 1000),
        "how much units that seldom win are favoured; 0: not at all",
        SPARSE,
    )
    boost_strength_factor: float = key(
        1.0, Number(0, 1), "what boost_strength is multiplied by after every epoch", BOOSTED
    )
    duty_cycle_period: int = key(
        1000,
        Whole(1, 1_000_000_000, "samples"),
        "span over which it is averaged how often a unit wins: for boosting, contexts, fresh units "
        "and the entropy of a result",
        SPARSE,
    )
    weight_sparsity_fc: float = key(
        1.0,
        _FRACTION,
        "fraction of weights that are not zero in fully connected layers; 1: no mask",
        STATIC,
    )
    weight_sparsity_conv: float = key(
        1.0,
        _FRACTION,
        "fraction of weights that are not zero in convolutions; 1: no mask",
        FILTER_WEIGHTS,
    )

    dynamic: str = key(
        "none",
        Choice(("none", "grow", "set", "rigl")),
        "how the synapses of hidden layers change; none: not at all; grow: new ones for every "
        "task; set, rigl: rewired at constant density (Mocanu et al., 2018; Evci et al., 2020)",
        SPARSE,
    )
    initial_density_fc: float = key(
        0.05,
        Number(0, 1, above=True, below=True),
        "fraction of weights that are not zero in fully connected layers at first",
        DYNAMIC,
    )
    initial_density_conv: float = key(
        1.0,
        _FRACTION,
        "the same of convolutions; 1: their synapses stay as they are",
        CHANGING_FILTERS,
    )

    context: str = key(
        "none",
        Choice(("none", "prototype", "gaussian", "entropy", "given")),
        "which units may win; none: all; else those of the context of a picture, in training the "
        "current task, in tests the task whose training pictures have the nearest mean (prototype) "
        "or the likeliest class, a Gaussian each (gaussian), the one that is surest of its answer "
        "(entropy), or, with scenario = task, that of its head (given)",
        SPARSE,
    )

    old_synapse_lr: float = key(
        1.0,
        Number(0, 1),
        "learning rate of synapses that earlier tasks used, as a fraction of lr; 0: they are "
        "frozen; 1: they learn like all others",
    )

    methods: tuple[str, ...] = key(
        (),
        Some(METHOD),
        "methods of continual learning (docs/methods.md): contexts, grow, rewire and old_synapses "
        "are those that the keys above stand for, census counts their synapses; ewc, si and mas "
        "hold what earlier tasks needed; lwf holds what was said; er, der, derpp, agem, gdumb and "
        "icarl keep pictures; dgr makes them; xdg gates other units off in every task, separate "
        "gives every task a network of its own; ncm, slda and ridge are classifiers",
    )

    classifier: str = key(
        "softmax",
        Choice(("softmax", *HEADS)),
        "what classifies features; softmax: the network's own heads, by gradient; in closed form, "
        "from sums over the training pictures, each seen once more after its task: ncm: the "
        "nearest mean of a class; slda: linear discriminants, of one covariance (Hayes & Kanan, "
        "2020); ridge: least squares",
    )
    features: str = key(
        "trained",
        Choice(("trained", "first", "random")),
        "what it classifies; trained: of the network as it is after each task; first: only the "
        "first task trains the network; random: nothing does",
        CLOSED,
    )

    optimizer: str = key(
        "sgd",
        One(OPTIMIZER),
        "sgd; sgd_lazy, in which weights without a gradient rest; adam (Kingma & Ba, 2015); adamw, "
        "whose weight decay is no part of the gradient (Loshchilov & Hutter, 2019)",
    )
    reset_optimizer: str = key(
        "never",
        Choice(("never", "task")),
        "when the optimiser begins anew, without momentum: never, or with every task",
        LATER,
    )
    lr: float = key(0.1, Number(0, 100, above=True), "learning rate", TRAINED)
    lr_schedule: str = key(
        "constant",
        Choice(("constant", "cosine", "step")),
        "how it goes on; constant: the same in every step; cosine: down to 0 (Loshchilov & Hutter, "
        "2017); step: lr_gamma times as much from each of lr_steps on",
        TRAINED,
    )
    lr_steps: tuple[float, ...] = key(
        (0.5, 0.75), Shares(), "after which shares of the steps lr falls", STEPPING
    )
    lr_gamma: float = key(
        0.1, Number(0, 1, above=True), "what lr is multiplied by each time", STEPPING
    )
    lr_warmup: int = key(
        0,
        Whole(0, 1_000_000_000, "steps"),
        "so many steps in which lr grows in even strides, before lr_schedule begins",
        TRAINED,
    )
    lr_restart: str = key(
        "task",
        Choice(("task", "never")),
        "when both begin anew; task: with every task; never: they are over all steps of all tasks",
        SCHEDULED,
    )
    clip_norm: float = key(
        0.0,
        Number(0, 1e9),
        "the largest norm of the gradient of all parameters together, to which it is shortened; 0: "
        "any",
        TRAINED,
    )
    label_smoothing: float = key(
        0.0,
        Number(0, 1, below=True),
        "share of the label that is spread over all classes, evenly (Szegedy et al., 2016)",
        TRAINED,
    )
    weight_decay: float = key(1e-4, Number(0, 10), "weight decay (L2 penalty)", TRAINED)
    augment: str = key(
        "none",
        Choice(("none", "crop", "crop_flip")),
        "what is done to training pictures, anew whenever they are seen, replayed or not; crop: "
        "moved by up to 4 pixels each way, with zeros where nothing is; crop_flip: and half of "
        "them mirrored",
        TRAINED,
    )
    mb_size: int = key(128, Whole(1, 1_000_000, "samples"), "size of a mini-batch")
    train_ep: int = key(
        2,
        Whole(1, 100_000, "epochs"),
        "training on the first task, or on all of them with cumul",
        IN_EPOCHS,
    )
    train_ep_inc: int = key(
        2, Whole(0, 100_000, "epochs"), "training on each later task", LATER_IN_EPOCHS
    )
    train_steps: int = key(
        0,
        Whole(0, 1_000_000_000, "steps"),
        "the same in steps, the last epoch may then be a part of one; 0: as train_ep says",
        TRAINED,
    )
    train_steps_inc: int = key(
        0,
        Whole(0, 1_000_000_000, "steps"),
        "training on each later task in steps; 0: as train_ep_inc says",
        LATER,
    )

    patience: int = key(
        0,
        Whole(0, 100_000, "epochs"),
        "a task ends early after so many epochs in a row in which the accuracy on watched pictures "
        "was not above the best, and in any case the network is that of its best epoch; 0: it is "
        "trained to the end",
        TRAINED,
    )
    watched: float = key(
        0.1,
        Number(0, 1, above=True, below=True),
        "share of the training pictures of every class of a task, drawn with the seed, that are "
        "watched in place of being trained on",
        When("patience above 0", lambda e: e.patience > 0),
    )

    eval_tasks: str = key(
        "all",
        Choice(("all", "seen")),
        "the tasks evaluated after each task: all, and these before training too, or those trained "
        "on so far",
        IN_TURN,
    )
    eval_every: int = key(
        0,
        Whole(0, 1_000_000_000, "steps"),
        "test while a task is trained too, after every so many of its steps; 0: only after tasks",
    )
    eval_pictures: int = key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "of each task, for the tests while a task is trained: so many, of every class its share; "
        "0: all",
        When("eval_every above 0", lambda e: e.eval_every > 0),
    )
    record: tuple[str, ...] = key(
        (),
        Choices(("confidence", "confusion")),
        "what is kept of the tests after tasks: confidence: of every picture, whether it was right "
        "and how sure; confusion: how often each class was taken for each",
    )
    record_stats: bool = key(True, Switch(), "record how many units are active, and which", TRAINED)
    seed: int = key(0, Whole(0, 2**32 - 1), "the number that all randomness comes from")
    device: str = key(
        "auto", Device(), "where it is computed; auto: on a GPU where there is one, else the CPU"
    )
    engine: str = key(
        "auto",
        Choice(("auto", "reference", "sparse", "dense", "stacked")),
        "how it is computed, with the same results: reference: the layers as they are; sparse: "
        "only what is active, for k-winner MLPs on a CPU; dense: everything, in few passes; "
        "stacked: MLPs on a GPU, also several seeds at once; auto: the fastest that fits",
    )
    precision: str = key(
        "fp32",
        Choice(("fp32", "bf16")),
        "bf16: dense products in bfloat16; weights, momentum and duty cycles stay in float32",
    )

    checkpoint_every: float = key(
        60.0,
        Number(0, 100_000, unit="seconds"),
        "the most that a run killed within a task loses; a checkpoint is written after every task "
        "in any case; 0: only then",
    )

    keep_weights: str = key(
        "none",
        Choice(("none", "final", "tasks")),
        "whether the trained network is kept beside the result (docs/results.md): final: in the "
        "end; tasks: after every task, in a file each",
    )

    changed: tuple[str, ...] = field(default=(), compare=False)
    own: tuple[tuple[str, Value], ...] = ()

    def __init__(self, name: str, **values: Any) -> None:
        """Of the keys that are not given, the defaults. Those of plug-ins that are not chosen are
        dropped; TypeError for one that there is nowhere, PluginError for a file that is none.
        """
        mine = self.__dict__  # frozen: this is the only place that writes
        mine |= _DEFAULTS | {"name": name}
        own = dict(values.pop("own", ()))
        for key, value in values.items():
            (mine if key in _DEFAULTS else own)[key] = value
        # One spelling of what has two.
        if self.cnn and self.model == "mlp":
            mine["model"] = "cnn"
        mine["cnn"] = self.model == "cnn"
        if "contexts" in self.methods and self.context == "none":
            mine["context"] = "prototype"
        if "grow" in self.methods:
            mine["dynamic"] = "grow"
        if self.classifier == "softmax":
            mine["classifier"] = next((m for m in HEADS if m in self.methods), "softmax")
        mine["methods"] = tuple(m for m in self.methods if m not in IMPLIED)
        declared = {k: key for k, key in self.keys.items() if k not in KEYS}
        for foreign in values.keys() - _DEFAULTS.keys() - declared.keys():
            if plugins.elsewhere(foreign) is None:
                raise TypeError(f"there is no key {foreign!r}")
        mine["own"] = tuple((k, own.get(k, key.default)) for k, key in declared.items())
        if self.scenario == "auto":
            mine["scenario"] = self.facts.scenario
        if self.classes_per_task and self.facts.split:
            mine["num_batch"] = len(self.classes_per_task)

    def __getattr__(self, name: str) -> Any:
        """The value of a key that one of its plug-ins declares."""
        if hasattr(type(self), name):  # a property that has failed, by an AttributeError
            return object.__getattribute__(self, name)
        for key, value in self.__dict__.get("own", ()):
            if key == name:
                return value
        raise AttributeError(f"no file that this experiment is made of declares a key {name}")

    @property
    def all_methods(self) -> tuple[str, ...]:
        """The methods, those that keys of their own stand for first, in the order of their work."""
        return self.in_effect._methods

    @property
    def _methods(self) -> tuple[str, ...]:
        on = plugins.implied(
            self.context, self.dynamic, self.classifier, slowed=self.old_synapse_lr < 1
        )
        found = [name for name, holds in on.items() if holds]
        if {*found} - {*HEADS}:  # what changes is counted, before anything grows older
            found.insert(0, "census")
        names = (*found, *(m for m in self.methods if m not in found))
        # A task's part of the network is chosen before anything is done with it.
        return tuple(sorted(names, key=lambda m: not hasattr(plugins.load(METHOD, m), PART)))

    @property
    def parts(self) -> dict[str, Experiment]:
        """The methods that give every task a part of the network, and of what experiment that would
        be the whole: of its units as many win. {} where all units are every task's."""
        exp, names = self.in_effect, self.all_methods
        having = [name for name in names if hasattr(plugins.load(METHOD, name), PART)]
        return {name: exp._part(name) for name in having}

    @property
    def part(self) -> Experiment:
        """Of what experiment the network of one task is the whole: of itself, without parts."""
        return next(iter(self.parts.values()), self)

    def _part(self, method: str) -> Experiment:
        changed: dict[str, Any] = {"methods": (), "context": "none"}
        for key, share in self.widths.items():
            units = getattr(self, key)
            size = plugins.whole(method, PART, plugins.call(METHOD, method, PART, self, units))
            size = min(max(size, 1), units)  # any other is refused
            changed[key] = size
            if share:
                changed[share] = min(round(units * getattr(self, share)), size) / size
        return replace(self, **changed)

    @property
    def _chosen(self) -> tuple[tuple[plugins.Kind, str], ...]:
        methods = ((METHOD, name) for name in self._methods)
        return (
            (BENCHMARK, self.benchmark),
            (MODEL, self.model),
            *methods,
            (OPTIMIZER, self.optimizer),
        )

    @property
    def plug_ins(self) -> list[tuple[plugins.Kind, str]]:
        """Its benchmark, its network, its methods and its optimiser, by kind and name."""
        return list(self.in_effect._chosen)

    @cached_property
    def keys(self) -> dict[str, Key]:
        """Every key that it has: those of all experiments, each of its plug-ins' behind the one
        that names the plug-in."""
        chosen = self._chosen
        own = any(plugins.is_path(value) for _, value in chosen)
        return _keys(chosen) if own else _known_keys(chosen)

    @cached_property
    def in_effect(self) -> Experiment:
        """The same run with every key that does nothing in it at its default.

        Streams, networks, engines and training are made from this alone: so the value of a key
        whose `when` does not hold cannot change a number, whatever it is.
        """
        lacks = self.lacks
        idle: dict[str, Any] = {
            name: definition.default
            for name, definition in self.keys.items()
            if not (definition.when.holds(self) and name not in lacks)
            and getattr(self, name) != definition.default
        }
        return replace(self, **idle).in_effect if idle else self

    @property
    def learning(self) -> str:
        """When the network learns, as `features` has it; a classifier of its own always does."""
        return self.features if self.classifier != "softmax" else "trained"

    @property
    def unusual(self) -> str:
        """The first of the keys that engines know alone which compute whole gradients of whole
        pictures, and that is set; '' where none is."""
        changed = (k for k in UNUSUAL if getattr(self, k) != KEYS[k].default)
        return next((k for k in changed if self.counts(k)), "")

    def steps(self, task: int, epoch: int) -> int:
        """For how many steps a task (from 0) is trained, `epoch` of them an epoch."""
        if self.learning == "random" or (task and self.learning == "first"):
            return 0
        given = self.train_steps if task == 0 else self.train_steps_inc
        return given or epoch * (self.train_ep if task == 0 else self.train_ep_inc)

    def counts(self, key: str) -> bool:
        """Whether this key does anything in this experiment."""
        exp = self.in_effect
        return key in exp.keys and exp.keys[key].when.holds(exp) and key not in exp.lacks

    def why_idle(self, key: str) -> str:
        """What a key counts with that does nothing in it: completes 'counts only with ...'."""
        if key in self.lacks:
            return f"a model other than {self.model}"
        keys = self.in_effect.keys
        if key in keys:
            return keys[key].when.text
        definition, choosing = plugins.elsewhere(key) or (None, "the file that declares it")
        also = definition.when.text if definition else ""
        return f"{choosing} and {also}" if also else choosing

    @property
    def facts(self) -> Facts:
        """What its benchmark says of itself."""
        found = plugins.call(BENCHMARK, self.benchmark, "facts", self)
        if not isinstance(found, Facts):
            raise plugins.unlike(self.benchmark, "facts", "exps.facts.Facts", found)
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many classes each task has."""
        facts = self.facts
        if facts.split and self.classes_per_task:
            return self.classes_per_task
        return (facts.task_classes,) * self.num_batch

    @property
    def dataset(self) -> Any:
        """The data set (`benchmarks.formats.Dataset`) whose pictures its benchmark takes as they
        are, which one of several `dataset_of` says there; None where it has others."""
        found = plugins.said(BENCHMARK, self.benchmark, "dataset_of", self)
        return found or getattr(plugins.load(BENCHMARK, self.benchmark), "DATASET", None)

    def uses(self, key: str) -> bool:
        """Whether its network uses one of the keys that some networks have; one that does not say
        which uses all."""
        used = getattr(plugins.load(MODEL, self.model), "USES", None)
        return used is None or key in used

    @property
    def lacks(self) -> tuple[str, ...]:
        """The keys of all experiments that its network has nothing to do with."""
        return getattr(plugins.load(MODEL, self.model), "LACKS", ())

    @property
    def has_hidden(self) -> bool:
        """Whether there are fully connected hidden layers."""
        return "hidden_units" not in self.lacks

    @property
    def groups(self) -> tuple[int, ...]:
        """How many units each group of units of its network has: see `models.network.Wire`; ()
        where its file says nothing of them."""
        found = plugins.said(MODEL, self.model, "groups", self)
        if found is not None and not isinstance(found, tuple | list):
            raise plugins.unlike(self.model, "groups", "a tuple of numbers of units", found)
        return tuple(plugins.whole(self.model, "groups", n) for n in found or ())

    @property
    def widths(self) -> dict[str, str | None]:
        """The keys that the groups are in proportion to, and of each the one that says how large a
        share of these units wins; None: there is no such share."""
        found: dict[str, str | None] = getattr(plugins.load(MODEL, self.model), "WIDTHS", {})
        for key in (*found, *filter(None, found.values())):
            value = getattr(self, key, None)
            number = int if key in found else int | float
            if not isinstance(value, number) or isinstance(value, bool):
                kind = "a whole number" if key in found else "a number"
                why = f"WIDTHS names {key!r}, and there is no such key whose value is {kind}"
                raise plugins.PluginError(f"{self.model}: {why}")
        return found

    @property
    def filters_change(self) -> bool:
        """Whether the synapses of convolutions grow or move too."""
        return CHANGING_FILTERS.holds(self) and self.initial_density_conv < 1

    @property
    def densities(self) -> tuple[str, str]:
        """The keys that say which part of the weights fully connected layers and convolutions
        begin with."""
        return (
            "weight_sparsity_fc" if self.dynamic == "none" else "initial_density_fc",
            "initial_density_conv" if self.filters_change else "weight_sparsity_conv",
        )

    @property
    def fully_connected(self) -> bool:
        """Whether its network has fully connected hidden layers alone, from the pictures on."""
        return getattr(plugins.load(MODEL, self.model), "FULLY_CONNECTED", False)

    def layers(self, picture: Shape) -> list[Layer] | None:
        """The hidden layers that its network has for such pictures, None where it does not say.

        Raises ValueError where it cannot have any.
        """
        describe = getattr(plugins.load(MODEL, self.model), "layers", None)
        return None if describe is None else list(describe(self, picture))

    def __reduce__(self) -> Any:
        """For other processes: what is cached stays here."""
        return _again, ({f.name: getattr(self, f.name) for f in fields(self)},)


def _again(values: dict[str, Any]) -> Experiment:
    return Experiment(**values)


KEYS: dict[str, Key] = {
    f.name: f.metadata["key"] for f in fields(Experiment) if "key" in f.metadata
}


def _keys(chosen: tuple[tuple[plugins.Kind, str], ...]) -> dict[str, Key]:
    """Those of all experiments, and of these plug-ins. Raises PluginError where two declare one."""
    declared: dict[str, tuple[Key, plugins.Kind]] = {}
    for kind, value in chosen:
        for name, key in plugins.keys(kind, value).items():
            known = hasattr(Experiment, name) or name in ("name", LIKE)
            if known or declared.get(name, (key,))[0] != key:
                raise plugins.taken(name, value)
            declared[name] = key, kind
    found: dict[str, Key] = {}
    for name, key in KEYS.items():
        found[name] = key
        found |= {own: its for own, (its, kind) in declared.items() if kind.key == name}
    return found


_known_keys = cache(_keys)  # of the project's files, which do not change


def definition(key: str) -> Key | None:
    """That of a key of all experiments, or of a file of the project; None where there is none."""
    return KEYS.get(key) or (plugins.elsewhere(key) or (None, ""))[0]


_DEFAULTS = {f.name: f.default for f in fields(Experiment) if f.name != "name"}

# Keys whose value is text: in it # and ; are characters like any other.
TEXTS = (
    *(name for name, k in KEYS.items() if isinstance(k.kind, Line | Folder | File | One | Some)),
    "data_file",
)

# Keys that tell about a section, which alone has them: other sections do not inherit them.
ABOUT = ("description", "expected_acc", "expected_tol", "expected_source")

# What engines do without that compute only what is active, or many networks at once.
UNUSUAL = ("augment", "lr_schedule", "lr_warmup", "clip_norm", "label_smoothing")

# No key, but the line of a section that names the one it starts from.
LIKE = "like"

# Where data are. These are a part of what a run is, by their digest (`benchmarks.digest`).
PLACES = ("data_dir", "data_file")

# Keys that change no number, and so are no part of what a run is.
FREE = ("checkpoint_every", "keep_weights", *PLACES, *ABOUT)

# Keys that an expected accuracy does not depend on: another run of the same experiment.
REPEATS = (
    *ABOUT,
    *("seed", "device", "engine", "precision", "data_dir"),
    *("eval_tasks", "eval_every", "eval_pictures", "record", "record_stats", "checkpoint_every"),
    "keep_weights",
)
