"""The checks of encoder and decoder: their layers as they are executed, whatever their names."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    Object,
    Step,
    Submission,
    check,
    close,
    expect,
    expect_several,
    expect_tensor,
    fail,
)
from helpers.checks.common.architecture import computed, layer_name
from helpers.checks.common.images import random_images

#: The sizes of the small models in the checks, different from the real ones.
CAPACITY, LATENT_DIMS = 4, 3

ENCODER_RETURNS = "The Encoder should return two tensors: mu and logvar."
C, FLAT = CAPACITY, 2 * CAPACITY * 49
#: The layers in the order of the table: what each is called there, and the shape of its weight.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "Encoder": {
        "conv1": (C, 1, 4, 4),
        "conv2": (2 * C, C, 4, 4),
        "fc_mu": (LATENT_DIMS, FLAT),
        "fc_logvar": (LATENT_DIMS, FLAT),
    },
    "Decoder": {"fc": (FLAT, LATENT_DIMS), "conv2": (2 * C, C, 4, 4), "conv1": (C, 1, 4, 4)},
}
#: The class of each, and the width and height of what the convolutions give.
KINDS = {
    "Encoder": ["Conv2d", "Conv2d", "Linear", "Linear"],
    "Decoder": ["Linear", "ConvTranspose2d", "ConvTranspose2d"],
}
SIZES = {"Encoder": {"conv1": 14, "conv2": 7}, "Decoder": {"conv2": 14, "conv1": 28}}
_SAME_SIZE = "Its kernel has size 4, its stride is 2 and its padding 1."
#: Functions that may be a ReLU, a sigmoid or their parts; the values tell whether they are.
_POINTWISE = ("ReLU", "clamp", "clamp_min", "maximum", "max", "where", "gt", "mul")

#: What an activation makes of the means and log variances.
Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def new_part(submission: Submission, name: str) -> tuple[Object, dict[str, Tensor]]:
    """A small Encoder or Decoder with larger weights than a new one, and its state dict."""
    part = submission.new(name, capacity=CAPACITY, latent_dims=LATENT_DIMS)
    state = {k: 2 * v if v.is_floating_point() else v for k, v in part.state().items()}
    part.load(state)
    return part, state


def weighted(steps: Sequence[Step]) -> list[Step]:
    """The steps that use weights."""
    return [step for step in steps if "weight" in step.parameters]


def expect_layers(part: Object, kind: str, inputs: Tensor) -> list[Step]:
    """The steps with weights; fail unless they are those of the ``kind`` in the table."""
    steps = weighted(computed(part, "", inputs))
    found = [layer_name(step) for step in steps]
    expect(
        found == KINDS[kind],
        f"The {kind} applies {', '.join(found) or 'no layers'}; the table has "
        f"{', '.join(KINDS[kind])}.",
    )
    for (name, shape), step in zip(SHAPES[kind].items(), steps, strict=True):
        weight = step.shapes.get("weight", ())
        expect(
            weight == shape,
            f"With capacity={CAPACITY} and latent_dims={LATENT_DIMS}, the weight of {name} should "
            f"have shape {shape}, but it has {weight}.",
        )
        if not _fits(kind, name, step):
            size = SIZES[kind][name]
            got = " x ".join(map(str, step.shape[2:]))
            fail(f"{name} gives {got} pixels, and should give {size} x {size}.", _SAME_SIZE)
    return steps


def _fits(kind: str, name: str, step: Step) -> bool:
    """Whether what a layer gives is as wide and as high as it should be."""
    size = SIZES[kind].get(name)
    return size is None or step.shape[2:] == (size, size)


def is_as_in_table(steps: Sequence[Step], kind: str) -> bool:
    """Whether the steps with weights are of the right classes and give images of the right sizes.

    Otherwise it costs a check of its own, and what they compute cannot be judged.
    """
    named = zip(SHAPES[kind], steps, strict=False)
    right = [layer_name(step) for step in steps] == KINDS[kind]
    return right and all(_fits(kind, name, step) for name, step in named)


def expect_no_more(part: Object, inputs: Tensor) -> None:
    """Fail if a layer is applied in training that is not in the table."""
    for step in computed(part, "", inputs, training=True):
        name = layer_name(step)
        if "dropout" in step.function or "norm" in step.function or "pool" in step.function:
            name = "Dropout" if "dropout" in step.function else name
            fail(f"The {part.type_name} applies {name}; the table has no such layer.")


def activations(part: Object, inputs: Tensor) -> list[str]:
    """The class of the step after each layer with weights, or "" if that is another such layer."""
    steps = computed(part, "", inputs)
    after = [*steps[1:], None]
    return [
        "" if then is None or "weight" in then.parameters else layer_name(then)
        for step, then in zip(steps, after, strict=True)
        if "weight" in step.parameters
    ]


def wrong_activation(part: Object, inputs: Tensor, names: Sequence[str]) -> str:
    """The first activation that is certainly no ReLU, as a sentence, or ""."""
    for name, found in zip(names, activations(part, inputs), strict=False):
        if found and found not in _POINTWISE:
            should = "there should be none" if name == "fc" else "it should be ReLU"
            return f"The activation after {name} is {found}; {should}."
    return ""


def weights_of(steps: Sequence[Step], state: Mapping[str, Tensor]) -> list[tuple[Any, Any]]:
    """The weight and the bias (or None) of each step, or fail if they are not parameters."""
    pairs = []
    for step in steps:
        weight = state.get(step.parameters.get("weight", ""))
        if weight is None:
            fail(f"The weight of {layer_name(step)} is not a parameter of the layer.")
        pairs.append((weight, state.get(step.parameters.get("bias", ""))))
    return pairs


def encoded(answer: Any, shape: tuple[int, ...] | None = None) -> list[Tensor]:
    """The mu and logvar in an encoder's answer, perhaps followed by more, or fail."""
    if not isinstance(answer, list) or len(answer) < 2:
        expect_several(answer, 2, ENCODER_RETURNS)
    return [
        expect_tensor(value, shape, what=f"The Encoder's {name}")
        for name, value in zip(("mu", "logvar"), answer, strict=False)
    ]


