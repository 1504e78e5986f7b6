"""EMNIST, SVHN and Tiny ImageNet, from small files in the formats in which they are published."""

from __future__ import annotations

import gzip
import hashlib
import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets as tv

from benchmarks import digest, emnist, make_stream, svhn, tinyimagenet
from benchmarks.datasets import load_arrays
from benchmarks.formats import DataError, Dataset, channels_first
from exps.experiment import Experiment
from exps.rules import contradictions, doubts
from utils.many.command import _wanted

NAMES = ("balanced", "letters", "svhn", "tinyimagenet")
JPEG = 12  # grey levels by which a picture may change when it is packed


@dataclass
class Small:
    """A small data set: keys of its experiment, the arrays that are to be read, and its files, by
    their path in its folder."""

    keys: dict[str, Any]
    arrays: dict[str, Any]
    files: dict[str, bytes]

    @property
    def dataset(self) -> Dataset:
        found: Dataset = Experiment(name="A", **self.keys).dataset
        return found

    def unpack(self, folder: Path) -> Path:
        for name, content in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder

    def published(self) -> dict[str, bytes]:
        """The files that are downloaded."""
        if self.dataset.archive is None:
            return self.files
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                if "emnist" in name:
                    archive.writestr(f"gzip/{name}.gz", gzip.compress(content))
                else:
                    archive.writestr(f"{self.dataset.folder}/{name}", content)
            archive.writestr("gzip/emnist-mnist-train-images-idx3-ubyte.gz", b"another split")
        return {self.dataset.archive: file.getvalue()}

    def load(self, folder: Path) -> Any:
        return load_arrays(self.dataset, folder, fetch=False)

    def right(self, arrays: Any) -> bool:
        most = JPEG if self.keys["benchmark"] == "tinyimagenet" else 0
        return all(
            getattr(arrays, key).dtype == np.uint8
            and getattr(arrays, key).shape == value.shape
            and abs(getattr(arrays, key).astype(int) - value).max()
            <= (most if key[0] == "x" else 0)
            for key, value in self.arrays.items()
        )


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def labelled(x: dict[str, Any], classes: int) -> dict[str, Any]:
    y = {f"y{key[1:]}": (np.arange(len(its)) % classes).astype(np.uint8) for key, its in x.items()}
    return {**x, **y}


def an_emnist(split: str) -> Small:
    classes, draw = len(emnist.LABELS[split]), np.random.default_rng(0)
    sizes = {"x_train": 2 * classes, "x_test": classes}
    arrays = labelled(
        {key: draw.integers(0, 256, (n, 28, 28), np.uint8) for key, n in sizes.items()}, classes
    )
    files = {}
    for key, array in arrays.items():
        kind, part = key.split("_")
        array = array.swapaxes(1, 2) if kind == "x" else array + np.uint8(split == "letters")
        header = np.array([0x800 + array.ndim, *array.shape], dtype=">i4").tobytes()
        name = f"emnist-{split}-{part}-{'images-idx3' if kind == 'x' else 'labels-idx1'}-ubyte"
        files[name] = header + array.tobytes()
    return Small({"benchmark": "emnist", "emnist_split": split}, arrays, files)


def an_svhn() -> Small:
    draw = np.random.default_rng(0)
    sizes = {"x_train": 20, "x_test": 10}
    x = {key: draw.integers(0, 256, (n, 32, 32, 3), np.uint8) for key, n in sizes.items()}
    arrays, files = labelled(x, 10), {}
    for part in ("train", "test"):
        y = arrays[f"y_{part}"]
        content = {"X": x[f"x_{part}"].transpose(1, 2, 3, 0), "y": np.where(y, y, 10)[:, None]}
        savemat(file := io.BytesIO(), content, do_compression=True)
        files[f"{part}_32x32.mat"] = file.getvalue()
    return Small({"benchmark": "svhn"}, arrays, files)


