"""The check of the transform that prepares pictures."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_tensor,
    fail,
    likely_cause,
)

#: How often a transform is applied to one picture: a flip with a chance of 0.1 then passes in one
#: of a million runs, and one with a chance of 0.5 never.
N_REPEATS = 140


@check("preparation", points=4)
def pictures_are_resized_and_cropped(submission: Submission) -> None:
    """preprocessing resizes the shorter side, cuts out the middle, and makes a tensor in [0, 1]."""
    for height, width, size in ((218, 178, 150), (90, 130, 48), (40, 30, 64)):
        pixels = _smooth_picture(height, width)
        found = _prepare(submission, pixels, size)()
        right = _prepared(pixels, size)
        if _alike(found, right):
            continue
        if float(found.max()) > 1.5 or float(found.min()) < -0.1:
            fail(
                f"Pixels lie between {float(found.min()):.3g} and {float(found.max()):.3g}; they "
                "should lie between 0 and 1.",
                "transforms.ToTensor() divides by 255; nothing has to be normalised.",
            )
        squeezed = v2.functional.resize(pixels, [size, size], antialias=True).float() / 255
        cut = v2.functional.center_crop(pixels, [size, size]).float() / 255
        resized = _resized(pixels, size)
        mistakes = {
            "The picture is squeezed into a square: Resize(image_size), with one number, keeps its "
            "proportions.": squeezed,
            "Only the middle is cut out: resize first.": cut,
            "The corner is cut out, and not the middle.": resized[:, :size, :size],
            "The other corner is cut out, and not the middle.": resized[:, -size:, -size:],
            "The picture is mirrored.": right.flip(2),
            "The picture is upside down.": right.flip(1),
            "Height and width are exchanged.": right.mT,
            "The colours are inverted.": 1 - right,
            "The colours are in another order: RGB becomes BGR.": right.flip(0),
        }
        if float((found.amax(dim=0) - found.amin(dim=0)).max()) < 0.02:
            fail("The result is gray.", "Its colours should be those of the picture.")
        other = "" if _always_the_same(submission) else _RANDOM
        fail(
            "The result is not the middle of the resized picture.",
            other or likely_cause(found, mistakes, same=_alike),
        )
    expect(
        _always_the_same(submission),
        "The same picture gives different results.",
        _RANDOM,
    )


_RANDOM = "Is something in the transform random? Each picture should be prepared in one way."


def _prepare(submission: Submission, pixels: Tensor, size: int) -> Callable[[], Tensor]:
    """Applies the student's transform to a picture (3, h, w), each time anew: (3, size, size)."""
    transform = submission.call("preprocessing", size)
    if not isinstance(transform, Object):
        fail(
            "preprocessing should return a transform.",
            "return transforms.Compose([...]), without an image.",
        )
    image = submission.pil_image(pixels.permute(1, 2, 0).contiguous())
    height, width = pixels.shape[1:]

    def apply() -> Tensor:
        answer = transform.call("", image)
        if isinstance(answer, Object):
            fail(
                f"The transform gives something of type {answer.type_name}, and not a tensor.",
                "transforms.ToTensor() comes last.",
            )
        return expect_tensor(
            answer,
            (3, size, size),
            what=f"For a picture {width} wide and {height} high and image_size={size}, the result",
            hint="transforms.Resize(image_size), with one number, keeps the proportions; "
            "transforms.CenterCrop(image_size) makes the square.",
        )

    return apply


def _always_the_same(submission: Submission) -> bool:
    """Whether the student's transform gives the same for one picture each time."""
    ramp = torch.linspace(0, 255, 24 * 20).view(20, 24).to(torch.uint8)
    apply = _prepare(submission, torch.stack([ramp, ramp.flip(1), ramp.flip(0)]), 16)
    first = apply()
    return all(close(apply(), first) for _ in range(N_REPEATS))


def _smooth_picture(height: int, width: int) -> Tensor:
    """A random picture (3, height, width), uint8, that looks the same in every interpolation."""
    size = height, width
    smooth = functional.interpolate(
        torch.rand(1, 3, 5, 5), size, mode="bilinear", align_corners=True
    )
    return (255 * smooth[0]).round().to(torch.uint8)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether pictures are the same region of a smooth one, however they were interpolated."""
    return one.shape == other.shape and float((one - other).abs().mean()) < 0.02


def _resized(pixels: Tensor, size: int) -> Tensor:
    resized: Tensor = v2.functional.resize(pixels, [size], antialias=True).float() / 255
    return resized


def _prepared(pixels: Tensor, size: int) -> Tensor:
    """The middle of a picture (3, h, w), resized by its shorter side."""
    cropped: Tensor = v2.functional.center_crop(_resized(pixels, size), [size, size])
    return cropped
