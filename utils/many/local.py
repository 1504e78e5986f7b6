"""Many runs on this machine: as many processes at a time as asked for, cores and GPUs dealt out."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack

from utils.many.company import Company
from utils.many.order import FAILED, NOT_BEGUN, Order, Outcome
from utils.many.worker import AT_ONCE, GO_ON, IN_ORDER, carry_out
from utils.system.cores import THREADS, chosen_threads
from utils.system.failures import reason_of
from utils.system.talk import LOG

TICK = 0.5  # seconds between two looks around


class Local:
    """Threads that each look after one process at a time, with its part of the cores and its GPU.

    Its text says how, for people.
    """

    def __init__(
        self,
        jobs: int | None,
        threads: int | None,
        gpus: Sequence[str],
        cores: int,
        environ: Mapping[str, str] = os.environ,
        together: int = 1,
    ) -> None:
        """gpus: the names by which CUDA_VISIBLE_DEVICES chooses them; by default a slot for each.
        together: how many of the runs on each are trained as one.

        A single slot has the threads of any single run, and so gives its results. An
        OMP_NUM_THREADS that is set already stays.
        """
        self.jobs, self.gpus = (jobs or max(1, len(gpus))) * together, gpus
        self.threads, self.level, self.together = threads, GO_ON, together
        self.companies: list[Company] = []
        if threads is None and self.jobs > 1 and chosen_threads(environ) is None:
            self.threads = max(1, cores // self.jobs)

    def __str__(self) -> str:
        shared = f", {self.threads} thread(s) each" if self.threads else ""
        over = f", on {len(self.gpus)} GPUs" if len(self.gpus) > 1 else ""
        as_one = f", {self.together} as one" if self.together > 1 else ""
        return f"{self.jobs} at a time{as_one}{shared}{over}"

    def work(self, orders: Sequence[Order]) -> Generator[Outcome | None, None, None]:
        """What becomes of each order, as it becomes known, and None about every second.

        What still runs is stopped at once when the generator is closed or an exception leaves it.
        """
        slots = deque(range(min(self.jobs, len(orders))))  # those in which nothing runs
        with ThreadPoolExecutor(len(slots)) as pool, ExitStack() as stack:
            if self.together > 1:
                for gpu in self.gpus or [""]:
                    self.companies.append(stack.enter_context(Company(gpu)))
            try:
                waiting = {pool.submit(self._carried_out, order, slots) for order in orders}
                while waiting:
                    ended, waiting = wait(waiting, TICK, FIRST_COMPLETED)
                    yield from (future.result() for future in ended)
                    yield None
            finally:
                self.level = AT_ONCE

    def end(self) -> None:
        """Let what runs write its checkpoint and end, and begin nothing more."""
        self.level = max(self.level, IN_ORDER)

    def environment(self, slot: int, device: str) -> dict[str, str]:
        """What a process in this slot has in its environment.

        A run whose device is a numbered GPU, or the CPU, is not given another one.
        """
        found = {} if self.threads is None else {THREADS: str(self.threads)}
        if len(self.gpus) > 1 and device in ("auto", "cuda"):
            found["CUDA_VISIBLE_DEVICES"] = self.gpus[self._gpu(slot)]
        return found

    def _gpu(self, slot: int) -> int:
        """The number of its GPU: one company is filled before the next."""
        return slot // self.together % max(len(self.gpus), 1)

    def _company(self, slot: int) -> Company:
        return self.companies[self._gpu(slot)]

    def _carried_out(self, order: Order, slots: deque[int]) -> Outcome:
        if self.level != GO_ON:
            return Outcome(order.number, NOT_BEGUN)
        slot = slots.popleft()
        try:
            environment = self.environment(slot, order.device)
            if order.together > 1:
                environment |= self._company(slot).environment(order)
            return carry_out(order, environment, lambda: self.level)
        except Exception as error:  # of this program; the other runs go on
            LOG.error("%s: unexpected error", order.label, exc_info=error)
            return Outcome(order.number, FAILED, reason=reason_of(error))
        finally:
            slots.append(slot)


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs that may be used here, by CUDA's or the driver's names; torch is not asked."""
    told = environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name for name in map(str.strip, told.split(",")) if name not in ("", "-1")]
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split() if done.returncode == 0 else []
