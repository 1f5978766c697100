"""The checks of deliverable 7 that students see."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import RUN_AGAIN, expect_reported, once, some_digits, within_budget
from helpers.checks.trial import Trial, expect_mean_loss, expect_right_steps
from helpers.checks.vae import Sampler, joint_posterior
from helpers.deliverables import get
from helpers.expect import close, expect, expect_gradients, expect_tensor, fail, likely_cause
from helpers.submission import Object, Submission

D7 = get("d7_elbo")

#: The sizes of the small models that are tried out.
IMAGE_DIM, HIDDEN_DIM, LATENT_DIM = 30, 12, 2

SAMPLER = Sampler("reparameterization", takes_std=True)


def new_model(submission: Submission, image_dim: int = IMAGE_DIM) -> Object:
    """A small, fresh model of the student's class, with the kit's encoder and decoder."""
    encoder = submission.new("Encoder", image_dim, HIDDEN_DIM, LATENT_DIM)
    decoder = submission.new("Decoder", LATENT_DIM, HIDDEN_DIM, image_dim)
    model = submission.new("Model", encoder, decoder)
    # Fresh layers give codes and pixels that hardly differ: with larger weights, mistakes show.
    state = {name: 2 * value for name, value in model.state().items()}
    # Somewhat wider than the prior: else the weights of the codes have no variance.
    spread = {"encoder.log_var.weight": 0.1, "encoder.log_var.bias": 0.5}
    for name, value in spread.items():
        state[name] = (
            value + 0.05 * torch.randn(state[name].shape)
            if "bias" in name
            else (value * state[name])
        )
    model.load(state)
    return model


def some_bits(n_images: int, image_dim: int = IMAGE_DIM) -> Tensor:
    """Zeros and ones, (n_images, image_dim)."""
    return torch.randint(2, (n_images, image_dim)).float()


# The random step.


@check("reparameterization", points=1)
def draws_have_the_right_mean_and_spread(submission: Submission) -> None:
    """reparameterization(mean, std) draws from the normal distribution N(mean, std^2)."""
    vae.expect_right_spread(new_model(submission), SAMPLER)


@check("reparameterization", points=0.5)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each dimension gets noise of its own."""
    vae.expect_fresh_noise(new_model(submission), SAMPLER)


@check("reparameterization", points=0.5)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mean and std through the draw."""
    vae.expect_sampling_gradients(new_model(submission), SAMPLER)


# Forward.


def forward(model: Object, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What forward returns, theta (N, D), mean, log_var and z (N, Z), or fail."""
    answer = model.call("", x)
    if not isinstance(answer, list) or len(answer) != 4:
        got = f"{len(answer)} things" if isinstance(answer, list) else "one thing"
        fail(f"forward should return theta, mean, log_var, z, but it returned {got}.")
    shapes = (tuple(x.shape), *((len(x), LATENT_DIM),) * 3)
    names = ("theta", "mean", "log_var", "z")
    theta, mean, log_var, z = (
        expect_tensor(value, shape, what=f"The {name} that forward returns")
        for value, shape, name in zip(answer, shapes, names, strict=True)
    )
    return theta, mean, log_var, z


@check("forward", points=0.5)
def forward_returns_what_the_parts_give(submission: Submission) -> None:
    """forward(x) returns theta, mean, log_var, z: the encoder's answer, and theta = decoder(z)."""
    model = new_model(submission)
    x = some_bits(5)
    theta, mean, log_var, z = forward(model, x)
    answer = model.call("encoder", x)
    right = [expect_tensor(part, (5, LATENT_DIM), what="The encoder's answer") for part in answer]
    if not (close(mean, right[0]) and close(log_var, right[1])):
        swapped = close(mean, right[1]) and close(log_var, right[0])
        spread = close(log_var, torch.exp(0.5 * right[1]))
        fail(
            "The mean and log_var that forward returns are not those of the encoder.",
            "They are swapped."
            if swapped
            else "What it returns is the standard deviation, not log_var."
            if spread
            else "",
        )
    if not close(theta, model.tensor("decoder", z)):
        of_mean = close(theta, model.tensor("decoder", mean))
        fail(
            "The theta that forward returns is not decoder(z).",
            "It is the decoder's answer to the mean." if of_mean else "Was z drawn a second time?",
        )


