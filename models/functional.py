"""`sparse_syn.functional` under the name that it had in version 1.0: users' files have it."""

from sparse_syn.functional import *  # noqa: F403
