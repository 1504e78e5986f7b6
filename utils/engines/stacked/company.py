"""Seeds that train together: a process that holds stacks, and the runs that have their steps there.

Every run is a process of its own, with its results, checkpoints, log and end; only its network is
in the company's process, a member of a stack, and what an engine is asked is asked there. Steps are
taken when every member of a stack has some to take; who tests, or saves, is waited for. Whoever
ends, in whatever way, leaves its place, and the others go on.
"""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.digest import of_stream
from benchmarks.stream import Samples, TaskStream
from exps.config import Experiment, as_dict
from exps.experiment import FREE
from exps.messages import Told
from models.network import Network
from utils.engines.base import Need, Whole
from utils.engines.batch import Batch, Loss
from utils.engines.meter import EpochRecord
from utils.engines.stacked.engine import StackedEngine
from utils.engines.stacked.stack import AT_ONCE, TEST_BATCH, Stack, batch_of
from utils.system.place import Place, place
from utils.system.talk import LOG

APART = {*FREE, "seed"}  # keys that may differ within a stack

GRACE = 120.0  # seconds that runs have to write their checkpoints after the command has gone

# Of an experiment, by its seed; and where it is to be computed.
Make = Callable[[Experiment], tuple[TaskStream, Network, torch.device]]


class Declined(Exception):
    """The company cannot train this network; the text says why."""


class _Array(NamedTuple):
    array: Any


def _send(line: Connection, value: Any) -> None:
    """Tensors go as arrays, and their numbers beside the rest, which spares copies of them."""
    parts: list[pickle.PickleBuffer] = []
    # In one piece before it leaves the device, where that takes no time.
    plain = _through(value, Tensor, lambda t: _Array(t.detach().contiguous().cpu().numpy()))
    text = pickle.dumps(plain, 5, buffer_callback=parts.append)
    raw = [part.raw() for part in parts]
    line.send_bytes(pickle.dumps([text, *(len(part) for part in raw)]))
    for part in raw:
        if len(part):
            line.send_bytes(part)


def _receive(line: Connection) -> Any:
    """What `_send` sent."""
    text, *sizes = pickle.loads(line.recv_bytes())
    parts = [np.empty(size, np.uint8) for size in sizes]
    for part in parts:
        if len(part):
            line.recv_bytes_into(part)
    found = pickle.loads(text, buffers=parts)
    return _through(found, _Array, lambda its: torch.from_numpy(its.array))


