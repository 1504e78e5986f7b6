"""What methods do with every parameter in every step, in one pass over the memory."""

from __future__ import annotations

from typing import Any

from utils.engines.kept import kept

# Of slices, whose indices begin with 0: numba makes vectors of no other loops.


@kept
def pull(part: int, parts: int, g: Any, p: Any, strength: Any, anchor: Any) -> None:
    """g += strength · (p - anchor), of one of so many parts of these numbers [n]."""
    start, end = len(p) * part // parts, len(p) * (part + 1) // parts
    g, p, strength, anchor = g[start:end], p[start:end], strength[start:end], anchor[start:end]
    for i in range(len(p)):
        g[i] += strength[i] * (p[i] - anchor[i])


@kept
def follow(part: int, parts: int, total: Any, g: Any, before: Any, p: Any) -> None:
    """total += g · (before - p); before = p, of one of so many parts of these numbers [n]."""
    start, end = len(p) * part // parts, len(p) * (part + 1) // parts
    total, g, before, p = total[start:end], g[start:end], before[start:end], p[start:end]
    for i in range(len(p)):
        now = p[i]
        total[i] += g[i] * (before[i] - now)
        before[i] = now
