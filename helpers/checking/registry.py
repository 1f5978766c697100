"""Checks: how they are written, found, and run on a submission.

A check is a function of one :class:`~helpers.checking.Submission`. Its docstring says in one
sentence what is right. It returns None or a note worth reading, or calls
:func:`helpers.checking.fail`. Students see the checks in ``helpers.checks``; the grader adds a
package of its own.
"""

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from helpers.checking.expect import CheckFailedError
from helpers.checking.submission import StudentError, Submission
from helpers.deliverables import DELIVERABLES, Deliverable

CheckFunction = Callable[[Submission], str | None]

#: The package of the checks that students may see, a module for each deliverable.
PUBLIC = "helpers.checks"


class Status(StrEnum):
    """The outcome of a check."""

    PASSED = "passed"
    FAILED = "failed"
    #: The TODO still raises NotImplementedError, or its cell has not been run.
    UNATTEMPTED = "unattempted"
    #: The student's code raised an exception.
    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    #: The kit failed: there is no mark, and the hand-in is graded again.
    INFRASTRUCTURE = "infrastructure"


@dataclass(frozen=True)
class Check:
    """One requirement on a submission.

    Attributes:
        id: ``<deliverable>.<cell>.<function>``.
        cell: the check cell that it belongs to.
        points: its worth; 0 for advice.
        title: the requirement, in one sentence.
        hidden: whether only the grader runs it.
        function: runs the check.
    """

    id: str
    cell: str
    points: float
    title: str
    hidden: bool
    function: CheckFunction


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    check: Check
    status: Status
    message: str = ""
    #: How the check itself raised, for the instructor; "" if it did not.
    fault: str = ""

    @property
    def earned(self) -> float:
        """The points: either all or none."""
        return self.check.points if self.status is Status.PASSED else 0.0


#: The checks of each package and deliverable, in the order of their definition.
_registry: dict[tuple[str, str], list[Check]] = {}


def check(cell: str, *, points: float) -> Callable[[CheckFunction], CheckFunction]:
    """Register a function as a check of the check cell ``cell``, worth ``points``.

    Its module determines the deliverable: ``<package>.<deliverable>``, or a module in a package of
    that name.
    """

    def register(function: CheckFunction) -> CheckFunction:
        deliverable = deliverable_in(function.__module__).id
        package = function.__module__.partition(f".{deliverable}")[0]
        title = " ".join((function.__doc__ or "").split())
        if not title:
            raise ValueError(f"The check {function.__name__} needs a docstring: students read it.")
        name = f"{deliverable}.{cell}.{function.__name__}"
        hidden = package != PUBLIC
        _registry.setdefault((package, deliverable), []).append(
            Check(name, cell, points, title, hidden, function)
        )
        return function

    return register


def deliverable_in(module: str) -> Deliverable:
    """The deliverable that a module of checks belongs to."""
    return next(DELIVERABLES[part] for part in module.split(".") if part in DELIVERABLES)


def load_checks(deliverable: str, packages: Sequence[str] = (PUBLIC,)) -> list[Check]:
    """The checks of a deliverable in the order of their definition.

    Args:
        packages: where to look for them; by default the checks that students may see.

    Raises:
        KeyError: with one sentence, if the deliverable has none.
    """
    checks = []
    for package in packages:
        module = f"{package}.{deliverable}"
        if importlib.util.find_spec(module) is None:
            raise KeyError(f"There are no checks for {deliverable!r}.")
        importlib.import_module(module)
        checks += _registry.get((package, deliverable), [])
    return checks


#: Failures of the machine: no answer of a student causes them in a check.
_MACHINE = (OSError, MemoryError)


def run(
    check: Check, submission: Submission, machine: tuple[type[Exception], ...] = _MACHINE
) -> Result:
    """Run one check.

    A check that raises an exception of its own is failed, with a sentence for the student and the
    place in :attr:`Result.fault`: an answer that nobody thought of must not stop the other checks.

    Args:
        machine: exceptions that no student's code can cause; they are not caught.
    """
    try:
        note = check.function(submission)
    except CheckFailedError as failure:
        return Result(check, Status.FAILED, str(failure))
    except StudentError as failure:
        return Result(check, Status(failure.kind), failure.message)
    except machine:
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {str(error)[:300]}"
        place = "".join(traceback.format_tb(error.__traceback__)[-3:])
        message = f"This check cannot work with the answer that your code gives. ({text})"
        return Result(check, Status.FAILED, message, fault=f"{text}\n{place}")
    return Result(check, Status.PASSED, note or "")
