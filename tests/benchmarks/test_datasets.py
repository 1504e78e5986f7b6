from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import datasets, digits
from benchmarks.datasets import BUNDLED, DATASETS, SHA256, load_arrays
from benchmarks.formats import DataError
from exps.messages import ConfigError

ROOT = BUNDLED.parent.parent


@pytest.fixture
def offline(monkeypatch):
    """Every download fails, as on a machine without a network."""

    def download(*_: object, **__: object) -> None:
        raise DataError("URLError: <urlopen error [Errno -3] Temporary failure>")

    monkeypatch.setattr(datasets, "download", download)


@pytest.fixture
def empty_bundle(monkeypatch, tmp_path):
    """A project whose bundled files are not there."""
    monkeypatch.setattr(datasets, "BUNDLED", tmp_path / "bundled")
    (tmp_path / "bundled").mkdir()
    return tmp_path / "bundled"


def write_mnist_raw(folder: Path, arrays: dict) -> None:
    names = {"x_train": "train-images", "x_test": "t10k-images"}
    names |= {"y_train": "train-labels", "y_test": "t10k-labels"}
    folder.mkdir(parents=True, exist_ok=True)
    for key, name in names.items():
        shape = arrays[key].shape
        header = np.array([0x800 + len(shape), *shape], dtype=">i4").tobytes()
        suffix = f"-idx{len(shape)}-ubyte"
        (folder / (name + suffix)).write_bytes(header + arrays[key].tobytes())


def test_the_bundled_mnist_is_the_whole_of_it():
    arrays = load_arrays("mnist", Path("data"))
    assert arrays.x_train.shape == (60_000, 28, 28) and arrays.x_test.shape == (10_000, 28, 28)
    assert arrays.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(arrays.y_test).tolist() == [
        *(980, 1135, 1032, 1010, 982),
        *(892, 958, 1028, 974, 1009),
    ]
    assert arrays.source == "mnist.npz (bundled)"
    assert not Path("data").exists()


def test_the_sample_has_all_classes_alike(tmp_path):
    (tmp_path / "cifar10.npz").write_text("never looked at")
    arrays = load_arrays("cifar10", tmp_path, sample=True)
    assert arrays.x_train.shape == (1000, 32, 32, 3) and arrays.x_test.shape == (200, 32, 32, 3)
    assert np.bincount(arrays.y_train).tolist() == [100] * 10
    assert np.bincount(arrays.y_test).tolist() == [20] * 10
    assert arrays.source == "cifar10_sample.npz (bundled)"


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_other_data_sets_have_no_sample(name, tmp_path):
    with pytest.raises(DataError, match=f"(?s)no sample of {name} is bundled.*set data = full"):
        load_arrays(name, tmp_path, sample=True)


def test_places_are_looked_at_in_order(tmp_path, make_arrays, same):
    mine, torchvisions = make_arrays(train=30), make_arrays(train=40)
    write_mnist_raw(tmp_path / "MNIST/raw", torchvisions)
    assert same(load_arrays("mnist", tmp_path), torchvisions)
    np.savez(tmp_path / "mnist.npz", **mine)
    arrays = load_arrays("mnist", tmp_path)
    assert same(arrays, mine)
    assert arrays.source == str(tmp_path / "mnist.npz")


def test_an_empty_folder_of_torchvisions_is_nothing():
    Path("data/MNIST/raw").mkdir(parents=True)
    assert load_arrays("mnist", Path("data")).source == "mnist.npz (bundled)"


def test_a_folder_set_by_hand_has_the_data_or_is_an_error(tmp_path, offline):
    with pytest.raises(ConfigError) as caught:
        load_arrays("mnist", Path("no-such-folder"))
    what, why, remedy = str(caught.value).split("\n")
    assert what == "data_dir = no-such-folder: there is no such folder"
    assert "looked for no-such-folder/mnist.npz; no-such-folder/MNIST/raw" in why
    assert "leave it out: then the bundled file is used" in remedy
    (tmp_path / "train-image.gz").touch()
    with pytest.raises(ConfigError, match=r"(?s)there is no mnist in it\n.*train-image.gz in it"):
        load_arrays("mnist", tmp_path)
    # Where nothing is bundled, a folder may be made: by a download.
    with pytest.raises(DataError, match="there is no such folder, and the download failed"):
        load_arrays("cifar100", Path("no-such-folder"))


def test_what_torchvision_unpacks_need_not_be_unpacked(tmp_path, small, same):
    """As it is downloaded, with the folder itself or those above it as data_dir."""
    write_mnist_raw(tmp_path / "MNIST/raw", small)
    for path in (tmp_path / "MNIST/raw").iterdir():
        Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    for data_dir in (tmp_path, tmp_path / "MNIST", tmp_path / "MNIST/raw"):
        arrays = load_arrays("mnist", data_dir)
        assert same(arrays, small)
        assert arrays.source == f"{tmp_path / 'MNIST/raw'} (torchvision's copy)"


