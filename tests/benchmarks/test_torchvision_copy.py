from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import socket
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision import datasets as tv

from benchmarks import packed, torchvision_copy
from benchmarks.datasets import DATASETS, bundled
from benchmarks.formats import DataError
from benchmarks.npz import read_npz
from benchmarks.torchvision_copy import download, find_copy, read_copy

MNIST = DATASETS["mnist"]
IDX = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def idx(array: Any, kind: int = 8) -> bytes:
    header = np.array([kind * 256 + array.ndim, *array.shape], dtype=">i4")
    return bytes(header.tobytes() + array.tobytes())


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def read(root: Path, dataset: Any) -> Any:
    place = find_copy(root, dataset)
    assert place is not None
    return read_copy(place, dataset, "test")


def refusal(root: Path, dataset: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(root, dataset)
    assert str(caught.value).count("\n") == 2  # what, why, what to do
    return str(caught.value)


@pytest.fixture
def mnist(tmp_path, small) -> Path:
    """torchvision's copy of MNIST: tmp_path/data/MNIST/raw."""
    raw = tmp_path / "data" / MNIST.folder
    raw.mkdir(parents=True)
    for key, name in IDX.items():
        (raw / name).write_bytes(idx(small[key]))
    return tmp_path / "data"


def test_reads_mnist(mnist, small, same):
    arrays = read(mnist, MNIST)
    assert same(arrays, small)
    assert arrays.source == "test"


DAMAGE = {
    "truncated": lambda content: content[:-1],
    "longer": lambda content: content + b"x",
    "empty": lambda content: b"",
    "header only": lambda content: content[:9],
    "other type": lambda content: b"\0\0\x0d" + content[3:],
    "unknown type": lambda content: b"\0\0\x0a" + content[3:],
    "no dimensions": lambda content: b"\0\0\x08\0" + content[4:],
    "other dimensions": lambda content: b"\0\0\x08\x02" + content[4:],
    "lying size": lambda content: content[:4] + b"\x7f\xff\xff\xff" + content[8:],
    "packed and cut off": lambda content: gzip.compress(content)[:-9],
    "packed and damaged": lambda content: gzip.compress(content)[:-8] + b"x" * 8,
    "packed twice": lambda content: gzip.compress(gzip.compress(content)),
}


@pytest.mark.parametrize("name", [IDX["x_train"], IDX["y_test"]])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_refuses_damaged_mnist(mnist, name, damage):
    path = mnist / MNIST.folder / name
    path.write_bytes(damage(path.read_bytes()))
    assert str(path) in refusal(mnist, MNIST)


def test_refuses_mnist_with_a_file_missing_or_wrong(mnist, small):
    path = mnist / MNIST.folder / IDX["y_train"]
    path.write_bytes(idx(small["y_train"] + np.uint8(5)))
    assert "y_train has label 14; mnist has 0 to 9" in refusal(mnist, MNIST)
    path.write_bytes(idx(small["y_train"][1:]))
    assert "20 pictures, but y_train has 19 labels" in refusal(mnist, MNIST)
    path.unlink()
    assert refusal(mnist, MNIST).startswith(f"{path} is missing\n  why: ")
    assert "there is t10k-images-idx3-ubyte, " in refusal(mnist, MNIST)


def cifar_files(cls: Any, arrays: dict[str, Any]) -> dict[str, bytes]:
    """The pickles of torchvision's copy; the training pictures shared out over its batches."""
    label = "labels" if cls is tv.CIFAR10 else "fine_labels"
    parts = [("x_test", "y_test", cls.test_list), ("x_train", "y_train", cls.train_list)]
    files = {cls.meta["filename"]: pickle.dumps({cls.meta["key"]: ["a", "b"]})}
    for x, y, names in parts:
        split = [np.array_split(arrays[key], len(names)) for key in (x, y)]
        for (name, _), pictures, labels in zip(names, *split, strict=True):
            data = pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)
            files[name] = pickle.dumps({"data": data, label: labels.tolist()})
    return files


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, monkeypatch, make_arrays) -> tuple[Any, dict[str, Any], dict[str, bytes]]:
    """A small CIFAR, with torchvision's sums set to those of its files: data set, arrays, files."""
    dataset = DATASETS[request.param]
    arrays = make_arrays(channels=3, classes=dataset.classes)
    cls = getattr(tv, dataset.torchvision)
    files = cifar_files(cls, arrays)
    for entries in ("train_list", "test_list"):
        sums = [[name, md5(files[name])] for name, _ in getattr(cls, entries)]
        monkeypatch.setattr(cls, entries, sums)
    name = cls.meta["filename"]  # which a download reads
    monkeypatch.setattr(cls, "meta", cls.meta | {"md5": md5(files[name])})
    return dataset, arrays, files


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def test_reads_cifar(tmp_path, cifar, same):
    dataset, arrays, files = cifar
    write(tmp_path / dataset.folder, files)
    assert same(read(tmp_path, dataset), arrays)
    assert same(read(tmp_path / dataset.folder, dataset), arrays)


