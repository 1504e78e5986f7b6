"""What can go wrong when a model is built."""

from exps.messages import Told


class ModelError(Told):
    """A model cannot be built here; the message says what is missing and what to do."""
