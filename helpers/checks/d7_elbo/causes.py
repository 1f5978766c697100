"""What is wrong with a student's weights w = p(x | z) p(z) / q(z | x)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checks.common.tiny_elbo import TinyBernoulliVAE

_LOG_2PI = math.log(2 * math.pi)


@torch.no_grad()
def wrong_terms(model: TinyBernoulliVAE, x: Tensor, found: Tensor) -> str:
    """The mistake in log w that explains estimates with one code each, or "".

    With almost no spread, z is the mean. Then log w is a linear combination, with known factors, of
    log p(x | z), the sum of z^2, the sum of log sigma^2, and 1. The factors in the student's
    estimates are found by least squares, and each mistake has its own.

    Args:
        model: one with small variances that differ from image to image.
        x: images (N, D).
        found: the student's estimates (N,).
    """
    mean, log_var = model.encoder(x)
    n_dims, n_pixels = mean.shape[1], x.shape[1]
    log_x = -functional.binary_cross_entropy(model.decoder(mean), x, reduction="none").sum(dim=1)
    squares = (mean.square() + log_var.exp()).sum(dim=1)
    terms = torch.stack([log_x, squares, log_var.sum(dim=1), torch.ones(len(x))], dim=1).double()
    solution = torch.linalg.lstsq(terms, found.double()[:, None]).solution[:, 0]
    # Right are 1, -1/2 (from the prior), 1/2 (from q) and half the number of dimensions: the
    # constants of the two densities cancel, and (z - mu)^2 / sigma^2 is 1 on average.
    half, two_pi = n_dims / 2, n_dims / 2 * _LOG_2PI
    causes = {
        "The prior p(z) is missing.": (1, 0, 0.5, half + two_pi),
        "q(z | x) is missing: divide by it, so subtract its logarithm.": (1, -0.5, 0, -two_pi),
        "p(z) and q(z | x) are missing: w = p(x | z) p(z) / q(z | x).": (1, 0, 0, 0),
        "log q(z | x) has the wrong sign: subtract it.": (1, -0.5, -0.5, -half - 2 * two_pi),
        "log p(z) has the wrong sign: add it.": (1, 0.5, 0.5, half + 2 * two_pi),
        "p(z) and q(z | x) are swapped.": (1, 0.5, -0.5, -half),
        "log sigma^2 is left out of log q.": (1, -0.5, 0, half),
        "log sigma^2 has the wrong sign in log q.": (1, -0.5, -0.5, half),
        "In log q stands log sigma^2, which is log_var itself: not half of it again.": (
            *(1, -0.5, 0.25),
            half,
        ),
        "In log q, log sigma^2 stands within the bracket with the factor 1/2.": (1, -0.5, 1, half),
        "(z - mu)^2 / sigma^2 is left out of log q, or not divided by sigma^2.": (1, -0.5, 0.5, 0),
        "(z - mu)^2 / sigma^2 has the wrong sign in log q.": (1, -0.5, 0.5, -half),
        "z^2 has the wrong sign in log p(z).": (1, 0.5, 0.5, half),
        "log(2 pi) is left out of log p(z).": (1, -0.5, 0.5, half + two_pi),
        "log(2 pi) is left out of log q.": (1, -0.5, 0.5, half - two_pi),
        "The factor 1/2 is missing in log p(z).": (1, -1, 0.5, half - two_pi),
        "The factor 1/2 is missing in log q.": (1, -0.5, 1, 2 * half + two_pi),
        "The factor 1/2 is missing in log p(z) and in log q.": (1, -1, 1, 2 * half),
        "log p(x | z) is missing.": (0, -0.5, 0.5, half),
        "log p(x | z) has the wrong sign: it is minus the cross-entropy.": (-1, -0.5, 0.5, half),
        "log p(x | z) is averaged over the pixels: sum it.": (1 / n_pixels, -0.5, 0.5, half),
        "It has the wrong sign: a log likelihood is negative here.": (-1, 0.5, -0.5, -half),
        "log p(z) and log q are averaged over the dimensions: sum them.": (
            *(1, -0.5 / n_dims, 0.5 / n_dims),
            0.5,
        ),
        "All terms are averaged: sum over pixels and dimensions.": (
            *(1 / n_pixels, -0.5 / n_dims, 0.5 / n_dims),
            0.5,
        ),
        "The KL divergence is added: it is subtracted, as log p(z) - log q.": (
            *(1, 0.5, -0.5),
            -half,
        ),
    }
    for cause, (*factors, constant) in causes.items():
        near = (solution[:3] - torch.tensor(factors)).abs() < 0.05
        rest = found.double() - terms[:, :3] @ torch.tensor(factors).double()
        # Its error is that of a mean over thousands of images.
        if bool(near.all()) and abs(float(rest.mean()) - constant) < 0.06:
            return cause
    far = (mean.square() / log_var.exp()).sum(dim=1)
    if (
        bool(torch.isfinite(far).all())
        and float(torch.corrcoef(torch.stack([far, found]))[0, 1]) > 0.99
    ):
        return "In log q it is z - mu that is squared and divided by sigma^2, and not z."
    return ""


@torch.no_grad()
def wrong_draws(model: TinyBernoulliVAE, x: Tensor, found: float) -> set[str]:
    """The mistakes in drawing codes that explain the mean estimate with one code for each image."""
    mean, log_var = model.encoder(x)
    noise = torch.randn(20_000, *mean.shape)
    std = torch.exp(0.5 * log_var)

    def averages(z: Tensor) -> tuple[float, ...]:
        """With the right weights, with (z - mu) / sigma taken for the noise, and without p / q."""
        theta = model.decoder(z)
        pixels = functional.binary_cross_entropy(theta, x.expand_as(theta), reduction="none")
        log_x = -pixels.sum(dim=2)
        weights = [((z - mean) / std).square(), torch.ones_like(z)]
        terms = [0.5 * (square + log_var - z.square()).sum(dim=2) for square in weights]
        return (*(float((log_x + each).mean()) for each in terms), float(log_x.mean()))

    causes = {
        "The codes are drawn from the prior: draw them from q(z | x).": averages(noise),
        "The codes are drawn with the variance in place of the standard deviation.": averages(
            mean + log_var.exp() * noise
        ),
        "The codes are drawn with log_var in place of the standard deviation.": averages(
            mean + log_var * noise
        ),
    }
    # Four standard errors of the difference of two means over 80,000 codes.
    return {c for c, wrong in causes.items() if any(abs(w - found) < 0.06 for w in wrong)}