@check("forward", points=0.5)
def forward_draws_with_the_encoders_spread(submission: Submission) -> None:
    """The code z that forward returns is drawn with the mean and spread that the encoder gives."""
    model = new_model(submission)
    x = some_bits(1).expand(20_000, -1).contiguous()
    *_, z = forward(model, x)
    answer = model.call("encoder", x)
    mean, log_var = (expect_tensor(part, what="The encoder's answer") for part in answer)
    std = torch.exp(0.5 * log_var)
    # Beside the student's own reparameterization: its mistakes cost its own points.
    if _alike(z, SAMPLER.draw(model, mean, std)):
        return
    causes = {
        "exp(log_var) is the variance: give it exp(0.5 * log_var).": SAMPLER.draw(
            model, mean, std**2
        ),
        "It is given log_var itself: give it exp(0.5 * log_var).": SAMPLER.draw(
            model, mean, log_var
        ),
        "z is the mean itself: nothing is drawn.": mean,
    }
    cause = [hint for hint, draws in causes.items() if _alike(z, draws)]
    fail(
        "The codes that forward returns are not those of reparameterization(mean, std).",
        cause[0] if cause else "",
    )


def _alike(z: Tensor, other: Tensor) -> bool:
    """Whether two sets of many draws have the same mean and spread."""
    error = (z.mean(dim=0) - other.mean(dim=0)).abs()
    near = error < 0.05 * (0.1 + other.std(dim=0))
    return bool(near.all()) and torch.allclose(z.std(0), other.std(0), rtol=0.04, atol=1e-5)


# Loss.


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, theta, mean and log_var, as the loss takes them."""
    theta = 0.1 + 0.8 * torch.rand(n_images, IMAGE_DIM)
    return (
        some_bits(n_images),
        theta,
        1.5 * torch.randn(n_images, 7),
        torch.randn(n_images, 7) - 0.5,
    )


@check("loss", points=1)
def loss_is_the_negative_elbo(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, summed over the images."""
    for n_images in (5, 3, 1):
        x, theta, mean, log_var = random_case(n_images)
        value = vae.loss(submission, x, theta, mean, log_var)
        bce, kl = (float(part.sum()) for part in vae.negative_elbo(theta, x, mean, log_var))
        if math.isclose(value, bce + kl, rel_tol=1e-4):
            continue
        as_std = float(vae.divergence(mean, 2 * log_var).sum())
        squared = float((theta - x).square().sum())
        swapped = float(functional.binary_cross_entropy(x, theta, reduction="sum"))
        causes = {
            "It is averaged over the images: sum it.": (bce + kl) / n_images,
            "It is the ELBO itself: the loss is minus that.": -bce - kl,
            "The KL divergence has the wrong sign.": bce - kl,
            "The log likelihood has the wrong sign.": kl - bce,
            "The KL divergence is missing.": bce,
            "The cross-entropy is missing.": kl,
            "The KL divergence is doubled: is the factor 1/2 there?": bce + 2 * kl,
            "The KL divergence is averaged over the dimensions: sum it.": bce + kl / 7,
            "The KL divergence is averaged over the images: sum it.": bce + kl / n_images,
            "The KL divergence is averaged: sum it.": bce + kl / (7 * n_images),
            "The cross-entropy is averaged over the pixels: sum it.": bce / x.numel() + kl,
            "The cross-entropy is averaged over the images: sum it.": bce / n_images + kl,
            "log_var is treated as the logarithm of the standard deviation.": bce + as_std,
            "The reconstruction term is a squared error.": squared + kl,
            "x and theta are swapped.": swapped + kl,
        }
        if n_images == 1:
            causes = {}  # most of them coincide
        fail(
            f"For {n_images} images loss_function gave {value:.3f}; cross-entropy plus KL "
            f"divergence is {bce:.3f} + {kl:.3f} = {bce + kl:.3f}.",
            likely_cause(value, causes, "Sum over pixels, dimensions and images."),
        )


