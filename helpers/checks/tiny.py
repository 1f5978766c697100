"""A model of the kit's own, on which a student's training loop is tried out."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Recorder(nn.Module):
    """Passes its input on, and notes whether that happened in training, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.was_training: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        """The input."""
        self.was_training.append(self.training and torch.is_grad_enabled())
        return images


class TinyAutoencoder(nn.Module):
    """One linear layer on each side: (N, 1, 28, 28) -> (N, 3) -> (N, 1, 28, 28)."""

    def __init__(self) -> None:
        super().__init__()
        self.recorder = Recorder()
        self.encoder = nn.Sequential(self.recorder, nn.Flatten(), nn.Linear(784, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28)))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1, 28, 28) -> (N, 1, 28, 28)."""
        reconstructions: Tensor = self.decoder(self.encoder(images))
        return reconstructions
