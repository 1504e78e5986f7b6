"""Everybody who looks on while a run goes on. None of them can end it, or change a number."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from exps.config import Experiment, as_dict, as_text
from exps.messages import markdown, shown, shown_path
from exps.paths import word
from models.costs import k_winner_layers
from models.network import Network
from utils.engines.meter import EpochRecord
from utils.live import board, csv_file
from utils.system.talk import LOG, say, warn
from utils.training.listener import (
    EpochDone,
    Listener,
    Moment,
    TaskTested,
    WithinTested,
    epoch_done,
)


class Live:
    """Tells its listeners what a run has just done; warns once when one cannot be told."""

    def __init__(
        self, listeners: Sequence[Listener] = (), layers: Mapping[str, nn.Module] | None = None
    ) -> None:
        """layers: those with duty cycles, which are updated in place."""
        self.listeners, self.layers = list(listeners), layers or {}
        self.number = 0  # epochs so far
        self.failing: set[Path] = set()

    def begin(self, past: Sequence[Moment], testing: bool) -> None:
        """What has been before, in order; testing: it was interrupted right after the last."""
        moments = list(past)
        resumed = None
        if moments:
            epochs = [m.number for m in moments if not isinstance(m, WithinTested)]
            self.number = max(epochs, default=0)
            if testing and isinstance(last := moments[-1], EpochDone):
                resumed = moments[-1] = replace(last, duty_cycles=self._duty_cycles())
        self._tell(lambda listener: listener.begin(moments, resumed))

    def epoch(self, task: int, epoch: int, done: EpochRecord) -> None:
        """An epoch (its number within the task, from 1) of a task (from 0) has been trained."""
        self.number += 1
        if self.listeners:
            measured = epoch_done(task, epoch, self.number, done, list(self.layers))
            moment = replace(measured, duty_cycles=self._duty_cycles())
            self._tell(lambda listener: listener.add(moment))

    def tested(self, task: int, epoch: int, accs: np.ndarray) -> None:
        """All tests after a task (from 0), of so many epochs, are done; accs [trained, tested]."""
        moment = TaskTested(task + 1, epoch, self.number, accs)
        self._tell(lambda listener: listener.add(moment))

    def within(self, task: int, epoch: int, step: int, steps: int, row: np.ndarray) -> None:
        """All tests after so many steps of a task (from 0), in its epoch (from 1), are done; steps:
        of the run; row [tested]."""
        moment = WithinTested(task + 1, epoch, step, steps, row)
        self._tell(lambda listener: listener.add(moment))

    def end(self) -> None:
        """A last chance for what could not be written."""
        self._tell(lambda listener: None)

    def _tell(self, note: Callable[[Listener], None]) -> None:
        for listener in self.listeners[:]:
            path, where = listener.path, shown_path(listener.path)
            try:
                note(listener)
                listener.write()
            except OSError as error:
                if path not in self.failing:
                    self.failing.add(path)
                    warn(
                        f"{where} cannot be written ({error.strerror or error}): the run goes on,"
                        " and what is missing follows when it can be written again"
                    )
            except Exception as error:  # nothing that only looks on may end a run
                self.listeners.remove(listener)
                warn(
                    f"{where}: nothing more is written there ({type(error).__name__}: {error}); the"
                    " run goes on"
                )
                LOG.debug("a listener failed", exc_info=True)
            else:
                if path in self.failing:
                    self.failing.remove(path)
                    say(f"{where} can be written again")

    def _duty_cycles(self) -> dict[str, np.ndarray]:
        return {
            name: duty.detach().flatten().cpu().numpy().copy()
            for name, layer in self.layers.items()
            if isinstance(duty := layer.duty_cycle, Tensor)
        }


def check(args: Namespace, exp: Experiment, model: Network, tasks: int) -> None:
    """Raise LiveError when what the command line asks for cannot be done."""
    if args.tensorboard is not None:
        board.check(Path(args.tensorboard))
    if args.csv is not None:
        csv_file.check(args.csv, _columns(exp, model, tasks))


def live(args: Namespace, run: str, exp: Experiment, model: Network, tasks: int) -> Live:
    """Those whom the command line asks for; tasks: how many are tested."""
    listeners: list[Listener] = []
    if args.tensorboard is not None:
        folder = Path(args.tensorboard)
        listeners.append(board.Board(folder, run, _about(exp)))
        if exp.eval_every:
            within = f"{run}/{board.WITHIN}"
            listeners.append(board.StepBoard(folder, within, "", together=exp.cumul))
    if args.csv is not None:
        path = csv_file.file_of(args.csv, run)
        listeners.append(csv_file.CsvFile(path, run, _columns(exp, model, tasks)))
    return Live(listeners, dict(k_winner_layers(model)))


def options(args: Namespace) -> list[str]:
    """The words of a command line that ask for the same."""
    asked = {"--tensorboard": args.tensorboard, "--csv": args.csv}
    return [word(name, to) for name, to in asked.items() if to is not None]


def _columns(exp: Experiment, model: Network, tasks: int) -> list[str]:
    layers = [name for name, _ in k_winner_layers(model)]
    return csv_file.columns(layers, tasks, within=exp.eval_every > 0)


def _about(exp: Experiment) -> str:
    """The configuration as a table in Markdown."""
    texts = {name: markdown(shown(as_text(value), 1000)) for name, value in as_dict(exp).items()}
    rows = [f"| {name} | {text} |" for name, text in texts.items()]
    return "\n".join(["| key | value |", "| --- | --- |", *rows])
