"""What must be the same for a run to be gone on with; no torch is needed to compare it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from exps.config import ABOUT, Experiment, as_dict, as_text
from exps.messages import shown

ROOT = Path(__file__).parents[1]
PROGRAM = ("run_exps.py", "benchmarks", "exps", "models", "utils")
FREE = ("checkpoint_every", "data_dir", *ABOUT)  # keys that change no number: data are compared
NAMES = {"code": "the program's code (SHA-256)", "data": "the data (SHA-256)"}


def configuration(exp: Experiment) -> dict[str, str]:
    """The section's name and every key, as a configuration file writes them."""
    return {name: as_text(value) for name, value in as_dict(exp).items()}


def differences(there: Any, here: dict[str, dict[str, str]]) -> list[str]:
    """What differs between a checkpoint's identity and this one, a line each; [] if nothing."""
    found = []
    for part, values in here.items():
        other = there.get(part) if isinstance(there, dict) else None
        other = other if isinstance(other, dict) else {}
        for name in dict.fromkeys([*values, *map(str, other)]):
            old, new = str(other.get(name, "missing")), values.get(name, "missing")
            if old != new and name not in FREE:
                found.append(
                    f"{NAMES.get(name, shown(name))}: {shown(old)} there, {shown(new)} here"
                )
    # Another commit of the same code is no other program, and says more than another sum does.
    return [] if len(found) == 1 and found[0].startswith("commit: ") else found


def code_digest() -> str:
    """SHA-256 over the program's source, whatever the line ends."""
    digest = hashlib.sha256()
    for part in PROGRAM:
        path = ROOT / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            text = file.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{file.relative_to(ROOT).as_posix()}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()
