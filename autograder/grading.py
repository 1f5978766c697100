"""A class at a time: judge what has changed, keep one result file a submission."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from autograder.intake import IntakeError, read_handin
from autograder.judge import judge, judge_version
from autograder.results import Judgement, Outcome
from helpers import deliverables


def submission_path(course: Path, deliverable_id: str, student: str) -> Path:
    """Where one submission lies."""
    return course / "submitted" / student / deliverable_id


def result_path(course: Path, deliverable_id: str, student: str) -> Path:
    """Where the judge's word about one submission lies."""
    return course / "results" / deliverable_id / f"{student}.json"


def submitted(course: Path, deliverable_id: str) -> list[str]:
    """Who handed a deliverable in, sorted."""
    return sorted(path.parts[-2] for path in course.glob(f"submitted/[!.]*/{deliverable_id}"))


def read_result(path: Path) -> Judgement | None:
    """A result file; None if there is none, or it cannot be read."""
    try:
        return Judgement.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        return None


def read_results(course: Path, deliverable_id: str) -> list[Judgement]:
    """Every result there is of a deliverable, by student."""
    paths = sorted(course.glob(f"results/{deliverable_id}/[!.]*.json"))
    return [result for path in paths if (result := read_result(path)) is not None]


def current_result(course: Path, deliverable_id: str, student: str) -> Judgement | None:
    """The result of the present submission by the present checks, if it is there."""
    result = read_result(result_path(course, deliverable_id, student))
    folder = submission_path(course, deliverable_id, student)
    if result is None or result.judge_sha256 != judge_version(deliverable_id):
        return None
    try:
        handin = read_handin(folder, deliverables.get(deliverable_id))
    except IntakeError:
        # What was unreadable when it came in was not stored: its result stands.
        return result if result.status is Outcome.UNREADABLE else None
    return result if result.handin_sha256 == handin.sha256 else None


def judge_student(course: Path, deliverable_id: str, student: str, *, retry: bool) -> Judgement:
    """The result of one submission, judged now if it has to be, and kept.

    Args:
        retry: judge again where the fault was the grader's.
    """
    known = current_result(course, deliverable_id, student)
    if known is not None and not (retry and known.status is Outcome.INFRASTRUCTURE):
        return known
    folder = submission_path(course, deliverable_id, student)
    result = judge(folder, deliverable_id, student)
    result.write(result_path(course, deliverable_id, student))
    return result


def judge_class(
    course: Path, deliverable_id: str, students: Sequence[str], jobs: int = 1
) -> Iterator[Judgement]:
    """The results of many submissions, each as soon as it is there.

    Args:
        jobs: how many are judged at a time; each takes up to two processors and 2 GiB of memory.
    """
    if jobs <= 1 or len(students) <= 1:
        for student in students:
            yield judge_student(course, deliverable_id, student, retry=True)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        tasks = [
            pool.submit(judge_student, course, deliverable_id, student, retry=True)
            for student in students
        ]
        for task in as_completed(tasks):
            yield task.result()
