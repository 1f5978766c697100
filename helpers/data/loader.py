"""A loader for data sets that fit in memory: DataLoader's loop without its work for each image."""

from collections.abc import Iterable, Iterator, Sized
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision.transforms import Compose, ToTensor, v2
from torchvision.tv_tensors import Image

from helpers.data.mnist import MNIST
from helpers.training import random_state, same_randomness

#: Number of images on which a transform is tried.
_N_PROBES = 8


class Loader:
    """Batches of images and labels, like :class:`torch.utils.data.DataLoader`.

    Each image is decoded and transformed once and kept as a tensor, so an epoch does no work in
    Python for each image. A random transform (augmentation) is detected and applied anew in each
    epoch, as DataLoader does.

    Args:
        dataset: gives (image, label) for an index, and has a length.
        batch_size: number of images in a batch.
        shuffle: whether each epoch has a new random order.
        drop_last: whether to leave out the last batch if it is not full.
        generator: source of the random order; by default torch's global one.
        device: where the batches are.

    Yields:
        images (batch_size, ...), as the transform gives them, and labels (batch_size,), int64.

    Raises:
        ValueError: if the data set is empty, or ``batch_size`` is not a positive whole number.
        TypeError: if the transform does not give tensors of one shape.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        if (
            isinstance(batch_size, bool)
            or not isinstance(batch_size, int | np.integer)
            or batch_size < 1
        ):
            raise ValueError(
                f"batch_size should be a whole number above 0, but it is {batch_size!r}."
            )
        if not isinstance(dataset, Sized) or len(dataset) == 0:
            raise ValueError("The data set is empty.")
        self.dataset = dataset
        self.batch_size = int(batch_size)  # it may be one of NumPy's
        self.drop_last = drop_last
        self._shuffle = shuffle
        self._generator = generator
        self._device = torch.device(device)
        self._n_images = len(dataset)
        self._resident = self._everything()

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self._n_images, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.arange(self._n_images)
        if self._shuffle:
            order = torch.randperm(self._n_images, generator=self._generator)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            if self._resident is None:
                yield self._decode(chosen.tolist())
            else:
                images, labels = self._resident
                chosen = chosen.to(self._device)
                yield images[chosen], labels[chosen]

    def _everything(self) -> tuple[Tensor, Tensor] | None:
        """All images and labels, on the device; None if they differ between epochs."""
        plain = _all_at_once(self.dataset)
        if plain is not None:
            images, labels = plain
            return images.to(self._device), labels.to(self._device)
        return None if _is_random(self.dataset) else self._decode(range(self._n_images))

    def _decode(self, indices: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Transformed images and labels, stacked, on the device."""
        pairs = [self.dataset[index] for index in indices]
        images = _stack([image for image, _ in pairs])
        labels = torch.tensor([int(label) for _, label in pairs])
        return images.to(self._device), labels.to(self._device)


def _stack(images: list[Any]) -> Tensor:
    """One tensor of all images."""
    _check_tensor(images[0])
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise TypeError(f"The transform returns tensors of several shapes: {sorted(shapes)[:3]}.")
    return torch.stack(images)


def _check_tensor(image: Any) -> None:
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        raise TypeError(
            f"The data set returns images of type {kind}. Its transform should convert them to "
            "tensors."
        )


def _all_at_once(dataset: Dataset[Any]) -> tuple[Tensor, Tensor] | None:
    """The whole data set in one step, if its transform only converts pixels to floats."""
    # Not for subclasses: they may give other items.
    if type(dataset) is not MNIST or dataset.target_transform is not None:
        return None
    transform: Any = dataset.transform
    pixels = dataset.data[:, None]
    steps = transform.transforms if isinstance(transform, Compose | v2.Compose) else [transform]
    kinds = [type(step) for step in steps]
    if kinds == [ToTensor]:
        return pixels.float().div_(255), dataset.targets
    if kinds == [v2.ToImage, v2.ToDtype]:
        return steps[1](Image(pixels)).as_subclass(Tensor), dataset.targets
    return None


def _is_random(dataset: Dataset[Any]) -> bool:
    """Whether a transform draws random numbers, or its result differs when it is repeated."""
    n_probes = min(_N_PROBES, len(dataset))  # type: ignore[arg-type]
    with same_randomness():
        before = random_state()
        first, second = ([dataset[i][0] for i in range(n_probes)] for _ in range(2))
        drawn = random_state() != before
    _check_tensor(first[0])
    return drawn or any(not torch.equal(a, b) for a, b in zip(first, second, strict=True))
