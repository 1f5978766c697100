"""What the blocks of Stable Diffusion's autoencoder compute, from a student's own weights.

These functions can make the usual mistakes on request, so that a check can name the one it finds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from helpers.checking import Object, Submission, expect, expect_close, fail

State = dict[str, Tensor]


def loaded(submission: Submission, name: str, *args: int, shapes: Mapping[str, Any]) -> Object:
    """A block of the student's, with random numbers in all of its parameters.

    New normalisation layers would multiply by 1 and add 0, so leaving them out would not show.

    Args:
        shapes: the shapes of the weights of its modules, by the modules' names.
    """
    block = submission.new(name, *args)
    state = block.state()
    made = f"{name}({', '.join(str(number) for number in args)})"
    for part, shape in shapes.items():
        weight, bias = state.get(f"{part}.weight"), state.get(f"{part}.bias")
        if weight is None:
            known = sorted({key.rpartition(".")[0] for key in state})
            fail(f"{made} should have a module `{part}`; it has {', '.join(known) or 'none'}.")
        got = tuple(weight.shape)
        expect(got == shape, f"In {made} the weight of {part} should be {shape}; it is {got}.")
        plain = weight.dtype == torch.float32 and (
            bias is None or (bias.dtype == torch.float32 and tuple(bias.shape) == shape[:1])
        )
        expect(plain, f"In {made}, {part} should be a plain layer of torch's, in float32.")
    # Small for weights of layers, near 1 for those of normalisations.
    drawn = {
        key: 0.3 * torch.randn_like(value)
        if value.ndim > 1
        else torch.rand_like(value) + 0.5 * ("weight" in key)
        for key, value in state.items()
        if value.is_floating_point()
    }
    block.load({**state, **drawn})
    return block


def explain(found: Tensor, right: Tensor, mistakes: Mapping[str, Tensor], message: str) -> None:
    """Fail with ``message`` and the mistake that gives ``found``, unless it is ``right``."""
    # Tolerance: float32 rounding is below 1e-5 of the largest number here.
    scale = float(right.abs().max()) or 1.0
    scaled = {hint: wrong / scale for hint, wrong in mistakes.items()}
    expect_close(found / scale, right / scale, message, scaled, tolerance=2e-5)


def convolve(x: Tensor, state: State, name: str, **settings: Any) -> Tensor:
    """A convolution with the weights called ``name``."""
    return functional.conv2d(x, state[f"{name}.weight"], state.get(f"{name}.bias"), **settings)


def attend(
    x: Tensor,
    state: State,
    n_heads: int,
    *,
    scale: float | None = None,
    softmax_dim: int = -1,
    order: tuple[int, int, int] = (0, 1, 2),
    cut_rows: bool = False,
    project: bool = True,
) -> Tensor:
    """Self-attention (N, T, D) -> (N, T, D), perhaps with a mistake."""
    n_images, length, dim = x.shape

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, state[f"{name}.weight"], state.get(f"{name}.bias"))

    def heads(part: Tensor) -> Tensor:
        if cut_rows:
            return part.reshape(n_images, n_heads, length, dim // n_heads)
        return part.reshape(n_images, length, n_heads, dim // n_heads).transpose(1, 2)

    parts = linear(x, "in_proj").chunk(3, -1)
    q, k, v = (heads(parts[number]) for number in order)
    scores = q @ k.transpose(-1, -2) * ((dim // n_heads) ** -0.5 if scale is None else scale)
    mixed = (scores.softmax(softmax_dim) @ v).transpose(1, 2).reshape(x.shape)
    return linear(mixed, "out_proj") if project else mixed


def normalise(x: Tensor, state: State, name: str, eps: float = 1e-6, groups: int = 32) -> Tensor:
    """Group normalisation with the weights called ``name``."""
    return functional.group_norm(x, groups, state[f"{name}.weight"], state.get(f"{name}.bias"), eps)


def pixels_of(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def residual_shapes(n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    """The shapes of a residual block's weights."""
    shapes: dict[str, tuple[int, ...]] = {
        "norm1": (n_in,),
        "conv1": (n_out, n_in, 3, 3),
        "norm2": (n_out,),
        "conv2": (n_out, n_out, 3, 3),
    }
    return shapes if n_in == n_out else {**shapes, "shortcut": (n_out, n_in, 1, 1)}


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "SELU is not SiLU: nn.functional.silu.": functional.selu,
    "ReLU is not SiLU: nn.functional.silu.": functional.relu,
    "GELU is not SiLU: nn.functional.silu.": functional.gelu,
    "This is the sigmoid alone: SiLU is x * sigmoid(x).": torch.sigmoid,
    "The activations are missing.": lambda x: x,
}


