"""What the checks of the variational autoencoders, deliverables 3 to 5, 7 and 8, have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal
from torch.nn import functional

from helpers.checks.common import (
    RUN_AGAIN,
    expect_all_used,
    expect_epochs,
    expect_whole_numbers,
    random_images,
    some_digits,
)
from helpers.checks.tiny import TinyLoss
from helpers.checks.trial import Trial
from helpers.deliverables import Deliverable
from helpers.expect import (
    close,
    expect,
    expect_gradients,
    expect_number,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.submission import Object, Submission

INPUT_DIM, HIDDEN_DIM, LATENT_DIM = 784, 32, 6


def new_vae(
    submission: Submission,
    condition_dim: int = 0,
    latent_dim: int = LATENT_DIM,
    hidden_dim: int = HIDDEN_DIM,
) -> Object:
    """A fresh, small model of the student's class."""
    arguments = {"input_dim": INPUT_DIM, "hidden_dim": hidden_dim, "latent_dim": latent_dim}
    if condition_dim:
        arguments["conditional_vec_dim"] = condition_dim
    return submission.new("myVAE", **arguments)


def no_condition(_: int) -> None:
    """The condition of some number of images, where there is none."""


def encoder_input(images: Tensor, condition: Tensor | None) -> Tensor:
    """What the encoder takes: the images, or with a condition (N, 784 + C), the image first."""
    return images if condition is None else torch.cat([images.flatten(1), condition], dim=1)


def decoder_input(codes: Tensor, condition: Tensor | None) -> Tensor:
    """What the decoder takes: codes (N, Z), or with a condition (N, Z + C), the code first."""
    return codes if condition is None else torch.cat([codes, condition], dim=1)


def arguments(images: Tensor, condition: Tensor | None) -> tuple[Tensor, ...]:
    """The arguments of the model's forward."""
    return (images,) if condition is None else (images, condition)


# Architecture.


def expect_encoder_shapes(model: Object, condition: Callable[[int], Tensor | None]) -> None:
    """Fail unless the encoder gives (N, hidden_dim).

    Args:
        condition: makes the conditions of some number of images.
    """
    for n_images in (7, 1):
        inputs = encoder_input(random_images(n_images), condition(n_images))
        model.tensor(
            "encoder",
            inputs,
            shape=(n_images, HIDDEN_DIM),
            what=f"For an input of shape {tuple(inputs.shape)} and hidden_dim={HIDDEN_DIM}, the "
            "encoder's output",
            hint="nn.Flatten() comes first, and the last Linear layer has hidden_dim outputs.",
        )


def expect_head_shapes(model: Object) -> None:
    """Fail unless mu_layer and logvar_layer are Linear, (N, hidden_dim) -> (N, latent_dim)."""
    for name in ("mu_layer", "logvar_layer"):
        outermost = model.layers(name)[0]
        expect(
            outermost.type_name == "Linear",
            f"model.{name} should be an nn.Linear, but it is a {outermost.type_name}.",
            "Means and log variances may be any numbers: no activation behind them.",
        )
        for n_images in (7, 1):
            hidden = torch.randn(n_images, HIDDEN_DIM)
            model.tensor(name, hidden, shape=(n_images, LATENT_DIM), what=f"{name}'s output")


def expect_decoder_shapes(model: Object, condition: Callable[[int], Tensor | None]) -> None:
    """Fail unless the decoder gives (N, 1, 28, 28)."""
    for n_images in (7, 1):
        inputs = decoder_input(torch.randn(n_images, LATENT_DIM), condition(n_images))
        model.tensor(
            "decoder",
            inputs,
            shape=(n_images, 1, 28, 28),
            what=f"For an input of shape {tuple(inputs.shape)}, the decoder's output",
            hint="Bring the 784 numbers into an image with nn.Unflatten(1, (1, 28, 28)).",
        )


