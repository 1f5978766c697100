"""The checks of deliverable 8 that students see."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from helpers.check import check
from helpers.checks import vae
from helpers.checks.common import (
    RUN_AGAIN,
    expect_adam,
    expect_all_used,
    expect_epochs,
    expect_images_apart,
    expect_reported,
    expect_whole_numbers,
    once,
    random_images,
    some_digits,
    within_budget,
)
from helpers.checks.trial import N_IMAGES, Trial, expect_mean_loss, expect_right_steps
from helpers.checks.vae import Sampler, joint_posterior, negative_elbo
from helpers.deliverables import get
from helpers.digits import recognise
from helpers.expect import close, expect, expect_number, expect_tensor, fail, likely_cause
from helpers.submission import Object, Submission

D8 = get("d8_conv_vae")

#: The sizes of the small models that are tried out: other than the real ones.
CAPACITY, LATENT_DIMS = 4, 3

SAMPLER = Sampler("latent_sample")


def new_model(submission: Submission, latent_dims: int = LATENT_DIMS) -> Object:
    """A small, fresh model of the student's class."""
    return submission.new("VariationalAutoencoder", capacity=CAPACITY, latent_dims=latent_dims)


def new_part(submission: Submission, name: str) -> tuple[Object, dict[str, Tensor]]:
    """A small Encoder or Decoder with larger weights than a fresh one, and its state dict."""
    part = submission.new(name, capacity=CAPACITY, latent_dims=LATENT_DIMS)
    state = {key: 2 * value for key, value in part.state().items()}
    part.load(state)
    return part, state


# Architecture.


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


def encoder_answer(encoder: Object, images: Tensor) -> tuple[Tensor, Tensor]:
    """The mu and logvar that an Encoder gives, or fail."""
    answer = encoder.call("", images)
    if not isinstance(answer, list) or len(answer) != 2:
        fail("The Encoder should return two tensors: mu and logvar.")
    shape = (len(images), LATENT_DIMS)
    mu = expect_tensor(answer[0], shape, what="The Encoder's mu")
    return mu, expect_tensor(answer[1], shape, what="The Encoder's logvar")


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
        encoder_answer(encoder, random_images(n_images))


