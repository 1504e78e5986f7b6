"""A kept network as an experiment, and as a module of torch."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.own_tasks import in_units
from benchmarks.stream import Blends, Pictures, Samples, Task, TaskStream
from exps import config, plugins
from exps.config import Experiment
from exps.facts import width
from exps.messages import ConfigError, shown
from exps.reader import parse_override
from models import make_model
from models.network import Network
from utils.methods.closed import Closed
from utils.methods.make import make_methods
from utils.predict.pictures import Takes
from utils.results import weights
from utils.results.about import WeightsError
from utils.results.weights import Kept
from utils.training.kept import require_same

# Of pictures, as the network was trained on them, uint8 or float32 [n, channels, height, width], or
# features float32 [n, features], and of a task (from 0) as which they are to be seen, where tasks
# see them differently: float32 [n, channels, height, width].
Normalise = Callable[..., Tensor]


def load_network(
    path: str | os.PathLike[str], overrides: Sequence[str] = ()
) -> tuple[Network, Normalise]:
    """The network that a result or a file of weights names, in evaluation mode on the CPU, and what
    makes its inputs of pictures: `network(normalise(x, task=0), head=0)` are logits, by the
    classifier in closed form where there is one.

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
    methods = make_methods(exp, stream)
    for method in methods:
        method.prepare(whole)
    require_same(kept, dict(whole.state_dict()))
    bare.load_state_dict({name: kept.network[name] for name in bare.state_dict()})
    for method in methods:
        if isinstance(method, Closed):
            with kept.fitted():
                method.restore(kept.memory[method.name])
                method.put_into(bare.heads)

    def normalise(x: Tensor, task: int = 0) -> Tensor:
        wanted = stream.input_shape if stream.units is None else stream.input_shape[2:]
        if x.dtype != stream.train.x.dtype or tuple(x.shape[1:]) != tuple(wanted):
            kind = str(stream.train.x.dtype).removeprefix("torch.")
            raise ValueError(f"this takes {kind} [n, {', '.join(map(str, wanted))}]")
        if stream.units is not None:
            x = torch.from_numpy(in_units(x.numpy(), *stream.units.numpy()))
            x = x.view(-1, *stream.input_shape)
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
    # What it was trained on need not be there, nor is it looked at.
    keys = {key: text for key, text in texts.items() if key not in ("name", "data_file")}
    try:
        return config.from_texts(texts.get("name", "DEFAULT"), keys, overrides, without_data=True)
    except ConfigError as error:
        raise kept.unfit(f"its configuration is none: {error}") from error


def build(kept: Kept, exp: Experiment) -> Network:
    """A fresh network of the experiment, on the CPU. Raises WeightsError where it would be larger
    than what was kept, before it is made."""
    channels, height, breadth = kept.about.input_shape
    picture = channels, height, breadth
    numbers = sum(tensor.numel() for tensor in kept.network.values())
    with kept.fitted():
        layers = exp.layers(picture)
        wanted = sum(layer.inputs * layer.units for layer in layers or ())
        if layers is not None:
            wanted += sum(kept.about.head_sizes) * width(layers, picture)
        if wanted > numbers:
            raise kept.unfit("its configuration has a larger network")
        return make_model(exp, picture, kept.about.head_sizes)


def stream_of(kept: Kept, exp: Experiment, pictures: Pictures | None = None) -> TaskStream:
    """The tasks without their pictures; pictures: those to be tested. The last view, behind those
    of the tasks, is that of any task: -1 where their labels have different outputs."""
    about = kept.about
    with kept.fitted():
        targets = weights.checked(kept, "targets")
        orders = None
        if f"{weights.STREAM}permutations" in kept.tensors:
            orders = weights.checked(kept, "permutations")
            pixels = torch.arange(math.prod(about.input_shape))
            if not torch.equal(orders.sort(1).values, pixels.expand(len(orders), -1)):
                raise kept.unfit("its permutations are none of the pixels of a picture")
        for task in about.tasks:
            if int(targets[task.view].max()) >= about.head_sizes[task.head] or targets.min() < -1:
                raise kept.unfit(f"labels of task {shown(task.name)!r} have no outputs")
        blends, units = _blends(kept), _units(kept)
    # One black picture to train on: there are engines that look at the first.
    black = torch.zeros(1, *about.input_shape, dtype=torch.float32 if about.floats else torch.uint8)
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
        blends,
        class_names=tuple(about.classes),
        units=units,
    )


def takes(kept: Kept, exp: Experiment) -> Takes:
    """What the network is asked about."""
    size = exp.picture_size if exp.counts("picture_size") else 0
    padding = exp.padding if exp.counts("padding") else 0
    about = kept.about
    return Takes(about.input_shape, padding, size, about.floats, _units(kept), about.classes)


def _blends(kept: Kept) -> Blends | None:
    """What pixels are made of in every task. Raises WeightsError where they cannot be that."""
    places, shares = (kept.tensors.get(weights.STREAM + name) for name in weights.VIEWS[1:])
    if places is None or shares is None:
        if places is not shares:
            raise kept.unfit("it has places without shares, or shares without places")
        return None
    pixels = math.prod(kept.about.input_shape[1:])
    fits = (len(kept.about.tasks), 4, pixels) == places.shape == shares.shape
    fits = fits and (places.dtype, shares.dtype) == (torch.int64, torch.float32)
    if not fits or places.min() < 0 or places.max() >= pixels or not shares.isfinite().all():
        raise kept.unfit("its places and shares are none of the pixels of a picture")
    return Blends(places, shares)


def _units(kept: Kept) -> Tensor | None:
    """Those of features. Raises WeightsError where they cannot be that."""
    units, shape = kept.tensors.get(weights.STREAM + weights.UNITS), kept.about.input_shape
    if units is None:
        return None
    fits = kept.about.floats and [1, 1, *units.shape[1:]] == shape and len(units) == 2
    fits = fits and units.dtype == torch.float64 and bool(units.isfinite().all())
    if not fits or units[1].min() <= 0:
        raise kept.unfit("its units are not those of its features")
    return units


def _of_any(targets: Tensor) -> Tensor:
    """int64 [1, labels]: the output of each label in whichever task has it; -1 for several."""
    most = targets.max(0).values
    same = (targets < 0) | (targets == most)
    return torch.where(same.all(0), most, -1).unsqueeze(0)
