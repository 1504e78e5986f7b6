"""The experiment, made of its keys (`exps.definitions`) and those of the files that it names."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any

from exps import plugins
from exps.definitions import CHANGING_FILTERS, Keys
from exps.facts import Facts, Layer, Shape
from exps.keys import Key
from exps.kinds import File, Folder, Line, Value
from exps.plugins import BENCHMARK, HEADS, IMPLIED, METHOD, MODEL, OPTIMIZER, One, Some

PART = "part_of"  # of a method's file: how many of so many units a task has


@dataclass(frozen=True)
class Experiment(Keys):
    """One experiment, typed and complete.

    `scenario` never holds auto: that is resolved when the record is made. `changed` names the keys
    that the command line set to another value than the section's, of those that can change the
    accuracy; `own` are the keys of its plug-ins.
    """

    changed: tuple[str, ...] = field(default=(), compare=False)
    own: tuple[tuple[str, Value], ...] = ()

    def __init__(self, name: str, **values: Any) -> None:
        """Of the keys that are not given, the defaults. Those of plug-ins that are not chosen are
        dropped; TypeError for one that there is nowhere, PluginError for a file that is none.
        """
        mine = self.__dict__  # frozen: this is the only place that writes
        mine |= _DEFAULTS | {"name": name}
        own = dict(values.pop("own", ()))
        for key, value in values.items():
            (mine if key in _DEFAULTS else own)[key] = value
        # One spelling of what has two.
        if self.cnn and self.model == "mlp":
            mine["model"] = "cnn"
        mine["cnn"] = self.model == "cnn"
        if "contexts" in self.methods and self.context == "none":
            mine["context"] = "prototype"
        if "grow" in self.methods and self.dynamic == "none":
            mine["dynamic"] = "grow"
        if self.classifier == "softmax":
            mine["classifier"] = next((m for m in HEADS if m in self.methods), "softmax")
        other = {"grow"} if self.dynamic in ("set", "rigl") else {}  # which a rule refuses
        mine["methods"] = tuple(m for m in self.methods if m not in IMPLIED or m in other)
        declared = {k: key for k, key in self.keys.items() if k not in KEYS}
        for foreign in values.keys() - _DEFAULTS.keys() - declared.keys():
            if plugins.elsewhere(foreign) is None:
                raise TypeError(f"there is no key {foreign!r}")
        mine["own"] = tuple((k, own.get(k, key.default)) for k, key in declared.items())
        if self.scenario == "auto":
            mine["scenario"] = self.facts.scenario
        if self.classes_per_task and self.facts.split:
            mine["num_batch"] = len(self.classes_per_task)

    def __getattr__(self, name: str) -> Any:
        """The value of a key that one of its plug-ins declares."""
        if hasattr(type(self), name):  # a property that has failed, by an AttributeError
            return object.__getattribute__(self, name)
        for key, value in self.__dict__.get("own", ()):
            if key == name:
                return value
        raise AttributeError(f"no file that this experiment is made of declares a key {name}")

    @property
    def all_methods(self) -> tuple[str, ...]:
        """The methods, those that keys of their own stand for first, in the order of their work."""
        return self.in_effect._methods

    @property
    def _methods(self) -> tuple[str, ...]:
        on = plugins.implied(
            self.context, self.dynamic, self.classifier, slowed=self.old_synapse_lr < 1
        )
        found = [name for name, holds in on.items() if holds]
        if {*found} - {*HEADS}:  # what changes is counted, before anything grows older
            found.insert(0, "census")
        names = (*found, *(m for m in self.methods if m not in found))
        # A task's part of the network is chosen before anything is done with it.
        return tuple(sorted(names, key=lambda m: not hasattr(plugins.load(METHOD, m), PART)))

    @property
    def parts(self) -> dict[str, Experiment]:
        """The methods that give every task a part of the network, and of what experiment that would
        be the whole: of its units as many win. {} where all units are every task's."""
        exp, names = self.in_effect, self.all_methods
        having = [name for name in names if hasattr(plugins.load(METHOD, name), PART)]
        return {name: exp._part(name) for name in having}

    @property
    def part(self) -> Experiment:
        """Of what experiment the network of one task is the whole: of itself, without parts."""
        return next(iter(self.parts.values()), self)

    def _part(self, method: str) -> Experiment:
        changed: dict[str, Any] = {"methods": (), "context": "none"}
        for key, share in self.widths.items():
            units = getattr(self, key)
            size = plugins.whole(method, PART, plugins.call(METHOD, method, PART, self, units))
            size = min(max(size, 1), units)  # any other is refused
            changed[key] = size
            if share:
                changed[share] = min(round(units * getattr(self, share)), size) / size
        return replace(self, **changed)

    @property
    def _chosen(self) -> tuple[tuple[plugins.Kind, str], ...]:
        methods = ((METHOD, name) for name in self._methods)
        return (
            (BENCHMARK, self.benchmark),
            (MODEL, self.model),
            *methods,
            (OPTIMIZER, self.optimizer),
        )

    @property
    def plug_ins(self) -> list[tuple[plugins.Kind, str]]:
        """Its benchmark, its network, its methods and its optimiser, by kind and name."""
        return list(self.in_effect._chosen)

    @cached_property
    def keys(self) -> dict[str, Key]:
        """Every key that it has: those of all experiments, each of its plug-ins' behind the one
        that names the plug-in."""
        chosen = self._chosen
        own = any(plugins.is_path(value) for _, value in chosen)
        return _keys(chosen) if own else _known_keys(chosen)

    @cached_property
    def in_effect(self) -> Experiment:
        """The same run with every key that does nothing in it at its default.

        Streams, networks, engines and training are made from this alone: so the value of a key
        whose `when` does not hold cannot change a number, whatever it is.
        """
        lacks = self.lacks
        idle: dict[str, Any] = {
            name: definition.default
            for name, definition in self.keys.items()
            if not (definition.when.holds(self) and name not in lacks)
            and getattr(self, name) != definition.default
        }
        return replace(self, **idle).in_effect if idle else self

    @property
    def learning(self) -> str:
        """When the network learns, as `features` has it; a classifier of its own always does."""
        return self.features if self.classifier != "softmax" else "trained"

    @property
    def unusual(self) -> str:
        """The first of the keys that engines know alone which compute whole gradients of whole
        pictures, and that is set; '' where none is."""
        changed = (k for k in UNUSUAL if getattr(self, k) != KEYS[k].default)
        return next((k for k in changed if self.counts(k)), "")

    def steps(self, task: int, epoch: int) -> int:
        """For how many steps a task (from 0) is trained, `epoch` of them an epoch."""
        if self.learning == "random" or (task and self.learning == "first"):
            return 0
        given = self.train_steps if task == 0 else self.train_steps_inc
        return given or epoch * (self.train_ep if task == 0 else self.train_ep_inc)

    def counts(self, key: str) -> bool:
        """Whether this key does anything in this experiment."""
        exp = self.in_effect
        return key in exp.keys and exp.keys[key].when.holds(exp) and key not in exp.lacks

    def why_idle(self, key: str) -> str:
        """What a key counts with that does nothing in it: completes 'counts only with ...'."""
        if key in self.lacks:
            return f"a model other than {self.model}"
        keys = self.in_effect.keys
        if key in keys:
            return keys[key].when.text
        definition, choosing = plugins.elsewhere(key) or (None, "the file that declares it")
        also = definition.when.text if definition else ""
        return f"{choosing} and {also}" if also else choosing

    @property
    def facts(self) -> Facts:
        """What its benchmark says of itself."""
        found = plugins.call(BENCHMARK, self.benchmark, "facts", self)
        if not isinstance(found, Facts):
            raise plugins.unlike(self.benchmark, "facts", "exps.facts.Facts", found)
        return found

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many classes each task has."""
        facts = self.facts
        if facts.split and self.classes_per_task:
            return self.classes_per_task
        return (facts.task_classes,) * self.num_batch

    @property
    def dataset(self) -> Any:
        """The data set (`benchmarks.formats.Dataset`) whose pictures its benchmark takes as they
        are, which one of several `dataset_of` says there; None where it has others."""
        found = plugins.said(BENCHMARK, self.benchmark, "dataset_of", self)
        return found or getattr(plugins.load(BENCHMARK, self.benchmark), "DATASET", None)

    def uses(self, key: str) -> bool:
        """Whether its network uses one of the keys that some networks have; one that does not say
        which uses all."""
        used = getattr(plugins.load(MODEL, self.model), "USES", None)
        return used is None or key in used

    @property
    def lacks(self) -> tuple[str, ...]:
        """The keys of all experiments that its network has nothing to do with."""
        return getattr(plugins.load(MODEL, self.model), "LACKS", ())

    @property
    def has_hidden(self) -> bool:
        """Whether there are fully connected hidden layers."""
        return "hidden_units" not in self.lacks

    @property
    def groups(self) -> tuple[int, ...]:
        """How many units each group of units of its network has: see `models.network.Wire`; ()
        where its file says nothing of them."""
        found = plugins.said(MODEL, self.model, "groups", self)
        if found is not None and not isinstance(found, tuple | list):
            raise plugins.unlike(self.model, "groups", "a tuple of numbers of units", found)
        return tuple(plugins.whole(self.model, "groups", n) for n in found or ())

    @property
    def widths(self) -> dict[str, str | None]:
        """The keys that the groups are in proportion to, and of each the one that says how large a
        share of these units wins; None: there is no such share."""
        found: dict[str, str | None] = getattr(plugins.load(MODEL, self.model), "WIDTHS", {})
        for key in (*found, *filter(None, found.values())):
            value = getattr(self, key, None)
            number = int if key in found else int | float
            if not isinstance(value, number) or isinstance(value, bool):
                kind = "a whole number" if key in found else "a number"
                why = f"WIDTHS names {key!r}, and there is no such key whose value is {kind}"
                raise plugins.PluginError(f"{self.model}: {why}")
        return found

    @property
    def filters_change(self) -> bool:
        """Whether the synapses of convolutions grow or move too."""
        return CHANGING_FILTERS.holds(self) and self.initial_density_conv < 1

    @property
    def densities(self) -> tuple[str, str]:
        """The keys that say which part of the weights fully connected layers and convolutions
        begin with."""
        return (
            "weight_sparsity_fc" if self.dynamic == "none" else "initial_density_fc",
            "initial_density_conv" if self.filters_change else "weight_sparsity_conv",
        )

    @property
    def fully_connected(self) -> bool:
        """Whether its network has fully connected hidden layers alone, from the pictures on."""
        return getattr(plugins.load(MODEL, self.model), "FULLY_CONNECTED", False)

    def layers(self, picture: Shape) -> list[Layer] | None:
        """The hidden layers that its network has for such pictures, None where it does not say.

        Raises ValueError where it cannot have any.
        """
        describe = getattr(plugins.load(MODEL, self.model), "layers", None)
        return None if describe is None else list(describe(self, picture))

    def layers_for(self, picture: Shape | None = None) -> list[Layer] | None:
        """The same for these pictures, or the usual ones; None also where there can be none."""
        try:
            return self.in_effect.layers(picture or self.facts.picture)
        except ValueError:
            return None

    def __reduce__(self) -> Any:
        """For other processes: what is cached stays here."""
        return _again, ({f.name: getattr(self, f.name) for f in fields(self)},)


def _again(values: dict[str, Any]) -> Experiment:
    return Experiment(**values)


KEYS: dict[str, Key] = {
    f.name: f.metadata["key"] for f in fields(Experiment) if "key" in f.metadata
}


def _keys(chosen: tuple[tuple[plugins.Kind, str], ...]) -> dict[str, Key]:
    """Those of all experiments, and of these plug-ins. Raises PluginError where two declare one."""
    declared: dict[str, tuple[Key, plugins.Kind]] = {}
    for kind, value in chosen:
        for name, key in plugins.keys(kind, value).items():
            known = hasattr(Experiment, name) or name in ("name", LIKE)
            if known or declared.get(name, (key,))[0] != key:
                raise plugins.taken(name, value)
            declared[name] = key, kind
    found: dict[str, Key] = {}
    for name, key in KEYS.items():
        found[name] = key
        found |= {own: its for own, (its, kind) in declared.items() if kind.key == name}
    return found


_known_keys = cache(_keys)  # of the project's files, which do not change


def definition(key: str) -> Key | None:
    """That of a key of all experiments, or of a file of the project; None where there is none."""
    return KEYS.get(key) or (plugins.elsewhere(key) or (None, ""))[0]


_DEFAULTS = {f.name: f.default for f in fields(Experiment) if f.name != "name"}

# Keys whose value is text: in it # and ; are characters like any other.
TEXTS = (
    *(name for name, k in KEYS.items() if isinstance(k.kind, Line | Folder | File | One | Some)),
    "data_file",
)

# Keys that tell about a section, which alone has them: other sections do not inherit them.
ABOUT = ("description", "expected_acc", "expected_tol", "expected_source")

# What engines do without that compute only what is active, or many networks at once.
UNUSUAL = ("augment", "lr_schedule", "lr_warmup", "clip_norm", "label_smoothing")

# No key, but the line of a section that names the one it starts from.
LIKE = "like"

# Where data are. These are a part of what a run is, by their digest (`benchmarks.digest`).
PLACES = ("data_dir", "data_file")

# Keys that change no number, and so are no part of what a run is.
FREE = ("checkpoint_every", "keep_weights", *PLACES, *ABOUT)

# Keys that an expected accuracy does not depend on: another run of the same experiment.
REPEATS = (
    *ABOUT,
    *("seed", "device", "engine", "precision", "data_dir"),
    *("eval_tasks", "eval_every", "eval_pictures", "record", "record_stats", "checkpoint_every"),
    "keep_weights",
)