def a_tinyimagenet() -> Small:
    """Four classes, three pictures of each to train on and two to test on."""
    row, column, channel = np.ogrid[:64, :64, :3]
    x = {
        key: np.stack([row * 2 + column + channel * 15 + 3 * i for i in range(n)]).astype(np.uint8)
        for key, n in {"x_train": 12, "x_test": 8}.items()
    }
    x["x_test"][1] = x["x_test"][1, ..., :1]  # there are grey ones
    arrays = labelled(x, 4)
    arrays["y_train"] = np.repeat(np.arange(4, dtype=np.uint8), 3)

    def jpeg(picture: Any) -> bytes:
        grey = (picture == picture[..., :1]).all()
        image = Image.fromarray(picture[..., 0] if grey else picture)
        image.save(file := io.BytesIO(), "JPEG", quality=95)
        return file.getvalue()

    ids = ["n01", "n02", "n07", "n12"]
    files = {"wnids.txt": "\n".join(reversed(ids)).encode()}
    for at, one in enumerate(arrays["x_train"]):
        name = ids[at // 3]
        files[f"train/{name}/images/{name}_{at % 3}.JPEG"] = jpeg(one)
    lines = [f"val_{at}.JPEG\t{ids[y]}\t0\t1\t2\t3\n" for at, y in enumerate(arrays["y_test"])]
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files |= {f"val/images/val_{at}.JPEG": jpeg(one) for at, one in enumerate(arrays["x_test"])}
    return Small({"benchmark": "tinyimagenet"}, arrays, files)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def small(name: str, monkeypatch: pytest.MonkeyPatch) -> Small:
    """One whose module takes its sums, and its few classes, for the right ones."""
    if name == "svhn":
        its = an_svhn()
        web = tuple((url, md5(its.files[Path(url).name])) for url, _ in svhn.DATASET.web)
        monkeypatch.setattr(svhn, "DATASET", replace(svhn.DATASET, web=web))
        return its
    if name == "tinyimagenet":
        few = replace(tinyimagenet.DATASET, classes=4, pictures=12)
        monkeypatch.setattr(tinyimagenet, "DATASET", few)
        monkeypatch.setattr(tinyimagenet, "EACH", 2)
        monkeypatch.setattr(tinyimagenet, "LABELS", ("0", "1", "2", "3"))
        return a_tinyimagenet()
    return an_emnist(name)


@pytest.fixture
def folder(small: Small, tmp_path: Path) -> Path:
    """A data_dir with it, unpacked."""
    small.unpack(tmp_path / small.dataset.folder)
    return tmp_path


def refusal(small: Small, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        small.load(folder)
    assert str(caught.value).count("\n") == 2  # what, why, what to do
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "numbers"),
    [
        ({"benchmark": "emnist"}, (47, 112_800, 18_800)),
        ({"benchmark": "emnist", "emnist_split": "letters"}, (26, 124_800, 20_800)),
        ({"benchmark": "svhn"}, (10, 73_257, 26_032)),
        ({"benchmark": "tinyimagenet"}, (200, 100_000, 10_000)),
    ],
)
def test_what_is_known_of_them(make_exp: Callable, keys: dict[str, str], numbers: Any) -> None:
    exp = make_exp(**keys, num_batch=1, augment="crop_flip")
    facts = exp.facts
    assert (facts.classes, facts.pictures, facts.tested) == numbers
    assert facts.picture == exp.dataset.picture and facts.scenario == "task"
    tiny = exp.benchmark == "tinyimagenet"
    assert facts.mirrored == tiny != any("augment" in keys for keys, _ in doubts(exp))
    [(wrong, why)] = contradictions(replace(exp, data="sample"))
    assert wrong[0] == "data" and "there is no sample of" in why


def test_addresses_sums_and_names_are_torchvisions() -> None:
    assert (tv.EMNIST.url, tv.EMNIST.md5) == emnist.WEB
    lists = tv.SVHN.split_list
    assert [(lists[k][0], lists[k][2]) for k in ("train", "test")] == [*svhn.DATASET.web]
    classes = tv.EMNIST.classes_split_dict
    assert [*emnist.LABELS["balanced"]] == classes["balanced"]
    assert ["N/A", *emnist.LABELS["letters"]] == classes["letters"]


