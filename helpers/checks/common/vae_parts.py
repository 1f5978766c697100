"""The parts of the VAEs of deliverables 3 to 5: their shapes and their last layers."""

from collections.abc import Callable

import torch
from torch import Tensor

from helpers.checking import Object, StudentError, expect, expect_tensor, fail
from helpers.checks.common.architecture import LAYERS, computed, expect_kept, layer_name
from helpers.checks.common.images import random_images
from helpers.checks.common.vae_model import (
    HIDDEN_DIM,
    LATENT_DIM,
    expect_linear,
    no_condition,
    with_condition,
)


def expect_encoder_shapes(
    model: Object, condition: Callable[[int], Tensor | None] = no_condition
) -> None:
    """Fail unless the encoder returns (N, hidden_dim); ``condition`` makes those of N images."""
    for n_images in (7, 1):
        images, c = random_images(n_images), condition(n_images)
        inputs = with_condition(images, c)
        what = f"For an input of shape {tuple(inputs.shape)} and hidden_dim={HIDDEN_DIM}, the "
        causes = {
            "It takes the image without the condition: its first Linear layer should have "
            "input_dim + conditional_vec_dim inputs.": images if c is not None else None,
            "It takes images that are flattened already: nn.Flatten() comes first.": inputs.flatten(
                1
            ),
            "It takes one image at a time: is the batch axis flattened away?": inputs[:1],
            "It takes 7 images and not 1: the number of images must not matter.": inputs.repeat(
                7, *[1] * (inputs.ndim - 1)
            ),
        }
        answer = _called(model, "encoder", inputs, causes)
        hint = "The last Linear layer has hidden_dim outputs."
        if isinstance(answer, Tensor) and answer.ndim == 3:
            hint = (
                "nn.Flatten(2, 3) keeps the channel axis: nn.Flatten() keeps only the batch axis."
            )
        elif isinstance(answer, Tensor) and answer.ndim < 2:
            hint = "The batch axis is flattened away: nn.Flatten() keeps it."
        expect_tensor(answer, (n_images, HIDDEN_DIM), what=f"{what}encoder's output", hint=hint)
    expect_kept(model, "encoder", inputs)


def expect_head_shapes(model: Object) -> None:
    """Fail unless mu_layer and logvar_layer are Linear, (N, hidden_dim) -> (N, latent_dim)."""
    for name in ("mu_layer", "logvar_layer"):
        for n_images in (7, 1):
            hidden = torch.randn(n_images, HIDDEN_DIM)
            hint = "The layer has latent_dim outputs."
            model.tensor(
                name, hidden, shape=(n_images, LATENT_DIM), what=f"{name}'s output", hint=hint
            )
        expect_linear(model, name, hidden)


def expect_decoder_shapes(
    model: Object, condition: Callable[[int], Tensor | None] = no_condition
) -> None:
    """Fail unless the decoder returns (N, 1, 28, 28)."""
    for n_images in (7, 1):
        codes, c = torch.randn(n_images, LATENT_DIM), condition(n_images)
        inputs = with_condition(codes, c)
        causes = {
            "It takes the code without the condition: its first Linear layer should have "
            "latent_dim + conditional_vec_dim inputs.": codes if c is not None else None,
            "It takes codes with a channel axis: use nn.Unflatten(1, (1, 28, 28)).": inputs[
                :, None
            ],
        }
        answer = _called(model, "decoder", inputs, causes)
        expect_tensor(
            answer,
            (n_images, 1, 28, 28),
            what=f"For an input of shape {tuple(inputs.shape)}, the decoder's output",
            hint="Bring the 784 numbers into an image with nn.Unflatten(1, (1, 28, 28)).",
        )
    expect_kept(model, "decoder", inputs)


def expect_sigmoid_last(
    model: Object, inputs: Tensor, part: str = "decoder", what: str = "decoder"
) -> None:
    """Fail if the last layer that the decoder (or another part) applies is no Sigmoid."""
    steps = computed(model, part, inputs)
    last = layer_name(steps[-1]) if steps else ""
    expect(
        last == "Sigmoid" or last not in LAYERS.values(),
        f"The {what} ends in a {last}.",
        "It should end in a Sigmoid, which gives each pixel a probability of its own.",
    )


def _called(model: Object, part: str, inputs: Tensor, causes: dict[str, Tensor | None]) -> object:
    """The answer of a part; if it raises, fail with the cause whose input would have worked."""
    try:
        return model.call(part, inputs)
    except StudentError as error:
        if error.kind != "error":
            raise
        for cause, other in causes.items():
            if other is None or other.shape == inputs.shape:
                continue
            try:
                model.call(part, other)
            except StudentError:
                continue
            fail(f"The {part} cannot take {tuple(inputs.shape)} ({error.message}).", cause)
        raise
