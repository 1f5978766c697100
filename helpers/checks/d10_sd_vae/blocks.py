"""The checks of the blocks: attention over pixels, residual blocks and resampling."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Object, Submission, check, close, expect, expect_number, fail
from helpers.checks.common.architecture import expect_kept
from helpers.checks.d10_sd_vae.probing import (
    ACTIVATIONS,
    State,
    convolve,
    explain,
    loaded,
    normalise,
    silu,
)

#: Numbers of groups that may be taken for 32.
GROUPS = (1, 2, 4, 8, 16, 64)
#: Numbers that may be taken for an eps of 1e-6.
EPSILONS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-7, 1e-8)


def likely_eps(found: Tensor, right: Callable[[float], Tensor]) -> float:
    """The eps that explains an answer, or 1e-6; see :func:`expect_small_eps`."""
    known = [eps for eps in (1e-6, *EPSILONS) if close(found, right(eps), 2e-5)]
    return known[0] if known else 1e-6


def expect_small_eps(block: Object, x: Tensor, right: Callable[[float], Tensor], what: str) -> None:
    """Fail if a block adds more than 1e-6 to the variance that it divides by.

    Args:
        x: inputs so small that their variance is of that order.
        right: the output for a certain eps.
    """
    found = block.tensor("", x, shape=tuple(x.shape), what=f"{what}'s output")
    for eps in EPSILONS:
        # Other mistakes are another check's concern.
        expect(
            close(right(1e-6), right(eps), 1e-3) or not close(found, right(eps), 1e-3),
            f"For very small inputs {what} gives what an eps of {eps:g} leads to.",
            "nn.GroupNorm(32, channels, eps=1e-6).",
        )


# Attention over pixels.


def new_attention_block(submission: Submission) -> tuple[Object, State]:
    """An AttentionBlock for 64 channels with a stand-in for its attention, and its weights."""
    block, state = loaded(
        submission, "AttentionBlock", 64, shapes={"norm": (64,)}, instead=("SelfAttention",)
    )
    if not any(name.startswith("attention.") for name in state):
        fail("AttentionBlock(64) should have a module `attention`.")
    kind = block.layers("attention")[0].type_name
    expect(kind == "SelfAttention", f"`attention` should be a SelfAttention; it is a {kind}.")
    return block, state


def attended(block: Object, vectors: Tensor) -> Tensor:
    """What the block's attention makes of vectors (N, T, 64)."""
    return block.tensor("attention", vectors, shape=tuple(vectors.shape))


