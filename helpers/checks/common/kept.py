"""What a function of the student's returned, kept where their code runs.

Answers reach a check as plain numbers. Here it can ask for what is lost on the way: the type of the
numbers, and whether gradients hang on them.
"""

from collections.abc import Callable
from typing import Any

from helpers.checking import Object, StudentError, Submission, expect, expect_number
from helpers.checks.common.declaring import declare
from helpers.checks.common.trial import MakeTrial


class Kept:
    """Calls a function, and keeps what it returned as ``result``."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.result = function(*args)


def keep(submission: Submission, function: str, *args: Any) -> Object:
    """A handle on a :class:`Kept` with what the student's ``function`` returned."""
    return submission.build(f"{__name__}.Kept", submission.object(function), *args)


def carries_gradients(kept: Object) -> bool:
    """Whether what was kept is a tensor that a gradient can be computed through."""
    try:
        return kept.get("result.requires_grad") is True
    except StudentError:
        return False  # not a tensor


def n_bytes(kept: Object) -> int:
    """The number of bytes of one number in the tensor that was kept, or 0."""
    try:
        size = kept.call("result.element_size")
    except StudentError:
        return 0  # not a tensor
    return size if isinstance(size, int) else 0


def check_plain_number(module: str, trial: MakeTrial, *, points: float) -> None:
    """Declare ``train_epoch_returns_a_plain_number``: no gradients hang on the loss."""

    def plain(submission: Submission) -> None:
        a_trial = trial(submission, 0.0)
        a_trial.epoch()
        device = submission.build("torch.device", "cpu")
        arguments = (a_trial.model, a_trial.loader, a_trial.criterion, a_trial.optimizer, device)
        kept = keep(submission, a_trial.function, *arguments)
        expect_number(kept.get("result"), what=f"What {a_trial.function} returns")
        expect(
            not carries_gradients(kept),
            f"{a_trial.function} returns a tensor that still carries the gradients of all batches.",
            "They fill the memory: add loss.item() to the total, which is a plain number.",
        )

    title = "train_epoch returns a plain number, which no gradients hang on."
    declare(module, "training", points, "train_epoch_returns_a_plain_number", title, plain)
