"""What the trained variational autoencoders lose, with codes drawn here."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, expect
from helpers.checks.common.declaring import declare, deliverable_in
from helpers.checks.common.images import some_digits
from helpers.checks.common.results import check_learned, expect_low
from helpers.checks.common.vae_loss import divergence
from helpers.checks.common.vae_model import decoder_input, encoder_input

WIDER = "Wider hidden layers, smaller batches or more epochs help."


@dataclass(frozen=True)
class Losses:
    """What a trained model loses per image, in nats."""

    training: float
    test: float
    #: The KL divergence's part of the training loss.
    kl: float


L = TypeVar("L", bound=Losses)


def trained_losses(
    submission: Submission,
    name: str,
    condition: Callable[[Tensor, Tensor], Tensor] | None = None,
    also: Callable[[Object, int], None] | None = None,
) -> Losses:
    """The losses of the trained model ``name``, with codes drawn here.

    Means and log variances leave one process; the codes are drawn by the judge and enter another,
    so that what is decoded comes from them alone.

    Args:
        condition: makes conditions (N, C) of images and labels; None for a model without.
        also: called with the model whose decoder is asked, and Z, to ask it more: starting
            another process takes seconds.
    """
    splits = [some_digits(train=train) for train in (True, False)]
    conditions = [None if condition is None else condition(*split) for split in splits]
    encoder = submission.trained(name)
    posteriors = [
        posterior(encoder, encoder_input(images, c))
        for (images, _), c in zip(splits, conditions, strict=True)
    ]
    # Asked for anew: in the grader this is another process, which has never seen an image.
    decoder = submission.trained(name)
    generator = torch.Generator().manual_seed(2)
    losses, kls = [], []
    for (images, _), c, (mu, logvar) in zip(splits, conditions, posteriors, strict=True):
        z = mu + torch.exp(logvar / 2) * torch.randn(mu.shape, generator=generator)
        x_hat = decode(decoder, decoder_input(z, c))
        kl = divergence(mu, logvar).sum(dim=1)
        bce = functional.binary_cross_entropy(x_hat, images, reduction="sum") / len(images)
        losses.append(float(bce + kl.mean()))
        kls.append(float(kl.mean()))
    if also is not None:
        also(decoder, posteriors[0][0].shape[1])
    expect(all(math.isfinite(value) for value in losses), "The trained model's loss is infinite.")
    return Losses(training=losses[0], test=losses[1], kl=kls[0])


def check_losses(
    module: str,
    losses: Callable[[Submission], L],
    *,
    points: tuple[float, float],
    below: float = 160.0,
    instead: str = ": the mean image alone would reach 206.",
    hint: str = WIDER,
) -> Callable[[Submission], L]:
    """Declare ``model_has_learned`` and ``training_loss_is_low``.

    Args:
        module: ``__name__`` of the module that declares them.
        losses: measures the trained model.
        points: what each is worth.
        below: what the loss of a model that has learned is below.
        instead: see :func:`check_learned`.
        hint: what helps against a loss that is not low enough.

    Returns:
        A function that gives the losses, or fails if the model has not learned.
    """
    learned = check_learned(
        module,
        losses,
        points=points[0],
        below=below,
        figure="Training loss {:.1f}",
        instead=instead,
        unit=" nats per image",
    )

    def low(submission: Submission) -> str:
        found = losses(submission)
        figure = f"Training loss {found.training:.1f} nats per image"
        kl = f", of which the KL divergence is {found.kl:.1f}"
        return expect_low(figure, found.training, deliverable_in(module).max_loss, hint, kl)

    title = "The trained model's loss on training images, with codes drawn by us, is low enough."
    declare(module, "result", points[1], "training_loss_is_low", title, low)
    return learned


def posterior(model: Object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances (N, Z) that a trained model gives."""
    hidden = model.apply("encoder", inputs, what="The encoder's output")
    mu = model.apply("mu_layer", hidden, what="mu_layer's output")
    logvar = model.apply("logvar_layer", hidden, what="logvar_layer's output")
    expect(mu.ndim == 2 and mu.shape == logvar.shape, "mu and logvar should both be (N, Z).")
    return mu, logvar


def joint_posterior(model: Object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """The same of a model whose encoder returns both."""
    mu = model.apply("encoder", inputs, pick=0, what="The mean that the encoder returns")
    logvar = model.apply("encoder", inputs, pick=1, what="The log variance that it returns")
    expect(mu.ndim == 2 and mu.shape == logvar.shape, "Both should be (N, Z).")
    return mu, logvar


def decode(model: Object, inputs: Tensor) -> Tensor:
    """Images (N, 1, 28, 28) in [0, 1] that a trained model's decoder gives."""
    images = model.apply("decoder", inputs, what="The decoder's output")
    expect(
        tuple(images.shape) == (len(inputs), 1, 28, 28), "Decoded images should be (N, 1, 28, 28)."
    )
    expect(
        bool(((images >= 0) & (images <= 1)).all()),
        "Decoded pixels should lie in [0, 1].",
        "Is the Sigmoid at the decoder's end missing?",
    )
    return images
