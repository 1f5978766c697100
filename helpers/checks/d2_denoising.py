"""The checks of deliverable 2 that students can see."""

import math
from functools import partial

import torch
from torch import Tensor

from helpers.checking import Submission, check, close, expect, expect_tensor
from helpers.checks.common import architecture, settings
from helpers.checks.common.images import random_images, some_digits
from helpers.checks.common.results import (
    Errors,
    check_learned,
    check_reported,
    expect_low,
    mean_squared_errors,
    once,
)
from helpers.checks.common.trial import MakeTrial, check_training, mse_trial
from helpers.deliverables import get

D2 = get("d2_denoising")
STD = D2["noise_std"]


def noisy(submission: Submission, images: Tensor, *std: float) -> Tensor:
    """Images with the noise of the student's add_noise."""
    output = submission.call("add_noise", images, *std)
    return expect_tensor(output, tuple(images.shape), what="What add_noise returns")


@check("add_noise", points=4)
def noisy_images_stay_in_range(submission: Submission) -> None:
    """add_noise returns images of the same shape, clipped to [0, 1]."""
    for n_images in (6, 1):
        images = noisy(submission, random_images(n_images))
        low, high = float(images.min()), float(images.max())
        expect(
            low >= 0 and high <= 1,
            f"Noisy pixels should lie in [0, 1], but they go from {low:.2f} to {high:.2f}.",
            "Clip them with .clamp(0, 1).",
        )


@check("add_noise", points=4)
def noise_is_fresh(submission: Submission) -> None:
    """Each call, each image and each pixel gets noise of its own."""
    grey = torch.full((20, 1, 28, 28), 0.5)
    first, second = (noisy(submission, grey, 0.1) for _ in range(2))
    expect(
        not close(first, second),
        "Two calls of add_noise give the same noise.",
        "Do not seed inside add_noise, and draw the noise in it.",
    )
    where = "torch.randn_like(images) draws for each pixel of each image."
    expect(not close(first[0], first[1]), "All images of a batch get the same noise.", where)
    expect(float(first[0].std()) > 1e-4, "All pixels of an image get the same noise.", where)


@check("add_noise", points=6)
def noise_has_the_right_strength(submission: Submission) -> None:
    """The noise is Gaussian, with mean 0 and standard deviation `std`, by default 0.5."""
    grey = torch.full((100, 1, 28, 28), 0.5)
    # A tenth of the range is five standard deviations from either end: nothing is clipped.
    for std in (0.1, 0.05):
        noise = noisy(submission, grey, std) - grey
        _expect_close("mean of the noise", float(noise.mean()), 0.0, std / 50)
        spread = float(noise.std())
        hint = "torch.randn has a standard deviation of 1: multiply it by std."
        if math.isclose(spread, std**2, rel_tol=0.1):
            hint = "std is the standard deviation, not its square root nor the variance."
        elif math.isclose(spread, std / math.sqrt(12), rel_tol=0.1):
            hint = "torch.rand is uniform: use torch.randn."
        _expect_close("standard deviation of the noise", spread, std, std / 25, hint)
        # The fourth moment tells a bell from a box: 3 for a Gaussian, 1.8 for a uniform one.
        kurtosis = float((noise / noise.std()).pow(4).mean())
        _expect_close("fourth moment of the noise", kurtosis, 3.0, 0.3, "Use torch.randn.")
    # On black, half of the default noise is clipped away: std / sqrt(2 pi) is left on average,
    # less what lies above 1.
    black = noisy(submission, torch.zeros(100, 1, 28, 28))
    normal = torch.distributions.Normal(0.0, 1.0)
    end = torch.tensor(1 / STD)
    density = (normal.log_prob(torch.tensor(0.0)).exp() - normal.log_prob(end).exp()) * STD
    expected = float(density + 1 - normal.cdf(end))
    hint = f"The default of std should be {STD}, and clipping comes after the noise."
    _expect_close(
        "mean of black images with the default noise", float(black.mean()), expected, 0.01, hint
    )


def _expect_close(
    what: str, value: float, expected: float, tolerance: float, hint: str = ""
) -> None:
    message = f"The {what} is {value:.3f}, and should be {expected:.3f}."
    expect(abs(value - expected) <= tolerance, message, hint)


@check("architecture", points=5)
def encoder_makes_a_smaller_code(submission: Submission) -> str:
    """The encoder maps images to codes (N, channels, h, w) of fewer numbers than 784."""
    model = submission.new("DenoiseAE")
    sizes = set()
    for n_images in (7, 2):
        what = "The encoder's output"
        code = model.tensor("encoder", random_images(n_images), what=what)
        shape = tuple(code.shape)
        expect(
            len(shape) == 4 and shape[0] == n_images,
            f"{what} for {n_images} images should have shape ({n_images}, channels, h, w), "
            f"but it has {shape}.",
        )
        sizes.add(math.prod(shape[1:]))
    size = max(sizes)
    expect(
        size < D2["n_pixels"],
        f"A code holds {size} numbers, and an image has {D2['n_pixels']} pixels: that is no "
        "bottleneck.",
        "Use fewer channels in the last block, or halve the size once more.",
    )
    return f"A code holds {size} numbers."


