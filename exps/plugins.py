"""Benchmarks, networks, methods and optimisers: a file each, found by its name or by a path.

The value of `benchmark`, `model`, `methods` and `optimizer` is the name of a file in a folder of
the project, or the path of a file of the user's own, which ends in .py. Nothing is edited for it.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from exps.facts import Findings
from exps.keys import Key
from exps.kinds import as_text, require_once
from exps.messages import ConfigError, Told, did_you_mean, quoted, shown, shown_path
from exps.paths import near, path

if TYPE_CHECKING:
    from exps.experiment import Experiment

ROOT = Path(__file__).parents[1]
SENT = "SPARSE_SYN_FILES"  # the folder of `send`, where a worker finds users' files


@dataclass(frozen=True)
class Kind:
    """A kind of plug-in: the key that names it, its folder, and what a file must define."""

    key: str
    package: str
    entry: str

    @property
    def names(self) -> tuple[str, ...]:
        """The files of the project that there are, by their names."""
        return tuple(_texts(self))


KINDS = (
    Kind("benchmark", "benchmarks", "def make_stream("),
    Kind("model", "models", "def make_model("),
    Kind("methods", "utils.methods", "class Method("),
    Kind("optimizer", "utils.optimizers", "def make("),
)
BENCHMARK, MODEL, METHOD, OPTIMIZER = KINDS
KEYS = tuple(kind.key for kind in KINDS)  # those that name plug-ins
HEADS = ("ncm", "ridge", "slda")  # methods that are the classifiers of these names
# The keys of all experiments that choose methods; every other is named by `methods`.
CHOSEN_BY = {
    "contexts": "context",
    "grow": "dynamic",
    "rewire": "dynamic",
    "old_synapses": "old_synapse_lr",
}
# Methods that keys of all experiments stand for, and what these say then.
IMPLIED = {
    "contexts": "a context and sparsify",
    "grow": "dynamic = grow, and sparsify",
    "rewire": "dynamic = set or rigl, and sparsify",
    "old_synapses": "an old_synapse_lr below 1",
    **{name: f"classifier = {name}" for name in HEADS},
}


@cache
def _texts(kind: Kind) -> dict[str, str]:
    """The files of the project of this kind, by name: to be looked at without being run."""
    files = sorted(ROOT.joinpath(*kind.package.split(".")).glob("[!_]*.py"))
    texts = {file.stem: file.read_text(encoding="utf-8") for file in files}
    entry = re.compile(f"^{re.escape(kind.entry)}", re.MULTILINE)
    return {name: text for name, text in texts.items() if entry.search(text)}


class PluginError(ConfigError):
    """A user's file cannot be used; the text names it, and the line."""


@dataclass(frozen=True)
class _Named:
    of: Kind

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the project."""
        return self.of.names


class One(_Named):
    """The kind of value that names one plug-in."""

    @property
    def expects(self) -> str:
        """For people."""
        return f"{', '.join(self.names)} or the path of a file (.py)"

    def parse(self, text: str) -> str:
        """A name, or a path as `exps.paths.near` writes it."""
        if is_path(text):
            if not text.isprintable():
                raise ValueError("choose a path without control characters")
            if os.environ.get(SENT):  # a worker: this is what it is called
                return text
            found = os.path.normpath(near(path(text)))
            return found if is_path(found) else f"./{found}"  # no name of the project's
        if text in self.names:
            return text
        raise ValueError(f"choose {self.expects}{did_you_mean(text, self.names)}")


class Some(_Named):
    """The kind of value that names several, separated by commas, each once; or none."""

    @property
    def expects(self) -> str:
        """For people."""
        return f"none, or some of {', '.join(self.names)} and paths of files (.py)"

    def parse(self, text: str) -> tuple[str, ...]:
        """In one order, in which they do their work: those of the project first."""
        if text.lower() in ("none", ""):
            return ()
        each = [One(self.of).parse(name.strip()) for name in text.split(",")]
        require_once(each)
        found = {*each}
        names = [name for name in self.names if name in found]
        return (*names, *sorted(found - {*names}))


def is_path(value: str) -> bool:
    """Whether it is the path of a user's own file, not the name of one of the project."""
    return value.endswith(".py") or "/" in value


def stem(value: str) -> str:
    """A name for people, and for checkpoints: that of the file."""
    return Path(value).stem if is_path(value) else value


def load(kind: Kind, value: str) -> ModuleType:
    """The module of a plug-in. Raises PluginError for a user's file that is none."""
    if not is_path(value):
        return _ours(kind, value)
    return _own(kind, value, source(value))


_ours = cache(lambda kind, name: importlib.import_module(f"{kind.package}.{name}"))


