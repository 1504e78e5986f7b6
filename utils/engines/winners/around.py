"""What a step does around its layers, in compiled loops.

torch wakes its threads for many of these small operations, which takes longer than the operation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.stream import Made, Pictures, Samples, TaskStream
from sparse_syn.functional import longest_span
from sparse_syn.k_winners import KWinners
from utils.engines.batch import Batch
from utils.engines.meter import Meter
from utils.engines.winners.choose import Winners
from utils.engines.winners.compiled import array, loops, numbers
from utils.optimizers.momentum import SGD

UNSHARED = 2048  # numbers of which torch computes exp in one thread
SMALL = 2**17  # numbers that one thread steps as fast as several do
SETTINGS = "lr", "momentum", "weight_decay", "nesterov"
NONE = torch.empty(0)


def inputs(stream: TaskStream, pictures: Pictures, samples: Samples) -> Tensor:
    """`TaskStream.inputs`, flat: [n, pixels]."""
    plain = type(stream) is TaskStream and not isinstance(samples, Made) and stream.blends is None
    plain = plain and pictures.x.dtype == torch.uint8
    if not plain or not isinstance(samples.view, int):
        return stream.inputs(pictures, samples).flatten(1)
    pixels, permutations = pictures.x.flatten(1), stream.permutations
    order = torch.arange(pixels.shape[1]) if permutations is None else permutations[samples.view]
    x = torch.empty(len(samples), len(order))
    loops().look(*map(array, (pixels, samples.rows, order, stream.mean, stream.std, x)))
    return x


def boost(activation: KWinners) -> Tensor | None:
    """What multiplies the pre-activations when winners are picked [units]; None for ones."""
    if not activation.boost_strength:
        return None
    found = -activation.boost_strength * activation.duty_cycle
    for part in found.split(UNSHARED):
        part.exp_()
    return found


def count_wins(activation: KWinners, on: Winners) -> None:
    """Count winners in the duty cycle, as KWinners.count_wins does."""
    batch, seen = len(on.unit), activation.learning_iterations
    if not batch:
        return
    seen += batch
    span = min(int(seen), longest_span(batch, activation.duty_cycle_period))
    duty_cycle = activation.duty_cycle
    spans = numbers(duty_cycle, span - batch), numbers(duty_cycle, span)
    loops().count_wins(*map(array, (on.unit, on.value, duty_cycle)), *spans)


class CompiledSGD(SGD):
    """The same where parameters are few: in one thread."""

    @torch.no_grad()
    def apply(self, steps: list[tuple[Tensor, Tensor]]) -> None:
        """Step parameters by their gradients."""
        if large := [(p, g) for p, g in steps if p.numel() > SMALL]:
            super().apply(large)
        lr, momentum, decay, nesterov = (self.settings[name] for name in SETTINGS)
        for p, g in steps:
            if p.numel() <= SMALL:
                if p in self.factors:
                    g.mul_(self.factors[p])
                its = self.momentum(p).view(-1) if momentum else NONE
                arrays = map(array, (p.view(-1), g.view(-1), its))
                loops().step(*arrays, numbers(p, lr, momentum, decay), nesterov)


class CompiledMeter(Meter):
    """The same for what is in the CPU's memory."""

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """One mini-batch: its mean loss [], logits [batch, classes], labels int64 [batch]."""
        at = int(self.done)
        array(self.losses)[at], array(self.sizes)[at] = float(loss), len(labels)
        array(self.correct)[()] += (array(logits).argmax(1) == array(labels)).sum()
        array(self.done)[0] += 1

    def add_winners(self, unit: Tensor, value: Tensor) -> None:
        """Which units [batch, k] of the classifier's inputs have which values, before `add`."""
        on = loops().count(*map(array, (unit, value, self.unit_on)))
        array(self.active)[int(self.done)] = on / (len(unit) * len(self.unit_on))


def errors(
    logits: list[Tensor], labels: list[Tensor], batch: Batch
) -> tuple[list[Tensor], Tensor] | None:
    """dL/dlogits part by part, [part, classes] each, and the loss [], for cross-entropy alone;
    None where it is left to torch."""
    found, loss = [torch.empty_like(some) for some in logits], logits[0].new_zeros(1)
    for some, right, part, error in zip(logits, labels, batch.parts, found, strict=True):
        outputs = min(part.outputs or some.shape[1], some.shape[1])
        arrays = array(some), array(right), outputs, numbers(some, part.weight)
        if not part.weight or not loops().cross_entropy(*arrays, array(error), array(loss)):
            return None
    return found, loss[0]
