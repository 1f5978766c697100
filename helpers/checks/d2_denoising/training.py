"""The checks of one epoch of training."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Submission, check, expect, fail
from helpers.checks.common.images import spoiled
from helpers.checks.common.returned import fitting_trial
from helpers.checks.common.training import check_training
from helpers.checks.common.trial import Trial
from helpers.checks.d2_denoising.noise import noise_is_right


def trial(submission: Submission, lr: float) -> Trial:
    """A trial of the student's train_epoch that records the noisy images."""

    def make(gives: str) -> Trial:
        return Trial(
            submission,
            lr,
            model="TinyAutoencoder",
            criterion="torch.nn.MSELoss",
            loss=_denoising_loss,
            records=True,
            wrong={
                "The output is compared with the noisy images, and not with the clean ones.": (
                    _copying_loss,
                    _copying_loss,
                ),
            },
            replaced={} if noise_is_right(submission) else {"add_noise": STAND_IN},
            gives=gives,
        )

    return fitting_trial(make, lambda: submission.new("DenoiseAE"))


#: Takes the place of add_noise in the training if that has lost points already.
STAND_IN = f"{spoiled.__module__}.spoiled"


def _denoising_loss(network: nn.Module, shown: Tensor, images: Tensor, _: Tensor) -> Tensor:
    if shown.shape != images.shape:
        fail(
            f"The model is shown {len(shown)} images for a batch of {len(images)}.",
            "Give it one noisy image for each.",
        )
    return functional.mse_loss(network(shown.float()), images)


def _copying_loss(network: nn.Module, shown: Tensor, _: Tensor, __: Tensor) -> Tensor:
    shown = shown.float()
    return functional.mse_loss(network(shown), shown)


def noise_shown(submission: Submission, n_epochs: int) -> tuple[Trial, Tensor]:
    """A trial, and what train_epoch adds to its images, (n_epochs * N, 1, 28, 28)."""
    a_trial = trial(submission, 0.0)
    for _ in range(n_epochs):
        a_trial.epoch()
    shown = [x.float() for x in a_trial.shown()]
    images = torch.cat(n_epochs * [a_trial.images])
    if sum(map(len, shown)) != len(images) or any(x.shape[1:] != (1, 28, 28) for x in shown):
        shapes = ", ".join(str(tuple(x.shape)) for x in shown[:3]) or "nothing"
        fail(
            f"In {n_epochs} epoch{'s'[: n_epochs - 1]} of {len(a_trial.images)} images the model "
            f"should be trained on each of them once, but it is trained on {shapes}.",
        )
    return a_trial, torch.cat(shown) - images


@check("training", points=3)
def train_epoch_shows_noisy_images(submission: Submission) -> None:
    """The model is shown images with the noise of add_noise."""
    a_trial, noise = noise_shown(submission, 1)
    shown = a_trial.images + noise
    hint = "Give it add_noise(images)."
    expect(rms(noise) > 0.02, "The model is shown images without noise.", hint)
    expect(
        bool((shown > -1e-5).all() and (shown < 1 + 1e-5).all()),
        f"The model is shown pixels from {float(shown.min()):.1f} to {float(shown.max()):.1f}, "
        "which add_noise does not make.",
        hint,
    )
    right = rms(spoiled(a_trial.images) - a_trial.images)
    expect(  # of ten thousand pixels, so that it is known to 1 percent
        math.isclose(rms(noise), right, rel_tol=0.1),
        f"The model is shown noise of strength {rms(noise):.2f}; that of add_noise is {right:.2f}.",
        "Give it add_noise(images), once, and leave std at its default.",
    )


def rms(noise: Tensor) -> float:
    """The root of the mean square: the strength of a noise."""
    return float(noise.square().mean().sqrt())


@check("training", points=2)
def noise_is_new_for_each_batch(submission: Submission) -> None:
    """Every image gets new noise in every batch and in every epoch."""
    a_trial, noise = noise_shown(submission, 2)
    expect(rms(noise) > 0.02, "The model is shown images without noise.")
    shown = torch.cat(2 * [a_trial.images]) + noise
    free = (shown > 0) & (shown < 1)  # where nothing is clipped, so that equal noise stays equal
    few, size = min(3, a_trial.batch_size), a_trial.batch_size
    first, second = range(few), range(size, size + few)
    again = range(len(a_trial.images), len(a_trial.images) + few)
    for one, other, message in (
        (first, first, "All images of a batch get the same noise."),
        (first, second, "The noise is the same in each batch."),
        (first, again, "The noise is the same in each epoch."),
    ):
        for a, b in ((a, b) for a in one for b in other if a != b):
            both = free[a] & free[b] & (noise[a].abs() > 1e-4)
            same = (noise[a] - noise[b]).abs()[both] < 1e-4
            if same.float().mean() > 0.5:
                fail(message, "Call add_noise(images) in the loop, and set no seed there.")


check_training(
    __name__,
    trial,
    points=(5, 6),
    lr=1.0,
    hint="For each batch: zero_grad, denoise the noisy images, loss against the clean ones, "
    "backward, step.",
    mean_title="train_epoch returns the mean loss over all images, against the clean images.",
    steps_title="Two epochs move the parameters towards the clean images, as gradient descent "
    "should.",
)