@check("loss", points=0.5)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for theta, mean and log_var."""
    x, *rest = random_case(4)
    theta, mean, log_var = (tensor.requires_grad_() for tensor in rest)
    bce, kl = vae.negative_elbo(theta, x, mean, log_var)
    right = torch.autograd.grad((bce + kl).sum(), [theta, mean, log_var])
    case = [x, theta.detach(), mean.detach(), log_var.detach()]
    answer = submission.differentiate("loss_function", *case, wrt=(1, 2, 3))
    names = ("theta", "mean", "log_var")
    # Up to a factor: a loss that is averaged costs the check of its value.
    scale = next((_ratio(g, r) for g, r in zip(answer.inputs, right, strict=True)), 1.0)
    got = dict(zip(names, answer.inputs, strict=True))
    expect_gradients(got, [scale * gradient for gradient in right])


def _ratio(got: Tensor | None, right: Tensor) -> float:
    """By what factor a gradient is too large."""
    if got is None or got.shape != right.shape:
        return 1.0
    ratio = float((got * right).sum() / right.square().sum())
    return ratio if 0.01 < ratio < 100 else 1.0


@check("loss", points=0.5)
def loss_is_summed_over_the_images(submission: Submission) -> None:
    """The same images twice over have twice the loss."""
    case = random_case(4)
    one, two = vae.loss(submission, *case), vae.loss(submission, *(torch.cat([t, t]) for t in case))
    expect(
        math.isclose(2 * one, two, rel_tol=1e-4),
        f"4 images have a loss of {one:.3f}, and the same twice over of {two:.3f}.",
        "Sum over the images: train_epoch divides by their number.",
    )


# Training.


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae.tiny_trial(submission, lr, "TinyBernoulliVAE", summed="TinyElbo")


@check("training", points=0.25)
def train_epoch_returns_nats_per_image(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, as a number."""
    expect_mean_loss(trial(submission, lr=0.0))


@check("training", points=0.5)
def train_epoch_makes_the_right_steps(submission: Submission) -> None:
    """Two epochs of train_epoch move the parameters just as gradient descent should."""
    expect_right_steps(
        trial(submission, lr=0.02),
        hint="theta, mean, log_var, z = model(x), then loss_function(x, theta, mean, log_var).",
    )


# The codes of all images.


def encoded(submission: Submission) -> tuple[Trial, list[object]]:
    """A tiny model, and what encode_all returns for it and 13 images."""
    attempt = trial(submission, lr=0.0)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("encode_all", attempt.model, attempt.loader, device)
    if not isinstance(answer, list) or len(answer) != 2:
        fail("encode_all should return two tensors: the codes, and the last reconstruction.")
    return attempt, answer


@check("codes", points=0.5)
def codes_are_those_of_all_images(submission: Submission) -> None:
    """encode_all returns the codes of all images, in their order."""
    attempt, (codes, _) = encoded(submission)
    n_images = len(attempt.images)
    hint = "torch.cat(codes) joins the batches."
    codes = expect_tensor(codes, (n_images, 3), what="The codes of 13 images", hint=hint)
    _, mean, log_var, z = attempt.answers(attempt.images)
    if close(codes, z):
        return
    names = {"the means": mean, "the log variances": log_var}
    got = [name for name, tensor in names.items() if close(codes, tensor)]
    fail(
        f"These are {got[0]}, not the codes z." if got else "These are not the images' codes.",
        "The model returns theta, mean, log_var, z, in this order.",
    )


@check("codes", points=0.5)
def last_reconstruction_is_returned(submission: Submission) -> None:
    """encode_all also returns theta of the last batch, and computes no gradients."""
    attempt, (_, last) = encoded(submission)
    images = attempt.images[-3:]
    theta, *_ = attempt.answers(images)
    last = expect_tensor(last, what="The last reconstruction")
    expect(
        last.numel() == theta.numel() and close(last.view(theta.shape), theta),
        "This is not theta of the last batch.",
        "Return theta as the last round of the loop left it.",
    )
    expect(
        not any(attempt.modes()),
        "The model was in training mode, and gradients were computed.",
        "model.eval() and torch.no_grad().",
    )


# The importance-weighted estimate.


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
    mean, log_var = (expect_tensor(part, what="The encoder's") for part in model.call("encoder", x))
    z = mean + torch.exp(0.5 * log_var) * torch.randn(n_draws, *mean.shape)
    theta = model.tensor("decoder", z.flatten(0, 1)).view(n_draws, *x.shape)
    log_x = -functional.binary_cross_entropy(theta, x.expand_as(theta), reduction="none").sum(dim=2)
    return log_x.mean(dim=0) - vae.divergence(mean, log_var).sum(dim=1)


#: Of a mean over thousands of draws; the usual mistakes are off by 0.3 and more.
_TOLERANCE = 0.12


@check("estimate", points=1)
def one_code_gives_the_elbo(submission: Submission) -> None:
    """With one code for each image, the estimate is the ELBO on average."""
    model = new_model(submission)
    x = some_bits(4)
    right = float(elbo(model, x, 20_000).mean())
    found = estimate(submission, model, x.repeat(20_000, 1), 1)
    if abs(found - right) < _TOLERANCE:
        return
    reconstruction, kl = _parts(model, x)
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


