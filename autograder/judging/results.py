"""The judge's result for one submission, as plain data; it is kept in one JSON file each."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from helpers.checking import Result, Status
from helpers.training import write_atomic


class Outcome(StrEnum):
    """How a submission ended as a whole."""

    GRADED = "graded"
    #: No TODO was filled in.
    UNATTEMPTED = "unattempted"
    #: Every check ended in the same way: with an error, a timeout, or out of memory.
    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    #: The hand-in is not a notebook: it is damaged, empty, or another kind of file.
    UNREADABLE = "unreadable"
    #: Nothing was handed in.
    MISSING = "missing"
    #: The grader failed: there is no mark, and the submission must be graded again.
    INFRASTRUCTURE = "infrastructure"


class CheckResult(BaseModel):
    """The result of one check on one submission."""

    model_config = ConfigDict(frozen=True)

    id: str
    cell: str
    title: str
    points: float
    earned: float
    status: Status
    message: str
    hidden: bool
    #: How the check itself raised, for the instructor; "" if it did not.
    fault: str = ""

    @property
    def name(self) -> str:
        """The last part of the id: the name of the check's function."""
        return self.id.rpartition(".")[2]

    @classmethod
    def of(cls, result: Result) -> CheckResult:
        """The result of running a check, as plain data."""
        about = vars(result.check)  # its function is ignored: it is not a field
        return cls(
            **about,
            earned=result.earned,
            status=result.status,
            message=result.message,
            fault=result.fault,
        )


class Judgement(BaseModel):
    """The judge's result for one submission.

    ``score`` is the points of the checks, without written answers. It is None if there is no mark,
    because the grader failed or the hand-in cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    deliverable: str
    student: str
    score: float | None
    max_score: float
    status: Outcome
    #: One sentence about the submission as a whole, or empty.
    message: str = ""
    isolation_level: int
    checks: tuple[CheckResult, ...]
    #: Remarks for the instructor, such as imports that are not allowed. They cost no points.
    notices: tuple[str, ...] = ()
    #: The losses per epoch that the student's own run reported, by checkpoint: for drawings only.
    reported_losses: dict[str, list[float]] = {}
    #: Hashes of the hand-in, and of the judge with its checks: together, the key of this result.
    handin_sha256: str
    judge_sha256: str
    seconds: float

    @property
    def faults(self) -> list[CheckResult]:
        """The checks that raised an exception of their own: somebody should look at them."""
        return [check for check in self.checks if check.fault]

    def points(self, cell: str) -> float | None:
        """The points earned in one check cell; None if the grader failed on any of its checks."""
        checks = [check for check in self.checks if check.cell == cell]
        if self.score is None and any(c.status is Status.INFRASTRUCTURE for c in checks):
            return None
        return sum(check.earned for check in checks)

    def write(self, path: Path) -> None:
        """Write this as JSON, in one step, readable only by the file's owner."""
        write_atomic(path, self.model_dump_json(indent=2).encode(), mode=0o600)


def outcome(checks: Sequence[CheckResult]) -> Outcome:
    """The outcome of a submission, from the results of its checks."""
    statuses = {check.status for check in checks}
    if Status.INFRASTRUCTURE in statuses:
        return Outcome.INFRASTRUCTURE
    if len(statuses) == 1 and not statuses & {Status.PASSED, Status.FAILED}:
        return Outcome(statuses.pop().value)
    return Outcome.GRADED
