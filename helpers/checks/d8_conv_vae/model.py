"""The checks of the model: its draws, its loss, its training and its settings."""

import math
from functools import partial

import torch
from torch import Tensor

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_number,
    expect_tensors,
    fail,
)
from helpers.checks.common import architecture, settings, tiny, tiny_conv, vae_loss
from helpers.checks.common.conduct import expect_evaluation, expect_no_seed
from helpers.checks.common.images import random_images
from helpers.checks.common.sampling import Sampler, check_sampling
from helpers.checks.common.summed_elbo import SummedLoss, summed_trial
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import EXCHANGED, MakeTrial, Trial, tiny_vae_loss
from helpers.checks.d8_conv_vae.layers import CAPACITY, ENCODER_RETURNS, LATENT_DIMS
from helpers.deliverables import get

D8 = get("d8_conv_vae")

SAMPLER = Sampler("latent_sample")


def new_model(submission: Submission) -> Object:
    """A small model of the student's class; its Encoder and Decoder are right ones."""
    model_class = submission.object("VariationalAutoencoder")
    path = f"{tiny_conv.__name__}.with_right_parts"
    return submission.build(path, model_class, CAPACITY, LATENT_DIMS)


check_sampling(
    __name__,
    new_model,
    cell="sampling",
    points=(4, 2, 3),
    title="In training, latent_sample(mu, logvar) draws from N(mu, exp(logvar)).",
    sampler=SAMPLER,
)


@check("sampling", points=4)
def evaluation_gives_the_mean(submission: Submission) -> None:
    """In evaluation mode latent_sample(mu, logvar) returns mu itself."""
    model = new_model(submission)
    model.call("eval")
    mu, logvar = torch.randn(6, LATENT_DIMS), torch.randn(6, LATENT_DIMS)
    expect(
        close(SAMPLER.draw(model, mu, logvar), mu),
        "In evaluation mode it does not return mu.",
        "self.training is False after model.eval().",
    )


def forward(model: Object, images: Tensor) -> list[Tensor]:
    """What forward returns, images like those given, mu and logvar (N, latent_dims), or fail."""
    code = len(images), LATENT_DIMS
    return expect_tensors(
        model.call("", images),
        {"images": images.shape, "mu": code, "logvar": code},
        "forward should return three tensors, images, mu and logvar, but it returned {got}.",
        what="The {} that forward returns",
    )


def encoders_answer(model: Object, images: Tensor) -> list[Tensor]:
    """The mu and logvar that the encoder in a model gives."""
    shapes = dict.fromkeys(("mu", "logvar"), (len(images), LATENT_DIMS))
    return expect_tensors(model.call("encoder", images), shapes, ENCODER_RETURNS, what="The {}")


@check("forward", points=2)
def forward_returns_the_encoders_answer(submission: Submission) -> None:
    """forward(x) returns images, mu, logvar; in both modes the last two are the encoder's."""
    model = new_model(submission)
    images = random_images(5)
    right_mu, right_logvar = encoders_answer(model, images)
    for mode in ("train", "eval"):
        model.call(mode)
        _, mu, logvar = forward(model, images)
        if close(mu, right_mu) and close(logvar, right_logvar):
            continue
        hint = ""
        if close(mu, right_logvar) and close(logvar, right_mu):
            hint = "They are swapped."
        elif close(logvar, right_logvar):
            codes = codes_of(model)
            if any(close(mu, z) for z in codes[-1:]):
                hint = "The code z is returned where mu belongs."
        elif close(mu, right_mu):
            spreads = {"standard deviation": 0.5 * right_logvar, "variance": right_logvar}
            for name, log in spreads.items():
                if close(logvar, torch.exp(log)):
                    hint = f"What it returns is the {name}, not logvar."
        fail("The mu and logvar that forward returns are not the encoder's.", hint)
    for position, name in enumerate(("mu", "logvar"), start=1):
        gradients = model.differentiate("", images, pick=position).parameters.values()
        expect(
            any(gradient is not None for gradient in gradients),
            f"No gradient passes through the {name} that forward returns.",
            "Is it detached?",
        )


def codes_of(model: Object) -> list[Tensor]:
    """The codes that the right decoder in a model has decoded so far, call by call."""
    codes = model.get("decoder.recorder.inputs")
    return [code for code in codes if isinstance(code, Tensor)] if isinstance(codes, list) else []


