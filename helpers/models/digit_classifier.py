"""A classifier of handwritten digits, which tells what a model has drawn.

``scripts/train_digit_classifier.py`` trained it, and wrote its test accuracy next to its weights.
"""

from functools import cache
from itertools import pairwise
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights" / "digit_classifier.safetensors"


class DigitClassifier(nn.Module):
    """A small convolutional network: images (N, 1, 28, 28) in [0, 1] -> logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 64)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.layers = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(64 * 3 * 3, 10))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, 10)."""
        logits: Tensor = self.layers(images)
        return logits


@cache
def digit_classifier() -> DigitClassifier:
    """The trained classifier, in evaluation mode, on the CPU."""
    model = DigitClassifier()
    model.load_state_dict(safetensors.torch.load_file(WEIGHTS))
    return model.eval()


@torch.no_grad()
def recognise(images: Tensor, batch_size: int = 1000) -> Tensor:
    """The digit that each image resembles most.

    Args:
        images: (N, 1, 28, 28) in [0, 1].
        batch_size: number of images that are classified at once.

    Returns:
        (N,), int64, 0 to 9.
    """
    model = digit_classifier()
    batches = images.detach().cpu().float().split(batch_size)
    return torch.cat([model(batch).argmax(dim=1) for batch in batches])
