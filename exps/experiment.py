"""The one definition of every key: its kind, default, meaning and when it counts.

The loader, `--explain`, the parameter table of README and the error messages are all made from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

from exps.kinds import (
    Choice,
    ClassOrder,
    Device,
    Folder,
    Kind,
    Line,
    Names,
    Number,
    OrNone,
    Switch,
    Value,
    Whole,
)


@dataclass(frozen=True)
class When:
    """The experiments in which a key does something; `text` completes 'counts only with ...'."""

    text: str
    holds: Callable[[Experiment], bool]


@dataclass(frozen=True)
class Key:
    """tests: whether it decides what is tested: accuracies at different values of it are those of
    different tasks, which are never compared run by run or ranked."""

    default: Value
    kind: Kind
    meaning: str
    when: When
    tests: bool


METHODS = ("ewc", "er")
ALWAYS = When("", lambda e: True)
CNN = When("cnn", lambda e: e.cnn)
MLP = When("an MLP (cnn = false)", lambda e: not e.cnn)
SPARSE = When("sparsify", lambda e: e.sparsify)
SPARSE_CNN = When("cnn and sparsify", lambda e: e.cnn and e.sparsify)
BOOSTED = When(
    "sparsify and a boost_strength above 0", lambda e: e.sparsify and e.boost_strength > 0
)
MNIST = When("benchmark = mnist", lambda e: e.benchmark == "mnist")
CIFAR = When("benchmark = cifar", lambda e: e.benchmark == "cifar")
FULL = When("data = full", lambda e: e.data == "full")
CLASSES_SPLIT = When("split MNIST, cifar or cifar100", lambda e: not e.permuted)
EXPECTING = When("expected_acc", lambda e: e.expected_acc is not None)
DYNAMIC = When("a dynamic other than none", lambda e: e.dynamic != "none")
STATIC = When("sparsify and dynamic = none", lambda e: e.sparsify and e.dynamic == "none")
GROWING = When("dynamic = grow", lambda e: e.dynamic == "grow")
SLOWED = When("an old_synapse_lr below 1", lambda e: e.old_synapse_lr < 1)
CONTEXTS = When("context = prototype", lambda e: e.context != "none")
SHARED = When(
    "context = prototype and more than one task",
    lambda e: e.context != "none" and e.num_batch > 1,
)
LATER_TASKS = When(
    "more than one task and without cumul", lambda e: e.num_batch > 1 and not e.cumul
)
EWC = When("methods = ewc", lambda e: "ewc" in e.methods)
EWC_ONLINE = When("ewc and ewc_online", lambda e: "ewc" in e.methods and e.ewc_online)
ER = When("methods = er", lambda e: "er" in e.methods)
SGD = When("optimizer = sgd", lambda e: e.optimizer == "sgd")
ADAM = When("optimizer = adam or adamw", lambda e: e.optimizer != "sgd")
IN_EPOCHS = When("train_steps = 0", lambda e: not e.train_steps)
LATER_IN_EPOCHS = When(
    "more than one task, without cumul and with train_steps_inc = 0",
    lambda e: e.num_batch > 1 and not e.cumul and not e.train_steps_inc,
)
IN_TURN = When("cumul = false", lambda e: not e.cumul)


def key(
    default: Value, kind: Kind, meaning: str, when: When = ALWAYS, *, tests: bool = False
) -> Any:
    """A field of Experiment with its definition as metadata."""
    return field(default=default, metadata={"key": Key(default, kind, meaning, when, tests)})


_FRACTION = Number(0, 1, above=True)


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
        "by how much the accuracy may lie above or below expected_acc; not inherited",
        EXPECTING,
    )
    expected_source: str = key(
        "", Line(), "where expected_acc is from, on one line; not inherited", EXPECTING
    )

    benchmark: str = key(
        "mnist", Choice(("mnist", "cifar", "cifar100")), "the data set", tests=True
    )
    mnist_mode: str = key(
        "perm",
        Choice(("perm", "split")),
        "perm: a pixel permutation a task; split: two digits a task",
        MNIST,
        tests=True,
    )
    padding: int = key(
        0,
        Whole(0, 8, "pixels"),
        "zeros on each side of an MNIST picture: 2 make 32 × 32 of 28 × 28, as van de Ven & Tolias "
        "(2019) permute them",
        MNIST,
        tests=True,
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
        "classes of all tasks; auto: domain for permuted MNIST, else task",
        tests=True,
    )
    class_order: str | tuple[int, ...] = key(
        "sorted",
        ClassOrder(),
        "the order in which classes are dealt out to tasks; random is drawn from the seed",
        CLASSES_SPLIT,
        tests=True,
    )
    data: str = key(
        "full",
        Choice(("full", "sample")),
        "sample: the bundled 1,000 training and 200 test pictures of CIFAR-10",
        CIFAR,
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

    model: str = key("mlp", Choice(("mlp", "cnn")), "the network")
    cnn: bool = key(False, Switch(), "the older spelling of model = cnn")
    hidden_units: int = key(
        4000,
        Whole(1, 1_000_000, "units"),
        "width of each hidden layer of the MLP, or of the CNN's fully connected layer",
    )
    hidden_layers: int = key(1, Whole(1, 100, "layers"), "number of hidden layers", MLP)
    dropout: float = key(
        0.5, Number(0, 1, below=True), "probability that a unit is dropped in training"
    )

    sparsify: bool = key(True, Switch(), "k-winner layers and masked weights instead of dense")
    sparse_layers: str = key(
        "own",
        Choice(("own", "nupic")),
        "whose sparse layers: own, or those of an installed nupic.torch",
        SPARSE,
    )
    percent_on_fc: float = key(
        0.001, _FRACTION, "fraction of hidden units that win in a fully connected layer", SPARSE
    )
    percent_on_conv: float = key(
        0.05,
        _FRACTION,
        "fraction of channels that win at each position of a convolution",
        SPARSE_CNN,
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
        SPARSE_CNN,
    )

    dynamic: str = key(
        "none",
        Choice(("none", "grow", "set", "rigl")),
        "how the synapses of fully connected hidden layers change; none: not at all; grow: new "
        "ones for every task; set, rigl: rewired at constant density (Mocanu et al., 2018; Evci "
        "et al., 2020)",
        SPARSE,
    )
    initial_density_fc: float = key(
        0.05,
        Number(0, 1, above=True, below=True),
        "fraction of weights that are not zero in fully connected layers at first",
        DYNAMIC,
    )
    grow_per_task: float = key(
        0.02,
        Number(0, 1),
        "what is added to the density of a layer in a task",
        GROWING,
    )
    grow_units: str = key(
        "all",
        Choice(("all", "fresh")),
        "which units new synapses are given to; all: to each as many; fresh: for every task to "
        "others, those with the fewest synapses that win least, to each as many as "
        "max_density_fc allows, with weights above zero",
        GROWING,
    )
    grow_every: int = key(
        0,
        Whole(0, 1_000_000, "steps"),
        "steps between two growths within the first three quarters of a task; 0: all of it grows "
        "at the start",
        GROWING,
    )
    max_density_fc: float = key(0.5, _FRACTION, "density at which growth ends", GROWING)
    grow_by: str = key(
        "gradient",
        Choice(("gradient", "coactivation", "random")),
        "where synapses grow: where the gradient is largest, where input and unit are active "
        "together most, or anywhere; fresh units take part as if they were always active, and "
        "their places are drawn in proportion to it",
        GROWING,
    )

    context: str = key(
        "none",
        Choice(("none", "prototype")),
        "which units of an MLP may win; none: all; prototype: those of the context of a picture, "
        "the task whose training pictures have the nearest mean; in training, the current task",
        SPARSE,
    )
    context_units: int = key(
        400,
        Whole(1, 1_000_000, "units"),
        "units of each hidden layer that may win in a context",
        CONTEXTS,
    )
    context_overlap: float = key(
        0.0,
        Number(0, 1),
        "share of them taken over from earlier contexts; the others are those used least so far",
        SHARED,
    )

    old_synapse_lr: float = key(
        1.0,
        Number(0, 1),
        "learning rate of synapses that earlier tasks used, as a fraction of lr; 0: they are "
        "frozen; 1: they learn like all others",
    )
    old_synapse_rule: str = key(
        "usage",
        Choice(("used", "usage", "importance")),
        "which synapses are old: used: all that were ever active; usage: the more the more often "
        "they were active, fully from the average on; importance: the same by how much they "
        "lowered the loss (path integral, Zenke et al., 2017)",
        SLOWED,
    )

    methods: tuple[str, ...] = key(
        (),
        Names(METHODS),
        "methods of continual learning beside those that the keys above stand for: ewc holds what "
        "earlier tasks needed (Kirkpatrick et al., 2017), er replays pictures of them (Chaudhry et "
        "al., 2019)",
    )
    ewc_strength: float = key(
        100.0, Number(0, 1e15), "how strongly earlier values are held (λ)", EWC
    )
    ewc_fisher: str = key(
        "exact",
        Choice(("exact", "empirical")),
        "Fisher information: exact: expected over the labels that the network gives a picture; "
        "empirical: of the pictures' own labels",
        EWC,
    )
    ewc_pictures: int = key(
        0,
        Whole(0, 10_000_000, "pictures"),
        "training pictures of a task that it is measured on, drawn from the seed; 0: all",
        EWC,
    )
    ewc_online: bool = key(
        False,
        Switch(),
        "one pull, to the newest values (Schwarz et al., 2018), in place of one for every task",
        EWC,
    )
    ewc_decay: float = key(
        1.0,
        Number(0, 1),
        "what the strength of earlier tasks is multiplied with after each (γ)",
        EWC_ONLINE,
    )
    buffer_size: int = key(
        500, Whole(1, 10_000_000, "pictures"), "how many earlier pictures are kept in memory", ER
    )
    er_batch: int = key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "how many of them every step trains on too; 0: as many as mb_size",
        ER,
    )

    optimizer: str = key(
        "sgd",
        Choice(("sgd", "adam", "adamw")),
        "sgd; adam (Kingma & Ba, 2015); adamw, whose weight decay is no part of the gradient "
        "(Loshchilov & Hutter, 2019)",
    )
    reset_optimizer: str = key(
        "never",
        Choice(("never", "task")),
        "when the optimiser begins anew, without momentum: never, or with every task",
        LATER_TASKS,
    )
    lr: float = key(0.1, Number(0, 100, above=True), "learning rate")
    momentum: float = key(0.9, Number(0, 1, below=True), "momentum; 0: none", SGD)
    nesterov: bool = key(True, Switch(), "Nesterov's form of momentum; needs momentum above 0", SGD)
    adam_beta1: float = key(
        0.9, Number(0, 1, below=True), "decay of Adam's mean of the gradients", ADAM
    )
    adam_beta2: float = key(
        0.999, Number(0, 1, below=True), "decay of Adam's mean of their squares", ADAM
    )
    adam_eps: float = key(
        1e-8, Number(0, 1, above=True), "what is added to the root of that mean", ADAM
    )
    weight_decay: float = key(1e-4, Number(0, 10), "weight decay (L2 penalty)")
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
    )
    train_steps_inc: int = key(
        0,
        Whole(0, 1_000_000_000, "steps"),
        "training on each later task in steps; 0: as train_ep_inc says",
        LATER_TASKS,
    )

    eval_tasks: str = key(
        "all",
        Choice(("all", "seen")),
        "the tasks evaluated after each task: all, and these before training too, or those trained "
        "on so far",
        IN_TURN,
    )
    record_stats: bool = key(True, Switch(), "record how many units are active, and which")
    seed: int = key(0, Whole(0, 2**32 - 1), "the number that all randomness comes from")
    device: str = key(
        "auto", Device(), "where it is computed; auto: on a GPU where there is one, else the CPU"
    )
    engine: str = key(
        "auto",
        Choice(("auto", "reference", "sparse", "dense")),
        "how it is computed, with the same results: reference: the layers as they are; sparse: "
        "only what is active, for k-winner MLPs on a CPU; dense: everything, in few passes; "
        "auto: the fastest that fits",
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

    changed: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        if self.scenario == "auto":
            object.__setattr__(self, "scenario", "domain" if self.permuted else "task")
        cnn = self.cnn or self.model == "cnn"
        object.__setattr__(self, "cnn", cnn)
        object.__setattr__(self, "model", "cnn" if cnn else self.model)

    @property
    def all_methods(self) -> tuple[str, ...]:
        """The methods, those that keys of their own stand for first, in the order of their work."""
        exp = self.in_effect
        on = {
            "contexts": exp.context != "none",
            "grow": exp.dynamic == "grow",
            "rewire": exp.dynamic in ("set", "rigl"),
            "old_synapses": exp.old_synapse_lr < 1,
        }
        found = [name for name, holds in on.items() if holds]
        if found:  # what changes is counted, before anything grows older
            found.insert(found[0] == "contexts", "census")
        return (*found, *self.methods)

    @property
    def permuted(self) -> bool:
        """Whether the tasks are permutations of MNIST, each with all ten digits."""
        return self.benchmark == "mnist" and self.mnist_mode == "perm"

    @cached_property
    def in_effect(self) -> Experiment:
        """The same run with every key that does nothing in it at its default.

        Streams, networks, engines and training are made from this alone: so the value of a key
        whose `when` does not hold cannot change a number, whatever it is.
        """
        idle: dict[str, Any] = {
            name: key.default
            for name, key in KEYS.items()
            if not key.when.holds(self) and getattr(self, name) != key.default
        }
        return replace(self, **idle).in_effect if idle else self

    def counts(self, key: str) -> bool:
        """Whether this key does anything in this experiment."""
        return KEYS[key].when.holds(self.in_effect)


KEYS: dict[str, Key] = {
    f.name: f.metadata["key"] for f in fields(Experiment) if "key" in f.metadata
}

# Keys whose value is text: in it # and ; are characters like any other.
TEXTS = tuple(name for name, k in KEYS.items() if isinstance(k.kind, Line | Folder))

# Keys that tell about a section, which alone has them: other sections do not inherit them.
ABOUT = ("description", "expected_acc", "expected_tol", "expected_source")

# Keys that change no number, and so are no part of what a run is. Of `data_dir` the data themselves
# are: their digest (`benchmarks.digest`).
FREE = ("checkpoint_every", "data_dir", *ABOUT)

# Keys that an expected accuracy does not depend on: another run of the same experiment.
REPEATS = (
    *ABOUT,
    *("seed", "device", "engine", "precision", "data_dir"),
    *("eval_tasks", "record_stats", "checkpoint_every"),
)
