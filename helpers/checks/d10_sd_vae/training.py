"""The checks of the loss, of the data and of train_epoch."""

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Submission, check, expect, expect_close, fail
from helpers.checks.common import vae_loss
from helpers.checks.common.accumulation import (
    AccumulatingTrial,
    expect_group_updates,
    expect_undivided_loss,
)
from helpers.checks.common.sd_blocks import explain
from helpers.checks.common.trial import expect_mean_loss
from helpers.checks.d10_sd_vae.networks import D10

KL_WEIGHT = D10["kl_weight"]

# The loss.


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_hat, x, mean and logvar, with a KL term as large as the error."""
    x = torch.randn(n_images, 3, 16, 8)
    mean, logvar = 9 * torch.randn(n_images, 4, 2, 5), torch.randn(n_images, 4, 2, 5) - 0.5
    return x + 0.1 * torch.randn_like(x), x, mean, logvar


def mean_divergence(mean: Tensor, logvar: Tensor) -> float:
    """KL divergence from N(mean, exp(logvar)) to N(0, 1), the mean over all numbers."""
    return float(vae_loss.divergence(mean, logvar).mean())


@check("loss", points=3)
def loss_is_error_plus_weighted_kl(submission: Submission) -> None:
    """vae_loss is the mean squared error plus 0.00025 times the mean KL divergence."""
    for n_images in (3, 1):
        x_hat, x, mean, logvar = random_case(n_images)
        found = vae_loss.loss(submission, x_hat, x, mean, logvar, name="vae_loss")
        error, kl = float(functional.mse_loss(x_hat, x)), mean_divergence(mean, logvar)
        right = error + KL_WEIGHT * kl
        # What takes the place of the KL divergence, or of the error.
        kls = {
            "The KL term is missing.": 0.0,
            "The sign of the KL term is wrong.": -kl,
            "The KL divergence has no weight.": kl / KL_WEIGHT,
            "The factor 1/2 of the KL divergence is missing.": 2 * kl,
            "The KL divergence is summed: take its mean over all numbers.": kl * mean.numel(),
            "The KL divergence is summed over the numbers of an image: take its mean.": kl
            * mean[0].numel(),
            "The mean has no part in the KL divergence.": mean_divergence(0 * mean, logvar),
            "logvar is taken for the logarithm of the standard deviation.": mean_divergence(
                mean, 2 * logvar
            ),
        }
        errors = {
            "The squares are summed over an image: take their mean.": error * x[0].numel(),
            "The squares are summed: take their mean over everything.": error * x.numel(),
            "The error is absolute: square it.": float((x_hat - x).abs().mean()),
        }
        causes = {hint: error + KL_WEIGHT * wrong for hint, wrong in kls.items()}
        causes |= {hint: wrong + KL_WEIGHT * kl for hint, wrong in errors.items()}
        expect_close(
            found,
            right,
            f"For {n_images} image{'s' * (n_images > 1)}, an error of {error:.4f} and a mean KL "
            f"divergence of {kl:.2f}, vae_loss gave {found:.5f}; it should be {right:.5f}.",
            causes,
        )


@check("loss", points=2)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mean and logvar."""
    x_hat, x, mean, logvar = random_case(3)
    answer = submission.differentiate("vae_loss", x_hat, x, mean, logvar, wrt=(0, 2, 3))
    weight = KL_WEIGHT / mean.numel()
    rights = (2 * (x_hat - x) / x.numel(), weight * mean, weight * 0.5 * (logvar.exp() - 1))
    names = ("x_hat", "mean", "logvar")
    for name, found, right in zip(names, answer.inputs, rights, strict=True):
        if found is None:
            fail(f"The loss has no gradient for {name}.", "Is something detached?")
        explain(found, right, {}, f"The gradient of the loss for {name} is wrong.")


# Data.


@check("data", points=2)
def images_are_prepared(submission: Submission) -> None:
    """preprocess gives tensors of 56 by 56 pixels with values from -1 to 1."""
    ramp = torch.linspace(0, 255, 90).view(1, 90, 1).expand(70, 90, 3)
    found = submission.object("preprocess").tensor(
        "",
        submission.pil_image(ramp.contiguous()),
        shape=(3, 56, 56),
        what="What preprocess makes of a photograph of 90 by 70 pixels",
        hint="Resize((56, 56)), with both numbers.",
    )
    low, high = float(found.min()), float(found.max())
    expect(
        -1.01 <= low <= -0.95 and 0.95 <= high <= 1.01,
        f"Black and white should become -1 and 1; they became {low:.2f} and {high:.2f}.",
        "Normalize subtracts a mean and divides by a spread: which ones take [0, 1] to [-1, 1]?",
    )
    # Columns get brighter from left to right: nothing is turned or flipped.
    brightness = found.mean(dim=(0, 1))
    expect(bool((brightness.diff() > 0).all()), "The photograph is turned, flipped or cropped.")


# Training.


@check("training", points=2)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, undivided."""
    for expect_right in (expect_undivided_loss, expect_mean_loss):
        expect_right(AccumulatingTrial(submission, lr=0.0, n_accumulated=2))


@check("training", points=4)
def updates_gather_gradients(submission: Submission) -> None:
    """Two epochs make an update for each group of batches, also for the last one."""
    for n_accumulated in (2, 1):
        expect_group_updates(AccumulatingTrial(submission, lr=0.1, n_accumulated=n_accumulated))
