"""What a run is: whether it is done, can be gone on with, or is another; answers without torch."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from exps import plugins
from exps.config import Experiment, as_dict, as_text
from exps.definitions import KEPT
from exps.experiment import FREE, KEYS, definition
from exps.messages import shown
from utils.runs.meanings import Meanings

ROOT = Path(__file__).parents[2]
# Parts that only look at runs, talk of them, or start them: no result depends on them.
APART = (
    *("exps.cli", "exps.manual", "exps.messages", "exps.plan", "exps.progress"),
    *("utils.live", "utils.many", "utils.report", "utils.runs.summary"),
    *("utils.results.metrics", "utils.results.expected", "utils.system.log", "utils.system.talk"),
)
NAMES = {"code": "the program's code (SHA-256)", "data": "the data (SHA-256)"}
CODE = ("version", "commit", "code")  # what `--trust-code` lets differ
PLUS = "+"  # between the digests of several programs that made one run


class Wanted(NamedTuple):
    """What a run must be to count as the one that is asked for.

    key: the `fingerprint` of its configuration; code: its `code_digest`; data: the digest of its
    pictures and labels, '' where they are not known yet; trust: whether any code will do; weights:
    what is kept of them (`keep_weights`).
    """

    key: str
    code: str
    data: str
    trust: bool = False
    weights: str = KEPT[0]


def configuration(exp: Experiment) -> dict[str, str]:
    """The section's name and every key, as a configuration file writes them."""
    return {name: as_text(value) for name, value in as_dict(exp).items()}


def differences(there: Any, here: dict[str, dict[str, str]], *, trust: bool = False) -> list[str]:
    """What differs between a checkpoint's identity and this one, a line each; [] if nothing.

    trust: whatever the code is.
    """
    found = []
    free = FREE + CODE if trust else FREE
    for part, values in here.items():
        if trust and part == "files":
            continue
        other = there.get(part) if isinstance(there, dict) else None
        other = other if isinstance(other, dict) else {}
        other = {str(name): str(text) for name, text in other.items()}
        mine, its = (meant(t) if part == "config" else t for t in (values, other))
        for name in dict.fromkeys([*values, *other]):
            old, new = other.get(name, "missing"), values.get(name, "missing")
            if mine.get(name) != its.get(name) and name not in free:
                found.append(
                    f"{NAMES.get(name, shown(name))}: {shown(old)} there, {shown(new)} here"
                )
    # Another commit of the same code is no other program, and says more than another sum does.
    return [] if len(found) == 1 and found[0].startswith("commit: ") else found


def meant(texts: Mapping[str, str]) -> dict[str, str]:
    """What `configuration` gives, so that other versions' is the same: without the keys that change
    no number, those of plug-ins that are not chosen, and those that are as they are by default,
    which an older version need not have had."""
    found = {}
    named = {key: as_text(KEYS[key].default) for key in plugins.KEYS} | {**texts}
    for name, text in texts.items():
        chosen = name in KEYS or plugins.chosen_by(name, named)
        key = KEYS.get(name) or (definition(name) if chosen else None)
        if name not in FREE and chosen and not (key and text == as_text(key.default)):
            found[name] = ", ".join(sorted(text.split(", "))) if name == "methods" else text
    return found


def fingerprint(texts: Mapping[str, str]) -> str:
    """SHA-256 over what a configuration means."""
    told = sorted(meant(texts).items())
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def torch_version() -> str:
    """The version of torch here, without what is behind a +; '' where there is none."""
    loaded = sys.modules.get("torch")
    try:
        version = str(loaded.__version__) if loaded else metadata.version("torch")
    except metadata.PackageNotFoundError:
        return ""
    return version.split("+")[0]


def uses(exp: Experiment) -> tuple[str, ...]:
    """The modules that a run of this experiment begins with, users' files by their paths; all else
    is imported by them."""
    parts = (v if plugins.is_path(v) else f"{kind.package}.{v}" for kind, v in exp.plug_ins)
    return "run_exps", *parts


def code_digest(roots: tuple[str, ...]) -> str:
    """SHA-256 over what the code of these modules, and of all that they import at any time, means:
    over the syntax trees without docstrings. APART does not count.
    """
    found = dict[str, str]()
    with Meanings() as meanings:
        waiting, seen = list(roots), {""}
        while waiting:
            name = waiting.pop()
            if name in seen or _apart(name):
                continue
            seen.add(name)
            if plugins.is_path(name):
                found[Path(name).name], imports = meanings.of(plugins.source(name), "")
                waiting += imports
            elif path := _file(name):
                package = name if path.name == "__init__.py" else name.rpartition(".")[0]
                found[name], imports = meanings.of(path.read_bytes(), package)
                waiting += [*imports, name.rpartition(".")[0]]
    digest = hashlib.sha256()
    for name in sorted(found):
        digest.update(name.encode() + b"\0" + bytes.fromhex(found[name]))
    return digest.hexdigest()


def _apart(name: str) -> bool:
    return any(name == part or name.startswith(f"{part}.") for part in APART)


def _file(module: str) -> Path | None:
    """The source of a module of the project; None for any other name."""
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if module and file.is_file():
            return file
    return None