@check("architecture", points=3)
def encoder_has_the_right_layers(submission: Submission) -> None:
    """Two convolutions and two linear layers take images to mu and logvar, (N, latent_dims)."""
    encoder, _ = new_part(submission, "Encoder")
    for n_images in (3, 1):
        answer = encoder.call("", random_images(n_images))
        mu, logvar = encoded(answer)
        expect(
            mu.shape == logvar.shape == (n_images, LATENT_DIMS),
            f"For {n_images} images, mu and logvar should have shape ({n_images}, {LATENT_DIMS}), "
            f"but they have {tuple(mu.shape)} and {tuple(logvar.shape)}.",
        )
        expect_several(answer, 2, ENCODER_RETURNS)
    steps = expect_layers(encoder, "Encoder", random_images(3))
    heads = [step.parameters["weight"] for step in steps[2:]]
    expect(
        len(set(heads)) == 2,
        "mu and logvar come from the same layer.",
        "Each needs a linear layer of its own: fc_mu and fc_logvar.",
    )


@check("architecture", points=3)
def encoder_computes_as_in_the_table(submission: Submission) -> None:
    """A ReLU comes after each convolution, and nothing after fc_mu and fc_logvar."""
    encoder, state = new_part(submission, "Encoder")
    images = random_images(5)
    expect_no_more(encoder, images)
    found = encoded(encoder.call("", images))
    steps = weighted(computed(encoder, "", images))
    names = [step.parameters["weight"] for step in steps[2:]]
    if not is_as_in_table(steps, "Encoder") or len(set(names)) < 2:
        return
    weights = weights_of(steps, state)
    # Where the names do not tell which layer is for the log variance, either may be.
    is_spread = ["var" in name or "sig" in name for name in names]
    known = is_spread[0] != is_spread[1]
    orders = [(int(is_spread[0]), int(not is_spread[0]))] if known else [(0, 1), (1, 0)]

    def explains(relus: tuple[bool, bool], change: Change) -> bool:
        heads = _encode(weights, images, *relus)
        answers = (change(heads[i], heads[j]) for i, j in orders)
        return any(all(map(_near, found, answer)) for answer in answers)

    try:
        if explains((True, True), lambda m, v: (m, v)):
            return
    except RuntimeError:
        return  # of other sizes, which costs the other check
    causes: dict[str, tuple[tuple[bool, bool], Change]] = {
        "There is no ReLU after conv2.": ((True, False), lambda m, v: (m, v)),
        "There is no ReLU after conv1.": ((False, True), lambda m, v: (m, v)),
        "There is no ReLU at all.": ((False, False), lambda m, v: (m, v)),
        "mu and logvar are swapped.": ((True, True), lambda m, v: (v, m)),
        "mu and logvar are the same numbers: each has a layer of its own.": (
            (True, True),
            lambda m, v: (m, m),
        ),
    }
    pointwise = {
        "a ReLU": torch.relu,
        "a tanh": torch.tanh,
        "a sigmoid": torch.sigmoid,
        "a softplus": functional.softplus,
        "an exponential": torch.exp,
    }
    for name, f in pointwise.items():
        changes: dict[str, Change] = {
            "fc_mu": _after(f, mu=True),
            "fc_logvar": _after(f, logvar=True),
            "fc_mu and fc_logvar": _after(f, mu=True, logvar=True),
        }
        causes |= {
            f"There is {name} after {where}.": ((True, True), change)
            for where, change in changes.items()
        }
    fail(
        "The Encoder's answer is not what its layers give, used as in the table.",
        next((text for text, cause in causes.items() if explains(*cause)), "")
        or wrong_activation(encoder, images, ("conv1", "conv2")),
    )