def test_unpacked_with_the_folder_itself_as_data_dir_or_its_files_there(
    small: Small, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    loose = small.unpack(tmp_path_factory.mktemp("loose"))
    for place in (folder, folder / small.dataset.folder, loose):
        arrays = small.load(place)
        assert small.right(arrays) and str(place) in arrays.source
        for x in (arrays.x_train, arrays.x_test):  # so torch copies nothing
            assert channels_first(x).flags.c_contiguous and x.flags.writeable


def test_packed_beside_or_in_its_folder(small: Small, tmp_path: Path) -> None:
    for place in (tmp_path / "a", tmp_path / "b" / small.dataset.folder):
        place.mkdir(parents=True)
        for file, content in small.published().items():
            (place / file).write_bytes(content)
    assert small.right(small.load(tmp_path / "a")) and small.right(small.load(tmp_path / "b"))


def test_a_npz_file_comes_first(small: Small, folder: Path) -> None:
    other = small.arrays | {"y_test": small.arrays["y_test"][::-1]}
    np.savez(folder / f"{small.dataset.name}.npz", **other)
    assert np.array_equal(small.load(folder).y_test, other["y_test"])


def test_a_download_is_read_and_kept(
    small: Small, tmp_path: Path, server: Any, monkeypatch: Any, capfd: Any
) -> None:
    address, served = server
    for file, content in small.published().items():
        (served / file).write_bytes(content)
    dataset = small.dataset
    web = tuple((f"{address}/{Path(url).name}", sum_) for url, sum_ in dataset.web)
    here = tuple((url, md5((served / Path(url).name).read_bytes())) for url, _ in web)
    root = tmp_path / "new"
    assert small.right(load_arrays(replace(dataset, web=here), root))
    assert "100%" in capfd.readouterr().err
    assert [path.name for path in root.iterdir()] == [dataset.folder.split("/")[0]]
    assert small.right(small.load(root))
    if dataset.archive:
        with pytest.raises(DataError, match="corrupted") as caught:
            load_arrays(replace(dataset, web=web), tmp_path / "other")
        assert f"put {dataset.archive} there" in str(caught.value)
        assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["balanced", "letters", "svhn"], indirect=True)
def test_torchvision_reads_the_same(
    name: str, small: Small, folder: Path, monkeypatch: Any
) -> None:
    ours = small.load(folder)
    if name == "svhn":
        (_, train), _ = small.dataset.web
        lists = {"train": ["", "train_32x32.mat", train]}
        monkeypatch.setattr(tv.SVHN, "split_list", lists)
        theirs = tv.SVHN(folder / "SVHN")
        x, y = theirs.data.transpose(0, 2, 3, 1), theirs.labels
    else:
        theirs = tv.EMNIST(folder, split=name)
        x, y = theirs.data.numpy().swapaxes(1, 2), theirs.targets.numpy() - (name == "letters")
    assert np.array_equal(ours.x_train, x) and np.array_equal(ours.y_train, y)


def test_a_file_that_is_cut_off_or_missing_is_named(small: Small, folder: Path) -> None:
    for file, content in small.files.items():
        path = folder / small.dataset.folder / file
        path.write_bytes(content[:-30])
        assert refusal(small, folder).startswith(f"{path} cannot be used\n")
        path.unlink()
        assert f"{path}" in (said := refusal(small, folder)) and "missing" in said
        path.write_bytes(content)
    assert small.right(small.load(folder))


