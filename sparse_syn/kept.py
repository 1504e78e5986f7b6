"""Modules whose buffers keep their types, whatever the module is cast to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn


class KeepsTypes(nn.Module):
    """A module of which `half()`, `to(dtype)` and the like, of its own and of what it is in, cast
    no buffer, and into which a state of any precision loads; the buffers move between devices.

    Averages over a thousand samples need float32, and masks and counters are no numbers to round.
    """

    def kept(self) -> dict[str, Tensor]:
        """The buffers that keep their types, by name: its own."""
        return dict(self.named_buffers(recurse=False))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        kept = {id(buffer) for buffer in self.kept().values()}

        def moved(tensor: Tensor) -> Tensor:
            new = fn(tensor)
            cast = id(tensor) in kept and new.dtype != tensor.dtype
            return tensor.to(new.device) if cast else new

        return super()._apply(moved, recurse)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        for name, buffer in self.kept().items():
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and saved.dtype != buffer.dtype:
                if not buffer.is_floating_point() and saved.is_floating_point():
                    saved = saved.nan_to_num()  # a count beyond float16
                state_dict[prefix + name] = saved.to(buffer.dtype)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
