"""Many runs on this machine: as many processes at a time as asked for, cores and GPUs dealt out."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Generator, Mapping, Sequence

from utils.many.order import FAILED, NOT_BEGUN, Order, Outcome
from utils.many.worker import AT_ONCE, GO_ON, IN_ORDER, carry_out
from utils.system.cores import THREADS, chosen_threads, cores
from utils.system.failures import reason_of
from utils.system.talk import LOG

__all__ = ["Local", "Slots", "cores", "visible_gpus"]

TICK = 0.5  # seconds between two looks around


class Slots:
    """Where runs are worked on, one at a time in each: its part of the cores, and its GPU."""

    def __init__(
        self,
        jobs: int | None,
        threads: int | None,
        gpus: Sequence[str],
        cores: int,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """gpus: the names by which CUDA_VISIBLE_DEVICES chooses them; by default a slot for each.

        A single slot has the threads of any single run, and so gives its results. An
        OMP_NUM_THREADS that is set already stays.
        """
        self.jobs = jobs or max(1, len(gpus))
        self.gpus = list(gpus)
        self.threads = threads
        if threads is None and self.jobs > 1 and chosen_threads(environ) is None:
            self.threads = max(1, cores // self.jobs)

    def environment(self, slot: int, device: str) -> dict[str, str]:
        """What a process in this slot has in its environment.

        A run whose device is a numbered GPU, or the CPU, is not given another one.
        """
        found = {} if self.threads is None else {THREADS: str(self.threads)}
        if len(self.gpus) > 1 and device in ("auto", "cuda"):
            found["CUDA_VISIBLE_DEVICES"] = self.gpus[slot % len(self.gpus)]
        return found

    def __str__(self) -> str:
        shared = f", {self.threads} thread(s) each" if self.threads else ""
        over = f", on {len(self.gpus)} GPUs" if len(self.gpus) > 1 else ""
        return f"{self.jobs} at a time{shared}{over}"


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


class Local:
    """Threads that each look after one process at a time."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.level = GO_ON
        self._waiting: deque[Order] = deque()
        self._outcomes: queue.Queue[Outcome] = queue.Queue()

    def __str__(self) -> str:
        return str(self.slots)

    def work(self, orders: Sequence[Order]) -> Generator[Outcome | None, None, None]:
        """What becomes of each order, as it becomes known, and None now and then."""
        self._waiting.extend(orders)
        threads = [
            threading.Thread(target=self._serve, args=(slot,), name=f"slot {slot}")
            for slot in range(min(self.slots.jobs, len(orders)))
        ]
        for thread in threads:
            thread.start()
        left = len(orders)
        try:
            while left:
                try:
                    yield self._outcomes.get(timeout=TICK)
                    left -= 1
                except queue.Empty:
                    yield None
        except BaseException:
            self.level = AT_ONCE
            raise
        finally:
            if left:
                self.level = AT_ONCE
            for thread in threads:
                thread.join()

    def end(self) -> None:
        """Let what runs write its checkpoint and end, and begin nothing more."""
        self.level = max(self.level, IN_ORDER)

    def _serve(self, slot: int) -> None:
        while self._waiting:
            try:
                order = self._waiting.popleft()
            except IndexError:  # another slot has just taken it
                return
            self._outcomes.put(self._carried_out(order, slot))

    def _carried_out(self, order: Order, slot: int) -> Outcome:
        if self.level != GO_ON:
            return Outcome(order.number, NOT_BEGUN)
        try:
            environment = self.slots.environment(slot, order.device)
            return carry_out(order, environment, lambda: self.level)
        except Exception as error:  # of this program; the other runs go on
            LOG.error("%s: unexpected error", order.label, exc_info=error)
            return Outcome(order.number, FAILED, reason=reason_of(error))