@check("architecture", points=3)
def encoder_computes_as_in_the_table(submission: Submission) -> None:
    """A ReLU stands behind each convolution, and nothing behind fc_mu and fc_logvar."""
    encoder, state = new_part(submission, "Encoder")
    images = random_images(5)
    mu, logvar = encoder_answer(encoder, images)
    right = _encode(state, images)
    if close(mu, right[0], 1e-3) and close(logvar, right[1], 1e-3):
        return
    causes = {
        "There is no ReLU behind conv2.": _encode(state, images, second=False),
        "There is no ReLU behind conv1.": _encode(state, images, first=False),
        "There is no ReLU at all.": _encode(state, images, first=False, second=False),
        "mu and logvar are swapped.": right[::-1],
        "There is an activation behind fc_mu or fc_logvar.": (right[0].relu(), right[1].relu()),
    }
    cause = [
        hint for hint, (m, v) in causes.items() if close(mu, m, 1e-3) or close(logvar, v, 1e-3)
    ]
    fail(
        "The Encoder's answer is not what its layers give, used as in the table.",
        cause[0] if cause else "Kernel 4, stride 2, padding 1; flatten with x.flatten(1).",
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
    if close(images, right.sigmoid(), 1e-3):
        return
    causes = {
        "The sigmoid at its end is missing.": right,
        "There is no ReLU behind conv2.": _decode(state, codes, after_conv=False).sigmoid(),
        "There is a ReLU behind fc.": _decode(state, codes, after_fc=True).sigmoid(),
        "There is a ReLU behind conv1, before the sigmoid.": right.relu().sigmoid(),
        "There is a tanh at its end: pixels lie in [0, 1].": right.tanh(),
    }
    cause = [hint for hint, wrong in causes.items() if close(images, wrong, 1e-3)]
    fail(
        "The Decoder's images are not what its layers give, used as in the table.",
        cause[0]
        if cause
        else "fc's output has the shape (2c, 7, 7); kernel 4, stride 2, padding 1.",
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


# The random step.


@check("sampling", points=4)
def draws_have_the_right_mean_and_spread(submission: Submission) -> None:
    """In training, latent_sample(mu, logvar) draws from N(mu, exp(logvar))."""
    vae.expect_right_spread(new_model(submission), SAMPLER)


@check("sampling", points=2)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each dimension gets noise of its own."""
    vae.expect_fresh_noise(new_model(submission), SAMPLER)


@check("sampling", points=3)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mu and logvar through the draw."""
    vae.expect_sampling_gradients(new_model(submission), SAMPLER)


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


# Forward.


@check("forward", points=4)
def forward_joins_the_parts(submission: Submission) -> None:
    """forward(x) returns images, mu, logvar: the encoder's answer, and the decoded code."""
    model = new_model(submission)
    model.call("eval")  # the code is mu then
    images = random_images(5)
    recon, mu, logvar = forward(model, images)
    right = model.call("encoder", images)
    if not isinstance(right, list) or len(right) != 2:
        fail("The Encoder should return two tensors: mu and logvar.")
    if not (same(mu, right[0]) and same(logvar, right[1])):
        swapped = same(mu, right[1]) and same(logvar, right[0])
        fail(
            "The mu and logvar that forward returns are not the encoder's.",
            "They are swapped." if swapped else "",
        )
    # With the student's own latent_sample: its mistakes cost its own points.
    code = model.tensor("latent_sample", mu, logvar, what="What latent_sample returns")
    again = model.tensor("latent_sample", mu, logvar, what="What latent_sample returns")
    if close(code, again):
        expect(
            same(recon, model.call("decoder", code)),
            "The images that forward returns are not decoder(latent_sample(mu, logvar)).",
        )
        expect_images_apart(recon, lambda n: forward(model, images[n : n + 1])[0])
    model.call("train")
    expect(
        not close(forward(model, images)[0], forward(model, images)[0]),
        "In training, forward gives the same images twice: no code is drawn.",
        "z = self.latent_sample(mu, logvar) is what is decoded.",
    )
    expect_all_used(model.differentiate("", images, pick=0).parameters)


def forward(model: Object, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What forward returns, or fail."""
    answer = model.call("", images)
    if not isinstance(answer, list) or len(answer) != 3:
        fail("forward should return three tensors: images, mu and logvar.")
    recon = expect_tensor(answer[0], tuple(images.shape), what="The images that forward returns")
    shape = (len(images), LATENT_DIMS)
    mu = expect_tensor(answer[1], shape, what="The mu that forward returns")
    return recon, mu, expect_tensor(answer[2], shape, what="The logvar that forward returns")


def same(value: Tensor, other: object) -> bool:
    """Whether an answer is a tensor, and the same."""
    return isinstance(other, Tensor) and close(value, other)


# Loss.


def loss(submission: Submission, *case: Tensor, **options: float) -> float:
    """The student's vae_loss."""
    return vae.loss(submission, *case, name="vae_loss", **options)


@check("loss", points=7)
def loss_is_cross_entropy_plus_kl(submission: Submission) -> None:
    """vae_loss is the cross-entropy plus the KL divergence, summed over the batch."""
    for n_images in (5, 3, 1):
        case = recon, x, mu, logvar = vae.random_case(n_images)
        value = loss(submission, *case)
        bce, kl = (float(each.sum()) for each in negative_elbo(*case))
        if math.isclose(value, bce + kl, rel_tol=1e-4):
            continue
        log_std = float(vae.divergence(mu, 2 * logvar).sum())
        causes = {
            "It is averaged over the images: sum it.": (bce + kl) / n_images,
            "The cross-entropy is averaged over everything: reduction='sum'.": bce / x.numel() + kl,
            "The cross-entropy is averaged over the images: sum it.": bce / n_images + kl,
            "The KL divergence is averaged over the images: sum it.": bce + kl / n_images,
            "The KL divergence is averaged over everything: sum it.": bce + kl / mu.numel(),
            "The KL divergence has the wrong sign.": bce - kl,
            "The KL divergence is missing.": bce,
            "The KL divergence is doubled: is the factor 1/2 there?": bce + 2 * kl,
            "logvar is treated as the logarithm of the standard deviation.": bce + log_std,
            "The reconstruction term is a squared error.": float((recon - x).square().sum()) + kl,
        }
        if n_images == 1:
            causes = {}  # most of them coincide
        fail(
            f"For {n_images} images vae_loss gave {value:.3f}; cross-entropy plus KL divergence is "
            f"{bce:.3f} + {kl:.3f} = {bce + kl:.3f}.",
            likely_cause(value, causes, "Sum over pixels, dimensions and images."),
        )


@check("loss", points=3)
def beta_weighs_the_kl(submission: Submission) -> None:
    """With another beta, the KL divergence counts that many times."""
    case = vae.random_case(4)
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
    bce, kl = (float(each.sum()) for each in negative_elbo(*case))
    return math.isclose(loss(submission, *case), bce + kl, rel_tol=1e-4)


@check("loss", points=3)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has gradients for the images, mu and logvar."""
    answer = submission.differentiate("vae_loss", *vae.random_case(4), wrt=(0, 2, 3))
    for name, gradient in zip(("recon_x", "mu", "logvar"), answer.inputs, strict=True):
        expect(
            gradient is not None and bool(gradient.any()),
            f"The loss has no gradient for {name}.",
            "Is something detached, or made a plain number by .item()?",
        )


# Training and evaluation.


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model, with a loss of the kit's own."""
    return vae.tiny_trial(submission, lr, "TinyVAE", summed="TinySummedLoss")


@check("training", points=4)
def train_epoch_returns_nats_per_image(submission: Submission) -> None:
    """train_epoch returns the mean loss per image of the epoch, as a number."""
    expect_mean_loss(trial(submission, lr=0.0))


@check("training", points=5)
def train_epoch_makes_the_right_steps(submission: Submission) -> None:
    """Two epochs of train_epoch move the parameters just as gradient descent should."""
    expect_right_steps(
        trial(submission, lr=0.02),
        hint="For each batch: zero_grad, recon, mu, logvar = model(images), the loss that "
        "train_epoch is given, backward, step.",
    )


def evaluated(submission: Submission) -> tuple[Trial, float]:
    """A tiny model, and what evaluate returns for it and 13 images."""
    attempt = trial(submission, lr=0.0)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("evaluate", attempt.model, attempt.loader, attempt.criterion, device)
    return attempt, expect_number(answer, what="What evaluate returns")


@check("evaluation", points=3)
def evaluate_returns_nats_per_image(submission: Submission) -> None:
    """evaluate returns the mean loss per image over the whole loader."""
    attempt, value = evaluated(submission)
    losses = attempt.batch_losses()
    sums = losses * torch.tensor([5.0, 5.0, 3.0])
    right = float(sums.sum() / N_IMAGES)
    if math.isclose(value, right, rel_tol=1e-4):
        return
    causes = {
        "This is the sum over all images: divide by their number.": float(sums.sum()),
        "This is nats per batch: divide by the number of images.": float(sums.mean()),
        "Only the last batch counts.": float(losses[-1]),
        "This is the mean of the batches' means: the last batch is smaller.": float(losses.mean()),
    }
    fail(
        f"evaluate returned {value:.5f}; the mean loss over the 13 images is {right:.5f}.",
        likely_cause(value, causes),
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


# Settings.


@check("settings", points=1)
def settings_are_within_the_rules(submission: Submission) -> str:
    """n_epochs is within the rules, the model within its budget, and Adam updates all of it."""
    expect_epochs(expect_whole_numbers(submission, "n_epochs")["n_epochs"], D8)
    expect_adam(submission)
    return within_budget(submission.object("model").parameters(), D8)


# Pictures.


@check("pixels", points=2)
def to_img_clamps(submission: Submission) -> None:
    """to_img sets what is below 0 to 0 and what is above 1 to 1, and leaves the rest."""
    x = 3 * torch.randn(4, 1, 28, 28)
    image = expect_tensor(submission.call("to_img", x), (4, 1, 28, 28), what="What to_img returns")
    if close(image, x.clamp(0, 1)):
        return
    causes = {
        "This is (x + 1) / 2, for pixels from -1 to 1.": (0.5 * (x + 1)).clamp(0, 1),
        "This is a sigmoid: the decoder has one already.": x.sigmoid(),
        "Only the lower end is cut off.": x.clamp(min=0),
        "Only the upper end is cut off.": x.clamp(max=1),
    }
    cause = [hint for hint, wrong in causes.items() if close(image, wrong)]
    fail("What it returns is not x, cut off at 0 and 1.", cause[0] if cause else "x.clamp(0, 1)")


def still_model(submission: Submission, latent_dims: int = LATENT_DIMS) -> Object:
    """A model in training mode, with weights large enough for its images to differ."""
    model = new_model(submission, latent_dims)
    model.load({name: 2 * value for name, value in model.state().items()})
    return model


def decoded(model: Object, codes: Tensor) -> Tensor:
    """What a model's decoder and the student's to_img make of codes, or fail."""
    images = model.tensor("decoder", codes, what="The Decoder's output")
    # to_img's mistakes cost its own points.
    return expect_tensor(model.submission.call("to_img", images), what="What to_img returns")


@check("mixing", points=4)
def interpolation_mixes_the_means(submission: Submission) -> None:
    """interpolation decodes lambda * mu(img1) + (1 - lambda) * mu(img2)."""
    model = still_model(submission)
    one, two = random_images(1), 0.2 * random_images(1)
    mu = [encoder_answer_of(model, image)[0] for image in (one, two)]
    for share in (0.25, 0.9):
        answer = submission.call("interpolation", share, model, one, two)
        image = expect_tensor(answer, (1, 1, 28, 28), what="What interpolation returns")
        if close(image, decoded(model, share * mu[0] + (1 - share) * mu[1]), 1e-3):
            continue
        images = share * decoded(model, mu[0]) + (1 - share) * decoded(model, mu[1])
        pixels = encoder_answer_of(model, share * one + (1 - share) * two)[0]
        causes = {
            "The shares are swapped: lambda belongs to the first image.": decoded(
                model, share * mu[1] + (1 - share) * mu[0]
            ),
            "The decoded images are mixed, not the codes.": images,
            "The images are mixed before the encoder, not the codes.": decoded(model, pixels),
            "The shares should add up to 1.": decoded(model, share * mu[0] + share * mu[1]),
        }
        cause = [hint for hint, wrong in causes.items() if close(image, wrong, 1e-3)]
        fail(
            f"For lambda = {share} the image is not the decoded mixture of the mean codes.",
            cause[0] if cause else "Mix the means, without any noise, and decode the mixture.",
        )


def encoder_answer_of(model: Object, images: Tensor) -> tuple[Tensor, Tensor]:
    """The mu and logvar that a model's encoder gives, or fail."""
    answer = model.call("encoder", images)
    if not isinstance(answer, list) or len(answer) != 2:
        fail("The Encoder should return two tensors: mu and logvar.")
    mu = expect_tensor(answer[0], what="The Encoder's mu")
    return mu, expect_tensor(answer[1], what="The Encoder's logvar")


@check("mixing", points=3)
def interpolation_is_the_same_each_time(submission: Submission) -> None:
    """No noise is drawn on the way, whatever mode the model was in."""
    model = still_model(submission)
    one, two = random_images(1), random_images(1)
    first, second = (
        expect_tensor(
            submission.call("interpolation", 0.5, model, one, two),
            what="What interpolation returns",
        )
        for _ in range(2)
    )
    expect(
        close(first, second),
        "The same two images give another mixture the second time.",
        "Mix the means, not draws.",
    )


#: Points in each direction, and reach, of the grids that are asked for.
_N, _REACH = 5, 2.0


@check("grid", points=5)
def grid_shows_the_plane(submission: Submission) -> None:
    """latent_grid gives n x n images, z1 growing to the right and z2 growing upwards."""
    model = still_model(submission, latent_dims=2)
    device = submission.build("torch.device", "cpu")
    answer = submission.call("latent_grid", model, _N, _REACH, device)
    images = expect_tensor(
        answer, (_N * _N, 1, 28, 28), what=f"What latent_grid returns for n={_N}"
    )
    axis = torch.linspace(-_REACH, _REACH, _N)
    across, up = axis.repeat(_N), axis.repeat_interleave(_N)

    def plane(z1: Tensor, z2: Tensor) -> Tensor:
        return decoded(model, torch.stack([z1, z2], dim=1))

    if close(images, plane(across, -up), 1e-3):
        return
    causes = {
        "z2 grows downwards: the first row should have the largest.": plane(across, up),
        "z1 and z2 are swapped: columns, not rows, have one z2.": plane(-up, across),
        "z1 grows downwards and z2 to the right: they are swapped.": plane(up, across),
        "z1 grows to the left.": plane(-across, -up),
        "It goes from 0 to reach, and not from -reach.": plane(
            (across + _REACH) / 2, (_REACH - up) / 2
        ),
        "It goes from -1 to 1, whatever the reach.": plane(across / _REACH, -up / _REACH),
        "It goes from -1.5 to 1.5, whatever the reach.": plane(
            across * 1.5 / _REACH, -up * 1.5 / _REACH
        ),
    }
    cause = [hint for hint, wrong in causes.items() if close(images, wrong, 1e-3)]
    fail(
        "The images are not those of the grid's points, row by row from the top left.",
        cause[0] if cause else "The first code is (-reach, reach), the second is right of it.",
    )


# The trained model.


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model."""

    #: Nats per image, with the means decoded.
    training: float
    test: float
    #: What a model trained for so many epochs must reach.
    most: float
    #: Kinds of digits that a classifier finds on the plane.
    kinds: int


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses in evaluation mode, and the digits on its plane.

    Means leave one process and enter another, so that what is decoded comes from two numbers.
    """
    splits = [some_digits(train=train)[0] for train in (True, False)]
    encoder = submission.trained("conv_vae")
    posteriors = [joint_posterior(encoder, images) for images in splits]
    expect(
        posteriors[0][0].shape[1] == D8["latent_dims"],
        f"The codes have {posteriors[0][0].shape[1]} numbers; two are asked for.",
    )
    decoder = submission.trained("conv_vae")
    losses = []
    for images, (mu, logvar) in zip(splits, posteriors, strict=True):
        recon = vae.decode(decoder, mu)
        bce = functional.binary_cross_entropy(recon, images, reduction="sum") / len(images)
        kl = vae.divergence(mu, logvar).sum(dim=1).mean()
        losses.append(float(bce + kl))
    axis = torch.linspace(-D8["reach"], D8["reach"], 20)
    plane = vae.decode(decoder, torch.cartesian_prod(axis, axis))
    # One image may be taken for anything: a kind counts from five of the 400 on.
    kinds = int((torch.bincount(recognise(plane), minlength=10) >= 5).sum())
    expect(all(map(math.isfinite, losses)), "The trained model's loss is infinite.")
    few = submission.number("n_epochs") <= D8["small_epochs"]
    return Findings(losses[0], losses[1], D8["small_max_loss"] if few else D8.max_loss, kinds)


#: A model that always answers with the mean image loses 206 nats.
LEARNED_SOMETHING = 185.0


def learned(submission: Submission) -> Findings:
    """The findings, or fail if the model has not been trained."""
    found = findings(submission)
    expect(
        found.test < LEARNED_SOMETHING,
        f"Test loss {found.test:.1f} nats per image: the mean image alone would reach 206.",
        RUN_AGAIN,
    )
    return found


@check("result", points=3)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean image would."""
    return f"Test loss {learned(submission).test:.1f} nats per image."


@check("result", points=7)
def loss_on_new_images_is_low(submission: Submission) -> str:
    """The trained model's loss on test images, with their mean codes decoded, is low enough."""
    found = findings(submission)
    note = f"Test loss {found.test:.1f} nats per image"
    expect(found.test <= found.most, f"{note}; it must be at most {found.most:g}.")
    return f"{note} (at most {found.most:g})."


@check("result", points=3)
def plane_holds_many_kinds(submission: Submission) -> str:
    """On the plane, from -1.5 to 1.5, a classifier finds most kinds of digits."""
    found = learned(submission).kinds
    least = D8["min_kinds"]
    note = f"A classifier finds {found} of the 10 digits on the plane"
    expect(
        found >= least, f"{note}; it should find {least:g}.", "Is the KL divergence in the loss?"
    )
    return f"{note}."


@check("result", points=1)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(submission.checkpoint("conv_vae"), D8)


@check("result", points=0)
def reported_loss_agrees(submission: Submission) -> str:
    """The loss that your training reported last agrees with the one measured now."""
    # Reported with drawn codes, as a mean over the epoch; measured with the means, at its end.
    loss = findings(submission).training
    return expect_reported(submission.losses("conv_vae"), loss, tolerance=0.05)
