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


class NoSuper(nn.Module):
    """A class whose author forgot ``super().__init__()``."""

    def __init__(self) -> None:
        self.layer = nn.Linear(1, 1)


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
    "no such class": (lambda: functional.one_hot(torch.tensor([3, 12]), 10), "0 to num_classes"),
    "label of -1": (lambda: functional.one_hot(torch.tensor([-1]), 10), "0 to num_classes"),
    "joined with labels": (lambda: torch.cat([WEIGHTS, IMAGES]), "with 1 and with 4 axes"),
    "joined along another axis": (
        lambda: torch.cat([torch.zeros(2, 3), torch.zeros(3, 3)], 1),
        "along axis 1, .* size 2, the other 3",
    ),
    "sum of other shapes": (
        lambda: torch.zeros(5, 10) + torch.zeros(5, 784),
        "along axis 1 one has size 10, the other 784",
    ),
    "loss of other shapes": (
        lambda: functional.binary_cross_entropy(IMAGES.flatten(1), IMAGES),
        r"\[2, 784\] and \[2, 1, 28, 28\]",
    ),
    "logits of other shapes": (
        lambda: functional.binary_cross_entropy_with_logits(IMAGES.flatten(1), IMAGES),
        r"\[2, 784\] and \[2, 1, 28, 28\]",
    ),
    "no transpose": (
        lambda: torch.zeros(2, 3, 4) @ torch.zeros(2, 3, 4),
        "4 columns and the second 3 rows",
    ),
    "condition of many": (lambda: bool(IMAGES > 0), "torch.where"),
    "item of many": (lambda: IMAGES.sum(0).item(), "784: take the sum"),
    "three for two": (lambda: [0 for _, _ in [(1, 2, 3)]], "2 names are on the left"),
    "two for three": (lambda: [0 for _, _, _ in [(1, 2)]], "3 names are on the left"),
    "no super": (lambda: NoSuper(), r"super\(\)\.__init__"),
    "class for a layer": (lambda: nn.Sequential(nn.ReLU), "brackets"),  # type: ignore[arg-type]
    "no parameters": (lambda: torch.optim.SGD(nn.ReLU().parameters()), "not registered"),
    "width of BatchNorm": (lambda: nn.BatchNorm1d(3)(torch.zeros(4, 5)), "3 channels is given 5"),
    "import tqdm": (lambda: re(3), "from tqdm import tqdm"),  # type: ignore[operator]
    "loss of one": (lambda: nn.MSELoss()(IMAGES), "without 'target'"),
    "large kernel": (lambda: nn.Conv2d(1, 1, 5)(IMAGES[..., :2]), "kernel is larger"),
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
    lambda: IMAGES.permute(0, 1),
    lambda: IMAGES[9],
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