@check("forward", points=2)
def forward_joins_the_parts(submission: Submission) -> None:
    """The images that forward(x) returns are decoder(latent_sample(mu, logvar))."""
    model = new_model(submission)
    images = random_images(5)
    mu, logvar = encoders_answer(model, images)
    what = "What latent_sample returns"
    model.call("eval")
    # With the student's own latent_sample: its mistakes cost its own points.
    code, again = (model.tensor("latent_sample", mu, logvar, what=what) for _ in range(2))
    if close(code, again):
        recon = forward(model, images)[0]
        expect_close(
            recon,
            model.tensor("decoder", code),
            "The images that forward returns are not decoder(latent_sample(mu, logvar)).",
            lambda: {
                "latent_sample is given logvar first: mu comes first.": model.tensor(
                    "decoder", model.tensor("latent_sample", logvar, mu, what=what)
                ),
                "They are the images that forward is given.": images,
                "They are rounded.": model.tensor("decoder", code).round(),
            },
        )
    model.call("train")
    same = images[:1].expand(2000, -1, -1, -1).contiguous()
    many_mu, many_logvar = mu[:1].expand(2000, -1), logvar[:1].expand(2000, -1)
    draws = model.tensor("latent_sample", many_mu, many_logvar, what=what)
    if float(draws.std(dim=0).min()) < 1e-3:
        return  # nothing is drawn, or once for all images
    recon = forward(model, same)[0]
    codes = [code for code in codes_of(model) if code.shape == draws.shape]
    expect(bool(codes), "forward does not call the decoder with one code for each image.")
    expect_close(
        codes[-1],
        draws,
        "In training, the codes that forward decodes are not those of latent_sample(mu, logvar).",
        lambda: {
            "The mean is decoded: nothing is drawn.": many_mu,
            "latent_sample is given logvar first: mu comes first.": model.tensor(
                "latent_sample", many_logvar, many_mu, what=what
            ),
            "It is given the standard deviation or the variance: give it logvar.": model.tensor(
                "latent_sample", many_mu, torch.exp(0.5 * many_logvar), what=what
            ),
            "It is given the standard deviation or the variance; it takes logvar.": model.tensor(
                "latent_sample", many_mu, torch.exp(many_logvar), what=what
            ),
        },
        same=_alike,
    )
    expect(
        close(recon, model.tensor("decoder", codes[-1])),
        "In training, the images that forward returns are not what the decoder made of the code.",
        "Return its answer to one draw for each image, as it comes.",
    )
    passes = model.differentiate("latent_sample", mu, logvar, wrt=(0, 1)).inputs
    if all(gradient is not None for gradient in passes):  # else it costs its own check
        architecture.expect_all_used(model.differentiate("", images, pick=0).parameters)


def _alike(z: Tensor, other: Tensor) -> bool:
    """Whether two sets of 2000 draws have the same mean and spread."""
    error = (z.mean(dim=0) - other.mean(dim=0)).abs()
    spread = other.std(dim=0)
    near = error <= 0.16 * spread + 1e-5  # five standard errors of the difference of two means
    return bool(near.all()) and torch.allclose(z.std(dim=0), spread, rtol=0.12, atol=1e-5)


LOSS = SummedLoss("vae_loss", vae_loss.random_case)


@check("loss", points=7)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """vae_loss is the cross-entropy plus the KL divergence, summed over the batch."""
    LOSS.expect_value(submission)


@check("loss", points=3)
def beta_weighs_the_kl(submission: Submission) -> None:
    """With another beta, the KL divergence counts that many times."""
    case = vae_loss.random_case(4)
    zero, one, three = (LOSS.value(submission, case, beta=beta) for beta in (0.0, 1.0, 3.0))
    message = f"With beta = 0, 1 and 3 the loss is {zero:.2f}, {one:.2f} and {three:.2f}."
    expect(abs(one - zero) > 0.1, message, "It does not depend on beta.")
    bce, kl = (float(each.sum()) for each in vae_loss.negative_elbo(*case))
    if not math.isclose(one, bce + kl, rel_tol=1e-4):  # which costs its own check
        expect(math.isclose(three - zero, 3 * (one - zero), rel_tol=1e-3, abs_tol=1e-2), message)
        return
    expect(
        abs(zero) > 1e-3 * bce,
        message,
        "beta multiplies the cross-entropy too: it should be bce + beta * kl.",
    )
    expect(
        not math.isclose(zero, kl, rel_tol=1e-3),
        message,
        "beta multiplies the cross-entropy, and not the KL divergence.",
    )
    expect(
        math.isclose(zero, bce, rel_tol=1e-4) and math.isclose(three, bce + 3 * kl, rel_tol=1e-4),
        message,
        f"It should be bce + beta * kl, which is {bce:.2f}, {bce + kl:.2f} and {bce + 3 * kl:.2f}.",
    )


