"""The checks of the loss, of the data and of train_epoch."""

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common import vae_loss
from helpers.checks.common.accumulation import (
    AccumulatingTrial,
    expect_group_updates,
    expect_undivided_loss,
)
from helpers.checks.common.architecture import expect_kept
from helpers.checks.common.training import expect_mean_loss
from helpers.checks.d10_sd_vae.probing import D10

KL_WEIGHT = D10["kl_weight"]

# The loss.


def random_case(n_images: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x_hat, x, mean and logvar, with a KL term as large as the error."""
    x = torch.randn(n_images, 3, 16, 8)
    mean, logvar = 9 * torch.randn(n_images, 4, 2, 5), torch.randn(n_images, 4, 2, 5) - 0.5
    return x + 0.1 * torch.randn_like(x), x, mean, logvar


def mean_divergence(mean: Tensor, logvar: Tensor) -> float:
    """KL divergence from N(mean, exp(logvar)) to N(0, 1), the mean over all numbers."""
    posterior = Normal(mean.double(), (logvar.double() / 2).exp())
    return float(kl_divergence(posterior, Normal(0.0, 1.0)).mean())


def wrong_divergences(mean: Tensor, logvar: Tensor) -> dict[str, float]:
    """What takes the place of the mean KL divergence, by a sentence about the mistake."""
    kl, n, n_images = mean_divergence(mean, logvar), mean.numel(), len(mean)
    rest = kl - float(mean.double().square().mean()) / 2
    return {
        "The KL term is missing.": 0.0,
        "The sign of the KL term is wrong.": -kl,
        "The KL divergence has no weight: multiply it by 0.00025.": kl / KL_WEIGHT,
        "The KL term is twice as large as it should be: is the factor 1/2 of the KL divergence "
        "there?": 2 * kl,
        "The KL term is half as large as it should be: 1/2 is a factor of it once.": kl / 2,
        "The KL divergence is summed: take its mean over all numbers.": kl * n,
        "The KL divergence is summed over the numbers of an image: take its mean.": kl
        * n
        / n_images,
        "The KL divergence is summed over the channels: take its mean.": kl * mean.shape[1],
        "The KL divergence is divided by the number of images once more.": kl / n_images,
        "The mean has no part in the KL divergence.": rest,
        "In the KL divergence the mean is not squared.": rest + float(mean.mean()) / 2,
        "logvar is taken for the logarithm of the standard deviation.": mean_divergence(
            mean, 2 * logvar
        ),
        "In the KL divergence, exp(logvar) is the variance.": kl
        + float(((logvar / 2).exp() - logvar.exp()).mean()) / 2,
        "In the KL divergence, exp(logvar) is the variance: do not square it.": kl
        + float(((2 * logvar).exp() - logvar.exp()).mean()) / 2,
        "mean and logvar are exchanged in the KL divergence.": mean_divergence(logvar, mean),
        "log(sigma^2) is missing in the KL divergence.": kl + float(logvar.mean()) / 2,
        "In the KL divergence, log(sigma^2) has the wrong sign.": kl + float(logvar.mean()),
        "The 1 of the KL divergence is missing.": kl + 0.5,
    }


def a_wrong_weight(found: float, error: float, kl: float) -> float:
    """The weight of the KL divergence in a loss, or 0 if it is none that somebody would choose."""
    weight = float(f"{(found - error) / kl:.2g}")
    return weight if abs(error + weight * kl - found) < 1e-4 * found else 0.0


@check("loss", points=3)
def loss_is_error_plus_weighted_kl(submission: Submission) -> None:
    """vae_loss is the mean squared error plus 0.00025 times the mean KL divergence."""
    for n_images in (3, 1):
        x_hat, x, mean, logvar = random_case(n_images)
        expect_kept(submission, "vae_loss", x_hat, x, mean, logvar)
        found = vae_loss.loss(submission, x_hat, x, mean, logvar, name="vae_loss")
        again = vae_loss.loss(submission, x_hat, x, mean, logvar, name="vae_loss")
        expect(
            abs(again - found) <= 1e-5 * abs(found),
            "vae_loss gives another number at each call with the same images.",
            "Draw nothing in it, and keep nothing from one call to the next.",
        )
        error, kl = float(functional.mse_loss(x_hat, x)), mean_divergence(mean, logvar)
        right = error + KL_WEIGHT * kl
        errors = {
            "The squares are summed over an image: take their mean.": error * x[0].numel(),
            "The squares are summed: take their mean over everything.": error * x.numel(),
            "The squared error is missing.": 0.0,
            "The error is halved: take the mean of the squares.": error / 2,
            "The error is doubled: take the mean of the squares.": error * 2,
            "The error has a root: take the mean of the squares.": error**0.5,
            "The error is absolute: square it.": float((x_hat - x).abs().mean()),
        }
        kls = wrong_divergences(mean, logvar)
        causes = {hint: error + KL_WEIGHT * wrong for hint, wrong in kls.items()}
        causes |= {hint: wrong + KL_WEIGHT * kl for hint, wrong in errors.items()}
        causes["Both terms are summed: take their means."] = (
            error * x.numel() + KL_WEIGHT * kl * mean.numel()
        )
        causes["Both terms are summed over an image: take their means."] = (
            error * x[0].numel() + KL_WEIGHT * kl * mean[0].numel()
        )
        weight = a_wrong_weight(found, error, kl)
        expect_close(
            found,
            right,
            f"For {n_images} image{'s' * (n_images > 1)}, an error of {error:.4f} and a mean KL "
            f"divergence of {kl:.2f}, vae_loss gave {found:.5f}; it should be {right:.5f}.",
            causes,
            f"The KL divergence has a weight of {weight:g}: it should be 0.00025." * (weight != 0),
        )


@check("loss", points=2)
def loss_has_the_right_gradients(submission: Submission) -> None:
    """The loss can be differentiated with respect to x_hat, mean and logvar."""
    case = random_case(3)
    names, wrt = ("x_hat", "mean", "logvar"), (0, 2, 3)
    answer = submission.differentiate("vae_loss", *case, wrt=wrt)
    for index, name, gradient in zip(wrt, names, answer.inputs, strict=True):
        expect_slope(submission, case, index, name, gradient)


def expect_slope(
    submission: Submission, case: tuple[Tensor, ...], index: int, name: str, gradient: Tensor | None
) -> None:
    """Fail unless the gradient is the slope of the student's loss, whatever that loss may be.

    The slope is measured between two values of the argument at ``index``.
    """
    step = torch.full_like(case[index], 1e-2)
    if gradient is not None:
        step = 1e-3 * expect_tensor(gradient, tuple(step.shape), what="A gradient").sign()
    low, high = (
        vae_loss.loss(
            submission,
            *(tensor + sign * step if n == index else tensor for n, tensor in enumerate(case)),
            name="vae_loss",
        )
        for sign in (-1, 1)
    )
    # float32 rounds each of the two values.
    rounding = 4e-7 * max(abs(low), abs(high))
    if gradient is None:
        message = f"The loss has no gradient for {name}."
        hint = "Is something detached, or made a number with .item()?"
        expect(abs(high - low) <= rounding, message, hint)
        return
    expect(
        abs(high - low - 2 * float((gradient * step).sum())) <= rounding + 0.02 * abs(high - low),
        f"The gradient of the loss for {name} is wrong.",
        "Is a part of the loss detached, or made a number with .item()?",
    )


# Data.

#: Enough that a flip with probability 0.1 is missed once in a million times.
N_REPEATED = 140


def photograph() -> Tensor:
    """A picture of 90 by 70 pixels: red grows to the right, green downwards, blue is between."""
    right, down = torch.meshgrid(torch.linspace(0, 1, 70), torch.linspace(0, 1, 90), indexing="ij")
    return torch.stack([down, right, (down + 3 * right) / 4])


def as_prepared(picture: Tensor) -> Tensor:
    """(3, h, w) -> (3, 56, 56)."""
    return functional.interpolate(picture[None], (56, 56), mode="bilinear", antialias=True)[0]


@check("data", points=2)
def images_are_prepared(submission: Submission) -> None:
    """preprocess gives tensors of 56 by 56 pixels with values from -1 to 1."""
    picture = photograph()
    pixels = (255 * picture).round().to(torch.uint8).permute(1, 2, 0).contiguous()
    preprocess, pil = submission.object("preprocess"), submission.pil_image(pixels)
    answers = [
        preprocess.tensor(
            "",
            pil,
            shape=(3, 56, 56),
            what="What preprocess makes of a photograph of 90 by 70 pixels",
            hint="Resize((56, 56)), with both numbers.",
        )
        for _ in range(N_REPEATED)
    ]
    found, right = answers[0], as_prepared(picture) * 2 - 1
    low, high = float(found.min()), float(found.max())
    plain = as_prepared(picture)
    spread = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    grey = (right * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)
    mistakes = {
        "Normalize is missing: [0, 1] should become [-1, 1].": plain,
        "Normalize divides by the spread, too: with a mean of 0.5 it takes 0.5 for [-1, 1].": plain
        - 0.5,
        "These are the mean and spread of ImageNet: which ones take [0, 1] to [-1, 1]?": (
            (plain - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / spread
        ),
        "With a mean of 0 and a spread of 1, Normalize changes nothing.": plain,
        "The values go to 255: use ToTensor(), and only then Normalize.": 255 * plain,
        "The image has no colours: leave Grayscale out.": grey.expand(3, -1, -1),
        "Red and blue are exchanged.": right.flip(0),
        "The image is negative: black should become -1.": -right,
        "The image is centred and cropped: Resize((56, 56)) alone is asked for.": (
            2 * functional.interpolate(picture[None, :, :, 10:80], (56, 56), mode="bilinear")[0] - 1
        ),
    }

    def same(a: Tensor, b: Tensor) -> bool:
        # Rounding to 256 values is 0.004; ways to resize differ by 0.02 on an even slope.
        return float((a - b).abs().max()) < 0.06

    for how, wrong in turned(right).items():
        at = [same(answer, wrong) for answer in answers]
        if any(at):
            when = "" if all(at) else ", now and then"
            fail(
                f"The photograph is turned {how}{when}.", "Resize, ToTensor and Normalize are all."
            )
    expect(
        all(close(answer, found) for answer in answers),
        "preprocess gives two images for one photograph.",
        "Nothing in it should be random.",
    )
    if not same(found, right):
        message = f"Black and white should become -1 and 1; they became {low:.2f} and {high:.2f}."
        if -1.05 <= low <= -0.9 and 0.9 <= high <= 1.05:
            message = "The prepared photograph does not look like the original."
        fail(message, likely_cause(found, mistakes, same=same))
    # A picture of the right size, whose neighbouring pixels have nothing in common.
    pixels = torch.randint(256, (56, 56, 3), dtype=torch.uint8)
    found = preprocess.tensor("", submission.pil_image(pixels), shape=(3, 56, 56))
    expect(
        same(found, pixels.permute(2, 0, 1) / 127.5 - 1),
        "A picture of 56 by 56 pixels should keep its pixels, but they are changed.",
        "Resize, ToTensor and Normalize are all: leave other transforms out.",
    )


def turned(image: Tensor) -> dict[str, Tensor]:
    """An image (3, 56, 56), turned in several ways."""
    return {
        "from left to right": image.flip(2),
        "upside down": image.flip(1),
        "by half a turn": image.flip(1, 2),
        "on its diagonal": image.mT,
    }


# Training.


def new_trial(submission: Submission, lr: float, n_accumulated: int = 2) -> AccumulatingTrial:
    """A trial of the student's train_epoch with three batches."""
    return AccumulatingTrial(submission, lr, n_accumulated)


@check("training", points=2)
def train_epoch_returns_the_mean_loss(submission: Submission) -> None:
    """train_epoch returns the mean loss over all images of the epoch, undivided, as a float."""
    for expect_right in (expect_undivided_loss, expect_mean_loss):
        expect_right(new_trial(submission, 0.0))


@check("training", points=4)
def updates_gather_gradients(submission: Submission) -> None:
    """Two epochs make an update for each group of batches, also for the last one."""
    for n_accumulated in (2, 1):
        expect_group_updates(new_trial(submission, 0.1, n_accumulated))
