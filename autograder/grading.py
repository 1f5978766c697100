"""A class at a time: judge what has changed, keep one result file a submission.

A result belongs to a hand-in and to a version of the checks. Where the hand-in is new, it is judged
and the result is kept. Where only the checks are new, what they say is kept beside the old result
until somebody has seen the difference and accepts it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from autograder.intake import IntakeError, read_handin
from autograder.judge import judge, judge_version
from autograder.results import CheckResult, Judgement, Outcome
from helpers import deliverables
from helpers.check import Status

#: Folders of a course: results that count, and those that wait for somebody to accept them.
RESULTS, REGRADED = "results", "regraded"


def submission_path(course: Path, deliverable_id: str, student: str) -> Path:
    """Where one submission lies."""
    return course / "submitted" / student / deliverable_id


def result_path(course: Path, deliverable_id: str, student: str, kept: str = RESULTS) -> Path:
    """Where the judge's word about one submission lies; REGRADED where it is not accepted yet."""
    return course / kept / deliverable_id / f"{student}.json"


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


def current_result(
    course: Path, deliverable_id: str, student: str, kept: str = RESULTS
) -> Judgement | None:
    """The result of the present submission by the present checks, if it is there."""
    result = read_result(result_path(course, deliverable_id, student, kept))
    if result is None or result.judge_sha256 != judge_version(deliverable_id):
        return None
    return result if _is_of_present_handin(result, course) else None


def stale(course: Path, deliverable_id: str) -> list[str]:
    """Whose result is of the submission as it is now, but by other checks than the present ones."""
    return [
        result.student
        for result in read_results(course, deliverable_id)
        if result.judge_sha256 != judge_version(deliverable_id)
        and result.status is not Outcome.INFRASTRUCTURE
        and _is_of_present_handin(result, course)
    ]


def _is_of_present_handin(result: Judgement, course: Path) -> bool:
    folder = submission_path(course, result.deliverable, result.student)
    try:
        handin = read_handin(folder, deliverables.get(result.deliverable))
    except IntakeError:
        # What was unreadable when it came in was not stored: its result stands.
        return result.status is Outcome.UNREADABLE
    return result.handin_sha256 == handin.sha256


def judge_student(
    course: Path,
    deliverable_id: str,
    student: str,
    *,
    retry: bool,
    kept: str = RESULTS,
    alone: bool = True,
) -> Judgement:
    """The result of one submission, judged now if it has to be, and kept.

    Args:
        retry: judge again where the fault was the grader's.
        kept: where; REGRADED until somebody accepts it.
        alone: whether nothing else is judged meanwhile; if not, what ran out of time is not kept.
    """
    known = current_result(course, deliverable_id, student, kept)
    if known is not None and not (retry and known.status is Outcome.INFRASTRUCTURE):
        return known
    result = judge(submission_path(course, deliverable_id, student), deliverable_id, student)
    if ran_out_of_time(result) and not alone:
        return result
    return keep(course, result, kept)


def keep(course: Path, result: Judgement, kept: str = RESULTS) -> Judgement:
    """Write a new result, unless it is our own fault and would take a mark away; what stands."""
    path = result_path(course, result.deliverable, result.student, kept)
    old = read_result(path)
    ours = result.status is Outcome.INFRASTRUCTURE
    if ours and old is not None and old.score is not None and _is_of_present_handin(old, course):
        return old
    result.write(path)
    return result


def judge_class(
    course: Path,
    deliverable_id: str,
    students: Sequence[str],
    jobs: int = 1,
    kept: str = RESULTS,
) -> Iterator[Judgement]:
    """The results of many submissions, each as soon as it is there.

    What runs out of time beside others may be slow through no fault of its own: it is judged once
    more, alone, when the others are done.

    Args:
        jobs: how many are judged at a time; each takes up to two processors and 2 GiB of memory.
        kept: where the results are kept; REGRADED until somebody accepts them.
    """
    one = partial(judge_student, course, deliverable_id, retry=True, kept=kept)
    if jobs <= 1 or len(students) <= 1:
        yield from map(one, students)
        return
    # Spawned, not forked: torch's threads do not survive a fork.
    slow = []
    with ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_die_with_parent) as pool:
        tasks = [pool.submit(one, student, alone=False) for student in students]
        try:
            for task in as_completed(tasks):
                result = task.result()
                if ran_out_of_time(result):
                    slow.append(result.student)
                else:
                    yield result
        except BaseException:  # a full disk, or the reader wants no more: the rest need not run
            pool.shutdown(cancel_futures=True)
            raise
    yield from map(one, slow)


def _die_with_parent() -> None:
    """Else the processes of a pool that was killed wait for its orders for ever."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
    parent = parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)  # it died before we could ask


def ran_out_of_time(result: Judgement) -> bool:
    """Whether a check ended because time was up."""
    return any(check.status is Status.TIMEOUT for check in result.checks)


@dataclass(frozen=True)
class Change:
    """What the present checks say of a submission that was judged before by others."""

    before: Judgement
    after: Judgement

    @property
    def checks(self) -> list[tuple[float, CheckResult]]:
        """The checks whose points differ, each with the points that it gave before."""
        before = {check.id: check.earned for check in self.before.checks}
        pairs = [(before.get(check.id, 0.0), check) for check in self.after.checks]
        return [(points, check) for points, check in pairs if points != check.earned]

    @property
    def matters(self) -> bool:
        """Whether the mark or the status differs."""
        marks = ("score", "max_score", "status")
        return any(getattr(self.before, name) != getattr(self.after, name) for name in marks)


def changes(course: Path, deliverable_id: str) -> list[Change]:
    """What is regraded and not accepted yet, by student; without what our own faults spoiled."""
    found = []
    for student in stale(course, deliverable_id):
        before = read_result(result_path(course, deliverable_id, student))
        after = current_result(course, deliverable_id, student, REGRADED)
        if before is None or after is None or after.status is Outcome.INFRASTRUCTURE:
            continue
        found.append(Change(before, after))
    return found


def accept(course: Path, deliverable_id: str) -> None:
    """Let the regraded results take the place of the old ones."""
    for change in changes(course, deliverable_id):
        student = change.after.student
        path = result_path(course, deliverable_id, student)
        result_path(course, deliverable_id, student, REGRADED).replace(path)
