"""The checks of the noise."""

import math
from functools import partial

import torch
from torch import Tensor

from helpers.checking import Submission, check, close, expect, expect_tensor, likely_cause
from helpers.checks.common import architecture
from helpers.checks.common.images import random_images
from helpers.checks.common.kept import keep_result
from helpers.checks.common.results import once
from helpers.checks.common.standin import is_right
from helpers.deliverables import get

D2 = get("d2_denoising")
STD = D2["noise_std"]


def noisy(submission: Submission, images: Tensor, *std: float) -> Tensor:
    """Images with the noise of the student's add_noise."""
    output = submission.call("add_noise", images, *std)
    return expect_tensor(output, tuple(images.shape), what="What add_noise returns")


def grey(n_images: int) -> Tensor:
    """Images of middle grey, as far from black as from white."""
    return torch.full((n_images, 1, 28, 28), 0.5)


@check("add_noise", points=3)
def noisy_images_stay_in_range(submission: Submission) -> None:
    """add_noise returns images of the same shape and dtype, clipped to [0, 1]."""
    for n_images in (6, 1):
        images = noisy(submission, random_images(n_images))
        low, high = float(images.min()), float(images.max())
        expect(
            low >= 0 and high <= 1,
            f"Noisy pixels should lie in [0, 1], but they go from {low:.2f} to {high:.2f}.",
            "Add the noise first, and then clip the sum to [0, 1].",
        )
    dtype = keep_result(submission, "add_noise", random_images(2)).get("dtype")
    expect(
        dtype == "torch.float32",
        f"For images of type torch.float32, add_noise returns {dtype}.",
        "NumPy's numbers are float64: convert what you return with .float().",
    )


@check("add_noise", points=3)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each pixel gets noise of its own."""
    first, second = (noisy(submission, grey(20), 0.1) for _ in range(2))
    expect(not close(first, grey(20)), "add_noise adds no noise.")
    expect(
        not close(first, second),
        "Two calls of add_noise give the same noise.",
        "Do not seed inside add_noise, and draw the noise in it.",
    )
    where = "torch.randn_like(images) draws for each pixel of each image."
    expect(not close(first[0], first[1]), "All images of a batch get the same noise.", where)
    expect(float(first[0].std()) > 1e-4, "All pixels of an image get the same noise.", where)
    free = first[(first > 0) & (first < 1) & (first != 0.5)]  # clipped ones may well be equal
    n_values = len(free.unique())
    # Few values are those of a noise that is not Gaussian, for another check.
    expect(n_values < 100 or n_values > len(free) / 2, "Several pixels get the same noise.", where)


@check("add_noise", points=4)
def noise_has_the_right_strength(submission: Submission) -> None:
    """The noise is Gaussian, with mean 0 and standard deviation `std`."""
    # A tenth of the range is five standard deviations from either end: nothing is clipped.
    for std in (0.1, 0.05):
        # Ten calls, so that a noise of one number for each image has its strength, too: it is for
        # another check. With a thousand numbers each limit is at least four standard errors away.
        noise = torch.cat([noisy(submission, grey(100), std) - 0.5 for _ in range(10)])
        mean, spread = float(noise.mean()), float(noise.std())
        half = std / math.sqrt(2 * math.pi)  # the mean of a noise whose negative half is zero
        causes = {
            "torch.rand is uniform, from 0 to 1: use torch.randn.": std / 2,
            "The noise is clipped before it is added: clip the sum.": half,
            "All noise is positive: leave abs() out.": 2 * half,
            "The noise is multiplied with the images: add it.": half / 2 - 0.5,
            "The images are missing: add the noise to them.": half - 0.5,
        }
        expect(
            abs(mean) <= std / 8,
            f"With std={std} the mean of the noise is {mean:.3f}, and should be 0.",
            likely_cause(mean, causes, tolerance=0.02),
        )
        expect(
            math.isclose(spread, std, rel_tol=0.12),
            f"With std={std} the standard deviation of the noise is {spread:.3f}.",
            likely_cause(spread, _wrong_spreads(std), tolerance=0.03),
        )
        # The fourth moment tells a bell from a box: 3 for a Gaussian, 1.8 for a uniform one.
        kurtosis = float((noise / noise.std()).pow(4).mean())
        expect(
            abs(kurtosis - 3) < 0.8,
            f"The noise has the right strength, but is not Gaussian: its fourth moment is "
            f"{kurtosis:.1f} and should be 3.",
            "Use torch.randn.",
        )
    # Out of the range is for another check.
    for level, name in ((0.0, "black"), (1.0, "white")):
        images = torch.full((100, 1, 28, 28), level)
        # Half of the noise leads out of the range and is clipped.
        outward = 1 - 2 * level
        share = [
            float((outward * (noisy(submission, images, STD) - level) <= 0).float().mean())
            for _ in range(10)
        ]
        expect(
            abs(sum(share) / 10 - 0.5) < 0.1,
            f"After add_noise {sum(share) / 10:.0%} of {name} pixels are still {name}, and half of "
            "them should be.",
            "Add the noise to all pixels as they are, and clip the sum to [0, 1].",
        )
    images = 0.2 + 0.6 * random_images(4)
    expect(
        close(noisy(submission, images, 1e-6), images),
        "With std=1e-6 the images should stay nearly as they are.",
        "Use std as it is given, and add the noise to the images themselves.",
    )


def _wrong_spreads(std: float) -> dict[str, float]:
    """The standard deviation that mistakes about ``std`` give on grey, clipped as it is."""
    used = {
        f"It is {STD} whatever std is: use the argument.": STD,
        "torch.randn has a standard deviation of 1: multiply it by std.": 1.0,
        "std is the standard deviation, not the variance: take no root of it.": math.sqrt(std),
        "std is the standard deviation, not the variance: do not square it.": std**2,
        "torch.rand is uniform: use torch.randn.": std / math.sqrt(12),
        "It is half of std. Is it multiplied with the images?": std / 2,
        "It is twice std.": 2 * std,
        "The noise is added twice.": std * math.sqrt(2),
    }
    normal = torch.randn(200_000)
    return {cause: float((s * normal).clamp(-0.5, 0.5).std()) for cause, s in used.items()}


@check("add_noise", points=2)
def default_strength_is_one_half(submission: Submission) -> None:
    """Without `std`, the noise is as strong as with std=0.5."""
    shares = []
    for std in ((), (STD,)):
        noise = torch.cat([noisy(submission, grey(100), *std) for _ in range(10)]) - 0.5
        shares.append(float(noise.std()))
    # With half or twice the strength it differs by a fifth or more, since much is clipped.
    expect(
        math.isclose(*shares, rel_tol=0.1),
        f"On grey, the noise has a standard deviation of {shares[0]:.2f} without `std`, and of "
        f"{shares[1]:.2f} with std={STD}.",
        f"The default of std should be {STD}.",
    )


@check("add_noise", points=2)
def given_images_are_kept(submission: Submission) -> None:
    """add_noise leaves the images that it is given as they are."""
    noisy(submission, random_images(4))  # what does nothing earns nothing
    architecture.expect_kept(
        submission,
        "add_noise",
        random_images(4),
        hint="They are the target of the training: make a new tensor, without add_, += and clamp_.",
    )


@once
def noise_is_right(submission: Submission) -> bool:
    """Whether add_noise passes all of its checks, so that nothing need stand in for it."""
    checks = (
        noisy_images_stay_in_range,
        noise_is_fresh,
        noise_has_the_right_strength,
        default_strength_is_one_half,
        given_images_are_kept,
    )
    return all(is_right(partial(one, submission)) for one in checks)
