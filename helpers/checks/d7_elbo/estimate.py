"""The checks of the importance-weighted estimate of log p(x)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, check, close, expect, expect_tensor, fail
from helpers.checks.common import vae_loss
from helpers.checks.d7_elbo.model import new_model, posterior, some_bits


def estimate(submission: Submission, model: Object, x: Tensor, n_samples: int) -> float:
    """The mean over the images of what the student's log_likelihood gives."""
    answer = submission.call("log_likelihood", model, x, n_samples)
    return float(expect_tensor(answer, what="What log_likelihood returns").mean())


def log_joint(model: Object, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) + log p(z) of each image with each code: (N, D), (M, Z) -> (M, N)."""
    theta = model.tensor("decoder", z, shape=(len(z), x.shape[1]))
    white, black = torch.log(theta.clamp(min=1e-30)), torch.log((1 - theta).clamp(min=1e-8))
    log_x = white @ x.T + black @ (1 - x).T
    return log_x + log_normal(z).sum(dim=1, keepdim=True)


def log_normal(z: Tensor) -> Tensor:
    """The logarithm of the standard normal density, number by number."""
    return -0.5 * (math.log(2 * math.pi) + z.square())


def log_evidence(model: Object, x: Tensor) -> Tensor:
    """log p(x) itself, (N,): two dimensions can be integrated by adding up a fine grid."""
    axis = torch.linspace(-6, 6, 121)
    grid = torch.cartesian_prod(axis, axis)
    return torch.logsumexp(log_joint(model, x, grid), dim=0) + 2 * math.log(0.1)


def elbo(model: Object, x: Tensor, n_draws: int = 400) -> Tensor:
    """The ELBO of each image, (N,), by many draws."""
    mean, log_var = posterior(model, x)
    z = mean + torch.exp(0.5 * log_var) * torch.randn(n_draws, *mean.shape)
    theta = model.tensor("decoder", z.flatten(0, 1)).view(n_draws, *x.shape)
    log_x = -functional.binary_cross_entropy(theta, x.expand_as(theta), reduction="none").sum(dim=2)
    return log_x.mean(dim=0) - vae_loss.divergence(mean, log_var).sum(dim=1)


#: For a mean over thousands of samples; common mistakes change it by 0.3 or more.
_TOLERANCE = 0.12


@check("estimate", points=1)
def one_code_gives_the_elbo(submission: Submission) -> None:
    """With one code for each image, the estimate is the ELBO on average."""
    # Few pixels: the weight of an image of 30 is now and then so small that float32 makes it 0,
    # which `estimate_bears_small_weights` tests.
    model = new_model(submission, 10)
    x = some_bits(4, 10)
    right = float(elbo(model, x, 20_000).mean())
    found = estimate(submission, model, x.repeat(20_000, 1), 1)
    if abs(found - right) < _TOLERANCE:
        return
    mean, log_var = posterior(model, x)
    kl = float(vae_loss.divergence(mean, log_var).sum(dim=1).mean())
    reconstruction = float(elbo(model, x, 20_000).mean()) + kl
    causes = {
        "The prior and q are missing: w = p(x | z) p(z) / q(z | x).": reconstruction,
        "It has the wrong sign: a log likelihood is negative here.": -right,
        "p(z) and q(z | x) are swapped.": reconstruction + kl,
        "It is averaged over the pixels or the dimensions: sum.": right / x.shape[1],
    }
    cause, value = min(causes.items(), key=lambda item: abs(item[1] - found))
    fail(
        f"With one code the estimate is {found:.2f} on average; the ELBO is {right:.2f}.",
        cause if abs(value - found) < _TOLERANCE else "",
    )


@check("estimate", points=1)
def many_codes_give_the_likelihood(submission: Submission) -> None:
    """With very many codes the estimate is log p(x), which small models allow to compute."""
    # One image at a time, three times: a wrong formula may be right for one image by chance, and
    # the errors of several images may cancel.
    for _ in range(3):
        model = new_model(submission)
        x = some_bits(1)
        right = float(log_evidence(model, x))
        found = estimate(submission, model, x.repeat(60, 1), 2000)
        if abs(found - right) < _TOLERANCE:
            continue
        hint = ""
        if abs(found - float(elbo(model, x))) < 2 * _TOLERANCE:
            hint = "Average the weights, then take the logarithm; not the other way round."
        elif abs(found - right - math.log(2000)) < _TOLERANCE:
            hint = "It is the sum of the weights: subtract log K for their mean."
        fail(f"With 2000 codes the estimate is {found:.2f}; log p(x) is {right:.2f}.", hint)


@check("estimate", points=1)
def estimate_bears_small_weights(submission: Submission) -> None:
    """For images of 784 pixels, whose weights are like e^-500, the estimate is still a number."""
    model = new_model(submission, image_dim=784)
    x = some_bits(3, 784)
    answer = submission.call("log_likelihood", model, x, 7)
    if isinstance(answer, Tensor) and not bool(torch.isfinite(answer).all()):
        fail(
            "For images of 784 pixels the estimate is infinite.",
            "exp(log w) is 0 in the computer: torch.logsumexp adds up without that.",
        )
    expect_tensor(answer, what="What log_likelihood returns")


@check("estimate", points=1)
def each_image_has_its_own(submission: Submission) -> None:
    """There is one estimate for each image, whatever the others in its batch are."""
    model = new_model(submission)
    x, others = some_bits(2), some_bits(3)
    answers = []
    for batch in (torch.cat([x, others]), torch.cat([x, 1 - others])):
        submission.seed(1)  # the same codes are drawn both times
        answer = submission.call("log_likelihood", model, batch, 7)
        hint = "Sum over its pixels and its dimensions, and keep the images apart."
        what = "What log_likelihood returns for 5 images"
        answers.append(expect_tensor(answer, (5,), what=what, hint=hint))
    expect(
        close(answers[0][:2], answers[1][:2], 1e-3),
        "The estimate for an image changes with the other images of its batch.",
        "Add up over the codes only: with codes first, (K, N, Z), that is dim=0.",
    )
