"""Judges submissions on other machines, over Dask: hand-ins travel as bytes, results as JSON.

The machines are trusted: they have this repository, with its solutions and hidden checks, and each
runs student code in its own sandbox. The connections are encrypted and authenticated by TLS, which
is set up in Dask's configuration; see docs/grading.md.
"""

import io
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from autograder import UserError, sandbox
from autograder.classroom.pool import ran_out_of_time
from autograder.classroom.store import RESULTS, current_result, keep, submission_path
from autograder.judging import Judgement, Outcome, judge, judge_version

#: How often a submission is judged again after the machine that was judging it is lost.
_RETRIES = 3
#: How long to wait for the scheduler.
_PATIENCE = "20s"


class ClusterError(UserError):
    """The cluster cannot be used; one sentence says why."""


def judge_bytes(archive: bytes, deliverable_id: str, student: str, min_level: int) -> str:
    """Judge a hand-in; Dask runs this on one of the machines.

    Returns:
        The judgement as JSON.

    Raises:
        RuntimeError: if this machine's isolation level is too low.
    """
    level = sandbox.isolation_level()
    if level < min_level:
        raise RuntimeError(f"A machine of the cluster has only isolation level {level}.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{deliverable_id}-handin.zip"
        path.write_bytes(archive)
        return judge(path, deliverable_id, student).model_dump_json()


def judge_on_cluster(
    course: Path,
    deliverable_id: str,
    students: Sequence[str],
    *,
    scheduler: str,
    min_level: int,
    kept: str = RESULTS,
) -> Iterator[Judgement]:
    """Judge many submissions, yielding each result when it is ready; see :func:`judge_class`.

    Args:
        scheduler: the address of Dask's scheduler, such as ``tls://grader:8786``.
        min_level: the isolation level that each machine must have.

    Raises:
        ClusterError: if Dask is missing, the scheduler cannot be reached or is not encrypted, or
            the machines have other checks or too low a level.
    """
    if not scheduler.startswith("tls://") and not _is_this_machine(scheduler):
        raise ClusterError(f"{scheduler} is not encrypted: hand-ins travel only over tls://.")
    try:
        from distributed import Client, as_completed
    except ImportError as error:
        sentence = 'Grading on a cluster needs Dask: pip install "latent-lab[cluster]".'
        raise ClusterError(sentence) from error

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
        except Exception as error:  # a machine or the network may raise anything
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
        for student in slow:  # once more, alone; see :func:`judge_class`
            result = result_of(submit(student))
            if result is not None:
                yield keep(course, result, kept)
    if problems:
        raise ClusterError(f"Submissions not judged: {len(problems)}. The first: {problems[0]}")


def _result(text: str) -> Judgement:
    """Read a judgement from the cluster; its checks must be those of this machine."""
    result = Judgement.model_validate_json(text)
    if result.judge_sha256 != judge_version(result.deliverable):
        raise ClusterError("A machine of the cluster has another version of the kit.")
    return result


def _archive(folder: Path) -> bytes:
    """Zip a submission's files."""
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
