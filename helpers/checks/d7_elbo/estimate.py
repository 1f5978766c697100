"""The checks of the importance-weighted estimate of log p(x)."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, check, close, expect, expect_tensor, fail
from helpers.checks.common import tiny_elbo
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.conduct import expect_no_seed
from helpers.checks.common.tiny_elbo import TinyBernoulliVAE
from helpers.checks.common.vae_loss import divergence
from helpers.checks.d7_elbo.causes import wrong_draws, wrong_terms
from helpers.checks.d7_elbo.model import HIDDEN_DIM, IMAGE_DIM, LATENT_DIM, some_bits

WHAT = "What log_likelihood returns"


def standin(
    submission: Submission, image_dim: int = IMAGE_DIM, ours: TinyBernoulliVAE | None = None
) -> tuple[Object, TinyBernoulliVAE]:
    """A right model where the student's code runs, and the same one here."""
    sizes = (image_dim, HIDDEN_DIM, LATENT_DIM)
    ours = ours or TinyBernoulliVAE(*sizes)
    model = submission.build(f"{tiny_elbo.__name__}.TinyBernoulliVAE", *sizes)
    model.load(ours.state_dict())
    return model, ours.requires_grad_(False)


def estimates(submission: Submission, model: Object, x: Tensor, n_samples: int) -> Tensor:
    """What the student's log_likelihood gives: (N,), or of another shape."""
    return expect_tensor(submission.call("log_likelihood", model, x, n_samples), what=WHAT)


