"""Networks of one shape that train together: what they hold, and a step for all of them at once.

The members' parameters and buffers are slices of the stack's memory, so a network is always what
its member is; only weights between winners are held in another form (see `winners.lazy`), and are
written back when they are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from types import ModuleType

import torch
from torch import Tensor

from benchmarks.stream import Pictures, Samples, TaskStream
from exps.config import Experiment
from models.blocks import Block
from models.network import Network
from models.synapses import Weights
from sparse_syn.k_winners import KWinners
from utils.engines.cuda_graph import WARM_UP, CudaRecorder
from utils.engines.stacked import plain
from utils.engines.stacked.layout import (
    BLOCK_OF_UNITS,
    Counts,
    Dense,
    Descent,
    Draws,
    Flow,
    Heads,
    Layer,
    On,
    Queue,
    View,
    member,
)
from utils.engines.winners.lazy import LazyMatrix
from utils.optimizers import sgd as sgd_file

AT_ONCE = 32  # steps that a member may queue
TEST_BATCH = 10_000  # pictures; their activities are what takes memory


class Stack:
    """Room for S networks of one shape, with seeds of their own, each on a stream of its own whose
    pictures are the same.

    Every member is taken in by `take_in`; who is not there costs time, and stays nothing.
    """

    def __init__(
        self, exp: Experiment, model: Network, stream: TaskStream, size: int, device: torch.device
    ) -> None:
        """model, stream: like those that will be taken in."""
        self.exp, self.size, self.device = exp, size, device
        self.ops = _operations(device)
        self.sgd = Descent(exp.lr, exp.momentum, exp.weight_decay, exp.nesterov)
        self.type = torch.bfloat16 if exp.precision == "bf16" else torch.float32
        self.units, self.head_sizes = model.units, stream.head_sizes
        winners = [isinstance(block.activation, KWinners) for block in model.blocks]
        basis = sgd_file.basis(exp)
        self.basis = basis
        self.parts = 2 if basis is not None and basis.decay[1] else 1
        decay = [] if basis is None else list(basis.decay[: self.parts])
        between = max(sum(winners) - 1, 0)  # layers that are lazy
        self.seen = self._zeros(size, sum(winners), dtype=torch.int64)
        shape = size, self.parts * between
        self.scales = torch.ones(shape, dtype=torch.float64, device=device)
        self.decays = torch.tensor([decay * between], dtype=torch.float64, device=device)
        self.layers = [self._layer(i, block) for i, block in enumerate(model.blocks)]
        self.heads = self._heads(model)
        # By the number of their layer, of each member.
        self.matrices: list[dict[int, LazyMatrix]] = [{} for _ in range(size)]
        self.train, self.tests = (self._view(stream, its) for its in (stream.train, stream.test))
        zeros = self._zeros(size, dtype=torch.int64)
        self.draws = Draws(zeros, zeros.clone())
        self.batch = batch_of(exp, stream)
        rows = self._zeros(size, AT_ONCE + 1, self.batch, dtype=torch.int32)
        counts, one = rows[:, :, 0].clone(), zeros.int()
        self.queue = Queue(
            rows, rows.clone(), counts, zeros.clone(), *(one.clone() for _ in range(3))
        )
        self.flow = self._flow(size, self.batch)
        longest = max(-(-len(task.train) // exp.mb_size) for task in stream.training)
        self.counts = self._counts(longest)
        self.recorder = CudaRecorder(device) if device.type == "cuda" else None
        self.replay: Callable[[], None] | None = None
        self.warm = 0

    @torch.no_grad()
    def take_in(self, s: int, model: Network, stream: TaskStream, seed: int) -> None:
        """Make this network the member s: its parameters and buffers are then the stack's."""
        for its, mine in self._shared(s, model):
            mine.copy_(its)
            its.data = mine
        for layer in self.layers:
            if layer.parts:
                assert self.basis is not None
                memory = [part[s] for part in layer.parts]
                matrix = LazyMatrix(layer.weight[s].t(), None, self.basis, memory)
                self.matrices[s][layer.number] = matrix
            for momentum in (layer.momentum, layer.bias_momentum):
                if momentum is not None:
                    momentum[s].zero_()
        for momentum in (self.heads.momentum, self.heads.bias_momentum):
            if momentum is not None:
                momentum[s].zero_()
        self.scales[s].fill_(1)
        for view in (self.train, self.tests):
            view.targets[s].copy_(stream.targets)
            if view.orders is not None and stream.permutations is not None:
                view.orders[s].copy_(stream.permutations)
        self.draws.seed[s].fill_(seed)
        self.draws.taken[s].fill_(0)
        self.rewritten(s, model)

    def let_go(self, s: int) -> None:
        """The member s has left."""
        self.queue.counts[s].zero_()

    @torch.no_grad()
    def run(self, orders: dict[int, tuple[Samples, int, int | None]]) -> None:
        """Train these members, each on its samples, a mini-batch after the other (at most AT_ONCE
        of them; the last may be short), with a head, of whose outputs the first so many count."""
        longest = 0
        for s, (samples, head, outputs) in orders.items():
            steps = -(-len(samples) // self.batch)
            assert steps <= AT_ONCE, "more steps than a member may queue"
            self._fill(s, samples, steps, head, outputs)
            longest = max(longest, steps)
        for _ in range(longest):
            self._advance()

    def _fill(self, s: int, samples: Samples, steps: int, head: int, outputs: int | None) -> None:
        queue, n = self.queue, len(samples)
        queue.rows[s].view(-1)[:n].copy_(samples.rows)
        views = queue.views[s].view(-1)[:n]
        views.fill_(samples.view) if isinstance(samples.view, int) else views.copy_(samples.view)
        counts = queue.counts[s].zero_()  # filled, not assigned: the host does not wait
        counts[:steps].fill_(self.batch)
        if n % self.batch:
            counts[steps - 1].fill_(n % self.batch)
        queue.at[s].fill_(0)
        queue.head[s].fill_(head)
        queue.classes[s].fill_(self.head_sizes[head])
        queue.outputs[s].fill_(self.head_sizes[head] if outputs is None else outputs)

    def _advance(self) -> None:
        if self.replay is not None:
            self.replay()
        elif self.recorder is None:
            self._step()
        elif self.warm < WARM_UP:
            self.warm += 1
            self.recorder.warm_up(self._step)
        else:
            self._record(self.recorder)

    def _record(self, recorder: CudaRecorder) -> None:
        """Record a step and take it; launch steps one by one where that cannot be."""
        try:
            self.replay = recorder.record(self._step)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            warnings.warn(f"steps cannot be recorded and are launched: {reason}", stacklevel=2)
            self.recorder = None
        self._advance()

    def _step(self) -> None:
        """One step of every member that has one in its queue."""
        ops, flow, queue, counts, heads = self.ops, self.flow, self.queue, self.counts, self.heads
        ops.gather(self.train, queue, flow)
        self._forward(flow, self.layers, self.draws, training=True)
        last = flow.outputs[-1]
        if isinstance(last, On):
            ops.classify_winners(last, heads, queue, flow)
        else:
            ops.classify_dense(last, heads, queue, flow)
        inputs: list[On | Dense | None] = [None, *flow.outputs[:-1]]
        for layer, out, below in reversed(
            list(zip(self.layers, flow.outputs, inputs, strict=True))
        ):
            its = heads if out is last else None
            if isinstance(out, On):
                if isinstance(below, On):
                    ops.back_hidden(out, below, layer)
                    ops.update_entries(out, below, layer, flow.count)
                else:
                    ops.update_rows(flow.x, out, layer, self.sgd, flow.count)
                ops.update_winners(out, layer, self.sgd, flow, its, queue, counts)
            else:
                ops.back_units(out, layer, self.sgd, flow, its, queue, counts)
                if isinstance(below, Dense):  # before the weights change
                    ops.product(out.gradient, layer.computed, below.gradient)
                x = below.h if isinstance(below, Dense) else flow.x
                ops.update_dense(x, out.gradient, layer, self.sgd, flow.count)
        ops.finish(flow, queue, self.draws, counts, self.seen, self.scales, self.decays)

    def _forward(
        self, flow: Flow, layers: Sequence[Layer], draws: Draws, *, training: bool
    ) -> None:
        """The outputs of the hidden layers."""
        x, below, ops = flow.x, None, self.ops
        for layer, out in zip(layers, flow.outputs, strict=True):
            if isinstance(out, Dense):
                x = out.h = ops.linear(x, layer)
                ops.relu(out.h, layer, draws, flow.count, training=training)
            elif isinstance(below, On):
                ops.compete_hidden(below, layer, draws, flow.count, out, training=training)
            else:
                pre = ops.linear(x, layer)
                ops.compete(pre, layer, draws, flow.count, out, training=training)
            below = out

    @torch.no_grad()
    def test(self, s: int, samples: Samples, *, training: bool) -> On | Dense:
        """The outputs of the last hidden layer of a member, in evaluation mode, of test pictures or
        of training pictures."""
        n, view = len(samples), self.train if training else self.tests
        rows = samples.rows.int().view(1, 1, n).to(self.device)
        views = torch.as_tensor(samples.view).int().to(self.device).expand(n).view(1, 1, n)
        count = torch.full((1, 1), n, dtype=torch.int32, device=self.device)
        none = self._zeros(1, dtype=torch.int64)
        flow = self._flow(1, n, training=False)
        queue = Queue(rows, views.contiguous(), count, none, *[none.int()] * 3)
        orders = None if view.orders is None else view.orders[s : s + 1]
        its = replace(view, orders=orders, targets=view.targets[s : s + 1])
        self.ops.gather(its, queue, flow)
        layers = [member(layer, s) for layer in self.layers]
        self._forward(flow, layers, member(self.draws, s), training=False)
        return flow.outputs[-1]

    def make_room(self, steps: int) -> None:
        """For an epoch of so many steps."""
        before = self.counts
        if steps > (so_far := before.losses.shape[1]):
            self.counts, self.replay, self.warm = self._counts(steps), None, 0
            for name, its in vars(before).items():
                if isinstance(its, Tensor):
                    mine = getattr(self.counts, name)
                    (mine[:, :so_far] if mine.shape != its.shape else mine).copy_(its)

    def rewritten(self, s: int, model: Network) -> None:
        """The parameters or masks of the member s, this network, were written to from outside."""
        for layer, block in zip(self.layers, model.blocks, strict=True):
            if layer.half is not None:
                layer.half[s].copy_(layer.weight[s])
            mask = Weights.of(block.linear).zero_mask
            if layer.parts and layer.mask is not None and mask is not None:
                layer.mask[s].copy_(mask.t())
                for part in layer.parts:
                    part[s].masked_fill_(layer.mask[s], 0)

    def _shared(self, s: int, model: Network) -> Iterator[tuple[Tensor, Tensor]]:
        """The parameters and buffers of a network like the members, and those of the member s."""
        for layer, block in zip(self.layers, model.blocks, strict=True):
            weights, activation = Weights.of(block.linear), block.activation
            yield weights.weight, layer.weight[s]
            yield weights.bias, layer.bias[s]
            if weights.zero_mask is not None and layer.mask is not None and not layer.parts:
                yield weights.zero_mask, layer.mask[s]
            if isinstance(activation, KWinners) and layer.duty is not None:
                assert layer.strength is not None
                yield activation.duty_cycle, layer.duty[s]
                yield activation.boost_strength, layer.strength[s]
                yield activation.learning_iterations, self.seen[s, layer.number]
        for i, head in enumerate(map(Weights.of, model.heads)):
            n = len(head.bias)
            yield head.weight, self.heads.weight[s, i, :n]
            yield head.bias, self.heads.bias[s, i, :n]

    def _zeros(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.zeros(*shape, dtype=dtype, device=self.device)

    def _layer(self, i: int, block: Block) -> Layer:
        """Memory for the hidden layer with this number, of all members."""
        weights, activation, moves = Weights.of(block.linear), block.activation, self.sgd.momentum
        units, inputs = weights.weight.shape
        weight, bias = self._zeros(self.size, units, inputs), self._zeros(self.size, units)
        mask = None if weights.zero_mask is None else torch.zeros_like(weight, dtype=torch.bool)
        layer = Layer(i, block.dropout.p, weight, bias, mask)
        if isinstance(activation, KWinners):
            layer.k, layer.k_inference = activation.k, activation.k_inference
            layer.period = activation.duty_cycle_period
            layer.duty, layer.strength = torch.zeros_like(bias), self._zeros(self.size)
            layer.seen = self.seen[:, i : i + 1]
        if layer.duty is not None and i:
            assert self.basis is not None
            layer.parts = tuple(self._zeros(self.size, inputs, units) for _ in range(self.parts))
            mine = slice((i - 1) * self.parts, i * self.parts)
            layer.scales, layer.decays = self.scales[:, mine], self.decays[:, mine]
            layer.gain = self.basis.gain[: self.parts]
            layer.mask = None if mask is None else mask.mT.contiguous()
        else:
            layer.momentum = torch.zeros_like(weight) if moves else None
            layer.half = weight.to(self.type) if self.type != weight.dtype else None
        layer.bias_momentum = torch.zeros_like(bias) if moves else None
        return layer

    def _heads(self, model: Network) -> Heads:
        """Memory for the classifiers, as wide as the widest."""
        count, widest = len(model.heads), max(self.head_sizes)
        weight = self._zeros(self.size, count, widest, self.units)
        bias, moves = self._zeros(self.size, count, widest), self.sgd.momentum
        momenta = (torch.zeros_like(weight), torch.zeros_like(bias)) if moves else (None, None)
        return Heads(weight, bias, *momenta)

    def _view(self, stream: TaskStream, pictures: Pictures) -> View:
        """How members see these pictures, to be filled in."""
        orders, targets, each = stream.permutations, stream.targets, pictures.x[0, 0].numel()
        return View(
            pictures.x.flatten(1).to(self.device),
            pictures.y.to(self.device),
            None if orders is None else self._zeros(self.size, *orders.shape, dtype=torch.int32),
            self._zeros(self.size, *targets.shape, dtype=torch.int64),
            stream.scale.repeat_interleave(each).to(self.device),
            stream.shift.repeat_interleave(each).to(self.device),
        )

    def _flow(self, size: int, batch: int, *, training: bool = True) -> Flow:
        """Memory for a mini-batch."""
        outputs: list[On | Dense] = []
        for layer in self.layers:
            if layer.duty is not None:
                k = layer.k if training else layer.k_inference
                outputs.append(On.of(size, batch, k, self.device))
                continue
            h = self._zeros(0, dtype=self.type)  # `linear` makes it
            back = self._zeros(size, batch * training, layer.units, dtype=self.type)
            blocks = -(-layer.units // BLOCK_OF_UNITS)
            outputs.append(Dense(h, back, self._zeros(size, blocks, dtype=torch.int32)))
        inputs, classes = self.train.pictures.shape[1], self.heads.weight.shape[2]
        x, y = self._zeros(size, batch, inputs, dtype=self.type), self._zeros(size, batch).int()
        logits, loss = self._zeros(size, batch, classes), self._zeros(size, batch)
        count = self._zeros(size, dtype=torch.int32)
        return Flow(x, y, count, outputs, logits, logits.clone(), loss, y.clone())

    def _counts(self, steps: int) -> Counts:
        """Memory for what an epoch of so many steps looks like."""
        losses, one = self._zeros(self.size, steps), self._zeros(self.size, dtype=torch.int64)
        units = self._zeros(self.size, self.units, dtype=torch.int64)
        active, stats = torch.full_like(losses, torch.nan), self.exp.record_stats
        return Counts(losses, active, losses.long(), one, one.clone(), units, stats)


def batch_of(exp: Experiment, stream: TaskStream) -> int:
    """The most pictures that a mini-batch can have."""
    return min(exp.mb_size, max(len(task.train) for task in stream.training))


def _operations(device: torch.device) -> ModuleType:
    """What computes on this device."""
    if device.type == "cuda":
        from utils.engines.stacked import kernels

        return kernels
    return plain
