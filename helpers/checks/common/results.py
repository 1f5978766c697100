"""The trained models: measured once, and the checks that most deliverables have of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Literal, Protocol, TypeVar
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.nn import functional

from helpers.checking import CheckFailedError, StudentError, Submission, expect
from helpers.checks.common.declaring import declare, deliverable_in
from helpers.checks.common.settings import within_budget

T = TypeVar("T")

RUN_AGAIN = (
    "Was the training cell run after your last change? Delete the folder `checkpoints` and run it "
    "again."
)


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


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of a trained model."""

    training: float
    test: float


def mean_squared_errors(
    submission: Submission,
    name: str,
    pairs: Sequence[tuple[Tensor, Tensor]],
    expect_code: Callable[[Tensor], None],
) -> Errors:
    """The errors of the trained autoencoder ``name``.

    The codes leave one process and enter another, so that what is decoded comes from them alone.

    Args:
        pairs: of training and of test images: what the model is shown, and what should come out.
        expect_code: fails if a code is not as it should be.
    """
    model = submission.trained(name)
    codes = [model.apply("encoder", shown, what="The encoder's output") for shown, _ in pairs]
    for code in codes:
        expect_code(code)
    # Asked for anew: in the grader this is another process, which has never seen an image.
    model = submission.trained(name)
    errors = []
    for (_, images), code in zip(pairs, codes, strict=True):
        outputs = model.apply("decoder", code, what="The decoder's output")
        expect(outputs.shape == images.shape, "The decoded images should be (N, 1, 28, 28).")
        errors.append(float(functional.mse_loss(outputs, images)))
    return Errors(*errors)


class Scores(Protocol):
    """What a trained model loses on training images and on new ones."""

    @property
    def training(self) -> float:
        """The loss on training images."""

    @property
    def test(self) -> float:
        """The loss on test images."""


S = TypeVar("S", bound=Scores)
#: Measures the trained model. It should be decorated with ``once``.
Measure = Callable[[Submission], Scores]


def check_budget(module: str, *, points: float, title: str = "") -> None:
    """Declare ``checkpoint_is_within_its_budget``, or the plural where several are handed in.

    The note is about the first of the deliverable's checkpoints.
    """
    deliverable = deliverable_in(module)
    names = deliverable.checkpoints

    def budget(submission: Submission) -> str:
        *_, note = (
            within_budget(submission.checkpoint(name), deliverable) for name in reversed(names)
        )
        return note

    if len(names) == 1:
        name = "checkpoint_is_within_its_budget"
        title = title or "The trained model that is handed in has no more parameters than allowed."
    else:
        name = "checkpoints_are_within_their_budget"
        title = "The trained models that are handed in have no more parameters than allowed."
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
    """Declare ``model_has_learned``: the loss is clearly below what a constant answer reaches.

    Args:
        module: ``__name__`` of the module that declares it.
        scores: measures the trained model.
        points: what it is worth.
        below: what the loss must be below.
        figure: how the loss is written, such as ``"Training loss {:.1f}"``.
        instead: what follows it if it is too high, such as ``": the mean image reaches 206."``.
        unit: what follows it in the note, with a space in front.
        of: which loss.
        hint: the likely cause.
        title: what students read.

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
    """Fail unless a trained model's loss is below the pass mark; else say so.

    Args:
        figure: the loss in words, such as "Training loss 101.2 nats per image".
        loss: the same as a number.
        below: the pass mark.
        hint: what helps.
        note: what the answer ends in, before its full stop.
    """
    expect(loss < below, f"{figure}; it must be below {below:g}.", hint)
    return f"{figure} (must be below {below:g}){note}."


def check_reported(module: str, scores: Measure, *, tolerance: float, word: str = "loss") -> None:
    """Declare ``reported_loss_agrees``, which is advice: no points.

    Args:
        module: ``__name__`` of the module that declares it.
        scores: measures the trained model, the first of the deliverable's checkpoints.
        tolerance: relative. The mean over the last epoch lags behind the loss at its end.
        word: "loss" or "error", for the name of the check.
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
