"""From a section of a configuration file to a typed, checked `Experiment`.

Nothing behind this module sees a parser or casts a value. It imports no torch, so that `--help` and
`--list` answer at once; methods do, where a section has any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from exps import plugins
from exps.experiment import ABOUT, KEYS, LIKE, REPEATS, Experiment, definition
from exps.keys import Key
from exps.kinds import Value, as_text
from exps.lineage import places
from exps.manual import all_keys, explain, markdown_table, no_key
from exps.messages import ConfigError, all_of, did_you_mean, quoted, shown, shown_path
from exps.reader import Entry, Sections, parse_override, read
from exps.rules import Finding, absent, contradictions, doubts, never_due, usual_steps

__all__ = [
    "ABOUT",
    "DEFAULT_FILE",
    "KEYS",
    "ConfigError",
    "Experiment",
    "as_dict",
    "as_text",
    "check",
    "explain",
    "from_texts",
    "load",
    "markdown_table",
    "never",
    "resolve",
    "sections",
    "warnings",
]

DEFAULT_FILE = Path(__file__).with_name("exps_params.cfg")


def load(
    name: str = "DEFAULT", path: Path | str = DEFAULT_FILE, overrides: Sequence[str | Entry] = ()
) -> tuple[Experiment, list[str]]:
    """The experiment of a section, and warnings about what might not be meant.

    Arguments and exceptions are those of `resolve`.
    """
    resolved = resolve(name, path, overrides)
    return resolved.experiment, warnings([resolved], usual=False)


def never(exp: Experiment, steps: Sequence[int], picture: tuple[int, int, int]) -> list[str]:
    """What will not happen in a run whose tasks, one after the other, have so many steps an epoch,
    with pictures of this shape; `warnings` tell it of the usual pictures, this of those at hand."""
    return [
        f"[{shown(exp.name)}] {keys[0]} = {as_text(getattr(exp, keys[0], None))}: {reason}"
        for keys, reason in never_due(exp, steps, picture)
    ]


@dataclass(frozen=True)
class Resolved:
    """A section made into an experiment; own: what its user set for it, by key, not inherited;
    doubts: what might not be meant; never: what will not happen with as many pictures as usual.
    """

    experiment: Experiment
    own: Mapping[str, Entry]
    doubts: list[str]
    never: list[str]


def resolve(
    name: str,
    path: Path | str = DEFAULT_FILE,
    overrides: Sequence[str | Entry] = (),
    beside: Sequence[Entry] = (),
) -> Resolved:
    """The experiment of a section.

    overrides: `key=value` strings as --set takes them, or entries that say where else they were
    written; the last one of a key counts. What neither they nor the section nor those that it
    starts from (`exps.lineage`) set has the default of its definition. Raises ConfigError for the
    first fault in these; other sections are only parsed. beside: what other runs of the command
    have, whose files may have keys that do nothing in this one.
    """
    file = read(Path(path))
    _require_section(name, file, path)
    resolved, errors = _resolve(name, file, _entries(overrides), ours=_is_ours(path), beside=beside)
    if resolved is None:
        raise ConfigError(errors[0])
    return resolved


def warnings(found: Sequence[Resolved], *, usual: bool = True) -> list[str]:
    """What might not be meant in these experiments, each once: above all what is set for one and
    does nothing in it, nor in any other of them for which the same place sets it, nor in any other
    of the same section. usual: and what will not happen with as many pictures as usual."""
    useful: set[Entry | tuple[str, str]] = set()
    for one in found:
        for key, entry in one.own.items():
            if one.experiment.counts(key):
                useful |= {entry, (one.experiment.name, key)}

    def idle(one: Resolved) -> list[Entry]:
        own = one.own.items()
        return [e for k, e in own if e not in useful and (one.experiment.name, k) not in useful]

    return _once(
        text
        for one in found
        for text in (*_idle(one.experiment, idle(one)), *one.doubts, *(one.never if usual else ()))
    )


def from_texts(
    name: str,
    texts: Mapping[str, str],
    overrides: Sequence[str] = (),
    *,
    without_data: bool = False,
) -> Experiment:
    """The experiment with these values, as `as_text` writes them, checked like those of a file.

    overrides: as for `load`; without_data: nothing is to be trained, so data that are not there are
    no fault. Raises ConfigError.
    """
    values = {k: Entry(k, text, f"{shown(k)} = {quoted(text)}") for k, text in texts.items()}
    given = [parse_override(o) for o in overrides]
    if without_data:
        exp, errors = _experiment(name, (*values.values(), *given))
        if exp is not None and absent(exp):
            return exp
    resolved, errors = _resolve(name, {name: values}, given)
    if resolved is None:
        raise ConfigError(errors[0])
    return resolved.experiment


def sections(path: Path | str = DEFAULT_FILE) -> dict[str, str]:
    """The sections of a file, DEFAULT first, and their own descriptions ('' for those without)."""
    file = read(Path(path))
    names = sorted(file, key=lambda name: name != "DEFAULT")
    texts = {n: file[n]["description"].text if "description" in file[n] else "" for n in names}
    return {n: " ".join(text.split()) for n, text in texts.items()}


def check(
    path: Path | str = DEFAULT_FILE, names: Sequence[str] = (), overrides: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """Every fault in every section, or in those of `names`, with what overrides them, and every
    warning of those that can be run."""
    try:
        file, given = read(Path(path)), _entries(overrides)
        for name in names:
            _require_section(name, file, path)
    except ConfigError as e:
        return [str(e)], []
    ours = _is_ours(path)
    found = [_resolve(name, file, given, ours=ours) for name in names or file]
    errors = _once(error for _, errors in found for error in errors)
    return errors, warnings([resolved for resolved, _ in found if resolved is not None])


def _is_ours(path: Path | str) -> bool:
    """Whether this is the configuration file that comes with the project."""
    return Path(path).resolve() == DEFAULT_FILE.resolve()


def _entries(overrides: Sequence[str | Entry]) -> list[Entry]:
    return [o if isinstance(o, Entry) else parse_override(o) for o in overrides]


def _require_section(name: str, file: Sections, path: Path | str) -> None:
    if name not in file:
        guess = did_you_mean(name, file) or ";"
        raise ConfigError(
            f"{shown_path(Path(path))}: there is no section [{shown(name)}]{guess}"
            f" choose with --name: {', '.join(map(shown, file)) or 'it has none'}"
        )


def as_dict(exp: Experiment) -> dict[str, Any]:
    """The name and every key with its value, in plain Python."""
    return {name: getattr(exp, name) for name in ("name", *exp.keys)}


def _resolve(
    name: str,
    file: Sections,
    given: Sequence[Entry] = (),
    *,
    ours: bool = False,
    beside: Sequence[Entry] = (),
) -> tuple[Resolved | None, list[str]]:
    """A section made into an experiment, or all errors that say why not.

    ours: the file is the project's own. What its lines do not do is then the user's affair only
    where they do nothing without `given` either, in a section that was added.
    """
    try:
        set_by = places(name, file)
    except ConfigError as error:
        return None, [str(error)]
    entries, section = [e for place in set_by for e in place], set_by[-1]

    exp, errors = _experiment(name, (*entries, *given), beside)
    if exp is None:
        return None, errors
    said = _Said(name, *set_by, given)
    errors = [said.at(finding) for finding in (*_left_out(exp, said), *contradictions(exp))]
    if errors:
        return None, errors
    # What the section is without `given`; it need not be anything that can be.
    alone = (_experiment(name, entries)[0] if given else None) or exp
    exp = replace(exp, changed=_changed(alone, given, exp))
    own = [e for e in section if not (ours and alone.counts(e.key))]
    return Resolved(
        exp,
        {e.key: e for e in (*own, *given)},
        [said.at(finding) for finding in doubts(exp)],
        [said.at(finding) for finding in never_due(exp, usual_steps(exp))],
    ), []


def _experiment(
    name: str, entries: Sequence[Entry], beside: Sequence[Entry] = ()
) -> tuple[Experiment | None, list[str]]:
    """What these entries make, or why not. What all experiments have comes first: it says which
    plug-ins there are, whose keys the others are."""
    values: dict[str, Any] = {}
    errors: dict[Entry, str] = {}

    def take(entry: Entry, definition: Key) -> None:
        try:
            values[entry.key] = _value(entry, definition)
        except ConfigError as e:
            errors[entry] = str(e)

    for entry in entries:
        if entry.key in KEYS:
            take(entry, KEYS[entry.key])
    try:
        exp = Experiment(name=name, **({} if errors else values))
    except plugins.PluginError as error:
        named = [e for e in entries if e.key in plugins.KEYS and plugins.is_path(e.text)]
        return None, [f"{named[-1].written}: {error}" if named else str(error)]
    for entry in entries:
        if entry.key not in KEYS:
            found = exp.keys.get(entry.key) or definition(entry.key)
            found = found or _beside(entry.key, (*entries, *beside))
            if found is None or entry.key == LIKE:
                errors[entry] = f"{entry.written}: {_no_key(entry.key, exp)}"
            else:
                take(entry, found)
    if errors:
        return None, [errors[entry] for entry in entries if entry in errors]
    return Experiment(name=name, **{k: v for k, v in values.items() if k in exp.keys}), []


def _no_key(name: str, exp: Experiment) -> str:
    """Why an experiment cannot have a value of this name."""
    if name == LIKE:
        return "only a section of a file is like another one; choose it with --name, or write one"
    return no_key(name, {*all_keys(), *exp.keys, LIKE})


def _beside(key: str, entries: Sequence[Entry]) -> Key | None:
    """A key of a user's file that is named somewhere, and not chosen here: it does nothing."""
    for kind in plugins.KINDS:
        for text in (text for e in entries if e.key == kind.key for text in e.text.split(",")):
            with contextlib.suppress(ValueError, plugins.PluginError):
                value = plugins.One(kind).parse(text.strip())
                if plugins.is_path(value) and key in plugins.keys(kind, value):
                    return plugins.keys(kind, value)[key]
    return None


