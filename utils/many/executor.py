"""What an executor of many runs is, and which one a command asks for."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Generator, Sequence
from typing import Protocol

from exps.messages import three_lines
from utils.many.local import Local, Slots, cores, visible_gpus
from utils.many.order import Order, Outcome


class ExecutorError(Exception):
    """Runs cannot be worked on where it was asked for."""

    def __init__(self, what: str, why: str, remedy: str) -> None:
        super().__init__(three_lines(what, why, remedy))


class Executor(Protocol):
    """Where orders are carried out; its text says how, for people."""

    def work(self, orders: Sequence[Order]) -> Generator[Outcome | None, None, None]:
        """What becomes of each order, as it becomes known, and None about every second.

        What still runs is stopped at once when the generator is closed or an exception leaves it.
        """

    def end(self) -> None:
        """Let what runs write its checkpoint and end, and begin nothing more."""


def make_executor(args: Namespace, devices: Sequence[str]) -> Executor:
    """The one that the command line asks for. Raises ExecutorError when it is not to be had.

    devices: the `device` of each run.
    """
    if args.executor == "ray":
        try:
            from utils.many.on_ray import OnRay
        except ImportError as error:
            raise ExecutorError(
                "--executor ray: Ray is not there",
                str(error),
                "pip install -r requirements-ray.txt, or leave out --executor ray",
            ) from error
        return OnRay(args.address, args.jobs, args.threads or 1)
    gpus = [] if all(device == "cpu" for device in devices) else visible_gpus()
    return Local(Slots(args.jobs, args.threads, gpus, cores()))
