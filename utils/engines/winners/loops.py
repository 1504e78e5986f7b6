"""The loops of the sparse engine, compiled by numba: what torch does in many small operations.

Imported only where numba is (see `compiled`). Every loop runs in one thread and in one order, so
the same input gives the same bits. For that, a loop that sums in whichever order writes no floats:
where arrays are near each other in memory, what is compiled would take another order. Arrays are
NumPy's views of torch's memory, float32 unless said otherwise. Loops that choose say False where
they leave the choice to the plain way: where more than k units reach the k-th largest value, and
where a value is not finite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba.core.registry import cpu_target

from utils.engines.kept import kept

Array = np.ndarray[Any, Any]
F = TypeVar("F", bound=Callable[..., Any])

LANES = 16  # numbers that a processor handles at a time
GROUP = 32  # units whose highest value is kept at hand
ROOM = 32  # winners beside k that are waited for to drop out again
ZERO, HALF, CENTRE, MOST = map(np.float32, (0, 0.5, 128, 255))  # a bare 0.5 would be a double
LEVELS = np.float32(127)  # int8 holds whole numbers from -LEVELS to LEVELS
TINY = np.float32(1e-30)
# Of every row that is rounded: what one level is, the sum of the levels, the norm of the error and
# of the row, the ratio of the parts that was rounded (see `descend`), and the norm of the second.
LEVEL, TOTAL, ERROR, SIZE, RATIO, SPREAD = FACTS = range(6)
SUMS = np.float32(2.0**-22)  # by which float32 sums are off, at most, for each of their terms
MARGIN = np.float32(1.001)  # of norms computed in float32
BEARS = np.float32(0.5 / 12**0.5)  # half of what rounding to whole levels changes
BEARS_HALF = np.float32(2.0**-12)  # a quarter of what rounding to bf16 does
ENDLESS, LOWEST = np.float32(np.inf), np.float32(-np.inf)


def load() -> None:
    """Load what the first call of a loop would."""
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def _kernel(function: F) -> F:
    """Compiled for the processor, with sums in whichever order is fastest on it."""
    return kept(function, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})


def _as_written(function: F) -> F:
    """The same with every rounding that is written."""
    return kept(function, error_model="numpy")


def _finite(function: F) -> F:
    """The same for numbers that are finite, of which it may be faster to find the largest."""
    return kept(function, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "nnan"})


# ---------------------------------------------------------------- the largest of a sample's values


@_kernel
def _groups(ranks: Array, highest: Array) -> bool:
    """Of ranks [n], unit j of which is in group j % groups, the highest of each group; whether all
    are finite."""
    strange = 0
    for j in range(len(ranks)):
        strange += not abs(ranks[j]) < ENDLESS
    highest[:] = LOWEST
    for start in range(0, len(ranks), len(highest)):
        some = ranks[start : start + len(highest)]
        for g in range(len(some)):
            highest[g] = some[g] if some[g] > highest[g] else highest[g]
    return strange == 0


@_kernel
def _first(highest: Array) -> int:
    """The group with the highest rank."""
    group = 0
    for g in range(1, len(highest)):
        if highest[g] > highest[group]:
            group = g
    return group


@_kernel
def _pop(ranks: Array, highest: Array, group: int) -> int:
    """The first unit of a group with the highest rank in it; it is out of the game."""
    best, unit = highest[group], group
    while ranks[unit] != best:
        unit += len(highest)
    ranks[unit] = highest[group] = LOWEST
    for j in range(group, len(ranks), len(highest)):
        highest[group] = max(highest[group], ranks[j])
    return unit


@_kernel
def _best(
    values: Array, boost: Array, ties: bool, ranks: Array, highest: Array, on: tuple[Array, Array]
) -> bool:
    """The winners of values [n] into on = unit [k], value [k]; ties: they are broken."""
    unit, value = on
    for j in range(len(values)):
        ranks[j] = values[j] * boost[j]
    if not _groups(ranks, highest):
        return False
    last = highest[0]
    for i in range(len(unit)):
        group = _first(highest)
        last = highest[group]
        unit[i] = _pop(ranks, highest, group)
        value[i] = values[unit[i]]
    return ties or highest[_first(highest)] < last


@_kernel
def _groups_of(n: int) -> int:
    return -(-n // (GROUP * LANES)) * LANES


@_kernel
def choose(values: Array, boost: Array, ties: bool, unit: Array, value: Array) -> bool:
    """The winners of values [batch, n], ranked by their products with boost [n], into unit int64
    and value [batch, k], as in `choose.choose`; ties: they are broken."""
    n, good = len(boost), True
    ranks, highest = np.empty(n, value.dtype), np.empty(_groups_of(n), value.dtype)
    for b in range(len(values)):
        good &= _best(values[b], boost, ties, ranks, highest, (unit[b], value[b]))
    return good


@_kernel
def choose_half(
    products: Array, scale: Array, bias: Array, boost: Array, unit: Array, value: Array
) -> bool:
    """The same of bias + scale · products, bf16 [batch, n] as int16; ties are broken."""
    n, good = len(boost), True
    ranks, highest = np.empty(n, value.dtype), np.empty(_groups_of(n), value.dtype)
    values, bits = np.empty(n, value.dtype), np.empty(n, np.uint32)
    for b in range(len(products)):
        for j in range(n):
            bits[j] = np.uint32(np.uint16(products[b, j])) << np.uint32(16)
        wide = bits.view(np.float32)
        for j in range(n):
            values[j] = bias[j] + scale[0] * wide[j]
        good &= _best(values, boost, True, ranks, highest, (unit[b], value[b]))
    return good


@_kernel
def choose_rows(
    inputs: tuple[Array, Array],
    parts: tuple[Array, Array],
    mix: Array,
    bias: Array,
    boost: Array,
    ties: bool,
    on: tuple[Array, Array],
) -> bool:
    """The same of a hidden layer (`hidden_layer`): of bias + the rows that are on, by their values,
    of mix[0] · parts[0] + mix[1] · parts[1], each [inputs, n]."""
    n, good = len(boost), True
    first, second = parts
    total, ranks = np.empty(n, bias.dtype), np.empty(n, bias.dtype)
    highest = np.empty(_groups_of(n), bias.dtype)
    for b in range(len(inputs[0])):
        total[:] = bias
        for i in range(inputs[0].shape[1]):
            row, factor = inputs[0][b, i], inputs[1][b, i]
            if factor != ZERO:
                one, two = factor * mix[0], factor * mix[1]
                for j in range(n):
                    total[j] += one * first[row, j] + two * second[row, j]
        good &= _best(total, boost, ties, ranks, highest, (on[0][b], on[1][b]))
    return good


# -------------------------------------------------------------------- the first layer (`rounded`)


@_kernel
def _insert(
    units: Array, values: Array, ranks: Array, count: int, k: int, unit: int, value: Any, rank: Any
) -> int:
    """Put a unit among the first `count`, in falling order of rank; how many are left of those that
    reach the k-th."""
    if count >= k and rank < ranks[k - 1]:
        return count
    at = count
    while at and (rank > ranks[at - 1] or (rank == ranks[at - 1] and unit < units[at - 1])):
        units[at], values[at], ranks[at] = units[at - 1], values[at - 1], ranks[at - 1]
        at -= 1
    units[at], values[at], ranks[at] = unit, value, rank
    count += 1
    while count > k and ranks[count - 1] < ranks[k - 1]:
        count -= 1
    return count


@_kernel
def _product(first: Array, second: Array, ratio: Any, x: Array) -> Any:
    total = x[0] * ZERO
    for i in range(len(x)):
        total += (first[i] + ratio * second[i]) * x[i]
    return total


@_kernel
def _bounds(
    x: Array, grid: Array, mix: Array, bias: Array, boost: Array, facts: Array, bounds: Array
) -> bool:
    """What the bound of a unit's rank is made of: a constant, what of the product of whole numbers
    and what of the norm of x is added, bounds [3, n]; whether all is finite."""
    good = True
    for j in range(len(bias)):
        by = mix[0] * boost[j]
        drift = abs(mix[1] - facts[j, RATIO]) * facts[j, SPREAD]
        level = by * facts[j, LEVEL]
        offset = grid[0] + np.float32(128) * grid[1]
        bounds[0, j] = boost[j] * bias[j] + level * offset * facts[j, TOTAL]
        bounds[0, j] += (abs(boost[j] * bias[j]) + abs(level * offset * facts[j, TOTAL])) * SUMS
        bounds[1, j] = level * grid[1]
        bounds[2, j] = by * (facts[j, ERROR] + drift + facts[j, SIZE] * x.shape[1] * SUMS)
        good &= np.isfinite(bounds[0, j] + bounds[1, j] + bounds[2, j] + facts[j, SIZE])
    return good


@_kernel
def choose_bounded(
    sums: Array,
    x: tuple[Array, Array],
    grid: Array,
    parts: tuple[Array, Array],
    mix: Array,
    bias: Array,
    boost: Array,
    facts: Array,
    on: tuple[Array, Array],
) -> bool:
    """The winners of a first layer, exactly, into on = unit int64, value [batch, k].

    sums int32 [batch, n]: the products of x and the weights as they are rounded. They bound every
    unit's rank from above. Units are looked at in falling order of their bounds, until the bounds
    are below the k-th largest rank; the values are bias + mix[0] · (parts[0] + mix[1] · parts[1]) ·
    x.
    """
    (batch, n), k, dtype = sums.shape, on[0].shape[1], bias.dtype
    bounds = np.empty((3, n), dtype)
    if not _bounds(x[0], grid, mix, bias, boost, facts, bounds):
        return False
    constant, slope, reach = bounds
    ranks, highest = np.empty(n, dtype), np.empty(_groups_of(n), dtype)
    units, values, reached = np.empty(k + ROOM, np.int64), np.empty(k + ROOM), np.empty(k + ROOM)
    widest = mix[0] * facts[:, SIZE].max() * boost.max()
    for b in range(batch):
        norm, off, row = x[1][b, 0], x[1][b, 1] * widest, sums[b]
        for j in range(n):
            ranks[j] = constant[j] + off + slope[j] * np.float32(row[j]) + reach[j] * norm
        if not _groups(ranks, highest):
            return False
        count = 0
        while True:
            group = _first(highest)
            if highest[group] == LOWEST or (count >= k and highest[group] < reached[k - 1]):
                break
            j = _pop(ranks, highest, group)
            value = bias[j] + mix[0] * _product(parts[0][j], parts[1][j], mix[1], x[0][b])
            rank = value * boost[j]
            count = _insert(units, values, reached, count, k, j, value, rank)
            if count == len(units) or rank != rank:
                return False
        if count > k:
            return False
        on[0][b], on[1][b] = units[:k], values[:k]
    return True


@_kernel
def round_inputs(x: Array, grid: Array, whole: Array, facts: Array) -> None:
    """x [batch, inputs] in steps of grid[1] above grid[0], less 128, into int8 `whole`; facts
    [batch, 2]: the norms of x and of what rounding changed."""
    low, step = grid
    for b in range(len(x)):
        error = step * ZERO
        for i in range(x.shape[1]):
            steps = min(max(np.floor((x[b, i] - low) / step + HALF), ZERO), MOST)
            whole[b, i] = np.int8(steps - CENTRE)
            off = x[b, i] - (low + step * steps)
            error += off * off
        facts[b, 0], facts[b, 1] = _norm(x[b]) * MARGIN, np.sqrt(error) * MARGIN


@_finite
def _largest(row: Array) -> Any:
    """The largest absolute value."""
    top = row[0] * ZERO
    for i in range(len(row)):
        top = max(top, abs(row[i]))
    return top


@_kernel
def _norm(row: Array) -> Any:
    total = row[0] * ZERO
    for i in range(len(row)):
        total += row[i] * row[i]
    return np.sqrt(total)


@_kernel
def _bears(facts: Array, inputs: int, half: bool) -> Any:
    """How far a row may be from what was rounded, small beside the error of rounding itself."""
    if half:
        return facts[SIZE] * BEARS_HALF
    return facts[LEVEL] * np.sqrt(np.float32(inputs)) * BEARS


@_kernel
def _aim(first: Array, second: Array, ratio: Any, row: Array, half: bool, facts: Array) -> None:
    """Which sum first + r · second to round, now that r is `ratio`, which falls with every step.

    The rounded row is good until the ratio is so far from r that the difference, beside rounding,
    is noticeable; so r is as far below it as that allows.
    """
    for i in range(len(row)):
        row[i] = first[i] + ratio * second[i]
    facts[SIZE], facts[LEVEL], spread = _norm(row), _largest(row) / LEVELS, _norm(second)
    facts[RATIO] = ratio
    if spread > ZERO:
        facts[RATIO] = max(ratio - _bears(facts, len(row), half) / spread, ZERO)


@_kernel
def _round(first: Array, second: Array, row: Array, rounded: Array, facts: Array) -> None:
    """Round first + r · second, each [inputs], for the r in the facts; `row` is overwritten."""
    inputs = len(row)
    for i in range(inputs):
        row[i] = first[i] + facts[RATIO] * second[i]
    level = max(_largest(row) / LEVELS, TINY)
    error = total = level * ZERO
    if rounded.itemsize == 2:
        bits = row.view(np.uint32)
        for i in range(inputs):  # to the nearest, and to the even one of two
            odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
            rounded[i] = np.int16((bits[i] + np.uint32(0x7FFF) + odd) >> np.uint32(16))
    else:
        for i in range(inputs):
            steps = np.floor(row[i] / level + HALF)
            rounded[i] = np.int8(steps)
            total += steps
            off = row[i] - level * steps
            error += off * off
    facts[LEVEL], facts[TOTAL], facts[ERROR] = level, total, np.sqrt(error) * MARGIN
    facts[SIZE], facts[SPREAD] = _norm(row) * MARGIN, _norm(second) * MARGIN


@_kernel
def round_rows(
    parts: tuple[Array, Array], mix: Array, rounded: Array, facts: Array, aimed: bool
) -> None:
    """Round parts[0] + mix[1] · parts[1], all rows [n, inputs], as int8 or to bf16, held as int16.

    facts [n, FACTS] are found; aimed: with the RATIO that is there.
    """
    row, half = np.empty(rounded.shape[1], np.float32), rounded.itemsize == 2
    for j in range(len(rounded)):
        first, second = parts[0][j], parts[1][j]
        if not aimed:
            _aim(first, second, mix[1], row, half, facts[j])
        _round(first, second, row, rounded[j], facts[j])


@_kernel
def descend(
    x: Array,
    unit: Array,
    gradient: Array,
    hidden: Array,
    factors: Array,
    parts: tuple[Array, Array],
    gains: Array,
    mix: Array,
    rounded: Array,
    facts: Array,
) -> None:
    """Add the gradient [batch, k] of the pre-activations of winners int64 [batch, k] to the parts
    by their gains, and round what changed and what is too far from what was rounded.

    hidden bool [n, inputs]: weights that stay zero; factors: of the gradients; [0, 0]: none.
    """
    (n, inputs), k, half = rounded.shape, unit.shape[1], rounded.itemsize == 2
    start, after = np.full(n, -1), np.empty(unit.size, np.int64)
    for at in range(unit.size - 1, -1, -1):
        j = unit[at // k, at % k]
        if gradient[at // k, at % k] != ZERO:
            start[j], after[at] = at, start[j]
    row, total = np.empty(inputs, np.float32), np.empty(inputs, x.dtype)
    for j in range(n):
        at = start[j]
        if at >= 0:
            total[:] = ZERO
            while at >= 0:
                by, b = gradient[at // k, at % k], at // k
                for i in range(inputs):
                    total[i] += by * x[b, i]
                at = after[at]
            if len(hidden):
                for i in range(inputs):
                    total[i] = ZERO if hidden[j, i] else total[i]
            if len(factors):
                for i in range(inputs):
                    total[i] *= factors[j, i]
            for i in range(inputs):
                parts[0][j, i] += gains[0] * total[i]
                parts[1][j, i] += gains[1] * total[i]
        elif abs(mix[1] - facts[j, RATIO]) * facts[j, SPREAD] <= _bears(facts[j], inputs, half):
            continue
        _aim(parts[0][j], parts[1][j], mix[1], row, half, facts[j])
        _round(parts[0][j], parts[1][j], row, rounded[j], facts[j])


# ----------------------------------------------------------------- a hidden layer (`hidden_layer`)


@_kernel
def back(
    inputs: Array,
    winners: Array,
    gradient: Array,
    parts: tuple[Array, Array],
    mix: Array,
    found: Array,
) -> None:
    """The gradient [batch, n] for the values of inputs int64 [batch, n], into `found`, of that for
    the pre-activations of winners [batch, k], through the weights as in `choose_rows`."""
    first, second = parts
    for b in range(len(inputs)):
        for i in range(inputs.shape[1]):
            total, row = mix[0] * ZERO, inputs[b, i]
            for c in range(winners.shape[1]):
                by, j = gradient[b, c], winners[b, c]
                if by != ZERO:
                    total += by * (mix[0] * first[row, j] + mix[1] * second[row, j])
            found[b, i] = total


@_kernel
def add(
    inputs: tuple[Array, Array],
    winners: Array,
    gradient: Array,
    kept: Array,
    factors: Array,
    parts: tuple[Array, Array],
    gains: Array,
) -> None:
    """Add the gradient of the weights [inputs, n] to the parts by their gains, entry by entry.

    kept bool [inputs · n]: of weights that do not stay zero; factors: of the gradients; [0]: none.
    """
    first, second = parts
    for b in range(len(winners)):
        for i in range(inputs[0].shape[1]):
            row, value = inputs[0][b, i], inputs[1][b, i]
            for c in range(winners.shape[1]):
                j, share = winners[b, c], value * gradient[b, c]
                where = row * first.shape[1] + j
                if share == ZERO or (len(kept) and not kept[where]):
                    continue
                if len(factors):
                    share *= factors[where]
                first[row, j] += gains[0] * share
                second[row, j] += gains[1] * share


# ------------------------------------------------------------------------------- around the layers


@_as_written
def look(pixels: Array, rows: Array, order: Array, mean: Array, std: Array, x: Array) -> None:
    """Pictures uint8 [n, pixels] as inputs x [batch, pixels]: those in `rows`, with pixels in this
    order, on a scale of 0 to 1, less mean [channels] and in units of std [channels]."""
    area = len(order) // len(std)
    for b in range(len(rows)):
        picture = pixels[rows[b]]
        for c in range(len(std)):
            scale, shift = np.float32(1) / (MOST * std[c]), mean[c] / std[c]
            row, places = x[b, c * area : (c + 1) * area], order[c * area : (c + 1) * area]
            for i in range(area):
                row[i] = picture[places[i]]
            for i in range(area):
                row[i] = row[i] * scale - shift


@_as_written
def count_wins(unit: Array, value: Array, duty_cycle: Array, before: Array, span: Array) -> None:
    """Move the duty cycle [n], an average over `before` samples, to one over `span` of them, with
    those of winners [batch, k] whose values are above zero."""
    wins = np.zeros_like(duty_cycle)
    for b in range(len(unit)):
        for i in range(unit.shape[1]):
            if value[b, i] > ZERO:
                wins[unit[b, i]] += np.float32(1)
    for j in range(len(wins)):
        duty_cycle[j] = (duty_cycle[j] * before[0] + wins[j]) / span[0]


@_kernel
def count(unit: Array, value: Array, found: Array) -> int:
    """Add to found int64 [n] how often units [batch, k] have a value that is not zero; how many
    there are in all."""
    total = 0
    for b in range(len(unit)):
        for i in range(unit.shape[1]):
            if value[b, i] != ZERO:
                found[unit[b, i]] += 1
                total += 1
    return total


@_kernel
def step(weight: Array, gradient: Array, momentum: Array, settings: Array, nesterov: bool) -> None:
    """The SGD step of weights [n] with the settings lr, momentum, weight decay; `momentum` [0]: it
    has none."""
    lr, keep, decay = settings
    for i in range(len(weight)):
        by = gradient[i] + decay * weight[i]
        if len(momentum):
            momentum[i] = keep * momentum[i] + by
            by = by + keep * momentum[i] if nesterov else momentum[i]
        weight[i] -= lr * by


@_kernel
def classify(unit: Array, value: Array, weight: Array, bias: Array, logits: Array) -> None:
    """bias [classes] + weight [classes, units] · what is on, into logits [batch, classes]."""
    for b in range(len(unit)):
        logits[b] = bias
        for i in range(unit.shape[1]):
            if value[b, i] != ZERO:
                for c in range(len(bias)):
                    logits[b, c] += value[b, i] * weight[c, unit[b, i]]


@_kernel
def cross_entropy(
    logits: Array, labels: Array, outputs: int, weight: Array, error: Array, loss: Array
) -> bool:
    """Add weight[0] times the mean cross-entropy of the first so many outputs to loss [1]; its
    gradient into error, like logits [batch, classes]. False for a label that is none of them."""
    share = weight[0] / np.float32(len(logits))
    for b in range(len(logits)):
        right, row = labels[b], logits[b, :outputs]
        if not 0 <= right < outputs:
            return False
        total, top = row[0] * ZERO, row.max()
        for c in range(outputs):
            error[b, c] = np.exp(row[c] - top)
        for c in range(outputs):
            total += error[b, c]
        loss[0] += share * (np.log(total) + top - row[right])
        for c in range(outputs):
            error[b, c] *= share / total
        error[b, right] -= share
        error[b, outputs:] = ZERO
    return True


@_kernel
def classify_back(
    unit: Array,
    value: Array,
    error: Array,
    weight: Array,
    gradients: tuple[Array, Array],
    found: Array,
) -> None:
    """Of dL/dlogits, error [batch, classes]: add the gradients of weight and bias to `gradients`;
    that for the values [batch, k] into `found`."""
    for b in range(len(unit)):
        for c in range(error.shape[1]):
            gradients[1][c] += error[b, c]
        for i in range(unit.shape[1]):
            total, j = error[b, 0] * ZERO, unit[b, i]
            for c in range(error.shape[1]):
                total += error[b, c] * weight[c, j]
            found[b, i] = total
            for c in range(error.shape[1]):
                gradients[0][c, j] += value[b, i] * error[b, c]
