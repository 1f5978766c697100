"""The checks of the blocks: attention, residual blocks and resampling."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Object, Submission, check, close, expect
from helpers.checks.common.sd_blocks import (
    ACTIVATIONS,
    attend,
    convolve,
    explain,
    loaded,
    normalise,
    pixels_of,
    residual,
    residual_shapes,
)

# Attention.


@check("attention", points=7)
def attention_weighs_the_values(submission: Submission) -> None:
    """SelfAttention gives weighted means of the values, head by head, projected by out_proj."""
    for n_heads, dim, n_images, length in ((3, 12, 2, 5), (1, 8, 3, 7)):
        shapes = {"in_proj": (3 * dim, dim), "out_proj": (dim, dim)}
        block = loaded(submission, "SelfAttention", n_heads, dim, shapes=shapes)
        state, x, per_head = block.state(), torch.randn(n_images, length, dim), dim // n_heads
        mistakes: dict[str, dict[str, Any]] = {
            "The scores are not divided by the root of d.": {"scale": 1},
            "The scores are divided by d: take its root.": {"scale": 1 / per_head},
            "The scores are multiplied by the root of d: divide by it.": {"scale": per_head**0.5},
            "d is the number of numbers in a head, not embed_dim.": {"scale": dim**-0.5},
            "The softmax runs over the queries: take the last axis.": {"softmax_dim": -2},
            "The heads are not kept apart.": {"n_heads": 1, "scale": per_head**-0.5},
            "All heads are taken for one.": {"n_heads": 1},
            "Cut each vector into heads: .view(N, T, H, d), then .transpose(1, 2).": {
                "cut_rows": True
            },
            "out_proj is missing.": {"project": False},
            "in_proj gives queries, keys and values, in this order.": {"order": (1, 0, 2)},
            "in_proj gives queries, keys and values: the values come last.": {"order": (1, 2, 0)},
        }
        explain(
            block.tensor("", x, shape=tuple(x.shape)),
            attend(x, state, n_heads),
            {hint: attend(x, state, **{"n_heads": n_heads, **m}) for hint, m in mistakes.items()},
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
        # Other mistakes are another check's concern.
        expect(
            not close(found, right(eps), 1e-3),
            f"For very small inputs {what} gives what an eps of {eps:g} leads to.",
            "nn.GroupNorm(32, channels, eps=1e-6).",
        )


def own_attention(block: Object, tokens: Tensor) -> Tensor:
    """What an AttentionBlock's own attention gives: mistakes in it are another check's concern."""
    return block.tensor("attention", tokens, shape=tuple(tokens.shape))


@check("attention_block", points=5)
def attention_block_adds_attention_over_pixels(submission: Submission) -> None:
    """AttentionBlock gives x plus the attention over the normalised pixels, with one head."""
    block = loaded(submission, "AttentionBlock", 64, shapes={"norm": (64,)})
    state = block.state()
    x = 2 * torch.randn(2, 64, 3, 5) + 1
    found = block.tensor("", x, shape=tuple(x.shape))

    def attended(x: Tensor) -> Tensor:
        return own_attention(block, pixels_of(x)).transpose(1, 2).reshape(x.shape)

    normal, single = (normalise(x, state, "norm", groups=groups) for groups in (32, 1))
    rows = own_attention(block, normal.reshape(2, 15, 64))
    right = attended(normal)
    mistakes = {
        "x is not added at the end.": right,
        "The normalised x is added: keep x itself for the sum.": normal + right,
        "The normalisation is missing.": x + attended(x),
        "The pixels are not the rows: .flatten(2).transpose(1, 2).": x + rows.reshape(x.shape),
        "The pixels are not the rows: .flatten(2).transpose(1, 2), and back.": x
        + rows.transpose(1, 2).reshape(x.shape),
        "On the way back, transpose before the reshape.": x + pixels_of(right).reshape(x.shape),
        "The normalisation has a single group: it should have 32.": x + attended(single),
    }
    explain(found, x + right, mistakes, "AttentionBlock is not x + attention over pixels.")
    twin = submission.new("SelfAttention", 1, 64)
    twin.load(block.state("attention"))
    tokens = torch.randn(2, 6, 64)
    expect(
        close(own_attention(block, tokens), twin.tensor("", tokens, shape=(2, 6, 64)), 1e-3),
        "The attention has more than one head.",
        "SelfAttention(1, channels).",
    )


@check("attention_block", points=1)
def attention_block_has_a_small_eps(submission: Submission) -> None:
    """AttentionBlock normalises with an eps of 1e-6."""
    block = loaded(submission, "AttentionBlock", 64, shapes={"norm": (64,)})
    x, state = 1e-3 * torch.randn(2, 64, 3, 5), block.state()

    def right(eps: float) -> Tensor:
        attended = own_attention(block, pixels_of(normalise(x, state, "norm", eps)))
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
        skip = x if n_in == n_out else convolve(x, state, "shortcut")
        correction, silu, identity = residual(x, state), functional.silu, nn.Identity()
        changes: dict[str, dict[str, Any]] = {
            **{hint: {"first": other, "second": other} for hint, other in ACTIVATIONS.items()},
            "The first activation is missing.": {"first": identity},
            "The second activation is missing.": {"second": identity},
            "The first normalisation is missing.": {"norms": (False, True)},
            "The second normalisation is missing.": {"norms": (True, False)},
            "The normalisations are missing.": {"norms": (False, False)},
            "The normalisations have a single group: they should have 32.": {"groups": 1},
        }
        mistakes = {hint: skip + residual(x, state, **each) for hint, each in changes.items()} | {
            "x is not added at the end.": correction,
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


# Resampling.


@check("resampling", points=2)
def downsample_pads_right_and_bottom(submission: Submission) -> None:
    """Downsample halves the size, with zeros on the right and at the bottom only."""
    block = loaded(submission, "Downsample", 6, shapes={"conv": (6, 6, 3, 3)})
    state, x = block.state(), torch.randn(2, 6, 8, 10)

    def padded(*sides: int) -> Tensor:
        return convolve(functional.pad(x, sides), state, "conv", stride=2)

    found = block.tensor(
        "", x, shape=(2, 6, 4, 5), hint="Pad by (0, 1, 0, 1), then a stride of 2, padding 0."
    )
    mistakes = {
        "All four sides are padded: (0, 1, 0, 1), and padding=0 in the convolution.": padded(
            1, 1, 1, 1
        ),
        "The zeros are on the left and at the top: (0, 1, 0, 1).": padded(1, 0, 1, 0),
    }
    message = "Downsample does not give what its weights lead to."
    explain(found, padded(0, 1, 0, 1), mistakes, message)


@check("resampling", points=2)
def upsample_repeats_pixels(submission: Submission) -> None:
    """Upsample repeats each pixel in a square of four, then convolves."""
    block = loaded(submission, "Upsample", 6, shapes={"conv": (6, 6, 3, 3)})
    state, x = block.state(), torch.randn(2, 6, 3, 4)
    found = block.tensor("", x, shape=(2, 6, 6, 8))

    def convolved(y: Tensor) -> Tensor:
        return convolve(y, state, "conv", padding=1)

    def doubled(y: Tensor, mode: str = "nearest") -> Tensor:
        return functional.interpolate(y, scale_factor=2, mode=mode)

    mistakes = {
        "The convolution comes after the repetition.": doubled(convolved(x)),
        "The convolution is missing.": doubled(x),
        'The pixels are blended: mode="nearest".': convolved(doubled(x, "bilinear")),
    }
    message = "Upsample does not give what its weights lead to."
    explain(found, convolved(doubled(x)), mistakes, message)
