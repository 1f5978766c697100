"""The loss of a variational autoencoder: a reconstruction term and the KL divergence."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from helpers.checking import Submission, expect, expect_close, expect_gradients, expect_number
from helpers.checks.common.images import random_images


def divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)), number by number.

    Source: Kingma and Welling, "Auto-Encoding Variational Bayes" (2014), appendix B.
    """
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


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
    (first, kl), (mu, logvar), n_images = terms, posterior, len(posterior[0])
    share = 1 if summed else 1 / n_images
    as_log_std = first + share * float(divergence(mu, 2 * logvar).sum())
    as_std = first - share * float(0.5 * (1 + logvar - mu**2 - torch.exp(logvar / 2)).sum())
    known = {
        "The KL divergence has the wrong sign.": first - kl,
        "The KL divergence is missing.": first,
        "The KL divergence is doubled: is the factor 1/2 there?": first + 2 * kl,
        f"{log_var} is treated as the logarithm of the standard deviation.": as_log_std,
    }
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
            "In the KL divergence, exp(logvar) is the variance.": as_std,
        }
    expect_close(
        value,
        first + kl,
        f"For {n_images} images {function} gave {value:.3f}; {term} plus KL divergence is "
        f"{first:.3f} + {kl:.3f} = {first + kl:.3f}.",
        {**known, **causes} if n_images > 1 else {},  # for one image most of them coincide
        otherwise,
    )


def expect_loss_value(submission: Submission) -> None:
    """Fail unless loss_function is cross-entropy plus KL divergence, the mean over the batch."""
    for n_images in (5, 3, 1):
        case = x_hat, x, mu, logvar = random_case(n_images)
        bce, kl = (float(each.mean()) for each in negative_elbo(*case))
        n_pixels, latent_dim = x[0].numel(), mu.shape[1]
        squared = float((x_hat - x).square().sum()) / n_images
        causes = {
            "The cross-entropy is averaged over the pixels: sum it over them, and average over "
            "the images only.": bce / n_pixels + kl,
            "Cross-entropy and KL are averaged over pixels.": (bce + kl) / n_pixels,
            "The KL divergence is averaged over the latent dimensions: sum it over them.": bce
            + kl / latent_dim,
            "The KL divergence is divided by the number of pixels.": bce + kl / n_pixels,
            "The KL divergence is divided by the number of images twice.": bce + kl / n_images,
            "The cross-entropy is divided by the number of images twice.": bce / n_images + kl,
            "The reconstruction term is a squared error: use binary cross-entropy.": squared + kl,
        }
        otherwise = "Sum over pixels and dimensions, average over images."
        expect_two_terms(loss(submission, *case), (bce, kl), (mu, logvar), causes, otherwise)


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
    inputs = [tensor.clone().requires_grad_() for tensor in case]
    reconstruction, kl = terms(*inputs)
    loss = (reconstruction + kl).mean()
    right = torch.autograd.grad(loss, [inputs[0], inputs[2], inputs[3]])
    answer = submission.differentiate("loss_function", *case, wrt=(0, 2, 3))
    expect_gradients(dict(zip(("x_hat", "mu", "logvar"), answer.inputs, strict=True)), right)


def expect_loss_at_the_ends(submission: Submission) -> None:
    """Fail unless the loss is right for pixels that are exactly black or white."""
    x = torch.bernoulli(random_images(3))
    zeros = torch.zeros(3, 5)
    value = loss(submission, x, x, zeros, zeros)
    expect(
        abs(value) < 0.1,
        f"For perfect black and white images, mu = 0 and logvar = 0, the loss is {value:.3f}, and "
        "should be 0.",
    )


def expect_sampled_kl(submission: Submission) -> None:
    """Fail unless the KL divergence in the loss agrees with a sampled E_q[log q - log p]."""
    x_hat, x, mu, logvar = random_case(2, latent_dim=3)
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
