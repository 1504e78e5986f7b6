"""Paths as people write them, and the words of command lines: read and written in one way."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path


def expanded(text: str) -> str:
    """The path with the home folder in place of a ~ or ~user that it begins with; a slash at its
    end stays. Raises ValueError, with what to do, for what can be no path.
    """
    if not text:
        raise ValueError("choose a path, not an empty text ('.' is the working directory)")
    if "\0" in text:
        raise ValueError("choose a path without a NUL character")
    found = os.path.expanduser(text)  # noqa: PTH111 (Path would drop the slash, and the ./ of ./~)
    if text.startswith("~") and found == text:
        home = text.split("/")[0]
        raise ValueError(f"choose another path: no home folder {home!r:.60} is known")
    return found


def path(text: str) -> Path:
    """The same as a Path, which never looks like an option or a home folder."""
    return _plain(Path(expanded(text)))


def near(path: Path) -> Path:
    """The path relative to the working directory where it lies below that, and `path` as above."""
    try:
        return _plain(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # it lies elsewhere, or the working directory is gone
        return path


def _plain(path: Path) -> Path:
    return path.absolute() if str(path).startswith(("-", "~")) else path


def word(option: str, value: str | Path) -> str:
    """An option with its value, which may begin with a dash, as one word of a command line."""
    return f"{option}={value}"


def typed(words: Iterable[str]) -> str:
    """The words as they are typed in a shell, on one line whatever is in them (then as bash and
    zsh have it: $'...')."""
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    kept = {c for c in range(32, 127) if chr(c) not in "'\\"}
    return "$'" + "".join(chr(c) if c in kept else f"\\x{c:02x}" for c in os.fsencode(word)) + "'"
