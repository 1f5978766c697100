"""Measuring a trained model once, and the checks of it that most deliverables have."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Literal, Protocol, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.nn import functional

from helpers.checking import (
    CheckFailedError,
    StudentError,
    Submission,
    deliverable_in,
    expect,
)
from helpers.checks.common.architecture import decode_codes, encode_images
from helpers.checks.common.declaring import declare
from helpers.checks.common.settings import learned, within_budget

T = TypeVar("T")

RUN_AGAIN = (
    "Was the training cell run after your last change? Delete the folder `checkpoints` and run the "
    "notebook again from the cell that builds the model."
)


def once(measure: Callable[[Submission], T]) -> Callable[[Submission], T]:
    """Call ``measure`` once per submission and keep what it returned, or the failure it raised."""
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


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of a trained autoencoder, and the amount of numbers in its codes."""

    training: float
    test: float
    code_size: int


def mean_squared_errors(
    submission: Submission, name: str, pairs: Sequence[tuple[Tensor, Tensor]]
) -> Errors:
    """The errors of the trained autoencoder ``name``.

    Encoder and decoder run in different processes: the decoder has only the codes to work with.
    Codes and images that are merely of another shape than they should be are measured: there are
    checks of the model for that.

    Args:
        pairs: what the model is shown and what it should return, for training and test images.
    """
    model = submission.trained(name)
    codes = [encode_images(model, shown) for shown, _ in pairs]
    # In the grader this is another process, which has never seen an image.
    model = submission.trained(name)
    size = math.prod(codes[0].shape[1:])
    training, test = (
        _error(decode_codes(model, code), images)
        for (_, images), code in zip(pairs, codes, strict=True)
    )
    return Errors(training, test, size)


def _error(outputs: Tensor, images: Tensor) -> float:
    """The mean squared error of images, which may be flat."""
    shape = ("N", *outputs.shape[1:])
    expect(
        outputs.numel() == images.numel(),
        f"The decoded images should be (N, 1, 28, 28), but they are {shape}.",
    )
    return float(functional.mse_loss(outputs.view(images.shape), images))


class Scores(Protocol):
    """The loss of a trained model on training images and on test images."""

    @property
    def training(self) -> float: ...
    @property
    def test(self) -> float: ...


S = TypeVar("S", bound=Scores)
#: Measures the trained model; it should be decorated with ``once``.
Measure = Callable[[Submission], Scores]


def check_budget(module: str, *, points: float, title: str = "") -> None:
    """Declare ``checkpoint_is_within_its_budget``, or its plural if several are handed in.

    The note is about the first of the deliverable's checkpoints.
    """
    deliverable = deliverable_in(module)
    checkpoints = deliverable.checkpoints

    def budget(submission: Submission) -> str:
        states = [submission.checkpoint(name) for name in checkpoints[::-1]]
        notes = [within_budget(learned(state), deliverable) for state in states]
        return notes[-1]

    name, has = "checkpoint_is_within_its_budget", "model that is handed in has"
    if len(checkpoints) > 1:
        name, has = "checkpoints_are_within_their_budget", "models that are handed in have"
    title = title or f"The trained {has} no more parameters than allowed."
    declare(module, "result", points, name, title, budget)


def check_learned(
    module: str,
    scores: Callable[[Submission], S],
    *,
    points: float,
    below: float,
    figure: str,
    instead: str,
    unit: str = "",
    of: Literal["training", "test"] = "training",
    hint: str = RUN_AGAIN,
    title: str = "The trained model does clearly better than the mean image would.",
) -> Callable[[Submission], S]:
    """Declare ``model_has_learned``: the loss ``of`` some images is ``below`` a constant answer's.

    Args:
        figure: how the loss is written, such as ``"Training loss {:.1f}"``.
        instead: what follows it if it is too high, such as ``": the mean image reaches 206."``.
        unit: what follows it in the note, such as ``" nats per image"``.

    Returns:
        A function that gives the scores, or fails if the model has not learned.
    """

    def learned(submission: Submission) -> S:
        found = scores(submission)
        loss = float(getattr(found, of))
        expect(loss < below, figure.format(loss) + instead, hint)
        return found

    def note(submission: Submission) -> str:
        return figure.format(float(getattr(learned(submission), of))) + f"{unit}."

    declare(module, "result", points, "model_has_learned", title, note)
    return learned


def expect_low(figure: str, loss: float, below: float, hint: str = "", note: str = "") -> str:
    """Fail unless a loss is below the pass mark; else a note that ends in ``note``.

    ``figure`` is the loss in words, such as "Training loss 101.2 nats per image".
    """
    expect(loss < below, f"{figure}; it must be below {below:g}.", hint)
    return f"{figure} (must be below {below:g}){note}."


def check_reported(module: str, scores: Measure, *, tolerance: float, word: str = "loss") -> None:
    """Declare ``reported_loss_agrees``, which is advice without points, for the first checkpoint.

    The ``tolerance`` is relative: the mean over the last epoch lags behind the loss at its end.
    """
    checkpoint = deliverable_in(module).checkpoints[0]

    def agrees(submission: Submission) -> str:
        measured = scores(submission).training
        losses = submission.losses(checkpoint)
        if not losses:
            raise StudentError("unattempted", "There is no record of a training yet.")
        expect(
            math.isclose(losses[-1], measured, rel_tol=tolerance),
            f"The last epoch reported {losses[-1]:.4g}, but the model's loss is {measured:.4g}.",
            "Does train_epoch average right? Was the model changed after its training?",
        )
        return f"Reported {losses[-1]:.4g}, measured {measured:.4g}."

    title = f"The {word} that your training reported last agrees with the one measured now."
    declare(module, "result", 0, f"reported_{word}_agrees", title, agrees)
