"""Photographs of dogs: some that come with this kit, or thousands through torchvision.

Those in the kit are the dogs of its sample of CIFAR-10, 32 x 32 pixels. The others are the dogs of
the Oxford-IIIT Pet data set (Parkhi et al., "Cats and dogs", 2012), which have various sizes.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset, random_split
from torchvision import datasets, transforms
from torchvision.transforms.functional import to_pil_image

from helpers.data.cifar10 import CIFAR10_CLASSES, SAMPLE, read_sample, sample_folder
from helpers.data.source import DataError, ImageDataset, downloading

IMAGE_SIZE = 56


class Dogs(ImageDataset):
    """Photographs of dogs, without their breeds: every label is 0.

    Args:
        size: "small" for the 500 photographs in this kit; "full" for the almost 5,000 of the Pet
            data set, which torchvision reads from ``./data`` and downloads if they are not there.
        transform: applied to each PIL image.

    Raises:
        ValueError: if ``size`` is neither "small" nor "full".
        DataError: if the data set is missing or damaged.
    """

    def __init__(self, size: str = "small", transform: Callable[[Any], Any] | None = None) -> None:
        self.size = size
        self.transform = transform
        folder = sample_folder("Dogs", size)
        #: PIL images, or files that are opened one at a time: all of them would fill the memory.
        self._photographs: list[Any] = _pets() if folder is None else _sample(folder)

    def __len__(self) -> int:
        return len(self._photographs)

    def _read(self, index: int) -> tuple[Any, int]:
        photograph = self._photographs[index]
        if isinstance(photograph, Path):
            try:
                return Image.open(photograph).convert("RGB"), 0
            except OSError as error:
                raise DataError(
                    f"{photograph} is damaged: delete it and download it again."
                ) from error
        return photograph, 0

    def __repr__(self) -> str:
        return f"Dogs, {self.size}: {len(self):,} photographs"


def split_dogs(dataset: Dataset[Any]) -> tuple[Subset[Any], Subset[Any]]:
    """Four fifths of a data set for training, one fifth for testing; always the same split."""
    generator = torch.Generator().manual_seed(42)
    training, test = random_split(dataset, [0.8, 0.2], generator=generator)
    return training, test


@cache
def dog_tensors() -> tuple[Tensor, Tensor]:
    """The kit's photographs for training, (400, 3, 56, 56), and testing, (100, 3, 56, 56).

    Enlarged from 32 x 32 pixels; float32 in [-1, 1].
    """
    prepare = transforms.Compose(
        [transforms.Resize((IMAGE_SIZE, IMAGE_SIZE)), transforms.ToTensor()]
    )
    pixels = torch.stack([prepare(photograph) for photograph in _sample(SAMPLE)])
    photographs = 2 * pixels - 1
    training, test = split_dogs(TensorDataset(photographs))
    return photographs[training.indices], photographs[test.indices]


def _sample(folder: Path) -> list[Any]:
    """The dogs of a sample of CIFAR-10, as PIL images."""
    dog = CIFAR10_CLASSES.index("dog")
    splits = (read_sample(folder, train) for train in (True, False))
    return [to_pil_image(pixels) for images, labels in splits for pixels in images[labels == dog]]


def _pets() -> list[Path]:
    """The files of the dogs in both splits of the Pet data set."""
    with downloading(
        'The Pet data set was not found in ./data and could not be downloaded: use size="small".'
    ):
        datasets.OxfordIIITPet("data", download=True)
        folder = Path("data") / "oxford-iiit-pet"
        # Each line has a name, the number of the breed, 1 for a cat or 2 for a dog, and the number
        # of the breed among the cats or dogs.
        lines = [
            line.split()
            for part in ("trainval", "test")
            for line in (folder / "annotations" / f"{part}.txt").read_text().splitlines()
        ]
        return [folder / "images" / f"{name}.jpg" for name, _, kind, _ in lines if kind == "2"]
