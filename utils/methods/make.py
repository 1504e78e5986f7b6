"""The methods of an experiment, by the names of their files."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.stream import TaskStream
from exps import plugins
from exps.config import Experiment
from utils.engines.base import Need
from utils.methods.base import Method, Scores


def scores_of(methods: Sequence[Method]) -> Scores | None:
    """What the first method that has any classifies test pictures by; None: the logits."""
    return next((m.scores for m in methods if type(m).scores is not Method.scores), None)


def make_methods(exp: Experiment, stream: TaskStream) -> list[Method]:
    """Those that `methods` names and those that older keys stand for, in their order of work."""
    methods = []
    for name in exp.all_methods:
        with plugins.blamed(name):
            method = plugins.load(plugins.METHOD, name).Method(exp, stream)
        needs = getattr(method, "needs", None)
        sound = isinstance(needs, frozenset) and needs <= frozenset(Need)
        if not isinstance(method, Method) or not sound:
            raise plugins.unlike(name, "Method", "one of utils.methods.base with Needs", method)
        methods.append(method)
    return methods
