"""save_results and load_results: names, atomicity, errors, and the files of 2019."""

from __future__ import annotations

import configparser
import errno
import multiprocessing
import os
import pickle
import pickletools
import subprocess
import sys
from collections import OrderedDict
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from utils.results import files as results
from utils.results.files import (
    ResultsError,
    check_writable,
    load_results,
    result_name,
    save_results,
)

OLD = Path(__file__).parents[2] / "data" / "MLP_1LayerSparse_2019-11-18.pkl"
REFERENCE = sorted(Path(__file__).parents[3].glob("results/reference/*.pkl"))
MULTIARRAY = np.empty(0).__reduce__()[0].__module__
WHEN = datetime(2026, 11, 22, 11, 15, 4)
CONFIG = {"name": "MLP", "lr": 0.1, "sparsify": True, "class_order": (1, 0), "seed": 0}
STATS = {
    "accs": np.array([[0.9, np.nan], [0.8, 0.95]]),
    "on_idxs": np.arange(6).reshape(2, 3),
    "loss": [0.5, np.float64(0.25)],
    "meta": {"seed": 0, "commit": ""},
}


def save(folder: Path, name: str = "MLP_1LayerSparse", **changes: Any) -> Path:
    arguments = {"config": CONFIG, "stats": STATS} | changes
    return save_results(folder, run=result_name(name, 0, WHEN), **arguments)


def assert_same_stats(stats: dict[str, Any]) -> None:
    assert list(stats) == list(STATS)
    np.testing.assert_array_equal(stats["accs"], STATS["accs"])
    np.testing.assert_array_equal(stats["on_idxs"], STATS["on_idxs"])
    assert stats["loss"] == STATS["loss"]
    assert stats["meta"] == STATS["meta"]


def test_the_name_says_what_and_when(tmp_path: Path) -> None:
    path = save(tmp_path)
    assert path == tmp_path / "MLP_1LayerSparse_2026-11-22_11-15-04_s0.pkl"
    assert os.listdir(tmp_path) == [path.name]


def test_a_result_comes_back(tmp_path: Path) -> None:
    config, stats = load_results(save(tmp_path))
    assert config == CONFIG
    assert_same_stats(stats)


def test_two_lines_in_a_notebook_load_it(tmp_path: Path) -> None:
    code = "import pickle; cfg, stats = pickle.load(open(0, 'rb')); print(stats['accs'][1, 1])"
    command = [sys.executable, "-c", code]
    with save(tmp_path).open("rb") as file:
        done = subprocess.run(command, cwd=tmp_path, stdin=file, capture_output=True, check=True)
    assert done.stdout.split() == [b"0.95"]


KINDS = {
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "part": np.arange(10)[::3],
    "of no axis": np.array(-0.0),
    "empty": np.zeros((0, 3), np.int32),
    "bool": np.array([True, False]),
    "float16": np.array([0.1, np.nan], np.float16),
    "complex64": np.array([1 + 2j], np.complex64),
    "numbers": [np.float64(0.1), np.float32(0.1), np.float16(0.1), np.int64(-1), np.uint8(7)],
    "truth": np.bool_(True),
}
# Prints, for whoever loads it, what each value is, to the bit.
TELL = """
import pickle, sys, warnings
warnings.simplefilter("error")
import numpy as np
def told(v):
    if isinstance(v, list): return [told(x) for x in v]
    return isinstance(v, np.ndarray), v.dtype.str, v.shape, v.flags.f_contiguous, v.tobytes().hex()
for path in sys.argv[1:]:
    with open(path, "rb") as file: cfg, stats = pickle.load(file)
print(np.__version__, {name: told(value) for name, value in stats["kinds"].items()})
"""


