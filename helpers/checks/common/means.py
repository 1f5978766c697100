"""The mean loss of an epoch, and what mistakes make of it."""

import torch
from torch import Tensor

#: Number of images in each batch of a trial.
COUNTS = torch.tensor([5.0, 5.0, 3.0])


def mean_over_images(losses: Tensor, counts: Tensor = COUNTS) -> float:
    """The mean over all images, from the mean loss of each batch of ``counts`` images, (B,)."""
    return float((losses * counts).sum() / counts.sum())


def mean_causes(losses: Tensor, counts: Tensor = COUNTS) -> dict[str, float]:
    """The values that common mistakes give; see :func:`mean_over_images`."""
    n_images, full = float(counts.sum()), float(counts[0])
    batches = "the number of batches"
    if int(counts[-1]) == len(counts):
        batches = "the number of batches, or of the last batch's images"
    return {
        "Only the last batch is in the sum: add to it with +=.": float(losses[-1] * counts[-1])
        / n_images,
        "The last batch is weighed as if it were a full one: multiply by len(images).": float(
            losses.sum() * full / n_images
        ),
        "This is the loss of the last batch alone.": float(losses[-1]),
        "This is the loss of the first batch alone: is `return` inside the loop?": float(losses[0]),
        "This is the mean of the batches' means: the last batch is smaller, so weigh each loss by "
        "the number of its images.": float(losses.mean()),
        "This is the sum of the batches' losses: divide by their number of images.": float(
            losses.sum()
        ),
        "This is the sum over images: divide by their number.": float((losses * counts).sum()),
        f"The sum over all images is divided by {batches}: divide it by the number of "
        "images.": float((losses * counts).sum() / len(counts)),
        "The batches' means were divided by the number of images: multiply each by the number of "
        "its images first.": float(losses.sum() / n_images),
    }
