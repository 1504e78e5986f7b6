"""What methods share whose tasks have units of their own, where the scenario tells which task a
picture is of."""

from __future__ import annotations

from utils.engines.base import Engine
from utils.methods import base


class OwnUnits(base.Method):
    """Trains the units of a task; which they are says `units_of`, and how many `part_of` of the
    method's file. Nothing is remembered, and nothing held beside the network."""

    told = True

    def begin_task(self, engine: Engine, task: int) -> None:
        """Train the units of the task."""
        engine.enter(task)
