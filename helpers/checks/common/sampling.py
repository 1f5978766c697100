"""Sampling in a variational autoencoder: from the posterior of an image and from the prior."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.checking import Object, Submission, close, expect, expect_close, expect_tensor, fail
from helpers.checks.common.declaring import declare
from helpers.checks.common.vae_model import LATENT_DIM, with_condition


@dataclass(frozen=True)
class Sampler:
    """A student's method that draws codes.

    Attributes:
        method: its name; it takes the mean and the spread.
        takes_std: whether the spread is the standard deviation, and not the log variance.
    """

    method: str = "reparameterize"
    takes_std: bool = False

    @property
    def spread(self) -> str:
        """The name of the second argument."""
        return "std" if self.takes_std else "logvar"

    def draw(self, model: Object, mu: Tensor, spread: Tensor) -> Tensor:
        """Codes like ``mu``, drawn by the student's method."""
        what = f"What {self.method} returns"
        return model.tensor(self.method, mu, spread, shape=tuple(mu.shape), what=what)


REPARAMETERIZE = Sampler()


def expect_right_spread(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless samples have the mean and spread that are given, and are normally distributed."""
    n_draws = 20_000
    mu = torch.tensor([1.5, -0.7, 0.3]).expand(n_draws, -1).contiguous()
    logvar = torch.tensor([-2.0, 0.6, 1.4])
    right = torch.exp(logvar / 2)
    given = right if sampler.takes_std else logvar
    z = sampler.draw(model, mu, given.expand(n_draws, -1).contiguous())
    means, spreads = z.mean(dim=0), z.std(dim=0)
    formula = "mu + std * eps" if sampler.takes_std else "mu + exp(logvar / 2) * eps"
    if not bool(((means - mu[0]).abs() < 5 * right / math.sqrt(n_draws)).all()):
        dropped = bool((means.abs() < 5 * right / math.sqrt(n_draws)).all())
        fail(
            f"For mu = {_text(mu[0])} the draws have a mean of {_text(means)}.",
            "Is mu added?" if dropped else f"z = {formula}, with eps from torch.randn.",
        )
    variance_hint = "exp(logvar) is the variance: the standard deviation is exp(logvar / 2)."
    if sampler.takes_std:
        variance_hint = "It is already a standard deviation: do not square it."
    expect_close(
        spreads,
        right,
        f"For {sampler.spread} = {_text(given)} the draws have a standard deviation of "
        f"{_text(spreads)}, and should have {_text(right)}.",
        {
            variance_hint: right**2,
            "It is already a standard deviation: take no root, and no exp(std / 2).": right.sqrt()
            if sampler.takes_std
            else logvar.abs(),
            "What is given is taken for a log variance.": torch.exp(given / 2),
            "logvar itself is taken for the standard deviation.": logvar.abs(),
            "eps should have a standard deviation of 1: torch.randn, not torch.rand.": right
            / math.sqrt(12),
            f"The spread does not depend on {sampler.spread}.": torch.ones(3),
        },
        f"z = {formula}, with eps from torch.randn.",
        same=lambda a, b: torch.allclose(a, b, rtol=0.04),
    )
    # The fourth moment tells a bell from a box: 3 for a Gaussian, 1.8 for a uniform one.
    fourth = ((z - mu) / spreads).pow(4).mean(dim=0)
    expect(
        bool(((fourth - 3).abs() < 0.4).all()),
        f"The noise is not Gaussian: its fourth moment is {_text(fourth)}, and should be 3.",
        "Use torch.randn_like.",
    )


def expect_fresh_noise(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless each call, each image and each dimension gets its own noise."""
    mu, spread = torch.zeros(500, 8), torch.full((500, 8), float(sampler.takes_std))
    first, second = (sampler.draw(model, mu, spread) for _ in range(2))
    where = "torch.randn_like(mu) draws for each number."
    expect(not close(first, second), "Two calls give the same draws.", "Set no seed in there.")
    expect(float(first.std(dim=0).min()) > 0.5, "All images of a batch get the same noise.", where)
    expect(float(first.std(dim=1).min()) > 0.05, "All dimensions get the same noise.", where)


def expect_sampling_gradients(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless the samples have the right derivatives with respect to mean and spread."""
    mu, spread = torch.randn(40, 5), torch.randn(40, 5)
    if sampler.takes_std:
        spread = 0.5 + spread.abs()
    answer = model.differentiate(sampler.method, mu, spread, wrt=(0, 1))
    z = expect_tensor(answer.output, (40, 5), what=f"What {sampler.method} returns")
    for_spread = (z - mu) / (spread if sampler.takes_std else 2)
    for name, gradient, right in (
        ("mu", answer.inputs[0], torch.ones_like(mu)),
        (sampler.spread, answer.inputs[1], for_spread),
    ):
        if gradient is None:
            fail(
                f"No gradient reaches {name} through the draw.",
                f"Compute z from mu and {sampler.spread} with torch operations: no torch.no_grad, "
                "no .detach(), no .data, and no torch.normal.",
            )
        expect(close(gradient, right, 1e-3), f"The gradient that reaches {name} is not dz/d{name}.")


def _text(values: Tensor) -> str:
    return ", ".join(f"{value:.2f}" for value in values.tolist())


def check_sampling(
    module: str,
    new_model: Callable[[Submission], Object],
    *,
    cell: str,
    points: tuple[float, float, float],
    title: str,
    sampler: Sampler = REPARAMETERIZE,
) -> None:
    """Declare the checks of mean and spread (with ``title``), of the noise, and of gradients."""

    def spread(submission: Submission) -> None:
        expect_right_spread(new_model(submission), sampler)

    def noise(submission: Submission) -> None:
        expect_fresh_noise(new_model(submission), sampler)

    def gradients(submission: Submission) -> None:
        expect_sampling_gradients(new_model(submission), sampler)

    declare(module, cell, points[0], "draws_have_the_right_mean_and_spread", title, spread)
    title = "Each call, each image and each dimension gets noise of its own."
    declare(module, cell, points[1], "noise_is_fresh", title, noise)
    mean = "mean" if sampler.takes_std else "mu"
    title = f"Gradients reach {mean} and {sampler.spread} through the draw."
    declare(module, cell, points[2], "gradients_pass_through_the_draw", title, gradients)


def expect_prior_draws(model: Object, draw: Callable[[], Tensor], condition: Tensor) -> None:
    """Fail unless ``draw`` decodes codes from N(0, I), followed by the condition.

    Args:
        model: a new one; its decoder is changed to depend strongly on the condition.
        draw: returns images (N, 1, 28, 28), sampled by the student's code with this model.
        condition: (N, C), of each image.
    """
    state = model.state("decoder")
    first = next((name for name, value in state.items() if value.ndim == 2), "")
    expect(bool(first), "The decoder has no Linear layer.")
    state[first][:, -condition.shape[1] :] *= 10
    model.load(state, "decoder")
    images = draw()
    codes = torch.randn(len(condition), LATENT_DIM)
    ours = model.tensor("decoder", with_condition(codes, condition), what="The decoder's output")
    # Means over many draws for one condition agree; for another condition they would not.
    for c in condition.unique(dim=0):
        chosen = (condition == c).all(dim=1)
        ratio = float(images[chosen].var(dim=0).sum() / ours[chosen].var(dim=0).sum())
        expect(
            ratio > 0.01,
            "All images for one condition are the same.",
            "Draw a code for each image: torch.randn(n_images, latent_dim).",
        )
        difference = float((images[chosen].mean(dim=0) - ours[chosen].mean(dim=0)).abs().mean())
        between = float((ours[chosen].mean(dim=0) - ours[~chosen].mean(dim=0)).abs().mean())
        expect(
            difference < 0.2 * between,
            "The images are not those of the condition that is asked for.",
            "Decode torch.cat([z, c], dim=1): the code first, then the condition.",
        )
        expect(
            0.75 < ratio < 1.33,
            f"The variance of the images is {ratio:.2f} times that of decoded draws from N(0, I).",
            "torch.randn draws from N(0, I).",
        )


def expect_different_draws(first: Tensor, second: Tensor) -> None:
    """Fail unless two calls, and the images of each call, differ."""
    expect(not close(first, second), "Two calls give the same images.", "Set no seed in there.")
    expect(
        float(first.std(dim=0).max()) > 1e-4,
        "All images of a call are the same.",
        "Draw a code for each image: torch.randn(n_images, latent_dim).",
    )
