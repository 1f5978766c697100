"""The checks of the model: moments, draws, scaled latents, and the way back to images."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    Object,
    StudentError,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_several,
    expect_tensor,
    expect_tensors,
    fail,
)
from helpers.checks.common import sampling
from helpers.checks.common.architecture import expect_kept
from helpers.checks.d10_sd_vae.probing import BASE, D10, State, explain, new

SCALE = D10["scale"]
#: Log variances are clamped to these limits.
LIMITS = (D10["min_logvar"], D10["max_logvar"])
#: Shapes of two images and of their latents.
IMAGES, LATENTS = (2, 3, 16, 24), (2, 4, 2, 3)


def new_model(submission: Submission, *, logvar: float | None = None) -> Object:
    """A new model of the student's, with stand-ins for its encoder and decoder.

    Args:
        logvar: the log variance of all latents, if it should not depend on the image.
    """
    model = new(submission, "VAE", BASE, instead=("Encoder", "Decoder"))
    if logvar is not None:
        state = quant_conv(model)
        state["weight"][4:] = 0
        state["bias"][4:] = logvar
        model.load(state, "quant_conv")
    return model


#: A log variance with which a draw equals the mean.
QUIET = -28.0


def quant_conv(model: Object) -> State:
    """The weights of the 1 x 1 convolution after the encoder."""
    state = {name: tensor.float() for name, tensor in model.state("quant_conv").items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expect(
        shapes == {"weight": (8, 8, 1, 1), "bias": (8,)},
        "quant_conv should be nn.Conv2d(8, 8, kernel_size=1).",
    )
    return state


def few_images() -> Tensor:
    """Two images in [-1, 1]."""
    return 2 * torch.rand(IMAGES) - 1


def moments(model: Object, x: Tensor) -> list[Tensor]:
    """Mean and log variance that the student's moments gives for two images."""
    shapes = {"mean": LATENTS, "log variance": LATENTS}
    message = "moments should return mean, logvar, but it returned {got}."
    return expect_tensors(
        model.call("moments", x), shapes, message, what="The {} that moments returns"
    )


def encode(model: Object, x: Tensor) -> list[Any]:
    """Latents, mean and logvar that the student's encode gives, unchecked."""
    message = "encode should return latents, mean, logvar, but it returned {got}."
    return expect_several(model.call("encode", x), 3, message)


def latents_of(model: Object, x: Tensor) -> Tensor:
    """The latents that the student's encode gives."""
    return expect_tensor(encode(model, x)[0], LATENTS, what="The latents that encode returns")


def large_moments(submission: Submission, x: Tensor) -> tuple[Object, Tensor, Tensor]:
    """A model with moments from -60 to 60, what its encoder gives, and its quant_conv of that."""
    model = new_model(submission)
    encoder, state = model.state("encoder"), quant_conv(model)
    ends = torch.tensor([-70.0, -12, 10, 80, -58, -24, 14, 90])
    if encoder.keys() == {"weight", "bias"} and encoder["bias"].shape == ends.shape:
        model.load({**encoder, "bias": ends}, "encoder")
    state["weight"] = 0.7 * torch.eye(8)[..., None, None] + 0.01 * state["weight"]
    model.load(state, "quant_conv")
    encoded = model.tensor("encoder", x, shape=(2, 8, 2, 3), what="The encoder's output")
    return model, encoded, functional.conv2d(encoded, state["weight"], state["bias"])