def _through(value: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, kind):
        return change(value)
    if isinstance(value, dict):
        return {key: _through(item, kind, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_through(item, kind, change) for item in value)
    return value


class RemoteEngine(Whole):
    """The engine of a run whose network is in a company."""

    name = "stacked"
    can: frozenset[Need] = frozenset()
    at_once, test_batch = AT_ONCE, TEST_BATCH

    def __init__(self, where: Place, exp: Experiment, model: Network, stream: TaskStream) -> None:
        self._model, self.stream, self.device = model, stream, torch.device("cpu")
        self.units, self.why_not_faster, self.ahead = model.units, "", False
        self.line = _called(where)
        # device and device_name, as `facts` has them, of where it is computed
        self.facts: dict[str, object] = self._ask("join", exp, stream.data, where.size)
        self.facts["together"] = where.size

    @staticmethod
    def joined(
        where: Place, exp: Experiment, model: Network, stream: TaskStream
    ) -> RemoteEngine | None:
        """The engine, or None where the company cannot train the network."""
        try:
            return RemoteEngine(where, exp, model, stream)
        except Declined as error:
            LOG.info("trained alone: %s", error)
            return None

    def _ask(self, what: str, *about: Any) -> Any:
        try:
            _send(self.line, (what, about))
            good, answer = _receive(self.line)
        except (EOFError, OSError) as error:
            raise _gone() from error
        if not good:
            raise answer
        return answer

    @property
    def model(self) -> Network:
        """The network, with the weights as they are now."""
        if self.ahead:
            self._model.load_state_dict(self._ask("weights"))
            self.ahead = False
        return self._model

    def begin_epoch(self, steps: int) -> None:
        """Start counting anew; `steps` mini-batches will follow."""
        self._ask("begin_epoch", steps)

    def step(self, batch: Batch, losses: Sequence[Loss] = ()) -> list[Tensor]:
        """Not here: steps are taken together."""
        raise NotImplementedError("a step alone")

    def take_steps(self, samples: Samples, head: int, outputs: int | None) -> None:
        """A step for each mini-batch of the samples, when all others have some to take."""
        self.ahead = True
        self._ask("take_steps", samples.rows, samples.view, head, outputs)

    def end_epoch(self) -> EpochRecord:
        """Lower the boost strength by its factor and read what the epoch looked like."""
        self.ahead = True
        found: EpochRecord = self._ask("end_epoch")
        return found

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on, in the middle of an epoch too: tensors by name."""
        state: dict[str, Any] = self._ask("state_dict")
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was taken; `begin_epoch` comes first."""
        self._ask("load_state_dict", state)
        self.ahead = True

    def restart(self) -> None:
        """Momentum starts from zero."""
        self._ask("restart")

    def renew(self, model: Network) -> None:
        """Not here: no method is in company."""
        raise NotImplementedError("a network of a company does not begin anew")

    def logits(
        self, samples: Samples, head: int, *, training: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Logits [n, classes] of test pictures, or of training pictures, in evaluation mode, and
        their labels int64 [n]."""
        logits = self._ask("scores", samples.rows, samples.view, head, training)
        pictures = self.stream.train if training else self.stream.test
        return logits, self.stream.labels(pictures, samples)

    def features(self, samples: Samples, *, training: bool = False) -> Tensor:
        """The inputs of the classifiers [n, units], of the same pictures in the same mode."""
        found: Tensor = self._ask("features", samples.rows, samples.view, training)
        return found


def _called(where: Place) -> Connection:
    """A line to the company, which may be about to begin; Told when it has ended."""
    while Path(where.address).parent.is_dir():
        with suppress(OSError, EOFError):  # it is about to begin, or to end
            return Client(where.address, authkey=where.key)
        time.sleep(0.05)
    raise _gone()


def _gone() -> Told:
    return Told(
        "the process that trains several seeds together has ended",
        "so this run cannot go on there; its newest checkpoint is kept",
        "give the same command again: it goes on with it (--together 1: with each seed alone)",
    )


@dataclass(eq=False)
class _Hall:
    """A stack, and who has which place in it. Steps wait in `pending` for those of the others;
    `ended` says of each of them when they are taken, and what went wrong."""

    stack: Stack
    members: dict[int, StackedEngine] = field(default_factory=dict)
    pending: dict[int, tuple[Samples, int, int | None]] = field(default_factory=dict)
    ended: dict[int, Exception | None] = field(default_factory=dict)


class Company:
    """Serves every run that joins, in a thread of its own, until its input ends."""

    def __init__(self, make: Make) -> None:
        self.make, self.lines = make, 0
        self.halls: dict[str, list[_Hall]] = {}
        self.changed, self.making = threading.Condition(), threading.Lock()

    def serve(self, line: Connection) -> None:
        """Answer one run until it hangs up."""
        place: tuple[_Hall, int] | None = None
        with self.changed:
            self.lines += 1
        try:
            while True:
                what, about = _receive(line)
                try:
                    if what == "join":
                        place, answer = self._join(*about)
                    else:
                        assert place is not None, "who asks has joined"
                        with self.changed:
                            answer = self._answer(*place, what, about)
                    reply: tuple[bool, Any] = True, answer
                except Exception as error:
                    reply = False, _told(error)
                # Outside of the lock: this member does not move while it has no steps to take.
                _send(line, reply)
        except (EOFError, OSError):
            pass  # it has gone
        finally:
            line.close()
            with self.changed:
                self.lines -= 1
                if place is not None:
                    self._leave(*place)
                self.changed.notify_all()

    def _leave(self, hall: _Hall, s: int) -> None:
        """Nobody waits for this member any more."""
        del hall.members[s]
        hall.pending.pop(s, None)
        hall.ended.pop(s, None)
        hall.stack.let_go(s)
        self._run(hall)
        if not hall.members:
            for halls in self.halls.values():
                halls[:] = [other for other in halls if other is not hall]

    def _join(self, exp: Experiment, data: str, size: int) -> tuple[tuple[_Hall, int], Any]:
        """A place in a stack of networks that differ by their seeds alone, the data being equal."""
        exp = exp.in_effect
        with self.making:  # whose random numbers are everybody's
            stream, model, device = self.make(exp)
        if stream.data != data:
            raise RuntimeError("the data have changed since the run was begun")
        if why := StackedEngine.declines(exp, model, stream, device):
            raise Declined(why)
        alike = {key: value for key, value in as_dict(exp).items() if key not in APART}
        kind = f"{sorted(alike.items(), key=str)} {size} {batch_of(exp, stream)} {_seen(stream)}"
        with self.changed:
            halls = self.halls.setdefault(kind, [])
            hall = next((h for h in halls if len(h.members) < h.stack.size), None)
            hall = hall or _Hall(Stack(exp, model, stream, size, device))
            s = next(s for s in range(size) if s not in hall.members)
            engine = StackedEngine.of(hall.stack, s, model, stream, exp.seed)
            hall.members[s] = engine
            if hall not in halls:
                halls.append(hall)
        return (hall, s), _facts(device)

    def _answer(self, hall: _Hall, s: int, what: str, about: tuple[Any, ...]) -> Any:
        engine = hall.members[s]
        if what == "take_steps":
            rows, view, head, outputs = about
            hall.pending[s] = Samples(rows, view), head, outputs
            self._run(hall)
            self.changed.wait_for(lambda: s in hall.ended)
            error = hall.ended.pop(s)
            if error is not None:
                raise error
            return None
        if what == "weights":
            return engine.model.state_dict()
        if what in ("scores", "features"):
            rows, view, *more, training = about
            return getattr(engine, what)(Samples(rows, view), *more, training=training)
        return getattr(engine, what)(*about)

    def _run(self, hall: _Hall) -> None:
        """Take the steps that wait, if everybody's do."""
        if not hall.pending or hall.pending.keys() != hall.members.keys():
            return
        error: Exception | None = None
        try:
            for s in hall.pending:
                hall.members[s].ahead = True
            hall.stack.run(hall.pending)
        except Exception as found:
            error = found
        hall.ended |= dict.fromkeys(hall.pending, error)
        hall.pending.clear()
        self.changed.notify_all()


def _seen(stream: TaskStream) -> str:
    """Which pictures all members look at, in which units: with the same data, units may depend on
    the first task, and so on the seed."""
    data = of_stream(stream) if stream.train.x.is_floating_point() else stream.data
    return f"{data} {stream.scale.tolist()} {stream.shift.tolist()}"


def _facts(device: torch.device) -> dict[str, object]:
    if device.type == "cuda":
        return {"device": str(device), "device_name": torch.cuda.get_device_name(device)}
    return {}


def _told(error: Exception) -> Exception:
    """What is raised at the other end: the error, or what it says."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def serve(make: Make) -> None:
    """Serve at the address that the environment tells, until the standard input ends: whoever began
    this has gone; and then until the runs have, which may write a checkpoint yet."""
    where = place()
    assert where is not None, "who begins this says where"
    company = Company(make)
    with Listener(where.address, authkey=where.key) as door:

        def welcome() -> None:
            while True:
                with suppress(OSError, EOFError, AuthenticationError):
                    line = door.accept()
                    threading.Thread(target=company.serve, args=(line,), daemon=True).start()

        threading.Thread(target=welcome, daemon=True).start()
        while os.read(0, 1):
            pass
        with company.changed:
            company.changed.wait_for(lambda: company.lines == 0, GRACE)