@check("architecture", points=6)
def decoder_comes_back_to_28_pixels(submission: Submission) -> None:
    """The decoder maps codes to images of exactly (N, 1, 28, 28)."""
    model = submission.new("DenoiseAE")
    for n_images in (7, 2):
        code = model.tensor("encoder", random_images(n_images), what="The encoder's output")
        output = model.tensor("decoder", code, what="The decoder's output")
        got = tuple(output.shape)
        hint = "Write the size after each stage: h' = (h - 1) * stride - 2 * padding + kernel."
        if got[2:] == (32, 32):
            hint = "4, 8, 16, 32: three halvings of 28 give 3, so the first stage goes from 3 to 7."
        elif got[2:] == (29, 29):
            hint = "One pixel too many: look at kernel, padding and output_padding of each stage."
        expect(
            got == (n_images, 1, 28, 28),
            f"The decoder's output should be {(n_images, 1, 28, 28)}, but it is {got}.",
            hint,
        )


@check("architecture", points=5)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward(x) is decoder(encoder(x)): one tensor of images."""
    architecture.expect_decoded_code(submission.new("DenoiseAE"))


_ALLOWED = {
    "encoder": {"Conv2d": 3, "BatchNorm2d": 1, "LeakyReLU": 3, "MaxPool2d": 3},
    "decoder": {"ConvTranspose2d": 3, "BatchNorm2d": 1, "LeakyReLU": 2, "Sigmoid": 1},
}


@check("architecture", points=6)
def layers_are_convolutional(submission: Submission) -> None:
    """Three blocks down and three stages up, of convolutions, BatchNorm2d and LeakyReLU only."""
    model = submission.new("DenoiseAE")
    for part, needed in _ALLOWED.items():
        architecture.expect_sequential(model, part)
        hint = f"Use {', '.join(needed)} there."
        kinds = architecture.expect_only_layers(model, part, needed, hint)
        for kind, least in needed.items():
            text = f"The {part} has {kinds.count(kind)} {kind}; it needs at least {least}."
            expect(kinds.count(kind) >= least, text)


@check("architecture", points=4)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model = submission.new("DenoiseAE")
    code = model.tensor("encoder", random_images(20), what="The encoder's output")
    architecture.expect_black_to_white(model, torch.randn_like(code))
    last = architecture.last_layer(model, "decoder")
    expect(last == "Sigmoid", f"The decoder ends in {last or 'no layer'}; it should be Sigmoid.")


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """batch_size and n_epochs are whole numbers within the rules; Adam updates the whole model."""
    values = settings.expect_whole_numbers(submission, "batch_size", "n_epochs")
    settings.expect_epochs(values["n_epochs"], D2)
    rate = submission.number("learning_rate")
    expect(0 < rate < 1, f"`learning_rate` is {rate:g}; it should lie between 0 and 1.")
    settings.expect_adam(submission)


settings.check_model_budget(__name__, points=4)


#: A trial of the student's train_epoch that records the noisy images.
trial: MakeTrial = partial(mse_trial, records=True)


@check("training", points=5)
def train_epoch_shows_noisy_images(submission: Submission) -> None:
    """The model is shown noisy images, with new noise in each epoch."""
    a_trial = trial(submission, 0.0)
    for _ in range(2):
        a_trial.epoch()
    shown = a_trial.shown()
    expect(len(shown) == 6, f"In two epochs of 3 batches the model was called {len(shown)} times.")
    first, second = torch.cat(shown[:3]), torch.cat(shown[3:])
    expect(first.shape == a_trial.images.shape, "Not every image was shown once.")
    difference = float((first - a_trial.images).square().mean().sqrt())
    expect(
        difference > 0.2,
        "The model is shown images without noise, or with hardly any.",
        "Give it add_noise(images).",
    )
    expect(
        not close(first, second),
        "The noise is the same in each epoch.",
        "Call add_noise in the loop, and set no seed there.",
    )


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


@once
def errors(submission: Submission) -> Errors:
    """The trained model's mean squared errors, from images with the judge's own noise."""

    def expect_code(code: Tensor) -> None:
        size = math.prod(code.shape[1:])
        expect(size < D2["n_pixels"], f"A code of {size} numbers is no bottleneck.")

    clean = [some_digits(train=train)[0] for train in (True, False)]
    generator = torch.Generator().manual_seed(1)
    noisy = [(x + STD * torch.randn(x.shape, generator=generator)).clamp(0, 1) for x in clean]
    pairs = list(zip(noisy, clean, strict=True))
    return mean_squared_errors(submission, "denoiser", pairs, expect_code)


check_learned(
    __name__,
    errors,
    points=4,
    below=0.045,  # always answering with the mean image reaches 0.067
    figure="Training MSE {:.4f}",
    instead=": hardly better than always giving the mean image, or worse.",
)


@check("result", points=12)
def training_error_is_low(submission: Submission) -> str:
    """Denoised training images are close to the clean ones, in evaluation mode."""
    error = errors(submission).training
    hint = "More channels within the budget, a larger learning rate or more epochs help."
    return expect_low(f"Training MSE {error:.4f}", error, D2.max_loss, hint)


@check("result", points=3)
def checkpoint_is_within_its_budget(submission: Submission) -> str:
    """The trained model that is handed in has no more parameters than allowed."""
    state = submission.checkpoint("denoiser")
    return settings.within_budget(
        {k: v for k, v in state.items() if not _is_statistic(k, state)}, D2
    )


def _is_statistic(name: str, state: dict[str, Tensor]) -> bool:
    """Whether it is one of BatchNorm's running averages, which are no parameters."""
    layer, _, kind = name.rpartition(".")
    if kind == "num_batches_tracked":
        return state[name].numel() == 1
    weight = state.get(f"{layer}.weight")
    return (
        kind in ("running_mean", "running_var")
        and weight is not None
        and weight.ndim == 1
        and weight.shape == state[name].shape
    )


# The mean over the last epoch, in training mode, lags behind its end.
check_reported(__name__, errors, tolerance=0.15)
