"""A trace shows what a model computes, however its layers are written down."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import CheckFailedError, Engine, Submission
from helpers.checks.common.architecture import (
    computed,
    expect_kept,
    expect_only_layers_run,
    layer_name,
)

BLOCK = ["Conv2d", "BatchNorm2d", "LeakyReLU"]


class InOrder(nn.Module):
    """Two blocks as nn.Sequential."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU(0.2)]
        more = [nn.Conv2d(4, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, *more)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


class InLists(nn.Module):
    """The same with lists of layers, norms first, and one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.BatchNorm2d(4), nn.BatchNorm2d(8)])
        self.convs = nn.ModuleList([nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 8, 3, 2, 1)])
        self.activation = nn.LeakyReLU(0.2)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = self.activation(norm(conv(x)))
        return x


class WithFunctions(InLists):
    """The same with functions, dropout, and things that compute nothing."""

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = functional.leaky_relu(norm(conv(x.contiguous())), 0.2)
            x = functional.dropout(x.clone(), 0.1, self.training)
        return x.flatten(1).unflatten(1, x.shape[1:])


class Lying(InOrder):
    """Has an odd list of modules."""

    def named_modules(self, *_: Any, **__: Any) -> Any:
        return iter(())


def model(kind: type[nn.Module]) -> Any:
    return Submission(Engine({"Model": kind}).execute).new("Model")


@pytest.mark.parametrize("kind", [InOrder, InLists, WithFunctions, Lying])
def test_same_computation_same_trace(kind: type[nn.Module]) -> None:
    steps = computed(model(kind), "", torch.rand(2, 3, 8, 8))
    assert [layer_name(step) for step in steps] == BLOCK + BLOCK
    assert steps[0].settings["stride"] == [2, 2]
    assert steps[2].settings["negative_slope"] == 0.2
    assert steps[0].shapes["weight"] == (4, 3, 3, 3)
    assert steps[-1].shape == (2, 8, 2, 2)


def test_parameters_have_their_names() -> None:
    convolution = computed(model(InLists), "", torch.rand(2, 3, 8, 8))[3]
    assert convolution.parameters["weight"] == "convs.1.weight"
    assert convolution.inputs == (2,)
    assert convolution.module == "convs.1"


def test_training_mode_shows_dropout_and_leaves_no_trace() -> None:
    one = model(WithFunctions)
    before = one.state()
    names = [layer_name(step) for step in computed(one, "", torch.rand(2, 3, 8, 8), training=True)]
    assert names == [*BLOCK, "Dropout"] * 2
    after = one.state()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert one.get("training") is True


def test_a_layer_that_is_not_allowed_is_named() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert expect_only_layers_run(model(InLists), "", images, BLOCK, "") == BLOCK + BLOCK
    with pytest.raises(CheckFailedError, match=r"applies BatchNorm2d .*norms\.0"):
        expect_only_layers_run(model(InLists), "", images, ["Conv2d", "LeakyReLU"], "")


def test_a_model_that_raises_is_as_before() -> None:
    one = model(InLists)
    with pytest.raises(Exception, match="takes 3 channels is given 1"):
        one.trace("", torch.rand(2, 1, 8, 8))
    assert one.get("training") is True
    assert len(computed(one, "", torch.rand(2, 3, 8, 8))) == 6


def halve(x: Tensor) -> Tensor:
    return x.mul_(0.5)


def keep(x: Tensor, *, other: Tensor | None = None) -> Tensor:
    if other is not None:
        other[0] = 3
    return x * 0.5


def test_overwriting_is_seen() -> None:
    submission = Submission(Engine({"halve": halve, "keep": keep}).execute)
    expect_kept(submission, "keep", torch.ones(3))
    with pytest.raises(CheckFailedError, match="halve changes the tensor"):
        expect_kept(submission, "halve", torch.ones(3))
    with pytest.raises(CheckFailedError, match="keep changes the tensor"):
        expect_kept(submission, "keep", torch.ones(3), other=torch.ones(3))
