"""A loader for data sets that fit in memory: the loop of DataLoader without its work per image."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset
from torchvision.transforms import Compose, ToTensor, v2

from helpers.data import MNIST

#: Images on which a transform is tried out.
_N_PROBES = 8


class Loader:
    """Batches of images and labels, like :class:`torch.utils.data.DataLoader`.

    Each image is decoded and transformed once and kept as a tensor, so that an epoch does no Python
    work per image. A random transform (augmentation) is noticed and applied afresh in each epoch,
    as DataLoader would.

    Args:
        dataset: gives (image, label) for an index, and has a length.
        batch_size: images in a batch.
        shuffle: a new random order in each epoch: the one that DataLoader would take from the same
            ``generator``, or from torch's seed.
        drop_last: leave out a last batch that is not full.
        generator: source of the random order.
        device: where the batches are.

    Yields:
        images (batch_size, ...) as the transform gives them, and labels (batch_size,), int64.

    Raises:
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
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise ValueError(f"batch_size should be a whole number above 0, not {batch_size!r}.")
        if not isinstance(dataset, Sized) or len(dataset) == 0:
            raise ValueError("The data set is empty.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.drop_last = drop_last
        self._shuffle = shuffle
        self._generator = generator
        self._device = torch.device(device)
        self._n_images = len(dataset)
        self._resident = None if _is_random(dataset) else self._decode(range(self._n_images))

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(self._n_images, self.batch_size)
        return full + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = self._order()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            chosen = order[start : start + self.batch_size]
            if self._resident is None:
                yield self._decode(chosen.tolist())
            else:
                images, labels = self._resident
                chosen = chosen.to(self._device)
                yield images[chosen], labels[chosen]

    def _order(self) -> Tensor:
        """The order of one epoch, drawn as DataLoader and its RandomSampler draw it."""
        # Each epoch of a DataLoader first draws a seed for its workers, whether it has any or not.
        torch.empty((), dtype=torch.int64).random_(generator=self._generator)
        if not self._shuffle:
            return torch.arange(self._n_images)
        generator = self._generator
        if generator is None:
            generator = Generator()
            generator.manual_seed(int(torch.empty((), dtype=torch.int64).random_().item()))
        return torch.randperm(self._n_images, generator=generator)

    def _decode(self, indices: Any) -> tuple[Tensor, Tensor]:
        """Transformed images and labels, stacked, on the device."""
        everything = len(indices) == self._n_images
        if everything and (resident := _all_at_once(self.dataset)) is not None:
            images, labels = resident
        else:
            pairs = [self.dataset[index] for index in indices]
            images = _stack([image for image, _ in pairs])
            labels = torch.tensor([int(label) for _, label in pairs])
        return images.to(self._device), labels.to(self._device)


def _stack(images: list[Any]) -> Tensor:
    """One tensor of all images."""
    if not isinstance(images[0], Tensor):
        kind = type(images[0]).__name__
        raise TypeError(
            f"The data set gives images of type {kind}: its transform should make tensors of them."
        )
    shapes = {tuple(image.shape) for image in images}
    if len(shapes) > 1:
        raise TypeError(f"The transform gives tensors of several shapes: {sorted(shapes)[:3]}.")
    return torch.stack(images)


def _all_at_once(dataset: Dataset[Any]) -> tuple[Tensor, Tensor] | None:
    """The whole data set in one go, where its transform is plain enough; None where it is not."""
    if not isinstance(dataset, MNIST) or dataset.target_transform is not None:
        return None
    if not _is_to_float(dataset.transform):
        return None
    return dataset.data[:, None].float().div(255), dataset.targets


def _is_to_float(transform: Any) -> bool:
    """Whether a transform does no more than divide the pixels by 255."""
    if isinstance(transform, Compose | v2.Compose):
        *before, last = transform.transforms
        if isinstance(last, v2.ToDtype):
            plain = last.dtype is torch.float32 and last.scale
            return plain and len(before) == 1 and isinstance(before[0], v2.ToImage)
        return not before and _is_to_float(last)
    return type(transform) is ToTensor


def _is_random(dataset: Dataset[Any]) -> bool:
    """Whether the same image comes out differently under another seed."""
    n_probes = min(_N_PROBES, len(dataset))  # type: ignore[arg-type]
    tries = []
    with same_randomness():
        for seed in (1, 2, 3):
            torch.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            tries.append([dataset[index][0] for index in range(n_probes)])
    if not isinstance(tries[0][0], Tensor):
        return False  # the error message comes when they are stacked
    return any(
        a.shape != b.shape or not torch.equal(a, b)
        for other in tries[1:]
        for a, b in zip(tries[0], other, strict=True)
    )


@contextmanager
def same_randomness() -> Iterator[None]:
    """Leave the state of every random number generator as it was."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
