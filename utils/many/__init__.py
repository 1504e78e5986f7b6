"""Many runs with one command: what is done is skipped, what is unfinished is gone on with."""

from utils.many.command import run_many

__all__ = ["run_many"]
