"""The checks of latents_to_pil: from latents to images."""

import torch
from torch import Tensor

from helpers.checking import StudentError, Submission, check, expect, expect_close, fail
from helpers.checks.common.tiny_diffusion import (
    CHANNELS,
    FACTOR,
    expect_same_for_several,
    painted,
    picture_pixels,
    try_out,
)
from helpers.models import LATENT_SCALE

#: Images of the tiny autoencoder within [-1, 1], and images mostly far beyond.
MODERATE, STRONG = 0.25, 40.0


class Decoded:
    """One call of the student's latents_to_pil, and what the tiny autoencoder recorded of it.

    Attributes:
        latents: (N, 4, 5, 3), drawn at random.
        z: what was decoded, all calls joined, (N, 4, 5, 3).
        images: what the autoencoder made of it, (N, 3, 20, 12).
        returned: what came back, unchecked.
        overwrote: whether the latents that were passed in are changed.
    """

    def __init__(self, submission: Submission, n: int = 1, contrast: float = MODERATE) -> None:
        self.latents = torch.randn(n, CHANNELS, 5, 3)
        found = try_out(submission, "latents_to_pil", self.latents, contrast=contrast)
        error = found.get("error")
        self._error = error if isinstance(error, StudentError) else None
        self.returned = found.get("value")
        self.overwrote = bool(found.get("overwrote"))
        decoded = found.get("decoded")
        calls = decoded if isinstance(decoded, list) else []
        shape = self.latents.shape
        shaped = [z for z in calls if isinstance(z, Tensor) and z.shape[1:] == shape[1:]]
        self.z = torch.cat(shaped).float() if shaped else torch.empty(0)
        if self.z.shape != shape and self._error is not None:
            raise self._error
        expect(
            self.z.shape == shape and bool(torch.isfinite(self.z).all()),
            f"For latents {tuple(shape)} the autoencoder should decode just as many.",
            "Call vae.decode on all of them.",
        )
        self.images = painted(self.z, contrast)

    def pictures(self) -> list[object]:
        """What was returned for each of the latents, or fail; one image alone counts as a list."""
        if self._error is not None:
            raise self._error
        found = self.returned
        pictures = [found] if isinstance(found, dict) else found
        if not isinstance(pictures, list) or len(pictures) != len(self.latents):
            got = f"{len(pictures)} things" if isinstance(pictures, list) else "something else"
            fail(
                f"For latents of {len(self.latents)} there should be a list of as many; not {got}."
            )
        return pictures

    def expect_as_many(self) -> None:
        """Fail unless there is an image for each of the latents."""
        self.pictures()

    def pixels(self) -> Tensor:
        """The pictures' pixels, (N, 3, 20, 12), as numbers from 0 to 255, or fail.

        A transposed image is turned back, and an array counts as an image: this is the concern of
        another check.
        """
        arrays = []
        for picture in self.pictures():
            array = picture_pixels(picture)
            if array is None:
                fail("The list should hold PIL images.", "Image.fromarray makes one.")
            size = tuple(self.images.shape[2:])
            if array.ndim != 3 or tuple(array.shape) not in ((*size, 3), (*size[::-1], 3)):
                got = tuple(array.shape)
                fail(
                    f"The pixels of an image should have shape {(*size, 3)}; they have {got}.",
                    "Move the channels to the end."
                    if got[0] == 3
                    else "It has no colours: it should be in RGB."
                    if array.ndim == 2
                    else "",
                )
            array = array if array.shape[:2] == size else array.transpose(0, 1)
            arrays.append(array.permute(2, 0, 1).float())
        return torch.stack(arrays)


def expect_unscaled(run: Decoded) -> None:
    """Fail unless the latents are divided before they are decoded."""
    mistakes = {
        "The latents went in as they are.": run.latents,
        "They are multiplied by it: divide.": run.latents * LATENT_SCALE,
        "They are divided by it twice.": run.latents / LATENT_SCALE**2,
    }
    message = f"What is decoded should be the latents divided by {LATENT_SCALE}."
    expect_close(run.z, run.latents / LATENT_SCALE, message, mistakes)


@check("images", points=4)
def latents_are_unscaled(submission: Submission) -> None:
    """The autoencoder decodes the latents divided by 0.18215."""
    expect_unscaled(Decoded(submission))


@check("images", points=1)
def latents_stay_as_they_are(submission: Submission) -> None:
    """latents_to_pil does not change the latents that it is given."""
    run = Decoded(submission)
    run.pictures()
    expect(
        not run.overwrote,
        "The latents that are passed in are changed.",
        "`latents /= ...` works in place: `latents = latents / ...` makes a new tensor.",
    )


