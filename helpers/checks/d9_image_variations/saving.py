"""The checks of the file that shows an image and its variations.

Each image that is saved has a colour of its own and a gray mark, so that the file tells which image
is where, which way up, and in which colours, however the grid is laid out.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import CheckFailedError, Submission, check, expect, fail
from helpers.checks.common.architecture import expect_kept

SIDE = 32
#: Where the mark is on a grid of 4 by 4: no turned or mirrored image has it there.
_MARK = (0, 2)
_LEVELS = (0.2, 0.5, 0.8)

Change = Callable[[Tensor], Tensor]

#: What may become of the colours (..., 3), and what is said of it.
_COLOURS: dict[str, Change] = {
    "": lambda c: c,
    "The colours are inverted.": lambda c: 1 - c,
    "Red and blue are exchanged.": lambda c: c.flip(-1),
    "The colours are stretched: leave normalize=True out.": lambda c: (c - 0.2) / 0.6,
    "Everything is gray.": lambda c: c.mean(dim=-1, keepdim=True).expand_as(c),
}
#: What may become of the picture (H, W, 3), or of each image in it; the inverse of each.
_TURNS: dict[str, Change] = {
    "": lambda p: p,
    "transposed: an image is (channels, height, width)": lambda p: p.transpose(0, 1),
    "upside down": lambda p: p.flip(0),
    "mirrored": lambda p: p.flip(1),
    "turned": lambda p: p.flip(0, 1),
    "turned to the left": lambda p: p.rot90(-1),
    "turned to the right": lambda p: p.rot90(1),
}


def _random_colours(count: int) -> Tensor:
    """Different colours (count, 3), none of which is the inverse of another.

    The first is no other colour's mirror image, so that it shows each change of the colours.
    """
    # One of each pair of inverses: the others come after gray. Black is left out with white.
    colours = [torch.tensor(levels) for levels in product(_LEVELS, repeat=3)][1:13]
    while True:
        chosen = random.sample(colours, count)
        drawn = torch.stack([1 - c if random.random() < 0.5 else c for c in chosen])
        first = drawn[0]
        mirrored = float((first - first.flip(0)).abs().max())
        inverted = float((first - (1 - first.flip(0))).abs().max())
        if min(mirrored, inverted) > 0.25:
            return drawn


def _images(colours: Tensor) -> Tensor:
    """Images (N, 3, SIDE, SIDE) of these colours, with the mark."""
    images = colours[:, :, None, None].expand(-1, 3, SIDE, SIDE).clone()
    cell = SIDE // 4
    row, column = (slice(cell * n, cell * (n + 1)) for n in _MARK)
    images[:, :, row, column] = 0.5
    return images


@dataclass(frozen=True)
class Seen:
    """What a picture shows of images of known colours."""

    #: The indices of the images that were found, in the order of reading.
    order: list[int]
    #: Whether each that was found has its mark where it belongs, by what each was turned.
    turned: list[str]


def _seen(pixels: Tensor, colours: Tensor) -> Seen:
    """What a picture (H, W, 3) in [0, 1] shows of images of these colours."""
    boxes: dict[int, tuple[int, int, int, int]] = {}
    patterns: dict[int, Tensor] = {}
    for number, colour in enumerate(colours):
        near = ((pixels - colour).abs().amax(dim=2) < 0.12).float()
        lines = [near.sum(dim=1), near.sum(dim=0)]
        # Single pixels of this colour on the edges of other images are no part of it.
        spans = [torch.nonzero(line > 0.5 * line.max()).flatten().tolist() for line in lines]
        if float(near.sum()) < SIDE * SIDE / 4:
            continue
        (top, bottom), (left, right) = ((span[0], span[-1] + 1) for span in spans)
        boxes[number] = top, bottom, left, right
        patterns[number] = near[top:bottom, left:right]
    shown = [n for n, pattern in patterns.items() if float(pattern.mean()) > 0.7]
    order: list[int] = []
    rest = sorted(shown, key=lambda n: boxes[n][0])
    while rest:  # row by row: those that begin above the middle of the highest
        top, bottom, *_ = boxes[rest[0]]
        row = [n for n in rest if boxes[n][0] < (top + bottom) / 2]
        order += sorted(row, key=lambda n: boxes[n][2])
        rest = [n for n in rest if n not in row]
    expected = torch.ones(4, 4)
    expected[_MARK] = 0
    turned = []
    for way, turn in _TURNS.items():
        turned += [
            way
            for n in order
            if bool(((_cells(turn(patterns[n])) > 0.5) == (expected > 0.5)).all())
        ]
    return Seen(order, turned)


def _cells(pattern: Tensor) -> Tensor:
    """The means of the cells of a grid, (4, 4)."""
    means: Tensor = functional.adaptive_avg_pool2d(pattern[None], 4)[0]
    return means


def _saved(submission: Submission, images: Tensor) -> tuple[list[int], Tensor]:
    """The first bytes of the file with the first image and the others, and its pixels (H, W, 3)."""
    tiny = "helpers.checks.common.tiny_faces"
    path = submission.ask("build", None, f"{tiny}.new_path")
    try:
        submission.call("save_variations", path, images[0], images[1:])
    finally:
        answer = submission.ask("build", None, f"{tiny}.take_file", path)
    answer = answer if isinstance(answer, list) else []
    parts = [part for part in answer if isinstance(part, Tensor)]
    if len(parts) != 2:
        fail("The file cannot be read.")
    first, pixels = parts
    return first.flatten().tolist(), pixels.float() / 255


def _in_one_of_three(attempt: Callable[[], None]) -> None:
    """Fail only if three attempts fail, each with colours of its own.

    JPEG blurs the edges of an image: in one of 250 pictures the blur hides one of the images.
    """
    for _ in range(2):
        try:
            attempt()
        except CheckFailedError:
            continue
        return
    attempt()


@check("saving", points=2)
def grid_is_saved_as_jpeg(submission: Submission) -> None:
    """save_variations writes a JPEG file that shows the image and all of its variations."""
    for count in (12, 4):
        _in_one_of_three(partial(_expect_all_shown, submission, count))


def _expect_all_shown(submission: Submission, count: int) -> None:
    colours = _random_colours(count)
    first, pixels = _saved(submission, _images(colours))
    expect(bool(first), "There is no file at the path that was given.", "Write to `path`.")
    png = first[1:4] == [80, 78, 71]
    expect(
        first[:3] == [255, 216, 255],
        "The file is a PNG, and not a JPEG." if png else "The file is not a JPEG.",
        'save_image(..., path, format="jpeg").' if png else "",
    )
    readable = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.numel() > 0
    expect(readable, "The file's picture cannot be read.")
    if _is_white_or_black(pixels):
        fail(
            "The picture is nearly all black or white.",
            "save_image takes images in [0, 1], and multiplies them by 255 itself.",
        )
    # Wrong colours are the next check's matter, if all are there.
    seen = [_seen(pixels, change(colours)).order for change in _COLOURS.values()]
    if any(len(order) == count for order in seen) or _is_gray(pixels):
        return
    shown = sorted(seen[0])
    if shown == list(range(1, count)):
        fail("The input image is not in the picture.", "Put it before the variations.")
    fail(
        f"Of the image and its {count - 1} variations the picture shows "
        f"{len(shown)} {'images' if len(shown) != 1 else 'image'} in the right colours.",
        "make_grid takes one tensor (n + 1, 3, h, w)." if len(shown) == 1 else "",
    )


def _is_gray(pixels: Tensor) -> bool:
    return float((pixels.amax(dim=2) - pixels.amin(dim=2)).mean()) < 0.03


def _is_white_or_black(pixels: Tensor) -> bool:
    return float(((pixels < 0.02) | (pixels > 0.98)).float().mean()) > 0.9


@check("saving", points=2)
def images_are_upright_and_in_order(submission: Submission) -> None:
    """The image comes first, everything is upright, the colours are right; all are kept."""
    _in_one_of_three(partial(_expect_upright, submission, 8))
    images = torch.rand(8, 3, SIDE, SIDE)
    tiny = "helpers.checks.common.tiny_faces"
    path = submission.ask("build", None, f"{tiny}.new_path")
    try:
        expect_kept(submission, "save_variations", path, images[0], images[1:])
    finally:
        submission.ask("build", None, f"{tiny}.take_file", path)


def _expect_upright(submission: Submission, count: int) -> None:
    colours = _random_colours(count)
    images = _images(colours)
    _, pixels = _saved(submission, images)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.numel() == 0:
        fail("There is no picture that can be read.")
    seen = _seen(pixels, colours)
    if seen.order == list(range(count)) and len(set(seen.turned)) == 1 and seen.turned[0]:
        fail(f"Each image is {seen.turned[0]}.")
    for (wrong_colour, change), (way, turn) in product(_COLOURS.items(), _TURNS.items()):
        seen = _seen(turn(pixels), change(colours))
        first = len(seen.order) > 1 and seen.order[0] == 0
        if not first or seen.turned.count("") < len(seen.order):
            continue
        if wrong_colour or way:
            fail(wrong_colour or f"The picture is {way}.")
        break
    else:
        seen = _seen(pixels, colours)
        if _is_gray(pixels) and not _is_white_or_black(pixels):
            fail("The picture has no colours.")
        expect(bool(seen.order), "None of the images is in the picture, in its colours.")
        if seen.order[-1] == 0 and len(seen.order) > 1:
            fail("The image comes last; it should come before its variations.")
        expect(seen.order[0] == 0, "The image should come first, before its variations.")
        way = max(set(seen.turned), key=seen.turned.count, default="cut")
        if not way:
            fail(f"The picture shows {len(seen.order)} of {count} images.")
        fail(f"Each image is {way}.")
