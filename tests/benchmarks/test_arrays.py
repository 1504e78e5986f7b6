"""The benchmarks arrays and digits: units, tasks, scenarios and what rules know of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import digits, make_stream
from benchmarks.digest import of_experiment
from benchmarks.formats import DataError
from benchmarks.own_tasks import moments
from exps import config
from exps.experiment import Experiment
from exps.rules import contradictions, doubts

DRAW = np.random.default_rng(0)
WORDS = np.array(["ant", "bee", "cat", "dog", "emu", "fox"])
Y = np.arange(60) % 6
X = DRAW.integers(0, 256, (60, 4, 5, 3), dtype=np.uint8)
FEATURES = DRAW.normal(3, 2, (60, 7)).astype(np.float32)


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """An experiment on these arrays, which are tested on too."""

    def own(x: Any = X, y: Any = Y, **keys: Any) -> Experiment:
        path = tmp_path / "own.npz"
        np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
        values = {"benchmark": "arrays", "data_file": str(path), "num_batch": 3} | keys
        return Experiment(name="Own", **values)

    return own


def test_tasks_have_the_names_of_their_classes(own: Any) -> None:
    assert [t.name for t in make_stream(own()).tasks] == [
        "classes 0, 1",
        "classes 2, 3",
        "classes 4, 5",
    ]
    stream = make_stream(own(y=WORDS[Y], class_order=(5, 0, 1, 2, 3, 4)))
    assert [task.name for task in stream.tasks] == ["fox, ant", "bee, cat", "dog, emu"]
    assert make_stream(own(y=Y * 10 - 7)).tasks[0].name == "-7, 3"


@pytest.mark.parametrize(
    ("scenario", "heads"), [("task", (3, 2)), ("domain", (3,)), ("class", (5,))]
)
def test_uneven_tasks_in_every_scenario(own: Any, scenario: str, heads: tuple[int, ...]) -> None:
    exp = own(scenario=scenario, classes_per_task=(3, 2))
    assert exp.num_batch == 2 and exp.sizes == (3, 2)
    assert list(contradictions(exp)) == []
    [(keys, why)] = doubts(exp)
    assert keys == ("classes_per_task",) and why.startswith("1 of the 6 classes is in no task")
    stream = make_stream(exp)
    assert stream.head_sizes == heads
    assert [len(task.train) for task in stream.tasks] == [30, 20]
    assert (stream.targets >= 0).sum(1).tolist() == [3, 2]
    joint = make_stream(replace(exp, cumul=True))
    assert len(joint.training[0].train) == 50


@pytest.mark.parametrize("tasks", ["split", "permute", "rotate"])
@pytest.mark.parametrize("x", [X, X[..., 0], X[..., :1] / 7.0, X[..., 1] / 3.0])
def test_pictures_are_in_units_of_the_first_task(own: Any, tasks: str, x: Any) -> None:
    stream = make_stream(own(x, tasks=tasks))
    first = stream.tasks[0].train
    seen = stream.inputs(stream.train, first).double()
    assert len(first) == (20 if tasks == "split" else 60)
    if tasks != "permute":
        np.testing.assert_allclose(seen.mean((0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(seen.std((0, 2, 3), correction=0), 1, atol=1e-5)
    raw = torch.tensor(x / (255 if x.dtype == np.uint8 else 1)).reshape(60, 4, 5, -1)
    raw = raw.permute(0, 3, 1, 2)[first.rows]
    mean, std = raw.mean((0, 2, 3)), raw.std((0, 2, 3), correction=0)
    expected = (raw - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)
    if tasks == "permute":
        assert stream.permutations is not None
        order = stream.permutations[0][:20]
        expected = expected.flatten(2)[..., order].view_as(seen)
    np.testing.assert_allclose(seen, expected, atol=1e-4)


@pytest.mark.parametrize("tasks", ["split", "permute"])
def test_features_are_each_in_units_of_their_own(own: Any, tasks: str) -> None:
    """Also where they are moved; one that is always the same is no number divided by nothing."""
    x = FEATURES * 10.0 ** np.arange(-3, 4)
    x[:, 2] = 0.1
    stream = make_stream(own(x, tasks=tasks))
    assert stream.input_shape == (1, 1, 7) and stream.train.x.dtype == torch.float32
    task = stream.tasks[1]
    seen = stream.inputs(stream.train, task.train)[:, 0, 0].numpy()
    first = x[Y < 2] if tasks == "split" else x
    expected = (x - first.mean(0)) / np.where(np.arange(7) == 2, 1, first.std(0))
    expected = expected[(Y == 2) | (Y == 3)] if tasks == "split" else expected
    if tasks == "permute":
        assert stream.permutations is not None
        expected = expected[:, stream.permutations[1].numpy()]
    np.testing.assert_allclose(seen, expected, rtol=2e-3, atol=2e-3)
    assert np.isfinite(seen).all()


def test_a_feature_that_hardly_varies_in_the_first_task_is_told(own: Any) -> None:
    x = FEATURES.copy()
    x[:, 4] *= np.where(Y < 2, 1e-3, 1.0)
    [warning] = make_stream(own(x)).warnings
    assert warning.startswith("1 of 7 features") and "feature 4: " in warning
    for given in ({"tasks": "permute"}, {"data_std": (2.0,)}):  # these units are no first task's
        assert make_stream(own(x, **given)).warnings == ()
    assert make_stream(own(FEATURES)).warnings == ()


@pytest.mark.parametrize(
    ("x", "given", "expected"),
    [
        (X, {"data_mean": (0.5,)}, ([0.5] * 3, None)),
        (X, {"data_std": (0.1, 0.2, 0.3)}, (None, [0.1, 0.2, 0.3])),
        (X[..., 0], {"data_mean": (0.25,), "data_std": (0.5,)}, ([0.25], [0.5])),
    ],
)
def test_units_may_be_given(own: Any, x: Any, given: dict[str, Any], expected: Any) -> None:
    measured, stream = make_stream(own(x)), make_stream(own(x, **given))
    for one, its, measured_one in zip(
        expected, (stream.mean, stream.std), (measured.mean, measured.std), strict=True
    ):
        torch.testing.assert_close(its, measured_one if one is None else torch.tensor(one))


def test_features_take_one_number_or_one_each(own: Any) -> None:
    exp = own(FEATURES, data_mean=(3.0,), data_std=(2.0,))
    seen = make_stream(exp).inputs(make_stream(exp).train, make_stream(exp).tasks[0].train)
    np.testing.assert_allclose(seen[:, 0, 0], (FEATURES[Y < 2] - 3) / 2, rtol=1e-5)
    assert list(contradictions(replace(exp, data_mean=(1.0,) * 7))) == []
    [(keys, why)] = contradictions(replace(exp, data_mean=(1.0, 2.0)))
    assert keys[0] == "data_mean" and "one for each of the 7 features" in why


@pytest.mark.parametrize("key", ["data_mean", "data_std"])
def test_units_of_grey_levels_are_on_their_scale(own: Any, key: str) -> None:
    [(keys, why)] = contradictions(own(X, **{key: (127.0,)}))
    assert keys[0] == key and "on a scale of 0 to 1 here, and 127 is not" in why
    assert list(contradictions(own(X / 2, **{key: (127.0,)}))) == []


def test_moments_of_what_is_all_the_same() -> None:
    mean, std = moments(np.full((9, 2), 0.1, np.float32))
    assert std.tolist() == [1, 1] and mean == pytest.approx(0.1)
    mean, std = moments(np.zeros((9, 4, 4), np.uint8))
    assert (mean.tolist(), std.tolist()) == ([0], [1])


def test_what_is_known_beforehand(own: Any) -> None:
    facts = own().facts
    assert (facts.picture, facts.classes, facts.pictures) == ((3, 4, 5), 6, 60)
    assert facts.tasks == (1, 2, 3, 6) and facts.scenario == "task" and not facts.floats
    facts = own(FEATURES, tasks="permute").facts
    assert (facts.picture, facts.scenario, facts.floats) == ((1, 1, 7), "domain", True)
    exp = own()
    for key in ("test_share", "picture_size", "rotation_max"):
        assert not exp.counts(key)
    assert own(tasks="rotate").counts("rotation_max")


def test_where_there_are_no_data_nothing_else_is_asked(tmp_path: Path) -> None:
    """One finding on one line; and what a result says of them can be thought of without them."""
    for path in (None, str(tmp_path / "absent.npz"), str(tmp_path)):
        exp = Experiment(name="A", benchmark="arrays", data_file=path, class_order=(0,))
        [(keys, why)] = contradictions(exp)
        assert "data_file" in keys and "\n" not in why and "docs/data.md" in why
        assert exp.counts("class_order") and exp.facts.split and of_experiment(exp) == ""
        if path:
            with pytest.raises(DataError):
                make_stream(exp)


def test_findings_name_the_key(own: Any) -> None:
    for changes, key, reason in (
        ({"num_batch": 4}, "num_batch", "arrays can be split into 1, 2, 3 or 6 tasks"),
        ({"classes_per_task": (4, 3)}, "classes_per_task", "asks for 7 classes, and arrays has 6"),
        ({"class_order": (0, 1, 2)}, "class_order", "0 to 5, once; it has 3 of the 6"),
    ):
        [(keys, why)] = contradictions(replace(own(), **changes))
        assert keys[0] == key and reason in why
    [(keys, why)] = contradictions(own(FEATURES, tasks="rotate"))
    assert keys[0] == "tasks" and "features cannot be turned" in why
    [(keys, why)] = contradictions(own(FEATURES, methods=("dgr",)))
    assert keys[0] == "methods" and "256 grey levels" in why


def test_the_digest_is_that_of_the_data(own: Any, tmp_path: Path) -> None:
    """Neither seed nor tasks are part of it; the contents are, wherever they are."""
    exp = own(FEATURES)
    expected = of_experiment(exp)
    for changes in ({"seed": 3, "class_order": "random"}, {"tasks": "permute"}, {"cumul": True}):
        assert make_stream(replace(exp, **changes)).data == expected
    moved = (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    assert of_experiment(replace(exp, data_file=str(moved))) == expected
    changed = FEATURES.copy()
    changed[3, 3] += 1
    assert of_experiment(own(changed)) != expected
    assert of_experiment(own(FEATURES)) == expected
    named = {of_experiment(own(FEATURES, y)) for y in (WORDS[Y], np.char.upper(WORDS[Y]), Y + 1)}
    assert len(named) == 3 and expected not in named
    assert make_stream(own(FEATURES, WORDS[Y])).data in named


def test_num_batch_follows_or_agrees(tmp_path: Path) -> None:
    """What is nearer says how many tasks there are."""
    path = tmp_path / "my.cfg"
    path.write_text(
        "[A]\nbenchmark = cifar\nnum_batch = 5\n[B]\nlike = A\nclasses_per_task = 4 3\n"
    )
    assert config.load("A", path)[0].num_batch == 5
    assert config.load("B", path)[0].num_batch == 2
    assert config.load("A", path, ["classes_per_task=2,2,6"])[0].num_batch == 3
    assert config.load("B", path, ["num_batch=2"])[0].num_batch == 2
    with pytest.raises(config.ConfigError, match="classes_per_task names 2 tasks: set num_batch"):
        config.load("B", path, ["num_batch=5"])
    assert config.load("B", path, ["benchmark=mnist", "num_batch=7"])[0].num_batch == 7


@pytest.mark.parametrize("tasks", ["split", "permute", "rotate"])
def test_digits(tasks: str) -> None:
    exp = Experiment(name="D", benchmark="digits", tasks=tasks, num_batch=5)
    stream = make_stream(exp)
    assert len(stream.train.x) == digits.PICTURES == exp.facts.pictures
    assert len(stream.train.x) + len(stream.test.x) == 1797
    assert stream.input_shape == exp.facts.picture == (1, 8, 8)
    assert stream.data == of_experiment(exp) and stream.source == "digits.npz (bundled)"
    assert stream.head_sizes == ((2,) * 5 if tasks == "split" else (10,))
    assert list(contradictions(exp)) == [] and stream.warnings == ()
