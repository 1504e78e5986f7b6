"""The keys explained from their definition: as text for the terminal, as a table for README."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import replace

from exps import plugins
from exps.experiment import KEYS, LIKE
from exps.keys import Key
from exps.kinds import Line, as_text
from exps.messages import ConfigError, did_you_mean, quoted

WIDTH = 92  # characters of a line
# What other programs call a key.
ELSEWHERE = {
    **dict.fromkeys(("batch_size", "train_batch_size", "train_mb_size", "batch", "bs"), "mb_size"),
    **dict.fromkeys(("learning_rate", "step_size", "eta"), "lr"),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "train_epochs"), "train_ep"),
    **dict.fromkeys(("iters", "iterations", "steps", "max_steps"), "train_steps"),
    **dict.fromkeys(("n_tasks", "num_tasks", "n_experiences"), "num_batch"),
    **dict.fromkeys(("hidden", "hidden_size", "hidden_dim", "width"), "hidden_units"),
    **dict.fromkeys(("layers", "n_layers", "num_layers", "depth"), "hidden_layers"),
    **dict.fromkeys(("arch", "backbone", "network", "net"), "model"),
    **dict.fromkeys(("dataset", "data_set"), "benchmark"),
    **dict.fromkeys(("strategy", "algorithm", "plugins"), "methods"),
    **dict.fromkeys(("memory_size", "mem_size", "budget"), "buffer_size"),
    **dict.fromkeys(("ewc_lambda", "e_lambda"), "ewc_strength"),
    **dict.fromkeys(("si_lambda", "si_c"), "si_strength"),
    **dict.fromkeys(("wd", "l2"), "weight_decay"),
    **dict.fromkeys(("grad_clip", "max_grad_norm", "clip_grad_norm"), "clip_norm"),
    **dict.fromkeys(("val_split", "valid", "val"), "validation"),
    **dict.fromkeys(("amp", "dtype", "mixed_precision"), "precision"),
    **dict.fromkeys(("k", "percent_on", "winners"), "percent_on_fc"),
    **dict.fromkeys(("sparsity", "weight_sparsity", "connectivity"), "weight_sparsity_fc"),
}
# What can stand in a section besides.
LINES = {
    LIKE: Key(
        "",
        Line("the name of a section of the same file"),
        "the section that this one starts from: what is not set here has the value that it has "
        "there, but for what is not inherited",
    )
}


def explain(key: str | None = None, own: dict[str, Key] | None = None) -> str:
    """What a key is, as plain text, or a method, network, optimiser or benchmark of the project,
    with its own keys; without a key, all keys. ConfigError for what there is not.

    own: keys of an experiment, which may be of users' files.
    """
    keys = KEYS if key in KEYS else {**(own or {}), **all_keys(), **LINES}
    if key is None:
        return "\n\n".join(_paragraph(name, k) for name, k in keys.items())
    if key in keys:
        return _paragraph(key, keys[key])
    kinds = {name: kind for kind in plugins.KINDS for name in kind.names}
    if key in kinds:
        return _file(kinds[key], key, keys)
    raise ConfigError(no_key(key, [*keys, *kinds]))


def no_key(name: str, names: Iterable[str]) -> str:
    """That there is no such key, and which of these names may be meant."""
    names = set(names)
    meant = ELSEWHERE.get(name.lower(), "")
    guess = f"; did you mean '{meant}'?" if meant in names else did_you_mean(name, names)
    return f"there is no key {quoted(name)}{guess} (--explain lists them all)"


def _file(kind: plugins.Kind, name: str, keys: Mapping[str, Key]) -> str:
    """What chooses a file of the project, what it says of itself, and its keys."""
    about = inspect.cleandoc(plugins.load(kind, name).__doc__ or "")
    paragraphs = [textwrap.fill(part, WIDTH) for part in about.split("\n\n")]
    own = [_paragraph(key, keys[key]) for key in plugins.keys(kind, name)]
    return "\n\n".join([plugins.choosing(kind, [name]), *paragraphs, *own])


def all_keys() -> dict[str, Key]:
    """Every key that the project has, those that a file declares behind the key that names it."""
    found: dict[str, Key] = {}
    declared = list(plugins.declared())
    for name, key in KEYS.items():
        found[name] = key
        for kind, own, its, choosing in declared:
            if kind.key == name:
                also = f" and {its.when.text}" if its.when.text else ""
                found[own] = replace(its, when=replace(its.when, text=choosing + also))
    return found


def markdown_table() -> str:
    """README's table of all keys, as Markdown without a line end."""
    rows = [
        "| key | value | default | meaning | counts only with |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, key in all_keys().items():
        default = f"`{as_text(key.default)}`" if key.default != "" else ""
        cells = (f"`{name}`", key.kind.expects, default, key.meaning, key.when.text)
        rows.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(rows)


def _paragraph(name: str, key: Key) -> str:
    lines = [f"{name} = {as_text(key.default)}".rstrip()]
    facts = [key.meaning, f"value: {key.kind.expects}"]
    if key.when.text:
        facts.append(f"counts only with {key.when.text}")
    for fact in facts:
        lines += textwrap.wrap(fact, WIDTH, initial_indent="    ", subsequent_indent="      ")
    return "\n".join(lines)