def _left_out(exp: Experiment, said: _Said) -> Iterator[Finding]:
    """Methods, and a number of tasks, that are named and that what else is set does not let be."""
    entry = said.entry("methods")
    named = KEYS["methods"].kind.parse(entry.text) if entry else ()
    assert isinstance(named, tuple)
    for name in named:
        if name not in exp.all_methods:
            yield ("methods",), f"{name} needs {plugins.IMPLIED[str(name)]}"
    entry = said.entry("num_batch", "classes_per_task")
    if entry and entry.key == "num_batch" and int(entry.text) != exp.num_batch:
        count = len(exp.classes_per_task)
        yield ("num_batch",), f"classes_per_task names {count} tasks: set num_batch = {count}"


def _changed(alone: Experiment, given: Sequence[Entry], exp: Experiment) -> tuple[str, ...]:
    """The keys given whose values are not the section's, where an accuracy may depend on them.

    None where the accuracy that is expected is given as well: it is expected of just this run.
    """
    keys = dict.fromkeys(entry.key for entry in given)
    if "expected_acc" in keys:
        return ()
    return tuple(
        key
        for key in keys
        if key not in REPEATS and exp.counts(key) and getattr(alone, key, None) != getattr(exp, key)
    )


def _value(entry: Entry, definition: Key) -> Value:
    """The typed value of an entry."""
    try:
        return definition.kind.parse(entry.text)
    except ValueError as e:
        hint = ""
        if "\n" in entry.text:
            hint = " (an indented line continues the value above it)"
        elif entry.text[:1] in ("'", '"'):
            hint = " (values are written without quotation marks)"
        raise ConfigError(f"{entry.written}: {e}{hint}") from None


