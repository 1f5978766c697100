"""The checks of deliverable 2 that students can see."""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common import architecture, settings
from helpers.checks.common.images import random_images, some_digits, spoiled
from helpers.checks.common.results import (
    Errors,
    check_learned,
    check_reported,
    expect_low,
    mean_squared_errors,
    once,
)
from helpers.checks.common.standin import is_right
from helpers.checks.common.trial import Trial, check_training
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
    """add_noise returns images of the same shape, clipped to [0, 1]."""
    for n_images in (6, 1):
        images = noisy(submission, random_images(n_images))
        low, high = float(images.min()), float(images.max())
        expect(
            low >= 0 and high <= 1,
            f"Noisy pixels should lie in [0, 1], but they go from {low:.2f} to {high:.2f}.",
            "Add the noise first, and then clip the sum to [0, 1].",
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


def _wrong_spreads(std: float) -> dict[str, float]:
    """The standard deviation that mistakes about ``std`` give on grey, clipped as it is."""
    used = {
        f"It is {STD} whatever std is: use the argument.": STD,
        "torch.randn has a standard deviation of 1: multiply it by std.": 1.0,
        "std is the standard deviation, not the variance: take no root of it.": math.sqrt(std),
        "std is the standard deviation, not the variance: do not square it.": std**2,
        "torch.rand is uniform: use torch.randn.": std / math.sqrt(12),
        "It is half of std.": std / 2,
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
    architecture.expect_kept(
        submission,
        "add_noise",
        random_images(4),
        hint="They are the target of the training: make a new tensor, without add_, += and clamp_.",
    )


@check("architecture", points=5)
def encoder_makes_a_smaller_code(submission: Submission) -> str:
    """The encoder maps images to codes (N, channels, h, w) of fewer numbers than 784."""
    model = submission.new("DenoiseAE")
    sizes = set()
    for n_images in (7, 2):
        what = "The encoder's output"
        code = architecture.evaluated(model, "encoder", random_images(n_images), what=what)
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
        f"A code is {' x '.join(map(str, shape[1:]))}: use fewer channels in the last block, or "
        "halve height and width once more.",
    )
    return f"A code holds {size} numbers."


@check("architecture", points=6)
def decoder_comes_back_to_28_pixels(submission: Submission) -> None:
    """The decoder maps codes to images of exactly (N, 1, 28, 28)."""
    model = submission.new("DenoiseAE")
    for n_images in (7, 2):
        code = _code_of_a_right_size(architecture.encode(model, random_images(n_images)))
        what = "The decoder's output"
        output = architecture.evaluated(model, "decoder", code, what=what)
        got = tuple(output.shape)
        stages = [step for step in model.trace("decoder", code).steps if len(step.shape) == 4]
        sizes = [code.shape[-1], *(s.shape[-1] for s in stages if s.function in _RESIZING)]
        hint = f"Its stages give {' -> '.join(map(str, sizes))} pixels. " if len(sizes) > 1 else ""
        if got[2:] != (28, 28):
            hint += "From h pixels one makes (h - 1) * stride - 2 * padding + kernel."
        expect(
            got == (n_images, 1, 28, 28),
            f"{what} should be {(n_images, 1, 28, 28)}, but it is {got}.",
            hint,
        )


_RESIZING = ("conv_transpose2d", "interpolate", "upsample")


def _code_of_a_right_size(code: Tensor) -> Tensor:
    """``code``, or if it is larger than a code may be one of 3 x 3, as three halvings give."""
    if code.ndim != 4 or code[0].numel() < D2["n_pixels"]:
        return code
    return torch.randn(len(code), code.shape[1], 3, 3)


@check("architecture", points=5)
def forward_decodes_what_it_encodes(submission: Submission) -> None:
    """forward(x) is decoder(encoder(x)): one tensor of images."""
    architecture.expect_decoded_code(submission.new("DenoiseAE"))


_BLOCKS = {
    "encoder": {"Conv2d": 3, "BatchNorm2d": 3, "LeakyReLU": 3, "MaxPool2d": 3},
    "decoder": {"ConvTranspose2d": 3, "BatchNorm2d": 2, "LeakyReLU": 2},
}


def _kinds_run(submission: Submission) -> dict[str, list[str]]:
    """The classes of the layers that the encoder and the decoder apply."""
    model = submission.new("DenoiseAE")
    images = random_images(7)
    inputs = {"encoder": images, "decoder": architecture.encode(model, images)}
    return {
        part: [
            architecture.layer_name(step)
            for step in architecture.computed(model, part, inputs[part])
        ]
        for part in _BLOCKS
    }


@check("architecture", points=3)
def layers_are_convolutional(submission: Submission) -> None:
    """Encoder and decoder are nn.Sequential of convolutions, BatchNorm2d and LeakyReLU only."""
    model = submission.new("DenoiseAE")
    images = random_images(7)
    inputs = {"encoder": images, "decoder": architecture.encode(model, images)}
    for part, needed in _BLOCKS.items():
        architecture.expect_sequential(model, part)
        hint = f"Only {', '.join(needed)} belong there, and Dropout if you like."
        architecture.expect_only_layers_run(
            model, part, inputs[part], needed, hint, any_end=part == "decoder"
        )


@check("architecture", points=3)
def blocks_are_complete(submission: Submission) -> None:
    """There are three blocks down and three stages up, each with all of its layers."""
    for part, kinds in _kinds_run(submission).items():
        activated = ["LeakyReLU" if kind in architecture.ACTIVATIONS else kind for kind in kinds]
        if part == "decoder" and activated[-1:] == ["LeakyReLU"]:
            activated.pop()  # there is a check of its own for the end
        for kind, least in _BLOCKS[part].items():
            count = activated.count(kind)
            expect(
                count >= least,
                f"The {part} applies {count} {kind}; it needs at least {least}.",
                f"It has three {'blocks' if part == 'encoder' else 'stages'}.",
            )
        convolution = next(iter(_BLOCKS[part]))
        architecture.expect_activated_between(activated, convolution, part)


@check("architecture", points=4)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model = submission.new("DenoiseAE")
    codes = torch.randn_like(architecture.encode(model, random_images(20)))
    architecture.expect_black_to_white(model, codes)
    architecture.expect_sigmoid_alone(model, codes)


@check("settings", points=2)
def settings_are_within_the_rules(submission: Submission) -> None:
    """batch_size and n_epochs are whole numbers within the rules; Adam updates the whole model."""
    values = settings.expect_whole_numbers(submission, "batch_size", "n_epochs")
    settings.expect_epochs(values["n_epochs"], D2)
    rate = submission.number("learning_rate")
    expect(0 < rate < 1, f"`learning_rate` is {rate:g}; it should lie between 0 and 1.")
    settings.expect_adam(submission)


settings.check_model_budget(__name__, points=4)


def trial(submission: Submission, lr: float) -> Trial:
    """A trial of the student's train_epoch that records the noisy images."""
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
        replaced={} if _noise_is_right(submission) else {"add_noise": STAND_IN},
    )


