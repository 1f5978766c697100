"""MNIST: embedded in this kit, on Kaggle, in torchvision's folder, or downloaded.

The files are the original ones: gzip-compressed IDX (LeCun, Cortes & Burges, "The MNIST database of
handwritten digits"), a big-endian header of a magic number and the sizes, then one byte a pixel.
"""

from __future__ import annotations

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
from torch.utils.data import Dataset

from helpers.data.source import ENVIRONMENT, FILES, DataError

#: Where Kaggle mounts the data sets that are attached to a notebook.
KAGGLE_INPUT = Path("/kaggle/input")

#: File names, and the MD5 sums of their decompressed content.
_FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
_IMAGES, _LABELS = 2051, 2049  # magic numbers: unsigned bytes in three dimensions, and in one


class MNIST(Dataset[tuple[Any, Any]]):
    """Handwritten digits: 60,000 for training, 10,000 for testing, 28 x 28 grey values.

    Works like :class:`torchvision.datasets.MNIST`, and looks for its files in this order: ``root``,
    the folder in ``LATENT_LAB_DATA``, an attached Kaggle data set, ``./data`` and ``~/data``
    (torchvision's layout), the copy in this kit, and finally a download.

    Args:
        root: a folder that holds the four files, in it or in ``MNIST/raw``.
        train: the training images rather than the test images.
        transform: applied to each PIL image.
        target_transform: applied to each label.

    Attributes:
        data: (N, 28, 28), uint8.
        targets: (N,), int64, 0 to 9.

    Raises:
        DataError: if ``root`` or ``LATENT_LAB_DATA`` holds no sound files, or none can be found.
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

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The transformed image and label at ``index``."""
        image: Any = Image.fromarray(self.data[index].numpy())
        label: Any = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            label = self.target_transform(label)
        return image, label

    def __repr__(self) -> str:
        split = "training" if self.train else "test"
        return f"MNIST: {len(self):,} {split} images from {self.root}"


def mnist_tensors(train: bool = True) -> tuple[Tensor, Tensor]:
    """All images, (N, 1, 28, 28) in [0, 1], and labels, (N,)."""
    dataset = MNIST(train=train)
    return dataset.data[:, None].float().div_(255), dataset.targets


def write_idx(folder: Path, images: Tensor, labels: Tensor, *, train: bool) -> None:
    """Write a data set in MNIST's format, so that ``MNIST(folder)`` reads it.

    Args:
        images: (N, 28, 28), uint8.
        labels: (N,), 0 to 9.
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
    """The folder with the files, by the order of :class:`MNIST`."""
    explicit = root if root is not None else os.environ.get(ENVIRONMENT) or None
    if explicit is not None:
        folder = _with_files(_home(explicit))
        if folder is None:
            raise DataError(f"There is no MNIST in {explicit}: expected {', '.join(_FILES)} (.gz).")
        return folder
    for candidate in _candidates():
        folder = _with_files(candidate)
        if folder is not None and _is_original(folder):
            return folder
    return _download()


def _candidates() -> Iterator[Path]:
    """Folders to look into, the best first."""
    if KAGGLE_INPUT.is_dir():
        for pattern in ("*", "*/*", "*/*/*"):
            yield from (path for path in sorted(KAGGLE_INPUT.glob(pattern)) if path.is_dir())
    yield from (Path("data"), _home("~/data"), FILES)


def _home(path: str | Path) -> Path:
    """The path with the home folder for ``~``; unchanged if there is no home folder."""
    return Path(os.path.expanduser(path))


def _with_files(folder: Path) -> Path | None:
    """The folder itself or its ``MNIST/raw``, whichever has all four files."""
    for each in (folder / "MNIST" / "raw", folder):
        if all(_path(each, name) is not None for name in _FILES):
            return each
    return None


def _path(folder: Path, name: str) -> Path | None:
    """The compressed or raw file called ``name``, if there is one."""
    # Kaggle's most used copy has a dot in place of the last dash.
    for variant in (f"{name}.gz", name, name.replace("-idx", ".idx")):
        if (folder / variant).is_file():
            return folder / variant
    return None


def _is_original(folder: Path) -> bool:
    """Whether the four files are the real ones; says so in one line if not."""
    for name, md5 in _FILES.items():
        try:
            content = _content(folder, name)
        except DataError as error:
            warnings.warn(f"{error} It is skipped.", stacklevel=4)
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
        raise DataError(f"{path} is damaged: delete it and fetch it again.") from error


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
        raise DataError(f"{folder / name} is not an IDX file: delete it and fetch it again.")
    shape = struct.unpack(f">{n_dims}i", content[4:header])
    pixels = np.frombuffer(content, np.uint8, offset=header)
    if min(shape) < 0 or math.prod(shape) != pixels.size:
        raise DataError(f"{folder / name} is cut off: delete it and fetch it again.")
    return torch.from_numpy(pixels.reshape(shape).copy())


def _download() -> Path:
    """Fetch the files through torchvision."""
    # Imported here: nothing else needs it, and it takes longer to import than torch.
    from torchvision import datasets

    try:
        datasets.MNIST("data", download=True)
    except Exception as error:  # urllib, sockets, disk: many kinds
        raise DataError(
            "MNIST was not found and could not be downloaded: "
            f"name its folder in {ENVIRONMENT} or as MNIST(root=...)."
        ) from error
    return Path("data") / "MNIST" / "raw"
