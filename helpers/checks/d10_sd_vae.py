"""The checks of deliverable 10 that students see."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers.check import check
from helpers.checks import vae
from helpers.checks.accumulation import (
    AccumulatingTrial,
    expect_group_updates,
    expect_undivided_loss,
)
from helpers.checks.common import RUN_AGAIN, expect_reported, once, within_budget
from helpers.checks.sd_blocks import (
    ACTIVATIONS,
    State,
    attend,
    ending,
    expect_rows,
    explain,
    loaded,
    normalise,
    pixels_of,
    residual,
    residual_shapes,
    residuals,
)
from helpers.checks.trial import expect_mean_loss
from helpers.deliverables import get
from helpers.dogs import dog_tensors
from helpers.expect import close, expect, expect_number, expect_tensor, fail, likely_cause
from helpers.submission import Object, Submission

D10 = get("d10_sd_vae")
SCALE, KL_WEIGHT = D10["scale"], D10["kl_weight"]
BASE = int(D10["base_channels"])

# Attention.


@check("attention", points=7)
def attention_weighs_the_values(submission: Submission) -> None:
    """SelfAttention gives weighted means of the values, head by head, projected by out_proj."""
    for n_heads, dim, n_images, length in ((3, 12, 2, 5), (1, 8, 3, 7)):
        shapes = {"in_proj": (3 * dim, dim), "out_proj": (dim, dim)}
        block = loaded(submission, "SelfAttention", n_heads, dim, shapes=shapes)
        state = block.state()
        x = torch.randn(n_images, length, dim)
        found = block.tensor("", x, shape=tuple(x.shape))
        per_head = dim // n_heads
        mistakes = {
            "The scores are not divided by the root of d.": attend(x, state, n_heads, scale=1),
            "The scores are divided by d: take its root.": attend(
                x, state, n_heads, scale=1 / per_head
            ),
            "The scores are multiplied by the root of d: divide by it.": attend(
                x, state, n_heads, scale=per_head**0.5
            ),
            "d is the number of numbers in a head, not embed_dim.": attend(
                x, state, n_heads, scale=dim**-0.5
            ),
            "The softmax runs over the queries: take the last axis.": attend(
                x, state, n_heads, softmax_dim=-2
            ),
            "The heads are not kept apart.": attend(x, state, 1, scale=per_head**-0.5),
            "All heads are taken for one.": attend(x, state, 1),
            "Cut each vector into heads: .view(N, T, H, d), then .transpose(1, 2).": attend(
                x, state, n_heads, cut_rows=True
            ),
            "out_proj is missing.": attend(x, state, n_heads, project=False),
            "in_proj gives queries, keys and values, in this order.": attend(
                x, state, n_heads, order=(1, 0, 2)
            ),
            "in_proj gives queries, keys and values: the values come last.": attend(
                x, state, n_heads, order=(1, 2, 0)
            ),
        }
        explain(
            found,
            attend(x, state, n_heads),
            mistakes,
            f"With {n_heads} head{'s' * (n_heads > 1)}, SelfAttention does not give what its "
            "weights lead to.",
        )


# Blocks.


def expect_small_eps(block: Object, x: Tensor, right: Callable[[float], Tensor], what: str) -> None:
    """Fail if a block adds more than 1e-6 to the variance that it divides by.

    Args:
        x: inputs so small that their variance is of that order.
        right: the output for a certain eps.
    """
    found = block.tensor("", x, shape=tuple(x.shape), what=f"{what}'s output")
    for eps in (1e-3, 1e-4, 1e-5):
        # What else may be wrong costs its own check.
        expect(
            not close(found, right(eps), 1e-3),
            f"For very small inputs {what} gives what an eps of {eps:g} leads to.",
            "nn.GroupNorm(32, channels, eps=1e-6).",
        )


@check("attention_block", points=5)
def attention_block_adds_attention_over_pixels(submission: Submission) -> None:
    """AttentionBlock gives x plus the attention over the normalised pixels, with one head."""
    block = loaded(submission, "AttentionBlock", 64, shapes={"norm": (64,)})
    state = block.state()
    x = 2 * torch.randn(2, 64, 3, 5) + 1
    found = block.tensor("", x, shape=tuple(x.shape))

    def attention(tokens: Tensor) -> Tensor:
        # The student's own: what is wrong in there costs its own check.
        return block.tensor("attention", tokens, shape=tuple(tokens.shape))

    def back(tokens: Tensor) -> Tensor:
        return tokens.transpose(1, 2).reshape(x.shape)

    normal = normalise(x, state, "norm")
    attended = attention(pixels_of(normal))
    rows = attention(normal.reshape(2, 15, 64))
    mistakes = {
        "x is not added at the end.": back(attended),
        "The normalised x is added: keep x itself for the sum.": normal + back(attended),
        "The normalisation is missing.": x + back(attention(pixels_of(x))),
        "The pixels are not the rows: .flatten(2).transpose(1, 2).": x + rows.reshape(x.shape),
        "The pixels are not the rows: .flatten(2).transpose(1, 2), and back.": x + back(rows),
        "On the way back, transpose before the reshape.": x + attended.reshape(x.shape),
        "The normalisation has a single group: it should have 32.": x
        + back(attention(pixels_of(normalise(x, state, "norm", groups=1)))),
    }
    explain(found, x + back(attended), mistakes, "AttentionBlock is not x + attention over pixels.")
    twin = submission.new("SelfAttention", 1, 64)
    twin.load(block.state("attention"))
    tokens = torch.randn(2, 6, 64)
    expect(
        close(attention(tokens), twin.tensor("", tokens, shape=tuple(tokens.shape)), 1e-3),
        "The attention has more than one head.",
        "SelfAttention(1, channels).",
    )


@check("attention_block", points=1)
def attention_block_has_a_small_eps(submission: Submission) -> None:
    """AttentionBlock normalises with an eps of 1e-6."""
    block = loaded(submission, "AttentionBlock", 64, shapes={"norm": (64,)})
    x, state = 1e-3 * torch.randn(2, 64, 3, 5), block.state()

    def right(eps: float) -> Tensor:
        tokens = pixels_of(normalise(x, state, "norm", eps))
        attended = block.tensor("attention", tokens, shape=tuple(tokens.shape))
        return x + attended.transpose(1, 2).reshape(x.shape)

    expect_small_eps(block, x, right, "AttentionBlock")


@check("residual_block", points=6)
def residual_block_adds_its_correction(submission: Submission) -> None:
    """ResidualBlock gives shortcut(x) plus norm, SiLU, convolution, twice."""
    for n_in, n_out in ((32, 32), (32, 64)):
        shapes = residual_shapes(n_in, n_out)
        block = loaded(submission, "ResidualBlock", n_in, n_out, shapes=shapes)
        state = block.state()
        expect(
            n_in != n_out or "shortcut.weight" not in state,
            "Where the numbers of channels agree, x is added as it is.",
            "self.shortcut = nn.Identity().",
        )
        x = 2 * torch.randn(2, n_in, 5, 4) + 1
        found = block.tensor("", x, shape=(2, n_out, 5, 4))
        skip = x
        if n_in != n_out:
            weight, bias = state["shortcut.weight"], state.get("shortcut.bias")
            skip = functional.conv2d(x, weight, bias)
        correction, silu = residual(x, state), functional.silu
        mistakes = {
            hint: skip + residual(x, state, first=other, second=other)
            for hint, other in ACTIVATIONS.items()
        } | {
            "x is not added at the end.": correction,
            "The first activation is missing.": skip + residual(x, state, first=lambda x: x),
            "The second activation is missing.": skip + residual(x, state, second=lambda x: x),
            "The first normalisation is missing.": skip + residual(x, state, norms=(False, True)),
            "The second normalisation is missing.": skip + residual(x, state, norms=(True, False)),
            "The normalisations are missing.": skip + residual(x, state, norms=(False, False)),
            "The normalisations have a single group: they should have 32.": skip
            + residual(x, state, groups=1),
            "There is an activation behind the sum: nothing follows it.": silu(skip + correction),
            "There is an activation behind conv2: nothing follows it but the sum.": skip
            + silu(correction),
        }
        if n_in == n_out:
            mistakes["The normalised x is added: keep x itself for the sum."] = (
                normalise(x, state, "norm1") + correction
            )
        what = f"ResidualBlock({n_in}, {n_out}) does not give what its weights lead to."
        explain(found, skip + correction, mistakes, what)


@check("residual_block", points=1)
def residual_block_has_a_small_eps(submission: Submission) -> None:
    """ResidualBlock normalises with an eps of 1e-6."""
    block = loaded(submission, "ResidualBlock", 64, 64, shapes=residual_shapes(64, 64))
    x, state = 1e-3 * torch.randn(2, 64, 5, 4), block.state()
    expect_small_eps(block, x, lambda eps: x + residual(x, state, eps=eps), "ResidualBlock")


@check("resampling", points=2)
def downsample_pads_right_and_bottom(submission: Submission) -> None:
    """Downsample halves the size, with zeros on the right and at the bottom only."""
    block = loaded(submission, "Downsample", 6, shapes={"conv": (6, 6, 3, 3)})
    weight, bias = block.state()["conv.weight"], block.state().get("conv.bias")
    x = torch.randn(2, 6, 8, 10)

    def padded(*sides: int) -> Tensor:
        return functional.conv2d(functional.pad(x, sides), weight, bias, stride=2)

    found = block.tensor(
        "", x, shape=(2, 6, 4, 5), hint="Pad by (0, 1, 0, 1), then a stride of 2, padding 0."
    )
    mistakes = {
        "All four sides are padded: (0, 1, 0, 1), and padding=0 in the convolution.": padded(
            1, 1, 1, 1
        ),
        "The zeros are on the left and at the top: (0, 1, 0, 1).": padded(1, 0, 1, 0),
    }
    explain(
        found, padded(0, 1, 0, 1), mistakes, "Downsample does not give what its weights lead to."
    )


@check("resampling", points=2)
def upsample_repeats_pixels(submission: Submission) -> None:
    """Upsample repeats each pixel in a square of four, then convolves."""
    block = loaded(submission, "Upsample", 6, shapes={"conv": (6, 6, 3, 3)})
    weight, bias = block.state()["conv.weight"], block.state().get("conv.bias")
    x = torch.randn(2, 6, 3, 4)
    found = block.tensor("", x, shape=(2, 6, 6, 8))

    def convolved(y: Tensor) -> Tensor:
        return functional.conv2d(y, weight, bias, padding=1)

    nearest = functional.interpolate(x, scale_factor=2, mode="nearest")
    mistakes = {
        "The convolution comes after the repetition.": functional.interpolate(
            convolved(x), scale_factor=2, mode="nearest"
        ),
        "The convolution is missing.": nearest,
        'The pixels are blended: mode="nearest".': convolved(
            functional.interpolate(x, scale_factor=2, mode="bilinear")
        ),
    }
    explain(found, convolved(nearest), mistakes, "Upsample does not give what its weights lead to.")


# The networks.


@check("networks", points=3)
def encoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Encoder holds the layers of the table, in their order."""
    b = BASE
    right = [
        *[("Conv2d", 3, b), *residuals(b, b, b), ("Downsample", b, b)],
        *[*residuals(b, 2 * b, 2 * b), ("Downsample", 2 * b, 2 * b)],
        *[*residuals(2 * b, 4 * b, 4 * b), ("Downsample", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 4), ("AttentionBlock", 4 * b, 4 * b)],
        *[*residuals(4 * b, 4 * b), *ending(4 * b, 8)],
    ]
    expect_rows(submission.new("Encoder", b), "Encoder", right)


