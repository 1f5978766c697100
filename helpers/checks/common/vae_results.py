"""The losses of trained variational autoencoders, with codes sampled by the judge."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    CheckFailedError,
    Object,
    StudentError,
    Submission,
    deliverable_in,
    expect,
)
from helpers.checks.common.declaring import declare
from helpers.checks.common.images import some_digits
from helpers.checks.common.results import check_learned, expect_low
from helpers.checks.common.vae_loss import divergence
from helpers.checks.common.vae_model import as_images, with_condition

WIDER = "Wider hidden layers, smaller batches or more epochs help."


@dataclass(frozen=True)
class Losses:
    """The losses of a trained model per image, in nats."""

    training: float
    test: float
    #: The KL divergence in the training loss.
    kl: float


L = TypeVar("L", bound=Losses)
#: Returns the means and log variances, (N, Z) each, that a trained model gives for its inputs.
Posterior = Callable[[Object, Tensor], tuple[Tensor, Tensor]]


def trained_losses(
    submission: Submission,
    name: str,
    posterior: Posterior | None = None,
    condition: Callable[[Tensor, Tensor], Tensor] | None = None,
    *,
    drawn: bool = True,
    also: Callable[[Object, int], None] | None = None,
) -> Losses:
    """The losses of the trained model ``name``.

    Encoder and decoder run in different processes, and the judge samples the codes in between: the
    decoder has only the codes to work with.

    Args:
        posterior: returns means and log variances; by default :func:`head_posterior`.
        condition: computes conditions (N, C) from images and labels; None if there are none.
        drawn: whether codes are sampled; if not, the means are decoded.
        also: called with the model in the decoder's process and with Z, for further measurements:
            starting another process takes seconds.
    """
    splits = [some_digits(train=train) for train in (True, False)]
    conditions = [None if condition is None else condition(*split) for split in splits]
    encoder = submission.trained(name)
    posteriors = [
        (posterior or head_posterior)(encoder, with_condition(images, c))
        for (images, _), c in zip(splits, conditions, strict=True)
    ]
    # In the grader this is another process, which has never seen an image.
    decoder = submission.trained(name)
    generator = torch.Generator().manual_seed(2)
    losses, kls = [], []
    for (images, _), c, (mu, logvar) in zip(splits, conditions, posteriors, strict=True):
        z = mu
        if drawn:
            z = mu + torch.exp(logvar / 2) * torch.randn(mu.shape, generator=generator)
        x_hat = decode(decoder, with_condition(z, c))
        kl = divergence(mu, logvar).sum(dim=1)
        bce = functional.binary_cross_entropy(x_hat, images, reduction="sum") / len(images)
        losses.append(float(bce + kl.mean()))
        kls.append(float(kl.mean()))
    if also is not None:
        also(decoder, posteriors[0][0].shape[1])
    expect(all(map(math.isfinite, losses)), "The trained model's loss is infinite.")
    return Losses(losses[0], losses[1], kls[0])


def check_losses(
    module: str,
    losses: Callable[[Submission], L],
    *,
    points: tuple[float, float],
    below: float = 160.0,
    instead: str = ": the mean image alone would reach 206.",
    hint: str = WIDER,
) -> Callable[[Submission], L]:
    """Declare ``model_has_learned`` (see :func:`check_learned`) and ``training_loss_is_low``."""
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


def head_posterior(model: Object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances (N, Z) that a trained model gives."""
    hidden = model.apply("encoder", inputs, what="The encoder's output")
    mu = model.apply("mu_layer", hidden, what="mu_layer's output")
    logvar = model.apply("logvar_layer", hidden, what="logvar_layer's output")
    # A channel axis too many, (N, 1, Z), costs the check of that shape and not the result.
    expect(mu.ndim > 1 and mu.shape == logvar.shape, "mu and logvar should both be (N, Z).")
    mu, logvar = mu.flatten(1), logvar.flatten(1)
    return mu, logvar


def joint_posterior(model: Object, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """Means and log variances (N, Z) of a model whose encoder returns both."""
    mu = model.apply("encoder", inputs, pick=0, what="The mean that the encoder returns")
    logvar = model.apply("encoder", inputs, pick=1, what="The log variance that it returns")
    expect(mu.ndim == 2 and mu.shape == logvar.shape, "Both should be (N, Z).")
    return mu, logvar


def decode(model: Object, inputs: Tensor) -> Tensor:
    """Images (N, 1, 28, 28) in [0, 1], decoded by a trained model.

    One whose encoder keeps the channel axis decodes (N, 1, Z), and one may give its images flat:
    that costs the checks of those shapes, and not the result.
    """
    what = "The decoder's output"
    try:
        images = as_images(model.apply("decoder", inputs, what=what), len(inputs), what)
    except (CheckFailedError, StudentError) as failure:
        try:
            images = model.apply("decoder", inputs[:, None], what=what)
            images = as_images(images, len(inputs), what)
        except (CheckFailedError, StudentError):
            raise failure from None
    expect(
        bool(((images >= 0) & (images <= 1)).all()),
        "Decoded pixels should lie in [0, 1].",
        "Is the Sigmoid at the decoder's end missing?",
    )
    return images
