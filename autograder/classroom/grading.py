"""Grades a class: collects, judges what is new, fills the gradebook, writes feedback and pages."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import sandbox
from autograder.classroom.collecting import collect
from autograder.classroom.export import export
from autograder.classroom.gradebook import feedback, record
from autograder.classroom.pool import judge_class
from autograder.classroom.report import describe_lost, write_reports
from autograder.classroom.store import REGRADED, read_results, stale, submitted
from autograder.judging import Judgement, Outcome
from autograder.release import release
from helpers.deliverables import Deliverable

#: A function that judges a class, on this machine or on others; see :func:`judge_class`.
JudgeClass = Callable[..., Iterator[Judgement]]


@dataclass(frozen=True)
class Judged:
    """One step of a grading: another submission has a result."""

    result: Judgement
    done: int
    total: int


@dataclass(frozen=True)
class ClassResults:
    """The outcome of grading a class.

    Attributes:
        results: the results of all submissions, by student.
        problems: what needs attention, one sentence each, by student or file.
        n_waiting: the number of submissions that still miss a mark.
        all_recorded: whether the gradebook contains every result.
        page: the class page; the feedback pages are next to it.
        marks: the marks of the class, as CSV.
    """

    results: list[Judgement]
    problems: dict[str, str]
    n_waiting: int
    all_recorded: bool
    page: Path
    marks: Path

    @property
    def n_faults(self) -> int:
        """The number of checks that raised an exception of their own; they are failed."""
        return sum(len(result.faults) for result in self.results)

    @property
    def is_final(self) -> bool:
        """Whether grading again would change nothing; failures of the grader are retried."""
        statuses = {result.status for result in self.results}
        return self.all_recorded and Outcome.INFRASTRUCTURE not in statuses

    def summary(self) -> dict[str, Any]:
        """What the terminal shows, as plain data; ``rows`` has the texts of one student each."""
        rows = [
            (
                result.student,
                f"{'-' if result.score is None else f'{result.score:g}'}/{result.max_score:g}",
                result.status.value,
                describe_lost(result),
                f"{result.seconds:.0f}",
            )
            for result in self.results
        ]
        return {
            "rows": rows,
            "problems": self.problems,
            "n_waiting": self.n_waiting,
            "n_faults": self.n_faults,
            "page": str(self.page),
            "feedback": str(self.page.parent / "feedback"),
            "marks": str(self.marks),
        }


def grade_class(
    deliverable: Deliverable,
    course: Path,
    handins: Path | None = None,
    judge_class: JudgeClass = judge_class,
) -> Generator[Judged, None, ClassResults]:
    """Grade one deliverable of a class. This may be stopped at any moment and run again.

    Args:
        handins: a folder of hand-ins to collect first; see :func:`collect`.

    Yields:
        Each submission when it has a result, including those that have not changed.

    Raises:
        NotADirectoryError: if ``handins`` is not a folder.
        OSError, SQLAlchemyError: if something cannot be written.
    """
    name = deliverable.id
    if not (course / "release" / name).is_dir():
        release(name, course)
    problems = {} if handins is None else collect(handins, course).problems
    yield from _judge(judge_class, course, name, submitted(course, name))
    recorded = record(course, name)
    waiting = feedback(course, name).problems
    results = read_results(course, name)
    level = sandbox.describe(sandbox.isolation_level())
    return ClassResults(
        results=results,
        problems=problems | recorded.problems,
        n_waiting=len(waiting),
        all_recorded=not recorded.problems,
        page=write_reports(results, deliverable, course / "reports" / name, level),
        marks=export(course, course / "marks.csv"),
    )


def regrade(
    deliverable: Deliverable, course: Path, judge_class: JudgeClass = judge_class
) -> Generator[Judged, None, None]:
    """Judge again what an older version of the checks judged, without accepting the results.

    Afterwards, :func:`changes` tells what differs, and :func:`accept` makes the results count.
    """
    students = stale(course, deliverable.id)
    yield from _judge(judge_class, course, deliverable.id, students, kept=REGRADED)


def _judge(
    judge_class: JudgeClass, course: Path, name: str, students: list[str], **options: str
) -> Iterator[Judged]:
    results = judge_class(course, name, students, **options)
    for done, result in enumerate(results, start=1):
        yield Judged(result, done, len(students))