def test_refuses_cifar_with_any_file_damaged_or_missing(tmp_path, cifar):
    dataset, _, files = cifar
    write(tmp_path / dataset.folder, files)
    for name in dataset.train + dataset.test:
        path, content = tmp_path / dataset.folder / name, files[name]
        path.write_bytes(content[:-1])
        said = refusal(tmp_path, dataset)
        assert said.startswith(f"{path} cannot be used\n  why: {name} is damaged: its MD5 sum")
        path.unlink()
        assert f"{path} is missing" in refusal(tmp_path, dataset)
        path.write_bytes(content)


class Hostile:
    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


def test_nothing_in_a_foreign_pickle_runs(tmp_path, cifar):
    dataset, _, files = cifar
    hostile = pickle.dumps(Hostile(tmp_path / "witness"))
    write(tmp_path / dataset.folder, dict.fromkeys(files, hostile))
    assert "MD5" in refusal(tmp_path, dataset)
    assert not (tmp_path / "witness").exists()


def test_says_what_to_do_without_torchvision(tmp_path, cifar, monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(torchvision_copy, "import_module", missing)
    dataset, _, files = cifar
    write(tmp_path / dataset.folder, files)
    assert "cannot be imported" in refusal(tmp_path, dataset)
    with pytest.raises(DataError, match=r"(?s)No module named.*pip install -r requirements\.txt"):
        download(tmp_path, dataset, "test")


def pack(path: Path, files: dict[str, bytes], mode: Any = "w:gz") -> None:
    with tarfile.open(path, mode) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("stem", "end", "mode"),
    [
        ("archive", ".tar.gz", "w:gz"),
        ("archive", ".tar.gz", "w"),  # unpacked by a browser, under the name that it had
        ("archive", ".tgz", "w:gz"),
        ("archive", ".tar", "w"),
        ("folder", ".tar.gz", "w:gz"),
    ],
)
def test_reads_cifar_from_its_archive(tmp_path, cifar, same, stem, end, mode):
    """In place: no folder is made, and whatever else is in it does nothing."""
    dataset, arrays, files = cifar
    path = tmp_path / f"{getattr(dataset, stem).removesuffix('.tar.gz')}{end}"
    inside = {f"{dataset.folder}/{name}": content for name, content in files.items()}
    pack(path, {"../outside": b"x", "readme.html": b"", **inside}, mode)
    assert same(read(tmp_path, dataset), arrays)
    assert list(tmp_path.iterdir()) == [path] and not (tmp_path.parent / "outside").exists()


