"""The one definition of every key that all experiments have, and of when each does anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from exps import plugins
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
from exps.plugins import BENCHMARK, HEADS, METHOD, MODEL, OPTIMIZER, One, Some

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
    """A field with its definition as metadata."""
    return field(default=default, metadata={"key": Key(default, kind, meaning, when, tests)})


_FRACTION = Number(0, 1, above=True)
KEPT = ("none", "final", "tasks")  # of the weights of a run, each with what is before it


@dataclass(frozen=True)
class Keys:
    """The keys of all experiments; defaults are those of the default experiment. `name` is the
    section's."""

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
        "how it is computed, with the same results but for rounding and the draws of dropout: "
        "reference: the layers as they are; sparse: only what is active, for k-winner MLPs on a "
        "CPU; dense: everything, in few passes; stacked: MLPs on a GPU, also several seeds at "
        "once; auto: the fastest that fits",
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
        Choice(KEPT),
        "whether the trained network is kept beside the result (docs/results.md): final: in the "
        "end; tasks: after every task, in a file each",
    )
