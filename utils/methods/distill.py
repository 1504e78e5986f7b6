"""Distillation: a network is to say what another one says (Hinton et al., 2015, "Distilling the
knowledge in a neural network")."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.stream import Samples, TaskStream
from utils.engines.base import Engine

TEMPERATURE = 2.0  # of Li & Hoiem (2016), and of van de Ven & Tolias (2019)
AT_A_TIME = 500  # pictures


def distillation(
    logits: Tensor, teacher: Tensor, among: int | None, temperature: float = TEMPERATURE
) -> Tensor:
    """Mean over pictures of the cross-entropy of softmax(logits / T) against
    softmax(teacher / T).

    logits [n, classes], of which the first `among` count; teacher [n, known], of the first ones:
    classes that came since have probability 0 (van de Ven & Tolias, 2019).
    """
    known = teacher.shape[1]
    wanted = (teacher / temperature).softmax(1)
    said = (logits[:, :among] / temperature).log_softmax(1)
    return -(wanted * said[:, :known]).sum(1).mean()


@torch.no_grad()
def table(engine: Engine, stream: TaskStream, samples: Samples, head: int, outputs: int) -> Tensor:
    """The first `outputs` logits of training pictures as the network is, in evaluation mode:
    float32 [all training pictures, outputs] by row number, zero for others."""
    found = torch.zeros(len(stream.train.x), outputs, device=engine.device)
    for some in samples.split(AT_A_TIME):
        logits, _ = engine.logits(some, head, training=True)
        found[some.rows.to(engine.device)] = logits[:, :outputs]
    return found


def earlier_heads(stream: TaskStream, task: int) -> dict[int, int]:
    """The heads of the tasks before this one, and how many outputs of each these have trained:
    classes that are still to come are among them with `outputs = all`."""
    found: dict[int, int] = {}
    for earlier in stream.training[:task]:
        trained = earlier.among or stream.head_sizes[earlier.head]
        found[earlier.head] = max(found.get(earlier.head, 0), trained)
    return found
