"""The checks of the model's structure, read from what is executed."""

from typing import Any

import torch

from helpers.checking import Step, Submission, check, expect, fail
from helpers.checks.common.architecture import computed, expect_leak, layer_name
from helpers.checks.d9_image_variations.model import (
    CASES,
    LATENT_DIM,
    new_vae,
    pictures,
)

BLOCK = ["BatchNorm2d", "LeakyReLU"]
_NUMBERS = ("first", "second", "third", "fourth", "fifth")
#: Layers that do not belong between the last transposed convolution and the Sigmoid.
_NO_END = ("BatchNorm", "InstanceNorm", "GroupNorm", "LayerNorm", "Conv", "Linear")


def _pair(value: Any) -> list[Any]:
    """A setting of a convolution for both axes."""
    pair = value if isinstance(value, list | tuple) else [value]
    return list(pair) * (2 if len(pair) == 1 else 1)


def _strided(steps: list[Step], function: str) -> list[int]:
    """The places of the convolutions with stride 2 among the steps."""
    return [
        number
        for number, step in enumerate(steps)
        if step.function == function and _pair(step.settings.get("stride")) == [2, 2]
    ]


def _expect_block(names: list[str], which: str, kind: str) -> None:
    """Fail unless the layers that follow a convolution are BatchNorm2d and LeakyReLU."""
    if names == BLOCK:
        return
    found = f"What follows the {which} {kind} is {', '.join(names) or 'nothing'}; it should be "
    found += "BatchNorm2d, then LeakyReLU."
    hint = ""
    if names[:2] == BLOCK:
        hint = "Nothing else belongs to a block."
    elif names[:2] == BLOCK[::-1]:
        hint = "The normalisation comes before the activation."
    elif missing := [layer for layer in BLOCK if layer not in names]:
        hint = f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing there."
    fail(found, hint)


def _expect_settings(steps: list[Step], part: str) -> None:
    """Fail if a LeakyReLU leaks nothing or all, or BatchNorm works with the batch in eval mode."""
    for step in steps:
        if layer_name(step) == "LeakyReLU":
            expect_leak(step, part)
    expect(
        not any(s.function == "batch_norm" and s.settings.get("training") is True for s in steps),
        "A BatchNorm2d layer works with the statistics of the batch in evaluation mode, too.",
        "Leave track_running_stats as it is.",
    )


@check("architecture", points=2)
def encoder_blocks_are_as_described(submission: Submission) -> None:
    """Each block is a convolution (kernel 3, stride 2, padding 1), BatchNorm2d and LeakyReLU."""
    size, widths = CASES[0]
    model = new_vae(submission, size, widths)
    steps = computed(model, "encoder", pictures(2, size))
    names = [layer_name(step) for step in steps]
    starts = _strided(steps, "conv2d")
    expect(
        len(starts) == len(widths),
        f"For hidden_dims={widths} the encoder applies {len(starts)} convolutions with stride 2; "
        f"it should apply {len(widths)}, one for each block.",
    )
    side, ends = size, [*starts[1:], len(steps)]
    for which, start, end, width in zip(_NUMBERS, starts, ends, widths, strict=True):
        step = steps[start]
        weight = step.shapes.get("weight", ())
        given = step.shapes.get("input", ())[-1:]
        padding = [1, 1] if given == (side + 2,) else _pair(step.settings.get("padding"))
        for name, value, right in (
            ("kernel size", list(weight[2:]), [3, 3]),
            ("padding", padding, [1, 1]),
            ("number of channels", weight[:1], (width,)),
        ):
            shown, wanted = (each[0] if len(set(each)) == 1 else each for each in (value, right))
            expect(
                value == right,
                f"The {which} convolution of the encoder has a {name} of {shown}; for "
                f"hidden_dims={widths} it should be {wanted}.",
            )
        following = names[start + 1 : end]
        if end == len(steps) and following[:2] == BLOCK:
            expect(
                following == BLOCK,
                f"The encoder ends in {names[-1]}, which comes after the last block's LeakyReLU.",
                "After the LeakyReLU of the last block comes nn.Flatten alone.",
            )
        _expect_block(following, which, "convolution of the encoder")
        side = (side + 1) // 2
    _expect_settings(steps, "encoder")


@check("architecture", points=1)
def decoder_blocks_are_as_described(submission: Submission) -> None:
    """The decoder is a linear layer and transposed convolutions with BatchNorm2d and LeakyReLU."""
    size, widths = CASES[0]
    model = new_vae(submission, size, widths)
    steps = computed(model, "decoder", torch.randn(2, LATENT_DIM))
    names = [layer_name(step) for step in steps]
    starts = _strided(steps, "conv_transpose2d")
    expect(
        len(starts) == len(widths),
        f"For hidden_dims={widths} the decoder applies {len(starts)} transposed convolutions with "
        f"stride 2; it should apply {len(widths)}, one for each step.",
    )
    expect("Linear" in names[: starts[0]], "The decoder should begin with a linear layer.")
    channels = [steps[start].shapes.get("weight", (0, 0))[1] for start in starts[:-1]]
    right = list(widths[-2::-1])
    expect(
        channels == right,
        f"For hidden_dims={widths} the transposed convolutions before the last have {channels} "
        f"channels; they should have {right}.",
        "The decoder has the encoder's channels in reverse.",
    )
    for which, start, end in zip(_NUMBERS, starts[:-1], starts[1:], strict=False):
        following = [name for name in names[start + 1 : end] if name != "Upsample"]
        _expect_block(following, which, "transposed convolution")
    last = names[starts[-1] + 1 :]
    # "LU" is in the name of every activation of that family.
    extra = next((name for name in last if name.startswith(_NO_END) or "LU" in name), "")
    expect(
        not extra,
        f"The last transposed convolution is followed by {extra}.",
        "Only the Sigmoid comes after it.",
    )
    _expect_settings(steps, "decoder")
