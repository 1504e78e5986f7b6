"""The compiled loops: ReLU, k-winners and dropout of pictures in one pass, and products with sparse
matrices.

All in one file: numba keeps what it has compiled by the file, and does not look at others.
bfloat16 is given as uint16, its bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from utils.engines.kept import kept

PARTS = 16  # of the work: neither it nor any sum depends on the number of threads
SPAN = 1024  # positions whose values of all channels stay in the cache
TILE, LANES = 128, 16  # samples that are computed at once, in vectors of so many
BLOCK = 512  # inputs whose values of TILE samples stay in the cache
ROWS = 8  # of weights that are read side by side, so that what is kept of them is read in runs
# What it makes is not called as numba's own types say.
_inline: Callable[[Callable[..., Any]], Any] = intrinsic
_INFINITE = np.uint32(0x7F800000)  # the bits of float32; a NaN has larger ones
_FLOAT, _LONG = ir.FloatType(), ir.IntType(64)
_VECTOR = ir.VectorType(_FLOAT, LANES)


@_inline
def bits_of(typing_context: Any, x: Any) -> Any:
    """float32 -> uint32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), code


@_inline
def of_bits(typing_context: Any, x: Any) -> Any:
    """uint32 -> float32."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], _FLOAT)

    return types.float32(types.uint32), code


@njit
def _where(condition: Any, value: Any) -> Any:
    """value, or 0 where the condition does not hold, without a branch: those are guessed wrong
    half of the time, and keep loops from being computed in vectors."""
    return of_bits(bits_of(value) & (np.uint32(0) - np.uint32(condition)))


def load(x: Any, i: Any) -> Any:
    """x[i] as float32, for x of float32 or of bfloat16's bits."""


@overload(load)
def _load(x: Any, i: Any) -> Any:
    def whole(x: Any, i: Any) -> Any:
        return x[i]

    def half(x: Any, i: Any) -> Any:
        return of_bits(np.uint32(np.uint32(x[i]) << np.uint32(16)))

    return whole if x.dtype == types.float32 else half


def store(x: Any, i: Any, value: Any) -> None:
    """x[i] = value, which is rounded to the nearest, ties to even."""


@njit
def _rounded(value: Any) -> Any:
    if value != value:
        return np.uint16(0x7FC0)
    bits: Any = bits_of(value)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16)


@overload(store)
def _store(x: Any, i: Any, value: Any) -> Any:
    def whole(x: Any, i: Any, value: Any) -> None:
        x[i] = value

    def half(x: Any, i: Any, value: Any) -> None:
        x[i] = _rounded(value)

    return whole if x.dtype == types.float32 else half


def _llvm(builder: Any, name: str, result: Any, kinds: list[Any]) -> Any:
    """One of LLVM's own functions of such vectors."""
    kind = ir.FunctionType(result, kinds)
    return cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f32")


def _data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    return context.make_array(kind)(context, builder, value).data


def _row(builder: Any, data: Any, number: Any) -> list[Any]:
    """Pointers to the vectors of row `number` of an array [rows, TILE]."""
    start = builder.mul(
        builder.zext(number, _LONG) if number.type != _LONG else number, ir.Constant(_LONG, TILE)
    )
    places = [builder.add(start, ir.Constant(_LONG, at)) for at in range(0, TILE, LANES)]
    return [builder.bitcast(builder.gep(data, [p]), _VECTOR.as_pointer()) for p in places]


def _loaded(builder: Any, pointers: list[Any]) -> list[Any]:
    return [builder.load(pointer, align=4) for pointer in pointers]


def _all(builder: Any, number: Any) -> Any:
    one = builder.insert_element(
        ir.Constant(_VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0)
    )
    return builder.shuffle_vector(
        one,
        ir.Constant(_VECTOR, ir.Undefined),
        ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES),
    )


def _element(builder: Any, data: Any, at: Any) -> Any:
    return builder.load(builder.gep(data, [at]))


