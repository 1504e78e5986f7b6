"""The steps of a stack on a GPU, in few passes: the same as `plain`, in Triton.

Every sum has one order, so the same step gives the same bits twice. A program of a member that has
no pictures in a step changes nothing. s: the member, b: the picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_syn.functional import COUNTED
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
)
from utils.engines.stacked.plain import dropped
from utils.engines.winners.lazy import NOTHING, SMALLEST_SCALE

NONE = 0x7FFFFFFF  # an index above all


@triton.jit
def _keep(seed, taken, layer, place, drop):
    """Whether dropout keeps a unit: see `plain.drawn`."""
    zero = place * 0
    bits, _, _, _ = tl.philox(
        seed,
        place.to(tl.uint32),
        (zero + taken).to(tl.uint32),
        (zero + layer).to(tl.uint32),
        zero.to(tl.uint32),
    )
    return bits.to(tl.int64) >= drop


@triton.jit
def _descend(w, m, g, lr, momentum, decay, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr):
    """A weight and its momentum after a step of SGD."""
    g = g + decay * w
    if MOMENTUM:
        m = momentum * m + g
        g = g + momentum * m if NESTEROV else m
    return w - lr * g, m


@triton.jit
def _gather(
    pictures, labels, orders, targets, scale, shift, rows, views, counts, at,
    x, y, count, I, B, Q, V, L,
    ORDERS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    step = tl.minimum(tl.load(at + s), Q - 1)
    n = tl.load(counts + s * Q + step)
    if b == 0:
        tl.store(count + s, n)
    place = (s * Q + step) * B + b
    row, view = tl.load(rows + place).to(tl.int64), tl.load(views + place).to(tl.int64)
    at_y = targets + (s * V + view) * L + tl.load(labels + row)
    tl.store(y + s * B + b, tl.where(b < n, tl.load(at_y), 0).to(tl.int32))
    for start in range(0, I, BLOCK):
        col = start + tl.arange(0, BLOCK)
        inside = col < I
        pixel = col
        if ORDERS:
            pixel = tl.load(orders + (s * V + view) * I + col, mask=inside, other=0)
        value = tl.load(pictures + row * I + pixel, mask=inside, other=0).to(tl.float32)
        value = value * tl.load(scale + col, mask=inside, other=0.0)
        value = value - tl.load(shift + col, mask=inside, other=0.0)
        value = tl.where(b < n, value, 0.0)
        tl.store(x + (s * B + b) * I + col, value.to(x.dtype.element_ty), mask=inside)


def gather(view: View, queue: Queue, flow: Flow) -> None:
    """See `plain.gather`."""
    size, batch, inputs = flow.x.shape
    orders = view.targets if view.orders is None else view.orders
    _gather[batch, size](
        view.pictures, view.labels, orders, view.targets, view.scale, view.shift,
        queue.rows, queue.views, queue.counts, queue.at, flow.x, flow.y, flow.count,
        inputs, batch, queue.rows.shape[1], view.targets.shape[1], view.targets.shape[2],
        ORDERS=view.orders is not None, BLOCK=1024,
    )  # fmt: skip


def linear(x: Tensor, layer: Layer) -> Tensor:
    """See `plain.linear`."""
    if len(x) == 1:  # cuBLAS chooses better so
        return torch.mm(x[0], layer.computed[0].t()).unsqueeze(0)
    return torch.bmm(x, layer.computed.mT)


@triton.jit
def _relu(
    pre, bias, seed, taken, count, total, B, N, layer, drop, factor,
    DROP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    s = tl.program_id(1).to(tl.int64)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < total
    value = tl.load(pre + s * total + place, mask=inside, other=0.0).to(tl.float32)
    value += tl.load(bias + s * N + place % N, mask=inside, other=0.0)
    value = tl.where((value > 0) | (value != value), value, 0.0)
    if DROP:
        keep = _keep(tl.load(seed + s), tl.load(taken + s), layer, place, drop)
        value = tl.where(keep, value * factor, 0.0)
    value = tl.where(place // N < tl.load(count + s), value, 0.0)
    tl.store(pre + s * total + place, value.to(pre.dtype.element_ty), mask=inside)


def relu(pre: Tensor, layer: Layer, draws: Draws, count: Tensor, *, training: bool) -> None:
    """See `plain.relu`."""
    size, batch, units = pre.shape
    p = layer.p if training else 0.0
    _relu[triton.cdiv(batch * units, 1024), size](
        pre, layer.bias, draws.seed, draws.taken, count, batch * units, batch, units,
        layer.number, dropped(p), 1 / (1 - p), DROP=p > 0, BLOCK=1024,
    )  # fmt: skip


@triton.jit
def _largest(
    value, duty, strength, seed, taken, count, unit, raw, scale, s, b, B, N, layer, drop, factor,
    K, DROP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Write the K winners of a picture, whose values are [BLOCK]."""
    col = tl.arange(0, BLOCK)
    inside = col < N
    boost = tl.exp(-tl.load(strength + s) * tl.load(duty + s * N + col, mask=inside, other=0.0))
    key = value * boost
    key = tl.where(key != key, float("inf"), key)  # NaN wins, and shows
    key = tl.where(inside, key, float("-inf"))
    there = b < tl.load(count + s)
    out = (s * B + b) * K
    for j in range(K):
        _, best = tl.max(key, 0, return_indices=True, return_indices_tie_break_left=True)
        its = tl.sum(tl.where(col == best, value, 0.0), 0)
        key = tl.where(col == best, float("-inf"), key)
        keep = factor
        if DROP:
            kept = _keep(tl.load(seed + s), tl.load(taken + s), layer, b * N + best, drop)
            keep = tl.where(kept, factor, 0.0)
        keep = tl.where(there & (its != 0), keep, 0.0)
        tl.store(unit + out + j, tl.where(there, best, 0).to(tl.int32))
        tl.store(raw + out + j, tl.where(there, its, 0.0))
        tl.store(scale + out + j, keep)


