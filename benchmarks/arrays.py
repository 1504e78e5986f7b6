"""Data of a user's own: the arrays of an npz file, or a folder of pictures (docs/data.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks import own_file
from benchmarks.digest import of_arrays
from benchmarks.formats import DataError
from benchmarks.own_file import Known, Where
from benchmarks.own_tasks import ROTATION_MAX, TASKS, facts_of, make_tasks
from exps.facts import Facts, Findings
from exps.keys import Key, When
from exps.kinds import Folder, Number, OrNone, Several, Whole
from exps.paths import path

if TYPE_CHECKING:
    from benchmarks.stream import TaskStream
    from exps.config import Experiment


DATA_DIR = False  # nothing is looked for there


def _known(exp: Experiment) -> Known | None:
    """What is known of its data; None where they cannot be used, or none are named."""
    try:
        return own_file.look(where(exp)) if exp.data_file else None
    except DataError:
        return None


def _alone(exp: Experiment) -> bool:
    known = _known(exp)
    return known is None or known.alone


KEYS = {
    "data_file": Key(
        None,
        OrNone(Folder()),
        "an npz file with x_train, y_train, x_test and y_test, or with x and y, or a folder with a "
        "folder of pictures for every class (docs/data.md)",
        tests=True,
    ),
    "tasks": TASKS,
    "rotation_max": ROTATION_MAX,
    "test_share": Key(
        0.2,
        Number(0, 1, above=True, below=True),
        "share of the pictures of every class that are tested on, the same ones with every seed",
        When("a data_file without test pictures", _alone),
        tests=True,
    ),
    "picture_size": Key(
        0,
        Whole(0, 4096, "pixels"),
        "of a side, to which pictures are brought, whatever their shape; 0: they are taken as they "
        "are, and must be of one size",
        When(
            "a data_file that is a folder",
            lambda e: e.data_file is None or path(e.data_file).is_dir(),
        ),
        tests=True,
    ),
    "data_mean": Key(
        (),
        Several(Number(-1e30, 1e30)),
        "what is taken off the numbers, one for all channels or for each, of uint8 on a scale of 0 "
        "to 1; none: their mean in the first task's training pictures, of features each feature's",
    ),
    "data_std": Key(
        (),
        Several(Number(0, 1e30, above=True)),
        "what they are divided by then; none: their deviation there",
    ),
}


def where(exp: Experiment) -> Where:
    """Its data, as `own_file` has it."""
    return Where(path(exp.data_file), exp.test_share, exp.picture_size)


def facts(exp: Experiment) -> Facts:
    """What the file says; of one that cannot be used, nothing: then `absent` says why."""
    known = _known(exp)
    if known is None:
        return facts_of(exp, (1, 1, 1), 1000, 1000, 1000)
    classes = len(known.labels)
    return facts_of(exp, known.picture, classes, known.pictures, known.tested, floats=known.floats)


def absent(exp: Experiment) -> Findings:
    """Why there are no data."""
    if exp.data_file is None:
        yield (
            ("benchmark", "data_file"),
            "benchmark = arrays is for data of your own, and none are named: set data_file to an"
            " npz file or a folder of pictures (docs/data.md)",
        )
        return
    try:
        own_file.look(where(exp))
    except DataError as error:
        what, why, remedy = str(error).split("\n")
        on_one_line = f"{what}: {why.partition(': ')[2]}; {remedy.partition(': ')[2]}"
        yield ("data_file", "benchmark"), on_one_line


def contradictions(exp: Experiment) -> Findings:
    """What does not fit the data."""
    known = _known(exp)
    assert known is not None, "absent comes first"
    channels, _, number = known.picture
    if exp.tasks == "rotate" and known.features:
        yield ("tasks", "data_file"), "features cannot be turned; choose tasks = split or permute"
    if exp.augment != "none" and known.features:
        yield ("augment", "data_file"), "features cannot be moved; choose augment = none"
    each, of = (number, "features") if known.features else (channels, "channels")
    for key in ("data_mean", "data_std"):
        if len(getattr(exp, key)) not in (0, 1, each):
            count = len(getattr(exp, key))
            yield (
                (key, "data_file"),
                f"{key} has {count} numbers; give one, or one for each of the {each} {of}",
            )
        if not known.floats and (far := [x for x in getattr(exp, key) if not 0 <= x <= 1]):
            yield (
                (key, "data_file"),
                f"grey levels are on a scale of 0 to 1 here, and {far[0]:g} is not; divide what is "
                "on one of 0 to 255 by 255",
            )


def data_digest(exp: Experiment) -> str:
    """That of its data (`benchmarks.digest`), without torch."""
    return own_file.digest(where(exp))


def make_stream(exp: Experiment) -> TaskStream:
    """Tasks of the data, as exp.tasks says. Raises DataError where they cannot be read."""
    arrays, known = own_file.read(where(exp))
    stream = make_tasks(
        exp,
        arrays,
        facts(exp),
        kind="classes",
        labels=known.labels,
        mean=exp.data_mean,
        std=exp.data_std,
    )
    return replace(stream, data=of_arrays(arrays, known.labels))
