"""The layers of `sparse_syn` under the name that they had in version 1.0: users' files have it."""

from sparse_syn import *  # noqa: F403