@_inline
def add_rows(
    typing_context: Any, y: Any, o: Any, x: Any, w: Any, index: Any, start: Any, end: Any
) -> Any:
    """y[o] += sum of w[n] * x[index[n]] over start <= n < end; y, x: [rows, TILE]."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        yd, xd, wd, indexd = (_data(context, builder, kinds[i], args[i]) for i in (0, 2, 3, 4))
        fma = _llvm(builder, "fma", _VECTOR, [_VECTOR] * 3)
        out = _row(builder, yd, args[1])
        sums = [cgutils.alloca_once_value(builder, v) for v in _loaded(builder, out)]
        with cgutils.for_range_slice(builder, args[5], args[6], ir.Constant(_LONG, 1)) as (n, _):
            column = builder.zext(_element(builder, indexd, n), _LONG)
            weight = _all(builder, _element(builder, wd, n))
            for total, part in zip(sums, _loaded(builder, _row(builder, xd, column)), strict=True):
                builder.store(builder.call(fma, [weight, part, builder.load(total)]), total)
        for pointer, total in zip(out, sums, strict=True):
            builder.store(builder.load(total), pointer, align=4)
        return context.get_dummy_value()

    return types.void(y, types.int64, x, w, index, types.int64, types.int64), code


@_inline
def add_columns(
    typing_context: Any,
    dx: Any,
    j: Any,
    x: Any,
    dy: Any,
    w: Any,
    dw: Any,
    rows: Any,
    start: Any,
    end: Any,
) -> Any:
    """dx[j] = sum of w[n] * dy[rows[n]] and dw[n] = x[j] · dy[rows[n]] over start <= n < end."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        dxd, xd, dyd, wd, dwd, rowsd = (
            _data(context, builder, kinds[i], args[i]) for i in (0, 2, 3, 4, 5, 6)
        )
        fma = _llvm(builder, "fma", _VECTOR, [_VECTOR] * 3)
        reduce = _llvm(builder, "vector.reduce.fadd", _FLOAT, [_FLOAT, _VECTOR])
        out = _row(builder, dxd, args[1])
        zero = ir.Constant(_VECTOR, [0.0] * LANES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in out]
        for total in sums:
            builder.store(zero, total)
        mine = _loaded(builder, _row(builder, xd, args[1]))
        with cgutils.for_range_slice(builder, args[7], args[8], ir.Constant(_LONG, 1)) as (n, _):
            row = builder.zext(_element(builder, rowsd, n), _LONG)
            weight = _all(builder, _element(builder, wd, n))
            dots = [zero, zero]
            for i, part in enumerate(_loaded(builder, _row(builder, dyd, row))):
                builder.store(builder.call(fma, [weight, part, builder.load(sums[i])]), sums[i])
                dots[i % 2] = builder.call(fma, [mine[i], part, dots[i % 2]])
            both = builder.fadd(*dots)
            dot = builder.call(reduce, [ir.Constant(_FLOAT, 0.0), both], fastmath=("reassoc",))
            builder.store(dot, builder.gep(dwd, [n]))
        for pointer, total in zip(out, sums, strict=True):
            builder.store(builder.load(total), pointer, align=4)
        return context.get_dummy_value()

    return types.void(dx, types.int64, x, dy, w, dw, rows, types.int64, types.int64), code