def told_by(folder: Path, *files: Path) -> tuple[str, str]:
    """Which numpy a Python without this project finds in a folder (or where it always is), and
    what it says of the last of these results."""
    environment = {"PYTHONPATH": str(folder)} if folder.name == "old" else {}
    done = subprocess.run(
        [sys.executable, "-c", TELL, *map(str, files)],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    version, _, told = done.stdout.partition(" ")
    return version, told


def test_a_result_names_nothing_that_numpy_1_does_not_have(tmp_path: Path) -> None:
    files = [save(tmp_path, stats={"kinds": KINDS}), *REFERENCE]
    for file in files:
        texts = [text for _, text, _ in pickletools.genops(file.read_bytes())]
        named = {text for text in texts if isinstance(text, str) and text.startswith("numpy")}
        assert named <= {"numpy", "numpy.core.multiarray"}, file
    found = load_results(files[0])[1]["kinds"]
    assert found["fortran"].flags.f_contiguous
    for name, value in KINDS.items():
        np.testing.assert_array_equal(found[name], value)
    assert np.empty(0).__reduce__()[0].__module__ == MULTIARRAY  # as it was


def test_an_older_numpy_loads_it_to_the_bit(tmp_path: Path) -> None:
    old = {10: "1.22.4", 11: "1.23.5", 12: "1.26.4"}.get(sys.version_info.minor)
    if old is None:
        pytest.skip("needs a Python for which there is a numpy 1")
    folder = tmp_path / "old"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--retries", "0"]
    pip += ["--only-binary", ":all:", "--target", str(folder), f"numpy=={old}"]
    if subprocess.run(pip, capture_output=True, check=False).returncode:
        pytest.skip(f"needs pip, and numpy {old} from a package index")
    file = save(tmp_path, stats={"kinds": KINDS})
    (now, told), (before, same) = told_by(tmp_path, file), told_by(folder, *REFERENCE, file)
    assert (now, before) == (np.__version__, old)
    assert same == told


def test_the_same_second_gives_another_name(tmp_path: Path) -> None:
    names = [save(tmp_path).name for _ in range(3)]
    assert [n.removeprefix("MLP_1LayerSparse_2026-11-22_11-15-04_") for n in names] == [
        "s0.pkl",
        "s0_2.pkl",
        "s0_3.pkl",
    ]


def save_several(folder: Path) -> None:
    for _ in range(10):
        save(folder)


@pytest.mark.parametrize("links", [True, False])
def test_runs_in_parallel_never_share_a_name(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("needs processes made by fork")
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", without_links)
    context = multiprocessing.get_context("fork")
    runs = [context.Process(target=save_several, args=(tmp_path,)) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    files = sorted(tmp_path.iterdir())
    assert len(files) == 30
    for file in files:
        load_results(file)


def without_links(self: Path, target: Path) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_links)
    first, second = save(tmp_path), save(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted([first.name, second.name])
    assert load_results(first)[0] == load_results(second)[0] == CONFIG


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("../../etc/passwd", "______etc_passwd_2026"),
        ("/absolute", "_absolute_2026"),
        ("C:\\x", "C__x_2026"),
        ("..", "___2026"),
        ("CON.txt", "CON_txt_2026"),
        ('a<b>:"|?*\0\n', "a_b_______"),
        ("-rf", "rf_2026"),
        ("", "experiment_2026"),
        ("größe 10%", "gr__e_10__2026"),
        ("x" * 500, "x" * 80 + "_2026"),
    ],
)
def test_no_name_leaves_the_folder_or_breaks_a_system(
    tmp_path: Path, name: str, start: str
) -> None:
    folder = tmp_path / "results"
    path = save(folder, name)
    assert path.parent == folder
    assert path.name.startswith(start)
    assert path.name.isascii()
    assert len(path.name) < 143
    assert os.listdir(tmp_path) == ["results"]


def test_a_missing_folder_is_made(tmp_path: Path) -> None:
    assert save(tmp_path / "a" / "b").exists()


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.write_text("")
    for act in (save, check_writable):
        with pytest.raises(ResultsError, match=r"(?s)results: .*cannot be written.*--results-dir"):
            act(folder)
    with pytest.raises(ResultsError, match="cannot be written"):
        save(folder / "below")


def fails_with(number: int) -> Any:
    def fail(*_args: Any, **_named: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("number", "advice"),
    [(errno.ENOSPC, "(?s)No space left.*make room"), (errno.EACCES, "(?s)denied.*can be written")],
)
@pytest.mark.parametrize(
    "function", ["os.fsync", "pathlib.Path.hardlink_to,pathlib.Path.touch", "pathlib.Path.open"]
)
def test_what_fails_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int, advice: str
) -> None:
    with monkeypatch.context() as patch:
        for name in function.split(","):
            patch.setattr(name, fails_with(number))
        with pytest.raises(ResultsError, match=advice):
            save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_replacement_that_fails_gives_the_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "hardlink_to", without_links)
    monkeypatch.setattr(Path, "replace", fails_with(errno.EIO))
    with pytest.raises(ResultsError, match="cannot be written"):
        save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_an_interruption_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path)
    assert os.listdir(tmp_path) == []


