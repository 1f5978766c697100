"""Sampling in a variational autoencoder: from the posterior of an image and from the prior."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    StudentError,
    Submission,
    close,
    expect,
    expect_tensor,
    fail,
)
from helpers.checks.common import tiny
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.conduct import expect_no_seed
from helpers.checks.common.declaring import declare
from helpers.checks.common.standin import is_right
from helpers.checks.common.vae_model import LATENT_DIM, decoded, new_vae, with_condition


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
        answer, what = model.call(self.method, mu, spread), f"What {self.method} returns"
        if isinstance(answer, Tensor) and answer.is_floating_point() and answer.isnan().any():
            negative = answer.isnan().reshape(-1).tolist() == (spread < 0).reshape(-1).tolist()
            fail(
                f"{what} has NaN in it.",
                f"Is the root of {self.spread} taken, which may be negative? The standard "
                "deviation is exp(logvar / 2)."
                if negative and not self.takes_std
                else "",
            )
        return expect_tensor(answer, tuple(mu.shape), what=what)


REPARAMETERIZE = Sampler()

#: Draws for each number, means and log variances with which a sampler is tried.
N_DRAWS = 20_000
MEANS, LOG_VARIANCES = (1.5, -0.7, 0.3), (-2.0, 0.6, 1.4)

#: Mean and standard deviation of draws, (3,) each.
Moments = tuple[Tensor, Tensor]


def expect_right_spread(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless samples have the mean and spread that are given, and are normally distributed."""
    mean, logvar = torch.tensor(MEANS), torch.tensor(LOG_VARIANCES)
    mu, right = mean.expand(N_DRAWS, -1).contiguous(), torch.exp(logvar / 2)
    given = right if sampler.takes_std else logvar
    z = sampler.draw(model, mu, given.expand(N_DRAWS, -1).contiguous())
    means, spreads = z.mean(dim=0), z.std(dim=0)
    cause = _wrong_moments((means, spreads), mean, given, sampler)
    if not bool(((means - mean).abs() < 5 * right / math.sqrt(N_DRAWS)).all()):
        fail(f"For mu = {_text(mean)} the draws have a mean of {_text(means)}.", cause)
    if not torch.allclose(spreads, right, rtol=0.04):
        fail(
            f"For {sampler.spread} = {_text(given)} the draws have a standard deviation of "
            f"{_text(spreads)}, and should have {_text(right)}.",
            cause,
        )
    # The fourth moment tells a bell from a box: 3 for a Gaussian, 1.8 for a uniform one.
    fourth = ((z - mu) / spreads).pow(4).mean(dim=0)
    expect(
        bool(((fourth - 3).abs() < 0.4).all()),
        f"The noise is not Gaussian: its fourth moment is {_text(fourth)}, and should be 3.",
        "Use torch.randn_like.",
    )
    expect_kept(model, sampler.method, mu[:5], given.expand(5, -1).contiguous())


