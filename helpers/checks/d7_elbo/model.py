"""The checks of the model: its draws, its loss, its training, and the codes of images."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_gradients,
    expect_several,
    expect_tensor,
    expect_tensors,
    fail,
    likely_cause,
)
from helpers.checks.common import vae_loss
from helpers.checks.common.sampling import Sampler, check_sampling
from helpers.checks.common.trial import MakeTrial, Trial, check_training, vae_trial
from helpers.deliverables import get

D7 = get("d7_elbo")

#: The sizes of the small models in these checks.
IMAGE_DIM, HIDDEN_DIM, LATENT_DIM = 30, 12, 2

SAMPLER = Sampler("reparameterization", takes_std=True)


def new_model(submission: Submission, image_dim: int = IMAGE_DIM) -> Object:
    """A small, fresh model of the student's class, with the given encoder and decoder."""
    encoder = submission.new("Encoder", image_dim, HIDDEN_DIM, LATENT_DIM)
    decoder = submission.new("Decoder", LATENT_DIM, HIDDEN_DIM, image_dim)
    model = submission.new("Model", encoder, decoder)
    # New layers give codes and pixels that hardly differ; larger weights make mistakes visible.
    state = {name: 2 * value for name, value in model.state().items()}
    # A posterior somewhat wider than the prior: otherwise the weights of the codes do not vary.
    bias = state["encoder.log_var.bias"]
    state["encoder.log_var.bias"] = 0.5 + 0.05 * torch.randn(bias.shape)
    state["encoder.log_var.weight"] *= 0.1
    model.load(state)
    return model


def some_bits(n_images: int, image_dim: int = IMAGE_DIM) -> Tensor:
    """Zeros and ones, (n_images, image_dim)."""
    return torch.randint(2, (n_images, image_dim)).float()


check_sampling(
    __name__,
    new_model,
    cell="reparameterization",
    points=(1, 0.5, 0.5),
    title="reparameterization(mean, std) draws from the normal distribution N(mean, std^2).",
    sampler=SAMPLER,
)


def forward(model: Object, x: Tensor) -> list[Tensor]:
    """What forward returns, theta (N, D), mean, log_var and z (N, Z), or fail."""
    code = len(x), LATENT_DIM
    return expect_tensors(
        model.call("", x),
        {"theta": x.shape, "mean": code, "log_var": code, "z": code},
        "forward should return theta, mean, log_var, z, but it returned {got}.",
        what="The {} that forward returns",
    )


def posterior(model: Object, x: Tensor) -> list[Tensor]:
    """The mean and log_var, (N, Z) each, that the given encoder finds."""
    return expect_tensors(
        model.call("encoder", x),
        {"mean": None, "log_var": None},
        "The encoder should return mean and log_var, but it returned {got}.",
        what="The encoder's answer",
    )


@check("forward", points=0.5)
def forward_returns_what_the_parts_give(submission: Submission) -> None:
    """forward(x) returns theta, mean, log_var, z: the encoder's answer, and theta = decoder(z)."""
    model = new_model(submission)
    x = some_bits(5)
    theta, mean, log_var, z = forward(model, x)
    right_mean, right_log_var = posterior(model, x)
    if not (close(mean, right_mean) and close(log_var, right_log_var)):
        hint = ""
        if close(mean, right_log_var) and close(log_var, right_mean):
            hint = "They are swapped."
        elif close(log_var, torch.exp(0.5 * right_log_var)):
            hint = "What it returns is the standard deviation, not log_var."
        fail("The mean and log_var that forward returns are not those of the encoder.", hint)
    expect_close(
        theta,
        model.tensor("decoder", z),
        "The theta that forward returns is not decoder(z).",
        lambda: {"It is the decoder's answer to the mean.": model.tensor("decoder", mean)},
        "Was z drawn a second time?",
    )


@check("forward", points=0.5)
def forward_draws_with_the_encoders_spread(submission: Submission) -> None:
    """The code z that forward returns is drawn with the mean and spread that the encoder gives."""
    model = new_model(submission)
    x = some_bits(1).expand(20_000, -1).contiguous()
    *_, z = forward(model, x)
    mean, log_var = posterior(model, x)
    std = torch.exp(0.5 * log_var)
    expect_close(
        z,
        # With the student's own reparameterization: its mistakes cost its own points.
        SAMPLER.draw(model, mean, std),
        "The codes that forward returns are not those of reparameterization(mean, std).",
        lambda: {
            "exp(log_var) is the variance: give it exp(0.5 * log_var).": SAMPLER.draw(
                model, mean, std**2
            ),
            "It is given log_var itself: give it exp(0.5 * log_var).": SAMPLER.draw(
                model, mean, log_var
            ),
            "z is the mean itself: nothing is drawn.": mean,
        },
        same=_alike,
    )


