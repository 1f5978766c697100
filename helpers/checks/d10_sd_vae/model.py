"""The checks of the model: moments, draws, scaled latents, and the way back to images."""

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
    expect_several,
    expect_tensor,
    expect_tensors,
)
from helpers.checks.common import sampling
from helpers.checks.common.sd_blocks import State, explain
from helpers.checks.d10_sd_vae.networks import BASE, D10

SCALE = D10["scale"]
#: Shape of the latents of two images; see :func:`few_images`.
LATENTS = (2, 4, 2, 3)


def new_model(submission: Submission, *, quiet: bool = False) -> Object:
    """A new, narrow model of the student's.

    Args:
        quiet: whether its log variances are so low that a draw equals the mean.
    """
    model = submission.new("VAE", BASE)
    if quiet:
        state = quant_conv(model)
        state["weight"][4:] = 0
        state["bias"][4:] = -28
        model.load(state, "quant_conv")
    return model


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
    """(2, 3, 16, 24) in [-1, 1], whose latents are 2 x 3."""
    return 2 * torch.rand(2, 3, 16, 24) - 1


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


@check("model", points=3)
def moments_are_split_and_clamped(submission: Submission) -> None:
    """moments gives the first four channels behind quant_conv as means, the others clamped."""
    model, x = new_model(submission), few_images()
    state = quant_conv(model)
    # Means and log variances from -60 to 60, so that each clamping shows.
    state["bias"] = torch.tensor([-60.0, -10.0, 10.0, 60.0, -60.0, -25.0, 15.0, 60.0])
    model.load(state, "quant_conv")
    encoded = model.tensor("encoder", x, shape=(2, 8, 2, 3), what="The encoder's output")
    both = functional.conv2d(encoded.float(), state["weight"], state["bias"])
    mean, logvar = moments(model, x)
    first, second = both.chunk(2, dim=1)
    clamped = second.clamp(-30, 20)
    expect_close(
        mean,
        first,
        "The means are not the first four channels behind quant_conv.",
        {
            "Means come first, log variances last.": second,
            "Means come first, log variances last; neither do means need a clamp.": clamped,
            "Only the log variances are clamped.": first.clamp(-30, 20),
            "quant_conv is left out.": encoded[:, :4],
            "The channels are taken in turn: the first four are the means.": both[:, ::2],
        },
        tolerance=1e-3,
    )
    expect_close(
        logvar,
        clamped,
        "The log variances are not the last four channels, clamped to [-30, 20].",
        {
            "They are not clamped to [-30, 20].": second,
            "The clamp is from -30 to 20, not the other way round.": second.clamp(-20, 30),
            "These are variances: leave the logarithm.": clamped.exp(),
        },
        tolerance=1e-3,
    )


@check("model", points=2)
def draws_have_the_right_spread(submission: Submission) -> None:
    """reparameterize draws from N(mean, exp(logvar)), with fresh noise for each number."""
    model = new_model(submission)
    sampling.expect_right_spread(model)
    sampling.expect_fresh_noise(model)


@check("model", points=2)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mean and log variance through the draw."""
    sampling.expect_sampling_gradients(new_model(submission))


@check("model", points=2)
def latents_are_scaled_draws(submission: Submission) -> None:
    """encode returns a draw times 0.18215, and mean and log variance as they were."""
    model, x = new_model(submission, quiet=True), few_images()
    submission.seed(0)
    latents, mean, logvar = (
        expect_tensor(value, LATENTS, what=f"The {name} that encode returns")
        for value, name in zip(encode(model, x), ("latents", "mean", "logvar"), strict=True)
    )
    right, right_logvar = moments(model, x)
    scaled = {"It is scaled: return it as it was.": SCALE * right}
    expect_close(mean, right, "The mean that encode returns is not that of moments.", scaled)
    expect_close(logvar, right_logvar, "The logvar that encode returns is not that of moments.")
    # The draw is the student's own, in case it is not one from N(mean, exp(logvar)).
    submission.seed(0)
    drawn = model.tensor("reparameterize", mean, logvar, shape=LATENTS)
    if not close(latents, SCALE * drawn):
        mistakes = {
            "The latents are not scaled.": right,
            "The latents are divided by the factor: multiply by it.": right / SCALE,
        }
        explain(latents, SCALE * right, mistakes, "The latents are not 0.18215 times a draw.")
    # It must be a draw: with a large variance two calls differ.
    state = quant_conv(model)
    state["bias"][4:] = 1
    model.load(state, "quant_conv")
    first, second = (
        expect_tensor(z, LATENTS, what="The latents")
        for z in [encode(model, x)[0] for _ in range(2)]
    )
    expect(not close(first, second), "The latents are the means: encode should draw.")


@check("model", points=2)
def decoding_undoes_the_scale(submission: Submission) -> None:
    """decode divides by 0.18215, and passes post_quant_conv and the decoder."""
    model, latents = new_model(submission), torch.randn(LATENTS)
    found = model.tensor("decode", latents, shape=(2, 3, 16, 24), what="What decode returns")

    def passed(z: Tensor) -> Tensor:
        return model.tensor("decoder", model.tensor("post_quant_conv", z), shape=(2, 3, 16, 24))

    right = passed(latents / SCALE)
    mistakes = {
        "The factor is not undone: divide by it.": passed(latents),
        "The latents are multiplied by the factor: divide by it.": passed(latents * SCALE),
        "post_quant_conv is left out.": model.tensor("decoder", latents / SCALE),
        "post_quant_conv and the factor are left out.": model.tensor("decoder", latents),
        "The factor is undone behind post_quant_conv: divide first.": model.tensor(
            "decoder", model.tensor("post_quant_conv", latents) / SCALE
        ),
        "The image is squeezed by tanh: it should not be.": torch.tanh(right),
        "The image is clamped: no gradient passes there.": right.clamp(-1, 1),
    }
    explain(found, right, mistakes, "decode does not give what its parts lead to.")


@check("model", points=2)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward returns the decoded latents, mean and logvar."""
    model, x = new_model(submission, quiet=True), few_images()
    submission.seed(0)  # the same draws in forward and in encode
    message = "forward should return x_hat, mean, logvar, but it returned {got}."
    x_hat, *answers = expect_several(model.call("", x), 3, message)
    x_hat = expect_tensor(x_hat, tuple(x.shape), what="The x_hat that forward returns")
    submission.seed(0)
    latents, *rights = encode(model, x)
    for name, value, right in zip(("mean", "logvar"), answers, rights, strict=True):
        right = expect_tensor(right, what=f"The {name} that encode returns")
        value = expect_tensor(value, tuple(right.shape), what=f"The {name} that forward returns")
        expect_close(value, right, f"The {name} that forward returns is not that of encode.")
    latents = expect_tensor(latents, what="The latents that encode returns")
    right = model.tensor("decode", latents, shape=tuple(x.shape), what="What decode returns")
    mistakes = {"The latents are scaled twice.": model.tensor("decode", SCALE * latents)}
    explain(x_hat, right, mistakes, "x_hat is not what decode makes of the latents.")