#: Takes the place of add_noise in the training if that has lost points already.
STAND_IN = f"{spoiled.__module__}.spoiled"


@once
def _noise_is_right(submission: Submission) -> bool:
    checks = (
        noisy_images_stay_in_range,
        noise_is_fresh,
        noise_has_the_right_strength,
        default_strength_is_one_half,
        given_images_are_kept,
    )
    return all(is_right(partial(one, submission)) for one in checks)


def _denoising_loss(network: nn.Module, shown: Tensor, images: Tensor, _: Tensor) -> Tensor:
    if shown.shape != images.shape:
        fail(
            f"The model is shown {len(shown)} images for a batch of {len(images)}.",
            "Give it one noisy image for each.",
        )
    return functional.mse_loss(network(shown), images)


def _copying_loss(network: nn.Module, shown: Tensor, _: Tensor, __: Tensor) -> Tensor:
    return functional.mse_loss(network(shown), shown)


def noise_shown(submission: Submission, n_epochs: int) -> tuple[Trial, Tensor]:
    """A trial, and what train_epoch adds to its images, (n_epochs * N, 1, 28, 28)."""
    a_trial = trial(submission, 0.0)
    for _ in range(n_epochs):
        a_trial.epoch()
    shown = a_trial.shown()
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
    expect(
        rms(noise) > 0.02, "The model is shown images without noise.", "Give it add_noise(images)."
    )
    expect(
        bool((shown > -1e-5).all() and (shown < 1 + 1e-5).all()),
        f"The model is shown pixels from {float(shown.min()):.1f} to {float(shown.max()):.1f}, which "
        "add_noise does not make.",
        "Give it add_noise(images).",
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
    epochs = [range(3), range(a_trial.batch_size, a_trial.batch_size + 3)]
    batches = [[n + start for n in batch] for start in (0, len(a_trial.images)) for batch in epochs]
    first, second, again, _ = batches
    for one, other, message in (
        (first, first, "All images of a batch get the same noise."),
        (first, second, "The noise is the same in each batch."),
        (first, again, "The noise is the same in each epoch."),
    ):
        for a, b in ((a, b) for a in one for b in other if a != b):
            both = free[a] & free[b]
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


@once
def errors(submission: Submission) -> Errors:
    """The trained model's mean squared errors, from images with the judge's own noise."""
    clean = [some_digits(train=train)[0] for train in (True, False)]
    generator = torch.Generator().manual_seed(1)
    noisy = [(x + STD * torch.randn(x.shape, generator=generator)).clamp(0, 1) for x in clean]
    pairs = list(zip(noisy, clean, strict=True))
    return mean_squared_errors(submission, "denoiser", pairs)


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
    error, size = errors(submission).training, errors(submission).code_size
    expect(
        size < D2["n_pixels"],
        f"The trained model's codes hold {size} numbers, which is no bottleneck.",
    )
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
