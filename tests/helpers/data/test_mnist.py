"""MNIST: where it is looked for, what becomes of damaged files, and that it is torchvision's."""

import gzip
import hashlib
import shutil
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import datasets, transforms

from helpers.data import FILES, MNIST, DataError, mnist, mnist_tensors, write_idx

REAL = FILES / "MNIST" / "raw"
NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded files as torchvision wants to find them, decompressed."""
    root = tmp_path_factory.mktemp("torchvision")
    (root / "MNIST" / "raw").mkdir(parents=True)
    for name in NAMES:
        content = gzip.decompress((REAL / f"{name}.gz").read_bytes())
        (root / "MNIST" / "raw" / name).write_bytes(content)
    return root


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small MNIST takes the place of the embedded one, and nothing else is found anywhere.

    A warning that a test does not expect is an error.
    """
    for name in ("work", "home"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(mnist.ENVIRONMENT, raising=False)
    folder = small(tmp_path / "embedded" / "MNIST" / "raw")
    monkeypatch.setattr(mnist, "KAGGLE_INPUT", tmp_path / "kaggle")
    monkeypatch.setattr(mnist, "FILES", tmp_path / "embedded")
    monkeypatch.setattr(mnist, "_FILES", {name: md5(folder, name) for name in NAMES})
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield folder


def md5(folder: Path, name: str) -> str:
    """The sum of a file's decompressed content."""
    return hashlib.md5(gzip.decompress((folder / f"{name}.gz").read_bytes())).hexdigest()


def small(folder: Path, n_train: int = 6, n_test: int = 4) -> Path:
    """A small data set in MNIST's format."""
    for train, n_images in ((True, n_train), (False, n_test)):
        images = torch.arange(n_images * 784).remainder(256).to(torch.uint8).view(-1, 28, 28)
        write_idx(folder, images, torch.arange(n_images) % 10, train=train)
    return folder


def renamed(folder: Path, rename: Callable[[str], str]) -> Path:
    """The small MNIST by other names, decompressed if they do not end in .gz."""
    small(folder)
    for name in NAMES:
        path = folder / f"{name}.gz"
        content = path.read_bytes()
        path.unlink()
        new = folder / rename(name)
        new.write_bytes(content if new.suffix == ".gz" else gzip.decompress(content))
    return folder


# The embedded files.


def test_embedded_files_are_the_originals() -> None:
    assert list(mnist._FILES) == NAMES
    for name, known in mnist._FILES.items():
        assert md5(REAL, name) == known


def test_embedded_files_are_what_everybody_knows() -> None:
    """The first labels, and the mean and standard deviation that half the world normalises with."""
    train, test = MNIST(FILES), MNIST(FILES, train=False)
    images = train.data / 255
    assert train.targets[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert round(images.mean().item(), 4) == 0.1307
    assert round(images.std().item(), 4) == 0.3081
    assert test.targets[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize("train", [True, False])
def test_equals_torchvision(train: bool, unpacked: Path) -> None:
    transform = transforms.ToTensor()
    ours = MNIST(FILES, train=train, transform=transform, target_transform=str)
    theirs = datasets.MNIST(unpacked, train=train, transform=transform, target_transform=str)
    assert len(ours) == len(theirs) == (60_000 if train else 10_000)
    assert ours.data.dtype == theirs.data.dtype
    assert torch.equal(ours.data, theirs.data)
    assert ours.targets.dtype == theirs.targets.dtype
    assert torch.equal(ours.targets, theirs.targets)
    for index in (0, 17, len(ours) - 1, -1):
        (image, label), (expected, expected_label) = ours[index], theirs[index]
        assert torch.equal(image, expected)
        assert label == expected_label


def test_items_without_transforms_are_as_in_torchvision(unpacked: Path) -> None:
    ours, theirs = MNIST(unpacked, train=False), datasets.MNIST(unpacked, train=False)
    (image, label), (expected, expected_label) = ours[3], theirs[3]
    assert (type(image), image.mode, image.size) == (type(expected), "L", (28, 28))
    assert image.tobytes() == expected.tobytes()
    assert (type(label), label) == (int, expected_label)


def test_iterating_ends(raw: Path) -> None:
    assert [label for _, label in MNIST(raw, train=False)] == [0, 1, 2, 3]


def test_tensors(raw: Path) -> None:
    images, labels = mnist_tensors(train=False)
    dataset = MNIST(train=False, transform=transforms.ToTensor())
    assert (images.shape, labels.shape) == ((4, 1, 28, 28), (4,))
    assert torch.equal(images, torch.stack([image for image, _ in dataset]))
    assert torch.equal(labels, dataset.targets)


def test_repr_says_what_and_where(raw: Path) -> None:
    assert repr(MNIST(train=False)) == f"MNIST: 4 test images from {raw}"
    assert repr(MNIST(FILES)) == f"MNIST: 60,000 training images from {REAL}"


# The order in which it looks.


def test_explicit_root_comes_first(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(mnist.ENVIRONMENT, str(small(tmp_path / "environment", 9)))
    small(Path("data"))
    root = small(tmp_path / "root", 7)
    assert len(MNIST(root)) == len(MNIST(str(root))) == 7


def test_explicit_root_in_torchvisions_layout(raw: Path, tmp_path: Path) -> None:
    small(tmp_path / "root" / "MNIST" / "raw", 7)
    assert len(MNIST(tmp_path / "root")) == 7


def test_root_in_the_home_folder(raw: Path, tmp_path: Path) -> None:
    small(tmp_path / "home" / "digits", 7)
    assert len(MNIST("~/digits")) == 7


def test_environment_comes_before_any_search(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(tmp_path / "kaggle" / "mnist")
    monkeypatch.setenv(mnist.ENVIRONMENT, str(small(tmp_path / "environment", 9)))
    assert len(MNIST()) == 9
    assert len(mnist_tensors()[0]) == 9


def test_empty_environment_counts_for_nothing(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mnist.ENVIRONMENT, "")
    assert MNIST().root == str(raw)


@pytest.mark.parametrize("place", ["mnist", "mnist-dataset/files", "datasets/owner/mnist"])
@pytest.mark.parametrize(
    "rename",
    [lambda name: f"{name}.gz", lambda name: name, lambda name: name.replace("-idx", ".idx")],
    ids=["compressed", "raw", "dotted"],
)
def test_kaggle(raw: Path, place: str, rename: Callable[[str], str], tmp_path: Path) -> None:
    folder = renamed(tmp_path / "kaggle" / place, rename)
    small(Path("data") / "MNIST" / "raw")
    assert MNIST().root == str(folder)


def test_kaggle_with_a_folder_named_like_each_file(raw: Path, tmp_path: Path) -> None:
    """As in Kaggle's most used copy, which has each file twice."""
    folder = renamed(tmp_path / "kaggle" / "mnist", lambda name: name.replace("-idx", ".idx"))
    for name in NAMES:
        (folder / name).mkdir()
        (folder / name / name).touch()
    assert MNIST().root == str(folder)


def test_other_kaggle_data_sets_are_passed_over(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "kaggle" / "cats" / "images").mkdir(parents=True)
    (tmp_path / "kaggle" / "readme.txt").touch()
    assert MNIST().root == str(raw)


@pytest.mark.parametrize("layout", [".", "MNIST/raw"])
def test_data_folders(raw: Path, layout: str, tmp_path: Path) -> None:
    in_home = small(tmp_path / "home" / "data" / layout)
    assert MNIST().root == str(in_home)
    here = small(Path("data") / layout)
    assert MNIST().root == str(here)


def test_embedded_copy(raw: Path) -> None:
    assert MNIST().root == str(raw)


def test_embedded_copy_where_there_is_no_home(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run as a user that it does not know."""
    import pwd

    def unknown(uid: int) -> Any:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    assert MNIST().root == str(raw)


def test_download_comes_last(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision's own download, of files on this machine."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(raw)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    files = [(f"{name}.gz", (raw / f"{name}.gz").read_bytes()) for name in NAMES]
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in files]
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(mnist, "FILES", tmp_path / "nothing")
    assert MNIST().root == str(Path("data") / "MNIST" / "raw")
    server.shutdown()
    server.server_close()
    assert torch.equal(MNIST().data, MNIST(raw).data)


def test_download_that_fails(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mnist, "FILES", tmp_path / "nothing")
    with pytest.raises(DataError) as error:
        MNIST()
    assert_one_sentence(error.value)
    assert "could not be downloaded" in str(error.value)
    assert mnist.ENVIRONMENT in str(error.value)


# Missing and damaged files.


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the decompressed content of a file."""

    def damage(folder: Path) -> None:
        path = folder / f"{name}.gz"
        content = gzip.decompress(path.read_bytes())
        path.unlink()
        path.write_bytes(gzip.compress(change(content), compresslevel=1))

    return damage


def rewrite(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Change the bytes of a file."""

    def damage(folder: Path) -> None:
        path = folder / f"{name}.gz"
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(change(content))

    return damage


IMAGES, LABELS = NAMES[2:]
DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut off while compressed": rewrite(IMAGES, lambda raw: raw[: len(raw) // 2]),
    "without its last byte": rewrite(IMAGES, lambda raw: raw[:-1]),
    "two bytes": rewrite(IMAGES, lambda raw: raw[:2]),
    "empty": rewrite(IMAGES, lambda raw: b""),
    "a bit flipped": rewrite(IMAGES, lambda raw: raw[:99] + bytes([raw[99] ^ 16]) + raw[100:]),
    "a web page": rewrite(LABELS, lambda raw: b"<html>404</html>"),
    "wrong magic": edit(IMAGES, lambda raw: b"\x00\x00\x0d\x03" + raw[4:]),
    "labels for images": edit(IMAGES, lambda raw: struct.pack(">ii", 2049, 4) + bytes(4)),
    "header cut off": edit(IMAGES, lambda raw: raw[:9]),
    "pixels cut off": edit(IMAGES, lambda raw: raw[:-784]),
    "pixels too many": edit(IMAGES, lambda raw: raw + bytes(784)),
    "negative size": edit(IMAGES, lambda raw: struct.pack(">iiii", 2051, -1, 28, -28) + raw[16:]),
    "size beyond 64 bits": edit(IMAGES, lambda raw: struct.pack(">iiii", 2051, *[2**30] * 3)),
    "fewer labels": edit(LABELS, lambda raw: struct.pack(">ii", 2049, 3) + raw[8:11]),
    "no labels": lambda folder: (folder / f"{LABELS}.gz").unlink(),
    "no folder": shutil.rmtree,
}


def assert_one_sentence(error: DataError) -> None:
    text = str(error)
    assert text.endswith(".")
    assert "\n" not in text
    assert ". " not in text


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("way", ["root", "environment"])
def test_damage_in_a_folder_that_was_named(
    raw: Path, kind: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = small(tmp_path / "digits")
    DAMAGE[kind](folder)
    monkeypatch.setenv(mnist.ENVIRONMENT, str(folder))
    with pytest.raises(DataError) as error:
        MNIST(folder if way == "root" else None, train=False)
    assert str(folder) in str(error.value)
    assert_one_sentence(error.value)


@pytest.mark.parametrize("kind", [kind for kind in DAMAGE if not kind.startswith("no ")])
def test_damage_in_a_folder_that_was_found(raw: Path, kind: str) -> None:
    DAMAGE[kind](small(Path("data")))
    with pytest.warns(UserWarning, match=r"^data/t10k-\S+ is .*skipped\.$") as caught:
        dataset = MNIST(train=False)
    assert dataset.root == str(raw)
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)]


@pytest.mark.parametrize("kind", ["no labels", "no folder"])
def test_an_incomplete_folder_is_passed_over(raw: Path, kind: str) -> None:
    DAMAGE[kind](small(Path("data")))
    assert MNIST().root == str(raw)


def test_another_data_set_in_mnists_place_is_passed_over(raw: Path) -> None:
    """Such as Fashion-MNIST, which has the same names; where it was named, it is taken."""
    small(Path("data"), 7)
    with pytest.warns(UserWarning, match=r"is not the real MNIST; it is skipped\.$"):
        assert MNIST().root == str(raw)
    assert len(MNIST("data")) == 7


def test_the_next_good_folder_is_taken(raw: Path, tmp_path: Path) -> None:
    DAMAGE["empty"](small(tmp_path / "kaggle" / "broken"))
    good = small(tmp_path / "kaggle" / "good")
    with pytest.warns(UserWarning, match="skipped"):
        assert MNIST().root == str(good)


# Writing.


@pytest.mark.parametrize("train", [True, False])
def test_write_and_read_again(raw: Path, train: bool, tmp_path: Path) -> None:
    folder = small(tmp_path / "new" / "digits")
    images = torch.randint(256, (11, 28, 28), dtype=torch.uint8)
    labels = torch.randint(10, (11,))
    write_idx(folder, images, labels, train=train)
    dataset = MNIST(folder, train=train)
    assert torch.equal(dataset.data, images)
    assert torch.equal(dataset.targets, labels)
    assert len(MNIST(folder, train=not train)) == (4 if train else 6)


def test_write_what_torchvision_reads(raw: Path, tmp_path: Path) -> None:
    small(tmp_path / "MNIST" / "raw")
    for name in NAMES:  # which it wants decompressed
        path = tmp_path / "MNIST" / "raw" / f"{name}.gz"
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    assert torch.equal(datasets.MNIST(str(tmp_path)).data, MNIST(tmp_path).data)


def test_writing_twice_gives_the_same_bytes(raw: Path, tmp_path: Path) -> None:
    first, second = small(tmp_path / "first"), small(tmp_path / "second")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
