"""Stores one result file per submission.

A result belongs to a hand-in and to a version of the checks. If the hand-in is new, the new result
replaces the old one. If only the checks are new, the new result is kept in another folder until
somebody has seen the difference and accepts it.
"""

from dataclasses import dataclass
from pathlib import Path

from autograder.judging import (
    CheckResult,
    IntakeError,
    Judgement,
    Outcome,
    handin_digest,
    judge_version,
)
from helpers import deliverables

#: The folders of the results that count, and of those that wait to be accepted.
RESULTS, REGRADED = "results", "regraded"


def submission_path(course: Path, deliverable_id: str, student: str) -> Path:
    """The folder of one submission."""
    return course / "submitted" / student / deliverable_id


def result_path(course: Path, deliverable_id: str, student: str, kept: str = RESULTS) -> Path:
    """The result file of one submission; ``kept`` is REGRADED for one not accepted yet."""
    return course / kept / deliverable_id / f"{student}.json"


def submitted(course: Path, deliverable_id: str) -> list[str]:
    """The students who handed in a deliverable, sorted."""
    return sorted(path.parts[-2] for path in course.glob(f"submitted/[!.]*/{deliverable_id}"))


def read_result(path: Path) -> Judgement | None:
    """Read a result file; None if it does not exist or cannot be read."""
    try:
        return Judgement.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_results(course: Path, deliverable_id: str) -> list[Judgement]:
    """All results of a deliverable, sorted by student."""
    paths = sorted(course.glob(f"results/{deliverable_id}/[!.]*.json"))
    return [result for path in paths if (result := read_result(path)) is not None]


def current_result(
    course: Path, deliverable_id: str, student: str, kept: str = RESULTS
) -> Judgement | None:
    """The result of the current submission by the current checks, if there is one."""
    result = read_result(result_path(course, deliverable_id, student, kept))
    if result is None or result.judge_sha256 != judge_version(deliverable_id):
        return None
    return result if _is_current(result, course) else None


def stale(course: Path, deliverable_id: str) -> list[str]:
    """The students whose current submission was judged by an older version of the checks."""
    return [
        result.student
        for result in read_results(course, deliverable_id)
        if result.judge_sha256 != judge_version(deliverable_id)
        and result.status is not Outcome.INFRASTRUCTURE
        and _is_current(result, course)
    ]


def _is_current(result: Judgement, course: Path) -> bool:
    """Whether a result is that of the current submission."""
    folder = submission_path(course, result.deliverable, result.student)
    try:
        digest = handin_digest(folder, deliverables.get(result.deliverable))
    except IntakeError:
        # An unreadable hand-in is never stored; its result remains valid.
        return result.status is Outcome.UNREADABLE
    return result.handin_sha256 == digest


def keep(course: Path, result: Judgement, kept: str = RESULTS) -> Judgement:
    """Store a result, unless it is the grader's failure and would replace a mark; the one kept."""
    path = result_path(course, result.deliverable, result.student, kept)
    old = read_result(path)
    failed = result.status is Outcome.INFRASTRUCTURE
    if failed and old is not None and old.score is not None and _is_current(old, course):
        return old
    result.write(path)
    return result


@dataclass(frozen=True)
class Change:
    """The results of a submission with the older and with the current checks."""

    before: Judgement
    after: Judgement

    @property
    def checks(self) -> list[tuple[float, CheckResult]]:
        """The checks whose points differ, each with its earlier points."""
        before = {check.id: check.earned for check in self.before.checks}
        pairs = [(before.get(check.id, 0.0), check) for check in self.after.checks]
        return [(points, check) for points, check in pairs if points != check.earned]

    @property
    def matters(self) -> bool:
        """Whether the mark or the status differs."""
        marks = ("score", "max_score", "status")
        return any(getattr(self.before, name) != getattr(self.after, name) for name in marks)


def changes(course: Path, deliverable_id: str) -> list[Change]:
    """The regraded results that are not accepted yet, without those where the grader failed."""
    found = []
    for student in stale(course, deliverable_id):
        before = read_result(result_path(course, deliverable_id, student))
        after = current_result(course, deliverable_id, student, REGRADED)
        if before is None or after is None or after.status is Outcome.INFRASTRUCTURE:
            continue
        found.append(Change(before, after))
    return found


def accept(course: Path, deliverable_id: str) -> None:
    """Replace the old results with the regraded ones."""
    for change in changes(course, deliverable_id):
        student = change.after.student
        path = result_path(course, deliverable_id, student)
        result_path(course, deliverable_id, student, REGRADED).replace(path)
