"""Images for trying out a model."""

from functools import cache

import torch
from torch import Tensor

from helpers.data import mnist_tensors


def random_images(n_images: int) -> Tensor:
    """(n_images, 1, 28, 28) in [0, 1], different in each call."""
    return torch.rand(n_images, 1, 28, 28)


@cache
def digits(*, train: bool) -> Tensor:
    """All images of MNIST, (N, 1, 28, 28), loaded once for all submissions."""
    return mnist_tensors(train=train)[0]


@cache
def some_digits(*, train: bool, n_images: int = 5_000) -> tuple[Tensor, Tensor]:
    """Images (n_images, 1, 28, 28) and labels, drawn once: the same in each call.

    Five thousand are enough for a mean: its standard error is then below 0.5% of the loss.
    """
    images, labels = mnist_tensors(train=train)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n_images]
    return images[order], labels[order]


def spoiled(images: Tensor, std: float = 0.5) -> Tensor:
    """Images as deliverable 2 spoils them, in [0, 1] again."""
    drawn: Tensor = torch.distributions.Normal(images, std).sample()
    return drawn.clip(0, 1)
