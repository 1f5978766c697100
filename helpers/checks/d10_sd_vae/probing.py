"""A student's blocks with random weights, and what their answers are compared with."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Object, Submission, expect, expect_close, fail
from helpers.checks.d10_sd_vae import stand_ins
from helpers.deliverables import get

D10 = get("d10_sd_vae")
#: Width of the narrow networks with which the checks work.
BASE = int(D10["base_channels"])

State = dict[str, Tensor]


def new(submission: Submission, name: str, *args: Any, instead: tuple[str, ...] = ()) -> Object:
    """An object of a student's class, in eval mode, with stand-ins for the classes ``instead``.

    Mistakes in those classes are other checks' concern; see :mod:`.stand_ins`.
    """
    path = f"{stand_ins.__name__}.{stand_ins.made_with.__name__}"
    made = submission.build(path, submission.object(name), list(instead), *args)
    made.call("eval")
    return made


def loaded(
    submission: Submission,
    name: str,
    *args: int,
    shapes: Mapping[str, Any],
    biased: bool = False,
    instead: tuple[str, ...] = (),
) -> tuple[Object, State]:
    """A block of the student's with random numbers in all of its parameters, and these.

    New normalisation layers would multiply by 1 and add 0, so leaving them out would not show.

    Args:
        shapes: the shapes of the weights of its modules, by the modules' names.
        biased: whether it fails if one of these has no bias, which only one check should do.
        instead: see :func:`new`.
    """
    block = new(submission, name, *args, instead=instead)
    state = block.state()
    made = f"{name}({', '.join(str(number) for number in args)})"
    for part, shape in shapes.items():
        weight, bias = state.get(f"{part}.weight"), state.get(f"{part}.bias")
        known = sorted({key.rpartition(".")[0] for key in state})
        if weight is None and any(each.startswith(f"{part}.") for each in known):
            fail(f"In {made}, `{part}` should be a single layer of torch.nn, with a weight.")
        if weight is None:
            fail(f"{made} should have a module `{part}`; it has {', '.join(known) or 'none'}.")
        got = tuple(weight.shape)
        expect(got == shape, f"In {made} the weight of {part} should be {shape}; it is {got}.")
        expect(not biased or bias is not None, f"In {made}, {part} has no bias: all layers do.")
        plain = weight.is_floating_point() and (bias is None or tuple(bias.shape) == shape[:1])
        expect(plain, f"In {made}, {part} should be a plain layer of torch.nn.")
        if f"{part}.running_mean" in state:
            fail(f"In {made}, {part} is a batch normalisation.", "nn.GroupNorm is asked for.")
    # Small for weights of layers, near 1 for those of normalisations.
    drawn = {
        key: 0.3 * torch.randn_like(value)
        if value.ndim > 1
        else torch.rand_like(value) + 0.5 * ("weight" in key)
        for key, value in state.items()
        if value.is_floating_point()
    }
    state |= drawn
    block.load(state)
    return block, state


def explain(
    found: Tensor, right: Tensor, mistakes: Mapping[str, Tensor], message: str, otherwise: str = ""
) -> None:
    """Fail with ``message`` and the mistake that gives ``found``, unless it is ``right``."""
    # Tolerance: float32 rounding is below 1e-5 of the largest number here.
    scale = float(right.abs().max()) or 1.0
    scaled = {hint: wrong / scale for hint, wrong in mistakes.items()}
    expect_close(found / scale, right / scale, message, scaled, otherwise, tolerance=2e-5)


def linear(x: Tensor, state: State, name: str) -> Tensor:
    """A linear layer with the weights called ``name``."""
    return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))


def convolve(x: Tensor, state: State, name: str, **settings: Any) -> Tensor:
    """A convolution with the weights called ``name``."""
    return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **settings)


def normalise(x: Tensor, state: State, name: str, eps: float = 1e-6, groups: int = 32) -> Tensor:
    """Group normalisation with the weights called ``name``."""
    return functional.group_norm(x, groups, state[f"{name}.weight"], state.get(f"{name}.bias"), eps)


def silu(x: Tensor) -> Tensor:
    """SiLU, as a gated linear unit of twice the same."""
    return functional.glu(torch.stack([x, x]), dim=0).squeeze(0)


#: What may be taken for SiLU, by a sentence about it.
ACTIVATIONS = {
    "SELU is not SiLU: use nn.functional.silu.": nn.SELU(),
    "ReLU is not SiLU: use nn.functional.silu.": nn.ReLU(),
    "LeakyReLU is not SiLU: use nn.functional.silu.": nn.LeakyReLU(0.2),
    "LeakyReLU is not SiLU; use nn.functional.silu.": nn.LeakyReLU(),
    "ELU is not SiLU: use nn.functional.silu.": nn.ELU(),
    "GELU is not SiLU: use nn.functional.silu.": nn.GELU(),
    "GELU is not SiLU; use nn.functional.silu.": nn.GELU("tanh"),
    "Mish is not SiLU: use nn.functional.silu.": nn.Mish(),
    "Hardswish is not SiLU: use nn.functional.silu.": nn.Hardswish(),
    "Tanh is not SiLU: use nn.functional.silu.": nn.Tanh(),
    "This is the sigmoid alone: SiLU is x * sigmoid(x).": nn.Sigmoid(),
}
