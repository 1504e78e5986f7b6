"""Which runs are one experiment, what groups are called, and which are twins."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.results.groups import GroupError, differences, find, grouped, twins
from utils.results.runs import NothingToReport, read_runs

OLD = Path(__file__).parents[2] / "data" / "MLP_1LayerSparse_2019-11-18.pkl"
Save = Callable[..., Path]


def groups_in(*paths: Path) -> list[Any]:
    runs, problems = read_runs(paths)
    assert problems == []
    return grouped(runs)


def labels(folder: Path) -> list[str]:
    return [group.label for group in groups_in(folder)]


def test_seeds_are_one_group_and_values_are_not(save: Save) -> None:
    for seed in (1, 0):
        save(seed=seed)
        folder = save(seed=seed, lr=0.05).parent
    first, second = groups_in(folder)
    assert [run.seed for run in first.runs] == [0, 1]
    assert (first.label, second.label) == ("Sparse (lr = 0.1)", "Sparse (lr = 0.05)")
    assert differences([first, second]) == {"lr": ["0.1", "0.05"]}


def test_where_and_how_safely_it_ran_makes_no_other_group(save: Save) -> None:
    save(seed=0, device="cpu", checkpoint_every=5.0, data_dir="here", description="one")
    folder = save(seed=1, device="cuda", checkpoint_every=0.0, data_dir="there").parent
    assert labels(folder) == ["Sparse"]


def test_a_key_that_does_nothing_makes_no_other_group(save: Save) -> None:
    save("Dense", seed=0, sparsify=False, percent_on_fc=0.1)
    folder = save("Dense", seed=1, sparsify=False, percent_on_fc=0.2).parent
    assert labels(folder) == ["Dense"]


def test_a_key_that_is_younger_than_a_result_makes_no_other_group(save: Save) -> None:
    older = save(seed=0)
    folder = save(seed=1).parent
    config, stats = pickle.loads(older.read_bytes())
    del config["old_synapse_lr"], config["dynamic"]
    older.write_bytes(pickle.dumps([config, stats]))
    assert labels(folder) == ["Sparse"]
    del stats["meta"]  # of 2019: what it did is not known
    older.write_bytes(pickle.dumps([config, stats]))
    assert len(labels(folder)) == 2


def test_the_label_says_no_more_than_tells_groups_apart(save: Save) -> None:
    save(seed=0)
    save(seed=0, sparsify=False)
    folder = save("Other", lr=0.3).parent
    assert labels(folder) == ["Sparse (sparsify = true)", "Sparse (sparsify = false)", "Other"]


def test_names_that_are_cut_alike_stay_apart(save: Save) -> None:
    save("x" * 100)
    folder = save("x" * 101).parent
    assert len(set(labels(folder))) == 2


def test_of_runs_of_one_seed_the_newest_complete_one_counts(save: Save) -> None:
    def at(hour: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
        started = f"2026-11-22T{hour}:00:00"
        return lambda stats: stats | {"meta": stats["meta"] | {"started": started}}

    save(change=at(11))
    newest = save(change=at(13))
    save(change=at(12))
    save(change=at(14), done=1)
    (group,) = groups_in(newest.parent)
    assert [run.path for run in group.runs] == [newest]
    assert len(group.repeats) == 3


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("2026-11-22T10:00:00+09:00", "2026-11-21T18:00:00-08:00"),  # Tokyo, an hour before L. A.
        ("2026-10-25T02:30:00+02:00", "2026-10-25T02:15:00+01:00"),  # the end of summer time
        ("2026-11-22T10:00:00.002+01:00", "2026-11-22T10:00:00.010+01:00"),
        ("2026-11-20T10:00:00", "2026-11-22T10:00:00+01:00"),  # without zone, as before
        ("who knows", "2026-11-20T10:00:00"),
    ],
)
def test_newest_is_what_began_last_wherever_it_was(save: Save, older: str, newer: str) -> None:
    for order in ([older, newer], [newer, older]):
        for started in order:
            change: Any = lambda s, at=started: s | {"meta": s["meta"] | {"started": at}}  # noqa: E731
            folder = save(
                change=change, file=f"{order.index(newer)}{order.index(started)}.pkl"
            ).parent
        (group,) = groups_in(*folder.glob(f"{order.index(newer)}?.pkl"))
        assert group.runs[0].meta["started"] == newer


def test_of_the_same_instant_the_later_name_counts(save: Save) -> None:
    paths = [save(file=f"A_s0{serial}.pkl") for serial in ("", "_10", "_2", "_9")]
    (group,) = groups_in(paths[0].parent)
    assert [run.path for run in group.runs] == [paths[1]]


def test_twins_differ_in_what_is_sparse_alone(save: Save) -> None:
    for seed in (0, 1):
        save("A", seed=seed, percent_on_fc=0.1, weight_sparsity_fc=0.5)
        save("B", seed=seed, percent_on_fc=0.2)
        save("Dense", seed=seed, sparsify=False)
        folder = save("DenseOther", seed=seed, sparsify=False, lr=0.05).parent
    found = twins(groups_in(folder))
    assert [(a.label, b.label) for a, b in found] == [("A", "Dense"), ("B", "Dense")]


def test_sections_of_the_shipped_file_are_twins(save: Save) -> None:
    from exps.config import as_dict, load

    for sparse, dense in (
        ("MLP_1LayerSparse", "MLP_1Layer"),
        ("CNNSparse", "CNN"),
        ("SplitMNISTSparse", "SplitMNIST"),
        ("iCIFAR10", "iCIFAR10Dense"),
    ):
        for name in (sparse, dense):
            keys = as_dict(load(name)[0])
            del keys["name"]
            folder = save(name, **keys | {"num_batch": 5, "hidden_units": 200}).parent
        groups = {group.name: group for group in groups_in(folder)}
        assert (groups[sparse], groups[dense]) in twins([groups[sparse], groups[dense]])


def test_intransigence_is_against_the_same_seed_trained_on_all_together(save: Save) -> None:
    save("One", seed=0)
    save("One", seed=5)
    save("All", seed=0, cumul=True, train_ep=9)
    folder = save("All", seed=1, cumul=True, train_ep=9).parent
    one, together = groups_in(folder)
    assert one.reference is together and together.reference is None
    known = np.mean(together.runs[0].accs[0] - np.diagonal(one.runs[0].accs))
    assert one.values("intransigence")[0] == pytest.approx(known)
    mean = (together.runs[0].accs[0] + together.runs[1].accs[0]) / 2
    other = np.mean(mean - np.diagonal(one.runs[1].accs))
    assert one.values("intransigence")[1] == pytest.approx(other)
    assert np.isnan(together.values("intransigence")).all()
    save("All", seed=5, cumul=True, train_ep=9, done=0)  # cut short: the mean of the others counts
    one, _ = groups_in(folder)
    assert one.values("intransigence") == pytest.approx([known, other])


def test_another_network_on_all_tasks_is_no_reference(save: Save) -> None:
    save("One")
    folder = save("All", cumul=True, lr=0.001).parent
    assert groups_in(folder)[0].reference is None


def test_groups_are_found_by_label_name_and_number(save: Save) -> None:
    save("A", lr=0.1)
    save("A", lr=0.2)
    groups = groups_in(save("B").parent)
    assert find(groups, "A (lr = 0.2)") is groups[1]
    assert find(groups, "B") is find(groups, "3") is groups[2]
    with pytest.raises(GroupError, match=r"1 A \(lr = 0.1\); 2 A"):
        find(groups, "A")
    with pytest.raises(GroupError, match=r"no group 'C'.*3 B"):
        find(groups, "C")


def test_a_result_of_2019_is_a_group_with_the_name_of_its_file(save: Save) -> None:
    old, new = groups_in(OLD, save("MLP_1LayerSparse"))
    assert old.label == "MLP_1LayerSparse (2019)"
    assert (old.runs[0].seed, old.runs[0].complete) == (None, True)
    assert new.label == "MLP_1LayerSparse"


def test_every_file_counts_once(save: Save) -> None:
    path = save()
    runs, _ = read_runs([path, path.parent, str(path)])
    assert len(runs) == 1


def test_files_that_are_no_results_are_a_line_each(save: Save, tmp_path: Path) -> None:
    good = save()
    (good.parent / "damaged.pkl").write_bytes(b"\x80\x04.")
    (good.parent / "evil.pkl").write_bytes(b"cos\nsystem\n(S'echo'\ntR.")
    save(change=lambda stats: stats | {"accs": np.full((3, 3), 7.0)}, file="wrong\nname.pkl")
    runs, problems = read_runs([good.parent, tmp_path / "missing.pkl"])
    assert [run.path for run in runs] == [good]
    assert len(problems) == 4
    assert all("\n" not in problem for problem in problems)


def test_a_configuration_of_anything(tmp_path: Path, save: Save) -> None:
    import pickle

    stats = {"accs": [[0.5]], "meta": 3, "elapsed": "long", "perc_on_avg": []}
    config = {1: [2], "name": 5, "seed": "no", "lr": float("nan"), "cnn": None, "x\n": {"a": 1}}
    path = tmp_path / "odd.pkl"
    path.write_bytes(pickle.dumps([config, stats]))
    (group,) = groups_in(path)
    assert (group.label, group.runs[0].seed, group.runs[0].complete) == ("5", None, True)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(NothingToReport, match="nothing to report"):
        read_runs([tmp_path])


def test_2019_files_do_not_need_a_date(tmp_path: Path) -> None:
    shutil.copy(OLD, tmp_path / "mine.pkl")
    assert labels(tmp_path) == ["mine"]