@cache
def source(value: str) -> bytes:
    """The contents of a user's file: as they were sent to this worker, if they were, or as they are
    when a command first asks; to change it meanwhile changes no run. PluginError where it cannot be
    read."""
    sent = os.environ.get(SENT)
    file = Path(sent, Path(value).name) if sent else path(value)
    try:
        return file.read_bytes()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        where = "" if path(value).is_absolute() else f" (looked for it in {shown_path(Path.cwd())})"
        raise PluginError(f"{shown_path(path(value))}: cannot be read: {why}{where}") from None


def own_files(exp: Experiment) -> list[str]:
    """The paths of users' files that an experiment is made of. PluginError where two share a name,
    by which workers know them."""
    found = [value for _, value in exp.plug_ins if is_path(value)]
    if len({Path(value).name for value in found}) < len(found):
        raise PluginError(f"{' and '.join(found)}: give these files different names")
    return found


def named_files(exp: Experiment) -> list[str]:
    """`key=value` of the keys that name files of the user's."""
    values = {key: as_text(getattr(exp, key)) for key in KEYS}
    return [f"{k}={text}" for k, text in values.items() if any(map(is_path, text.split(",")))]


def unasked(texts: Mapping[str, str], given: Collection[str]) -> str | None:
    """The key by which a configuration that may be somebody else's names a user's file, and which
    the user has not given too: that file is not to be run. None: there is none."""
    own = (key for key in KEYS if any(map(is_path, texts.get(key, "").split(","))))
    return next((key for key in own if key not in given), None)


def send(files: dict[str, bytes], folder: Path) -> dict[str, str]:
    """Write users' files, by value, for a worker; what its environment is to have."""
    for value, contents in files.items():
        (folder / Path(value).name).write_bytes(contents)
    return {SENT: str(folder)} if files else {}


@cache
def _own(kind: Kind, value: str, code: bytes) -> ModuleType:
    """A user's file, run once a content."""
    file = str(path(value))
    module = ModuleType(f"{Path(value).stem}@{hashlib.sha256(file.encode()).hexdigest()[:8]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses look there for what defines them
    with blamed(value):
        exec(compile(code, file, "exec", dont_inherit=True), vars(module))
    word, entry = kind.entry.rstrip("(").split()
    if not callable(getattr(module, entry, None)):
        what = "class" if word == "class" else "function"
        raise PluginError(
            f"{shown_path(Path(file))}: it has no {what} {entry}, which {kind.key} needs"
        )
    _check_keys(getattr(module, "KEYS", {}), shown_path(Path(file)))
    for name in ("USES", "LACKS", "PART_KEYS"):
        keys = getattr(module, name, ())
        if not isinstance(keys, tuple) or not all(isinstance(key, str) for key in keys):
            what = "a tuple of keys, of one such as ('lr',)"
            raise PluginError(f"{shown_path(Path(file))}: {name} must be {what}")
    widths = getattr(module, "WIDTHS", {})
    named = [*widths, *filter(None, widths.values())] if isinstance(widths, dict) else [0]
    if not all(isinstance(key, str) for key in named):
        raise PluginError(f"{shown_path(Path(file))}: WIDTHS must be a dict of keys by key")
    dataset = getattr(module, "DATASET", None)
    if dataset is not None and not hasattr(dataset, "sample"):
        raise PluginError(f"{shown_path(Path(file))}: DATASET must be a benchmarks.formats.Dataset")
    return module


def _check_keys(keys: Any, file: str) -> None:
    """Raise PluginError for what cannot be the keys of a user's file."""
    if not isinstance(keys, dict) or not all(isinstance(k, Key) for k in keys.values()):
        raise PluginError(f"{file}: KEYS must be a dict of exps.keys.Key by name")
    for name, key in keys.items():
        if not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]*", name)):
            raise PluginError(f"{file}: a key is a name such as my_rate, not {name!r:.60}")
        if not hasattr(key.kind, "parse") or isinstance(key.kind, type):
            raise PluginError(f"{file}: {name} needs a kind such as Number(0, 1)")
        try:
            sound = key.kind.parse(as_text(key.default)) == key.default
        except (TypeError, ValueError) as error:
            raise PluginError(f"{file}: {name} = {key.default!r:.60}: {error}") from None
        if not sound:
            raise PluginError(f"{file}: {name} = {key.default!r:.60} is not read as it is written")
        known = elsewhere(name)
        if known and known[0] != key:  # a method may be derived from another, with its keys
            raise taken(name, file)


def unlike(value: str, function: str, wanted: str, found: object) -> PluginError:
    """What a user's function returned is not what it has to."""
    what = f"{function} has to return {wanted}, not a {type(found).__name__}"
    return PluginError(f"{shown(value, 400)}: {what}")


def whole(value: str, function: str, found: object) -> int:
    """A number that a function of a plug-in's file gives. Raises PluginError for any other."""
    if not isinstance(found, int) or isinstance(found, bool):
        raise unlike(value, function, "whole numbers of units", found)
    return found


