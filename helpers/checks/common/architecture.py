"""The layers of a model, and properties of its outputs."""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from helpers.checking import (
    CheckFailedError,
    Object,
    Step,
    StudentError,
    Submission,
    close,
    expect,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common.conduct import with_the_same_draws
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
    "hardsigmoid": "Hardsigmoid",
    "hardswish": "Hardswish",
    "relu6": "ReLU6",
    "rrelu": "RReLU",
    "celu": "CELU",
    "mish": "Mish",
    "logsigmoid": "LogSigmoid",
    "softsign": "Softsign",
    "clamp": "clamp",
    "dropout": "Dropout",
}
_ACTIVATIONS = """
ReLU LeakyReLU PReLU ELU SELU GELU SiLU Softplus Sigmoid Tanh Softmax Hardtanh Hardsigmoid Hardswish
ReLU6 RReLU CELU Mish LogSigmoid Softsign clamp
"""
#: What bends the numbers one by one, by the name that :func:`layer_name` gives it.
ACTIVATIONS = frozenset(_ACTIVATIONS.split())


def expect_sequential(model: Object, part: str) -> None:
    """Fail unless ``part`` of a model is an nn.Sequential."""
    name = model.layers(part)[0].type_name
    if name != "Sequential":
        try:  # a class of the student's that inherits from nn.Sequential has its methods
            model.get(f"{part}.append")
        except StudentError:
            fail(f"model.{part} should be an nn.Sequential, but it is of type {name}.")


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


def steps_after_weights(steps: Sequence[Step]) -> list[Step]:
    """The steps after the last one that has weights: the activation at a network's end."""
    weighted = [
        number
        for number, step in enumerate(steps)
        if "weight" in step.parameters or any(step.parameters.values())
    ]
    return list(steps[max(weighted, default=-1) + 1 :])


def expect_only_layers_run(
    model: Object,
    part: str,
    inputs: Tensor,
    allowed: Collection[str],
    hint: str,
    *,
    training: bool = False,
    any_end: bool = False,
) -> list[str]:
    """The classes of the layers that ``part`` of a model applies; fail if one is not allowed.

    Args:
        training: whether to look in training mode, where dropout is a layer, too.
        any_end: whether any activation is allowed at the end, because another check is about it.
    """
    steps = computed(model, part, inputs, training=training)
    end = [
        step for step in steps_after_weights(steps) if any_end and layer_name(step) in ACTIVATIONS
    ]
    for step in steps:
        if layer_name(step) not in allowed and step not in end:
            where = f" (in {part}.{step.module})" if step.module else ""
            fail(f"The {part} applies {layer_name(step)}{where}.", hint)
        if layer_name(step) == "LeakyReLU":
            expect_leak(step, part)
    return [layer_name(step) for step in steps]


def expect_leak(step: Step, part: str) -> None:
    """Fail unless a LeakyReLU that is applied has a slope between 0 and 1."""
    slope = step.settings.get("negative_slope", 0.01)
    if isinstance(slope, int | float) and not 0 < slope < 1:
        hint = {0.0: "That is a ReLU.", 1.0: "That changes nothing."}.get(float(slope), "")
        fail(
            f"The {part} applies a LeakyReLU of slope {slope:g}; it should lie between 0 and 1.",
            hint or "Its default of 0.01 serves well.",
        )


def expect_activated_between(kinds: Sequence[str], layer: str, part: str) -> None:
    """Fail unless there is an activation between any two layers of the kind ``layer``.

    ``kinds`` are the classes of the layers that ``part`` of a model applies, in their order.
    """
    steps = [kind for kind in kinds if kind == layer or kind in ACTIVATIONS]
    if any(pair == (layer, layer) for pair in pairwise(steps)):
        fail(
            f"The {part} applies two {layer} layers without a LeakyReLU between them.",
            "Without a nonlinearity between them they are together just one such layer.",
        )


def in_eval_mode(model: Object, part: str, inputs: Tensor, *, what: str) -> Tensor:
    """What ``part`` of a model makes of one batch in eval mode, of any shape."""
    answer = model.submission.ask("apply", model.ref, part, inputs, pick=None)
    return expect_tensor(answer, what=what)


