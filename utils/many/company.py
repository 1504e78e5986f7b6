"""The process in which seeds are trained as one, as who starts it sees it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from utils.many.order import Order
from utils.runs.identity import ROOT
from utils.system.place import Place
from utils.system.talk import LOG


class Company:
    """It runs from `with` to its end. When it ends by itself, its address goes with it, which is
    how the runs there know."""

    def __init__(self, gpu: str) -> None:
        """gpu: the name by which CUDA_VISIBLE_DEVICES chooses it; '' for what there is."""
        self.gpu = gpu

    def __enter__(self) -> Company:
        # The address of a socket has some 100 characters at most.
        short = None if len(tempfile.gettempdir()) < 60 else "/tmp"
        self.folder = tempfile.TemporaryDirectory(
            prefix="sparse-syn-", dir=short, ignore_cleanup_errors=True
        )
        self.place = Place(str(Path(self.folder.name) / "line"), secrets.token_bytes(16))
        chosen = {"CUDA_VISIBLE_DEVICES": self.gpu} if self.gpu else {}
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "run_exps.py"), "--company"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.place.environment(), **chosen},
            start_new_session=True,  # Ctrl-C of a terminal is for the runs first
        )
        self.watch = threading.Thread(target=self._look_after, name="company", daemon=True)
        self.watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        self.watch.join(timeout=5)

    def environment(self, order: Order) -> dict[str, str]:
        """What a run has in its environment to be trained there."""
        return self.place._replace(size=order.together).environment()

    def _look_after(self) -> None:
        assert self.process.stderr is not None
        said = self.process.stderr.read().decode(errors="replace")
        if self.process.wait() or said:
            LOG.warning("seeds together: exit status %d\n%s", self.process.returncode, said[-9999:])
        self.folder.cleanup()
