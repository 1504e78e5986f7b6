"""The peer to beat: what a careful user of plain PyTorch writes for the MLPs of this project.

    python tests/speed/peer.py MLP_1LayerSparse MLP_1Layer      its steps and ours in turn, on a CPU

Pictures on the device, mini-batches gathered there, fused SGD, no waiting for the device in a step;
modules, autograd and one launch after the other. On a GPU `gpu.py` runs it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parents[2]))

from utils.system.surroundings import prepare

prepare()

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import make_stream
from benchmarks.stream import TaskStream
from exps.config import Experiment, load
from models import make_model
from utils.engines.batch import Batch
from utils.engines.choose import make_engine
from utils.system.runtime import keep_memory


class Winners(nn.Module):
    """k-winners with boosting, on whole batches."""

    duty: Tensor

    def __init__(self, units: int, k: int, strength: float, period: int) -> None:
        super().__init__()
        self.k, self.strength, self.period, self.seen = k, strength, period, 0
        self.register_buffer("duty", torch.zeros(units))

    def forward(self, x: Tensor) -> Tensor:
        boosted = x.detach() * torch.exp(-self.strength * self.duty)
        threshold = boosted.topk(self.k, 1, sorted=False).values.amin(1, keepdim=True)
        y = x * (boosted >= threshold)
        if self.training:
            self.seen += len(x)
            span = min(self.period, self.seen)
            wins = (y.detach() > 0).sum(0)
            self.duty.mul_(span - len(x)).add_(wins).div_(span)
        return y


def model_of(exp: Experiment, inputs: int, outputs: int) -> nn.Sequential:
    """The MLP of a section, with dense weights."""
    layers: list[nn.Module] = [nn.Flatten()]
    for i in range(exp.hidden_layers):
        layers.append(nn.Linear(inputs if i == 0 else exp.hidden_units, exp.hidden_units))
        k = round(exp.hidden_units * exp.percent_on_fc)
        strength, period = exp.boost_strength, exp.duty_cycle_period
        winners = Winners(exp.hidden_units, k, strength, period) if exp.sparsify else nn.ReLU()
        layers += [winners, nn.Dropout(exp.dropout)]
    return nn.Sequential(*layers, nn.Linear(exp.hidden_units, outputs))


def stepper(exp: Experiment, stream: TaskStream, device: torch.device) -> Callable[[Tensor], None]:
    """A training step on the pictures with these row numbers, int64 [batch], of the first task."""
    model = model_of(exp, stream.train.x[0].numel(), stream.head_sizes[0]).to(device)
    sgd = torch.optim.SGD(
        model.parameters(),
        lr=exp.lr,
        momentum=exp.momentum,
        nesterov=exp.nesterov,
        weight_decay=exp.weight_decay,
        fused=True,
    )
    pictures, labels = stream.train.x.flatten(1), stream.train.y
    order = None if stream.permutations is None else stream.permutations[0]
    half = exp.precision == "bf16"

    def step(rows: Tensor) -> None:
        x = pictures[rows].float().div_(255)
        if order is not None:
            x = x[:, order]
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            loss = cross_entropy(model(x), labels[rows])
        sgd.zero_grad(set_to_none=True)
        loss.backward()
        sgd.step()

    model.train()
    return step


def main() -> None:
    """Print the median milliseconds of a step of each of these sections, ours and the peer's."""
    keep_memory()
    for name in sys.argv[1:]:
        exp, cpu = load(name)[0].in_effect, torch.device("cpu")
        stream = make_stream(exp)
        torch.manual_seed(0)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        engine, plain = make_engine(exp, model, stream, cpu), stepper(exp, stream, cpu)
        batches = list(stream.training[0].train.take(slice(0, 12 * exp.mb_size)).split(exp.mb_size))
        engine.begin_epoch(5 * len(batches))
        ours, theirs = list[float](), list[float]()
        for _ in range(5):
            for batch in batches:
                began = time.perf_counter()
                engine.step(Batch.of(batch, 0))
                ours.append(time.perf_counter() - began)
            for batch in batches:
                began = time.perf_counter()
                plain(batch.rows)
                theirs.append(time.perf_counter() - began)
        one, other = (1e3 * median(times[len(batches) :]) for times in (ours, theirs))
        print(f"{name}: {one:.2f} ms a step, plain PyTorch {other:.2f}, {other / one:.1f} times")


if __name__ == "__main__":
    main()