def expect_range(run: Decoded) -> None:
    """Fail unless pixels from -1 to 1 become bytes."""
    images = run.images.clamp(-1, 1)
    right = 127.5 * (images + 1)
    mistakes = {
        "Pixels below 0 are cut off or wrap around: add 1 and divide by 2 first.": 255
        * images.clamp(min=0),
        "Bytes that are negative wrap around: add 1 and divide by 2 first.": (255 * images) % 256,
        "They are not multiplied by 255.": (images + 1) / 2,
        "Divide by 2 as well: [-1, 1] is 2 wide.": (255 * (images + 1)).clamp(max=255),
        "They wrap around. Divide by 2 as well: [-1, 1] is 2 wide.": (255 * (images + 1)) % 256,
        "Clamp to [-1, 1], or clamp after the mapping.": 127.5 * (images.clamp(min=0) + 1),
        "They are multiplied by 128.": 128 * (images + 1),
        "The channels are in the reverse order.": right.flip(1),
        "The image is upside down.": right.flip(2),
        "Left and right are exchanged.": right.flip(3),
        "Height and width are swapped within the image.": right.mT.reshape(right.shape),
        "The channels were moved by reshaping: permute(0, 2, 3, 1).": right.reshape(
            len(right), *right.shape[2:], 3
        ).permute(0, 3, 1, 2),
    }
    if len(right) > 1:
        mistakes["The images come in the reverse order."] = right.flip(0)
    found = run.pixels()
    if float(found.max()) > 50 and float((found - found[:, :1]).abs().max()) <= 1:
        fail("The image is grey: each pixel has three equal numbers.", "Keep its colours.")

    def same(pixels: Tensor) -> bool:
        # Whether they are rounded or cut off is another check's concern.
        return float((found - pixels).abs().max()) <= 1.01

    hints = [hint for hint, wrong in mistakes.items() if same(wrong)]
    expect(same(right), "[-1, 1] is not mapped to [0, 255].", *hints[:1])


@check("images", points=4)
def pixels_have_their_range(submission: Submission) -> None:
    """Pixels from -1 to 1 become bytes from 0 to 255, and channels keep their order."""
    expect_range(Decoded(submission))


@check("images", points=2)
def pixels_beyond_the_range_are_clamped(submission: Submission) -> None:
    """Pixels below -1 become 0 and those above 1 become 255."""
    run = Decoded(submission, contrast=STRONG)
    # So far beyond that a wrong scale leaves them beyond the range.
    far = run.images.abs() > 2.1
    found = run.pixels()[far]
    share = float((found != 255.0 * (run.images[far] > 0)).float().mean())
    wrapped = (127.5 * (run.images[far] + 1)).remainder(256)
    off = (found - wrapped).abs()
    # Most, since a float32 that large is rounded by up to a level and more.
    wraps = float((torch.minimum(off, 256 - off) < 1.5).float().mean()) > 0.9
    expect(
        share == 0,
        f"{share:.0%} of the pixels beyond [-1, 1] are neither 0 nor 255 as they should be.",
        "Bytes wrap around: clamp before you convert." if wraps else "",
    )


@check("images", points=2)
def pixels_are_rounded(submission: Submission) -> None:
    """Pixels are rounded to the nearest whole number."""
    run = Decoded(submission)
    found = run.pixels()
    exact = 127.5 * (run.images.double().clamp(-1, 1) + 1)
    if float((found == (exact * 128 / 127.5).round()).float().mean()) > 0.99:
        return  # a factor of 128 is for another check
    # Where it is clear which number is the nearest.
    clear = ((exact - exact.floor() - 0.5).abs() - 0.25).abs() < 0.15
    cut = bool((found[clear] == exact[clear].floor()).all())
    hint = "Conversion to bytes cuts off what is after the point: call round() before."
    expect(
        bool((found[clear] == exact[clear].round()).all()),
        "Pixels are not the nearest whole numbers.",
        hint if cut else "",
    )


@check("images", points=2)
def images_are_pil_images(submission: Submission) -> None:
    """There is a list with a PIL image in RGB, as wide and as high as it should be."""
    run = Decoded(submission)
    (picture,) = run.pictures()
    mode = picture.get("mode") if isinstance(picture, dict) else ""
    if mode in ("array", "") or not isinstance(picture, dict):
        fail("The list should hold PIL images.", "Image.fromarray makes one.")
    expect(mode == "RGB", f'The images should have the mode "RGB", and not "{mode!s:.10}".')
    right = [3 * FACTOR, 5 * FACTOR]
    size = picture.get("size")
    expect(
        size == right,
        f"The image of latents 5 high and 3 wide should be {right[1]} pixels high and {right[0]} "
        "wide.",
        "Height and width are swapped: permute(0, 2, 3, 1)." if size == right[::-1] else "",
    )
    expect(
        isinstance(run.returned, list),
        "There should be a list of images, even if it is only one.",
    )


@check("images", points=2)
def several_latents_become_several_images(submission: Submission) -> None:
    """Latents of three images become a list of three."""
    expect_same_for_several(
        lambda n_images: Decoded(submission, n_images),
        (expect_unscaled, Decoded.expect_as_many, expect_range),
    )
