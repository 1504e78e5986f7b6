"""Weights and momenta in a checkpoint, in the form in which an engine holds them.

A checkpoint has two tensors for each parameter, A among those of the model and B among the momenta,
and how they are mixed, [a, b, c, d]: the weights are a·A + b·B, the momenta c·A + d·B. Most engines
hold just these; lazy matrices do not (see `lazy`), and go on exactly only from what they held.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

PLAIN = [1.0, 0.0, 0.0, 1.0]  # A are the weights, B the momenta


def unmixed(first: Tensor, second: Tensor | None, mix: list[float]) -> tuple[Tensor, Tensor | None]:
    """The weights and the momenta of A and B; without momentum there is no B."""
    a, b, c, d = mix
    if mix == PLAIN:
        return first, second
    if second is None:
        return first * a, None
    return (first * a).add_(second, alpha=b), (first * c).add_(second, alpha=d)


def plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state of an engine with every parameter and momentum as it is."""
    model, momentum = dict(state["model"]), dict(state["momentum"])
    for name, mix in state["mix"].items():
        model[name], its = unmixed(model[name], momentum.get(name), mix)
        if its is not None:
            momentum[name] = its
    return state | {"model": model, "momentum": momentum}
