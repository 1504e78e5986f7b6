"""A kept network as an experiment, and as a module of torch."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.stream import Pictures, Samples, Task, TaskStream
from exps import config, plugins
from exps.config import Experiment
from exps.messages import ConfigError, shown
from exps.reader import parse_override
from models import make_model
from models.network import Network
from utils.methods.make import make_methods
from utils.results import weights
from utils.results.about import WeightsError
from utils.results.weights import Kept
from utils.training.kept import require_same

# Of pictures uint8 [n, channels, height, width], and of a task (from 0) whose order of pixels they
# are to have, where tasks have such: float32 in the same shape.
Normalise = Callable[..., Tensor]


def load_network(
    path: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> tuple[Network, Normalise]:
    """The network that a result or a file of weights names, in evaluation mode on the CPU, and what
    makes its inputs of pictures: `network(normalise(x, task=0), head=0)` are logits.

    overrides: `key=path` of the user's files that it is made of. Raises WeightsError for a file
    that cannot be used, and for a network that is not one module: whose tasks have parts of it.
    """
    kept = weights.read(Path(path))
    exp = experiment(kept, overrides)
    if exp.parts:
        raise WeightsError(
            f"{kept.path}: its tasks have parts of the network ({', '.join(exp.parts)}), which no"
            " single module computes; ask it with python -m utils.predict"
        )
    stream = stream_of(kept, exp)
    bare = build(kept, exp)
    whole = copy.deepcopy(bare)
    for method in make_methods(exp, stream):
        method.prepare(whole)
    require_same(kept, dict(whole.state_dict()))
    bare.load_state_dict({name: kept.network[name] for name in bare.state_dict()})

    def normalise(x: Tensor, task: int = 0) -> Tensor:
        if x.dtype != torch.uint8 or x.shape[1:] != torch.Size(kept.about.input_shape):
            raise ValueError(f"pictures are uint8 [n, {', '.join(map(str, stream.input_shape))}]")
        pictures = Pictures(x, torch.zeros(len(x), dtype=torch.int64))
        return stream.inputs(pictures, Samples(torch.arange(len(x)), task))

    return bare.eval(), normalise


def experiment(kept: Kept, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment of kept weights. Raises WeightsError where it can be none, or where it names a
    user's file that no override names too, which is not run."""
    texts = kept.about.config
    given = {parse_override(text).key for text in overrides}
    if key := plugins.unasked(texts, given):
        raise kept.unfit(
            "its network is made of a file of its user's, which is not run unasked; ask for it"
            f" with --set {key}={texts[key]}"
        )
    keys = {key: text for key, text in texts.items() if key != "name"}
    try:
        return config.from_texts(texts.get("name", "DEFAULT"), keys, overrides)
    except ConfigError as error:
        raise kept.unfit(f"its configuration is none: {error}") from error


def build(kept: Kept, exp: Experiment) -> Network:
    """A fresh network of the experiment, on the CPU. Raises WeightsError where it would be larger
    than what was kept, before it is made."""
    channels, height, width = kept.about.input_shape
    numbers = sum(tensor.numel() for tensor in kept.network.values())
    with kept.fitted():
        layers = exp.layers((channels, height, width))
        wanted = sum(layer.inputs * layer.units for layer in layers or ())
        if layers and wanted + sum(kept.about.head_sizes) * layers[-1].units > numbers:
            raise kept.unfit("its configuration has a larger network")
        return make_model(exp, (channels, height, width), kept.about.head_sizes)


def stream_of(kept: Kept, exp: Experiment, pictures: Pictures | None = None) -> TaskStream:
    """The tasks without their pictures; pictures: those to be tested. The last view, behind those
    of the tasks, is that of any task: -1 where their labels have different outputs."""
    about = kept.about
    with kept.fitted():
        targets = weights.checked(kept, "targets", len(about.tasks))
        orders = None
        if f"{weights.STREAM}permutations" in kept.tensors:
            orders = weights.checked(kept, "permutations", len(about.tasks))
            pixels = torch.arange(math.prod(about.input_shape))
            if not torch.equal(orders.sort(1).values, pixels.expand(len(orders), -1)):
                raise kept.unfit("its permutations are none of the pixels of a picture")
        for task in about.tasks:
            if int(targets[task.view].max()) >= about.head_sizes[task.head] or targets.min() < -1:
                raise kept.unfit(f"labels of task {shown(task.name)!r} have no outputs")
    # One black picture to train on: there are engines that look at the first.
    black = torch.zeros(1, *about.input_shape, dtype=torch.uint8)
    nothing = Pictures(black, torch.zeros(1, dtype=torch.int64))
    none = Samples(torch.zeros(1, dtype=torch.int64), 0)
    tasks = tuple(
        Task(
            task.name,
            none,
            Samples(none.rows, task.view),
            task.head,
            None if task.outputs is None else tuple(task.outputs),
            task.among,
        )
        for task in about.tasks
    )
    return TaskStream(
        nothing,
        pictures or nothing,
        tasks[:1] if exp.cumul else tasks,
        tasks,
        tuple(about.head_sizes),
        torch.cat([targets, _of_any(targets)]),
        torch.tensor(about.mean),
        torch.tensor(about.std),
        exp.scenario,
        str(kept.path),
        orders,
        class_names=tuple(about.classes),
    )


def _of_any(targets: Tensor) -> Tensor:
    """int64 [1, labels]: the output of each label in whichever task has it; -1 for several."""
    most = targets.max(0).values
    same = (targets < 0) | (targets == most)
    return torch.where(same.all(0), most, -1).unsqueeze(0)