def _alike(z: Tensor, other: Tensor) -> bool:
    """Whether two sets of many draws have the same mean and spread."""
    error = (z.mean(dim=0) - other.mean(dim=0)).abs()
    near = error < 0.05 * (0.1 + other.std(dim=0))
    return bool(near.all()) and torch.allclose(z.std(0), other.std(0), rtol=0.04, atol=1e-5)


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, theta, mean and log_var, as the loss takes them."""
    x, theta = some_bits(n_images), 0.1 + 0.8 * torch.rand(n_images, IMAGE_DIM)
    return x, theta, 1.5 * torch.randn(n_images, 7), torch.randn(n_images, 7) - 0.5


@check("loss", points=1)
def loss_is_the_negative_elbo(submission: Submission) -> None:
    """loss_function is the cross-entropy plus the KL divergence, summed over the images."""
    for n_images in (5, 3, 1):
        x, theta, mean, log_var = random_case(n_images)
        bce, kl = (float(part.sum()) for part in vae_loss.negative_elbo(theta, x, mean, log_var))
        squared = float((theta - x).square().sum())
        swapped = float(functional.binary_cross_entropy(x, theta, reduction="sum"))
        causes = {
            "It is the ELBO itself: the loss is minus that.": -bce - kl,
            "The log likelihood has the wrong sign.": kl - bce,
            "The cross-entropy is missing.": kl,
            "The KL divergence is averaged over the dimensions: sum it.": bce + kl / 7,
            "The KL divergence is averaged: sum it.": bce + kl / (7 * n_images),
            "The cross-entropy is averaged over the pixels: sum it.": bce / x.numel() + kl,
            "The reconstruction term is a squared error.": squared + kl,
            "x and theta are swapped.": swapped + kl,
        }
        vae_loss.expect_two_terms(
            vae_loss.loss(submission, x, theta, mean, log_var),
            (bce, kl),
            (mean, log_var),
            causes,
            "Sum over pixels, dimensions and images.",
            summed=True,
            log_var="log_var",
        )


@check("loss", points=0.5)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for theta, mean and log_var."""
    x, *rest = random_case(4)
    theta, mean, log_var = (tensor.requires_grad_() for tensor in rest)
    bce, kl = vae_loss.negative_elbo(theta, x, mean, log_var)
    right = torch.autograd.grad((bce + kl).sum(), [theta, mean, log_var])
    case = [x, theta.detach(), mean.detach(), log_var.detach()]
    answer = submission.differentiate("loss_function", *case, wrt=(1, 2, 3))
    names = ("theta", "mean", "log_var")
    # Up to a factor: a loss that is averaged costs the check of its value.
    scale = next((_ratio(g, r) for g, r in zip(answer.inputs, right, strict=True)), 1.0)
    got = dict(zip(names, answer.inputs, strict=True))
    expect_gradients(got, [scale * gradient for gradient in right])


def _ratio(got: Tensor | None, right: Tensor) -> float:
    """The factor by which a gradient is too large."""
    if got is None or got.shape != right.shape:
        return 1.0
    ratio = float((got * right).sum() / right.square().sum())
    return ratio if 0.01 < ratio < 100 else 1.0


@check("loss", points=0.5)
def loss_is_summed_over_the_images(submission: Submission) -> None:
    """The same images twice over have twice the loss."""
    case = random_case(4)
    one, two = (
        vae_loss.loss(submission, *(torch.cat([t] * times) for t in case)) for times in (1, 2)
    )
    expect(
        math.isclose(2 * one, two, rel_tol=1e-4),
        f"4 images have a loss of {one:.3f}, and the same twice over of {two:.3f}.",
        "Sum over the images: train_epoch divides by their number.",
    )


#: A trial of the student's train_epoch on a tiny model.
trial: MakeTrial = partial(vae_trial, sizes=(0, True), summed="TinyElbo")

check_training(
    __name__,
    trial,
    points=(0.25, 0.5),
    lr=0.02,
    hint="theta, mean, log_var, z = model(x), then loss_function(x, theta, mean, log_var).",
    returns="nats_per_image",
)


def encoded(submission: Submission) -> tuple[Trial, list[Any]]:
    """A tiny model, and what encode_all returns for it and 13 images."""
    attempt = trial(submission, 0.0)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("encode_all", attempt.model, attempt.loader, device)
    message = "encode_all should return two tensors: the codes, and the last reconstruction."
    return attempt, expect_several(answer, 2, message)


@check("codes", points=0.5)
def codes_are_those_of_all_images(submission: Submission) -> None:
    """encode_all returns the codes of all images, in their order."""
    attempt, (codes, _) = encoded(submission)
    n_images = len(attempt.images)
    hint = "torch.cat(codes) joins the batches."
    codes = expect_tensor(codes, (n_images, 3), what="The codes of 13 images", hint=hint)
    _, mean, log_var, z = attempt.answers(attempt.images)
    others = {
        "These are the means, not the codes z.": mean,
        "These are the log variances, not the codes z.": log_var,
    }
    message = likely_cause(codes, others, "These are not the images' codes.")
    expect_close(
        codes, z, message, otherwise="The model returns theta, mean, log_var, z, in this order."
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
