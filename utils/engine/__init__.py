"""Engines: how a step and a prediction are computed. All give the same, up to rounding."""

from __future__ import annotations

import torch

from benchmarks.stream import TaskStream
from exps.config import Experiment
from exps.messages import three_lines
from models.mlp import MLP
from utils.engine.base import Engine, PlainEngine
from utils.engine.contextual import ContextEngine
from utils.engine.dense import DenseEngine
from utils.engine.reference import ReferenceEngine
from utils.engine.replay import CudaRecorder, ReplayEngine
from utils.engine.screen import has_fast_bf16
from utils.engine.sparse import SparseEngine
from utils.engine.staged import StagedEngine


class EngineError(Exception):
    """An engine that does not fit the model."""


def slow_precision(exp: Experiment, device: torch.device) -> list[str]:
    """A warning where precision = bf16 is likely to be slower than fp32; otherwise nothing."""
    if exp.precision != "bf16":
        return []
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_fast_bf16()
    where = "GPU" if device.type == "cuda" else "processor (it needs AVX512-BF16 or AMX)"
    return [] if fast else [f"precision = bf16: not fast on this {where}; fp32 may be faster"]


def make_engine(exp: Experiment, model: MLP, stream: TaskStream, device: torch.device) -> Engine:
    """The engine that `exp.engine` names; `auto` takes the fastest that knows the model.

    With contexts it is asked for the part of the model that a context uses. Raises EngineError
    when the one named does not know it.
    """
    exp = exp.in_effect
    if exp.context == "none":
        return _staged_engine(exp, model, stream, device)
    return ContextEngine(
        exp, model, stream, device, lambda part: _staged_engine(exp, part, stream, device)
    )


def _staged_engine(exp: Experiment, model: MLP, stream: TaskStream, device: torch.device) -> Engine:
    engine = _plain_engine(exp, model, stream, device)
    changes = exp.old_synapse_lr < 1 or exp.dynamic != "none"
    return StagedEngine(exp, stream, engine) if changes else engine


def _plain_engine(
    exp: Experiment, model: MLP, stream: TaskStream, device: torch.device
) -> PlainEngine:
    known = SparseEngine.supports(exp, model, device)
    if exp.engine == "sparse" and not known:
        raise EngineError(
            three_lines(
                f"[{exp.name}] engine = sparse does not fit this experiment",
                "it is for MLPs of own k-winner layers, each with a bias, on the CPU, with ordinary"
                " settings of SGD",
                "choose engine = auto",
            )
        )
    if exp.engine == "sparse" or (exp.engine == "auto" and known and SparseEngine.pays(model)):
        return SparseEngine(exp, model, stream)
    if exp.engine == "reference":
        return ReferenceEngine(exp, model, stream, device)
    if device.type == "cuda" and stream.train.x.device == device and exp.sparse_layers == "own":
        return ReplayEngine(exp, model, stream, device, CudaRecorder(device))
    return DenseEngine(exp, model, stream, device)
