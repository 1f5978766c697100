"""Checks: how one is written, found, and run against a submission.

A check is a function of one :class:`~helpers.submission.Submission`. Its docstring says in one
sentence what is right; it returns None, or a note worth reading, or calls
:func:`helpers.expect.fail`. Students see those in ``helpers.checks.<deliverable>``, and not those
in ``autograder.checks.<deliverable>``.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from helpers.expect import CheckFailedError
from helpers.submission import StudentError, Submission

CheckFunction = Callable[[Submission], str | None]


class Status(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    #: The TODO still raises NotImplementedError, or its cell was never run.
    UNATTEMPTED = "unattempted"
    #: The student's code raised.
    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    #: Our fault: no mark, to be graded again.
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True)
class Check:
    """One thing that a submission must do.

    Attributes:
        id: ``<deliverable>.<cell>.<function>``.
        cell: the check cell that it belongs to.
        points: what it is worth; 0 for advice.
        title: what is right, in one sentence.
        hidden: whether only the grader runs it.
        function: what runs.
    """

    id: str
    cell: str
    points: float
    title: str
    hidden: bool
    function: CheckFunction


@dataclass(frozen=True)
class Result:
    """What came of one check."""

    check: Check
    status: Status
    message: str = ""

    @property
    def earned(self) -> float:
        """Points: all or none."""
        return self.check.points if self.status is Status.PASSED else 0.0


_registry: dict[str, list[Check]] = {}


def check(cell: str, *, points: float) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check of the check cell ``cell``, worth ``points``."""

    def register(function: CheckFunction) -> CheckFunction:
        package, _, deliverable = function.__module__.rpartition(".")
        title = " ".join((function.__doc__ or "").split())
        if not title:
            raise ValueError(f"The check {function.__name__} needs a docstring: students read it.")
        name = f"{deliverable}.{cell}.{function.__name__}"
        hidden = package.partition(".")[0] != "helpers"
        _registry.setdefault(function.__module__, []).append(
            Check(name, cell, points, title, hidden, function)
        )
        return function

    return register


def load_checks(deliverable: str, *, hidden: bool = False) -> list[Check]:
    """The checks of a deliverable in the order of their files; with ``hidden``, the grader's too.

    Raises:
        KeyError: with one sentence, if the deliverable has none.
    """
    modules = [f"helpers.checks.{deliverable}"]
    if hidden:
        modules.append(f"autograder.checks.{deliverable}")
    checks = []
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise KeyError(f"There are no checks for {deliverable!r}.")
        importlib.import_module(module)
        checks += _registry.get(module, [])
    return checks


def run(check: Check, submission: Submission) -> Result:
    """Run one check. An exception that is not the student's propagates: it is ours."""
    try:
        note = check.function(submission)
    except CheckFailedError as failure:
        return Result(check, Status.FAILED, str(failure))
    except StudentError as failure:
        return Result(check, Status(failure.kind), failure.message)
    return Result(check, Status.PASSED, note or "")
