"""The checks of the model and of its settings."""

import math

import torch
from torch import Tensor

from helpers.checking import Object, Submission, check, expect
from helpers.checks.common import architecture, settings
from helpers.checks.common.images import random_images
from helpers.checks.d2_denoising.noise import D2


@check("architecture", points=5)
def encoder_makes_a_smaller_code(submission: Submission) -> str:
    """The encoder maps images to codes (N, channels, h, w) of fewer numbers than 784."""
    model = submission.new("DenoiseAE")
    sizes = set()
    for n_images in (7, 2):
        what = "The encoder's output"
        code = architecture.in_eval_mode(model, "encoder", random_images(n_images), what=what)
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
        code = _code_of_a_right_size(architecture.encode_images(model, random_images(n_images)))
        what = "The decoder's output"
        output = architecture.in_eval_mode(model, "decoder", code, what=what)
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


def _inputs(model: Object) -> dict[str, Tensor]:
    """What the encoder and the decoder can be tried with."""
    images = random_images(7)
    return {"encoder": images, "decoder": architecture.encode_images(model, images)}


@check("architecture", points=3)
def layers_are_convolutional(submission: Submission) -> None:
    """Encoder and decoder are nn.Sequential of convolutions, BatchNorm2d and LeakyReLU only."""
    model = submission.new("DenoiseAE")
    for part, given in _inputs(model).items():
        architecture.expect_sequential(model, part)
        hint = f"Only {', '.join(_BLOCKS[part])} belong there, and Dropout if you like."
        architecture.expect_only_layers_run(
            model, part, given, _BLOCKS[part], hint, any_end=part == "decoder"
        )


@check("architecture", points=3)
def blocks_are_complete(submission: Submission) -> None:
    """There are three blocks down and three stages up, each with all of its layers."""
    model = submission.new("DenoiseAE")
    for part, given in _inputs(model).items():
        steps = architecture.computed(model, part, given)
        if part == "decoder":  # there is a check of its own for its end
            steps = steps[: len(steps) - len(architecture.steps_after_weights(steps))]
        kinds = [_usual_name(architecture.layer_name(step)) for step in steps]
        for kind, least in _BLOCKS[part].items():
            count = kinds.count(kind)
            expect(
                count >= least,
                f"The {part} applies {count} {kind}; it needs at least {least}.",
                f"It has three {'blocks' if part == 'encoder' else 'stages'}.",
            )
        architecture.expect_activated_between(kinds, next(iter(_BLOCKS[part])), part)


def _usual_name(kind: str) -> str:
    """What a layer stands in for, if it is another one than asked for, which costs elsewhere."""
    if kind in architecture.ACTIVATIONS:
        return "LeakyReLU"
    if kind.endswith("Norm"):
        return "BatchNorm2d"
    return "MaxPool2d" if kind == "AvgPool2d" else kind


@check("architecture", points=4)
def outputs_reach_from_black_to_white(submission: Submission) -> None:
    """The decoder ends in one Sigmoid: pixels lie in [0, 1] and can reach both ends."""
    model = submission.new("DenoiseAE")
    codes = torch.randn_like(architecture.encode_images(model, random_images(20)))
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
