"""What a run shows while it goes on: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from utils.system.talk import Bar, say


class Progress:
    """On a terminal two bars: the tasks, and what is done now; elsewhere lines."""

    def __init__(self, tasks: int, *, quiet: bool = False, done: int = 0):
        """tasks: how many there are; done: how many of them an earlier process has done."""
        self.quiet = quiet
        count = {"total": tasks, "initial": done, "unit": "task"}
        self.tasks = Bar("tasks", quiet=quiet, position=0, **count)
        self.now = Bar(quiet=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.now.close()
        self.tasks.close()

    def begin(self, what: str, total: int, unit: str) -> None:
        """Something with `total` steps begins."""
        self.now.close()
        self.now = Bar(what, quiet=self.quiet, position=1, total=total, unit=unit)

    def advance(self, count: int = 1) -> None:
        """So many more of them are done."""
        self.now.advance(count)

    def detail(self, text: str, *, on_bars: str) -> None:
        """A line of detail: shown where there are no bars; these have `on_bars` instead."""
        self.tasks.say(on_bars)
        say(text, quiet=self.quiet or self.tasks.shown)

    def task_done(self, text: str) -> None:
        """A task has been trained and tested."""
        self.now.close()
        self.tasks.advance()
        self.say(text)

    def say(self, text: str) -> None:
        """A line that stays, above the bars."""
        say(text, quiet=self.quiet)
