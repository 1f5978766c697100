"""The layers of a model, and properties of its outputs."""

from collections.abc import Callable, Collection
from typing import Any

from torch import Tensor

from helpers.checking import Layer, Object, Step, Submission, close, expect, fail
from helpers.checks.common.images import random_images

_ARRANGING = """
T cat chunk clone contiguous cpu cuda detach empty_like expand expand_as flatten flip float getitem
moveaxis movedim narrow ones_like pad permute pixel_shuffle pixel_unshuffle rand_like randn_like
repeat requires_grad reshape reshape_as split squeeze stack swapaxes t tile to transpose type_as
unbind unflatten unsqueeze view view_as zeros_like
"""
#: Functions that copy, move and reshape numbers, but compute nothing.
ARRANGING = frozenset(_ARRANGING.split())
#: The classes of layers by the functions that compute them.
LAYERS = {
    "linear": "Linear",
    "conv1d": "Conv1d",
    "conv2d": "Conv2d",
    "conv_transpose2d": "ConvTranspose2d",
    "batch_norm": "BatchNorm",
    "group_norm": "GroupNorm",
    "layer_norm": "LayerNorm",
    "instance_norm": "InstanceNorm",
    "max_pool2d": "MaxPool2d",
    "boolean_dispatch": "MaxPool2d",
    "avg_pool2d": "AvgPool2d",
    "adaptive_avg_pool2d": "AdaptiveAvgPool2d",
    "interpolate": "Upsample",
    "upsample": "Upsample",
    "relu": "ReLU",
    "leaky_relu": "LeakyReLU",
    "prelu": "PReLU",
    "elu": "ELU",
    "selu": "SELU",
    "gelu": "GELU",
    "silu": "SiLU",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "softmax": "Softmax",
    "hardtanh": "Hardtanh",
    "clamp": "clamp",
    "dropout": "Dropout",
}

#: Layers that only change a shape.
SHAPE_LAYERS = ("Flatten", "Unflatten", "Identity")


def leaf_layers(model: Object, part: str = "") -> list[Layer]:
    """The modules at ``part`` that contain no other modules."""
    return [layer for layer in model.layers(part) if not layer.container]


def last_layer(model: Object, part: str) -> str:
    """The class of the last layer at ``part`` that computes something, or ""."""
    kinds = [layer.type_name for layer in leaf_layers(model, part) if layer.of_torch]
    return next((kind for kind in reversed(kinds) if kind not in SHAPE_LAYERS), "")


def expect_sequential(model: Object, part: str) -> None:
    """Fail unless ``part`` of a model is an nn.Sequential."""
    outermost = model.layers(part)[0]
    expect(
        outermost.type_name == "Sequential",
        f"model.{part} should be an nn.Sequential, but it is a {outermost.type_name}.",
    )


def expect_only_layers(model: Object, part: str, allowed: Collection[str], hint: str) -> list[str]:
    """The classes of the layers in ``part`` of a model; fail if one is not allowed.

    A module of the student's own that has no parameters, and only reshapes or crops, is fine.
    """
    leaves = leaf_layers(model, part)
    for layer in leaves:
        own = not layer.of_torch and layer.n_parameters == 0
        if layer.type_name not in (*allowed, *SHAPE_LAYERS) and not own:
            fail(f"The {part} has a {layer.type_name} (at {part}.{layer.path}).", hint)
    return [layer.type_name for layer in leaves]


def computed(model: Object, part: str, *inputs: Tensor, training: bool = False) -> list[Step]:
    """The steps in which ``part`` of a model computes something from its inputs, in their order.

    Functions that only arrange numbers (``flatten``, slices) are left out, and so is dropout
    outside training. How the layers are written down does not matter, only which are executed.
    """
    steps = model.trace(part, *inputs, training=training).steps
    depends: set[int] = set()
    for number, step in enumerate(steps):
        if any(source < 0 or source in depends for source in step.inputs):
            depends.add(number)
    return [
        step
        for number, step in enumerate(steps)
        if number in depends and step.function not in ARRANGING and not _is_idle(step)
    ]