def residual(
    x: Tensor,
    state: State,
    *,
    first: Callable[[Tensor], Tensor] = functional.silu,
    second: Callable[[Tensor], Tensor] = functional.silu,
    eps: float = 1e-6,
    groups: int = 32,
    norms: tuple[bool, bool] = (True, True),
) -> Tensor:
    """The correction that a residual block adds, perhaps with a mistake."""
    hidden = normalise(x, state, "norm1", eps, groups) if norms[0] else x
    hidden = convolve(first(hidden), state, "conv1", padding=1)
    hidden = normalise(hidden, state, "norm2", eps, groups) if norms[1] else hidden
    return convolve(second(hidden), state, "conv2", padding=1)


@dataclass(frozen=True)
class LayerRow:
    """One layer of a network: its class, and its numbers of channels in and out."""

    kind: str
    channels: tuple[int, int]
    path: str = ""

    def __str__(self) -> str:
        n_in, n_out = self.channels
        return f"{self.kind}({n_in} to {n_out})" if n_in != n_out else f"{self.kind}({n_in})"


#: The parameters, and the axes of them, that give a block's numbers of channels in and out.
_WIDTHS = {
    "Conv2d": (("weight", 1), ("weight", 0)),
    "GroupNorm": (("weight", 0), ("weight", 0)),
    "ResidualBlock": (("norm1.weight", 0), ("conv2.weight", 0)),
    "AttentionBlock": (("norm.weight", 0), ("norm.weight", 0)),
    "Downsample": (("conv.weight", 1), ("conv.weight", 0)),
    "Upsample": (("conv.weight", 1), ("conv.weight", 0)),
}


def rows_of(network: Object) -> list[LayerRow]:
    """The layers of a student's network in their order; a block is one layer."""
    tensors, rows = network.parameters(), list[LayerRow]()
    inside = ""
    for layer in network.layers()[1:]:
        if inside and layer.path.startswith(inside):
            continue
        if layer.type_name in ("Sequential", "ModuleList"):
            continue
        inside = f"{layer.path}."
        widths = [0, 0]
        for number, (name, axis) in enumerate(_WIDTHS.get(layer.type_name, ())):
            tensor = tensors.get(inside + name)
            if tensor is not None and tensor.ndim > axis:
                widths[number] = tensor.shape[axis]
        rows.append(LayerRow(layer.type_name, (widths[0], widths[1]), layer.path))
    return rows


def expect_rows(network: Object, name: str, right: Sequence[tuple[str, int, int]]) -> None:
    """Fail unless a network's layers are those of its table, and name the first that is not."""
    found = rows_of(network)
    expected = [LayerRow(kind, (n_in, n_out)) for kind, n_in, n_out in right]
    for number, (row, wanted) in enumerate(zip(found, expected, strict=False), start=1):
        known = row.kind != wanted.kind or row.channels != (0, 0)
        expect(
            not known or (row.kind, row.channels) == (wanted.kind, wanted.channels),
            f"Layer {number} of {name} is {row}; the table has {wanted}.",
        )
    expect(
        len(found) == len(expected),
        f"{name} has {len(found)} layers; the table has {len(expected)}.",
    )


def residuals(*widths: int) -> list[tuple[str, int, int]]:
    """Rows of residual blocks, each from one of the widths to the next."""
    return [("ResidualBlock", a, b) for a, b in pairwise(widths)]


def ending(width: int, n_out: int) -> list[tuple[str, int, int]]:
    """The last rows of a network: normalisation, activation and convolution."""
    return [("GroupNorm", width, width), ("SiLU", 0, 0), ("Conv2d", width, n_out)]