def encoder_takes(model: Object, images: Tensor) -> Tensor:
    """``images`` (N, ...) as they are, or flat if the encoder of a model takes only flat ones.

    That is a mistake, which costs the points of the check that is about it, and no others.
    """
    return _taken(model, "encoder", images, images.flatten(1))


def decoder_takes(model: Object, codes: Tensor) -> Tensor:
    """``codes`` (N, Z) as they are, or (N, 1, Z) if the decoder takes only these."""
    return _taken(model, "decoder", codes, codes.unsqueeze(1))


def _taken(model: Object, part: str, usual: Tensor, unusual: Tensor) -> Tensor:
    for inputs in (usual[:2], unusual[:2]):
        try:
            in_eval_mode(model, part, inputs, what="")
        except StudentError as error:
            if error.kind != "error":
                break
        except CheckFailedError:
            break
        else:
            return usual if inputs.shape == usual[:2].shape else unusual
    return usual


def encode_images(model: Object, images: Tensor) -> Tensor:
    """The codes of images, in eval mode; see :func:`encoder_takes`."""
    return model.apply("encoder", encoder_takes(model, images), what="The encoder's output")


def decode_codes(model: Object, codes: Tensor) -> Tensor:
    """The images of codes, in eval mode."""
    return model.apply("decoder", codes, what="The decoder's output")


def decoded_images(model: Object, images: Tensor) -> Tensor:
    """What an autoencoder's two parts make of images; forward has a check of its own."""
    return decode_codes(model, encode_images(model, images))


def _is_idle(step: Step) -> bool:
    return "dropout" in step.function and step.settings.get("training") is False


def expect_black_to_white(model: Object, codes: Tensor) -> None:
    """Fail unless ``model.decoder`` gives pixels in [0, 1] that can reach both ends.

    ``codes`` (N, ...) is what the decoder takes. The model's weights are changed.
    """
    state = model.state("decoder")
    steps = computed(model, "decoder", codes)
    run = [name for step in steps for name in step.parameters.values() if name in state]
    weights = run or [name for name in state if name.endswith("weight")]
    expect(bool(weights), "The decoder has no layer with weights.")
    # If the weights of the last layer are very large, a Sigmoid gives almost exactly 0 or 1.
    last = weights[-1].rpartition(".")[0]
    for name, value in state.items():
        layer, _, kind = name.rpartition(".")
        if layer == last and kind in ("weight", "bias"):
            state[name] = 1e4 * value
    model.load(state, "decoder")
    # In training mode, where BatchNorm gives each layer numbers of both signs.
    pixels = model.tensor("decoder", codes, what="The decoder's output")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        fail(
            f"Pixels should lie in [0, 1], but the decoder can give {low:.3g} to {high:.3g}.",
            _what_follows_sigmoid(model, codes) or "Is the Sigmoid at its end missing?",
        )
    expect(
        low < high,
        f"Whatever the code, each pixel that the decoder gives is {low:.2f}.",
        "Do its weights all start with the same value?",
    )
    if low > 0.05 or high < 0.95:
        fail(
            f"The decoder's pixels cannot leave [{low:.2f}, {high:.2f}].",
            "Is there a second Sigmoid, or another activation just before it?",
        )


def _what_follows_sigmoid(model: Object, codes: Tensor) -> str:
    kinds = [layer_name(step) for step in computed(model, "decoder", codes, training=True)]
    if "Sigmoid" not in kinds or kinds[-1] == "Sigmoid":
        return ""
    return f"{kinds[-1]} comes after the Sigmoid, which should be the last."


def expect_sigmoid_alone(model: Object, codes: Tensor) -> None:
    """Fail unless the decoder's last layer with weights is followed by one Sigmoid alone."""
    kinds = [layer_name(step) for step in steps_after_weights(computed(model, "decoder", codes))]
    if kinds != ["Sigmoid"]:
        end = " and ".join(kinds) or "a layer with weights"
        fail(f"The decoder ends in {end}; it should end in one Sigmoid.")