@pytest.mark.parametrize("name", ["balanced", "tinyimagenet"], indirect=True)
def test_an_archive_that_is_damaged_is_named(small: Small, tmp_path: Path) -> None:
    [(file, content)] = small.published().items()
    for damaged in (content[:-100], content[: len(content) // 2], b"PK", b"", content[:99] * 9):
        (tmp_path / file).write_bytes(damaged)
        assert str(tmp_path / file) in refusal(small, tmp_path).split("\n")[0]
    at = content.index(b"emnist-" if b"emnist-balanced" in content else b"JPEG") + 200
    flipped = bytes([content[at] ^ 255])
    (tmp_path / file).write_bytes(content[:at] + flipped + content[at + 1 :])
    assert str(tmp_path / file) in refusal(small, tmp_path).split("\n")[0]


@pytest.mark.parametrize(
    ("name", "file", "content", "why"),
    [
        (
            "letters",
            "emnist-letters-test-labels-idx1-ubyte",
            b"\0\0\x08\1\0\0\0\1\0",
            "26 pictures",
        ),
        ("svhn", "test_32x32.mat", b"MATLAB 7.3", "its MD5 sum is not"),
        ("tinyimagenet", "wnids.txt", b"n01\nn02\n", "it has 2 lines, not 4"),
        ("tinyimagenet", "val/val_annotations.txt", b"val_0.JPEG n01\n", "it has 1 lines, not 8"),
        ("tinyimagenet", "wnids.txt", b"n01\nn02\nn03\nn12\n", "the file is missing"),
        ("tinyimagenet", "val/images/val_1.JPEG", b"GIF89a", "it is no PNG or JPEG"),
        ("tinyimagenet", "val/images/val_1.JPEG", None, "it has 32 × 32 pixels, not 64 × 64"),
        ("tinyimagenet", "val/images/val_1.JPEG", b"x" * (2**20 + 1), "more than the 1048576"),
    ],
    indirect=["name"],
)
def test_what_is_wrong_is_said(
    small: Small, folder: Path, file: str, content: bytes | None, why: str
) -> None:
    if content is None:
        Image.new("RGB", (32, 32)).save(made := io.BytesIO(), "JPEG")
        content = made.getvalue()
    (folder / small.dataset.folder / file).write_bytes(content)
    assert why in refusal(small, folder).split("\n")[1]


@pytest.mark.parametrize("tasks", ["split", "permute", "rotate"])
@pytest.mark.parametrize("scenario", ["domain", "task", "class"])
def test_tasks_in_every_scenario(
    small: Small, make_exp: Callable, folder: Path, name: str, tasks: str, scenario: str
) -> None:
    classes = small.dataset.classes
    sizes = {"balanced": (10, 20, 17), "letters": (20, 4, 2)}.get(name, (classes // 2,) * 2)
    keys = {"num_batch": len(sizes), "classes_per_task": sizes} if tasks == "split" else {}
    equal = len(set(sizes)) == 1
    if scenario == "domain" and tasks == "split" and not equal:
        keys = {"num_batch": 1}
    exp = make_exp(**small.keys, **keys, tasks=tasks, scenario=scenario, data_dir=str(folder))
    stream = make_stream(exp)
    counts = [len(task.train) for task in stream.tasks]
    each, whole = len(stream.train.y) // classes, len(stream.train.y)
    if tasks == "split" and keys["num_batch"] > 1:
        assert counts == [each * size for size in sizes]
    else:
        assert counts == [whole] * exp.num_batch
    views: list[Any] = [stream.inputs(stream.train, task.train) for task in stream.tasks]
    if tasks == "permute":
        assert torch.equal(*(view.flatten(1).sort(1).values for view in views[:2]))
    means, stds = views[0].mean((0, 2, 3)), views[0].std((0, 2, 3))  # in units of the first task
    assert means.abs().max() < 1e-4 and (stds - 1).abs().max() < 1e-2
    assert stream.data == digest.of_experiment(exp) != "" and str(folder) in stream.source
    assert len(stream.class_names) == classes


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("balanced", "0, 1, 2, 3, 4"),
        ("letters", "a, b, c, d, e"),
        ("svhn", "digits 0, 1, 2, 3, 4"),
        ("tinyimagenet", "classes 0, 1"),
    ],
    indirect=["name"],
)
def test_tasks_are_named(small: Small, make_exp: Callable, folder: Path, first: str) -> None:
    count = first.count(",") + 1
    sizes = (count, small.dataset.classes - count)
    keys = {"num_batch": 2, "classes_per_task": sizes, "scenario": "class"}
    stream = make_stream(make_exp(**small.keys, **keys, data_dir=str(folder)))
    assert stream.tasks[0].name == first


def test_splits_are_told_apart_in_one_folder(make_exp: Callable, tmp_path: Path) -> None:
    both = [an_emnist(split) for split in ("balanced", "letters")]
    for its in both:
        its.unpack(tmp_path / "EMNIST/raw")
    made = [make_exp(**its.keys, num_batch=1, data_dir=str(tmp_path)) for its in both]
    assert all(its.right(its.load(tmp_path)) for its in both)
    sums = [digest.of_experiment(exp) for exp in made]
    assert sums[0] != sums[1]
    assert [
        its.data for its in _wanted([SimpleNamespace(exp=exp) for exp in made], trust=True)
    ] == sums