@check("model", points=2)
def moments_are_split(submission: Submission) -> None:
    """moments gives the first four channels of quant_conv as means, the others as logvar."""
    x = few_images()
    model, encoded, both = large_moments(submission, x)
    for network in ("encoder", "decoder"):
        width = model.get(f"{network}.base_channels")
        expect(
            isinstance(width, int) and width == BASE,
            f"VAE({BASE}) makes {network} with base_channels={width}.",
        )
    expect_kept(model, "moments", x)
    mean, logvar = moments(model, x)
    first, second = both.split(4, dim=1)
    expect_close(
        mean,
        first,
        "The means are not the first four channels that quant_conv gives.",
        {
            "Means come first, log variances last.": second,
            "Means come first, log variances last; neither do means need a clamp.": second.clamp(
                *LIMITS
            ),
            "Only the log variances are clamped.": first.clamp(*LIMITS),
            "quant_conv is left out.": encoded[:, :4],
            "quant_conv is left out, and means come first.": encoded[:, 4:],
            "The channels are taken in turn: the first four are the means.": both[:, ::2],
            "The means are scaled: that is for encode to do.": SCALE * first,
        },
        tolerance=1e-3,
    )
    # Limits are another check's concern.
    if close(logvar, second.clamp(float(logvar.min()), float(logvar.max())), 1e-3):
        return
    inside, hint = (second > -20) & (second < 20), ""
    logarithm = logvar[inside].clamp(min=1e-30).log()
    if close(logarithm, second[inside], 1e-3):
        hint = "These are variances: leave the logarithm."
    elif close(logarithm, second[inside] / 2, 1e-3):
        hint = "These are standard deviations: leave the logarithm of the variance."
    fail("The log variances are not the last four channels that quant_conv gives.", hint)


@check("model", points=1)
def log_variances_are_clamped(submission: Submission) -> None:
    """moments clamps the log variances to [-30, 20]."""
    x = few_images()
    model, encoded, both = large_moments(submission, x)
    _, logvar = moments(model, x)
    # Which channels they are, and whether their logarithm was left, is another check's concern.
    low, high = float(logvar.min()), float(logvar.max())
    halves = (both[:, 4:], both[:, :4], both[:, 1::2], encoded[:, 4:], encoded[:, :4])
    if any(close(logvar, half.clamp(*LIMITS), 1e-3) for half in halves):
        return
    exponents = [half.clamp(*LIMITS) * power for half in halves for power in (0.5, 1)]
    if any(close(logvar, each.exp(), 1e-3) for each in exponents):
        return
    hint = ""
    if any(close(logvar, half, 1e-3) for half in halves):
        hint = "They are not clamped."
    elif any(close(logvar, half.clamp(low, high), 1e-3) for half in halves):
        hint = f"They are clamped to [{low:.4g}, {high:.4g}]."
    fail("The log variances should be clamped to [-30, 20].", hint)


@check("model", points=2)
def draws_have_the_right_spread(submission: Submission) -> None:
    """reparameterize draws from N(mean, exp(logvar)), with fresh noise for each number."""
    model = new_model(submission)
    expect_kept(model, "reparameterize", torch.randn(LATENTS), torch.randn(LATENTS))
    sampling.expect_right_spread(model)
    sampling.expect_fresh_noise(model)