@kept
def rectified_winners(
    part: int,
    x: Any,
    boost: Any,
    k: int,
    exact: bool,
    draws: Any,
    least: int,
    factor: Any,
    y: Any,
    passes: Any,
    wins: Any,
) -> None:
    """y = factor * x where x is above zero, wins, and is not dropped, else 0: of a part of the
    samples of x [n, channels, positions].

    At each position the k channels win that have the largest x * boost, or more where values tie;
    exact: no more. wins, int64 [PARTS, channels], counts them where x is above zero. Those are
    dropped whose draw, int16 [n, channels, positions], is below `least`; no draws: none. passes,
    uint8 in the shape of x: where y depends on x.
    """
    channels, positions = x.shape[1:]
    keys = np.empty((channels, SPAN), np.uint32)
    count, room = np.empty(SPAN, np.int32), np.empty(SPAN, np.int32)
    found, least_key = np.empty(SPAN, np.uint32), np.empty(SPAN, np.uint32)
    for sample in range(part, x.shape[0], PARTS):
        for first in range(0, positions, SPAN):
            width = min(SPAN, positions - first)
            count[:] = 0
            for c in range(channels):
                row, key, strength = x[sample, c, first:], keys[c], boost[c]
                for p in range(width):
                    value = load(row, p) * strength
                    key[p] = bits_of(_where(not value <= 0, value)) & np.uint32(0x7FFFFFFF)
                    count[p] += np.int32(key[p] > 0)
            least_key[:] = 0
            room[:] = channels
            if count[:width].max() > k:  # otherwise the losers are zero
                for bit in range(30, -1, -1):
                    count[:] = 0
                    for p in range(width):
                        found[p] = least_key[p] | np.uint32(1 << bit)
                    for c in range(channels):
                        key = keys[c]
                        for p in range(width):
                            count[p] += np.int32(key[p] >= found[p])
                    for p in range(width):
                        least_key[p] |= np.uint32(1 << bit) * np.uint32(count[p] >= k)
                if exact:
                    room[:] = k
                    for c in range(channels):
                        key = keys[c]
                        for p in range(width):
                            room[p] -= np.int32(key[p] > least_key[p])
                    for p in range(width):
                        room[p] = room[p] if least_key[p] > 0 else channels  # a zero is none
            for c in range(channels):
                row, key, won = x[sample, c, first:], keys[c], np.uint32(0)
                out, kept = y[sample, c, first:], passes[sample, c, first:]
                for p in range(width):
                    above = np.uint32(key[p] > least_key[p]) | np.uint32(key[p] > _INFINITE)
                    tie = np.uint32(key[p] == least_key[p])
                    on = (above | (tie & np.uint32(room[p] > 0))) & np.uint32(not load(row, p) <= 0)
                    room[p] -= np.int32(tie)
                    kept[p] = on
                    won += on
                wins[part, c] += won
                if len(draws) > 0:
                    draw = draws[sample, c, first:]
                    for p in range(width):
                        kept[p] &= np.uint8(draw[p] >= least)
                for p in range(width):
                    store(out, p, _where(kept[p], load(row, p) * factor))


@kept
def passed_back(part: int, dy: Any, passes: Any, factor: Any, dx: Any) -> None:
    """dx = dy * factor where it passes, else 0: all [n, channels * positions]."""
    for sample in range(part, dy.shape[0], PARTS):
        slope, kept, out = dy[sample], passes[sample], dx[sample]
        for i in range(dy.shape[1]):
            store(out, i, _where(kept[i], load(slope, i) * factor))


class Structure(NamedTuple):
    """Where a matrix [outputs, inputs] is not zero, BLOCK inputs after BLOCK inputs.

    rows: int32 [blocks, outputs + 1] and columns: uint16 [n], the inputs within the block, output
    by output; inputs: int32 [blocks, BLOCK + 1] and outputs: uint16 [n] the same, input by input;
    place: int32 [n], where in the second order each of the first is.
    """

    rows: Any
    columns: Any
    inputs: Any
    outputs: Any
    place: Any


def structure(there: Any) -> Structure:
    """Of a bool matrix [outputs, inputs]; at most 65,536 outputs."""
    outputs, inputs = there.shape
    starts = range(0, inputs, BLOCK)
    rows = np.zeros((len(starts), outputs + 1), np.int32)
    ends = np.zeros((len(starts), BLOCK + 1), np.int32)
    found: list[tuple[Any, Any, Any]] = []
    n = 0
    for i, start in enumerate(starts):
        o, j = there[:, start : start + BLOCK].nonzero()
        rows[i, 0] = ends[i, 0] = n
        rows[i, 1:] = n + np.bincount(o, minlength=outputs).cumsum()
        ends[i, 1:] = n + np.bincount(j, minlength=BLOCK).cumsum()
        order = j.argsort(kind="stable")
        place = np.empty(len(o), np.int32)
        place[order] = np.arange(len(o), dtype=np.int32)
        found.append((j.astype(np.uint16), o[order].astype(np.uint16), place))
        n += len(o)
    columns, across, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Structure(rows, columns, ends, across, place)


@kept
def gather(part: int, w: Any, s: Any, values: Any) -> None:
    """values[n] = the n-th weight that is there, of a part of the outputs."""
    for first in range(part * ROWS, len(w), PARTS * ROWS):
        for block in range(len(s.rows)):
            for o in range(first, min(first + ROWS, len(w))):
                there = w[o, block * BLOCK : (block + 1) * BLOCK]
                for n in range(s.rows[block, o], s.rows[block, o + 1]):
                    values[n] = there[s.columns[n]]