def forward(
    model: Object, images: Tensor, condition: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, images (N, 1, 28, 28), mu (N, Z) and logvar (N, Z), or fail."""
    answer = model.call("", *arguments(images, condition))
    if not isinstance(answer, list) or len(answer) != 3:
        got = f"{len(answer)} things" if isinstance(answer, list) else "one thing"
        fail(f"forward should return x_hat, mu, logvar, but it returned {got}.")
    n_images = len(images)
    shapes = ((n_images, 1, 28, 28), (n_images, LATENT_DIM), (n_images, LATENT_DIM))
    names = ("x_hat", "mu", "logvar")
    x_hat, mu, logvar = (
        expect_tensor(value, shape, what=f"The {name} that forward returns")
        for value, shape, name in zip(answer, shapes, names, strict=True)
    )
    return x_hat, mu, logvar


def expect_forward_parameters(model: Object, condition: Tensor | None, n_images: int = 5) -> None:
    """Fail unless forward returns the mu and logvar that the layers give."""
    images = random_images(n_images)
    _, mu, logvar = forward(model, images, condition)
    inputs = encoder_input(images, condition)
    hidden = model.tensor("encoder", inputs, what="The encoder's output")
    right_mu = model.tensor("mu_layer", hidden)
    right_logvar = model.tensor("logvar_layer", hidden)
    if close(mu, right_mu) and close(logvar, right_logvar):
        return
    hint = "Return the tensors that the two layers gave."
    if close(mu, right_logvar) and close(logvar, right_mu):
        hint = "They are swapped."
    elif condition is not None:
        hint = "Flatten the images and put the condition behind them: torch.cat([x, c], dim=1)."
    fail(
        "The mu and logvar that forward returns are not mu_layer(h) and logvar_layer(h), with h "
        "the encoder's output.",
        hint,
    )


def still(model: Object) -> None:
    """Make a model's spread zero (e^-20), so that the code is the mean."""
    _set_log_variance(model, -40.0)


def _set_log_variance(model: Object, value: float) -> None:
    """Make a model answer with one log variance for every image."""
    state = model.state("logvar_layer")
    expect("bias" in state, "logvar_layer should have a bias.")
    model.load(
        {k: torch.full_like(v, value if k == "bias" else 0.0) for k, v in state.items()},
        "logvar_layer",
    )


def expect_forward_decodes(model: Object, condition: Tensor | None) -> None:
    """Fail unless forward decodes samples around mu: one at mu itself where the spread is zero."""
    still(model)
    images = random_images(5)
    x_hat, mu, _ = forward(model, images, condition)
    decoded = model.tensor("decoder", decoder_input(mu, condition))
    if not close(x_hat, decoded, 1e-3):
        hint = "With no spread, z is mu."
        if condition is not None:
            hint = "Put the condition behind the code: torch.cat([z, c], dim=1)."
            if close(x_hat, model.tensor("decoder", torch.cat([condition, mu], dim=1)), 1e-3):
                hint = "The code comes first and the condition behind it, and not the other way."
        fail("With a very small variance, forward does not return decoder(mu).", hint)
    # The spread, without trusting any single draw: the variance of many pixels over many draws.
    _set_log_variance(model, 1.0)
    n_draws = 2000
    same = random_images(1).expand(n_draws, -1, -1, -1).contiguous()
    same_condition = None if condition is None else condition[:1].expand(n_draws, -1).contiguous()
    x_hat, mu, logvar = forward(model, same, same_condition)
    z = mu + torch.exp(logvar / 2) * torch.randn_like(mu)
    ours = model.tensor("decoder", decoder_input(z, same_condition))
    ratio = float(x_hat.var(dim=0).sum() / ours.var(dim=0).sum())
    expect(
        0.75 < ratio < 1.33,
        f"The variance of forward's images is {ratio:.2f} times that of decoded samples from "
        "N(mu, exp(logvar)).",
        "Is z = reparameterize(mu, logvar) what is decoded?",
    )


def expect_every_part_used(model: Object, condition: Tensor | None) -> None:
    """Fail if a parameter has no part in the image that forward returns for five images."""
    inputs, weights = arguments(random_images(5), condition), torch.randn(5, 1, 28, 28)
    expect_all_used(model.differentiate("", *inputs, weights=weights, pick=0).parameters)


# Sampling.


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
        """What the second argument is called."""
        return "std" if self.takes_std else "logvar"

    def std(self, spread: Tensor) -> Tensor:
        """The standard deviation that a second argument means."""
        return spread if self.takes_std else torch.exp(spread / 2)

    def draw(self, model: Object, mu: Tensor, spread: Tensor) -> Tensor:
        """Codes like ``mu``, drawn by the student's method."""
        what = f"What {self.method} returns"
        return model.tensor(self.method, mu, spread, shape=tuple(mu.shape), what=what)


REPARAMETERIZE = Sampler()


def expect_right_spread(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless the draws are from the normal distribution with that mean and spread."""
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
    if not torch.allclose(spreads, right, rtol=0.04):
        variance_hint = "exp(logvar) is the variance: the standard deviation is exp(logvar / 2)."
        if sampler.takes_std:
            variance_hint = "It is already a standard deviation: do not square it."
        causes = {
            variance_hint: right**2,
            "It is already a standard deviation: take no root, and no exp(std / 2).": right.sqrt()
            if sampler.takes_std
            else logvar.abs(),
            "What is given is taken for a log variance.": torch.exp(given / 2),
            "logvar itself is taken for the standard deviation.": logvar.abs(),
            "eps should have a standard deviation of 1: torch.randn, not torch.rand.": right
            / math.sqrt(12),
            f"The spread does not depend on {sampler.spread}.": torch.ones(3),
        }
        cause = [hint for hint, s in causes.items() if torch.allclose(spreads, s, rtol=0.04)]
        fail(
            f"For {sampler.spread} = {_text(given)} the draws have a standard deviation of "
            f"{_text(spreads)}, and should have {_text(right)}.",
            cause[0] if cause else f"z = {formula}, with eps from torch.randn.",
        )
    # The fourth moment tells a bell from a box: 3 for a Gaussian, 1.8 for a uniform one.
    fourth = ((z - mu) / spreads).pow(4).mean(dim=0)
    expect(
        bool(((fourth - 3).abs() < 0.4).all()),
        f"The noise is not Gaussian: its fourth moment is {_text(fourth)}, and should be 3.",
        "Use torch.randn_like.",
    )


def expect_fresh_noise(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless each call, each image and each dimension gets noise of its own."""
    mu, spread = torch.zeros(500, 8), torch.full((500, 8), float(sampler.takes_std))
    first, second = (sampler.draw(model, mu, spread) for _ in range(2))
    where = "torch.randn_like(mu) draws for each number."
    expect(not close(first, second), "Two calls give the same draws.", "Set no seed in there.")
    expect(float(first.std(dim=0).min()) > 0.5, "All images of a batch get the same noise.", where)
    expect(float(first.std(dim=1).min()) > 0.05, "All dimensions get the same noise.", where)


def expect_sampling_gradients(model: Object, sampler: Sampler = REPARAMETERIZE) -> None:
    """Fail unless gradients pass through the draw: dz/dmu = 1, and dz/dspread."""
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


# Loss.


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
    """x_hat, x, mu and logvar as a loss takes them, with nothing in them zero."""
    x_hat, x = 0.1 + 0.8 * random_images(n_images), random_images(n_images)
    mu = 1.5 * torch.randn(n_images, latent_dim)
    return x_hat, x, mu, torch.randn(n_images, latent_dim) - 0.5


def loss(
    submission: Submission, *case: Tensor, name: str = "loss_function", **options: float
) -> float:
    """What the student's loss function, called ``name``, returns."""
    return expect_number(submission.call(name, *case, **options), what=f"What {name} returns")


def expect_loss_value(submission: Submission) -> None:
    """Fail unless loss_function is cross-entropy plus KL divergence, the mean over the batch."""
    for n_images in (5, 3, 1):
        x_hat, x, mu, logvar = random_case(n_images)
        value = loss(submission, x_hat, x, mu, logvar)
        bce, kl = (float(each.mean()) for each in negative_elbo(x_hat, x, mu, logvar))
        if math.isclose(value, bce + kl, rel_tol=1e-4):
            continue
        latent_dim = mu.shape[1]
        log_std = float(divergence(mu, 2 * logvar).sum(1).mean())
        variance = float(-0.5 * (1 + logvar - mu**2 - torch.exp(logvar / 2)).sum(1).mean())
        squared = float((x_hat - x).square().flatten(1).sum(dim=1).mean())
        causes = {
            "It is summed over the batch: divide by the number of images.": n_images * (bce + kl),
            "The cross-entropy is averaged over the pixels: sum it over them, and average over "
            "the images only.": bce / INPUT_DIM + kl,
            "Cross-entropy and KL are averaged over pixels.": (bce + kl) / INPUT_DIM,
            "The KL divergence is averaged over the latent dimensions: sum it over them.": bce
            + kl / latent_dim,
            "The KL divergence is divided by the number of pixels.": bce + kl / INPUT_DIM,
            "The KL divergence has the wrong sign.": bce - kl,
            "The KL divergence is missing.": bce,
            "The KL divergence is doubled: is the factor 1/2 there?": bce + 2 * kl,
            "It is divided by the number of images twice.": (bce + kl) / n_images,
            "Only the cross-entropy is averaged over the images.": bce + n_images * kl,
            "Only the KL divergence is averaged over the images.": n_images * bce + kl,
            "The KL divergence is divided by the number of images twice.": bce + kl / n_images,
            "The cross-entropy is divided by the number of images twice.": bce / n_images + kl,
            "logvar is treated as the logarithm of the standard deviation.": bce + log_std,
            "In the KL divergence, exp(logvar) is the variance.": bce + variance,
            "The reconstruction term is a squared error: use binary cross-entropy.": squared + kl,
        }
        if n_images == 1:
            causes = {}  # most of them coincide
        fail(
            f"For {n_images} images loss_function gave {value:.3f}; cross-entropy plus KL "
            f"divergence is {bce:.3f} + {kl:.3f} = {bce + kl:.3f}.",
            likely_cause(value, causes, "Sum over pixels and dimensions, average over images."),
        )


def expect_loss_per_image(submission: Submission) -> None:
    """Fail unless a batch twice over has the loss of the batch."""
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
        terms: makes of them the loss's two terms for each image, (N,) each.
    """
    inputs = [tensor.clone().requires_grad_() for tensor in case]
    reconstruction, kl = terms(*inputs)
    loss = (reconstruction + kl).mean()
    right = torch.autograd.grad(loss, [inputs[0], inputs[2], inputs[3]])
    answer = submission.differentiate("loss_function", *case, wrt=(0, 2, 3))
    expect_gradients(dict(zip(("x_hat", "mu", "logvar"), answer.inputs, strict=True)), right)


def expect_loss_at_the_ends(submission: Submission) -> None:
    """Fail unless the loss survives pixels that are exactly black or white."""
    x = torch.bernoulli(random_images(3))
    zeros = torch.zeros(3, 5)
    value = loss(submission, x, x, zeros, zeros)
    expect(
        abs(value) < 0.1,
        f"For perfect black and white images, mu = 0 and logvar = 0, the loss is {value:.3f}, and "
        "should be 0.",
    )


def expect_sampled_kl(submission: Submission) -> None:
    """Fail unless the loss holds the KL divergence that sampling finds: E_q[log q - log p]."""
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


# Settings.


def expect_settings(submission: Submission, deliverable: Deliverable) -> None:
    """Fail unless the settings are within the rules."""
    values = expect_whole_numbers(submission, "latent_dim", "hidden_dim", "batch_size", "n_epochs")
    low, high = int(deliverable["min_latent_dim"]), int(deliverable["max_latent_dim"])
    latent_dim = values["latent_dim"]
    expect(
        low <= latent_dim <= high,
        f"`latent_dim` is {latent_dim}; hand in a model with {low} to {high}.",
    )
    expect_epochs(values["n_epochs"], deliverable)


# Training.


def tiny_trial(
    submission: Submission,
    lr: float,
    model: str,
    condition: Callable[[Tensor, Tensor], Tensor] | None = None,
    summed: str = "",
) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own.

    Args:
        model: a class of :mod:`helpers.checks.tiny`, by name. It returns x_hat, mu, logvar and
            perhaps more.
        condition: makes conditions (N, C) of images and labels; None for a model without.
        summed: a loss of that module which sums over the images, where that is what the student's
            does; it is reported as a mean all the same.
    """

    def mean(tiny: nn.Module, _: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        c = None if condition is None else condition(images, labels)
        x_hat, mu, logvar, *_more = tiny(*arguments(images, c))
        return TinyLoss()(x_hat, images, mu, logvar)

    def total(tiny: nn.Module, _: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        return len(images) * mean(tiny, _, images, labels)

    criterion = f"helpers.checks.tiny.{summed or 'TinyLoss'}"
    loss = total if summed else mean
    return Trial(submission, lr, model=model, criterion=criterion, loss=loss, reported=mean)


# Trained models.


@dataclass(frozen=True)
class Losses:
    """What a trained model loses per image, in nats."""

    training: float
    test: float
    #: The KL divergence's part of the training loss.
    kl: float


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


def expect_learned(found: Losses, most: float) -> None:
    """Fail unless the training loss is clearly below what the mean image alone would reach."""
    expect(
        found.training < most,
        f"Training loss {found.training:.1f}: the mean image alone would reach 206.",
        RUN_AGAIN,
    )


def expect_low_training_loss(found: Losses, deliverable: Deliverable) -> str:
    """Fail unless the training loss is below the pass mark; else a note without its full stop."""
    loss, most = f"Training loss {found.training:.1f} nats per image", f"{deliverable.max_loss:g}"
    expect(
        found.training < deliverable.max_loss,
        f"{loss}; it must be below {most}.",
        "Wider hidden layers, smaller batches or more epochs help.",
    )
    return f"{loss} (must be below {most})"


def expect_low_test_loss(found: Losses, deliverable: Deliverable, slack: float) -> str:
    """Fail unless the test loss is below ``slack`` times the pass mark; else a note."""
    limit = slack * deliverable.max_loss
    expect(
        found.test < limit,
        f"Test loss {found.test:.1f} (training {found.training:.1f}); it must be below "
        f"{limit:.0f}.",
    )
    return f"Test loss {found.test:.1f}, training {found.training:.1f} nats per image."


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


# Draws from the prior.


def expect_prior_draws(model: Object, draw: Callable[[], Tensor], condition: Tensor) -> None:
    """Fail unless ``draw`` decodes codes from N(0, I), with the condition behind them.

    Args:
        model: a fresh one; its decoder is made to depend strongly on its condition.
        draw: gives images (N, 1, 28, 28), drawn by the student's code with this model.
        condition: (N, C), what the images are drawn for.
    """
    state = model.state("decoder")
    first = next((name for name, value in state.items() if value.ndim == 2), "")
    expect(bool(first), "The decoder has no Linear layer.")
    state[first][:, -condition.shape[1] :] *= 10
    model.load(state, "decoder")
    images = draw()
    codes = torch.randn(len(condition), LATENT_DIM)
    ours = model.tensor("decoder", decoder_input(codes, condition), what="The decoder's output")
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
    """Fail unless two calls, and the images of each, are different draws."""
    expect(not close(first, second), "Two calls give the same images.", "Set no seed in there.")
    expect(
        float(first.std(dim=0).max()) > 1e-4,
        "All images of a call are the same.",
        "Draw a code for each image: torch.randn(n_images, latent_dim).",
    )
