"""DER++: dark experience replay, and replay of the labels of other pictures of the memory (Buzzega
et al., 2020, "Dark experience for general continual learning: a strong, simple baseline")."""

from __future__ import annotations

from exps.config import Experiment
from exps.facts import Findings
from exps.keys import Key
from exps.kinds import Number
from utils.engines.base import Engine
from utils.engines.batch import Batch
from utils.methods import der, memory
from utils.methods.base import Costs, Moment

KEYS = {
    "buffer_size": der.KEYS["buffer_size"],
    "der_batch": der.KEYS["der_batch"],
    "der_alpha": der.KEYS["der_alpha"],
    "der_beta": Key(0.5, Number(0, 1e6), "how much the labels that are kept count (β)"),
}


def contradictions(exp: Experiment) -> Findings:
    """Why pictures of earlier tasks cannot be trained on."""
    yield from memory.no_parts(exp, "derpp")


class Method(der.Method):
    """The loss has β times the cross-entropy of pictures drawn besides."""

    def before_step(self, engine: Engine, batch: Batch, now: Moment) -> Batch:
        """The mini-batch, and pictures of both draws."""
        batch = super().before_step(engine, batch, now)
        places = self.memory.draw(self.size)
        more = self.memory.parts(places, self.exp.der_beta, batch.current)
        return Batch((*batch.parts, *more))

    def costs(self, engine: Engine) -> Costs:
        """Two draws in place of one."""
        once = super().costs(engine)
        return once._replace(macs=2 * once.macs)
