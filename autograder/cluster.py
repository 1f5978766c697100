"""The same queue on other machines, over Dask: hand-ins travel as bytes, results as JSON.

The machines are trusted: they have the kit, with the solutions and the hidden checks, and each runs
student code in its own sandbox. What travels between them is encrypted and authenticated by TLS,
set up in Dask's own configuration; docs/grading.md has the recipe.
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autograder import sandbox
from autograder.grading import current_result, keep, ran_out_of_time, submission_path
from autograder.judge import judge, judge_version
from autograder.results import Judgement, Outcome

#: How often a submission is tried anew when the machine that judges it is lost.
_RETRIES = 3
#: How long to wait for the scheduler.
_PATIENCE = "20s"


class ClusterError(Exception):
    """The cluster cannot be used; one sentence says why."""


def judge_bytes(archive: bytes, deliverable_id: str, student: str, min_level: int) -> str:
    """Judge a hand-in on the machine where this runs.

    Returns:
        The judgement as JSON.

    Raises:
        RuntimeError: if this machine's isolation level is too low.
    """
    level = sandbox.isolation_level()
    if level < min_level:
        raise RuntimeError(f"A machine of the cluster has isolation level {level} only.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{deliverable_id}-handin.zip"
        path.write_bytes(archive)
        return judge(path, deliverable_id, student).model_dump_json()


def judge_on_cluster(
    scheduler: str,
    course: Path,
    deliverable_id: str,
    students: Sequence[str],
    min_level: int,
    kept: str,
) -> Iterator[Judgement]:
    """The results of many submissions, each as soon as it is there; see ``grading.judge_class``.

    Args:
        scheduler: the address of Dask's scheduler, such as ``tls://grader:8786``.
        min_level: the isolation level that each machine must have.

    Raises:
        ClusterError: if it cannot be reached, is not encrypted, or its machines have other checks
            or too low a level.
    """
    if not scheduler.startswith("tls://") and not _is_this_machine(scheduler):
        raise ClusterError(f"{scheduler} is not encrypted: hand-ins travel over tls:// only.")
    # Imported here: only who grades on a cluster has it.
    from distributed import Client, as_completed

    waiting = []
    for student in students:
        known = current_result(course, deliverable_id, student, kept)
        if known is not None and known.status is not Outcome.INFRASTRUCTURE:
            yield known
        else:
            waiting.append(student)
    try:
        client = Client(scheduler, timeout=_PATIENCE, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:
        raise ClusterError(f"There is no scheduler at {scheduler} ({error}).") from error
    problems = []

    def submit(student: str) -> Any:
        archive = _archive(submission_path(course, deliverable_id, student))
        arguments = (archive, deliverable_id, student, min_level)
        return client.submit(judge_bytes, *arguments, pure=False, retries=_RETRIES)

    def result_of(future: Any) -> Judgement | None:
        try:
            return _result(future.result())
        except Exception as error:  # whatever a machine or the way to it is capable of
            problems.append(str(error))
            return None

    with client:
        slow = []
        for future in as_completed([submit(student) for student in waiting], loop=client.loop):
            result = result_of(future)
            if result is not None and ran_out_of_time(result):
                slow.append(result.student)
            elif result is not None:
                yield keep(course, result, kept)
        for student in slow:  # once more, alone; see ``grading.judge_class``
            result = result_of(submit(student))
            if result is not None:
                yield keep(course, result, kept)
    if problems:
        raise ClusterError(f"{len(problems)} were not judged: {problems[0]}")


def _result(text: str) -> Judgement:
    """A judgement from the cluster, if its checks are those of this machine."""
    result = Judgement.model_validate_json(text)
    if result.judge_sha256 != judge_version(result.deliverable):
        raise ClusterError("A machine of the cluster has another version of the kit.")
    return result


def _archive(folder: Path) -> bytes:
    """A submission's files as a zip."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                archive.write(path, path.relative_to(folder))
    return file.getvalue()


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address if "://" in address else f"//{address}").hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
