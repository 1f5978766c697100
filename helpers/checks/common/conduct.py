"""What a student's function does besides giving an answer: modes, gradients and seeds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checking import Object, Submission, close, expect


def expect_evaluation(model: Object, recorder: str = "recorder") -> None:
    """Fail unless each call of a stand-in was made in evaluation mode and without gradients.

    ``recorder`` is the path of its :class:`helpers.checks.common.tiny.Recorder`.
    """
    modes = flags(model, f"{recorder}.was_training")
    expect(bool(modes), "The model was not called.")
    expect(not any(modes), "The model was in training mode.", "Call model.eval() first.")
    expect(
        not any(flags(model, f"{recorder}.with_gradients")),
        "Gradients were computed.",
        "Put the calls of the model under torch.no_grad().",
    )


def recorded(owner: Object, path: str) -> list[Any]:
    """A list that a stand-in of the kit has kept; [] if there is none."""
    values = owner.get(path)
    return values if isinstance(values, list) else []


def flags(owner: Object, path: str) -> list[bool]:
    """A list of yes and no that a stand-in of the kit has kept."""
    return [value is True for value in recorded(owner, path)]


def expect_no_seed(submission: Submission, call: Callable[[], object], name: str) -> None:
    """Fail if ``call`` of the student's function ``name`` resets the random numbers of torch."""
    after = []
    for seed in torch.randint(2**31, (2,)).tolist():
        submission.seed(seed)
        call()
        after.append(submission.ask("build", None, "torch.rand", 8))
    submission.seed(int(torch.randint(2**31, ())))
    first, second = after
    same = isinstance(first, Tensor) and isinstance(second, Tensor) and close(first, second)
    expect(
        not same,
        f"{name} sets the seed of torch's random numbers, so that all that follow repeat.",
        "Set no seed in there.",
    )


def with_the_same_draws(submission: Submission, *functions: Callable[[], Tensor]) -> list[Tensor]:
    """What the functions return, each with the same random numbers, such as those of Dropout."""
    seed, other = torch.randint(2**31, (2,)).tolist()
    found = []
    for function in functions:
        submission.seed(seed)
        found.append(function())
    submission.seed(other)
    return found
