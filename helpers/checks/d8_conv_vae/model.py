"""The checks of the model: its layers, its draws, its loss, its training and its settings."""

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
    expect_number,
    expect_several,
    expect_tensors,
    fail,
)
from helpers.checks.common import architecture, settings, vae_loss
from helpers.checks.common.images import random_images
from helpers.checks.common.sampling import Sampler, check_sampling
from helpers.checks.common.trial import (
    N_IMAGES,
    MakeTrial,
    Trial,
    check_training,
    mean_over_images,
    vae_trial,
)
from helpers.deliverables import get

D8 = get("d8_conv_vae")

#: The sizes of the small models in these checks, different from the real ones.
CAPACITY, LATENT_DIMS = 4, 3

SAMPLER = Sampler("latent_sample")
ENCODER_RETURNS = "The Encoder should return two tensors: mu and logvar."


def new_model(submission: Submission, latent_dims: int = LATENT_DIMS) -> Object:
    """A small, fresh model of the student's class."""
    return submission.new("VariationalAutoencoder", capacity=CAPACITY, latent_dims=latent_dims)


def new_part(submission: Submission, name: str) -> tuple[Object, dict[str, Tensor]]:
    """A small Encoder or Decoder with larger weights than a fresh one, and its state dict."""
    part = submission.new(name, capacity=CAPACITY, latent_dims=LATENT_DIMS)
    state = {key: 2 * value for key, value in part.state().items()}
    part.load(state)
    return part, state


