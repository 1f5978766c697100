"""What a check expects of a value, and the sentence a student reads when it is not so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor


class CheckFailedError(Exception):
    """A check found something wrong; the text is what the student reads."""


def fail(message: str, hint: str = "") -> NoReturn:
    """Fail the check with ``message`` and, behind it, the likely cause."""
    raise CheckFailedError(f"{message} {hint}".strip())


def expect(condition: bool, message: str, hint: str = "") -> None:
    """Fail the check with ``message`` unless ``condition`` holds."""
    if not condition:
        fail(message, hint)


def expect_tensor(
    value: Any, shape: Sequence[int] | None = None, *, what: str, hint: str = ""
) -> Tensor:
    """``value`` as a finite floating-point tensor of exactly ``shape``, or the check fails.

    Args:
        value: what the student's code returned.
        shape: the shape that it must have; None accepts any.
        what: the subject of the message, such as "The encoder's output".
        hint: the likely cause of a wrong shape.
    """
    if not isinstance(value, Tensor):
        fail(f"{what} should be a tensor, but it is {_describe(value)}.")
    if not value.is_floating_point():
        fail(f"{what} should hold floating-point numbers, but its dtype is {value.dtype}.")
    if shape is not None and tuple(value.shape) != tuple(shape):
        got = tuple(value.shape)
        fail(f"{what} should have shape {tuple(shape)}, but it has {got}.", hint)
    if not bool(torch.isfinite(value).all()):
        fail(f"{what} has NaN or infinite numbers in it.")
    return value


def expect_number(value: Any, *, what: str) -> float:
    """``value`` as a finite number (a tensor with one element counts), or the check fails."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(f"{what} should be a number, but it is {_describe(value)}.")
    if not math.isfinite(value):
        fail(f"{what} should be a finite number, but it is {value}.")
    return float(value)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors agree within ``tolerance``, absolute and relative to their size."""
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=tolerance, atol=tolerance
    )


def likely_cause(
    found: float, causes: Mapping[str, float], otherwise: str = "", *, tolerance: float = 1e-4
) -> str:
    """The mistake that explains a wrong number.

    Args:
        found: the wrong number.
        causes: what each mistake would give, by its description.
        otherwise: the answer where none of them gives ``found``.
        tolerance: relative to the numbers. float32 sums in another order differ by 1e-6.
    """
    near = {
        cause: abs(wrong - found)
        for cause, wrong in causes.items()
        if math.isclose(found, wrong, rel_tol=tolerance)
    }
    return min(near, key=lambda cause: near[cause]) if near else otherwise


def expect_gradients(got: Mapping[str, Tensor | None], right: Sequence[Tensor]) -> None:
    """Fail unless the loss has the right gradient for each of its arguments.

    Args:
        got: the gradients that the student's loss has, by the argument's name.
        right: what they should be, in the same order.
    """
    for (name, gradient), expected in zip(got.items(), right, strict=True):
        if gradient is None:
            fail(f"The loss has no gradient for {name}.", "Is something detached?")
        expect(close(gradient, expected, 1e-3), f"The gradient of the loss for {name} is wrong.")


def _describe(value: Any) -> str:
    """A short name for a value that is not what was asked for."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} things"
    # A handle on something that stayed where the student's code runs carries its type's name.
    return f"of type {getattr(value, 'type_name', type(value).__name__)}"