def told(error: BaseException, file: str) -> str:
    """An error in a user's file: the file, the last line of it on the way, and what it says."""
    line = next((f.lineno for f in _frames(error) if f.filename == file), None)
    if isinstance(error, SyntaxError) and error.filename == file:
        line = error.lineno
    where = f", line {line}" if line else ""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    what = f"{type(error).__name__}: {' '.join(text.split())}".removesuffix(": ")
    return f"{shown_path(Path(file))}{where}: {shown(what, 400)}"


def _frames(error: BaseException) -> list[traceback.FrameSummary]:
    return traceback.extract_tb(error.__traceback__)[::-1]


def culprit(error: BaseException) -> str:
    """Which of users' files an error comes from, as `told` says it; '' for none."""
    own = {m.__file__ for m in sys.modules.values() if getattr(m, "__name__", "").find("@") > 0}
    found = next((f.filename for f in _frames(error) if f.filename in own), None)
    return told(error, found) if found else ""


def keys(kind: Kind, value: str) -> dict[str, Key]:
    """The keys that a plug-in declares."""
    found: dict[str, Key] = getattr(load(kind, value), "KEYS", {})
    return found


@cache
def elsewhere(key: str) -> tuple[Key, str] | None:
    """A key that a file of the project declares, and what chooses that; None where none does."""
    having = [name for kind, name in _declaring(key) if key in keys(kind, name)]
    if not having:
        return None
    kind = _declaring(key)[0][0]
    return keys(kind, having[0])[key], choosing(kind, having)


def implied(context: str, dynamic: str, classifier: str, *, slowed: bool) -> dict[str, bool]:
    """Which methods the keys of all experiments stand for, in the order of their work."""
    return {
        "contexts": context != "none",
        "grow": dynamic == "grow",
        "rewire": dynamic in ("set", "rigl"),
        "old_synapses": slowed,
        **{name: classifier == name for name in HEADS},
    }


@cache
def _declaring(key: str) -> list[tuple[Kind, str]]:
    """The files of the project that declare a key, none of which is run for it: methods need torch,
    which takes a second."""
    return [(k, name) for k in KINDS for name, text in _texts(k).items() if f'"{key}": ' in text]


def chosen_by(key: str, texts: Mapping[str, str]) -> bool:
    """Whether a configuration, as texts, chooses one of the files that declare a key; of a key that
    no file of the project declares it does. Nothing is run for it."""
    having = _declaring(key)
    slowed = texts.get("old_synapse_lr", "1.0") != "1.0"
    named = [texts.get(key, "") for key in ("context", "dynamic", "classifier")]
    chosen = implied(*(text or "none" for text in named), slowed=slowed)
    return not having or any(
        chosen.get(name) or name in re.split(", *", texts.get(kind.key, ""))
        for kind, name in having
    )


def choosing(kind: Kind, names: list[str]) -> str:
    """What a key of these plug-ins counts with."""
    return IMPLIED.get(names[0], f"{kind.key} = {' or '.join(names)}")


def declared() -> Iterator[tuple[Kind, str, Key, str]]:
    """Every key that a file of the project declares, and what chooses it, kind after kind."""
    for kind in KINDS:
        by_key: dict[str, list[str]] = {}
        for name in kind.names:
            for key in keys(kind, name):
                by_key.setdefault(key, []).append(name)
        for key, having in by_key.items():
            yield kind, key, keys(kind, having[0])[key], choosing(kind, having)


def call(kind: Kind, value: str, name: str, *args: Any) -> Any:
    """What a function of a plug-in's file returns. PluginError where it has none of this name."""
    function = getattr(load(kind, value), name, None)
    if function is None:
        raise PluginError(f"{shown(value, 400)}: it has no function {name}")
    with blamed(value):
        return function(*args)


def said(kind: Kind, value: str, name: str, *args: Any) -> Any:
    """The same, and None where its file has no function of this name."""
    return call(kind, value, name, *args) if hasattr(load(kind, value), name) else None


def findings(plug_ins: list[tuple[Kind, str]], name: str, *args: Any) -> Findings:
    """What functions of this name in their files yield, where they have one."""
    for kind, value in plug_ins:
        function = getattr(load(kind, value), name, None)
        if function is not None:
            with blamed(value):
                found = [
                    ((keys,) if isinstance(keys, str) else keys, str(reason))
                    for keys, reason in function(*args)
                ]
            yield from found


@contextmanager
def blamed(value: str) -> Iterator[None]:
    """An error that a user's file makes, and nobody thought of, becomes a PluginError that names
    the line."""
    try:
        yield
    except (Told, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if not is_path(value) or "out of memory" in str(error):
            raise
        raise PluginError(told(error, str(path(value)))) from error


def taken(key: str, value: str) -> PluginError:
    """Two definitions of one key."""
    return PluginError(f"{shown(value, 400)}: there is a key {quoted(key)} already; rename it")