def expect_layers(state: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    """Fail unless the layers have weights of these shapes."""
    for name, shape in shapes.items():
        weight = state.get(f"{name}.weight")
        if weight is None:
            fail(f"There is no layer called {name}.", f"The layers are {', '.join(shapes)}.")
        expect(
            tuple(weight.shape) == shape,
            f"With capacity={CAPACITY} and latent_dims={LATENT_DIMS}, the weight of {name} should "
            f"have shape {shape}, but it has {tuple(weight.shape)}.",
        )


def encoded(answer: Any, shape: tuple[int, ...] | None = None) -> list[Tensor]:
    """The mu and logvar in an encoder's answer, or fail."""
    shapes = {"mu": shape, "logvar": shape}
    return expect_tensors(answer, shapes, ENCODER_RETURNS, what="The Encoder's {}")


@check("architecture", points=3)
def encoder_has_the_right_layers(submission: Submission) -> None:
    """conv1, conv2, fc_mu and fc_logvar take images to mu and logvar, (N, latent_dims) each."""
    encoder, state = new_part(submission, "Encoder")
    flat, c = 2 * CAPACITY * 49, CAPACITY
    expect_layers(
        state,
        {
            "conv1": (c, 1, 4, 4),
            "conv2": (2 * c, c, 4, 4),
            "fc_mu": (LATENT_DIMS, flat),
            "fc_logvar": (LATENT_DIMS, flat),
        },
    )
    for n_images in (3, 1):
        encoded(encoder.call("", random_images(n_images)), (n_images, LATENT_DIMS))


@check("architecture", points=3)
def encoder_computes_as_in_the_table(submission: Submission) -> None:
    """A ReLU stands behind each convolution, and nothing behind fc_mu and fc_logvar."""
    encoder, state = new_part(submission, "Encoder")
    images = random_images(5)
    mu, logvar = encoded(encoder.call("", images), (5, LATENT_DIMS))
    right = _encode(state, images)
    causes = {
        "There is no ReLU behind conv2.": _encode(state, images, second=False),
        "There is no ReLU behind conv1.": _encode(state, images, first=False),
        "There is no ReLU at all.": _encode(state, images, first=False, second=False),
        "mu and logvar are swapped.": right[::-1],
        "There is an activation behind fc_mu or fc_logvar.": (right[0].relu(), right[1].relu()),
    }
    if close(mu, right[0], 1e-3) and close(logvar, right[1], 1e-3):
        return
    cause = (h for h, (m, v) in causes.items() if close(mu, m, 1e-3) or close(logvar, v, 1e-3))
    fail(
        "The Encoder's answer is not what its layers give, used as in the table.",
        next(cause, "Kernel 4, stride 2, padding 1; flatten with x.flatten(1)."),
    )


def _encode(
    state: dict[str, Tensor], images: Tensor, first: bool = True, second: bool = True
) -> tuple[Tensor, Tensor]:
    """What an Encoder's layers give, with or without its ReLUs."""
    x = functional.conv2d(images, state["conv1.weight"], state["conv1.bias"], 2, 1)
    x = x.relu() if first else x
    x = functional.conv2d(x, state["conv2.weight"], state["conv2.bias"], 2, 1)
    x = (x.relu() if second else x).flatten(1)
    mu = functional.linear(x, state["fc_mu.weight"], state["fc_mu.bias"])
    return mu, functional.linear(x, state["fc_logvar.weight"], state["fc_logvar.bias"])


@check("architecture", points=3)
def decoder_has_the_right_layers(submission: Submission) -> None:
    """fc, conv2 and conv1 take codes (N, latent_dims) to images (N, 1, 28, 28)."""
    decoder, state = new_part(submission, "Decoder")
    c = CAPACITY
    shapes = {"fc": (2 * c * 49, LATENT_DIMS), "conv2": (2 * c, c, 4, 4), "conv1": (c, 1, 4, 4)}
    expect_layers(state, shapes)
    for n_images in (3, 1):
        codes = torch.randn(n_images, LATENT_DIMS)
        decoder.tensor("", codes, shape=(n_images, 1, 28, 28), what="The Decoder's output")


@check("architecture", points=3)
def decoder_computes_as_in_the_table(submission: Submission) -> None:
    """A ReLU stands behind conv2 and a sigmoid behind conv1, and nothing behind fc."""
    decoder, state = new_part(submission, "Decoder")
    codes = 3 * torch.randn(5, LATENT_DIMS)
    images = decoder.tensor("", codes, shape=(5, 1, 28, 28), what="The Decoder's output")
    right = _decode(state, codes)
    expect_close(
        images,
        right.sigmoid(),
        "The Decoder's images are not what its layers give, used as in the table.",
        {
            "The sigmoid at its end is missing.": right,
            "There is no ReLU behind conv2.": _decode(state, codes, after_conv=False).sigmoid(),
            "There is a ReLU behind fc.": _decode(state, codes, after_fc=True).sigmoid(),
            "There is a ReLU behind conv1, before the sigmoid.": right.relu().sigmoid(),
            "There is a tanh at its end: pixels lie in [0, 1].": right.tanh(),
        },
        "fc's output has the shape (2c, 7, 7); kernel 4, stride 2, padding 1.",
        tolerance=1e-3,
    )


def _decode(
    state: dict[str, Tensor], codes: Tensor, after_fc: bool = False, after_conv: bool = True
) -> Tensor:
    """What a Decoder's layers give before the sigmoid, with or without ReLUs."""
    x = functional.linear(codes, state["fc.weight"], state["fc.bias"])
    x = (x.relu() if after_fc else x).view(len(codes), -1, 7, 7)
    x = functional.conv_transpose2d(x, state["conv2.weight"], state["conv2.bias"], 2, 1)
    x = x.relu() if after_conv else x
    return functional.conv_transpose2d(x, state["conv1.weight"], state["conv1.bias"], 2, 1)


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


@check("forward", points=4)
def forward_joins_the_parts(submission: Submission) -> None:
    """forward(x) returns images, mu, logvar: the encoder's answer, and the decoded code."""
    model = new_model(submission)
    model.call("eval")  # the code is mu then
    images = random_images(5)
    recon, mu, logvar = forward(model, images)
    answer = expect_several(model.call("encoder", images), 2, ENCODER_RETURNS)
    if not (same(mu, answer[0]) and same(logvar, answer[1])):
        swapped = same(mu, answer[1]) and same(logvar, answer[0])
        fail(
            "The mu and logvar that forward returns are not the encoder's.",
            "They are swapped." if swapped else "",
        )
    # With the student's own latent_sample: its mistakes cost its own points.
    what = "What latent_sample returns"
    code, again = (model.tensor("latent_sample", mu, logvar, what=what) for _ in range(2))
    if close(code, again):
        expect(
            same(recon, model.call("decoder", code)),
            "The images that forward returns are not decoder(latent_sample(mu, logvar)).",
        )
        architecture.expect_images_apart(images, lambda x: forward(model, x)[0])
    model.call("train")
    expect(
        not close(forward(model, images)[0], forward(model, images)[0]),
        "In training, forward gives the same images twice: no code is drawn.",
        "z = self.latent_sample(mu, logvar) is what is decoded.",
    )
    architecture.expect_all_used(model.differentiate("", images, pick=0).parameters)


def forward(model: Object, images: Tensor) -> list[Tensor]:
    """What forward returns, images like those given, mu and logvar (N, latent_dims), or fail."""
    code = len(images), LATENT_DIMS
    return expect_tensors(
        model.call("", images),
        {"images": images.shape, "mu": code, "logvar": code},
        "forward should return three tensors: images, mu and logvar.",
        what="The {} that forward returns",
    )


def same(value: Tensor, other: object) -> bool:
    """Whether an answer is a tensor, and the same."""
    return isinstance(other, Tensor) and close(value, other)


def loss(submission: Submission, *case: Tensor, **options: float) -> float:
    """The student's vae_loss."""
    return vae_loss.loss(submission, *case, name="vae_loss", **options)


@check("loss", points=7)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """vae_loss is the cross-entropy plus the KL divergence, summed over the batch."""
    for n_images in (5, 3, 1):
        case = recon, x, mu, logvar = vae_loss.random_case(n_images)
        bce, kl = (float(each.sum()) for each in vae_loss.negative_elbo(*case))
        squared = float((recon - x).square().sum())
        causes = {
            "The cross-entropy is averaged over everything: reduction='sum'.": bce / x.numel() + kl,
            "The KL divergence is averaged over everything: sum it.": bce + kl / mu.numel(),
            "The reconstruction term is a squared error.": squared + kl,
        }
        vae_loss.expect_two_terms(
            loss(submission, *case),
            (bce, kl),
            (mu, logvar),
            causes,
            "Sum over pixels, dimensions and images.",
            summed=True,
            function="vae_loss",
        )


@check("loss", points=3)
def beta_weighs_the_kl(submission: Submission) -> None:
    """With another beta, the KL divergence counts that many times."""
    case = vae_loss.random_case(4)
    one, three = loss(submission, *case, beta=1.0), loss(submission, *case, beta=3.0)
    zero = loss(submission, *case, beta=0.0)
    expect(
        math.isclose(three - zero, 3 * (one - zero), rel_tol=1e-3, abs_tol=1e-2)
        and abs(one - zero) > 0.1,
        f"With beta = 0, 1 and 3 the loss is {zero:.2f}, {one:.2f} and {three:.2f}.",
        "It should be bce + beta * kl: only the KL divergence is multiplied.",
    )
    bce = float(functional.binary_cross_entropy(case[0], case[1], reduction="sum"))
    per_image = math.isclose(zero, bce / 4, rel_tol=1e-3)  # which costs its own check
    expect(
        math.isclose(zero, bce, rel_tol=1e-3)
        or per_image
        or not _has_right_terms(submission, case),
        f"With beta = 0 the loss is {zero:.2f}; the cross-entropy alone is {bce:.2f}.",
        "It should be bce + beta * kl: only the KL divergence is multiplied.",
    )


def _has_right_terms(submission: Submission, case: tuple[Tensor, ...]) -> bool:
    """Whether the loss is right where beta is left alone."""
    bce, kl = (float(each.sum()) for each in vae_loss.negative_elbo(*case))
    return math.isclose(loss(submission, *case), bce + kl, rel_tol=1e-4)


@check("loss", points=3)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has gradients for the images, mu and logvar."""
    answer = submission.differentiate("vae_loss", *vae_loss.random_case(4), wrt=(0, 2, 3))
    for name, gradient in zip(("recon_x", "mu", "logvar"), answer.inputs, strict=True):
        expect(
            gradient is not None and bool(gradient.any()),
            f"The loss has no gradient for {name}.",
            "Is something detached, or made a plain number by .item()?",
        )


#: A trial of the student's train_epoch on a tiny model.
trial: MakeTrial = partial(vae_trial, summed="TinySummedLoss")

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


def evaluated(submission: Submission) -> tuple[Trial, float]:
    """A tiny model, and what evaluate returns for it and 13 images."""
    attempt = trial(submission, 0.0)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("evaluate", attempt.model, attempt.loader, attempt.criterion, device)
    return attempt, expect_number(answer, what="What evaluate returns")


@check("evaluation", points=3)
def evaluate_returns_nats_per_image(submission: Submission) -> None:
    """evaluate returns the mean loss per image over the whole loader."""
    attempt, value = evaluated(submission)
    losses = attempt.batch_losses()
    right = mean_over_images(losses)
    expect_close(
        value,
        right,
        f"evaluate returned {value:.5f}; the mean loss over the 13 images is {right:.5f}.",
        {
            "This is the sum over all images: divide by their number.": N_IMAGES * right,
            "This is nats per batch: divide by the number of images.": N_IMAGES * right / 3,
            "Only the last batch counts.": float(losses[-1]),
            "This is the mean of the batches' means: the last batch is smaller.": float(
                losses.mean()
            ),
        },
    )


@check("evaluation", points=2)
def evaluate_changes_nothing(submission: Submission) -> None:
    """evaluate uses evaluation mode and computes no gradients."""
    attempt, _ = evaluated(submission)
    modes = attempt.modes()
    expect(bool(modes), "The model was not called.")
    expect(
        attempt.model.get("training") is False,
        "The model was in training mode.",
        "Call model.eval() first.",
    )
    expect(
        not any(attempt.model.get("recorder.with_gradients") or [True]),
        "Gradients were computed.",
        "Put the loop under torch.no_grad().",
    )


@check("settings", points=1)
def settings_are_within_the_rules(submission: Submission) -> str:
    """n_epochs is within the rules, the model within its budget, and Adam updates all of it."""
    settings.expect_epochs(settings.expect_whole_numbers(submission, "n_epochs")["n_epochs"], D8)
    settings.expect_adam(submission)
    return settings.within_budget(submission.object("model").parameters(), D8)
