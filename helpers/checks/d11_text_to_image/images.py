"""The checks of latents_to_pil: from latents to images."""

import torch
from torch import Tensor

from helpers.checking import Submission, check, expect, expect_close, fail
from helpers.checks.common.tiny_diffusion import CHANNELS, FACTOR, lend, painted, picture_pixels
from helpers.models import LATENT_SCALE


class Decoded:
    """One call of the student's latents_to_pil, and what the tiny autoencoder recorded of it.

    Attributes:
        latents: (N, 4, h, w).
        z: what was decoded, all calls joined, (N, 4, h, w).
        images: what the autoencoder made of it, (N, 3, 4 h, 4 w).
        pictures: what was returned, unchecked.
    """

    def __init__(self, submission: Submission, latents: Tensor) -> None:
        self.latents = latents
        found = lend(submission, "latents_to_pil", latents)
        self.pictures = found.get("value")
        decoded = found.get("decoded")
        calls = decoded if isinstance(decoded, list) else []
        shaped = [z for z in calls if isinstance(z, Tensor) and z.shape[1:] == latents.shape[1:]]
        self.z = torch.cat(shaped).float() if shaped else torch.empty(0)
        expect(
            self.z.shape == latents.shape and bool(torch.isfinite(self.z).all()),
            f"For latents {tuple(latents.shape)} the autoencoder should decode just as many.",
            "Call vae.decode on all of them.",
        )
        self.images = painted(self.z)

    def pixels(self) -> Tensor:
        """The pictures' pixels, (N, 3, 4 h, 4 w), as numbers from 0 to 255, or fail."""
        pictures = self.pictures
        if not isinstance(pictures, list) or len(pictures) != len(self.latents):
            fail(f"For {len(self.latents)} latents there should be a list of as many images.")
        arrays = []
        for picture in pictures:
            array = picture_pixels(picture)
            if array is None:
                fail("The list should hold PIL images.", "Image.fromarray makes one.")
            if array.ndim != 3 or array.shape[2] != 3:
                mode = str(picture.get("mode"))
                fail(f'The images should be in RGB, but their mode is "{mode:.10}".')
            arrays.append(array.permute(2, 0, 1).float())
        if arrays[0].shape != self.images.shape[1:] or len({a.shape for a in arrays}) > 1:
            height, width = self.images.shape[2:]
            got = " x ".join(map(str, arrays[0].shape[1:]))
            swapped = arrays[0].shape[1:] == (width, height)
            fail(
                f"The images should be {height} pixels high and {width} wide; they are {got}.",
                "Height and width are swapped: permute(0, 2, 3, 1)." if swapped else "",
            )
        return torch.stack(arrays)


def moderate_latents() -> Tensor:
    """Latents whose images stay within [-1, 1] once they are unscaled: (2, 4, 5, 3)."""
    return 1.4 * torch.rand(2, CHANNELS, 5, 3) - 0.7


@check("images", points=5)
def latents_are_unscaled(submission: Submission) -> None:
    """The autoencoder decodes the latents divided by 0.18215."""
    run = Decoded(submission, torch.randn(3, CHANNELS, 4, 2))
    mistakes = {
        "The latents went in as they are.": run.latents,
        "They are multiplied by it: divide.": run.latents * LATENT_SCALE,
        "They are divided by it twice.": run.latents / LATENT_SCALE**2,
    }
    message = f"What is decoded should be the latents divided by {LATENT_SCALE}."
    expect_close(run.z, run.latents / LATENT_SCALE, message, mistakes)


@check("images", points=4)
def pixels_have_their_range(submission: Submission) -> None:
    """Pixels from -1 to 1 become bytes from 0 to 255, and channels keep their order."""
    run = Decoded(submission, moderate_latents())
    images = run.images.clamp(-1, 1)
    right = 127.5 * (images + 1)
    mistakes = {
        "Pixels below 0 are cut off or wrap around: add 1 and divide by 2 first.": 255
        * images.clamp(min=0),
        "Bytes that are negative wrap around: add 1 and divide by 2 first.": (255 * images) % 256,
        "They are not multiplied by 255.": (images + 1) / 2,
        "Divide by 2 as well: [-1, 1] is 2 wide.": (255 * (images + 1)).clamp(max=255),
        "The channels are in the reverse order.": right.flip(1),
        "Height and width are swapped within the image.": right.mT.reshape(right.shape),
        "The channels were moved by reshaping: permute(0, 2, 3, 1).": right.reshape(
            len(right), *right.shape[2:], 3
        ).permute(0, 3, 1, 2),
    }
    found = run.pixels()

    def same(pixels: Tensor) -> bool:
        # Whether they are rounded or cut off is another check's concern.
        return float((found - pixels).abs().max()) <= 1.01

    hints = [hint for hint, wrong in mistakes.items() if same(wrong)]
    expect(same(right), "[-1, 1] is not mapped to [0, 255].", *hints[:1])


@check("images", points=3)
def pixels_beyond_the_range_are_clamped(submission: Submission) -> None:
    """Pixels below -1 become 0 and those above 1 become 255."""
    # So large that even a wrong scale leaves them beyond the range.
    signs = torch.randint(2, (2, CHANNELS, 5, 3)) * 2.0 - 1
    run = Decoded(submission, signs * (100 + 20 * torch.rand_like(signs)))
    share = float((run.pixels() != 255.0 * (run.images > 0)).float().mean())
    expect(
        share == 0,
        f"{share:.0%} of the pixels beyond [-1, 1] are neither 0 nor 255 as they should be.",
        "Bytes wrap around: clamp before you convert.",
    )


@check("images", points=2)
def pixels_are_rounded(submission: Submission) -> None:
    """Pixels are rounded to the nearest whole number."""
    run = Decoded(submission, moderate_latents())
    found = run.pixels()
    exact = 127.5 * (run.images.double().clamp(-1, 1) + 1)
    # Where both ways differ clearly.
    clear = (exact - exact.floor() - 0.75).abs() < 0.15
    cut = bool((found[clear] == exact[clear].floor()).all())
    hint = "Conversion to bytes cuts off what is behind the point: call round() before."
    expect(
        bool((found[clear] == exact[clear].round()).all()),
        "Pixels are not the nearest whole numbers.",
        hint if cut else "",
    )


@check("images", points=3)
def images_are_pil_images(submission: Submission) -> None:
    """There is a list of PIL images in RGB, one for each of the latents, wide as they should be."""
    right = (3 * FACTOR, 5 * FACTOR)
    for n_images in (2, 1):
        run = Decoded(submission, torch.randn(n_images, CHANNELS, 5, 3))
        run.pixels()
        for picture in run.pictures if isinstance(run.pictures, list) else []:
            mode, size = picture.get("mode"), picture.get("size")
            expect(mode == "RGB", f'The images should have the mode "RGB", and not "{mode!s:.10}".')
            expect(
                size == list(right),
                f"For latents 5 high and 3 wide the images should have the size {right}, and not "
                f"{size!s:.30}.",
            )
