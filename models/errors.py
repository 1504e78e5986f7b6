"""What can go wrong when a model is built."""

from exps.messages import Told


class ModelError(Told):
    """A model cannot be built here; the message says what is missing and what to do."""


def check(name: str, value: float, good: bool, choices: str) -> None:
    """Raise a ValueError that names an argument, its value and the choices, unless it is good."""
    if not good:
        raise ValueError(f"{name} = {value}: choose {choices}")