def test_refuses_damaged_archives_of_cifar(tmp_path, cifar, monkeypatch):
    dataset, _, files = cifar
    path = tmp_path / dataset.archive
    inside = {f"{dataset.folder}/{name}": content for name, content in files.items()}
    pack(path, inside)
    whole = path.read_bytes()
    for content in (whole[:-100], whole[: len(whole) // 2], b"", b"no archive", b"\x1f\x8bno"):
        path.write_bytes(content)
        assert refusal(tmp_path, dataset).startswith(f"{path} cannot be used\n")
    last, *_ = reversed(inside)
    pack(path, {name: content for name, content in inside.items() if name != last})
    assert f"there is no {Path(last).name} in it" in refusal(tmp_path, dataset)
    pack(path, inside | {last: pickle.dumps(Hostile(tmp_path / "witness"))})
    assert f"{Path(last).name} is damaged: its MD5 sum is not" in refusal(tmp_path, dataset)
    assert not (tmp_path / "witness").exists()
    pack(path, {"file": b""} | {f"file {i}": b"" for i in range(packed.MAX_MEMBERS)} | inside)
    assert "more than 1000 files" in refusal(tmp_path, dataset)
    path.write_bytes(whole)
    monkeypatch.setattr(packed, "MAX_BYTES", 20_000)
    assert "more than the 20000 bytes allowed" in refusal(tmp_path, dataset)


def test_a_link_in_an_archive_leads_nowhere(tmp_path, cifar):
    dataset, _, files = cifar
    with tarfile.open(tmp_path / dataset.archive, "w:gz") as tar:
        for name in files:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(info)
    assert "there is no " in refusal(tmp_path, dataset)


@pytest.mark.parametrize("name", [IDX["x_train"], IDX["y_test"]])
def test_a_bomb_is_given_up(mnist, name, monkeypatch):
    path = mnist / MNIST.folder / name
    path.write_bytes(gzip.compress(path.read_bytes() + bytes(10**7)))
    monkeypatch.setattr(torchvision_copy, "MAX_BYTES", 10**6)
    assert f"{path} cannot be used\n  why: it holds more than the " in refusal(mnist, MNIST)


@pytest.fixture
def published(cifar, server, monkeypatch) -> tuple[Any, dict[str, Any], Path]:
    """The small CIFAR on the server, where torchvision will look: data set, arrays, the archive."""
    dataset, arrays, files = cifar
    address, folder = server
    archive = folder / dataset.archive
    pack(archive, {f"{dataset.folder}/{name}": content for name, content in files.items()})
    cls = getattr(tv, dataset.torchvision)
    monkeypatch.setattr(cls, "url", f"{address}/{archive.name}")
    monkeypatch.setattr(cls, "tgz_md5", md5(archive.read_bytes()))
    return dataset, arrays, archive


def test_a_download_is_read_and_kept(tmp_path, published, same, capfd):
    dataset, expected, _ = published
    root = tmp_path / "new" / "data"
    assert same(download(root, dataset, "test"), expected)
    assert [path.name for path in root.iterdir()] == [dataset.folder]
    assert same(read(root, dataset), expected)
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert socket.getdefaulttimeout() is None


def test_data_sets_whose_files_have_the_same_names_are_told_apart(tmp_path):
    """As far as one of them is MNIST: its labels are known, those of the others are not."""
    mnist = read_npz(bundled("mnist.npz"), MNIST, source="")
    for key, name in IDX.items():
        (tmp_path / name).write_bytes(idx(getattr(mnist, key)))
    assert len(read(tmp_path, MNIST).y_train) == 60_000
    for name in ("fashion", "kmnist"):
        with pytest.raises(DataError, match="its labels are those of MNIST, whose files have"):
            read(tmp_path, DATASETS[name])
    (tmp_path / IDX["y_train"]).write_bytes(idx(mnist.y_train[::-1].copy()))
    with pytest.raises(DataError, match="its labels are those of another data set"):
        read(tmp_path, MNIST)
    assert len(read(tmp_path, DATASETS["fashion"]).y_train) == 60_000


@pytest.mark.parametrize("name", ["mnist", "fashion", "kmnist"])
def test_a_download_of_mnist_is_read_and_kept(tmp_path, server, small, same, monkeypatch, name):
    address, folder = server
    dataset = DATASETS[name]
    cls = getattr(tv, dataset.torchvision)
    resources = []
    for key, name in IDX.items():
        packed = gzip.compress(idx(small[key]))
        (folder / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", md5(packed)))
    monkeypatch.setattr(cls, "mirrors", [f"{address}/nothing/", f"{address}/"])
    monkeypatch.setattr(cls, "resources", resources)
    assert same(download(tmp_path, dataset, "test"), small)
    assert [path.name for path in tmp_path.iterdir()] == [dataset.torchvision]
    assert same(read(tmp_path, dataset), small)


def test_what_torchvision_does_not_know_is_told(tmp_path):
    dataset = replace(MNIST, torchvision="OracleMNIST", folder="oracle")
    assert failure(tmp_path, dataset) == "torchvision has no OracleMNIST"


def failure(root: Path, dataset: Any) -> str:
    """The reason that a download gives; nothing of it may be left behind."""
    before = sorted(root.rglob("*")) if root.exists() else None
    with pytest.raises(DataError) as caught:
        download(root, dataset, "test")
    assert (sorted(root.rglob("*")) if root.exists() else None) == before
    assert "\n" not in str(caught.value)
    assert socket.getdefaulttimeout() is None
    return str(caught.value)


@pytest.mark.parametrize("made_before", [True, False])
def test_a_truncated_download_leaves_nothing(tmp_path, published, made_before):
    dataset, _, archive = published
    root = tmp_path / "data"
    if made_before:
        write(root, {"mine.txt": b"stays"})
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "File not found or corrupted" in failure(root, dataset)


def test_an_archive_that_cannot_be_unpacked_leaves_nothing(tmp_path, published, monkeypatch):
    dataset, _, archive = published
    cls = getattr(tv, dataset.torchvision)
    for content in (archive.read_bytes()[:-100], b"no archive", gzip.compress(b"no tar")):
        archive.write_bytes(content)
        monkeypatch.setattr(cls, "tgz_md5", md5(content))
        failure(tmp_path / "data", dataset)


def test_no_network_is_a_reason(tmp_path, published, monkeypatch):
    dataset, _, archive = published
    archive.unlink()
    assert "404" in failure(tmp_path / "data", dataset)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # bound, but nobody listens
        address = f"http://127.0.0.1:{free.getsockname()[1]}/file.tar.gz"
        monkeypatch.setattr(getattr(tv, dataset.torchvision), "url", address)
        assert "refused" in failure(tmp_path / "data", dataset)


def test_a_server_that_does_not_answer_is_given_up(tmp_path, published, monkeypatch):
    dataset, _, _ = published
    monkeypatch.setattr(torchvision_copy, "PATIENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file.tar.gz"
        monkeypatch.setattr(getattr(tv, dataset.torchvision), "url", address)
        assert "timed out" in failure(tmp_path / "data", dataset)


def test_a_data_dir_that_cannot_be_written_is_a_reason(tmp_path, published):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"Not a directory|File exists"):
        download(tmp_path / "file" / "data", published[0], "test")


def test_ctrl_c_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(root: str, download: bool) -> None:
        (Path(root) / "half-written").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(tv, "CIFAR10", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download(tmp_path / "data", DATASETS["cifar10"], "test")
    assert not (tmp_path / "data").exists()


def test_an_empty_folder_gives_way_but_another_runs_copy_stays(tmp_path, published, same):
    dataset, expected, _ = published
    target = tmp_path / dataset.folder
    target.mkdir()
    assert same(download(tmp_path, dataset, "test"), expected)
    (target / "of-the-other-run").write_text("")
    assert same(download(tmp_path, dataset, "test"), expected)
    assert (target / "of-the-other-run").exists()
    assert [path.name for path in tmp_path.iterdir()] == [dataset.folder]
