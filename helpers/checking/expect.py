"""What a check expects of a value, and the sentence that a student reads if it is not met."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

#: What each mistake would give, by a sentence about the mistake; or a function that computes it.
Causes = Mapping[str, Tensor] | Mapping[str, float] | Callable[[], Mapping[str, Tensor | float]]

#: Whether two tensors agree.
Same = Callable[[Tensor, Tensor], bool]


class CheckFailedError(Exception):
    """A check found something wrong; the text is what the student reads."""


def fail(message: str, hint: str = "") -> NoReturn:
    """Fail the check with ``message``, followed by the likely cause."""
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
    if value.numel() == 0:
        fail(f"{what} is empty: its shape is {tuple(value.shape)}.", hint)
    if not bool(torch.isfinite(value).all()):
        fail(f"{what} has NaN or infinite numbers in it.")
    return value


def expect_number(value: Any, *, what: str) -> float:
    """``value`` as a finite number (a tensor with one element counts), or the check fails."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        fail(f"{what} should be a number, but it is {_describe(value)}.")
    if not is_finite(value):
        got = value if isinstance(value, float) else "too large"
        fail(f"{what} should be a finite number, but it is {got}.")
    return float(value)


def is_finite(value: int | float) -> bool:
    """Whether a number is finite as a float; an int may be too large for one."""
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def close(a: Tensor, b: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether two tensors agree within ``tolerance``, absolute and relative to their size."""
    return a.shape == b.shape and torch.allclose(
        a.double(), b.double(), rtol=tolerance, atol=tolerance
    )


def agree(
    a: Tensor | float, b: Tensor | float, tolerance: float = 1e-4, same: Same | None = None
) -> bool:
    """:func:`close` (or ``same``) for tensors; for numbers, equality relative to their size."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return same(a, b) if same else close(a, b, tolerance)
    return math.isclose(float(a), float(b), rel_tol=tolerance)


def likely_cause(
    found: Tensor | float,
    causes: Causes,
    otherwise: str = "",
    *,
    tolerance: float = 1e-4,
    same: Same | None = None,
) -> str:
    """The mistake that explains a wrong answer.

    Args:
        found: the wrong tensor or number.
        causes: what each mistake would give, by its description, or a function that computes it.
        otherwise: the answer if none of them gives ``found``.
        tolerance: see :func:`agree`. float32 sums in another order differ by 1e-6.
        same: says whether two tensors agree, if that is not :func:`close`.

    Returns:
        For a number the mistake that comes closest to it, for a tensor the first that gives it.
    """
    known = causes() if callable(causes) else causes
    near = [cause for cause, wrong in known.items() if agree(found, wrong, tolerance, same)]
    if not isinstance(found, Tensor):
        near.sort(key=lambda cause: abs(float(known[cause]) - found))
    return near[0] if near else otherwise


def expect_close(
    found: Tensor | float,
    right: Tensor | float,
    message: str,
    causes: Causes | None = None,
    otherwise: str = "",
    *,
    tolerance: float = 1e-4,
    same: Same | None = None,
) -> None:
    """Fail with ``message`` and the likely cause unless ``found`` agrees with ``right``.

    Args:
        found: a tensor or a number.
        right: what it should be.
        causes: see :func:`likely_cause`; a function is only called if ``found`` is wrong.
        otherwise: the hint if none of the causes gives ``found``.
        tolerance: see :func:`agree`.
        same: says whether two tensors agree, if that is not :func:`close`.
    """
    if not agree(found, right, tolerance, same):
        cause = likely_cause(found, causes or {}, otherwise, tolerance=tolerance, same=same)
        fail(message, cause)


def expect_several(answer: Any, count: int, message: str) -> list[Any]:
    """``answer`` as a list of ``count`` things, or fail with ``message``.

    Args:
        answer: what the student's code returned.
        count: how many things there should be.
        message: ``{got}`` in it stands for what was returned instead, such as "2 things".
    """
    if not isinstance(answer, list) or len(answer) != count:
        got = f"{len(answer)} things" if isinstance(answer, list) else "one thing"
        fail(message.format(got=got))
    return answer


def expect_tensors(
    answer: Any, shapes: Mapping[str, Sequence[int] | None], message: str, *, what: str
) -> list[Tensor]:
    """Several finite floating-point tensors, each of its own shape, or fail.

    Args:
        answer: what the student's code returned.
        shapes: the shape of each by its name; None accepts any.
        message: see :func:`expect_several`.
        what: the subject of a message about one of them; ``{}`` in it stands for its name.
    """
    values = expect_several(answer, len(shapes), message)
    return [
        expect_tensor(value, shape, what=what.format(name))
        for value, (name, shape) in zip(values, shapes.items(), strict=True)
    ]


def expect_gradients(got: Mapping[str, Tensor | None], right: Sequence[Tensor]) -> None:
    """Fail unless the loss has the right gradient with respect to each of its arguments.

    Args:
        got: the gradients of the student's loss by the name of the argument.
        right: what they should be, in the same order.
    """
    for (name, gradient), expected in zip(got.items(), right, strict=True):
        if gradient is None:
            fail(f"The loss has no gradient for {name}.", "Is something detached?")
        expect(close(gradient, expected, 1e-3), f"The gradient of the loss for {name} is wrong.")


def _describe(value: Any) -> str:
    """A short description of a value of the wrong kind."""
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple):
        return f"a {type(value).__name__} of {len(value)} things"
    # A handle on something that stayed where the student's code runs carries its type's name.
    return f"of type {getattr(value, 'type_name', type(value).__name__)}"