@check("loss", points=3)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for the images, mu and logvar."""
    LOSS.expect_gradients(submission)


#: A trial of the student's train_epoch on a tiny model.
trial: MakeTrial = partial(summed_trial, summed="TinySummedLoss")

check_training(
    __name__,
    trial,
    points=(4, 5),
    lr=0.02,
    hint="For each batch: zero_grad, recon, mu, logvar = model(images), the loss that train_epoch "
    "is given, backward, step.",
    returns="nats_per_image",
    mean_title="train_epoch returns the mean loss per image of the epoch, as a number.",
)


class Evaluation(Trial):
    """A student's evaluate: like a train_epoch without an optimizer."""

    def __init__(self, submission: Submission) -> None:
        super().__init__(
            submission,
            0.0,
            model="TinyVAE",
            criterion=f"{tiny.__name__}.TinySummedLoss",
            loss=tiny_vae_loss,
            function="evaluate",
        )

    def _prepare(self, n_images: int, batch_size: int) -> None:
        super()._prepare(n_images, batch_size)
        self._arguments = self._arguments[:2]  # type: ignore[assignment]


def evaluated(submission: Submission) -> tuple[Evaluation, float]:
    """A tiny model, and what evaluate returns for it and some images."""
    attempt = Evaluation(submission)
    return attempt, expect_number(attempt.epoch(), what="What evaluate returns")


@check("evaluation", points=3)
def evaluate_returns_nats_per_image(submission: Submission) -> None:
    """evaluate returns the mean loss per image over the whole loader."""
    attempt, value = evaluated(submission)
    losses, counts = attempt.batch_losses(), attempt.counts
    total, n_images = float((losses * counts).sum()), float(counts.sum())
    swapped = attempt.batch_losses(partial(tiny_vae_loss, swapped=True))
    right = total / n_images
    expect_close(
        value,
        right,
        f"evaluate returned {value:.5f}; the mean loss over the {n_images:g} images is "
        f"{right:.5f}.",
        {
            "This is the sum over all images: divide by their number.": total,
            "This is the loss per batch: divide by the number of images, not of batches.": total
            / len(counts),
            "Only the last batch counts.": float(losses[-1]),
            "Only the first batch counts: is `return` inside the loop?": float(losses[0]),
            "This is the sum of the last batch.": float(losses[-1] * counts[-1]),
            "This is the mean of the batches' means: the last batch is smaller.": float(
                losses.mean()
            ),
            "The last batch's loss is divided by the number of all images.": float(
                losses[-1] * counts[-1] / n_images
            ),
            "The loss is a sum already: do not multiply it by the number of images.": float(
                (losses * counts**2).sum() / n_images
            ),
            "The loss is divided by the number of images twice.": float(losses.sum() / n_images),
            EXCHANGED: float((swapped * counts).sum() / n_images),
        },
    )


@check("evaluation", points=2)
def evaluate_changes_nothing(submission: Submission) -> None:
    """evaluate uses evaluation mode, computes no gradients and sets no seed."""
    attempt, _ = evaluated(submission)
    expect_evaluation(attempt.model)
    expect_no_seed(submission, lambda: evaluated(submission), "evaluate")


@check("settings", points=1)
def settings_are_within_the_rules(submission: Submission) -> str:
    """n_epochs is within the rules, the model within its budget, and Adam updates all of it."""
    settings.expect_epochs(settings.expect_whole_numbers(submission, "n_epochs")["n_epochs"], D8)
    settings.expect_adam(submission)
    return settings.within_budget(submission.object("model").parameters(), D8)