@check("model", points=2)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mean and log variance through the draw."""
    sampling.expect_sampling_gradients(new_model(submission))


@check("model", points=2)
def latents_are_scaled_draws(submission: Submission) -> None:
    """encode returns a draw times 0.18215, and mean and log variance as they were."""
    model, x = new_model(submission, logvar=QUIET), few_images()
    expect_kept(model, "encode", x)
    submission.seed(0)
    latents, mean, logvar = (
        expect_tensor(value, LATENTS, what=f"The {name} that encode returns")
        for value, name in zip(encode(model, x), ("latents", "mean", "logvar"), strict=True)
    )
    right, right_logvar = moments(model, x)
    causes = {
        "It is scaled: return it as it was.": SCALE * right,
        "The mean and logvar that it returns are exchanged.": right_logvar,
    }
    expect_close(mean, right, "The mean that encode returns is not that of moments.", causes)
    causes = {"It is scaled: return it as it was.": SCALE * right_logvar}
    message = "The logvar that encode returns is not that of moments."
    expect_close(logvar, right_logvar, message, causes)
    # The draw is the student's own, in case it is not one from N(mean, exp(logvar)).
    submission.seed(0)
    drawn = model.tensor("reparameterize", mean, logvar, shape=LATENTS)
    if not close(latents, SCALE * drawn):
        mistakes = {
            "The latents are not scaled.": drawn,
            "The latents are divided by the factor: multiply by it.": drawn / SCALE,
            "The latents are scaled twice.": SCALE**2 * drawn,
        }
        explain(latents, SCALE * drawn, mistakes, "The latents are not 0.18215 times a draw.")
    expect_scaled_noise(submission)
    other = few_images()
    expect(
        close(expect_tensor(encode(model, other)[1], LATENTS, what=""), moments(model, other)[0]),
        "For other images the mean that encode returns is not that of moments.",
        "Keep nothing from one call to the next.",
    )
    expect_gradients(model, "encode", x)
    expect_draws(submission, "encode", latents_of, lambda _, latents: latents)


def expect_scaled_noise(submission: Submission) -> None:
    """Fail unless the noise in the latents is scaled like their means."""
    model = new_model(submission, logvar=1.0)
    x = few_images()[:1].expand(60, -1, -1, -1).contiguous()
    latents, mean, logvar = (
        expect_tensor(value, (60, *LATENTS[1:]), what=f"The {name} that encode returns")
        for value, name in zip(encode(model, x), ("latents", "mean", "logvar"), strict=True)
    )
    drawn = model.tensor("reparameterize", mean, logvar, shape=tuple(mean.shape))
    spread, right = (float(each.std(dim=0).mean()) for each in (latents, SCALE * drawn))
    # That of 24 times 60 numbers is known to 2 percent; what is not drawn is for `expect_draws`.
    expect(
        min(spread, right) < 1e-6 or 0.85 < spread / right < 1.18,
        f"The noise in the latents has a standard deviation of {spread:.2f}; in 0.18215 times a "
        f"draw it is {right:.2f}.",
        "The draw is scaled as a whole: mean and noise.",
    )


def expect_gradients(model: Object, path: str, x: Tensor) -> None:
    """Fail unless what a method returns carries gradients, if those of a draw are right."""
    mean, logvar = moments(model, x)
    try:
        passed = model.differentiate("reparameterize", mean, logvar, wrt=(0, 1)).inputs
    except StudentError:
        return
    names = ("x_hat" if path == "" else "latents", "mean", "logvar")
    for place, name in enumerate(names):
        if place == 0 and any(gradient is None for gradient in passed):
            continue  # for another check
        gradient = model.differentiate(path, x, wrt=(0,), pick=place).inputs[0]
        expect(
            gradient is not None,
            f"No gradient reaches the encoder through the {name} that {path or 'forward'} returns.",
            "Return it as it comes: no .detach(), no .data and no torch.no_grad().",
        )


def expect_draws(
    submission: Submission,
    method: str,
    answer: Callable[[Object, Tensor], Tensor],
    of_latents: Callable[[Object, Tensor], Tensor],
) -> None:
    """Fail if two answers of a method agree, in training or in eval mode.

    Args:
        answer: what the method gives for a model and images.
        of_latents: what it should give for a model and latents.
    """
    model, x = new_model(submission, logvar=1.0), few_images()
    for mode in ("train", "eval"):
        model.call(mode)
        first, second = (answer(model, x) for _ in range(2))
        if not close(first, second):
            continue
        mean, logvar = moments(model, x)
        always = "" if mode == "train" else " in eval mode"
        if close(first, of_latents(model, SCALE * mean)):
            fail(f"{method} takes the means{always}, so there is no noise: take a draw.")
        draws = [model.tensor("reparameterize", mean, logvar, shape=LATENTS) for _ in range(2)]
        # Else draws that are always the same are another check's concern.
        if not close(draws[0], draws[1]):
            fail(f"Two calls of {method} give the same{always}.", "Set no seed in there.")


@check("model", points=2)
def decoding_undoes_the_scale(submission: Submission) -> None:
    """decode divides by 0.18215, and passes post_quant_conv and the decoder."""
    model, latents = new_model(submission), torch.randn(LATENTS)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state("post_quant_conv").items()}
    expect(
        shapes == {"weight": (4, 4, 1, 1), "bias": (4,)},
        "post_quant_conv should be nn.Conv2d(4, 4, kernel_size=1).",
    )
    hint = "`latents /= ...` writes into them; `latents / ...` makes new ones."
    expect_kept(model, "decode", latents, hint=hint)
    found = model.tensor("decode", latents, shape=IMAGES, what="What decode returns")

    def painted(z: Tensor) -> Tensor:
        return model.tensor("decoder", z, shape=IMAGES, what="The decoder's output")

    def mixed(z: Tensor) -> Tensor:
        return model.tensor("post_quant_conv", z, shape=LATENTS)

    right = painted(mixed(latents / SCALE))
    mistakes = {
        "The factor is not undone: divide by it.": painted(mixed(latents)),
        "The latents are multiplied by the factor: divide by it.": painted(mixed(latents * SCALE)),
        "post_quant_conv is left out.": painted(latents / SCALE),
        "post_quant_conv and the factor are left out.": painted(latents),
        "The factor is undone after post_quant_conv: divide first.": painted(
            mixed(latents) / SCALE
        ),
        "post_quant_conv is applied twice.": painted(mixed(mixed(latents / SCALE))),
        "The image is squeezed by tanh: it should not be.": torch.tanh(right),
        "The image is squeezed by a sigmoid: it should not be.": torch.sigmoid(right),
        "The image is clamped: no gradient passes there.": right.clamp(-1, 1),
        "The image is brought to [0, 1]: here it stays in [-1, 1].": right / 2 + 0.5,
        "The image is brought to [0, 1] and clamped: here it stays in [-1, 1].": (
            right / 2 + 0.5
        ).clamp(0, 1),
    }
    explain(found, right, mistakes, "decode does not give what its parts lead to.")


def painted_by_forward(model: Object, x: Tensor) -> list[Any]:
    """x_hat, mean and logvar that the student's forward gives; the last two are unchecked."""
    message = "forward should return x_hat, mean, logvar, but it returned {got}."
    x_hat, *others = expect_several(model.call("", x), 3, message)
    return [expect_tensor(x_hat, IMAGES, what="The x_hat that forward returns"), *others]