def _parts(model: Object, x: Tensor) -> tuple[float, float]:
    """The two terms of the ELBO: the mean of log p(x | z), and the mean KL divergence."""
    mean, log_var = (expect_tensor(part, what="The encoder's") for part in model.call("encoder", x))
    kl = vae.divergence(mean, log_var).sum(dim=1).mean()
    return float(elbo(model, x, 20_000).mean() + kl), float(kl)


@check("estimate", points=1)
def many_codes_give_the_likelihood(submission: Submission) -> None:
    """With very many codes the estimate is log p(x), which small models allow to compute."""
    # One image at a time, three times: for one a wrong formula may be right by chance, and over
    # several images the errors may cancel.
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


# The trained model.


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model, in nats per image."""

    training: float
    test: float
    #: The KL divergence's part of the training loss.
    kl: float
    #: The bound on some test images with 1, 10 and 100 codes.
    bounds: tuple[float, float, float]


N_BOUND = 100


@cache
def bits(*, train: bool) -> Tensor:
    """Five thousand digits, rounded: (N, 784)."""
    return some_digits(train=train)[0].round().flatten(1)


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses, with codes drawn here and decoded in another process."""
    splits = [bits(train=train) for train in (True, False)]
    encoder = submission.trained("bernoulli_vae")
    posteriors = [joint_posterior(encoder, images) for images in splits]
    decoder = submission.trained("bernoulli_vae")
    generator = torch.Generator().manual_seed(2)
    losses, kls = [], []
    for x, (mean, log_var) in zip(splits, posteriors, strict=True):
        z = mean + torch.exp(0.5 * log_var) * torch.randn(mean.shape, generator=generator)
        kl = vae.divergence(mean, log_var).sum(dim=1)
        losses.append(float((kl - log_pixels(decoder, x, z)).mean()))
        kls.append(float(kl.mean()))
    mean, log_var = (part[:N_BOUND] for part in posteriors[1])
    x = splits[1][:N_BOUND]
    noise = torch.randn(100, *mean.shape, generator=generator)
    z = torch.addcmul(mean, torch.exp(0.5 * log_var), noise)
    log_x = log_pixels(decoder, x.expand(100, -1, -1).flatten(0, 1), z.flatten(0, 1))
    log_w = log_x.view(100, N_BOUND) - 0.5 * (z**2 - noise**2 - log_var).sum(dim=2)
    # The same draws, in groups of 1, 10 and 100.
    bounds = [
        float((torch.logsumexp(log_w.view(100 // k, k, -1), dim=1) - math.log(k)).mean())
        for k in (1, 10, 100)
    ]
    expect(all(map(math.isfinite, [*losses, *bounds])), "The trained model's loss is infinite.")
    return Findings(losses[0], losses[1], kls[0], (bounds[0], bounds[1], bounds[2]))


def log_pixels(decoder: Object, x: Tensor, z: Tensor) -> Tensor:
    """log p(x | z) of each image with its code, (N,)."""
    theta = decoder.apply("decoder", z, what="The decoder's output")
    expect(theta.shape == x.shape, f"The decoder's output should be {tuple(x.shape)}.")
    expect(bool(((theta >= 0) & (theta <= 1)).all()), "theta should lie in [0, 1].")
    return -functional.binary_cross_entropy(theta, x, reduction="none").sum(dim=1)


#: A model that always answers with the mean image loses 208 nats on rounded digits.
LEARNED_SOMETHING = 150.0


def learned(submission: Submission) -> Findings:
    """The findings, or fail if the model has not been trained."""
    found = findings(submission)
    expect(
        found.training < LEARNED_SOMETHING,
        f"Training loss {found.training:.1f} nats per image: the mean image alone would reach 208.",
        RUN_AGAIN,
    )
    return found


@check("result", points=1)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean image would."""
    return f"Training loss {learned(submission).training:.1f} nats per image."


@check("result", points=1)
def training_loss_is_low(submission: Submission) -> str:
    """The trained model's loss on training images, with codes drawn by us, is low enough."""
    found = findings(submission)
    note = f"Training loss {found.training:.1f} nats per image"
    expect(found.training < D7.max_loss, f"{note}; it must be below {D7.max_loss:g}.")
    return f"{note} (must be below {D7.max_loss:g}), of which the KL divergence is {found.kl:.1f}."


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


@check("result", points=0)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has the parameters that are given."""
    return within_budget(submission.checkpoint("bernoulli_vae"), D7)


@check("result", points=0)
def reported_loss_agrees(submission: Submission) -> str:
    """The loss that your training reported last agrees with the one measured now."""
    loss = findings(submission).training
    return expect_reported(submission.losses("bernoulli_vae"), loss, tolerance=0.05)
