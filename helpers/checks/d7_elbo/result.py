"""The checks of the trained model."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, check, expect
from helpers.checks.common import vae_loss
from helpers.checks.common.images import some_digits
from helpers.checks.common.results import check_budget, check_reported, once
from helpers.checks.common.vae_results import Losses, check_losses, joint_posterior
from helpers.checks.d7_elbo.model import D7


@dataclass(frozen=True)
class Findings(Losses):
    """The losses of the trained model, and bounds on log p(x), in nats per image."""

    #: The mean over some test images with 1, 10 and 100 codes.
    bounds: tuple[float, ...]


N_BOUND = 100


@cache
def bits(*, train: bool) -> Tensor:
    """Five thousand digits, rounded: (N, 784)."""
    return some_digits(train=train)[0].round().flatten(1)


@once
def findings(submission: Submission) -> Findings:
    """Measure the trained model, with codes sampled here and decoded in another process."""
    splits = [bits(train=train) for train in (True, False)]
    encoder = submission.trained("bernoulli_vae")
    posteriors = [joint_posterior(encoder, images) for images in splits]
    decoder = submission.trained("bernoulli_vae")
    generator = torch.Generator().manual_seed(2)
    losses, kls = [], []
    for x, (mean, log_var) in zip(splits, posteriors, strict=True):
        z = mean + torch.exp(0.5 * log_var) * torch.randn(mean.shape, generator=generator)
        kl = vae_loss.divergence(mean, log_var).sum(dim=1)
        losses.append(float((kl - log_pixels(decoder, x, z)).mean()))
        kls.append(float(kl.mean()))
    mean, log_var = (part[:N_BOUND] for part in posteriors[1])
    x = splits[1][:N_BOUND]
    noise = torch.randn(100, *mean.shape, generator=generator)
    z = torch.addcmul(mean, torch.exp(0.5 * log_var), noise)
    log_x = log_pixels(decoder, x.expand(100, -1, -1).flatten(0, 1), z.flatten(0, 1))
    log_w = log_x.view(100, N_BOUND) - 0.5 * (z**2 - noise**2 - log_var).sum(dim=2)
    # The same draws, in groups of 1, 10 and 100.
    bounds = tuple(
        float((torch.logsumexp(log_w.view(100 // k, k, -1), dim=1) - math.log(k)).mean())
        for k in (1, 10, 100)
    )
    expect(all(map(math.isfinite, [*losses, *bounds])), "The trained model's loss is infinite.")
    return Findings(losses[0], losses[1], kls[0], bounds)


def log_pixels(decoder: Object, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) of each image with its code, (N,)."""
    theta = decoder.apply("decoder", z, what="The decoder's output")
    expect(theta.shape == x.shape, f"The decoder's output should be {tuple(x.shape)}.")
    expect(bool(((theta >= 0) & (theta <= 1)).all()), "theta should lie in [0, 1].")
    return -functional.binary_cross_entropy(theta, x, reduction="none").sum(dim=1)


learned = check_losses(
    __name__,
    findings,
    points=(1, 1),
    below=150.0,
    instead=" nats per image: the mean image alone would reach 208.",
    hint="",
)


@check("result", points=1)
def bound_rises_with_the_codes(submission: Submission) -> str:
    """With 10 and 100 codes for each image, the estimate of log p(x) rises."""
    one, ten, hundred = learned(submission).bounds
    note = f"With 1, 10 and 100 codes: {one:.1f}, {ten:.1f} and {hundred:.1f} nats."
    expect(
        one < ten < hundred and hundred - one > D7["min_rise"],
        f"{note} It should rise by {D7['min_rise']:g} at least.",
        "Does the encoder still guess a distribution, or has its spread collapsed?",
    )
    return note


check_budget(
    __name__,
    points=0,
    title="The trained model that is handed in has the parameters that are given.",
)
check_reported(__name__, findings, tolerance=0.05)
