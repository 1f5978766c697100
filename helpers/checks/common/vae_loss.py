"""The loss of a variational autoencoder: a reconstruction term and the KL divergence."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy
from torch.nn.functional import binary_cross_entropy_with_logits as with_logits

from helpers.checking import (
    Submission,
    agree,
    close,
    expect,
    expect_number,
    fail,
    likely_cause,
)
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.images import random_images


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)), number by number.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), appendix B.
    """
    # In float64, since the variance itself may be too small for float32.
    posterior = Normal(mu.double(), (logvar.double() / 2).exp(), validate_args=False)
    return kl_divergence(posterior, Normal(0.0, 1.0)).to(mu.dtype)


def negative_elbo(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and KL divergence of each image, (N,) each."""
    pixels = Bernoulli(probs=x_hat, validate_args=False).log_prob(x)
    return -pixels.flatten(1).sum(dim=1), divergence(mu, logvar).sum(dim=1)


def random_case(n_images: int, latent_dim: int = 7) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Random x_hat, x, mu and logvar, the arguments of a loss."""
    x_hat, x = 0.1 + 0.8 * random_images(n_images), random_images(n_images)
    mu = 1.5 * torch.randn(n_images, latent_dim)
    return x_hat, x, mu, torch.randn(n_images, latent_dim) - 0.5


def loss(
    submission: Submission, *case: Tensor, name: str = "loss_function", **options: float
) -> float:
    """What the student's loss function, called ``name``, returns."""
    return expect_number(submission.call(name, *case, **options), what=f"What {name} returns")


def expect_two_terms(
    value: float,
    terms: tuple[float, float],
    posterior: tuple[Tensor, Tensor],
    causes: Mapping[str, float],
    otherwise: str,
    *,
    summed: bool = False,
    term: str = "cross-entropy",
    function: str = "loss_function",
    log_var: str = "logvar",
) -> None:
    """Fail unless a loss is its reconstruction term plus the KL divergence.

    Args:
        value: what the student's function returned.
        terms: the reconstruction term and the KL divergence, summed or averaged over the images.
        posterior: means and log variances, (N, Z) each.
        causes: further mistakes, beyond those of all such losses, and the values that they give.
        otherwise: the hint if no known mistake explains the value.
        summed: whether the loss is a sum over the images instead of a mean.
        term: what the reconstruction term is called.
        function: the name of the student's function.
        log_var: what the log variance is called.
    """
    (first, kl), n_images = terms, len(posterior[0])
    # Rounding changes a float32 sum by 1e-6; a wrong KL divergence may differ by little.
    if agree(value, first + kl, 2e-5):
        return
    known = {
        "The KL divergence has the wrong sign.": first - kl,
        "The KL divergence is missing.": first,
        "The KL divergence is doubled: is the factor 1/2 there?": first + 2 * kl,
        "The KL divergence is halved twice: its factor is 1/2.": first + kl / 2,
    }
    known |= {
        f"The KL divergence is multiplied by {factor:g}: leave out that factor.": first
        + factor * kl
        for factor in (0.01, 0.1, 0.25, 4, 10, 100)
    }
    wrong_kl = _wrong_divergences(*posterior, log_var)
    share = 1 if summed else 1 / n_images
    divisor = n_images * (first + kl) / value if value and not summed else 0.0
    if 1.5 < divisor < 1000 and math.isclose(divisor, round(divisor), rel_tol=1e-5):
        otherwise = otherwise or (
            f"The sum over the {n_images} images is divided by {divisor:.0f}: divide by len(x)."
        )
    known |= {cause: first + share * wrong for cause, wrong in wrong_kl.items()}
    if summed:
        known |= {
            "It is averaged over the images: sum it.": (first + kl) / n_images,
            f"The {term} is averaged over the images: sum it.": first / n_images + kl,
            "The KL divergence is averaged over the images: sum it.": first + kl / n_images,
        }
    else:
        known |= {
            "It is summed over the batch: divide by the number of images.": n_images * (first + kl),
            "It is divided by the number of images twice.": (first + kl) / n_images,
            f"Only the {term} is averaged over the images.": first + n_images * kl,
            "Only the KL divergence is averaged over the images.": n_images * first + kl,
        }
    fail(
        f"For {n_images} images {function} gave {value:.3f}; {term} plus KL divergence is "
        f"{first:.3f} + {kl:.3f} = {first + kl:.3f}.",
        # For one image most causes coincide.
        likely_cause(value, {**known, **causes} if n_images > 1 else {}, otherwise, tolerance=1e-5),
    )


def _wrong_divergences(mu: Tensor, logvar: Tensor, log_var: str) -> dict[str, float]:
    """What mistakes in the formula make of the KL divergence, summed over all numbers."""
    parts = {
        "1": 0.5 * torch.ones_like(mu),
        log_var: 0.5 * logvar,
        "mu^2": -0.5 * mu.square(),
        f"exp({log_var})": -0.5 * logvar.exp(),
    }
    sums = {name: float(part.sum()) for name, part in parts.items()}
    right = -sum(sums.values())
    known = {}
    for name, part in sums.items():
        known[f"In the KL divergence, {name} is missing."] = right + part
        known[f"In the KL divergence, {name} has the wrong sign."] = right + 2 * part
    variance = sums[f"exp({log_var})"]
    instead: dict[str, tuple[Tensor, str]] = {
        f"In the KL divergence, exp({log_var}) is the variance, and not exp({log_var} / 2).": (
            (logvar / 2).exp(),
            f"exp({log_var})",
        ),
        f"In the KL divergence, exp({log_var}) is the variance already: do not square it.": (
            (2 * logvar).exp(),
            f"exp({log_var})",
        ),
        f"In the KL divergence, the variance is exp({log_var}), and not {log_var}.": (
            logvar,
            f"exp({log_var})",
        ),
        f"In the KL divergence, the variance is exp({log_var}), and not {log_var} squared.": (
            logvar.square(),
            f"exp({log_var})",
        ),
        "In the KL divergence, mu should be squared.": (mu, "mu^2"),
        "In the KL divergence, mu^2 stands for the square, and not for the absolute value.": (
            mu.abs(),
            "mu^2",
        ),
        "In the KL divergence, mu^2 stands for the square, and not for exp(mu).": (
            mu.exp(),
            "mu^2",
        ),
    }
    for cause, (term, name) in instead.items():
        known[cause] = right + sums[name] + 0.5 * float(term.sum())
    known |= {
        f"{log_var} is treated as the logarithm of the standard deviation.": float(
            divergence(mu, 2 * logvar).sum()
        ),
        f"{log_var} is treated as the variance: log({log_var}) and {log_var} stand where {log_var} "
        f"and exp({log_var}) belong.": right
        + variance
        + sums[log_var]
        + 0.5 * float((logvar - logvar.log()).sum()),
        f"mu and {log_var} are exchanged.": float(divergence(logvar, mu).sum()),
    }
    return {cause: wrong for cause, wrong in known.items() if math.isfinite(wrong)}


def expect_loss_value(submission: Submission) -> None:
    """Fail unless loss_function is cross-entropy plus KL divergence, the mean over the batch."""
    expect_kept(submission, "loss_function", *random_case(2))
    for n_images in (5, 3, 1):
        x_hat, x, mu, logvar = random_case(n_images)
        logvar += 1.0  # so that the variance, its root and its square differ in the mean too
        case = x_hat, x, mu, logvar
        bce, kl = (float(each.mean()) for each in negative_elbo(*case))
        n_pixels, latent_dim = x[0].numel(), mu.shape[1]
        squared = float((x_hat - x).square().sum()) / n_images
        swapped = float(binary_cross_entropy(x, x_hat, reduction="sum")) / n_images
        logits = float(with_logits(x_hat, x, reduction="sum")) / n_images
        one_sided = -float((x * x_hat.log()).sum()) / n_images
        causes = {
            "The cross-entropy is averaged over the pixels: sum it over them, and average over "
            "the images only.": bce / n_pixels + kl,
            "Cross-entropy and KL are averaged over pixels.": (bce + kl) / n_pixels,
            "The cross-entropy is averaged over pixels and images, and the KL divergence over "
            "everything too: sum over pixels and dimensions.": bce / n_pixels + kl / latent_dim,
            "The cross-entropy is averaged over pixels and images, and the KL divergence is "
            "summed over the images: sum over pixels and dimensions, average over images.": (
                bce / n_pixels + kl * n_images
            ),
            "The KL divergence is averaged over the latent dimensions: sum it over them.": bce
            + kl / latent_dim,
            "The cross-entropy is summed over the batch, and the KL divergence is averaged over "
            "everything: sum over pixels and dimensions, average over images.": bce * n_images
            + kl / latent_dim,
            "The KL divergence is divided by the number of pixels.": bce + kl / n_pixels,
            "The KL divergence is divided by the number of images twice.": bce + kl / n_images,
            "The cross-entropy is divided by the number of images twice.": bce / n_images + kl,
            "The cross-entropy has the wrong sign.": kl - bce,
            "It is the ELBO itself: the loss is minus that.": -bce - kl,
            "The cross-entropy is missing.": kl,
            "The cross-entropy lacks the term of the black pixels, (1 - x) log(1 - x_hat).": (
                one_sided + kl
            ),
            "The cross-entropy lacks the term of the white pixels, x log x_hat.": bce
            - one_sided
            + kl,
            "The reconstruction term is a squared error: use binary cross-entropy.": squared + kl,
            "The reconstruction term is a mean squared error: use binary cross-entropy, summed "
            "over the pixels.": squared / n_pixels + kl,
            "The images and the reconstructions are exchanged: binary_cross_entropy(x_hat, x).": (
                swapped + kl
            ),
            "binary_cross_entropy_with_logits applies a Sigmoid of its own, and x_hat has been "
            "through one: use binary_cross_entropy.": logits + kl,
        }
        value = loss(submission, *case)
        expect_the_same_again(submission, case, value)
        expect_two_terms(value, (bce, kl), (mu, logvar), causes, "")


def expect_the_same_again(submission: Submission, case: Sequence[Tensor], value: float) -> None:
    """Fail unless another call of loss_function gives the value that the first one gave."""
    expect(
        agree(loss(submission, *case), value, 2e-5),
        "The loss of the same images changes from call to call.",
        "Draw nothing in it, and keep nothing from one call to the next.",
    )


def expect_loss_per_image(submission: Submission) -> None:
    """Fail unless the loss stays the same if each image occurs twice in the batch."""
    case = random_case(4)
    once, twice = loss(submission, *case), loss(submission, *(torch.cat([t, t]) for t in case))
    expect(
        math.isclose(once, twice, rel_tol=1e-4),
        f"The same 4 images have a loss of {once:.3f}, and twice over of {twice:.3f}.",
        "The loss is a mean over the images, so the size of the batch must not matter.",
    )


def expect_loss_gradients(
    submission: Submission,
    case: tuple[Tensor, Tensor, Tensor, Tensor],
    terms: Callable[..., tuple[Tensor, Tensor]] = negative_elbo,
) -> None:
    """Fail unless the loss has the right gradients for x_hat, mu and logvar.

    Args:
        case: x_hat, x, mu and logvar.
        terms: computes from them the two terms of the loss for each image, (N,) each.
    """
    value = submission.call("loss_function", *case)
    expect(
        isinstance(value, Tensor),
        "loss_function returns a plain number, from which no gradient can be computed.",
        "Return the tensor: no .item() and no float().",
    )
    inputs = [tensor.clone().requires_grad_() for tensor in case]
    reconstruction, kl = terms(*inputs)
    right = torch.autograd.grad((reconstruction + kl).mean(), [inputs[0], inputs[2], inputs[3]])
    answer = submission.differentiate("loss_function", *case, wrt=(0, 2, 3))
    found = dict(zip(("x_hat", "mu", "logvar"), answer.inputs, strict=True))
    if not all(
        g is not None and close(g, r, 1e-3) for g, r in zip(found.values(), right, strict=True)
    ):
        _expect_own_gradients(submission, case, found, right)


def _expect_own_gradients(
    submission: Submission,
    case: tuple[Tensor, ...],
    found: Mapping[str, Tensor | None],
    right: Sequence[Tensor],
) -> None:
    """Fail unless the gradients are those of the loss that is returned, right or wrong.

    Along the signs of the right gradient, what is detached shows most.
    """
    for place, name, ours in zip((0, 2, 3), found, right, strict=True):
        gradient, direction, ends = found[name], ours.sign(), []
        for step in (1e-2, -1e-2):
            moved = list(case)
            moved[place] = moved[place] + step * direction
            ends.append(expect_number(submission.call("loss_function", *moved), what="The loss"))
        slope, expected = (ends[0] - ends[1]) / 2e-2, 0.0
        if gradient is not None and gradient.shape == direction.shape:
            expected = float((gradient * direction).sum())
        # Rounding of the two values alone makes the slope wrong by so much.
        rounding = 1e-3 + 1e-4 * max(map(abs, ends))
        if abs(slope - expected) > 0.1 * abs(slope) + rounding:
            expect(
                gradient is not None,
                f"The loss has no gradient for {name}.",
                "Is something detached?",
            )
            fail(f"The gradient for {name} is not that of the loss that is returned.")


def expect_loss_at_the_ends(submission: Submission) -> None:
    """Fail unless the loss is right for pixels that are exactly black or white."""
    x = torch.bernoulli(random_images(3))
    zeros = torch.zeros(3, 5)
    answer = submission.call("loss_function", x, x, zeros, zeros)
    if isinstance(answer, Tensor) and answer.numel() == 1 and not bool(answer.isfinite().all()):
        fail(
            f"For images whose pixels are exactly 0 or 1, the loss is {float(answer):g}.",
            "The logarithm of 0 is infinite; nn.functional.binary_cross_entropy takes care of it.",
        )
    value = expect_number(answer, what="What loss_function returns")
    expect(
        abs(value) < 0.1,
        f"For perfect black and white images, mu = 0 and logvar = 0, the loss is {value:.3f}, and "
        "should be 0.",
    )


def expect_sampled_kl(submission: Submission) -> None:
    """Fail unless the KL divergence in the loss agrees with a sampled E_q[log q - log p].

    With these means and log variances each of the usual mistakes changes it by more than 0.3.
    """
    x_hat, x, *_ = random_case(2)
    mu = torch.tensor([[1.5, -1.2, 0.4], [-0.6, 2.0, 0.9]])
    logvar = torch.tensor([[1.2, 0.8, -1.6], [-0.9, 1.5, 1.1]])
    zeros = torch.zeros_like(mu)
    value = loss(submission, x_hat, x, mu, logvar) - loss(submission, x_hat, x, zeros, zeros)
    posterior, prior = Normal(mu, torch.exp(logvar / 2)), Normal(0.0, 1.0)
    z = posterior.sample(torch.Size([100_000]))
    differences = (posterior.log_prob(z) - prior.log_prob(z)).sum(dim=2).mean(dim=1)
    sampled, error = float(differences.mean()), float(differences.std()) / math.sqrt(100_000)
    expect(
        abs(value - sampled) < 5 * error + 1e-3 * abs(sampled),
        f"The loss holds a KL divergence of {value:.3f}; sampling finds {sampled:.3f}.",
    )
