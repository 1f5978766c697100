"""Judges many submissions on this machine, one after another or several at the same time."""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context, parent_process
from pathlib import Path

from autograder.classroom.store import RESULTS, current_result, keep, submission_path
from autograder.judging import Judgement, Outcome, judge
from helpers.checking import Status


def judge_student(
    course: Path,
    deliverable_id: str,
    student: str,
    *,
    retry: bool,
    kept: str = RESULTS,
    alone: bool = True,
) -> Judgement:
    """The stored result of one submission, or a new one, which is then stored.

    Args:
        retry: whether to judge again if the grader failed the last time.
        kept: the folder of the results; REGRADED until somebody accepts them.
        alone: whether nothing else is judged at the same time. If not, a timeout is not stored.
    """
    known = current_result(course, deliverable_id, student, kept)
    if known is not None and not (retry and known.status is Outcome.INFRASTRUCTURE):
        return known
    result = judge(submission_path(course, deliverable_id, student), deliverable_id, student)
    if ran_out_of_time(result) and not alone:
        return result
    return keep(course, result, kept)


def judge_class(
    course: Path,
    deliverable_id: str,
    students: Sequence[str],
    jobs: int = 1,
    kept: str = RESULTS,
) -> Iterator[Judgement]:
    """Judge many submissions, yielding each result when it is ready.

    A submission that runs out of time while others are judged may be slow through no fault of its
    own. It is judged once more, alone, after the others.

    Args:
        jobs: how many are judged at the same time; each takes up to two processors and 2 GiB.
        kept: the folder of the results; REGRADED until somebody accepts them.
    """
    one = partial(judge_student, course, deliverable_id, retry=True, kept=kept)
    if jobs <= 1 or len(students) <= 1:
        yield from map(one, students)
        return
    # Spawned, not forked, because torch's threads do not survive a fork.
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
        except BaseException:  # the disk is full, or the caller stops: cancel the rest
            pool.shutdown(cancel_futures=True)
            raise
    yield from map(one, slow)


def _die_with_parent() -> None:
    """End with the parent; otherwise the processes of a killed pool would wait forever."""
    if sys.platform == "linux":
        death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(death_signal, signal.SIGKILL)
    parent = parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)  # it died before the line above


def ran_out_of_time(result: Judgement) -> bool:
    """Whether a check ended in a timeout."""
    return any(check.status is Status.TIMEOUT for check in result.checks)