def over_pixels(block: Object, x: Tensor) -> Tensor:
    """What the block's attention gives for an image (N, 64, h, w), pixel by pixel."""
    found = torch.empty_like(x)
    columns = [x[..., i, j] for i in range(x.shape[2]) for j in range(x.shape[3])]
    for number, vector in enumerate(attended(block, torch.stack(columns, dim=1)).unbind(1)):
        found[..., number // x.shape[3], number % x.shape[3]] = vector
    return found


@check("attention_block", points=5)
def attention_block_adds_attention_over_pixels(submission: Submission) -> None:
    """AttentionBlock gives x plus the attention over the normalised pixels, with one head."""
    block, state = new_attention_block(submission)
    n_heads, dim = (
        expect_number(block.get(f"attention.{name}"), what=f"`{name}` of the attention")
        for name in ("n_heads", "embed_dim")
    )
    expect(
        (n_heads, dim) == (1, 64),
        f"For 64 channels the attention has {n_heads:g} head{'s' * (n_heads != 1)} for vectors of "
        f"{dim:g} number{'s' * (dim != 1)}.",
        "SelfAttention(1, channels).",
    )
    x = 2 * torch.randn(2, 64, 3, 5) + 1
    expect_kept(block, "", x)
    found = block.tensor("", x, shape=tuple(x.shape))
    # Whether its eps is right is another check's concern.
    eps = likely_eps(found, lambda eps: x + over_pixels(block, normalise(x, state, "norm", eps)))
    normal = normalise(x, state, "norm", eps)
    right, rows = over_pixels(block, normal), attended(block, normal.reshape(2, 15, 64))
    mixed = torch.stack([vector.flatten(1) for vector in right.unbind(1)], dim=-1)
    mistakes = {
        "x is not added at the end.": right,
        "The normalised x is added: keep x itself for the sum.": normal + right,
        "The normalisation is missing.": x + over_pixels(block, x),
        "The normalisation comes after the attention: normalise first.": x
        + normalise(over_pixels(block, x), state, "norm"),
        "The sum is normalised: normalise x before the attention, and nothing after it.": normalise(
            x + over_pixels(block, x), state, "norm"
        ),
        "The attention is missing.": x + normal,
        "The pixels are not the vectors: .flatten(2).transpose(1, 2).": x + rows.reshape(x.shape),
        "The pixels are not the vectors: .flatten(2).transpose(1, 2), and back.": x
        + rows.mT.reshape(x.shape),
        "On the way back, transpose before the reshape.": x + mixed.reshape(x.shape),
        **{
            f"The normalisation has {n} group{'s' * (n > 1)}: it should have 32.": x
            + over_pixels(block, normalise(x, state, "norm", groups=n))
            for n in GROUPS
        },
    }
    explain(found, x + right, mistakes, "AttentionBlock is not x + attention over pixels.")


@check("attention_block", points=1)
def attention_block_has_a_small_eps(submission: Submission) -> None:
    """AttentionBlock normalises with an eps of 1e-6."""
    block, state = new_attention_block(submission)
    x = 1e-3 * torch.randn(2, 64, 3, 5)

    def right(eps: float) -> Tensor:
        return x + over_pixels(block, normalise(x, state, "norm", eps))

    expect_small_eps(block, x, right, "AttentionBlock")


# The residual block.

#: What is done to x, one after the other, before it is added.
CORRECTION = ("norm1", "silu", "conv1", "norm2", "silu", "conv2")


def follow(
    steps: Sequence[str],
    x: Tensor,
    state: State,
    *,
    activation: Callable[[Tensor], Tensor] = silu,
    groups: int = 32,
    eps: float = 1e-6,
) -> Tensor:
    """What a row of steps makes of x; each is the name of a layer, or "silu"."""
    for step in steps:
        if step == "silu":
            x = activation(x)
        elif step.startswith("norm"):
            x = normalise(x, state, step, eps, groups)
        else:
            x = convolve(x, state, step, padding=1)
    return x


def wrong_steps() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows of steps with one mistake, and what it is."""
    named = [
        step if step != "silu" else f"the activation after {CORRECTION[n - 1]}"
        for n, step in enumerate(CORRECTION)
    ]
    for n, (step, name) in enumerate(zip(CORRECTION, named, strict=True)):
        yield f"{name[0].upper()}{name[1:]} is missing.", (*CORRECTION[:n], *CORRECTION[n + 1 :])
        if n:
            before = (*CORRECTION[: n - 1], step, CORRECTION[n - 1], *CORRECTION[n + 1 :])
            yield f"{name[0].upper()}{name[1:]} comes before {named[n - 1]}.", before
        if step != "silu":
            other = step[:-1] + ("2" if step.endswith("1") else "1")
            twice = (*CORRECTION[:n], other, *CORRECTION[n + 1 :])
            yield f"{other} is used twice, and {step} not at all.", twice
    none = tuple(step for step in CORRECTION if step != "silu")
    yield "The activations are missing.", none
    yield "The normalisations are missing.", tuple(s for s in CORRECTION if s[:4] != "norm")
    before = ("silu", "norm1", "conv1", "silu", "norm2", "conv2")
    yield "The activations come before the normalisations: normalise first.", before
    after = ("conv1", "norm1", "silu", "conv2", "norm2", "silu")
    yield "The convolutions come first: normalise, activate, and then convolve.", after
    yield "The second convolution comes last: conv2(SiLU(norm2(...))).", after[:-1]
    swapped = ("norm2", "silu", "conv2", "norm1", "silu", "conv1")
    yield "The two halves are exchanged: norm1 and conv1 come first.", swapped
    exchanged = ("norm2", "silu", "conv1", "norm1", "silu", "conv2")
    yield "norm1 and norm2 are exchanged.", exchanged
    exchanged = ("norm1", "silu", "conv2", "norm2", "silu", "conv1")
    yield "conv1 and conv2 are exchanged.", exchanged


def residual_shapes(n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a residual block's weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "norm1": (n_in,),
        "conv1": (n_out, n_in, 3, 3),
        "norm2": (n_out,),
        "conv2": (n_out, n_out, 3, 3),
    }
    return shapes if n_in == n_out else {**shapes, "shortcut": (n_out, n_in, 1, 1)}


def residual_mistakes(x: Tensor, state: State, skip: Tensor) -> Iterator[tuple[str, Tensor]]:
    """What each mistake in a residual block gives, by what it is; ``skip`` is what is added."""
    correction = follow(CORRECTION, x, state)
    yield "x is not added at the end.", correction
    yield "There is an activation after the sum: nothing follows it.", silu(skip + correction)
    text = "There is an activation after conv2: nothing follows it but the sum."
    yield text, skip + silu(correction)
    yield "The correction is missing.", skip
    changed = normalise(x, state, "norm1")
    for sentence, start in (
        ("normalised x", changed),
        ("normalised and activated x", silu(changed)),
    ):
        text = f"The {sentence} is added: keep x itself for the sum."
        if "shortcut.weight" in state:
            yield text, convolve(start, state, "shortcut") + correction
        elif skip.shape == start.shape:
            yield text, start + correction
    for text, activation in ACTIVATIONS.items():
        yield text, skip + follow(CORRECTION, x, state, activation=activation)
    for n in GROUPS:
        if x.shape[1] % n == 0 and skip.shape[1] % n == 0:
            text = f"The normalisations have {n} group{'s' * (n > 1)}: they should have 32."
            yield text, skip + follow(CORRECTION, x, state, groups=n)
    for text, steps in wrong_steps():
        try:
            wrong = follow(steps, x, state)
        except RuntimeError:  # layers of other numbers of channels
            continue
        if wrong.shape == skip.shape:
            yield text, skip + wrong


def expect_correction(submission: Submission, n_in: int, n_out: int) -> None:
    """Fail unless a ResidualBlock gives shortcut(x) plus its correction."""
    shapes = residual_shapes(n_in, n_out)
    block, state = loaded(submission, "ResidualBlock", n_in, n_out, shapes=shapes, biased=True)
    expect(
        n_in != n_out or "shortcut.weight" not in state,
        "Where the numbers of channels agree, x is added as it is.",
        "self.shortcut = nn.Identity().",
    )
    x = 2 * torch.randn(2, n_in, 5, 4) + 1
    expect_kept(block, "", x)
    found = block.tensor("", x, shape=(2, n_out, 5, 4))
    skip = x if n_in == n_out else convolve(x, state, "shortcut")

    def right(eps: float) -> Tensor:
        return skip + follow(CORRECTION, x, state, eps=eps)

    if close(found, right(1e-6), 2e-5) or likely_eps(found, right) != 1e-6:
        return  # whether its eps is right is another check's concern
    message = f"ResidualBlock({n_in}, {n_out}) does not give what its weights lead to."
    explain(found, right(1e-6), dict(residual_mistakes(x, state, skip)), message)


@check("residual_block", points=6)
def residual_block_adds_its_correction(submission: Submission) -> None:
    """ResidualBlock gives shortcut(x) plus norm, SiLU, convolution, twice."""
    for n_in, n_out in ((32, 32), (64, 64), (32, 64)):
        expect_correction(submission, n_in, n_out)


@check("residual_block", points=1)
def residual_block_has_a_small_eps(submission: Submission) -> None:
    """ResidualBlock normalises with an eps of 1e-6."""
    block, state = loaded(submission, "ResidualBlock", 64, 64, shapes=residual_shapes(64, 64))
    x = 1e-3 * torch.randn(2, 64, 5, 4)

    def right(eps: float) -> Tensor:
        return x + follow(CORRECTION, x, state, eps=eps)

    expect_small_eps(block, x, right, "ResidualBlock")


# Resampling.


def framed(x: Tensor, top: int, left: int, size: tuple[int, int]) -> Tensor:
    """An image (N, C, h, w) on a black one of another size."""
    canvas = torch.zeros(*x.shape[:2], *size)
    canvas[..., top : top + x.shape[2], left : left + x.shape[3]] = x
    return canvas


def odd_height(block: Object, x: Tensor) -> int:
    """The height of what a block makes of images whose sizes are odd, or 0."""
    answer = block.call("", x)
    return answer.shape[2] if isinstance(answer, Tensor) and answer.ndim == 4 else 0


@check("resampling", points=2)
def downsample_pads_right_and_bottom(submission: Submission) -> None:
    """Downsample halves the size, with zeros on the right and at the bottom only."""
    shapes = {"conv": (6, 6, 3, 3)}
    block, state = loaded(submission, "Downsample", 6, shapes=shapes, biased=True)
    x = torch.randn(2, 6, 8, 10)
    expect_kept(block, "", x)
    found = block.tensor(
        "", x, shape=(2, 6, 4, 5), hint="Pad by (0, 1, 0, 1), then a stride of 2, padding 0."
    )

    def padded(top: int, left: int) -> Tensor:
        return convolve(framed(x, top, left, (9, 11)), state, "conv", stride=2)

    repeated = convolve(functional.pad(x, (0, 1, 0, 1), "replicate"), state, "conv", stride=2)
    every_pixel = convolve(x, state, "conv", padding=1)
    # With even sizes, zeros on all four sides lead to the same as those on the left and at the top.
    corner = "The zeros are on the left and at the top: (0, 1, 0, 1)."
    if not close(found, padded(0, 0)) and odd_height(block, x[..., :7, :9]) == 4:
        corner = "All four sides are padded: (0, 1, 0, 1), and padding=0 in the convolution."
    mistakes = {
        corner: padded(1, 1),
        "The zeros are on the left and at the bottom: (0, 1, 0, 1).": padded(0, 1),
        "The zeros are on the right and at the top: (0, 1, 0, 1).": padded(1, 0),
        "What is padded is no zeros, but the last pixels again.": repeated,
        "The convolution has a stride of 2; it is no average of a convolution's pixels.": (
            functional.avg_pool2d(every_pixel, 2)
        ),
        "The convolution has a stride of 2; it is no maximum of a convolution's pixels.": (
            functional.max_pool2d(every_pixel, 2)
        ),
    }
    message = "Downsample does not give what its weights lead to."
    explain(found, padded(0, 0), mistakes, message)


@check("resampling", points=2)
def upsample_repeats_pixels(submission: Submission) -> None:
    """Upsample repeats each pixel in a square of four, then convolves."""
    block, state = loaded(submission, "Upsample", 6, shapes={"conv": (6, 6, 3, 3)}, biased=True)
    x = torch.randn(2, 6, 3, 4)
    expect_kept(block, "", x)
    found = block.tensor(
        "", x, shape=(2, 6, 6, 8), hint="Repeat the pixels to twice the size, then self.conv."
    )

    def convolved(y: Tensor) -> Tensor:
        return convolve(y, state, "conv", padding=1)

    def squares(y: Tensor, square: Tensor) -> Tensor:
        return torch.kron(y, square)

    ones, corner = torch.ones(2, 2), torch.tensor([[1.0, 0], [0, 0]])
    smooth = nn.Upsample(size=(6, 8), mode="bilinear")
    mistakes = {
        "The convolution comes after the repetition.": squares(convolved(x), ones),
        "The convolution is missing.": squares(x, ones),
        'The pixels are blended: mode="nearest".': convolved(smooth(x)),
        'The pixels are blended, corner to corner: mode="nearest".': convolved(
            nn.UpsamplingBilinear2d(size=(6, 8))(x)
        ),
        'The pixels are blended: mode="nearest", not "bicubic".': convolved(
            nn.Upsample(size=(6, 8), mode="bicubic")(x)
        ),
        "The image is repeated as a whole: repeat each pixel.": convolved(x.tile(2, 2)),
        "Zeros stand between the pixels: repeat each pixel.": convolved(squares(x, corner)),
    }
    message = "Upsample does not give what its weights lead to."
    explain(found, convolved(squares(x, ones)), mistakes, message)