@triton.jit
def _compete(
    pre, bias, duty, strength, seed, taken, count, unit, raw, scale, B, N, layer, drop, factor,
    K, DROP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    col = tl.arange(0, BLOCK)
    value = tl.load(pre + (s * B + b) * N + col, mask=col < N, other=0.0).to(tl.float32)
    value += tl.load(bias + s * N + col, mask=col < N, other=0.0)
    _largest(
        value, duty, strength, seed, taken, count, unit, raw, scale, s, b, B, N, layer, drop,
        factor, K, DROP, BLOCK,
    )  # fmt: skip


def compete(
    pre: Tensor, layer: Layer, draws: Draws, count: Tensor, on: On, *, training: bool
) -> None:
    """See `plain.compete`."""
    size, batch, units = pre.shape
    p = layer.p if training else 0.0
    block = triton.next_power_of_2(units)
    _compete[batch, size](
        pre, layer.bias, layer.duty, layer.strength, draws.seed, draws.taken, count,
        on.unit, on.raw, on.scale,
        batch, units, layer.number, dropped(p), 1 / (1 - p), on.unit.shape[2],
        DROP=p > 0, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip


@triton.jit
def _compete_hidden(
    below, raw_below, scale_below, part1, part2, scales, bias,
    duty, strength, seed, taken, count, unit, raw, scale, B, N, I, layer, drop, factor,
    K, KB, SL, PARTS: tl.constexpr, DROP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    col = tl.arange(0, BLOCK)
    inside = col < N
    value = tl.load(bias + s * N + col, mask=inside, other=0.0)
    scale1 = tl.load(scales + s * SL).to(tl.float32)
    for i in range(KB):
        at = (s * B + b) * KB + i
        kept = tl.load(raw_below + at) * tl.load(scale_below + at)
        if kept != 0:
            row = (s * I + tl.load(below + at)) * N + col
            its = tl.load(part1 + row, mask=inside, other=0.0) * scale1
            if PARTS == 2:
                scale2 = tl.load(scales + s * SL + 1).to(tl.float32)
                its += tl.load(part2 + row, mask=inside, other=0.0) * scale2
            value += kept * its
    _largest(
        value, duty, strength, seed, taken, count, unit, raw, scale, s, b, B, N, layer, drop,
        factor, K, DROP, BLOCK,
    )  # fmt: skip


def compete_hidden(
    below: On, layer: Layer, draws: Draws, count: Tensor, on: On, *, training: bool
) -> None:
    """See `plain.compete_hidden`."""
    size, batch, k = on.unit.shape
    p = layer.p if training else 0.0
    block = triton.next_power_of_2(layer.units)
    _compete_hidden[batch, size](
        below.unit, below.raw, below.scale, layer.parts[0], layer.parts[-1], layer.scales,
        layer.bias, layer.duty, layer.strength, draws.seed, draws.taken, count,
        on.unit, on.raw, on.scale, batch, layer.units, layer.parts[0].shape[1], layer.number,
        dropped(p), 1 / (1 - p), k, below.unit.shape[2], _stride(layer),
        PARTS=len(layer.parts), DROP=p > 0, BLOCK=block, num_warps=_warps(block),
    )  # fmt: skip


@triton.jit
def _judge(
    logit, y, classes, outputs, count, logits, error, loss, right, s, b, B, C, CLASSES: tl.constexpr
):
    """The gradient [CLASSES] of the logits of a picture, stored, with its loss and whether it is
    right."""
    c = tl.arange(0, CLASSES)
    n, most = tl.load(count + s), tl.load(outputs + s)
    tl.store(logits + (s * B + b) * C + c, logit, mask=c < C)
    key = tl.where(c < tl.load(classes + s), logit, float("-inf"))
    _, best = tl.max(key, 0, return_indices=True, return_indices_tie_break_left=True)
    logit = tl.where(c < most, logit, float("-inf"))
    label = tl.load(y + s * B + b)
    top = tl.max(logit, 0)
    share = tl.exp(logit - top)
    total = tl.sum(share, 0)
    its = tl.sum(tl.where(c == label, logit, 0.0), 0)
    found = (share / total - tl.where(c == label, 1.0, 0.0)) / n.to(tl.float32)
    found = tl.where((b < n) & (c < most), found, 0.0)
    tl.store(error + (s * B + b) * C + c, found, mask=c < C)
    tl.store(loss + s * B + b, tl.where(b < n, tl.log(total) + top - its, 0.0))
    tl.store(right + s * B + b, ((b < n) & (best == label)).to(tl.int32))
    return found


@triton.jit
def _classify_winners(
    unit, raw, scale, gradient, weight, bias, head, sizes, outputs, y, count,
    logits, error, loss, right,
    B, N, C, H, K, CLASSES: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    c = tl.arange(0, CLASSES)
    base = s * H + tl.load(head + s)
    logit = tl.load(bias + base * C + c, mask=c < C, other=0.0)
    at = (s * B + b) * K
    for i in range(K):
        kept = tl.load(raw + at + i) * tl.load(scale + at + i)
        its = weight + (base * C + c) * N + tl.load(unit + at + i)
        logit += kept * tl.load(its, mask=c < C, other=0.0)
    found = _judge(logit, y, sizes, outputs, count, logits, error, loss, right, s, b, B, C, CLASSES)
    for i in range(K):
        its = weight + (base * C + c) * N + tl.load(unit + at + i)
        back = tl.sum(found * tl.load(its, mask=c < C, other=0.0), 0)
        tl.store(gradient + at + i, back * tl.load(scale + at + i))


def classify_winners(on: On, heads: Heads, queue: Queue, flow: Flow) -> None:
    """See `plain.classify_winners`."""
    size, batch, k = on.unit.shape
    _, count, classes, units = heads.weight.shape
    _classify_winners[batch, size](
        on.unit, on.raw, on.scale, on.gradient, heads.weight, heads.bias, queue.head,
        queue.classes, queue.outputs, flow.y, flow.count, flow.logits, flow.error, flow.loss,
        flow.right,
        batch, units, classes, count, k, CLASSES=triton.next_power_of_2(classes), num_warps=1,
    )  # fmt: skip


@triton.jit
def _classify_dense(
    h, weight, bias, head, sizes, outputs, y, count, logits, error, loss, right, B, N, C, H,
    CLASSES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    c = tl.arange(0, CLASSES)
    base = s * H + tl.load(head + s)
    total = tl.zeros([CLASSES, BLOCK], tl.float32)
    for start in range(0, N, BLOCK):
        col = start + tl.arange(0, BLOCK)
        value = tl.load(h + (s * B + b) * N + col, mask=col < N, other=0.0).to(tl.float32)
        where = (base * C + c[:, None]) * N + col[None, :]
        inside = (c < C)[:, None] & (col < N)[None, :]
        total += tl.load(weight + where, mask=inside, other=0.0) * value[None, :]
    logit = tl.sum(total, 1) + tl.load(bias + base * C + c, mask=c < C, other=0.0)
    _judge(logit, y, sizes, outputs, count, logits, error, loss, right, s, b, B, C, CLASSES)


def classify_dense(out: Dense, heads: Heads, queue: Queue, flow: Flow) -> None:
    """See `plain.classify_dense`."""
    size, batch, units = out.h.shape
    _, count, classes, _ = heads.weight.shape
    most = triton.next_power_of_2(classes)
    _classify_dense[batch, size](
        out.h, heads.weight, heads.bias, queue.head, queue.classes, queue.outputs, flow.y,
        flow.count,
        flow.logits, flow.error, flow.loss, flow.right, batch, units, classes, count,
        CLASSES=most, BLOCK=max(8192 // most, 16), num_warps=8,
    )  # fmt: skip


@triton.jit
def _back_hidden(
    below, scale_below, through, unit, gradient, part1, part2, scales, B, N, I, K, KB, SL,
    PARTS: tl.constexpr, MINE: tl.constexpr, BELOW: tl.constexpr,
):  # fmt: skip
    b, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    i, k = tl.arange(0, BELOW), tl.arange(0, MINE)
    at_below, at = (s * B + b) * KB + i, (s * B + b) * K + k
    row = tl.load(below + at_below, mask=i < KB, other=0)
    col = tl.load(unit + at, mask=k < K, other=0)
    g = tl.load(gradient + at, mask=k < K, other=0.0)
    keep = tl.load(scale_below + at_below, mask=i < KB, other=0.0)
    where = (s * I + row[:, None]) * N + col[None, :]
    wanted = (keep != 0)[:, None] & (k < K)[None, :]
    weight = tl.load(part1 + where, mask=wanted, other=0.0) * tl.load(scales + s * SL).to(
        tl.float32
    )
    if PARTS == 2:
        scale2 = tl.load(scales + s * SL + 1).to(tl.float32)
        weight += tl.load(part2 + where, mask=wanted, other=0.0) * scale2
    tl.store(through + at_below, tl.sum(weight * g[None, :], 1) * keep, mask=i < KB)


def back_hidden(on: On, below: On, layer: Layer) -> None:
    """See `plain.back_hidden`."""
    size, batch, k = on.unit.shape
    kb = below.unit.shape[2]
    _back_hidden[batch, size](
        below.unit, below.scale, below.gradient, on.unit, on.gradient, layer.parts[0],
        layer.parts[-1], layer.scales, batch, layer.units, layer.parts[0].shape[1], k, kb,
        _stride(layer),
        PARTS=len(layer.parts), MINE=triton.next_power_of_2(k), BELOW=triton.next_power_of_2(kb),
        num_warps=1,
    )  # fmt: skip


@triton.jit
def _rescale(
    part, scales, decays, count, total, which, SL,
    SMALLEST: tl.constexpr, NOTHING: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Bring a scale that is about to be small back to 1, which is seldom."""
    s = tl.program_id(1).to(tl.int64)
    scale = tl.load(scales + s * SL + which) * tl.load(decays + which)
    if (scale < SMALLEST) & (tl.load(count + s) > 0):
        for start in range(tl.program_id(0) * BLOCK, total, tl.num_programs(0) * BLOCK):
            place = start + tl.arange(0, BLOCK)
            value = tl.load(part + s * total + place, mask=place < total, other=0.0)
            value = tl.where(tl.abs(value) > (NOTHING / scale).to(tl.float32), value, 0.0)
            tl.store(part + s * total + place, value * scale.to(tl.float32), mask=place < total)


@triton.jit
def _update_entries(
    below, raw_below, scale_below, unit, gradient, part1, part2, scales, decays, mask, count,
    B, N, I, KB, SL, gain1, gain2,
    SMALLEST: tl.constexpr, PARTS: tl.constexpr, MASK: tl.constexpr, BLOCK: tl.constexpr,
    ENTRIES: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """One row of the parts: it belongs to the first kept winner of the unit below, for all."""
    mine, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    entry = tl.arange(0, ENTRIES)
    first = s * B * KB
    inside = entry < tl.load(count + s) * KB
    row = tl.load(below + first + mine)
    kept = tl.load(raw_below + first + entry, mask=inside, other=0.0)
    kept = kept * tl.load(scale_below + first + entry, mask=inside, other=0.0)
    same = (tl.load(below + first + entry, mask=inside, other=-1) == row) & (kept != 0)
    at = tl.min(tl.where(same, entry, 0x7FFFFFFF), 0)
    if at == mine:
        col = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], tl.float32)
        # Numbers are loaded one by one: a sum over the program to pick one takes as long as ten.
        for _ in range(tl.sum(same.to(tl.int32), 0)):
            value = tl.load(raw_below + first + at) * tl.load(scale_below + first + at)
            here = (s * B + at // KB) * K
            for j in tl.static_range(K):
                g = value * tl.load(gradient + here + j)
                total += tl.where(col == tl.load(unit + here + j), g, 0.0)
            at = tl.min(tl.where(same & (entry > at), entry, 0x7FFFFFFF), 0)
        where = (s * I + row) * N + col
        if MASK:
            hidden = tl.load(mask + where, mask=col < N, other=1)
            total = tl.where(hidden != 0, 0.0, total)
        scale = tl.load(scales + s * SL) * tl.load(decays)
        scale = tl.where(scale < SMALLEST, 1.0, scale)
        touched = (total != 0) & (col < N)
        was = tl.load(part1 + where, mask=touched, other=0.0)
        tl.store(part1 + where, was + total * (gain1 / scale).to(tl.float32), mask=touched)
        if PARTS == 2:
            scale = tl.load(scales + s * SL + 1) * tl.load(decays + 1)
            scale = tl.where(scale < SMALLEST, 1.0, scale)
            was = tl.load(part2 + where, mask=touched, other=0.0)
            tl.store(part2 + where, was + total * (gain2 / scale).to(tl.float32), mask=touched)


def update_entries(on: On, below: On, layer: Layer, count: Tensor) -> None:
    """See `plain.update_entries`."""
    size, batch, k = on.unit.shape
    kb, stride = below.unit.shape[2], _stride(layer)
    inputs, units = layer.parts[0].shape[1:]
    for i, part in enumerate(layer.parts):
        _rescale[264, size](
            part, layer.scales, layer.decays, count, inputs * units, i, stride,
            SMALLEST=SMALLEST_SCALE, NOTHING=NOTHING, BLOCK=4096,
        )  # fmt: skip
    block = triton.next_power_of_2(units)
    _update_entries[batch * kb, size](
        below.unit, below.raw, below.scale, on.unit, on.gradient, layer.parts[0], layer.parts[-1],
        layer.scales, layer.decays, layer.bias if layer.mask is None else layer.mask, count,
        batch, units, inputs, kb, stride, layer.gain[0], layer.gain[-1],
        SMALLEST=SMALLEST_SCALE, PARTS=len(layer.parts), MASK=layer.mask is not None, BLOCK=block,
        ENTRIES=triton.next_power_of_2(batch * kb), K=k,
        num_warps=_warps(block),
    )  # fmt: skip


@triton.jit
def _update_rows(
    weight, momenta, mask, half, x, unit, gradient, count, B, N, I, K, lr, momentum, decay,
    MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr, MASK: tl.constexpr, HALF: tl.constexpr,
    BLOCK: tl.constexpr, ENTRIES: tl.constexpr,
):  # fmt: skip
    """One unit's weights."""
    u, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n = tl.load(count + s)
    if n > 0:
        col = tl.arange(0, BLOCK)
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, n * K, ENTRIES):
            entry = start + tl.arange(0, ENTRIES)
            inside, place = entry < n * K, s * B * K + entry
            g = tl.load(gradient + place, mask=inside, other=0.0)
            its = (tl.load(unit + place, mask=inside, other=-1) == u) & (g != 0)
            at = tl.min(tl.where(its, entry, 0x7FFFFFFF), 0)
            for _ in range(tl.sum(its.to(tl.int32), 0)):
                picture = (s * B + at // K) * I + col
                value = tl.load(x + picture, mask=col < I, other=0.0).to(tl.float32)
                slope = tl.load(gradient + s * B * K + at)
                at = tl.min(tl.where(its & (entry > at), entry, 0x7FFFFFFF), 0)
                total += value * slope  # only now: the numbers come meanwhile
        where = (s * N + u) * I + col
        if MASK:
            total = tl.where(tl.load(mask + where, mask=col < I, other=1) != 0, 0.0, total)
        w = tl.load(weight + where, mask=col < I, other=0.0)
        m = w
        if MOMENTUM:
            m = tl.load(momenta + where, mask=col < I, other=0.0)
        w, m = _descend(w, m, total, lr, momentum, decay, MOMENTUM, NESTEROV)
        tl.store(weight + where, w, mask=col < I)
        if MOMENTUM:
            tl.store(momenta + where, m, mask=col < I)
        if HALF:
            tl.store(half + where, w.to(tl.bfloat16), mask=col < I)


def update_rows(x: Tensor, on: On, layer: Layer, sgd: Descent, count: Tensor) -> None:
    """See `plain.update_rows`."""
    size, batch, k = on.unit.shape
    units, inputs = layer.weight.shape[1:]
    block = triton.next_power_of_2(inputs)
    _update_rows[units, size](
        *_memory(layer), x, on.unit, on.gradient, count, batch, units, inputs, k, *sgd[:3],
        MOMENTUM=sgd.momentum > 0, NESTEROV=sgd.nesterov, MASK=layer.mask is not None,
        HALF=layer.half is not None, BLOCK=block, ENTRIES=512,
        num_warps=_warps(2 * block),
    )  # fmt: skip


@triton.jit
def _update_dense(
    weight, momenta, mask, half, x, gradient, count, B, N, I, lr, momentum, decay,
    MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr, MASK: tl.constexpr, HALF: tl.constexpr,
    EXACT: tl.constexpr, UNITS: tl.constexpr, INPUTS: tl.constexpr, PICTURES: tl.constexpr,
):  # fmt: skip
    """A tile [UNITS, INPUTS] of the weights."""
    s = tl.program_id(2).to(tl.int64)
    if tl.load(count + s) > 0:
        u = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
        i = tl.program_id(0) * INPUTS + tl.arange(0, INPUTS)
        total = tl.zeros([UNITS, INPUTS], tl.float32)
        for start in range(0, B, PICTURES):
            b = start + tl.arange(0, PICTURES)
            at_g = (s * B + b[None, :]) * N + u[:, None]
            g = tl.load(gradient + at_g, mask=(b < B)[None, :] & (u < N)[:, None], other=0.0)
            at_x = (s * B + b[:, None]) * I + i[None, :]
            its = tl.load(x + at_x, mask=(b < B)[:, None] & (i < I)[None, :], other=0.0)
            if EXACT:
                total = tl.dot(g, its, total, input_precision="tf32x3")
            else:
                total = tl.dot(g, its, total)
        where = (s * N + u[:, None]) * I + i[None, :]
        inside = (u < N)[:, None] & (i < I)[None, :]
        if MASK:
            total = tl.where(tl.load(mask + where, mask=inside, other=1) != 0, 0.0, total)
        w = tl.load(weight + where, mask=inside, other=0.0)
        m = w
        if MOMENTUM:
            m = tl.load(momenta + where, mask=inside, other=0.0)
        w, m = _descend(w, m, total, lr, momentum, decay, MOMENTUM, NESTEROV)
        tl.store(weight + where, w, mask=inside)
        if MOMENTUM:
            tl.store(momenta + where, m, mask=inside)
        if HALF:
            tl.store(half + where, w.to(tl.bfloat16), mask=inside)


def update_dense(x: Tensor, gradient: Tensor, layer: Layer, sgd: Descent, count: Tensor) -> None:
    """See `plain.update_dense`."""
    size, batch, units = gradient.shape
    inputs = x.shape[2]
    exact = x.dtype == torch.float32
    tile = {"UNITS": 32 if exact else 64, "INPUTS": 128 if exact else 64, "PICTURES": 32}
    grid = triton.cdiv(inputs, tile["INPUTS"]), triton.cdiv(units, tile["UNITS"]), size
    _update_dense[grid](
        *_memory(layer), x, gradient, count, batch, units, inputs, *sgd[:3],
        MOMENTUM=sgd.momentum > 0, NESTEROV=sgd.nesterov, MASK=layer.mask is not None,
        HALF=layer.half is not None, EXACT=exact,
        **tile, num_warps=4,
    )  # fmt: skip


@triton.jit
def _update_winners(
    unit, raw, scale, gradient, error, bias, bias_momenta, duty, seen, count,
    weight, weight_momenta, head_bias, head_bias_momenta, head, unit_on,
    B, N, K, C, H, L, period, counted, lr, momentum, decay,
    HEAD: tl.constexpr, STATS: tl.constexpr, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr,
    WINNERS: tl.constexpr, CLASSES: tl.constexpr, PICTURES: tl.constexpr,
):  # fmt: skip
    """One unit: its bias and duty cycle, and of the last layer what classifies by it."""
    u, s = tl.program_id(0), tl.program_id(1).to(tl.int64)
    n = tl.load(count + s)
    if n > 0:
        c, k = tl.arange(0, CLASSES), tl.arange(0, WINNERS)
        slope, wins, on = 0.0, 0.0, 0
        total = tl.zeros([CLASSES], tl.float32)
        # All that it has won of some pictures at a time: one by one, units that win often would be
        # what a step waits for.
        for start in range(0, n, PICTURES):
            b = start + tl.arange(0, PICTURES)
            place = (s * B + b[:, None]) * K + k[None, :]
            there = (b < n)[:, None] & (k < K)[None, :]
            its = tl.load(unit + place, mask=there, other=-1) == u
            if tl.sum(tl.sum(its.to(tl.int32), 1), 0) > 0:
                value = tl.load(raw + place, mask=its, other=0.0)
                kept = value * tl.load(scale + place, mask=its, other=0.0)
                slope += tl.sum(tl.sum(tl.load(gradient + place, mask=its, other=0.0), 1), 0)
                wins += tl.sum(tl.sum((value > 0).to(tl.float32), 1), 0)
                on += tl.sum(tl.sum((kept != 0).to(tl.int32), 1), 0)
                if HEAD:
                    mine = tl.sum(kept, 1)  # of a picture it wins once at most
                    at = (s * B + b[:, None]) * C + c[None, :]
                    wanted = (mine != 0)[:, None] & (c < C)[None, :]
                    wrong = tl.load(error + at, mask=wanted, other=0.0)
                    total += tl.sum(mine[:, None] * wrong, 0)
        place = s * N + u
        span = tl.load(seen + s * L) + n
        longest = tl.maximum(tl.minimum(period, counted * n.to(tl.int64)), n)
        span = tl.minimum(span, longest).to(tl.float32)
        before = tl.load(duty + place)
        tl.store(duty + place, (before * (span - n.to(tl.float32)) + wins) / span)
        w = tl.load(bias + place)
        m = w
        if MOMENTUM:
            m = tl.load(bias_momenta + place)
        w, m = _descend(w, m, slope, lr, momentum, decay, MOMENTUM, NESTEROV)
        tl.store(bias + place, w)
        if MOMENTUM:
            tl.store(bias_momenta + place, m)
        if HEAD:
            if STATS:
                tl.store(unit_on + place, tl.load(unit_on + place) + on)
            _update_head(
                error, total[:, None], weight, weight_momenta, head_bias, head_bias_momenta, head,
                s, u + tl.arange(0, 1), B, N, C, H, lr, momentum, decay,
                MOMENTUM, NESTEROV, CLASSES, PICTURES,
            )  # fmt: skip


@triton.jit
def _update_head(
    error, total, weight, weight_momenta, bias, bias_momenta, head, s, u, B, N, C, H,
    lr, momentum, decay,
    MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr, CLASSES: tl.constexpr, PICTURES: tl.constexpr,
):  # fmt: skip
    """The classifier's weights of a block of units, from their gradient total [CLASSES, UNITS]; the
    first program takes its bias too."""
    c = tl.arange(0, CLASSES)
    base = s * H + tl.load(head + s)
    inside = (c < C)[:, None] & (u < N)[None, :]
    where = (base * C + c[:, None]) * N + u[None, :]
    w = tl.load(weight + where, mask=inside, other=0.0)
    m = w
    if MOMENTUM:
        m = tl.load(weight_momenta + where, mask=inside, other=0.0)
    w, m = _descend(w, m, total, lr, momentum, decay, MOMENTUM, NESTEROV)
    tl.store(weight + where, w, mask=inside)
    if MOMENTUM:
        tl.store(weight_momenta + where, m, mask=inside)
    if tl.program_id(0) == 0:
        slope = tl.zeros([CLASSES], tl.float32)
        for start in range(0, B, PICTURES):
            b = start + tl.arange(0, PICTURES)
            at = (s * B + b[:, None]) * C + c[None, :]
            slope += tl.sum(
                tl.load(error + at, mask=(b < B)[:, None] & (c < C)[None, :], other=0.0), 0
            )
        at_b = base * C + c
        b_w = tl.load(bias + at_b, mask=c < C, other=0.0)
        b_m = b_w
        if MOMENTUM:
            b_m = tl.load(bias_momenta + at_b, mask=c < C, other=0.0)
        b_w, b_m = _descend(b_w, b_m, slope, lr, momentum, decay, MOMENTUM, NESTEROV)
        tl.store(bias + at_b, b_w, mask=c < C)
        if MOMENTUM:
            tl.store(bias_momenta + at_b, b_m, mask=c < C)


def update_winners(
    on: On,
    layer: Layer,
    sgd: Descent,
    flow: Flow,
    heads: Heads | None,
    queue: Queue,
    counts: Counts,
) -> None:
    """See `plain.update_winners`."""
    size, batch, k = on.unit.shape
    momentum = layer.bias if layer.bias_momentum is None else layer.bias_momentum
    assert layer.seen is not None
    head, classes, members = _head(heads, layer.bias)
    winners, held = triton.next_power_of_2(k), triton.next_power_of_2(classes)
    _update_winners[layer.units, size](
        on.unit, on.raw, on.scale, on.gradient, flow.error, layer.bias, momentum, layer.duty,
        layer.seen, flow.count, *head, queue.head, counts.unit_on,
        batch, layer.units, k, classes, members, layer.seen.stride(0), layer.period, COUNTED,
        *sgd[:3], HEAD=heads is not None, STATS=counts.stats, MOMENTUM=sgd.momentum > 0,
        NESTEROV=sgd.nesterov, WINNERS=winners, CLASSES=held,
        PICTURES=max(1024 // max(winners, held), 1), num_warps=1,
    )  # fmt: skip


@triton.jit
def _back_units(
    h, gradient, on, error, bias, bias_momenta, count,
    weight, weight_momenta, head_bias, head_bias_momenta, head, unit_on,
    B, N, C, H, factor, lr, momentum, decay,
    HEAD: tl.constexpr, STATS: tl.constexpr, MOMENTUM: tl.constexpr, NESTEROV: tl.constexpr,
    UNITS: tl.constexpr, CLASSES: tl.constexpr, PICTURES: tl.constexpr,
):  # fmt: skip
    """A block of units with ReLU: the gradient of their pre-activations, and their biases; of the
    last layer what classifies by them too. `gradient` holds that of h, but in the last layer."""
    s = tl.program_id(1).to(tl.int64)
    n = tl.load(count + s)
    if n > 0:
        u = tl.program_id(0) * UNITS + tl.arange(0, UNITS)
        c = tl.arange(0, CLASSES)
        slope, active = tl.zeros([UNITS], tl.float32), tl.zeros([UNITS], tl.int32)
        total = tl.zeros([CLASSES, UNITS], tl.float32)
        if HEAD:
            base = s * H + tl.load(head + s)
            at_w = (base * C + c[:, None]) * N + u[None, :]
            w = tl.load(weight + at_w, mask=(c < C)[:, None] & (u < N)[None, :], other=0.0)
        for start in range(0, B, PICTURES):
            b = start + tl.arange(0, PICTURES)
            at = (s * B + b[:, None]) * N + u[None, :]
            inside = (b < B)[:, None] & (u < N)[None, :]
            value = tl.load(h + at, mask=inside, other=0.0).to(tl.float32)
            if HEAD:
                at_error = (s * B + b[:, None]) * C + c[None, :]
                wrong = tl.load(
                    error + at_error, mask=(b < B)[:, None] & (c < C)[None, :], other=0.0
                )
                back = tl.dot(wrong, w, input_precision="ieee")
                total = tl.dot(tl.trans(wrong), value, total, input_precision="ieee")
                if STATS:
                    active += tl.sum((value != 0).to(tl.int32), 0)
            else:
                back = tl.load(gradient + at, mask=inside, other=0.0).to(tl.float32)
            back = tl.where(value > 0, back * factor, 0.0)
            slope += tl.sum(back, 0)
            tl.store(gradient + at, back.to(gradient.dtype.element_ty), mask=inside)
        at = s * N + u
        b_w = tl.load(bias + at, mask=u < N, other=0.0)
        b_m = b_w
        if MOMENTUM:
            b_m = tl.load(bias_momenta + at, mask=u < N, other=0.0)
        b_w, b_m = _descend(b_w, b_m, slope, lr, momentum, decay, MOMENTUM, NESTEROV)
        tl.store(bias + at, b_w, mask=u < N)
        if MOMENTUM:
            tl.store(bias_momenta + at, b_m, mask=u < N)
        if HEAD:
            if STATS:
                tl.store(
                    unit_on + at, tl.load(unit_on + at, mask=u < N, other=0) + active, mask=u < N
                )
                tl.store(on + s * tl.num_programs(0) + tl.program_id(0), tl.sum(active, 0))
            _update_head(
                error, total, weight, weight_momenta, head_bias, head_bias_momenta, head, s, u,
                B, N, C, H, lr, momentum, decay, MOMENTUM, NESTEROV, CLASSES, PICTURES,
            )  # fmt: skip


def back_units(
    out: Dense,
    layer: Layer,
    sgd: Descent,
    flow: Flow,
    heads: Heads | None,
    queue: Queue,
    counts: Counts,
) -> None:
    """See `plain.back_units`."""
    size, batch, units = out.h.shape
    momentum = layer.bias if layer.bias_momentum is None else layer.bias_momentum
    head, classes, members = _head(heads, layer.bias)
    _back_units[triton.cdiv(units, BLOCK_OF_UNITS), size](
        out.h, out.gradient, out.on, flow.error, layer.bias, momentum, flow.count, *head,
        queue.head, counts.unit_on, batch, units, classes, members, 1 / (1 - layer.p), *sgd[:3],
        HEAD=heads is not None, STATS=counts.stats, MOMENTUM=sgd.momentum > 0,
        NESTEROV=sgd.nesterov, UNITS=BLOCK_OF_UNITS,
        CLASSES=max(16, triton.next_power_of_2(classes)), PICTURES=32, num_warps=4,
    )  # fmt: skip


@triton.jit
def _finish(
    loss, right, on, raw, scale, losses, active, sizes, correct, done, at, taken, seen, scales,
    decays, count,
    B, STEPS, N, K, ONS, L, LAZY,
    STATS: tl.constexpr, WINNERS: tl.constexpr, PICTURES: tl.constexpr, ENTRIES: tl.constexpr,
    SMALLEST: tl.constexpr,
):  # fmt: skip
    s = tl.program_id(0).to(tl.int64)
    n = tl.load(count + s)
    if n > 0:
        b = tl.arange(0, PICTURES)
        step = s * STEPS + tl.load(done + s)
        its = tl.load(loss + s * B + b, mask=b < n, other=0.0)
        tl.store(losses + step, tl.sum(its, 0) / n.to(tl.float32))
        tl.store(sizes + step, n.to(tl.int64))
        hits = tl.sum(tl.load(right + s * B + b, mask=b < n, other=0), 0)
        tl.store(correct + s, tl.load(correct + s) + hits)
        if STATS:
            e = tl.arange(0, ENTRIES)
            if WINNERS:
                kept = tl.load(raw + s * B * K + e, mask=e < n * K, other=0.0)
                kept = kept * tl.load(scale + s * B * K + e, mask=e < n * K, other=0.0)
                total = tl.sum((kept != 0).to(tl.int32), 0)
            else:
                total = tl.sum(tl.load(on + s * ONS + e, mask=e < ONS, other=0), 0)
            tl.store(active + step, total.to(tl.float32) / (n * N).to(tl.float32))
        tl.store(done + s, tl.load(done + s) + 1)
        tl.store(at + s, tl.load(at + s) + 1)
        tl.store(taken + s, tl.load(taken + s) + 1)
        for i in range(L):
            tl.store(seen + s * L + i, tl.load(seen + s * L + i) + n)
        for i in range(LAZY):
            new = tl.load(scales + s * LAZY + i) * tl.load(decays + i)
            tl.store(scales + s * LAZY + i, tl.where(new < SMALLEST, 1.0, new))


def finish(
    flow: Flow,
    queue: Queue,
    draws: Draws,
    counts: Counts,
    seen: Tensor,
    scales: Tensor,
    decays: Tensor,
) -> None:
    """See `plain.finish`."""
    out = flow.outputs[-1]
    size, batch = flow.loss.shape
    if isinstance(out, On):
        on, raw, scale, k, entries = (
            out.unit,
            out.raw,
            out.scale,
            out.unit.shape[2],
            out.unit[0].numel(),
        )
    else:
        on, raw, scale, k, entries = out.on, flow.loss, flow.loss, 0, out.on.shape[1]
    _finish[(size,)](
        flow.loss, flow.right, on, raw, scale, counts.losses, counts.active, counts.sizes,
        counts.correct, counts.done, queue.at, draws.taken, seen, scales, decays, flow.count,
        batch, counts.losses.shape[1], counts.unit_on.shape[1], k, on.shape[1], seen.shape[1],
        scales.shape[1], STATS=counts.stats, WINNERS=isinstance(out, On),
        PICTURES=triton.next_power_of_2(batch), ENTRIES=triton.next_power_of_2(entries),
        SMALLEST=SMALLEST_SCALE,
    )  # fmt: skip


def product(a: Tensor, weight: Tensor, out: Tensor) -> None:
    """See `plain.product`."""
    if len(a) == 1:
        torch.mm(a[0], weight[0], out=out[0])
    else:
        torch.bmm(a, weight, out=out)


def _memory(layer: Layer) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights, momenta, mask and halves; the weights where there are none of them."""
    weight = layer.weight
    momentum = weight if layer.momentum is None else layer.momentum
    mask = weight if layer.mask is None else layer.mask
    return weight, momentum, mask, weight if layer.half is None else layer.half


def _head(heads: Heads | None, none: Tensor) -> tuple[Sequence[Tensor], int, int]:
    """Weights, momenta, biases and theirs, how many classes, and how many heads."""
    if heads is None:
        return [none] * 4, 1, 1
    momentum = heads.weight if heads.momentum is None else heads.momentum
    bias_momentum = heads.bias if heads.bias_momentum is None else heads.bias_momentum
    _, members, classes, _ = heads.weight.shape
    return [heads.weight, momentum, heads.bias, bias_momentum], classes, members


def _stride(layer: Layer) -> int:
    """From the scales of one member to those of the next."""
    assert layer.scales is not None
    return layer.scales.stride(0)


def _warps(block: int) -> int:
    """For a program that holds a row of so many numbers."""
    return min(max(block // 512, 1), 16)