def log_joint(model: TinyBernoulliVAE, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) + log p(z) of each image with each code: (N, D), (M, Z) -> (M, N)."""
    theta = model.decoder(z)
    white, black = torch.log(theta.clamp(min=1e-30)), torch.log((1 - theta).clamp(min=1e-8))
    log_z = -0.5 * (math.log(2 * math.pi) + z.square()).sum(dim=1, keepdim=True)
    return white @ x.T + black @ (1 - x).T + log_z


def log_evidence(model: TinyBernoulliVAE, x: Tensor) -> Tensor:
    """log p(x) itself, (N,): two dimensions can be integrated by adding up a fine grid."""
    axis = torch.linspace(-6, 6, 121)
    grid = torch.cartesian_prod(axis, axis)
    return torch.logsumexp(log_joint(model, x, grid), dim=0) + 2 * math.log(0.1)


@torch.no_grad()
def elbo(model: TinyBernoulliVAE, x: Tensor, n_draws: int) -> Tensor:
    """The ELBO of each image, (N,), by many draws."""
    mean, log_var = model.encoder(x)
    z = mean + torch.exp(0.5 * log_var) * torch.randn(n_draws, *mean.shape)
    theta = model.decoder(z)
    log_x = -functional.binary_cross_entropy(theta, x.expand_as(theta), reduction="none").sum(dim=2)
    return log_x.mean(dim=0) - divergence(mean, log_var).sum(dim=1)


#: For a mean over thousands of samples; common mistakes change it by 0.3 or more.
_TOLERANCE = 0.12


@check("estimate", points=1)
def one_code_gives_the_elbo(submission: Submission) -> None:
    """With one code for each image, the estimate is the ELBO on average."""
    # Few pixels: the weight of an image of 30 is now and then so small that float32 makes it 0,
    # which `estimate_bears_small_weights` tests.
    ours = TinyBernoulliVAE(10, HIDDEN_DIM, LATENT_DIM)
    with torch.no_grad():  # means far from 0, so that z and z - mu differ clearly
        ours.encoder.mean.bias.copy_(torch.tensor([1.5, -1.5]))
    model, ours = standin(submission, 10, ours)
    x = some_bits(4, 10)
    right = float(elbo(ours, x, 20_000).mean())
    means: list[float] = []
    # Often the first calls are enough, and a loop over the images takes seconds for each of them.
    for _ in range(8):
        found = estimates(submission, model, x.repeat(2500, 1), 1)
        means.append(float(found.mean()))
        mean = sum(means) / len(means)
        drawn = found.shape == (10_000,) and float(found.view(-1, 4).std(dim=0).max()) > 1e-4
        error = float(found.std(correction=0)) / (10_000 * len(means)) ** 0.5
        if drawn and abs(mean - right) + 3 * error < _TOLERANCE:
            return
    # One value for all is a mean over the images, which is for `each_image_has_its_own`.
    alike = found.shape == (10_000,) and not drawn and float(found.std()) > 1e-4
    if abs(mean - right) < _TOLERANCE and not alike:
        return
    cause = ""
    if alike:
        again = estimates(submission, model, x, 1)
        cause = "All images get the same code noise: draw it for each image and each code."
        if again.shape == (4,) and close(again, found[:4]):
            cause = "Nothing is drawn: the codes are the means."
    fail(
        f"With one code the estimate is {mean:.2f} on average; the ELBO is {right:.2f}.",
        cause or _wrong_terms(submission) or _wrong_draws(submission),
    )


def _wrong_terms(submission: Submission) -> str:
    """What is wrong with the terms of log w, found with a model whose codes hardly scatter."""
    model, ours = standin(submission, 10, _certain())
    x = some_bits(20_000, 10)
    found = estimates(submission, model, x, 1)
    return wrong_terms(ours, x, found) if found.shape == (20_000,) else ""


def _wrong_draws(submission: Submission) -> str:
    """The mistake in drawing codes that explains the estimates of three models, or ""."""
    found = []
    for _ in range(3):
        model, ours = standin(submission, 10)
        x = some_bits(4, 10)
        value = float(estimates(submission, model, x.repeat(20_000, 1), 1).mean())
        found.append(wrong_draws(ours, x, value))
    causes = set.intersection(*found)
    return causes.pop() if len(causes) == 1 else ""


def _certain() -> TinyBernoulliVAE:
    """A model whose log variances are far below 0 and differ from image to image."""
    model = TinyBernoulliVAE(10, HIDDEN_DIM, LATENT_DIM)
    with torch.no_grad():
        _, log_var = model.encoder(some_bits(1000, 10))
        scale = 1 / log_var.std(dim=0)
        model.encoder.log_var.weight.mul_(scale[:, None])
        model.encoder.log_var.bias.sub_(log_var.mean(dim=0)).mul_(scale).sub_(9)
    return model


@check("estimate", points=1)
def many_codes_give_the_likelihood(submission: Submission) -> None:
    """With very many codes the estimate is log p(x), which small models allow to compute."""
    # One image at a time, three times: a wrong formula may be right for one image by chance, and
    # the errors of several images may cancel.
    for _ in range(3):
        ours, x, right = _settled_case()
        model, _ = standin(submission, ours=ours)
        found = estimates(submission, model, x.repeat(60, 1), 2000)
        if abs(float(found.mean()) - right) < _TOLERANCE:
            continue
        # The terms of the weights are the matter of `one_code_gives_the_elbo`.
        one = float(estimates(submission, model, x.repeat(20_000, 1), 1).mean())
        near = abs(one - float(elbo(ours, x, 20_000))) < _TOLERANCE
        fail(
            f"With 2000 codes the estimate is {float(found.mean()):.2f}; log p(x) is {right:.2f}.",
            (_wrong_mean(ours, x, found, right) or _wrong_terms(submission)) if near else "",
        )


@torch.no_grad()
def _settled_case() -> tuple[TinyBernoulliVAE, Tensor, float]:
    """A model, an image (1, D) and its log p(x), for which 2000 codes are enough.

    With some models few codes hold most of the weight, and the estimate is too low.
    """
    while True:
        model, x = TinyBernoulliVAE(IMAGE_DIM, HIDDEN_DIM, LATENT_DIM), some_bits(1)
        right = float(log_evidence(model, x))
        log_w, _ = _log_weights(model, x, 20_000)
        weights = torch.softmax(log_w, dim=0)
        estimate = float(torch.logsumexp(log_w, dim=0)) - math.log(len(log_w))
        # The inverse of the sum of squares is the effective number of codes.
        if abs(estimate - right) < 0.02 and float(weights.square().sum()) < 20 / len(weights):
            return model, x, right


def _log_weights(model: TinyBernoulliVAE, x: Tensor, n_codes: int) -> tuple[Tensor, Tensor]:
    """log w of many codes for one image, and log p(x | z), (K,) each."""
    mean, log_var = model.encoder(x)
    noise = torch.randn(n_codes, LATENT_DIM)
    z = torch.addcmul(mean, torch.exp(0.5 * log_var), noise)
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + noise.square()).sum(dim=1)
    joint = log_joint(model, x, z)[:, 0]
    return joint - log_q, joint + 0.5 * (math.log(2 * math.pi) + z.square()).sum(dim=1)


@torch.no_grad()
def _wrong_mean(model: TinyBernoulliVAE, x: Tensor, found: Tensor, right: float) -> str:
    """The mistake in the mean over the codes that explains the estimates for one image, or ""."""
    log_w, log_x = _log_weights(model, x, 100_000)
    value, log_k = float(found.mean()), math.log(2000)
    kl = float(divergence(*model.encoder(x)).sum())
    single = float(log_w.std())
    spread = float(found.std()) if found.numel() > 1 else 0.0
    near_elbo = abs(value - float(log_w.mean())) < _TOLERANCE + 4 * spread / math.sqrt(60)
    causes = {
        "It is the sum of the weights: subtract log K for their mean.": right + log_k,
        "log K is added: subtract it.": right + 2 * log_k,
        "log K is subtracted twice.": right - log_k,
        "K is subtracted: subtract log K.": right + log_k - 2000,
        "The logarithm is divided by K: subtract log K.": (right + log_k) / 2000,
        "The KL divergence is that of all codes together: each weight needs p(z) / q(z | x) of its "
        "own code.": float(torch.logsumexp(log_x, dim=0)) - math.log(len(log_x)) - kl,
    }
    if near_elbo and spread > 0.5 * single:
        return "The estimates scatter as with a single code: draw K different codes for each image."
    if near_elbo and spread < 0.2 * single:
        return "Average the weights, then take the logarithm; not the other way round."
    near = [cause for cause, wrong in causes.items() if abs(value - wrong) < _TOLERANCE]
    return near[0] if len(near) == 1 else ""


@check("estimate", points=1)
def estimate_bears_small_weights(submission: Submission) -> None:
    """For images of 784 pixels, whose weights are like e^-500, the estimate is still a number."""
    model, _ = standin(submission, image_dim=784)
    answer = submission.call("log_likelihood", model, some_bits(3, 784), 7)
    if isinstance(answer, Tensor) and not bool(torch.isfinite(answer).all()):
        fail(
            "For images of 784 pixels the estimate is infinite.",
            "exp(log w) is 0 in the computer: torch.logsumexp adds up without that.",
        )
    expect_tensor(answer, what=WHAT)


@check("estimate", points=0.5)
def each_image_has_its_own(submission: Submission) -> None:
    """There is one estimate for each image, whatever the others in its batch are."""
    model, _ = standin(submission)
    x, others = some_bits(2), some_bits(3)
    answers = []
    for batch in (torch.cat([x, others]), torch.cat([x, 1 - others])):
        submission.seed(1)  # the same codes are drawn both times
        answer = submission.call("log_likelihood", model, batch, 7)
        hint = "Sum over its pixels and its dimensions, and keep the images apart."
        answers.append(expect_tensor(answer, (5,), what=f"{WHAT} for 5 images", hint=hint))
    submission.seed(int(torch.randint(2**31, ())))
    expect(
        close(answers[0][:2], answers[1][:2], 1e-3),
        "The estimate for an image changes with the other images of its batch.",
        "Add up over the codes only: with codes first, (K, N, Z), that is dim=0.",
    )


@check("estimate", points=0.5)
def estimate_draws_afresh(submission: Submission) -> None:
    """Each call draws other codes; the images stay as they are."""
    model, _ = standin(submission)
    x = some_bits(5)
    first, second = (estimates(submission, model, x, 3) for _ in range(2))
    expect(not close(first, second), "Two calls give the same estimates.", "Set no seed in there.")
    expect_no_seed(submission, lambda: estimates(submission, model, x, 3), "log_likelihood")
    expect_kept(submission, "log_likelihood", model, x, 3)