@pytest.mark.parametrize("kind", ["kaggle", "kaggle folders", "mixed", "packed without .gz"])
def test_mnist_as_other_sites_have_it(tmp_path, small, same, kind):
    write_mnist_raw(tmp_path, small)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        content = path.read_bytes()
        path.unlink()
        if kind == "kaggle":
            path = path.with_name(path.name.replace("-idx", ".idx"))
        elif kind == "kaggle folders":
            path.mkdir()
            path = path / path.name
        elif kind == "mixed" and number % 2:
            path, content = Path(f"{path}.gz"), gzip.compress(content)
        elif kind == "packed without .gz":
            content = gzip.compress(content)
        path.write_bytes(content)
    assert same(load_arrays("mnist", tmp_path), small)


@pytest.mark.parametrize("place", ["mnist.npz", "MNIST/raw"])
@pytest.mark.parametrize("make", ["file", "link", "folder"])
def test_what_is_damaged_is_never_passed_over(tmp_path, place, make):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    if make == "file":
        path.write_bytes(b"damaged")
    elif make == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        (path / "something").mkdir(parents=True)
    with pytest.raises(DataError, match=re.escape(str(path))):
        load_arrays("mnist", tmp_path)


def test_a_changed_bundled_file_is_refused(empty_bundle, small):
    np.savez(empty_bundle / "mnist.npz", **small)
    with pytest.raises(
        DataError,
        match=r"(?s)mnist\.npz cannot be used.*is damaged.*git checkout -- benchmarks/data/mnist",
    ):
        load_arrays("mnist", Path("data"))


def test_a_missing_sample_is_an_error(tmp_path, empty_bundle):
    with pytest.raises(
        DataError, match=r"(?s)cifar10_sample\.npz cannot be used.*No such file.*git checkout"
    ):
        load_arrays("cifar10", tmp_path, sample=True)


def test_when_nothing_is_found_one_error_says_where_and_what_helps(tmp_path, offline):
    with pytest.raises(DataError) as caught:
        load_arrays("cifar10", tmp_path)
    message = str(caught.value)
    assert message.count("\n") == 2  # what, why, what to do
    for part in (
        f"cifar10 was not found: looked for {tmp_path / 'cifar10.npz'}",
        f"{tmp_path / 'cifar-10-batches-py'} (torchvision's copy)",
        "the download failed (URLError: <urlopen error [Errno -3] Temporary failure>)",
        "put cifar10.npz (x_train, y_train, x_test, y_test, all uint8) there",
        "put cifar-10-python.tar.gz there, packed or not",
        "it is empty",
        "set data = sample",
        "connect to the internet",
    ):
        assert part in message


def test_only_ways_that_exist_are_proposed(tmp_path, offline, empty_bundle):
    with pytest.raises(DataError) as caught:
        load_arrays("cifar100", tmp_path)
    assert "data = sample" not in str(caught.value)
    with pytest.raises(DataError, match=r"(?s)mnist.npz \(bundled\).*git checkout"):
        load_arrays("mnist", tmp_path)


def refused_folder(data_dir: Path) -> str:
    with pytest.raises(ConfigError, match="set it to a folder that can be read") as caught:
        load_arrays("mnist", data_dir)
    return str(caught.value)


def test_a_data_dir_that_is_no_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert "Not a directory" in refused_folder(tmp_path / "file")
    assert "Not a directory" in refused_folder(tmp_path / "file" / "below")
    assert "No such file" in refused_folder(tmp_path / "link")
    assert "null" in refused_folder(Path("nul\0l"))
    assert "~no-such-user" in refused_folder(Path("~no-such-user/data"))


@pytest.mark.skipif(os.geteuid() == 0, reason="needs a user whom file permissions bind, not root")
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_an_unreadable_data_dir_is_refused(tmp_path, mode):
    (tmp_path / "data").mkdir(mode=mode)
    with pytest.raises((ConfigError, DataError), match="Permission denied"):
        load_arrays("mnist", tmp_path / "data")


def test_home_is_expanded(tmp_path, monkeypatch, small, same):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.savez(tmp_path / "mnist.npz", **small)
    assert same(load_arrays("mnist", Path("~")), small)


def test_the_note_on_sources_has_the_sums_of_the_files():
    note = (BUNDLED / "SOURCES.md").read_text(encoding="utf-8")
    for name, digest in SHA256.items():
        assert re.search(rf"`{name}`.*`{digest}`", note)
    bundled = {n for d in DATASETS.values() for n in (d.bundled, d.sample) if n} | {digits.FILE}
    assert bundled == set(SHA256) == {path.name for path in BUNDLED.glob("*.npz")}


def test_torchvision_is_not_imported_for_bundled_data():
    program = (
        "import sys, benchmarks.mnist, benchmarks.cifar, benchmarks.cifar100\n"
        "from pathlib import Path\n"
        "benchmarks.datasets.load_arrays('cifar10', Path('no-such-folder'), sample=True)\n"
        "assert 'torchvision' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
