"""MNIST: from this kit, Kaggle, torchvision's folder, or a download.

The files are the original gzip-compressed IDX files (LeCun, Cortes & Burges, "The MNIST database of
handwritten digits"): a big-endian header with a magic number and the sizes, then a byte per value.
"""

import gzip
import hashlib
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import datasets

from helpers.data.source import ENVIRONMENT, FILES, DataError, ImageDataset, downloading

#: Where Kaggle mounts the data sets that are attached to a notebook.
KAGGLE_INPUT = Path("/kaggle/input")

#: File names, with the MD5 sums of their decompressed contents.
_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_IMAGES, _LABELS = 2051, 2049  # magic numbers: unsigned bytes in three dimensions, and in one


class MNIST(ImageDataset):
    """Handwritten digits: 60,000 for training and 10,000 for testing, 28 x 28 grey values each.

    Works like :class:`torchvision.datasets.MNIST`. The files are looked for in this order: in
    ``root``, in the folder that the environment variable ``LATENT_LAB_DATA`` names, in a data set
    attached on Kaggle, in ``./data`` and ``~/data`` (torchvision's layout), and in this kit. If
    they are not found, they are downloaded.

    Args:
        root: a folder with the four files, directly or in ``MNIST/raw``.
        train: whether to read the training images or the test images.
        transform: applied to each PIL image.
        target_transform: applied to each label.

    Attributes:
        data: (N, 28, 28), uint8.
        targets: (N,), int64, 0 to 9.

    Raises:
        DataError: if the files in ``root`` or ``LATENT_LAB_DATA`` are missing or damaged, or if
            there are none and they cannot be downloaded.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
    ) -> None:
        folder = _find_folder(root)
        self.root = str(folder)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        self.data, self.targets = _read_split(folder, train)

    def __len__(self) -> int:
        return len(self.data)

    def _read(self, index: int) -> tuple[Any, Any]:
        image, label = Image.fromarray(self.data[index].numpy()), int(self.targets[index])
        return image, label if self.target_transform is None else self.target_transform(label)

    def __repr__(self) -> str:
        split = "training" if self.train else "test"
        return f"MNIST: {len(self):,} {split} images from {self.root}"


def mnist_tensors(train: bool = True) -> tuple[Tensor, Tensor]:
    """All images of one split, (N, 1, 28, 28), float32 in [0, 1], and labels, (N,), int64."""
    dataset = MNIST(train=train)
    return dataset.data[:, None].float().div_(255), dataset.targets


def write_idx(folder: Path, images: Tensor, labels: Tensor, *, train: bool) -> None:
    """Write one split in MNIST's format; ``MNIST(folder)`` can read it if both splits are there.

    Args:
        folder: created if it does not exist.
        images: (N, 28, 28), uint8.
        labels: (N,), 0 to 9.
        train: whether this is the training or the test split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    prefix = "train" if train else "t10k"
    header = struct.pack(">iiii", _IMAGES, *images.shape)
    pixels = images.to(torch.uint8).numpy().tobytes()
    (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + pixels, mtime=0))
    header = struct.pack(">ii", _LABELS, len(labels))
    digits = labels.to(torch.uint8).numpy().tobytes()
    (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header + digits, mtime=0))


def _find_folder(root: str | Path | None) -> Path:
    """The first folder with the files, in the order given in :class:`MNIST`."""
    explicit = root if root is not None else os.environ.get(ENVIRONMENT) or None
    if explicit is not None:
        folder = _with_files(_home(explicit))
        if folder is None:
            raise DataError(
                f"{explicit} does not contain the files of MNIST: {', '.join(_FILES)} (.gz)."
            )
        return folder
    for candidate in _candidates():
        folder = _with_files(candidate)
        if folder is not None and _is_original(folder):
            return folder
    return _download()


def _candidates() -> Iterator[Path]:
    """Folders to look in, the preferred one first."""
    if KAGGLE_INPUT.is_dir():
        for pattern in ("*", "*/*", "*/*/*"):
            yield from (path for path in sorted(KAGGLE_INPUT.glob(pattern)) if path.is_dir())
    yield from (Path("data"), _home("~/data"), FILES)


def _home(path: str | Path) -> Path:
    """The path with ``~`` replaced by the home folder; unchanged if there is none."""
    return Path(os.path.expanduser(path))


def _with_files(folder: Path) -> Path | None:
    """The folder's ``MNIST/raw`` or the folder itself: the first that has all four files."""
    for each in (folder / "MNIST" / "raw", folder):
        if all(_path(each, name) is not None for name in _FILES):
            return each
    return None


def _path(folder: Path, name: str) -> Path | None:
    """The file called ``name``, compressed or not, if there is one."""
    # The most used copy on Kaggle has a dot instead of the last dash.
    for variant in (f"{name}.gz", name, name.replace("-idx", ".idx")):
        if (folder / variant).is_file():
            return folder / variant
    return None


def _is_original(folder: Path) -> bool:
    """Whether the four files are the original ones; if not, a warning says so."""
    for name, md5 in _FILES.items():
        try:
            content = _content(folder, name)
        except DataError as error:
            warnings.warn(f"{error} This folder is skipped.", stacklevel=4)
            return False
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
            warnings.warn(f"{folder / name} is not the real MNIST; it is skipped.", stacklevel=4)
            return False
    return True


def _content(folder: Path, name: str) -> bytes:
    """The decompressed bytes of a file."""
    path = _path(folder, name)
    if path is None:
        raise DataError(f"{folder / name}(.gz) is missing.")
    try:
        data = path.read_bytes()
        return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: delete it and download it again.") from error


def _read_split(folder: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 28, 28) and labels (N,) of one split."""
    prefix = "train" if train else "t10k"
    images = _read_idx(folder, f"{prefix}-images-idx3-ubyte", _IMAGES)
    labels = _read_idx(folder, f"{prefix}-labels-idx1-ubyte", _LABELS)
    if len(images) != len(labels):
        raise DataError(f"{folder} has {len(images)} images but {len(labels)} labels.")
    return images, labels.long()


def _read_idx(folder: Path, name: str, magic: int) -> Tensor:
    """The array in an IDX file of unsigned bytes."""
    content = _content(folder, name)
    n_dims = magic & 0xFF
    header = 4 * (1 + n_dims)
    if len(content) < header or int.from_bytes(content[:4], "big") != magic:
        raise DataError(f"{folder / name} is not an IDX file: delete it and download it again.")
    shape = struct.unpack(f">{n_dims}i", content[4:header])
    pixels = np.frombuffer(content, np.uint8, offset=header)
    if min(shape) < 0 or math.prod(shape) != pixels.size:
        raise DataError(f"{folder / name} is incomplete: delete it and download it again.")
    return torch.from_numpy(pixels.reshape(shape).copy())


def _download() -> Path:
    """Download the files through torchvision."""
    with downloading(
        "MNIST was not found and could not be downloaded: set its folder with MNIST(root=...) or "
        f"the environment variable {ENVIRONMENT}."
    ):
        datasets.MNIST("data", download=True)
    return Path("data") / "MNIST" / "raw"
