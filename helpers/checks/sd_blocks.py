"""What the blocks of Stable Diffusion's autoencoder compute, from a student's own weights.

Written with torch's functions alone, and able to make the usual mistakes, so that a check can name
the one that it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from helpers.expect import close, expect, fail
from helpers.submission import Object, Submission

State = dict[str, Tensor]


def loaded(
    submission: Submission, name: str, *args: int, shapes: Mapping[str, tuple[int, ...]]
) -> Object:
    """A block of the student's with random numbers in all of its parameters.

    Fresh normalisations would multiply by 1 and add 0, and hide that they are left out.

    Args:
        shapes: of the weights of the modules that it must hold, by their names.
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


def explain(found: Tensor, right: Tensor, mistakes: dict[str, Tensor], message: str) -> None:
    """Fail with ``message``, and the mistake that gives what was found, unless it is right."""
    # Tolerance: float32 rounding is below 1e-5 of the largest number here.
    scale = float(right.abs().max()) or 1.0
    if close(found / scale, right / scale, 2e-5):
        return
    cause = [hint for hint, wrong in mistakes.items() if close(found / scale, wrong / scale, 2e-5)]
    fail(message, cause[0] if cause else "")


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
    parts = functional.linear(x, state["in_proj.weight"], state.get("in_proj.bias")).chunk(3, -1)

    def heads(part: Tensor) -> Tensor:
        if cut_rows:
            return part.reshape(n_images, n_heads, length, dim // n_heads)
        return part.reshape(n_images, length, n_heads, dim // n_heads).transpose(1, 2)

    q, k, v = (heads(parts[number]) for number in order)
    scores = q @ k.transpose(-1, -2) * ((dim // n_heads) ** -0.5 if scale is None else scale)
    mixed = (scores.softmax(softmax_dim) @ v).transpose(1, 2).reshape(x.shape)
    return (
        functional.linear(mixed, state["out_proj.weight"], state.get("out_proj.bias"))
        if (project)
        else mixed
    )


def normalise(x: Tensor, state: State, name: str, eps: float = 1e-6, groups: int = 32) -> Tensor:
    """Group normalisation with the weights called ``name``."""
    return functional.group_norm(x, groups, state[f"{name}.weight"], state.get(f"{name}.bias"), eps)


def pixels_of(x: Tensor) -> Tensor:
    """(N, C, h, w) -> (N, h * w, C)."""
    return x.flatten(2).transpose(1, 2)


def residual_shapes(n_in: int, n_out: int) -> dict[str, tuple[int, ...]]:
    """The weights that a residual block must hold."""
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
    """The correction of a residual block, perhaps with a mistake."""
    hidden = normalise(x, state, "norm1", eps, groups) if norms[0] else x
    hidden = functional.conv2d(
        first(hidden), state["conv1.weight"], state.get("conv1.bias"), padding=1
    )
    hidden = normalise(hidden, state, "norm2", eps, groups) if norms[1] else hidden
    return functional.conv2d(
        second(hidden), state["conv2.weight"], state.get("conv2.bias"), padding=1
    )


@dataclass(frozen=True)
class Row:
    """One layer of a network: its class, and its numbers of channels."""

    kind: str
    channels: tuple[int, int]
    path: str = ""

    def __str__(self) -> str:
        n_in, n_out = self.channels
        return f"{self.kind}({n_in} to {n_out})" if n_in != n_out else f"{self.kind}({n_in})"


#: Where a block's numbers of channels can be read off: the first axis of one parameter, or the
#: second, and the first axis of another.
_WIDTHS = {
    "Conv2d": (("weight", 1), ("weight", 0)),
    "GroupNorm": (("weight", 0), ("weight", 0)),
    "ResidualBlock": (("norm1.weight", 0), ("conv2.weight", 0)),
    "AttentionBlock": (("norm.weight", 0), ("norm.weight", 0)),
    "Downsample": (("conv.weight", 1), ("conv.weight", 0)),
    "Upsample": (("conv.weight", 1), ("conv.weight", 0)),
}


def rows_of(network: Object) -> list[Row]:
    """The layers of a student's network in their order, blocks not opened."""
    tensors, rows = network.parameters(), list[Row]()
    inside = ""
    for layer in network.layers()[1:]:
        if inside and layer.path.startswith(inside):
            continue
        if layer.type_name in ("Sequential", "ModuleList"):
            continue
        inside = f"{layer.path}."
        widths = []
        for name, axis in _WIDTHS.get(layer.type_name, ()):
            tensor = tensors.get(inside + name)
            widths.append(tensor.shape[axis] if tensor is not None and tensor.ndim > axis else 0)
        rows.append(Row(layer.type_name, (widths[0], widths[1]) if widths else (0, 0), layer.path))
    return rows


def expect_rows(network: Object, name: str, right: list[tuple[str, int, int]]) -> None:
    """Fail unless a network's layers are those of its table, and name the first that is not."""
    found = rows_of(network)
    expected = [Row(kind, (n_in, n_out)) for kind, n_in, n_out in right]
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
    return [("ResidualBlock", a, b) for a, b in pairwise(widths)]


def ending(width: int, n_out: int) -> list[tuple[str, int, int]]:
    return [("GroupNorm", width, width), ("SiLU", 0, 0), ("Conv2d", width, n_out)]
