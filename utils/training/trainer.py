"""An experiment from its parts to its accuracies: what the program runs, and notebooks may."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from benchmarks.stream import TaskStream
from exps.config import Experiment
from models import make_model
from models.network import Network
from utils.engines.base import Engine
from utils.engines.choose import make_engine
from utils.methods.base import Method
from utils.methods.make import make_methods, scores_of
from utils.system.runtime import data_device, pick_device, seed_everything
from utils.training.evaluation import accuracy
from utils.training.examiner import tested_as
from utils.training.listener import Audience, Shown, Silent
from utils.training.loop import keep_nothing, run_stream
from utils.training.record import Place, empty_record


class Trainer:
    """The parts of a run, where in it training is (`place`), and what was measured (`record`).

    order: gives every epoch a fresh shuffle.
    """

    def __init__(
        self,
        exp: Experiment,
        stream: TaskStream,
        engine: Engine,
        methods: Sequence[Method],
        order: torch.Generator,
    ) -> None:
        self.exp, self.stream, self.engine, self.methods = exp, stream, engine, methods
        self.order, self.place = order, Place()
        self.record = empty_record(exp, stream, engine.model)

    @classmethod
    def of(
        cls,
        exp: Experiment,
        stream: TaskStream,
        device: str = "cpu",
        join: Callable[[Network], Engine | None] | None = None,
    ) -> Trainer:
        """Seed torch's generators, and make the network, the methods and the fastest engine for
        them on a device. join: makes another engine for the network, if it can.

        Raises ModelError, DeviceError and EngineError for what cannot be made.
        """
        order = seed_everything(exp.seed)
        model = make_model(exp, stream.input_shape, stream.head_sizes)
        engine = join(model) if join is not None else None
        where = pick_device(device) if engine is None else engine.device
        stream = stream.to(data_device(where, stream.train.x.nbytes + stream.test.x.nbytes))
        methods = make_methods(exp, stream)
        if engine is None:
            engine = make_engine(exp, model, stream, where, methods)
        return cls(exp, stream, engine, methods, order)

    def run(
        self,
        progress: Shown | None = None,
        keep: Callable[[bool], None] = keep_nothing,
        live: Audience | None = None,
    ) -> None:
        """Train from `place` on, to the end; see `run_stream`. keep: called after every step and
        every batch tested; it may test, and to raise ends the run, which may be called again."""
        parts = self.exp, self.stream, self.engine, self.methods, self.order, self.record
        run_stream(*parts, progress or Silent(), self.place, keep, live)

    def test(self, task: int) -> float:
        """The accuracy on a task (from 0), by the rule of the scenario, as it is now: also in the
        middle of an epoch, which goes on as if nothing had been."""
        training = min(self.place.task, len(self.stream.training) - 1)
        [rule] = tested_as(self.stream, training, self.stream.tasks[task : task + 1])
        return accuracy(self.engine, rule, task, scores=scores_of(self.methods))[0]