class _Said:
    """Which entry set each key of an experiment, for messages about it."""

    def __init__(self, name: str, *places: Iterable[Entry]) -> None:
        """places: where keys are set, the one that counts most last."""
        self._name = name
        self._places = [{e.key: e for e in entries} for entries in reversed(places)]

    def entry(self, *keys: str) -> Entry | None:
        """The first of these keys that is set in the nearest place that sets any."""
        return next((said[k] for said in self._places for k in keys if k in said), None)

    def at(self, finding: Finding) -> str:
        """The finding, at the first of its keys that is set."""
        keys, reason = finding
        entry = self.entry(*keys)
        return f"{entry.written if entry else f'[{shown(self._name)}]'}: {reason}"


def _idle(exp: Experiment, idle: Sequence[Entry]) -> Iterator[str]:
    """A warning that names all of these, which do nothing, if there are any."""
    if not idle:
        return
    first, *others = (entry.key for entry in idle)
    nor = f" (nor {'do' if len(others) > 1 else 'does'} {all_of(others)})" if others else ""
    counts = "they count" if others else "it counts"
    reason = exp.why_idle(first)
    text = f"{idle[0].written}: does nothing here{nor}; {counts} only with {reason}"
    for other in dict.fromkeys(exp.why_idle(name) for name in others):
        if other != reason:
            names = [name for name in others if exp.why_idle(name) == other]
            text += f"; {all_of(names)} only with {other}"
    yield text


def _once(messages: Iterable[str]) -> list[str]:
    """Each message once: what is wrong in a section is wrong in every one that inherits it."""
    return list(dict.fromkeys(messages))
