"""CIFAR-10: a small sample that comes with this kit, or the whole data set through torchvision.

The sample contains real images of the data set (Krizhevsky, "Learning multiple layers of features
from tiny images", 2009): 4,000 for training and 1,000 for testing, as JPEG files in a zip file with
one folder per class. They are enough for a model to learn within minutes on a CPU.
"""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision import datasets
from torchvision.transforms.functional import to_pil_image

from helpers.data.source import ENVIRONMENT, FILES, DataError, ImageDataset, downloading

#: The sample that comes with this kit.
SAMPLE = FILES / "cifar10"
CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class CIFAR10(ImageDataset):
    """Small colour photographs of ten kinds of things, 32 x 32 pixels.

    Args:
        train: whether to read the training images or the test images.
        size: "small" for the sample in this kit; "full" for all 60,000 images, which torchvision
            reads from ``./data`` and downloads if they are not there.
        transform: applied to each PIL image.

    Attributes:
        data: (N, 3, 32, 32), uint8.
        targets: (N,), int64, indices into :data:`CIFAR10_CLASSES`.

    Raises:
        ValueError: if ``size`` is neither "small" nor "full".
        DataError: if the data set is missing or damaged.
    """

    def __init__(
        self,
        train: bool = True,
        size: str = "small",
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        self.train = train
        self.size = size
        self.transform = transform
        folder = sample_folder("CIFAR-10", size)
        self.data, self.targets = _full(train) if folder is None else read_sample(folder, train)

    def __len__(self) -> int:
        return len(self.data)

    def _read(self, index: int) -> tuple[Any, int]:
        return to_pil_image(self.data[index]), int(self.targets[index])

    def __repr__(self) -> str:
        split = "training" if self.train else "test"
        return f"CIFAR-10, {self.size}: {len(self):,} {split} images"


def sample_folder(name: str, size: str) -> Path | None:
    """The folder of the sample to read, or None if the whole data set is to be read.

    Args:
        name: of the data set, for the error.
        size: "small" or "full". In the grader's sandbox, both are the grader's own small sample.

    Raises:
        ValueError: if ``size`` is something else.
    """
    if size not in ("small", "full"):
        raise ValueError(f'The size of {name} should be "small" or "full", but it is {size!r}.')
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    return SAMPLE if size == "small" else None


def cifar10_tensors(train: bool = True) -> Tensor:
    """All images of one split of the sample, (N, 3, 32, 32), float32 in [-0.5, 0.5]."""
    return read_sample(SAMPLE, train)[0].float() / 255 - 0.5


def read_sample(folder: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32), uint8, and labels (N,), int64, of one split of a sample.

    Raises:
        DataError: if the file is missing or damaged.
    """
    path = folder / f"{'train' if train else 'test'}.zip"
    images, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                labels.append(CIFAR10_CLASSES.index(name.partition("/")[0]))
                image = Image.open(io.BytesIO(archive.read(name))).convert("RGB")
                images.append(torch.from_numpy(np.array(image)))
        return torch.stack(images).permute(0, 3, 1, 2).contiguous(), torch.tensor(labels)
    except FileNotFoundError as error:
        raise DataError(f"The file {path} with the sample of CIFAR-10 is missing.") from error
    except (OSError, zipfile.BadZipFile, UnidentifiedImageError, ValueError, RuntimeError) as error:
        raise DataError(f"{path} is damaged: download the course kit again.") from error


def write_sample(folder: Path, images: Tensor, labels: Tensor, *, train: bool) -> None:
    """Write one split of a sample, for :func:`read_sample`.

    Args:
        folder: created if it does not exist.
        images: (N, 3, 32, 32), uint8.
        labels: (N,), indices into :data:`CIFAR10_CLASSES`.
        train: whether this is the training or the test split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / f"{'train' if train else 'test'}.zip", "w") as archive:
        for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
            file = io.BytesIO()
            to_pil_image(pixels).save(file, "JPEG")
            archive.writestr(f"{CIFAR10_CLASSES[int(label)]}/{number:05}.jpg", file.getvalue())


def _full(train: bool) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) and labels (N,) of one split of the whole data set."""
    with downloading(
        'CIFAR-10 was not found in ./data and could not be downloaded: use size="small".'
    ):
        found = datasets.CIFAR10("data", train=train, download=True)
    pixels = torch.from_numpy(found.data).permute(0, 3, 1, 2).contiguous()
    return pixels, torch.tensor(found.targets)
