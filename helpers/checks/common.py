"""What the checks of several deliverables have in common."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, wraps
from typing import TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from helpers.data import mnist_tensors
from helpers.deliverables import Deliverable
from helpers.expect import CheckFailedError, close, expect, fail
from helpers.submission import Layer, Object, StudentError, Submission

T = TypeVar("T")

#: Layers that only change a shape.
SHAPE_LAYERS = ("Flatten", "Unflatten", "Identity")
#: Adam and its relatives.
ADAMS = ("Adam", "AdamW", "NAdam", "RAdam")
RUN_AGAIN = (
    "Was the training cell run after your last change? Delete the folder `checkpoints` and run it "
    "again."
)


def random_images(n_images: int) -> Tensor:
    """(n_images, 1, 28, 28) in [0, 1], different at each call."""
    return torch.rand(n_images, 1, 28, 28)


@cache
def digits(*, train: bool) -> Tensor:
    """All of MNIST's images, (N, 1, 28, 28); kept, since each submission needs them."""
    return mnist_tensors(train=train)[0]


@cache
def some_digits(*, train: bool, n_images: int = 5_000) -> tuple[Tensor, Tensor]:
    """Images (n_images, 1, 28, 28) and labels, drawn once: the same at each call.

    Five thousand are enough for a mean: its standard error is then below 0.5% of the loss.
    """
    images, labels = mnist_tensors(train=train)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n_images]
    return images[order], labels[order]


def once(measure: Callable[[Submission], T]) -> Callable[[Submission], T]:
    """Measure a submission once, for all the checks that need the figure; failures are kept too."""
    known: WeakKeyDictionary[Submission, T | CheckFailedError | StudentError] = WeakKeyDictionary()

    @wraps(measure)
    def measured(submission: Submission) -> T:
        if submission not in known:
            try:
                known[submission] = measure(submission)
            except (CheckFailedError, StudentError) as failure:
                known[submission] = failure
        result = known[submission]
        if isinstance(result, CheckFailedError | StudentError):
            raise result
        return result

    return measured


# Architecture.


def leaf_layers(model: Object, part: str = "") -> list[Layer]:
    """The modules at ``part`` that hold no others."""
    return [layer for layer in model.layers(part) if not layer.container]


def last_layer(leaves: list[Layer]) -> str:
    """The class of the last layer that computes something, or ""."""
    kinds = [layer.type_name for layer in leaves if layer.of_torch]
    kinds = [kind for kind in kinds if kind not in SHAPE_LAYERS]
    return kinds[-1] if kinds else ""


def expect_sequential(model: Object, part: str) -> None:
    """Fail unless ``part`` of a model is an nn.Sequential."""
    outermost = model.layers(part)[0]
    expect(
        outermost.type_name == "Sequential",
        f"model.{part} should be an nn.Sequential, but it is a {outermost.type_name}.",
    )


def expect_black_to_white(model: Object, codes: Tensor) -> None:
    """Fail unless ``model.decoder`` gives pixels in [0, 1] that can reach both ends.

    Args:
        codes: (N, ...), what the decoder takes. The model's weights are changed.
    """
    state = model.state("decoder")
    weights = [name for name in state if name.endswith("weight")]
    expect(bool(weights), "The decoder has no layer with weights.")
    # With a very large last layer a Sigmoid is all but 0 or 1, whatever comes before it.
    last = weights[-1].removesuffix("weight")
    state.update({k: 1e4 * v for k, v in state.items() if k.startswith(last)})
    model.load(state, "decoder")
    pixels = model.tensor("decoder", codes, what="The decoder's output")
    low, high = float(pixels.min()), float(pixels.max())
    if low < 0 or high > 1:
        fail(
            f"Pixels should lie in [0, 1], but the decoder can give {low:.3g} to {high:.3g}.",
            "Is the Sigmoid at its end missing?",
        )
    if low > 0.05 or high < 0.95:
        fail(
            f"The decoder's pixels cannot leave [{low:.2f}, {high:.2f}].",
            "Is there a second Sigmoid, or another activation just before it?",
        )


# Settings.


def expect_whole_numbers(submission: Submission, *names: str) -> dict[str, int]:
    """The settings called ``names``, each a whole number of at least 1, or the check fails."""
    values = {}
    for name in names:
        value = submission.number(name)
        expect(
            value >= 1 and value == int(value),
            f"`{name}` should be a whole number of at least 1, but it is {value:g}.",
        )
        values[name] = int(value)
    return values


def expect_epochs(n_epochs: int, deliverable: Deliverable) -> None:
    """Fail if there are more epochs than allowed."""
    expect(
        n_epochs <= deliverable.max_epochs,
        f"`n_epochs` is {n_epochs}; at most {deliverable.max_epochs} are allowed.",
    )


def within_budget(tensors: dict[str, Tensor], deliverable: Deliverable) -> str:
    """Fail if there are too many numbers in ``tensors``; else a note."""
    count = sum(tensor.numel() for tensor in tensors.values())
    text = f"{count:,} parameters; at most {deliverable.max_parameters:,} are allowed."
    expect(count > 0, "The model has no parameters.", "Are its layers kept in a plain list?")
    expect(count <= deliverable.max_parameters, text, "Choose fewer or narrower layers.")
    return text


def expect_adam(submission: Submission, optimizer: str = "optimizer", model: str = "model") -> None:
    """Fail unless the optimiser is Adam (or a relative) and updates all of the model."""
    the_optimizer, the_model = submission.object(optimizer), submission.object(model)
    expect(
        the_optimizer.type_name in ADAMS,
        f"`{optimizer}` is of type {the_optimizer.type_name}; use torch.optim.Adam.",
    )
    held, count = the_optimizer.holds(the_model), len(the_model.parameters())
    expect(
        held == count,
        f"The optimizer updates {held} of the {count} parameter tensors of `{model}`.",
        "Was the model built again after the optimizer? Run this cell again too.",
    )


# Whole models.


def expect_images_apart(one_batch: Tensor, alone: Callable[[int], Tensor]) -> None:
    """Fail if what comes out for an image changes with the others in its batch.

    Args:
        one_batch: (N, ...), for all images together.
        alone: gives the output (1, ...) for the image of a number.
    """
    for number in range(len(one_batch) if one_batch.ndim else 0):
        expect(
            close(one_batch[number : number + 1], alone(number)),
            "The output for an image changes with the other images of its batch.",
            "Is the batch axis flattened away, or normalised over?",
        )


def expect_all_used(gradients: dict[str, Tensor | None]) -> None:
    """Fail if a parameter has no part in the output."""
    idle = [name for name, gradient in gradients.items() if gradient is None]
    expect(not idle, f"These parameters have no part in the output: {', '.join(idle[:3])}.")


# Trained models.


def expect_reported(losses: list[float], measured: float, tolerance: float) -> str:
    """Fail if the loss that the training reported last is not the one measured now."""
    if not losses:
        raise StudentError("unattempted", "There is no record of a training yet.")
    expect(
        math.isclose(losses[-1], measured, rel_tol=tolerance),
        f"The last epoch reported {losses[-1]:.4g}, but the model's loss is {measured:.4g}.",
        "Does train_epoch average right? Was the model changed after its training?",
    )
    return f"Reported {losses[-1]:.4g}, measured {measured:.4g}."
