"""The checks of the trained model."""

import torch

from helpers.checking import Submission, check, expect
from helpers.checks.common import settings
from helpers.checks.common.images import some_digits
from helpers.checks.common.results import (
    Errors,
    check_learned,
    check_reported,
    expect_low,
    mean_squared_errors,
    once,
)
from helpers.checks.d2_denoising.noise import D2, STD


@once
def errors(submission: Submission) -> Errors:
    """The trained model's mean squared errors, from images with the judge's own noise."""
    clean = [some_digits(train=train)[0] for train in (True, False)]
    generator = torch.Generator().manual_seed(1)
    noisy = [(x + STD * torch.randn(x.shape, generator=generator)).clamp(0, 1) for x in clean]
    pairs = list(zip(noisy, clean, strict=True))
    return mean_squared_errors(submission, "denoiser", pairs)


check_learned(
    __name__,
    errors,
    points=4,
    below=0.045,  # always answering with the mean image reaches 0.067
    figure="Training MSE {:.4f}",
    instead=": hardly better than always giving the mean image, or worse.",
)


@check("result", points=12)
def training_error_is_low(submission: Submission) -> str:
    """Denoised training images are close to the clean ones, in evaluation mode."""
    error, size = errors(submission).training, errors(submission).code_size
    expect(
        size < D2["n_pixels"],
        f"The trained model's codes hold {size} numbers, which is no bottleneck.",
    )
    hint = "More channels within the budget, a larger learning rate or more epochs help."
    return expect_low(f"Training MSE {error:.4f}", error, D2.max_loss, hint)


@check("result", points=3)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return settings.within_budget(settings.learned(submission.checkpoint("denoiser")), D2)


# The mean over the last epoch, in training mode, lags behind its end.
check_reported(__name__, errors, tolerance=0.15)
