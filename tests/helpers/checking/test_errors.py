"""Raw errors of Python and torch get a sentence, but only where the cause is certain."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from helpers.checking import failure

IMAGES = torch.rand(2, 1, 28, 28)
WEIGHTS = torch.ones(2, requires_grad=True)


class PNDMSchedulerOutput:
    """Named like what a scheduler of diffusers returns."""


class UNet2DConditionOutput:
    """Named like what a U-Net of diffusers returns."""


def overwrite_what_the_gradient_needs() -> None:
    y = WEIGHTS.exp()
    y += 1
    y.sum().backward()


def use_a_graph_twice() -> None:
    y = WEIGHTS.exp().sum()
    y.backward()
    y.backward()


ERRORS: dict[str, tuple[Callable[[], object], str]] = {
    "no Flatten": (lambda: nn.Linear(784, 3)(IMAGES), "takes 784 .* given 28. Is nn.Flatten"),
    "another width": (lambda: nn.Linear(7, 3)(torch.rand(2, 9)), r"takes 7 numbers is given 9\. R"),
    "no brackets": (lambda: nn.MSELoss(IMAGES, IMAGES), "with brackets"),
    "no brackets, two": (lambda: nn.BCELoss(IMAGES, IMAGES), "with brackets"),
    "float64": (lambda: nn.Linear(28, 3)(IMAGES.double()), "different dtypes"),
    "float64 in a convolution": (lambda: nn.Conv2d(1, 2, 3)(IMAGES.double()), "different dtypes"),
    "channels": (lambda: nn.Conv2d(3, 4, 3)(IMAGES), "takes 3 channels is given 1"),
    "flat images": (lambda: nn.Conv2d(1, 4, 3)(IMAGES.flatten(1)), r"given shape \(2, 784\)"),
    "item before sum": (lambda: (3.0).sum(), "come too early"),  # type: ignore[attr-defined]
    "no gradient": (lambda: IMAGES.mean().backward(), "without gradients"),
    "many numbers": (lambda: WEIGHTS.mul(2).backward(), "needs a single number"),
    "in place": (overwrite_what_the_gradient_needs, "in place"),
    "twice": (use_a_graph_twice, "earlier batch"),
    "None": (lambda: None + 1, "`return` missing"),  # type: ignore[operator]
    "not in [0, 1]": (
        lambda: functional.binary_cross_entropy(IMAGES + 1, IMAGES),
        "Sigmoid at the decoder's end",
    ),
    "view": (lambda: IMAGES.mT.view(-1), "reshape"),
    "shape": (lambda: IMAGES.view(3, 3), r"1568 numbers .* \(3, 3\)"),
    "prev_sample": (lambda: PNDMSchedulerOutput() * 2, r"`\.prev_sample`"),  # type: ignore[operator]
    "sample": (lambda: UNet2DConditionOutput().chunk(2), r"`\.sample`"),  # type: ignore[attr-defined]
}
#: Errors that say themselves what is wrong.
PLAIN: tuple[Callable[[], object], ...] = (
    lambda: {}["a"],
    lambda: [][1],
    lambda: int("x"),
    lambda: torch.cat([torch.zeros(2, 3), torch.zeros(2, 4)]),
    lambda: bool(torch.zeros(2)),
)


def message(function: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    return failure(caught.value).message


@pytest.mark.parametrize("name", ERRORS)
def test_sentence_comes_before_the_error(name: str) -> None:
    function, pattern = ERRORS[name]
    text = message(function)
    assert re.search(pattern, text), text
    assert re.search(r"(RuntimeError|AttributeError|TypeError|ValueError): ", text)


@pytest.mark.parametrize("function", PLAIN)
def test_other_errors_speak_for_themselves(function: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        function()
    error = caught.value
    assert failure(error).message == f"{type(error).__name__}: {error}"