def _wrong_moments(found: Moments, mu: Tensor, given: Tensor, sampler: Sampler) -> str:
    """The mistake that gives such means and standard deviations, or ""."""
    std = given if sampler.takes_std else torch.exp(given / 2)
    zero, one = torch.zeros(3), torch.ones(3)
    alike = float(found[1].max()) < 1e-6
    if alike and torch.allclose(found[0], mu + std, atol=1e-3):
        return "There is no noise: the standard deviation is added without eps."
    if alike and not any(torch.allclose(found[0], mean, atol=1e-3) for mean in (mu, zero)):
        return "All images of a batch get the same noise: torch.randn_like(mu) draws for each."
    known: dict[str, Moments] = {
        "mu is missing.": (zero, std),
        "There is no noise: mu itself is returned.": (mu, zero),
        "Only zeros are returned.": (zero, zero),
        "Neither mu nor the spread is used: this is the noise alone.": (zero, one),
        f"The spread does not depend on {sampler.spread}: the noise is added as it is.": (mu, one),
        "eps comes from torch.rand; it should come from torch.randn, with a standard deviation of "
        "1 around 0.": (mu + std / 2, std / math.sqrt(12)),
        "eps is uniform; it should come from torch.randn, with a standard deviation of 1.": (
            mu,
            std / math.sqrt(12),
        ),
        "mu and the standard deviation are exchanged.": (std, mu.abs()),
        "mu is added twice.": (2 * mu, std),
        "mu is subtracted.": (-mu, std),
    }
    if sampler.takes_std:
        known |= {
            "It is already a standard deviation: do not square it.": (mu, std**2),
            "It is already a standard deviation: take no root.": (mu, std.sqrt()),
            "It is already a standard deviation: take no exp(std / 2).": (mu, (std / 2).exp()),
            "It is already a standard deviation: take no exp.": (mu, std.exp()),
            "It is already a standard deviation: take no logarithm.": (mu, std.log().abs()),
        }
    else:
        variance = "exp(logvar) is the variance: the standard deviation is exp(logvar / 2)."
        known |= {
            variance: (mu, std**2),
            f"{variance} Half of the variance is taken.": (mu, std**2 / 2),
            "logvar itself is taken for the standard deviation: that is exp(logvar / 2).": (
                mu,
                given.abs(),
            ),
            "Half of logvar is taken for the standard deviation: that is exp(logvar / 2).": (
                mu,
                given.abs() / 2,
            ),
            "The root is taken twice: exp(logvar / 2) is the standard deviation already.": (
                mu,
                std.sqrt(),
            ),
            "The variance is squared: the standard deviation is exp(logvar / 2).": (mu, std**4),
            "The sign of logvar is wrong: the standard deviation is exp(+logvar / 2).": (
                mu,
                1 / std,
            ),
            "mu and logvar are exchanged.": (given, (mu / 2).exp()),
        }
    for cause, (mean, spread) in known.items():
        near = (found[0] - mean).abs() < 0.03 * (spread + 0.1)
        if bool(near.all()) and torch.allclose(found[1], spread, rtol=0.04, atol=1e-4):
            return cause
    scale = found[1] / std
    centred = bool(((found[0] - mu).abs() < 0.03 * (found[1] + 0.1)).all())
    if centred and float(scale.max()) < 1.05 * float(scale.min()):
        return f"The noise is multiplied by {float(scale.mean()):.2g}: leave out that factor."
    return ""


