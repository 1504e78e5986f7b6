"""Forward passes that are repeated within the backward pass: gradient checkpointing.

`torch.utils.checkpoint` forgets activations and computes them again when their gradients are due. A
layer that learns in its forward pass must then compute what it did the first time, and learn
nothing. torch does not say which pass is repeated: it is known by its input and, where the same
input came more than once, by when the autograd nodes around it were made.
"""

from __future__ import annotations

import weakref
from collections import Counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction

REMEMBERED = 2**22  # numbers in all the states that a layer remembers


# Several copies of this folder may be loaded: each has an operator of its own.
@torch.library.custom_op(__name__.replace(".", "_") + "::first_state", mutates_args=())
def _first_state(state: list[Tensor]) -> list[Tensor]:
    """Copies of the state, for compiled passes, which cannot ask what they repeat: RuntimeError in
    a backward pass.
    """
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "a compiled k-winner layer cannot repeat a forward pass for gradient checkpointing:"
            " leave the layers within torch.utils.checkpoint, or around it, uncompiled"
        )
    return [part.clone() for part in state]


@_first_state.register_fake
def _(state: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(part) for part in state]


class _Pass(NamedTuple):
    """content: of the input; nodes: how many autograd nodes there were; hooks: those of the
    checkpoint, which live as long as its graph; None without gradients (use_reentrant=True).
    """

    content: Tensor
    state: tuple[Tensor, ...]
    nodes: int
    hooks: weakref.ref[Any] | None

    @property
    def needed(self) -> bool:
        return self.hooks is None or self.hooks() is not None


class Passes:
    """The state that a layer had before each of its passes that may be repeated.

    Those are passes without gradients or with hooks for saved tensors; others cost nothing. Copies
    and pickles begin anew.
    """

    def __init__(self) -> None:
        self.known: list[_Pass] = []
        self.repeated: Counter[Any] = Counter()  # how often the same input came in a repetition

    def __reduce__(self) -> tuple[type[Passes], tuple[()]]:
        return Passes, ()

    def before(self, x: Tensor, state: tuple[Tensor, ...]) -> tuple[bool, tuple[Tensor, ...]]:
        """Whether this pass with input x repeats another, and the state before that one.

        state: that of now. Raises RuntimeError within a backward pass where it is not known which
        pass is repeated.
        """
        if torch.compiler.is_compiling():
            exported = torch.compiler.is_exporting()
            return False, state if exported else tuple(_first_state(list(state)))
        again = torch._C._current_graph_task_id() != -1
        top = torch._C._autograd._top_saved_tensors_default_hooks(True)
        if not again and top is None and torch.is_grad_enabled():
            return False, state
        content, hooks = _content(x), None if top is None else weakref.ref(top[1])
        state = self._find(content, hooks) if again else tuple(part.clone() for part in state)
        most = min(max(16, REMEMBERED // sum(part.numel() for part in state)), 1024)
        known = [p for p in self.known if p.needed][1 - most :]
        lifetime = hooks if torch.is_grad_enabled() else None
        self.known = [
            *known,
            _Pass(content, state, torch._C._autograd._get_sequence_nr(), lifetime),
        ]
        return again, state

    def _find(self, content: Tensor, hooks: weakref.ref[Any] | None) -> tuple[Tensor, ...]:
        """The state before the pass that is repeated now."""
        known = [p for p in self.known if p.needed]
        contents = torch.stack([content, *(p.content for p in known)])
        same = contents.eq(content).tolist()[1:]
        found = [p for p, is_same in zip(known, same, strict=True) if is_same]
        first = found[0].state if found else ()
        if found and all(p.state is first or all(map(torch.equal, p.state, first)) for p in found):
            return first
        # The same input came in other states. A node of a checkpoint's graph was made after the
        # passes of the checkpoint began; one that stands for a whole checkpoint before they did.
        task, node = torch._C._current_graph_task_id(), torch._C._current_autograd_node()
        number = node._sequence_nr()
        inside = [p for p in found if p.hooks is not None and p.nodes <= number]
        inside = [p for p in found if inside and p.hooks == inside[-1].hooks]
        after = [p for p in found if p.hooks is None and p.nodes > number]
        passes = after or inside if isinstance(node, BackwardCFunction) else inside or after
        here = task, number, hooks, int(content)
        self.repeated[here] += 1
        if len(passes) < self.repeated[here]:
            raise RuntimeError(
                "a k-winner layer is to repeat a forward pass, for gradient checkpointing, but none"
                " is known with this input: what comes before it must give the same again (keep"
                " preserve_rng_state=True), and the layer must be in training mode both times"
            )
        return passes[self.repeated[here] - 1].state


@torch.no_grad()
def _content(x: Tensor) -> Tensor:
    """int64 []: a number that inputs share if they are equal to the bit, others by chance alone."""
    whole = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()]
    bits = x.contiguous().view(whole).flatten().long()
    mixed = torch.arange(1, len(bits) + 1, device=x.device) * -7046029254386353131
    mixed = (mixed ^ (mixed >> 29)) * -4658895280553007687  # factors without a pattern
    return (bits * mixed).sum()
