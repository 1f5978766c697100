"""What the judge says of one submission, as plain data: results.json, and one file a submission."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from helpers.check import Result, Status
from helpers.training import write


class Outcome(StrEnum):
    """What became of a submission as a whole."""

    GRADED = "graded"
    #: Nothing was filled in.
    UNATTEMPTED = "unattempted"
    #: No check passed, and the notebook itself raised, ran out of time or of memory.
    ERROR = "error"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    #: What was handed in is no notebook: damaged, empty, or of another kind.
    UNREADABLE = "unreadable"
    #: Nothing was handed in.
    MISSING = "missing"
    #: Our fault: there is no mark, and it must be graded again.
    INFRASTRUCTURE = "infrastructure"


class CheckResult(BaseModel):
    """One check of one submission."""

    model_config = ConfigDict(frozen=True)

    id: str
    cell: str
    title: str
    points: float
    earned: float
    status: Status
    message: str
    hidden: bool

    @classmethod
    def of(cls, result: Result) -> CheckResult:
        """From what running a check gave."""
        check = result.check
        return cls(
            id=check.id,
            cell=check.cell,
            title=check.title,
            points=check.points,
            earned=result.earned,
            status=result.status,
            message=result.message,
            hidden=check.hidden,
        )


class Judgement(BaseModel):
    """What the judge says of one submission.

    ``score`` counts the checks alone, without written answers; it is None where there is no mark,
    because the fault was ours or what was handed in cannot be read.
    """

    model_config = ConfigDict(frozen=True)

    deliverable: str
    student: str
    score: float | None
    max_score: float
    status: Outcome
    #: One sentence about the submission as a whole; empty where there is nothing to say.
    message: str = ""
    isolation_level: int
    checks: tuple[CheckResult, ...]
    #: What an instructor should know: foreign imports, altered cells, odd files. Costs no marks.
    notices: tuple[str, ...] = ()
    #: Losses that the student's own run reported, by checkpoint, one an epoch. Drawn, not believed.
    reported_losses: dict[str, list[float]] = {}
    #: Of what was handed in, and of the judge with its checks: together, the key of this result.
    handin_sha256: str
    judge_sha256: str
    seconds: float

    def points(self, cell: str) -> float | None:
        """Points earned in one check cell; None if any of its checks has no mark."""
        checks = [check for check in self.checks if check.cell == cell]
        if self.score is None and any(c.status is Status.INFRASTRUCTURE for c in checks):
            return None
        return sum(check.earned for check in checks)

    def write(self, path: Path) -> None:
        """Write it as JSON, in one step, for nobody else's eyes."""
        write(path, self.model_dump_json(indent=2).encode(), mode=0o600)


def outcome(checks: Sequence[CheckResult]) -> Outcome:
    """What a submission's checks say of it as a whole."""
    statuses = {check.status for check in checks}
    if Status.INFRASTRUCTURE in statuses:
        return Outcome.INFRASTRUCTURE
    if len(statuses) == 1 and not statuses & {Status.PASSED, Status.FAILED}:
        return Outcome(statuses.pop().value)
    return Outcome.GRADED