@kept
def scatter(part: int, values: Any, s: Any, w: Any) -> None:
    """The reverse, with zeros in between."""
    for first in range(part * ROWS, len(w), PARTS * ROWS):
        for block in range(len(s.rows)):
            for o in range(first, min(first + ROWS, len(w))):
                there = w[o, block * BLOCK : (block + 1) * BLOCK]
                there[:] = 0
                for n in range(s.rows[block, o], s.rows[block, o + 1]):
                    there[s.columns[n]] = values[n]


@kept
def descend(
    part: int, slopes: Any, s: Any, momenta: Any, values: Any, sgd: Any, nesterov: bool
) -> None:
    """A step of SGD of the weights that are there, the values, of a part of the outputs; sgd: lr,
    momentum and weight decay; without momentum there are no momenta [0, 0]."""
    lr, momentum, decay = sgd[0], sgd[1], sgd[2]
    if len(momenta) == 0:
        share = -(-len(values) // PARTS)
        for n in range(part * share, min((part + 1) * share, len(values))):
            values[n] -= lr * (slopes[n] + decay * values[n])
        return
    outputs = s.rows.shape[1] - 1
    for first in range(part * ROWS, outputs, PARTS * ROWS):
        for block in range(len(s.rows)):
            for o in range(first, min(first + ROWS, outputs)):
                start = block * BLOCK
                for n in range(s.rows[block, o], s.rows[block, o + 1]):
                    slope = slopes[n] + decay * values[n]
                    i = start + s.columns[n]
                    m = momentum * momenta[o, i] + slope
                    momenta[o, i] = m
                    values[n] -= lr * (slope + momentum * m if nesterov else m)


@kept
def _turn(x: Any, start: int, turned: Any) -> None:
    """turned[j, b] = x[b, start + j], 0 beyond the last sample."""
    width = min(BLOCK, x.shape[1] - start)
    if len(x) < TILE:
        turned[:] = 0
    for b0 in range(0, len(x), 16):  # as many streams as processors fetch ahead
        for j0 in range(0, width, 32):
            for b in range(b0, min(b0 + 16, len(x))):
                row = x[b]
                for j in range(j0, min(j0 + 32, width)):
                    turned[j, b] = load(row, start + j)


@kept
def _turn_back(turned: Any, x: Any, start: int) -> None:
    """x[b, start + j] = turned[j, b]."""
    width = min(BLOCK, x.shape[1] - start)
    for b0 in range(0, len(x), 16):
        for j0 in range(0, width, 32):
            for b in range(b0, min(b0 + 16, len(x))):
                row = x[b]
                for j in range(j0, min(j0 + 32, width)):
                    store(row, start + j, turned[j, b])


@kept
def product(part: int, x: Any, values: Any, s: Any, y: Any) -> None:
    """y[part], float32 [outputs, TILE]: what the inputs of a part give, x [up to TILE, inputs]
    times the weights."""
    turned = np.empty((BLOCK, TILE), np.float32)
    mine = y[part]
    mine[:] = 0
    for block in range(part, s.rows.shape[0], PARTS):
        _turn(x, block * BLOCK, turned)
        for o in range(len(mine)):
            add_rows(mine, o, turned, values, s.columns, s.rows[block, o], s.rows[block, o + 1])


@kept
def gradients(part: int, x: Any, values: Any, s: Any, dy: Any, dx: Any, slopes: Any) -> None:
    """dx [up to TILE, inputs] of the inputs of a part, and what is added to slopes, the gradients
    of values; dy: float32 [outputs, TILE], 0 beyond the last sample."""
    turned = np.empty((BLOCK, TILE), np.float32)
    gained = np.empty((BLOCK, TILE), np.float32)
    for block in range(part, s.rows.shape[0], PARTS):
        start, first, last = block * BLOCK, s.rows[block, 0], s.rows[block, -1]
        place, outputs = s.place[first:last], s.outputs[first:last]
        weights = np.empty(last - first, np.float32)
        slope = np.empty(last - first, np.float32)
        for n in range(last - first):
            weights[place[n]] = values[first + n]
        _turn(x, start, turned)
        for j in range(min(BLOCK, x.shape[1] - start)):
            begin, end = s.inputs[block, j] - first, s.inputs[block, j + 1] - first
            add_columns(gained, j, turned, dy, weights, slope, outputs, begin, end)
        _turn_back(gained, dx, start)
        for n in range(last - first):
            slopes[first + n] += slope[place[n]]
