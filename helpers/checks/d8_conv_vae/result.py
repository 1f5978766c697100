"""The checks of the trained model."""

from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.checking import Object, Submission, check, expect
from helpers.checks.common.results import check_budget, check_learned, check_reported, once
from helpers.checks.common.vae_results import Losses, decode, joint_posterior, trained_losses
from helpers.checks.d8_conv_vae.model import D8
from helpers.models import recognise


@dataclass(frozen=True)
class Findings(Losses):
    """The losses of the trained model with its means decoded, and its latent plane."""

    #: How many of the ten digits a classifier finds on the plane.
    kinds: int


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses in evaluation mode, and the digits on its plane."""
    kinds: list[int] = []

    def look(model: Object, latent_dims: int) -> None:
        axis = torch.linspace(-D8["reach"], D8["reach"], 20)
        plane = decode(model, torch.cartesian_prod(axis, axis))
        # Single images may be misclassified: a digit counts if at least 5 of the 400 show it.
        kinds.append(int((torch.bincount(recognise(plane), minlength=10) >= 5).sum()))

    found = trained_losses(submission, "conv_vae", two_numbers, also=look, drawn=False)
    return Findings(**vars(found), kinds=kinds[0])


def two_numbers(model: Object, images: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances of images, (N, 2) each, or fail."""
    mu, logvar = joint_posterior(model, images)
    n_numbers = mu.shape[1]
    expect(
        n_numbers == D8["latent_dims"],
        f"The codes have {n_numbers} numbers; two are asked for.",
    )
    return mu, logvar


learned = check_learned(
    __name__,
    findings,
    points=3,
    below=185.0,
    figure="Test loss {:.1f}",
    instead=" nats per image: the mean image alone would reach 206.",
    unit=" nats per image",
    of="test",
)


@check("result", points=7)
def loss_on_new_images_is_low(submission: Submission) -> str:
    """The trained model's loss on test images, with their mean codes decoded, is low enough."""
    note = f"Test loss {findings(submission).test:.1f} nats per image"
    expect(findings(submission).test <= D8.max_loss, f"{note}; it must be at most {D8.max_loss:g}.")
    return f"{note} (at most {D8.max_loss:g})."


@check("result", points=3)
def plane_holds_many_kinds(submission: Submission) -> str:
    """On the plane, from -1.5 to 1.5, a classifier finds most kinds of digits."""
    found = learned(submission).kinds
    least = D8["min_kinds"]
    note = f"A classifier finds {found} of the 10 digits on the plane"
    expect(
        found >= least, f"{note}; it should find {least:g}.", "Is the KL divergence in the loss?"
    )
    return f"{note}."


check_budget(__name__, points=1)
# Reported with drawn codes, as a mean over the epoch; measured with the means, at its end.
check_reported(__name__, findings, tolerance=0.05)