def expect_fresh_noise(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless each call, each image and each dimension gets its own noise."""
    mu, spread = torch.full((500, 8), 0.5), torch.full((500, 8), 0.7)
    first, second = (sampler.draw(model, mu, spread) for _ in range(2))
    where = "torch.randn_like(mu) draws for each number."
    if close(first, second):
        random = float(first.std()) > 1e-4
        fail(
            "Two calls give the same draws.",
            "Draw eps anew in each call, and set no seed." if random else "There is no noise.",
        )
    size = float(first.std())
    shared = "All images of a batch get the same noise."
    expect(float(first.std(dim=0).min()) > 0.5 * size, shared, where)
    expect(float(first.std(dim=1).min()) > 0.05 * size, "All dimensions get the same noise.", where)
    sampler.draw(model, mu[:1], spread[:1])  # no noise needs other images
    expect_no_seed(model.submission, lambda: sampler.draw(model, mu, spread), sampler.method)


def expect_unseeded_forward(model: Object, *inputs: Tensor) -> None:
    """Fail if forward sets the seed; if reparameterize does, that is for another check."""
    if is_right(lambda: expect_fresh_noise(model)):
        expect_no_seed(model.submission, lambda: model.call("", *inputs), "forward")


def expect_sampling_gradients(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless the samples have the right derivatives with respect to mean and spread.

    Right are those of z = mu + std * eps; else those of what is drawn from the same seed, since a
    wrong formula is for another check.
    """
    mu, spread = torch.randn(40, 5), torch.randn(40, 5)
    if sampler.takes_std:
        spread = 0.5 + spread.abs()
    seed = int(torch.randint(2**31, (1,)))
    model.submission.seed(seed)
    answer = model.differentiate(sampler.method, mu, spread, wrt=(0, 1))
    z = expect_tensor(answer.output, (40, 5), what=f"What {sampler.method} returns")
    for_spread = (z - mu) / (spread if sampler.takes_std else 2)

    def slope(which: int) -> Tensor:
        """How the draws from the same seed change with mu or with the spread."""
        ends = []
        for step in (1e-2, -1e-2):
            moved = [mu, spread]
            moved[which] = moved[which] + step
            model.submission.seed(seed)
            ends.append(sampler.draw(model, moved[0], moved[1]))
        return (ends[0] - ends[1]) / 2e-2

    for which, name, right in (
        (0, "mu", torch.ones_like(mu)),
        (1, sampler.spread, for_spread),
    ):
        gradient = answer.inputs[which]
        if gradient is not None and close(gradient, right, 1e-3):
            continue
        actual = slope(which)
        if gradient is None and not bool(actual.abs().max() > 1e-3):
            continue  # z does not depend on it at all
        if gradient is None:
            fail(
                f"No gradient reaches {name} through the draw.",
                f"Compute z from mu and {sampler.spread} with torch operations: no torch.no_grad, "
                "no .detach(), no .data, no .sample() and no torch.normal.",
            )
        if not bool(gradient.any()) and bool(actual.abs().max() > 1e-3):
            fail(
                f"The gradient that reaches {name} through the draw is zero.",
                f"torch.normal draws without gradients: compute z from mu, {sampler.spread} and "
                "eps.",
            )
        expect(
            close(gradient, actual, 2e-2), f"The gradient that reaches {name} is not dz/d{name}."
        )


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


def drawing_model(submission: Submission, condition_dim: int) -> Object:
    """A new model of the student's, or one of the kit's if theirs cannot decode code and condition.

    The code that draws with it is not to blame for that.
    """
    models: list[Object] = []

    def decodes() -> None:
        models.append(new_vae(submission, condition_dim))
        codes = torch.randn(3, LATENT_DIM + condition_dim)
        models[0].tensor("decoder", codes, shape=(3, 1, 28, 28), what="The decoder's output")

    if is_right(decodes):
        return models[0]
    model = submission.build(f"{tiny.__name__}.DrawingModel", LATENT_DIM, condition_dim)
    model.call("eval")
    return model


def expect_prior_draws(
    model: Object, draw: Callable[[], Tensor], condition: Tensor, name: str = "Your function"
) -> None:
    """Fail unless ``draw`` decodes codes from N(0, I), followed by the condition.

    Args:
        model: a new one; its decoder is changed to depend strongly on the condition.
        draw: returns images (N, 1, 28, 28), sampled by the student's code with this model.
        condition: (N, C), of each image.
        name: of the student's function.
    """
    _amplify(model, condition.shape[1])
    _expect_encoder_unused(model, draw, name)
    images = draw()
    codes = torch.randn(len(condition), LATENT_DIM)
    ours = decoded(model, with_condition(codes, condition))
    # Means over many draws for one condition agree; for another condition they would not.
    for c in condition.unique(dim=0):
        chosen = (condition == c).all(dim=1)
        ratio = float(images[chosen].var(dim=0).sum() / ours[chosen].var(dim=0).sum())
        expect(
            ratio > 1e-6,
            "All images for one condition are the same.",
            "Draw a code for each image: torch.randn(n_images, latent_dim).",
        )
        mean = images[chosen].mean(dim=0)
        difference = float((mean - ours[chosen].mean(dim=0)).abs().mean())
        between = float((ours[chosen].mean(dim=0) - ours[~chosen].mean(dim=0)).abs().mean())
        if difference > 0.2 * between:
            fail(
                "The images are not those of the condition that is asked for, as the decoder makes "
                "them.",
                _wrong_inputs(model, images, codes, condition),
            )
        if not 0.75 < ratio < 1.33:
            hint = "Draw each code once with torch.randn: no scale, and no mean of several draws."
            uniform = decoded(model, with_condition(torch.rand_like(codes), condition))[chosen]
            # Uniform codes lie around 0.5, so their images have another mean, too.
            off = float((mean - uniform.mean(dim=0)).abs().mean())
            if ratio < 0.3 and off < 0.5 * difference:
                hint = "torch.rand draws from a box: use torch.randn."
            fail(
                f"The variance of the images is {ratio:.2f} times that of decoded draws from "
                "N(0, I).",
                hint,
            )


def _amplify(model: Object, condition_dim: int) -> None:
    """Make a decoder depend strongly on its condition."""
    state = model.state("decoder")
    fits = (name for name, value in state.items() if value.ndim == 2)
    first = next(fits, "")
    expect(bool(first), "The decoder has no Linear layer.")
    state[first][:, -condition_dim:] *= 10
    model.load(state, "decoder")


def _expect_encoder_unused(model: Object, draw: Callable[[], Tensor], name: str) -> None:
    """Fail if the images change with mu_layer and logvar_layer, which are for images only."""
    heads = ("mu_layer", "logvar_layer")
    try:
        states = [model.state(head) for head in heads]
    except StudentError:
        return
    seed, answers = int(torch.randint(2**31, (1,))), []
    for shift in (0.0, 0.0, 3.0):
        for head, state in zip(heads, states, strict=True):
            model.load({key: value + shift for key, value in state.items()}, head)
        model.submission.seed(seed)
        answers.append(draw())
    for head, state in zip(heads, states, strict=True):
        model.load(state, head)
    model.submission.seed(int(torch.randint(2**31, (1,))))
    if close(answers[0], answers[1], 1e-6) and not close(answers[0], answers[2], 1e-5):
        fail(
            f"{name} asks the encoder for a code.",
            "There is no image for it to read: draw z from the prior, N(0, I), with torch.randn.",
        )


def _wrong_inputs(model: Object, images: Tensor, codes: Tensor, condition: Tensor) -> str:
    """What the decoder was given instead of the code and the condition after it, or ""."""
    known = {
        "The condition comes before the code: put it after, torch.cat([z, c], dim=1).": torch.cat(
            [condition, codes], dim=1
        ),
        "The decoder is not given the condition, but zeros.": with_condition(codes, 0 * condition),
        "The decoder is given the first condition for all images.": with_condition(
            codes, condition[:1].expand_as(condition)
        ),
        "The decoder is given the conditions in another order.": with_condition(
            codes, condition[torch.randperm(len(condition))]
        ),
    }

    def means(images: Tensor) -> Tensor:
        """The mean image for each condition."""
        kinds = condition.unique(dim=0)
        return torch.stack([images[(condition == c).all(dim=1)].mean(dim=0) for c in kinds])

    for cause, inputs in known.items():
        if float((means(images) - means(decoded(model, inputs))).abs().mean()) < 0.02:
            return cause
    return ""


def expect_different_draws(first: Tensor, second: Tensor) -> None:
    """Fail unless two calls, and the images of each call, differ."""
    varied = float(first.std(dim=0).max()) > 1e-4
    if close(first, second):
        fail(
            "Two calls give the same images.",
            "Draw the codes anew in each call, and set no seed."
            if varied
            else "Draw a code for each image: torch.randn(n_images, latent_dim).",
        )
    expect(
        varied,
        "All images of a call are the same.",
        "Draw a code for each image: torch.randn(n_images, latent_dim).",
    )


def expect_mode_kept(model: Object, name: str) -> None:
    """Fail if a call of the student's function has put a model from eval into training mode."""
    expect(
        model.get("training") is not True,
        f"{name} puts the model into training mode.",
        "Images are drawn in eval mode.",
    )
