"""The checks of the trained model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from helpers.checking import (
    Submission,
    check,
    expect,
)
from helpers.checks.common import vae_loss
from helpers.checks.common.images import some_digits
from helpers.checks.common.results import check_budget, check_learned, check_reported, once
from helpers.checks.common.vae_results import decode, joint_posterior
from helpers.checks.d8_conv_vae.model import D8
from helpers.models import recognise


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model."""

    #: Nats per image, with the means decoded.
    training: float
    test: float
    #: What a model trained for so many epochs must reach.
    most: float
    #: Kinds of digits that a classifier finds on the plane.
    kinds: int


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses in evaluation mode, and the digits on its plane.

    Means leave one process and enter another, so that what is decoded comes from two numbers.
    """
    splits = [some_digits(train=train)[0] for train in (True, False)]
    encoder = submission.trained("conv_vae")
    posteriors = [joint_posterior(encoder, images) for images in splits]
    expect(
        posteriors[0][0].shape[1] == D8["latent_dims"],
        f"The codes have {posteriors[0][0].shape[1]} numbers; two are asked for.",
    )
    decoder = submission.trained("conv_vae")
    losses = []
    for images, (mu, logvar) in zip(splits, posteriors, strict=True):
        recon = decode(decoder, mu)
        bce = functional.binary_cross_entropy(recon, images, reduction="sum") / len(images)
        kl = vae_loss.divergence(mu, logvar).sum(dim=1).mean()
        losses.append(float(bce + kl))
    axis = torch.linspace(-D8["reach"], D8["reach"], 20)
    plane = decode(decoder, torch.cartesian_prod(axis, axis))
    # One image may be taken for anything: a kind counts from five of the 400 on.
    kinds = int((torch.bincount(recognise(plane), minlength=10) >= 5).sum())
    expect(all(map(math.isfinite, losses)), "The trained model's loss is infinite.")
    few = submission.number("n_epochs") <= D8["small_epochs"]
    return Findings(losses[0], losses[1], D8["small_max_loss"] if few else D8.max_loss, kinds)


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
    found = findings(submission)
    note = f"Test loss {found.test:.1f} nats per image"
    expect(found.test <= found.most, f"{note}; it must be at most {found.most:g}.")
    return f"{note} (at most {found.most:g})."


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