@check("model", points=2)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward returns the decoded latents, which are draws, and mean and logvar."""
    model, x = new_model(submission, logvar=QUIET), few_images()
    expect_kept(model, "", x)
    submission.seed(0)  # the same draws in forward and in encode
    x_hat, *answers = painted_by_forward(model, x)
    submission.seed(0)
    latents, *rights = encode(model, x)
    latents = expect_tensor(latents, LATENTS, what="The latents that encode returns")
    rights = [
        expect_tensor(right, what=f"The {name} that encode returns")
        for right, name in zip(rights, ("mean", "logvar"), strict=True)
    ]
    for name, value, right in zip(("mean", "logvar"), answers, rights, strict=True):
        value = expect_tensor(value, tuple(right.shape), what=f"The {name} that forward returns")
        causes = {
            "mean and logvar are exchanged.": rights[name == "mean"],
            "These are the latents.": latents,
        }
        expect_close(
            value, right, f"The {name} that forward returns is not that of encode.", causes
        )

    def painted(z: Tensor) -> Tensor:
        return model.tensor("decode", z, shape=IMAGES, what="What decode returns")

    mistakes = {
        "The latents are scaled twice.": painted(SCALE * latents),
        "What is decoded is not scaled: decode the latents.": painted(latents / SCALE),
    }
    explain(x_hat, painted(latents), mistakes, "x_hat is not what decode makes of the latents.")
    expect_gradients(model, "", x)
    model.call("train")
    mean = expect_tensor(painted_by_forward(model, x)[1], LATENTS, what="The mean")
    expect(
        close(mean, rights[0]),
        "In training mode the mean that forward returns is another one.",
        "forward should do the same in both modes.",
    )
    # Whether encode draws is another check's concern.
    noisy = new_model(submission, logvar=1.0)
    if not close(latents_of(noisy, x), latents_of(noisy, x)):
        expect_draws(
            submission,
            "forward",
            lambda model, x: painted_by_forward(model, x)[0],
            lambda model, z: model.tensor("decode", z, shape=IMAGES, what="What decode returns"),
        )
