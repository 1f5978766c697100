"""Runs outside the sandbox: asks, compares, decides.

Everything that decides a mark is computed here, from answers that are taken for what they are: the
words of a stranger.
"""

from __future__ import annotations

import hashlib
import sys
import time
from functools import cache, partial
from pathlib import Path

from autograder import sandbox
from autograder.intake import HandIn, IntakeError, read_handin, read_losses
from autograder.master import Master, load_master
from autograder.matching import OWN, Placed, foreign_imports, place, untouched
from autograder.remote import Patience, RemoteSubmission, Session
from autograder.results import CheckResult, Judgement, Outcome, outcome
from autograder.standin import standin_folder
from helpers.check import Check, Result, Status, load_checks, run
from helpers.deliverables import ALLOWED_IMPORTS, DELIVERABLES

#: Modules that show, carry or make things, and decide no mark: others are taken to decide.
_NOT_DECIDING = {
    *("cli", "cluster", "conftest", "demo", "gradebook", "preprocessors", "release", "report"),
    *("rubric", "diagrams", "explorer", "plotting", "specimen"),
}


def judge(
    path: Path,
    deliverable_id: str,
    student: str,
    *,
    level: int | None = None,
    patience: Patience | None = None,
    only: frozenset[str] | None = None,
) -> Judgement:
    """Grade one submission.

    Args:
        path: a zip, a folder or a notebook.
        level: the isolation level to run at; by default the best that the machine has.
        patience: how long student code may take.
        only: the check cells to run; by default all.

    Returns:
        The marks. A fault of ours is in it as the status "infrastructure", never raised.
    """
    begin = time.monotonic()
    master = load_master(deliverable_id)
    level = sandbox.isolation_level() if level is None else level
    checks = _in_order(load_checks(master.deliverable.id, hidden=True), master)
    checks = [check for check in checks if only is None or check.cell in only]
    notices: tuple[str, ...] = ()
    reported: dict[str, list[float]] = {}
    message = ""
    try:
        handin = read_handin(path, master.deliverable)
    except IntakeError as error:
        handin, message = HandIn(cells=[]), str(error)
        results, status = _all(checks, Status.ERROR, message), Outcome.UNREADABLE
    else:
        placed = place(handin.cells, master)
        notices = tuple(_notices(placed, master))
        results = _run_checks(checks, placed, handin, level, patience or Patience())
        status = outcome(results)
        reported = {name: read_losses(data) for name, data in handin.histories.items()}
    marked = status not in (Outcome.INFRASTRUCTURE, Outcome.UNREADABLE)
    return Judgement(
        deliverable=master.deliverable.id,
        student=student,
        score=sum(check.earned for check in results) if marked else None,
        max_score=sum(check.points for check in checks),
        status=status,
        message=message,
        isolation_level=level,
        checks=tuple(results),
        notices=notices,
        reported_losses=reported,
        handin_sha256=handin.sha256,
        judge_sha256=judge_version(master.deliverable.id),
        seconds=round(time.monotonic() - begin, 2),
    )


@cache
def judge_version(deliverable_id: str) -> str:
    """A hash of all that decides a mark: with the hand-in's, the key of a result."""
    digest = hashlib.sha256()
    for cell in load_master(deliverable_id).cells:
        if cell.is_code:
            digest.update(cell.source.encode())
    here, kit = Path(__file__).parent, Path(sys.modules["helpers"].__file__ or "").parent
    files = [file for folder in (here, kit) for file in folder.glob("*.py")]
    files = [file for file in files if file.stem not in _NOT_DECIDING]
    others = DELIVERABLES.keys() - {deliverable_id}
    for folder in (here, kit):
        files += [file for file in (folder / "checks").glob("*.py") if file.stem not in others]
    weights = [file for file in (kit / "weights").rglob("*") if file.is_file()]
    for file in [*sorted(files), *sorted(weights)]:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _in_order(checks: list[Check], master: Master) -> list[Check]:
    """The checks in the order of their cells, those that are hidden behind the others."""
    cells = [cell.name for cell in master.cells]
    return sorted(checks, key=lambda check: cells.index(check.cell))


def _run_checks(
    checks: list[Check], placed: list[Placed], handin: HandIn, level: int, patience: Patience
) -> list[CheckResult]:
    """Run every check; what is not the student's doing is infrastructure."""
    start = partial(sandbox.start, standin=standin_folder(), level=level)
    n_processes = 2 if handin.checkpoints else 1
    results = []
    try:
        with Session(placed, start, patience, n_processes) as session:
            submission = RemoteSubmission(session, handin)
            for check in checks:
                results.append(_run_check(check, submission))
                session.forget()
    except Exception as error:  # a sandbox that does not start, a disk that is full...
        results += [_infrastructure(check, error) for check in checks[len(results) :]]
    return [CheckResult.of(result) for result in results]


def _run_check(check: Check, submission: RemoteSubmission) -> Result:
    try:
        return run(check, submission)
    except Exception as error:
        return _infrastructure(check, error)


def _infrastructure(check: Check, error: Exception) -> Result:
    message = f"The grader itself failed ({type(error).__name__}: {error}). There is no mark yet."
    return Result(check, Status.INFRASTRUCTURE, message)


def _all(checks: list[Check], status: Status, message: str) -> list[CheckResult]:
    return [CheckResult.of(Result(check, status, message)) for check in checks]


def _notices(placed: list[Placed], master: Master) -> list[str]:
    """What an instructor should know of a notebook."""
    own = [p for p in placed if p.is_code and (p.cell is None or p.cell.kind in OWN)]
    allowed = ALLOWED_IMPORTS | master.deliverable.extra_imports | sys.stdlib_module_names
    notices = []
    if foreign := foreign_imports((p.source for p in own), allowed):
        notices.append(f"Imports beyond those allowed: {', '.join(foreign)}.")
    for p in placed:
        if p.cell is None or p.cell.kind not in OWN:
            continue
        if not p.submitted:
            notices.append(f"The cell {p.cell.name!r} was deleted.")
        elif p.cell.kind == "written" and untouched(p.cell, p.source):
            notices.append(f"The question {p.cell.name!r} was not answered.")
    return notices