def expect_decoded_code(model: Object) -> None:
    """Fail unless the forward of an autoencoder is decoder(encoder(x)).

    Whether encoder and decoder give the right shapes is for other checks.
    """
    images = random_images(7)
    what = "The output of forward"
    output = in_eval_mode(model, "", images, what=what)
    code = encode_images(model, images)
    decoded = decode_codes(model, code)
    shapes = (tuple(decoded.shape), tuple(images.shape))
    if close(output, decoded.view(output.shape) if _alike(output, decoded) else decoded):
        got = tuple(output.shape)
        expect(got in shapes, f"{what} should have shape {shapes[1]}, but it has {got}.")
        expect_kept(model, "", images)
        _expect_the_same_in_training(model, images)
        _expect_learning(model, images)
        return
    causes = {
        "It returns the code: decode it.": code,
        "It returns the images that it was given.": images,
        "There is a second Sigmoid in forward.": decoded.sigmoid(),
    }
    if shapes[0] == shapes[1] and output.numel() == decoded.numel():
        twice = decoded_images(model, decoded)
        # A decoder that has not been trained gives nearly the same for all codes.
        if _distance(output, twice) < 0.05 * _distance(output, decoded):
            causes["It encodes and decodes twice."] = twice
    hint = "It should encode the images, decode the code, and change nothing on the way."
    if not close(output, in_eval_mode(model, "", images, what=what)):
        hint = "There is something random in forward."
    fail("forward(x) differs from decoder(encoder(x)).", likely_cause(output, causes, hint))


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.reshape(-1) - other.reshape(-1)).abs().max())


def _expect_the_same_in_training(model: Object, images: Tensor) -> None:
    """Fail unless forward is decoder(encoder(x)) in training mode, too, with the same Dropout."""
    inputs = encoder_takes(model, images)

    def in_two_steps() -> Tensor:
        code = model.tensor("encoder", inputs, what="The encoder's output")
        return model.tensor("decoder", code, what="The decoder's output")

    output, decoded = with_the_same_draws(
        model.submission,
        lambda: model.tensor("", images, what="The output of forward"),
        in_two_steps,
    )
    expect(
        close(output.reshape(-1), decoded.reshape(-1)),
        "In training mode forward(x) differs from decoder(encoder(x)).",
        "It should encode the images, decode the code, and change nothing on the way.",
    )


def _expect_learning(model: Object, images: Tensor) -> None:
    """Fail unless gradients of forward reach the encoder and the decoder."""
    try:
        gradients = model.differentiate("", images).parameters
    except StudentError:
        return  # frozen parameters, for instance, which are for another check
    for part in ("encoder", "decoder"):
        found = [one is not None for name, one in gradients.items() if name.startswith(part)]
        expect(
            any(found) or not found,
            f"No gradient reaches the {part} through forward.",
            "Leave detach(), .data and torch.no_grad() out of it.",
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.numel() == other.numel() and one.ndim > 0 and len(one) == len(other)


def expect_images_apart(images: Tensor, answer: Callable[[Tensor], Tensor]) -> None:
    """Fail if the answer to an image depends on the other images of its batch (N, ...)."""
    together = answer(images)
    expect(
        together.ndim > 0 and len(together) == len(images),
        f"The output for {len(images)} images has shape {tuple(together.shape)}.",
    )
    alone = [answer(images[number : number + 1]) for number in range(len(images))]
    if all(close(together[n : n + 1], one) for n, one in enumerate(alone)):
        return
    if not close(together, answer(images)):
        fail("The output for the same images changes from call to call: something is random.")
    fail(
        "The output for an image changes with the other images of its batch.",
        "Is the batch axis flattened away, or normalised over?",
    )


def expect_kept(
    owner: Submission | Object, path: str, *args: Any, hint: str = "", **kwargs: Any
) -> None:
    """Fail if a call of the student's code changes one of the tensors that it is given."""
    expect(
        not owner.overwrites(path, *args, **kwargs),
        f"{path or 'The model'} changes the tensor that it is given.",
        hint
        or "Operations such as x += 1, x[...] = 0 and x.mul_(2) work in place: make a new "
        "tensor, as x = x + 1 does.",
    )


def expect_all_used(gradients: dict[str, Tensor | None]) -> None:
    """Fail if the output does not depend on one of the parameters."""
    idle = [name for name, gradient in gradients.items() if gradient is None]
    expect(not idle, f"These parameters have no part in the output: {', '.join(idle[:3])}.")
