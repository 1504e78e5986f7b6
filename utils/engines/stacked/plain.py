"""What a stack computes, in torch: what `kernels` is compared with, and what runs without Triton.

`count` int32 [S] says how many of the B pictures there are; the rest is padding, and a member with
none stays as it is. Dropout is drawn by counter (see `drawn`), so a network draws the same alone
and in company, and on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from sparse_syn.functional import boost_activations, moving_duty_cycle
from utils.engines.stacked.layout import (
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
)
from utils.engines.winners.lazy import NOTHING, SMALLEST_SCALE

LOW = 0xFFFFFFFF
ROUNDS = 10


def drawn(seed: Tensor, place: Tensor, taken: Tensor, layer: int) -> Tensor:
    """32 random bits for every place: Philox4x32-10 (Salmon et al., 2011, "Parallel random numbers:
    as easy as 1, 2, 3") of the key seed and the counter (place, steps taken, layer, 0), int64."""
    c0, c1, k0 = torch.broadcast_tensors(place & LOW, taken & LOW, seed & LOW)
    c2, c3, k1 = torch.full_like(c0, layer), torch.zeros_like(c0), (seed >> 32) & LOW
    for _ in range(ROUNDS):
        a, b = c0 * 0xD2511F53, c2 * 0xCD9E8D57  # of what overflows the bits are right
        c0, c1 = ((b >> 32) & LOW) ^ c1 ^ k0, b & LOW
        c2, c3 = ((a >> 32) & LOW) ^ c3 ^ k1, a & LOW
        k0, k1 = (k0 + 0x9E3779B9) & LOW, (k1 + 0xBB67AE85) & LOW
    return c0


def dropped(p: float) -> int:
    """Of 2**32 random numbers, how many drop a unit."""
    return min(round(p * 2**32), LOW)


def _factors(layer: Layer, draws: Draws, place: Tensor) -> Tensor:
    """Dropout's, 0 or 1 / (1 - p), for places int64 [S, B, ...]."""
    ones = [1] * (place.dim() - 1)
    bits = drawn(draws.seed.view(-1, *ones), place, draws.taken.view(-1, *ones), layer.number)
    return (bits >= dropped(layer.p)).float() / (1 - layer.p)


def _there(count: Tensor, batch: int) -> Tensor:
    """Which pictures there are: bool [S, B, 1]."""
    return torch.arange(batch, device=count.device).view(1, -1, 1) < count.view(-1, 1, 1)


def _members(like: Tensor) -> Tensor:
    """Their numbers, int64 [S]."""
    return torch.arange(len(like), device=like.device)


def gather(view: View, queue: Queue, flow: Flow) -> None:
    """The next mini-batch of the queue."""
    members = _members(flow.x)
    at = queue.at.clamp(max=queue.rows.shape[1] - 1)
    flow.count.copy_(queue.counts[members, at])
    there = _there(flow.count, flow.x.shape[1])
    rows, views = queue.rows[members, at].long(), queue.views[members, at].long()
    x = view.pictures[rows].float()  # [S, B, I]
    if view.orders is not None:
        x = x.gather(2, view.orders[members.unsqueeze(1), views].long())
    flow.x.copy_(torch.where(there, x * view.scale - view.shift, 0.0))
    labels = view.targets[members.unsqueeze(1), views, view.labels[rows]]
    flow.y.copy_(torch.where(there.squeeze(2), labels, 0))


def linear(x: Tensor, layer: Layer) -> Tensor:
    """Pre-activations [S, B, N], without the bias."""
    return torch.bmm(x, layer.computed.mT)


def relu(pre: Tensor, layer: Layer, draws: Draws, count: Tensor, *, training: bool) -> None:
    """Bias, ReLU and dropout of pre-activations [S, B, N], in place; zero for pictures that are
    not there."""
    size, batch, units = pre.shape
    pre.copy_((pre.float() + layer.bias.unsqueeze(1)).relu_())
    if training and layer.p:
        place = torch.arange(batch * units, device=pre.device).view(1, batch, units)
        pre.mul_(_factors(layer, draws, place.expand(size, -1, -1)))
    pre.masked_fill_(~_there(count, batch), 0)


def compete(
    pre: Tensor, layer: Layer, draws: Draws, count: Tensor, on: On, *, training: bool
) -> None:
    """Into `on` the units of each picture with the largest boosted values; of equal ones the first.

    pre: [S, B, N], without the bias."""
    pre = pre.float() + layer.bias.unsqueeze(1)
    _, batch, units = pre.shape
    assert layer.duty is not None and layer.strength is not None
    duty, strength = layer.duty.unsqueeze(1), layer.strength.view(-1, 1, 1)
    boosted = boost_activations(pre, duty, strength)
    boosted = boosted.masked_fill(boosted.isnan(), torch.inf)  # NaN wins, and shows
    unit = boosted.sort(dim=2, descending=True, stable=True).indices[..., : on.unit.shape[2]]
    there = _there(count, batch)
    raw = torch.where(there, pre.gather(2, unit), 0.0)
    scale = torch.ones_like(raw)
    if training and layer.p:
        first = torch.arange(batch, device=pre.device).view(1, -1, 1) * units
        scale = _factors(layer, draws, first + unit)
    on.unit.copy_(torch.where(there, unit, 0))
    on.raw.copy_(raw)
    on.scale.copy_(torch.where(there & (raw != 0), scale, 0.0))


def compete_hidden(
    below: On, layer: Layer, draws: Draws, count: Tensor, on: On, *, training: bool
) -> None:
    """The same of a layer between winners, on those of the layer below."""
    rows = below.unit.long().flatten(1)
    weight = _mixed(layer, _members(rows).unsqueeze(1), rows).view(*below.unit.shape, -1)
    pre = torch.einsum("sbk,sbkn->sbn", below.raw * below.scale, weight)
    compete(pre, layer, draws, count, on, training=training)


def _mixed(layer: Layer, *where: Tensor) -> Tensor:
    """The weights at these places of the parts, the first index that of the member."""
    assert layer.scales is not None
    total = torch.zeros(())
    for i, part in enumerate(layer.parts):
        its = part[where]
        scale = layer.scales[where[0], i].float()
        total = total + its * scale.view(*scale.shape, *[1] * (its.dim() - scale.dim()))
    return total


def _spread(on: On, values: Tensor, units: int) -> Tensor:
    """Values [S, B, K] of winners at their places [S, B, N], zero elsewhere."""
    wide = values.new_zeros(*values.shape[:2], units)
    return wide.scatter_add_(2, on.unit.long(), values)


def classify_winners(on: On, heads: Heads, queue: Queue, flow: Flow) -> None:
    """The gradient of the logits, each picture's loss and whether it is right, and the gradient of
    the winners' pre-activations."""
    weight = heads.weight[_members(queue.head), queue.head.long()]  # [S, C, N]
    _classify(_spread(on, on.raw * on.scale, weight.shape[2]), weight, heads, queue, flow)
    on.gradient.copy_((flow.error @ weight).gather(2, on.unit.long()) * on.scale)


def classify_dense(out: Dense, heads: Heads, queue: Queue, flow: Flow) -> None:
    """The gradient of the logits, each picture's loss and whether it is right."""
    weight = heads.weight[_members(queue.head), queue.head.long()]
    _classify(out.h.float(), weight, heads, queue, flow)


def _classify(h: Tensor, weight: Tensor, heads: Heads, queue: Queue, flow: Flow) -> None:
    bias = heads.bias[_members(queue.head), queue.head.long()]
    logits = torch.baddbmm(bias.unsqueeze(1), h, weight.mT)
    _, batch, classes = logits.shape
    there = _there(flow.count, batch)
    flow.logits.copy_(logits)
    places = torch.arange(classes, device=h.device)
    # Heads with fewer classes than the widest are padded, and the padding never counts.
    best = logits.masked_fill(places >= queue.classes.view(-1, 1, 1), -torch.inf).argmax(2)
    beyond = places >= queue.outputs.view(-1, 1, 1)
    logits.masked_fill_(beyond, -torch.inf)
    y = flow.y.long()
    loss = cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none").view(y.shape)
    error = (logits.softmax(2) - one_hot(y, classes)) / flow.count.view(-1, 1, 1)
    flow.error.copy_(torch.where(there & ~beyond, error, 0.0))
    flow.loss.copy_(torch.where(there.squeeze(2), loss, 0.0))
    flow.right.copy_((best == y) & there.squeeze(2))


def product(a: Tensor, weight: Tensor, out: Tensor) -> None:
    """out [S, B, I] = a [S, B, N] · weight [S, N, I]."""
    torch.bmm(a, weight, out=out)


def back_hidden(on: On, below: On, layer: Layer) -> None:
    """The gradient of the pre-activations of the winners below."""
    members = _members(on.unit).view(-1, 1, 1, 1)
    rows, columns = below.unit.long().unsqueeze(3), on.unit.long().unsqueeze(2)
    weight = _mixed(layer, *torch.broadcast_tensors(members, rows, columns))
    below.gradient.copy_(torch.einsum("sbik,sbk->sbi", weight, on.gradient) * below.scale)


def _descend(
    weight: Tensor, momentum: Tensor | None, gradient: Tensor, sgd: Descent, count: Tensor
) -> None:
    """A step of SGD, in place, of the members that have pictures."""
    there = (count > 0).view(-1, *[1] * (weight.dim() - 1))
    step = gradient + sgd.weight_decay * weight
    if momentum is not None:
        fresh = sgd.momentum * momentum + step
        step = step + sgd.momentum * fresh if sgd.nesterov else fresh
        momentum.copy_(torch.where(there, fresh, momentum))
    weight.copy_(torch.where(there, weight - sgd.lr * step, weight))


def update_rows(x: Tensor, on: On, layer: Layer, sgd: Descent, count: Tensor) -> None:
    """The step of the weights of winners with dense inputs x [S, B, I]."""
    update_dense(x, _spread(on, on.gradient, layer.units), layer, sgd, count)


def update_dense(x: Tensor, gradient: Tensor, layer: Layer, sgd: Descent, count: Tensor) -> None:
    """The step of the weights for the gradient [S, B, N] of the pre-activations."""
    total = gradient.float().mT @ x.float()
    if layer.mask is not None:
        total.masked_fill_(layer.mask, 0)
    _descend(layer.weight, layer.momentum, total, sgd, count)
    if layer.half is not None:
        layer.half.copy_(layer.weight)


def update_entries(on: On, below: On, layer: Layer, count: Tensor) -> None:
    """The lazy step of the weights between winners (see `winners.lazy`); `finish` moves scales."""
    size, inputs, units = layer.parts[0].shape
    assert layer.scales is not None and layer.decays is not None
    total = _spread(below, below.raw * below.scale, inputs).mT @ _spread(on, on.gradient, units)
    if layer.mask is not None:
        total.masked_fill_(layer.mask, 0)
    total.masked_fill_((count == 0).view(-1, 1, 1), 0)
    scales = layer.scales * layer.decays
    for i, part in enumerate(layer.parts):
        scale = scales[:, i].view(size, 1, 1)
        low = (scale < SMALLEST_SCALE) & (count > 0).view(-1, 1, 1)
        short = torch.where(part.abs() > (NOTHING / scale).float(), part, 0.0) * scale.float()
        part.copy_(torch.where(low, short, part))
        scale = torch.where(scale < SMALLEST_SCALE, 1.0, scale)
        part.add_(total * (layer.gain[i] / scale).float())


def update_winners(
    on: On,
    layer: Layer,
    sgd: Descent,
    flow: Flow,
    heads: Heads | None,
    queue: Queue,
    counts: Counts,
) -> None:
    """The step of the biases, and the duty cycle; heads: what classifies by these winners, too."""
    assert layer.duty is not None and layer.seen is not None
    wins = _spread(on, (on.raw > 0).float(), layer.units).sum(1)
    for s, n in enumerate(flow.count.tolist()):
        if n:
            seen = layer.seen[s] + n
            fresh = moving_duty_cycle(layer.duty[s], wins[s], n, seen, layer.period)
            layer.duty[s].copy_(fresh)
    slope = _spread(on, on.gradient, layer.units).sum(1)
    _descend(layer.bias, layer.bias_momentum, slope, sgd, flow.count)
    if heads is not None:
        _update_heads(_spread(on, on.raw * on.scale, layer.units), sgd, flow, heads, queue, counts)


def back_units(
    out: Dense,
    layer: Layer,
    sgd: Descent,
    flow: Flow,
    heads: Heads | None,
    queue: Queue,
    counts: Counts,
) -> None:
    """The gradient of the pre-activations of ReLUs, where `out.gradient` is that of h, and the step
    of their biases; heads: what classifies by them, whose own gradient it begins with, too."""
    back = out.gradient.float()
    if heads is not None:
        back = flow.error @ heads.weight[_members(queue.head), queue.head.long()]
    back = torch.where(out.h > 0, back / (1 - layer.p), 0.0)
    out.gradient.copy_(back)
    _descend(layer.bias, layer.bias_momentum, back.sum(1), sgd, flow.count)
    if heads is not None:
        out.on[:, 0].copy_((out.h != 0).sum((1, 2)))
        _update_heads(out.h.float(), sgd, flow, heads, queue, counts)


def _update_heads(
    h: Tensor, sgd: Descent, flow: Flow, heads: Heads, queue: Queue, counts: Counts
) -> None:
    """The step of the one head of each member that classified h [S, B, N]."""
    for s, head in enumerate(queue.head.tolist()):
        mine = slice(s, s + 1)
        its = [
            (heads.weight, heads.momentum, flow.error[mine].mT @ h[mine]),
            (heads.bias, heads.bias_momentum, flow.error[mine].sum(1)),
        ]
        for weight, momentum, gradient in its:
            old = None if momentum is None else momentum[mine, head]
            _descend(weight[mine, head], old, gradient, sgd, flow.count[mine])
    if counts.stats:
        counts.unit_on += (h != 0).sum(1)


def finish(
    flow: Flow,
    queue: Queue,
    draws: Draws,
    counts: Counts,
    seen: Tensor,
    scales: Tensor,
    decays: Tensor,
) -> None:
    """Note what the step looked like, and go on to the next; seen int64 [S, layers of winners],
    scales float64 [S, all parts], which a step multiplies with decays [1, all parts]."""
    out, batch = flow.outputs[-1], flow.count
    there = batch > 0
    members = _members(batch)[there]
    step = members, counts.done[there]
    counts.losses[step] = (flow.loss.sum(1) / batch)[there]
    counts.sizes[step] = batch[there].long()
    counts.correct += flow.right.sum(1)
    if counts.stats:
        on = out.on.sum(1) if isinstance(out, Dense) else (out.raw * out.scale != 0).sum((1, 2))
        counts.active[step] = (on / (batch * counts.unit_on.shape[1]))[there]
    for counter in (counts.done, queue.at, draws.taken):
        counter += there
    seen += batch.unsqueeze(1)
    fresh = scales * decays
    fresh = torch.where(fresh < SMALLEST_SCALE, 1.0, fresh)
    scales.copy_(torch.where(there.unsqueeze(1), fresh, scales))
