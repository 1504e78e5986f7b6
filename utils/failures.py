"""Why a run failed, for people: a line what, a line why, a line what to do."""

from __future__ import annotations

import torch

from exps.config import Experiment
from exps.messages import shown

# How torch and the libraries below it say it, where they have no class for it.
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory, of the machine or of the GPU, has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(m in str(error).lower() for m in _MEMORY)


def explain(error: Exception, exp: Experiment, where: str) -> str:
    """The three lines. `where`: in what the run was, such as 'training'."""
    if is_out_of_memory(error):
        return _lines(
            f"{exp.name}: memory ran out in {where}",
            _reason(error),
            f"lower mb_size (now {exp.mb_size}) or hidden_units (now {exp.hidden_units}), or free"
            " memory on this machine",
        )
    return _lines(
        f"{exp.name}: an unexpected error in {where}",
        f"{type(error).__name__}: {_reason(error)}",
        "see the traceback in the log; if the program is at fault, report it with the log",
    )


def _lines(what: str, why: str, remedy: str) -> str:
    return f"{what}\n  why: {why}\n  what to do: {remedy}"


def _reason(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return shown(text.splitlines()[0], 300)
