"""Which engine computes: the fastest that can do what the experiment and its methods need."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.messages import Told
from exps.plugins import is_path
from models.network import Network
from utils.engines.autograd import AutogradEngine
from utils.engines.base import Asking, Engine, Need, Parts
from utils.engines.cuda_graph import CudaGraphEngine, CudaRecorder
from utils.engines.fused import FusedEngine
from utils.engines.routed import RoutedEngine
from utils.engines.stacked.engine import StackedEngine
from utils.engines.winners.engine import FEW, SparseEngine
from utils.system.runtime import has_fast_bf16


class EngineError(Told):
    """An engine that does not fit the network or a method."""


def slow_precision(exp: Experiment, device: torch.device) -> list[str]:
    """A warning where precision = bf16 is likely to be slower than fp32; otherwise nothing."""
    if exp.precision != "bf16":
        return []
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bf16()
    where = "GPU" if device.type == "cuda" else "processor (it needs AVX512-BF16 or AMX)"
    return [] if fast else [f"precision = bf16: not fast on this {where}; fp32 may be faster"]


def make_engine(
    exp: Experiment,
    model: Network,
    stream: TaskStream,
    device: torch.device,
    methods: Sequence[Asking] = (),
) -> Engine:
    """The engine that `exp.engine` names; `auto` takes the fastest that can do what is needed.

    A method that has `Parts` has it made for these parts of the network. What methods attach is
    attached to the network here. Raises EngineError when the one named cannot do it.
    """
    exp, model = exp.in_effect, model.to(device)

    def prepare(network: Network) -> None:
        for method in methods:
            method.prepare(network)

    def build(network: Network) -> Engine:
        return _plain_engine(exp, network, stream, device, methods)

    prepare(model)
    parts = next((method for method in methods if isinstance(method, Parts)), None)
    if parts is None:
        return build(model)
    return RoutedEngine(exp, model, stream, device, build, parts, prepare)


def _plain_engine(
    exp: Experiment,
    model: Network,
    stream: TaskStream,
    device: torch.device,
    methods: Sequence[Asking],
) -> Engine:
    sparse = SparseEngine.declines(exp, model, device) or _lacking(SparseEngine.can, methods)
    stacked = StackedEngine.declines(exp, model, stream, device) or (
        f"stacked: {methods[0].name} looks at every step" if methods else ""
    )
    recorded = not_recorded(exp, stream, device)
    for name, why in (("sparse", sparse), ("stacked", stacked)):
        if exp.engine == name and why:
            raise EngineError(
                f"[{exp.name}] engine = {name} does not fit this experiment",
                why,
                "choose engine = auto",
            )
    if exp.engine == "stacked" or (exp.engine == "auto" and not stacked and not recorded):
        return StackedEngine.alone(exp, model, stream, device)
    few = SparseEngine.pays(model)
    if exp.engine == "sparse" or (exp.engine == "auto" and not sparse and few):
        return SparseEngine(exp, model, stream)
    if exp.engine == "reference":
        engine = AutogradEngine(exp, model, stream, device)
        engine.why_not_faster = "engine = reference"
        return engine
    if not recorded:
        return CudaGraphEngine(exp, model, stream, device, CudaRecorder(device))
    engine = FusedEngine(exp, model, stream, device)
    if not methods and not exp.clip_norm:
        engine.steps_alone()
    slower = sparse or ("engine = dense" if few else f"sparse: more than one unit in {FEW} wins")
    engine.why_not_faster = slower if device.type == "cpu" else recorded
    return engine


def _lacking(can: frozenset[Need], methods: Sequence[Asking]) -> str:
    """What the sparse engine has not that a method needs, '' where there is nothing."""
    for method in methods:
        for need in sorted(method.needs - can, key=lambda need: need.name):
            return f"sparse: it has no {need.value}, which {method.name} needs"
    return ""


def not_recorded(exp: Experiment, stream: TaskStream, device: torch.device) -> str:
    """Why steps cannot be recorded here, '' where they can."""
    if device.type != "cuda":
        return "recorded steps are for CUDA"
    if stream.train.x.device != device:
        return f"recorded steps need the pictures on {device}; they are on {stream.train.x.device}"
    # What a user's file computes in Python would be what it was when the step was recorded.
    if users := [
        value for kind, value in exp.plug_ins if kind.key != "benchmark" and is_path(value)
    ]:
        return f"recorded steps are for the project's own files, not for {users[0]}"
    own = exp.sparse_layers == "own" or not exp.sparsify
    return "" if own else "recorded steps need sparse_layers = own"