def _after(f: Callable[[Tensor], Tensor], mu: bool = False, logvar: bool = False) -> Change:
    """An activation after one of the heads, or both."""
    return lambda m, v: (f(m) if mu else m, f(v) if logvar else v)


def _near(found: Tensor, other: Tensor) -> bool:
    return close(found, other, 1e-3)


def _encode(
    weights: Sequence[tuple[Any, Any]], images: Tensor, one: bool, two: bool
) -> list[Tensor]:
    """What an Encoder's two heads give, with or without the first and the second ReLU."""
    first, second, *heads = weights
    x = functional.conv2d(images, *first, 2, 1)
    x = functional.conv2d(x.relu() if one else x, *second, 2, 1)
    x = (x.relu() if two else x).flatten(1)
    return [functional.linear(x, *head) for head in heads]


@check("architecture", points=3)
def decoder_has_the_right_layers(submission: Submission) -> None:
    """A linear layer and two transposed convolutions take codes (N, latent_dims) to images."""
    decoder, _ = new_part(submission, "Decoder")
    for n_images in (3, 1):
        codes = torch.randn(n_images, LATENT_DIMS)
        decoder.tensor("", codes, shape=(n_images, 1, 28, 28), what="The Decoder's output")
    expect_layers(decoder, "Decoder", torch.randn(3, LATENT_DIMS))


@check("architecture", points=3)
def decoder_computes_as_in_the_table(submission: Submission) -> None:
    """A ReLU comes after conv2 and a sigmoid after conv1, and nothing after fc."""
    decoder, state = new_part(submission, "Decoder")
    codes = 3 * torch.randn(5, LATENT_DIMS)
    expect_no_more(decoder, codes)
    images = decoder.tensor("", codes, what="The Decoder's output")
    steps = weighted(computed(decoder, "", codes))
    if not is_as_in_table(steps, "Decoder"):
        return
    weights = weights_of(steps, state)
    try:
        right = _decode(weights, codes)
    except RuntimeError:
        return  # of other sizes, likewise
    if images.shape != right.shape or close(images, right.sigmoid(), 1e-3):
        return
    causes: dict[str, Callable[[], Tensor]] = {
        "The sigmoid at its end is missing.": lambda: right,
        "There is no ReLU after conv2.": lambda: _decode(weights, codes, conv="").sigmoid(),
        "There is a ReLU after fc.": lambda: _decode(weights, codes, fc="relu").sigmoid(),
        "There is a ReLU after conv1, before the sigmoid.": lambda: right.relu().sigmoid(),
        "There is a ReLU at its end, and no sigmoid.": lambda: right.relu(),
        "There is a tanh at its end: pixels lie in [0, 1].": lambda: right.tanh(),
        "There are two sigmoids at its end.": lambda: right.sigmoid().sigmoid(),
        "The output is clamped: use a sigmoid.": lambda: right.clamp(0, 1),
        "fc's output has the shape (2c, 7, 7): the channels come first.": lambda: _decode(
            weights, codes, channels_last=True
        ).sigmoid(),
        "Rows and columns are exchanged.": lambda: right.sigmoid().transpose(2, 3),
        "The pixels are inverted.": lambda: 1 - right.sigmoid(),
    }
    near = (text for text, answer in causes.items() if close(images, answer(), 1e-3))
    fail(
        "The Decoder's images are not what its layers give, used as in the table.",
        next(near, "") or wrong_activation(decoder, codes, ("fc", "conv2")),
    )


def _decode(
    weights: Sequence[tuple[Any, Any]],
    codes: Tensor,
    fc: str = "",
    conv: str = "relu",
    channels_last: bool = False,
) -> Tensor:
    """What a Decoder's weights give before the sigmoid, with these activations."""
    first, second, third = weights
    x = functional.linear(codes, *first)
    x = x.relu() if fc else x
    if channels_last:
        x = x.view(len(codes), 7, 7, -1).permute(0, 3, 1, 2)
    x = functional.conv_transpose2d(x.reshape(len(codes), -1, 7, 7), *second, 2, 1)
    x = getattr(torch, conv)(x) if conv else x
    return functional.conv_transpose2d(x, *third, 2, 1)