@check("networks", points=3)
def decoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Decoder holds the layers of the table, in their order."""
    b = BASE
    right = [
        *[("Conv2d", 4, 4 * b), *residuals(4 * b, 4 * b), ("AttentionBlock", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 5), ("Upsample", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 4), ("Upsample", 4 * b, 4 * b)],
        *[*residuals(4 * b, 2 * b, 2 * b, 2 * b), ("Upsample", 2 * b, 2 * b)],
        *[*residuals(2 * b, b, b, b), *ending(b, 3)],
    ]
    expect_rows(submission.new("Decoder", b), "Decoder", right)


@contextmanager
def meta_device(submission: Submission) -> Iterator[None]:
    """In here, what the student's code makes has shapes, but no numbers and no memory."""
    device = submission.build("torch.device", "meta")
    device.call("__enter__")
    try:
        yield
    finally:
        device.call("__exit__", None, None, None)


@check("networks", points=2)
def full_width_counts(submission: Submission) -> str:
    """At full width the encoder has 34,163,592 parameters and the decoder 49,490,179."""
    counts = {}
    for name, right in (("Encoder", D10["n_encoder"]), ("Decoder", D10["n_decoder"])):
        with meta_device(submission):
            network = submission.new(name, 128)
        counts[name] = sum(layer.n_parameters for layer in network.layers())
        expect(
            counts[name] == right,
            f"{name}(128) has {counts[name]:,} parameters; it should have {right:,}.",
            "Convolutions, linear layers and normalisations all have a bias.",
        )
    return f"{counts['Encoder']:,} and {counts['Decoder']:,} parameters."