def test_check_writable_makes_the_folder_and_leaves_nothing_in_it(tmp_path: Path) -> None:
    check_writable(tmp_path / "new")
    assert os.listdir(tmp_path / "new") == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stats": {"a": [Path("x")]}}, r"stats\['a'\]\[0\]: pathlib\S* is not plain"),
        ({"config": {"a": {1}}}, r"config\['a'\]: builtins.set is not plain"),
        ({"stats": {"a": np.array([None])}}, r"stats\['a'\]: numpy.ndarray of dtype object"),
        ({"config": []}, "config is a list: give a dict"),
    ],
)
def test_other_than_plain_data_is_refused_before_writing(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResultsError, match=message):
        save(tmp_path, **changes)
    assert os.listdir(tmp_path) == []


def test_what_could_not_be_loaded_is_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "MAX_BYTES", 100)
    with pytest.raises(ResultsError, match="larger than"):
        save(tmp_path)


@pytest.mark.parametrize(("most", "dtype"), [(2**31 - 1, np.int32), (2**31, np.int64)])
def test_counts_are_written_in_32_bits_where_they_fit(
    tmp_path: Path, most: int, dtype: type
) -> None:
    counts = np.array([[0, most], [1, 2]])
    _, stats = load_results(save(tmp_path, stats={"on_idxs": counts, "accs": counts}))
    assert (stats["on_idxs"].dtype, stats["accs"].dtype) == (dtype, np.int64)
    np.testing.assert_array_equal(stats["on_idxs"], counts)


def test_a_result_of_2019_equals_what_pickle_says() -> None:
    with OLD.open("rb") as file:
        section, expected = pickle.load(file)
    config, stats = load_results(OLD)
    assert list(config.items()) == list(dict(section).items())
    assert stats == expected
    assert config["hidden_units"] == "4000"
    assert all(type(value) is str for value in config.values())
    assert type(stats["perc_on_avg"][0]) is np.float64


ATTRIBUTES_OF_2019 = {
    *("_dict", "_sections", "_defaults", "_converters", "_proxies", "_delimiters", "_optcre"),
    *("_comment_prefixes", "_inline_comment_prefixes", "_strict", "_allow_no_value"),
    *("_empty_lines_in_values", "default_section", "_interpolation"),
}


def test_a_section_of_2019_takes_what_it_lacks_from_the_defaults(tmp_path: Path) -> None:
    parser = configparser.ConfigParser(dict_type=OrderedDict)
    parser.read_string("[DEFAULT]\nlr = 1\nmomentum = 2\n[A]\nlr = 3\n[B]\n")
    names = ("A", "B", "DEFAULT")
    expected = [list(dict(parser[name]).items()) for name in names]
    for extra in set(vars(parser)) - ATTRIBUTES_OF_2019:
        delattr(parser, extra)
    for name, items in zip(names, expected, strict=True):
        path = tmp_path / name
        path.write_bytes(pickle.dumps([parser._proxies[name], {}], 3))
        assert list(load_results(path)[0].items()) == items


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "it is empty"),
        (b"hello", "not a pickle of protocol 2 to 5"),
        (b"\x80\x04", "cut off"),
        (b"\x80", "not a pickle"),
        (pickle.dumps({}), r"other than \[config, stats\]"),
        (pickle.dumps([{}]), r"other than \[config, stats\]"),
        (pickle.dumps([{}, [], {}]), r"other than \[config, stats\]"),
        (pickle.dumps([{}, []]), r"other than \[config, stats\]"),
        (pickle.dumps([{}, {"a": os.system}]), "which is not data"),
        (pickle.dumps([{}, {}]) + b"x", "damaged"),
        (OLD.read_bytes()[:-100], "cut off"),
        (b"PK\x03\x04", "not a pickle"),
        (pickle.dumps([{}, {}], 0), "not a pickle of protocol 2 to 5"),
        (b"\x80\x04I1\n.", "byte b'I' at 2 has no place in a result"),
    ],
)
def test_other_files_give_one_line_with_their_name(
    tmp_path: Path, contents: bytes, message: str
) -> None:
    path = tmp_path / "result.pkl"
    path.write_bytes(contents)
    with pytest.raises(ResultsError, match=message) as caught:
        load_results(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match=r"nothing.pkl: no such result file"):
        load_results(tmp_path / "nothing.pkl")
    with pytest.raises(ResultsError, match="it is not a file"):
        load_results(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ResultsError, match="it is not a file"):
        load_results(tmp_path / "pipe")


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ResultsError, match="larger than 512 MiB"):
        load_results(path)
