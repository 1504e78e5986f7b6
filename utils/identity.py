"""What must be the same for a run to be gone on with; no torch is needed to compare it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from exps.config import Experiment, as_dict, as_text
from exps.experiment import FREE
from exps.messages import shown

ROOT = Path(__file__).parents[1]
PROGRAM = ("run_exps.py", "benchmarks", "exps", "models", "utils")
# Parts that only look at runs, or start them: results stay the same whatever changes there.
APART = ("utils/live/", "utils/many/", "utils/report/", "utils/metrics.py", "utils/expected.py")
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


def fingerprint(texts: Mapping[str, str]) -> str:
    """SHA-256 over what `configuration` gives, without the keys that change no number."""
    told = sorted((name, text) for name, text in texts.items() if name not in FREE)
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def code_digest() -> str:
    """SHA-256 over the source of what makes results, whatever the line ends."""
    digest = hashlib.sha256()
    for part in PROGRAM:
        path = ROOT / part
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            name = file.relative_to(ROOT).as_posix()
            if not name.startswith(APART):
                text = file.read_bytes().replace(b"\r\n", b"\n")
                digest.update(f"{name}\0{len(text)}\0".encode() + text)
    return digest.hexdigest()
