"""Averaged gradient episodic memory: a step that would raise the loss on pictures of a memory is
turned so that it does not (Chaudhry et al., 2019, "Efficient lifelong learning with A-GEM")."""

from __future__ import annotations

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Whole
from utils.engines.base import Engine, Need
from utils.engines.batch import Batch
from utils.methods import er, memory
from utils.methods.base import Moment

KEYS = {
    "buffer_size": memory.KEYS["buffer_size"],
    "buffer": memory.KEYS["buffer"],
    "buffer_per_class": memory.KEYS["buffer_per_class"],
    "agem_batch": Key(
        0,
        Whole(0, 1_000_000, "pictures"),
        "pictures of earlier tasks whose loss a step must not raise; 0: as many as mb_size",
    ),
}


def contradictions(exp: Experiment) -> Findings:
    """Why no gradient can be turned."""
    yield from memory.no_parts(exp, "agem")
    yield from memory.too_few(exp)
    if exp.engine == "sparse":
        yield (
            ("engine", "methods"),
            "agem needs the gradient of every parameter in every step, which engine = sparse does "
            "not compute; choose engine = auto",
        )


class Method(er.Method):
    """Adds pictures of earlier tasks that guard their loss."""

    @property
    def needs(self) -> frozenset[Need]:
        """A projection."""
        return frozenset({Need.PROJECTION})

    @property
    def size(self) -> int:
        """How many pictures guard."""
        return int(self.exp.agem_batch or self.exp.mb_size)

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, and pictures of the memory."""
        self.first = now.step < now.epoch
        sharp = isinstance(batch.current.samples.view, int)  # else guard all that came before
        places = self.memory.draw(self.size, now.task if sharp else None)
        guards = self.memory.parts(places, 1.0, batch.current)
        return Batch((*batch.parts, *(part._replace(guard=True) for part in guards)))