# The model.


def new_model(submission: Submission, *, quiet: bool = False) -> Object:
    """A fresh, narrow model of the student's.

    Args:
        quiet: whether its log variances are so low that a draw is the mean.
    """
    model = submission.new("VAE", BASE)
    if quiet:
        state = quant_conv(model)
        state["weight"][4:] = 0
        state["bias"][4:] = -28
        model.load(state, "quant_conv")
    return model


def quant_conv(model: Object) -> State:
    """The weights of the 1 x 1 convolution behind the encoder."""
    state = {name: tensor.float() for name, tensor in model.state("quant_conv").items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    expect(
        shapes == {"weight": (8, 8, 1, 1), "bias": (8,)},
        "quant_conv should be nn.Conv2d(8, 8, kernel_size=1).",
    )
    return state


def few_images(n_images: int = 2) -> Tensor:
    """(n_images, 3, 16, 24) in [-1, 1]: enough for 2 by 3 places of latents."""
    return 2 * torch.rand(n_images, 3, 16, 24) - 1


def several(answer: Any, names: tuple[str, ...], where: str) -> list[Any]:
    """An answer of as many things as ``names``, or fail."""
    if not isinstance(answer, list) or len(answer) != len(names):
        got = f"{len(answer)} things" if isinstance(answer, list) else "one thing"
        fail(f"{where} should return {', '.join(names)}, but it returned {got}.")
    return answer


def own_moments(model: Object, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log variance as the student's moments gives them."""
    shape = (len(x), 4, x.shape[2] // 8, x.shape[3] // 8)
    mean, logvar = several(model.call("moments", x), ("mean", "logvar"), "moments")
    return (
        expect_tensor(mean, shape, what="The mean that moments returns"),
        expect_tensor(logvar, shape, what="The log variance that moments returns"),
    )


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
    mean, logvar = own_moments(model, x)
    first, second = both.chunk(2, dim=1)
    if not close(mean, first, 1e-3):
        mistakes = {
            "Means come first, log variances last.": second,
            "Means come first, log variances last; neither do means need a clamp.": second.clamp(
                -30, 20
            ),
            "Only the log variances are clamped.": first.clamp(-30, 20),
            "quant_conv is left out.": encoded[:, :4],
            "The channels are taken in turn: the first four are the means.": both[:, ::2],
        }
        cause = [hint for hint, wrong in mistakes.items() if close(mean, wrong, 1e-3)]
        fail("The means are not the first four channels behind quant_conv.", *cause[:1])
    if not close(logvar, second.clamp(-30, 20), 1e-3):
        mistakes = {
            "They are not clamped to [-30, 20].": second,
            "The clamp is from -30 to 20, not the other way round.": second.clamp(-20, 30),
            "These are variances: leave the logarithm.": second.clamp(-30, 20).exp(),
        }
        cause = [hint for hint, wrong in mistakes.items() if close(logvar, wrong, 1e-3)]
        fail("The log variances are not the last four channels, clamped to [-30, 20].", *cause[:1])


@check("model", points=2)
def draws_have_the_right_spread(submission: Submission) -> None:
    """reparameterize draws from N(mean, exp(logvar)), with fresh noise for each number."""
    model = new_model(submission)
    vae.expect_right_spread(model)
    vae.expect_fresh_noise(model)


@check("model", points=2)
def gradients_pass_through_the_draw(submission: Submission) -> None:
    """Gradients reach mean and log variance through the draw."""
    vae.expect_sampling_gradients(new_model(submission))


@check("model", points=2)
def latents_are_scaled_draws(submission: Submission) -> None:
    """encode returns a draw times 0.18215, and mean and log variance as they were."""
    model, x = new_model(submission, quiet=True), few_images()
    names = ("latents", "mean", "logvar")
    submission.seed(0)
    answers = several(model.call("encode", x), names, "encode")
    latents, mean, logvar = (
        expect_tensor(value, (2, 4, 2, 3), what=f"The {name} that encode returns")
        for value, name in zip(answers, names, strict=True)
    )
    right, right_logvar = own_moments(model, x)
    if not close(mean, right):
        hint = "It is scaled: return it as it was." if close(mean, SCALE * right) else ""
        fail("The mean that encode returns is not that of moments.", hint)
    expect(close(logvar, right_logvar), "The logvar that encode returns is not that of moments.")
    mistakes = {
        "The latents are not scaled.": right,
        "The latents are divided by the factor: multiply by it.": right / SCALE,
    }
    # The draw is the student's own, too, in case it is no draw from N(mean, exp(logvar)).
    submission.seed(0)
    drawn = model.tensor("reparameterize", mean, logvar, shape=(2, 4, 2, 3))
    if not close(latents, SCALE * drawn):
        explain(latents, SCALE * right, mistakes, "The latents are not 0.18215 times a draw.")
    # And a draw it is: with much variance two calls differ.
    state = quant_conv(model)
    state["bias"][4:] = 1
    model.load(state, "quant_conv")
    draws = [several(model.call("encode", x), names, "encode")[0] for _ in range(2)]
    first, second = (expect_tensor(z, (2, 4, 2, 3), what="The latents") for z in draws)
    expect(not close(first, second), "The latents are the means: encode should draw.")


@check("model", points=2)
def decoding_undoes_the_scale(submission: Submission) -> None:
    """decode divides by 0.18215, and passes post_quant_conv and the decoder."""
    model, latents = new_model(submission), torch.randn(2, 4, 2, 3)
    found = model.tensor("decode", latents, shape=(2, 3, 16, 24), what="What decode returns")

    def passed(z: Tensor) -> Tensor:
        return model.tensor("decoder", model.tensor("post_quant_conv", z), shape=(2, 3, 16, 24))

    mistakes = {
        "The factor is not undone: divide by it.": passed(latents),
        "The latents are multiplied by the factor: divide by it.": passed(latents * SCALE),
        "post_quant_conv is left out.": model.tensor("decoder", latents / SCALE),
        "post_quant_conv and the factor are left out.": model.tensor("decoder", latents),
        "The factor is undone behind post_quant_conv: divide first.": model.tensor(
            "decoder", model.tensor("post_quant_conv", latents) / SCALE
        ),
        "The image is squeezed by tanh: it should not be.": torch.tanh(passed(latents / SCALE)),
        "The image is clamped: no gradient passes there.": passed(latents / SCALE).clamp(-1, 1),
    }
    explain(
        found, passed(latents / SCALE), mistakes, "decode does not give what its parts lead to."
    )


@check("model", points=2)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward returns the decoded latents, mean and logvar."""
    model, x = new_model(submission, quiet=True), few_images()
    names = ("x_hat", "mean", "logvar")
    submission.seed(0)  # the same draws in forward and in encode
    answers = several(model.call("", x), names, "forward")
    x_hat = expect_tensor(answers[0], tuple(x.shape), what="The x_hat that forward returns")
    submission.seed(0)
    encoded = several(model.call("encode", x), ("latents", "mean", "logvar"), "encode")
    for name, value, right in zip(names[1:], answers[1:], encoded[1:], strict=True):
        right = expect_tensor(right, None, what=f"The {name} that encode returns")
        value = expect_tensor(value, tuple(right.shape), what=f"The {name} that forward returns")
        expect(close(value, right), f"The {name} that forward returns is not that of encode.")
    latents = expect_tensor(encoded[0], None, what="The latents that encode returns")
    right = model.tensor("decode", latents, shape=tuple(x.shape), what="What decode returns")
    mistakes = {"The latents are scaled twice.": model.tensor("decode", SCALE * latents)}
    explain(x_hat, right, mistakes, "x_hat is not what decode makes of the latents.")


# The loss.


def random_case(n_images: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_hat, x, mean and logvar, with a KL term as large as the error."""
    x = torch.randn(n_images, 3, 16, 8)
    mean, logvar = 9 * torch.randn(n_images, 4, 2, 5), torch.randn(n_images, 4, 2, 5) - 0.5
    return x + 0.1 * torch.randn_like(x), x, mean, logvar


def mean_divergence(mean: Tensor, logvar: Tensor) -> float:
    """KL divergence to N(0, 1), the mean over all numbers."""
    return float(vae.divergence(mean, logvar).mean())


@check("loss", points=3)
def loss_is_error_plus_weighted_kl(submission: Submission) -> None:
    """vae_loss is the mean squared error plus 0.00025 times the mean KL divergence."""
    for n_images in (3, 1):
        x_hat, x, mean, logvar = random_case(n_images)
        found = vae.loss(submission, x_hat, x, mean, logvar, name="vae_loss")
        error = float(functional.mse_loss(x_hat, x))
        kl = mean_divergence(mean, logvar)
        right = error + KL_WEIGHT * kl
        if math.isclose(found, right, rel_tol=1e-4):
            continue
        latents_per_image, per_image = mean.numel() / n_images, x.numel() / n_images
        # The weight of the KL divergence, and what stands in its place.
        kls = {
            "The KL term is missing.": 0.0,
            "The sign of the KL term is wrong.": -kl,
            "The KL divergence has no weight.": kl / KL_WEIGHT,
            "The factor 1/2 of the KL divergence is missing.": 2 * kl,
            "The KL divergence is summed: take its mean over all numbers.": kl * mean.numel(),
            "The KL divergence is summed over the numbers of an image: take its mean.": kl
            * latents_per_image,
            "The mean has no part in the KL divergence.": mean_divergence(0 * mean, logvar),
            "logvar is taken for the logarithm of the standard deviation.": mean_divergence(
                mean, 2 * logvar
            ),
        }
        errors = {
            "The squares are summed over an image: take their mean.": error * per_image,
            "The squares are summed: take their mean over everything.": error * x.numel(),
            "The error is absolute: square it.": float((x_hat - x).abs().mean()),
        }
        causes = {hint: error + KL_WEIGHT * wrong for hint, wrong in kls.items()}
        causes |= {hint: wrong + KL_WEIGHT * kl for hint, wrong in errors.items()}
        fail(
            f"For {n_images} image{'s' * (n_images > 1)}, an error of {error:.4f} and a mean KL "
            f"divergence of {kl:.2f}, vae_loss gave {found:.5f}; it should be {right:.5f}.",
            likely_cause(found, causes),
        )


@check("loss", points=2)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss has the right gradients for x_hat, mean and logvar."""
    x_hat, x, mean, logvar = random_case()
    answer = submission.differentiate("vae_loss", x_hat, x, mean, logvar, wrt=(0, 2, 3))
    weight = KL_WEIGHT / mean.numel()
    for name, found, right in (
        ("x_hat", answer.inputs[0], 2 * (x_hat - x) / x.numel()),
        ("mean", answer.inputs[1], weight * mean),
        ("logvar", answer.inputs[2], weight * 0.5 * (logvar.exp() - 1)),
    ):
        if found is None:
            fail(f"The loss has no gradient for {name}.", "Is something detached?")
        explain(found, right, {}, f"The gradient of the loss for {name} is wrong.")


# Data.


@check("data", points=2)
def images_are_prepared(submission: Submission) -> None:
    """preprocess gives tensors of 56 by 56 pixels with values from -1 to 1."""
    ramp = torch.linspace(0, 255, 90).view(1, 90, 1).expand(70, 90, 3)
    preprocess = submission.object("preprocess")
    found = preprocess.tensor(
        "",
        submission.pil_image(ramp.contiguous()),
        shape=(3, 56, 56),
        what="What preprocess makes of a photograph of 90 by 70 pixels",
        hint="Resize((56, 56)), with both numbers.",
    )
    low, high = float(found.min()), float(found.max())
    expect(
        -1.01 <= low <= -0.95 and 0.95 <= high <= 1.01,
        f"Black and white should become -1 and 1; they became {low:.2f} and {high:.2f}.",
        "Normalize subtracts a mean and divides by a spread: which ones take [0, 1] to [-1, 1]?",
    )
    # Columns get brighter from left to right: nothing is turned or flipped.
    brightness = found.mean(dim=(0, 1))
    expect(bool((brightness.diff() > 0).all()), "The photograph is turned, flipped or cropped.")


# Training.


@check("training", points=2)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, undivided."""
    expect_undivided_loss(AccumulatingTrial(submission, lr=0.0, n_accumulated=2))
    expect_mean_loss(AccumulatingTrial(submission, lr=0.0, n_accumulated=2))


@check("training", points=4)
def updates_gather_gradients(submission: Submission) -> None:
    """Two epochs make an update for each group of batches, also for the last one."""
    for n_accumulated in (2, 1):
        expect_group_updates(AccumulatingTrial(submission, lr=0.1, n_accumulated=n_accumulated))


# The eight repairs.


@check("repairs", points=2)
def masked_scores_get_no_weight(submission: Submission) -> None:
    """attention_weights gives no weight to what is hidden."""
    scores = torch.randn(2, 3, 4, 4)
    hidden = torch.tensor([[0, 1, 1, 0], [0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    found = submission.call("attention_weights", scores, hidden)
    found = expect_tensor(found, (2, 3, 4, 4), what="What attention_weights returns")
    mistakes = {
        "Nothing is hidden: masked_fill returns a new tensor, and changes nothing.": scores.softmax(
            -1
        ),
        "What is hidden is seen, and the other way round.": scores.masked_fill(
            ~hidden, -math.inf
        ).softmax(-1),
        "The weights of a row no longer add up to 1: hide before the softmax.": scores.softmax(
            -1
        ).masked_fill(hidden, 0),
    }
    right = scores.masked_fill(hidden, -math.inf).softmax(-1)
    explain(found, right, mistakes, "The weights are not those of what may be seen.")


@check("repairs", points=2)
def causal_mask_shows_the_diagonal(submission: Submission) -> None:
    """causal_mask hides what comes later, and not the place itself."""
    for length in (5, 1):
        found = submission.call("causal_mask", length)
        right = torch.ones(length, length).triu(1).bool()
        if not isinstance(found, Tensor) or tuple(found.shape) != (length, length):
            fail(f"causal_mask({length}) should return a tensor ({length}, {length}).")
        expect(found.dtype == torch.bool, f"The mask should be bool, but it is {found.dtype}.")
        if torch.equal(found, right):
            continue
        hints = {
            "The diagonal is hidden: a place could not look at itself.": right
            | torch.eye(length).bool(),
            "It hides what came before: columns after t are on the right.": right.T,
            "True means hidden.": ~right,
        }
        cause = [hint for hint, wrong in hints.items() if torch.equal(found, wrong)]
        fail(f"causal_mask({length}) is wrong.", *cause[:1])


@check("repairs", points=2)
def spread_is_an_exponential(submission: Submission) -> None:
    """spread gives exp(logvar / 2)."""
    logvar = torch.randn(3, 4, 2, 2)
    answer = submission.call("spread", logvar)
    if isinstance(answer, Tensor) and answer.numel() == 1:
        fail("spread gave one number.", "std() measures a tensor; the exponential was meant.")
    found = expect_tensor(answer, (3, 4, 2, 2), what="What spread returns")
    mistakes = {
        "These are variances: halve the logarithm first.": logvar.exp(),
        "The exponential is missing.": 0.5 * logvar,
    }
    explain(found, (0.5 * logvar).exp(), mistakes, "The standard deviation is exp(logvar / 2).")


@check("repairs", points=2)
def noise_is_normal(submission: Submission) -> None:
    """draw draws from the normal distribution."""
    mean, std = torch.full((40_000,), 1.5), torch.full((40_000,), 0.7)
    answer = submission.call("draw", mean, std)
    found = (expect_tensor(answer, (40_000,), what="What draw returns") - 1.5) / 0.7
    average, deviation = float(found.mean()), float(found.std())
    # Five standard errors of a mean of 40,000.
    if abs(average) > 0.025 or abs(deviation - 1) > 0.02:
        uniform = abs(average - 0.5) < 0.02 and abs(deviation - 12**-0.5) < 0.02
        fail(
            f"(draw - mean) / std should have mean 0 and spread 1; it has {average:.2f} and "
            f"{deviation:.2f}.",
            "rand draws evenly from [0, 1): randn draws normally." if uniform else "",
        )
    fourth = float(found.pow(4).mean())
    expect(
        abs(fourth - 3) < 0.3,
        f"The noise is not normal: its fourth moment is {fourth:.2f}, and should be 3.",
        "Use torch.randn_like.",
    )


@check("repairs", points=2)
def activation_is_silu(submission: Submission) -> None:
    """activation gives x * sigmoid(x)."""
    x = torch.randn(3, 5) * 3
    found = expect_tensor(submission.call("activation", x), (3, 5), what="What activation returns")
    mistakes = {hint: other(x) for hint, other in ACTIVATIONS.items()}
    explain(found, functional.silu(x), mistakes, "activation is not SiLU.")


@check("repairs", points=2)
def kl_takes_the_mean(submission: Submission) -> None:
    """kl_divergence is that of mean and log variance, whatever was drawn."""
    mean, logvar, latents = (torch.randn(3, 4, 2, 2) for _ in range(3))
    answer = submission.call("kl_divergence", mean, logvar, latents)
    found = expect_number(answer, what="What kl_divergence returns")
    right = mean_divergence(mean, logvar)
    if math.isclose(found, right, rel_tol=1e-4):
        return
    causes = {
        "The scaled draw stands where the mean belongs.": mean_divergence(latents, logvar),
        "Undoing the scale leaves a draw: the mean belongs there.": mean_divergence(
            latents / SCALE, logvar
        ),
        "Average over all numbers.": right * mean.numel(),
        "Average over the latents of an image, too.": right * mean[0].numel(),
    }
    fail(
        f"The mean KL divergence is {right:.3f}, but came out {found:.3f}.",
        likely_cause(found, causes),
    )


@check("repairs", points=2)
def callers_tensor_is_left_alone(submission: Submission) -> None:
    """unscaled divides by 0.18215 and leaves the caller's tensor as it is."""
    latents = torch.randn(2, 4, 3, 3)
    called = submission.build("helpers.checks.tiny.Called", submission.object("unscaled"), latents)
    found = called.tensor("get_result", shape=(2, 4, 3, 3), what="What unscaled returns")
    mistakes = {
        "They are multiplied by the factor.": latents * SCALE,
        "They are as before.": latents,
    }
    explain(found, latents / SCALE, mistakes, "The latents are not divided by 0.18215.")
    kept = called.tensor("get_argument", shape=(2, 4, 3, 3), what="The caller's tensor")
    expect(
        bool(torch.equal(kept, latents)),
        "The caller's tensor was changed.",
        "`latents /= ...` writes into it; `latents / ...` makes a new one.",
    )


@check("repairs", points=2)
def checkpoint_holds_the_state(submission: Submission) -> None:
    """checkpoint holds the epoch and the network's tensors by name."""
    network = submission.build("torch.nn.Linear", 3, 2)
    right = network.state()
    answer = submission.call("checkpoint", network, 7)
    if not isinstance(answer, dict) or set(answer) != {"epoch", "state"}:
        fail('checkpoint should return a dict with "epoch" and "state".')
    expect(answer["epoch"] == 7, "The epoch is not the one that was given.")
    state = answer["state"]
    if isinstance(state, Object) and "method" in state.type_name:
        fail("The state is the method `state_dict`, and not what it returns.", "Call it: ().")
    found = (
        {k: v for k, v in state.items() if isinstance(v, Tensor)}
        if (isinstance(state, dict))
        else {}
    )
    expect(
        found.keys() == right.keys() and all(torch.equal(found[k], right[k]) for k in right),
        "The state is not the network's state dict.",
    )


# The trained model.


@dataclass(frozen=True)
class Findings:
    """What is found of the trained model."""

    #: Mean squared error plus 0.00025 KL.
    training: float
    test: float
    #: Of the training images.
    error: float
    kl: float


#: Images of each kind: judging then takes seconds on a slow machine, too.
N_JUDGED = 32


@once
def findings(submission: Submission) -> Findings:
    """The trained model's losses, with latents drawn here.

    Moments leave one process; the latents are drawn by the judge and enter another, so that what is
    decoded comes from them alone.
    """
    splits = [images[:N_JUDGED] for images in dog_tensors()]
    model = submission.trained("sd_vae")
    moments = []
    for x in splits:
        hidden = model.apply("encoder", x, what="The encoder's output", batch_size=16)
        both = model.apply("quant_conv", hidden, what="quant_conv's output")
        expect(tuple(both.shape) == (len(x), 8, 7, 7), "The moments should be (N, 8, 7, 7).")
        mean, logvar = both.chunk(2, dim=1)
        moments.append((mean, logvar.clamp(-30, 20)))
    # Asked for anew: in the grader this is another process, which has never seen an image.
    model = submission.trained("sd_vae")
    generator = torch.Generator().manual_seed(2)
    errors, kls = [], []
    for x, (mean, logvar) in zip(splits, moments, strict=True):
        z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=generator)
        hidden = model.apply("post_quant_conv", z, what="post_quant_conv's output")
        x_hat = model.apply("decoder", hidden, what="The decoder's output", batch_size=16)
        expect(x_hat.shape == x.shape, f"Decoded images should be {tuple(x.shape)}.")
        errors.append(float(functional.mse_loss(x_hat, x)))
        kls.append(mean_divergence(mean, logvar))
    losses = [error + KL_WEIGHT * kl for error, kl in zip(errors, kls, strict=True)]
    expect(all(math.isfinite(loss) for loss in losses), "The trained model's loss is infinite.")
    return Findings(training=losses[0], test=losses[1], error=errors[0], kl=kls[0])


#: A model that always answers with the mean image loses 0.22.
LEARNED_SOMETHING = 0.17


@check("result", points=2)
def model_has_learned(submission: Submission) -> str:
    """The trained model does clearly better than the mean image would."""
    loss = findings(submission).training
    expect(
        loss < LEARNED_SOMETHING, f"Loss {loss:.3f}: the mean image would reach 0.22.", RUN_AGAIN
    )
    return f"Loss {loss:.3f}."


@check("result", points=6)
def training_loss_is_low(submission: Submission) -> str:
    """The trained model's loss on training images, with latents drawn by us, is low enough."""
    found = findings(submission)
    note = f"Loss {found.training:.3f} (squared error {found.error:.4f}, KL {found.kl:.2f})"
    expect(
        found.training < D10.max_loss,
        f"{note}; it must be below {D10.max_loss:g}.",
        "More epochs help.",
    )
    return f"{note}; it must be below {D10.max_loss:g}."


@check("result", points=2)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    return within_budget(submission.checkpoint("sd_vae"), D10)


@check("result", points=0)
def reported_loss_agrees(submission: Submission) -> str:
    """The loss that your training reported last agrees with the one measured now."""
    # The mean over the last of a few epochs lags behind its end, while the loss still falls.
    loss = findings(submission).training
    return expect_reported(submission.losses("sd_vae"), loss, tolerance=0.25)