def layer_name(step: Step) -> str:
    """The class of layers that computes a step, such as ``Conv2d``; else its function."""
    name = LAYERS.get(step.function, step.function)
    if step.function == "batch_norm":
        name += {4: "2d", 5: "3d"}.get(len(step.shape), "1d")
    return name


def expect_only_layers_run(
    model: Object, part: str, inputs: Tensor, allowed: Collection[str], hint: str
) -> list[str]:
    """The classes of the layers that ``part`` of a model applies; fail if one is not allowed."""
    steps = computed(model, part, inputs)
    for step in steps:
        if layer_name(step) not in allowed:
            where = f" (in {part}.{step.module})" if step.module else ""
            fail(f"The {part} applies {layer_name(step)}{where}.", hint)
    return [layer_name(step) for step in steps]


def _is_idle(step: Step) -> bool:
    return "dropout" in step.function and step.settings.get("training") is False


def expect_black_to_white(model: Object, codes: Tensor) -> None:
    """Fail unless ``model.decoder`` gives pixels in [0, 1] that can reach both ends.

    ``codes`` (N, ...) is what the decoder takes. The model's weights are changed.
    """
    state = model.state("decoder")
    weights = [name for name in state if name.endswith("weight")]
    expect(bool(weights), "The decoder has no layer with weights.")
    # If the weights of the last layer are very large, a Sigmoid gives almost exactly 0 or 1.
    last = weights[-1].removesuffix("weight")
    state.update({k: 1e4 * v for k, v in state.items() if k.startswith(last)})
    model.load(state, "decoder")
    pixels = model.tensor("decoder", codes, what="The decoder's output")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        fail(
            f"Pixels should lie in [0, 1], but the decoder can give {low:.3g} to {high:.3g}.",
            "Is the Sigmoid at its end missing?",
        )
    if low > 0.05 or high < 0.95:
        fail(
            f"The decoder's pixels cannot leave [{low:.2f}, {high:.2f}].",
            "Is there a second Sigmoid, or another activation just before it?",
        )


def expect_decoded_code(model: Object) -> None:
    """Fail unless the forward of an autoencoder is decoder(encoder(x))."""
    images = random_images(7)
    output = model.tensor("", images, shape=(7, 1, 28, 28), what="The output of forward")
    code = model.tensor("encoder", images, what="The encoder's output")
    expect(
        close(output, model.tensor("decoder", code, what="The decoder's output")),
        "forward(x) differs from decoder(encoder(x)).",
        "Does forward return the images, and change nothing on the way?",
    )


def expect_images_apart(images: Tensor, answer: Callable[[Tensor], Tensor]) -> None:
    """Fail if the answer to an image depends on the other images of its batch (N, ...)."""
    together = answer(images)
    for number in range(len(together) if together.ndim else 0):
        expect(
            close(together[number : number + 1], answer(images[number : number + 1])),
            "The output for an image changes with the other images of its batch.",
            "Is the batch axis flattened away, or normalised over?",
        )


def expect_kept(
    owner: Submission | Object, path: str, *args: Any, hint: str = "", **kwargs: Any
) -> None:
    """Fail if a call of the student's code changes one of the tensors that it is given."""
    if isinstance(owner, Submission):
        answer = owner.ask("overwrites", None, path, *args, **kwargs)
        changed = answer if isinstance(answer, list) else []
    else:
        changed = owner.overwrites(path, *args, **kwargs)
    expect(
        not changed,
        f"{path or 'The model'} changes the tensor that it is given.",
        hint
        or "Operations such as x += 1, x[...] = 0 and x.mul_(2) work in place: make a new "
        "tensor, as x = x + 1 does.",
    )


def expect_all_used(gradients: dict[str, Tensor | None]) -> None:
    """Fail if the output does not depend on one of the parameters."""
    idle = [name for name, gradient in gradients.items() if gradient is None]
    expect(not idle, f"These parameters have no part in the output: {', '.join(idle[:3])}.")
