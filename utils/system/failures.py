"""Why a run failed, for people: a line what, a line why, a line what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exps import plugins
from exps.config import Experiment
from exps.messages import Told, either, shown, three_lines
from utils.system.log import RunLog
from utils.system.talk import LOG

# How torch and the libraries below it say it, where they have no class for it.
_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory, of the machine or of the GPU, has run out."""
    if isinstance(error, RuntimeError):  # torch.OutOfMemoryError is one
        return any(words in str(error).lower() for words in _MEMORY)
    return isinstance(error, MemoryError)


class OutOfMemory(Told):
    """Memory has run out."""


@contextmanager
def memory_explained(exp: Experiment, where: str = "setting up") -> Iterator[None]:
    """Turn every way of running out of memory into OutOfMemory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        LOG.debug("out of memory", exc_info=True)
        keys = "mb_size", "hidden_units" if exp.has_hidden else "channels", "hidden_layers"
        sizes = [f"{key} (now {getattr(exp, key)})" for key in keys if exp.counts(key)]
        raise OutOfMemory(
            f"{exp.name}: memory ran out in {where}",
            reason_of(error),
            f"lower {either(sizes)}, or free memory on this machine",
        ) from error


def unexpected(error: BaseException, log: RunLog, results_dir: Path) -> str:
    """What people are told of an error that nobody thought of; the log has its traceback."""
    if isinstance(error, Told):
        return str(error)
    LOG.error("unexpected error", exc_info=error)
    path = log.path or log.open_anywhere(results_dir)
    seen = f"see the traceback in {path}" if path else "repeat it where a log can be written"
    if is_out_of_memory(error):
        return three_lines("memory ran out", reason_of(error), "free memory on this machine")
    if told := plugins.culprit(error):
        return three_lines("an error in a file of yours", told, f"mend it; {seen}")
    return three_lines(
        "an error in the program",
        f"{type(error).__name__}: {reason_of(error)}",
        f"{seen}; where an unfinished run is left (--list-runs), --resume goes on with it",
    )


def reason_of(error: BaseException) -> str:
    """What an error says, on one line."""
    text = str(error).strip() or type(error).__name__
    return shown(text.splitlines()[0], 300)
