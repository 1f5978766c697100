"""Judges one submission.

This runs outside the sandbox. Everything that decides a mark is computed here; the answers of the
sandboxed processes, which run untrusted code, are only data for it.
"""

import sys
import time
from functools import partial
from pathlib import Path

from autograder import sandbox
from autograder.judging.intake import HandIn, IntakeError, handin_digest, read_handin, read_losses
from autograder.judging.master import Master, all_checks, load_master
from autograder.judging.matching import OWN, Placed, foreign_imports, place, untouched
from autograder.judging.results import CheckResult, Judgement, Outcome, outcome
from autograder.judging.session import Patience, RemoteSubmission, Session
from autograder.judging.standin import standin_folder
from autograder.judging.version import judge_version
from helpers.checking import Check, Result, Status, run
from helpers.deliverables import ALLOWED_IMPORTS


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
        level: the isolation level to run at; by default the best on this machine.
        patience: how long student code may take.
        only: the check cells to run; by default all.

    Returns:
        The result. If the grader fails, its status is "infrastructure"; no exception is raised.
    """
    begin = time.monotonic()
    master = load_master(deliverable_id)
    level = sandbox.isolation_level() if level is None else level
    cells = [cell.name for cell in master.cells]
    # In the order of their cells; the sort is stable, so a cell's hidden checks come last.
    checks = sorted(all_checks(master.deliverable.id), key=lambda c: cells.index(c.cell))
    checks = [check for check in checks if only is None or check.cell in only]
    notices: tuple[str, ...] = ()
    reported: dict[str, list[float]] = {}
    message = ""
    try:
        handin = read_handin(path, master.deliverable)
    except IntakeError as error:
        handin, message = HandIn(cells=[], sha256=_digest(path, master)), str(error)
        results = [CheckResult.of(Result(check, Status.ERROR, message)) for check in checks]
        status = Outcome.UNREADABLE
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


def _digest(path: Path, master: Master) -> str:
    """The hash of a hand-in that cannot be parsed; "" if its files cannot be read either."""
    try:
        return handin_digest(path, master.deliverable)
    except IntakeError:
        return ""


def _run_checks(
    checks: list[Check], placed: list[Placed], handin: HandIn, level: int, patience: Patience
) -> list[CheckResult]:
    """Run all checks; an exception that no student code caused becomes "infrastructure"."""
    start = partial(sandbox.start, standin=standin_folder(), level=level)
    n_processes = 2 if handin.checkpoints else 1
    results = []
    try:
        with Session(placed, start, patience, n_processes) as session:
            submission = RemoteSubmission(session, handin)
            for check in checks:
                results.append(_run_check(check, submission))
                session.forget()
    except Exception as error:  # the sandbox does not start, the disk is full, ...
        results += [_infrastructure(check, error) for check in checks[len(results) :]]
    return [CheckResult.of(result) for result in results]


def _run_check(check: Check, submission: RemoteSubmission) -> Result:
    try:
        return run(check, submission, (sandbox.SandboxError, OSError, MemoryError))
    except Exception as error:
        return _infrastructure(check, error)


def _infrastructure(check: Check, error: Exception) -> Result:
    message = f"The grader itself failed ({type(error).__name__}: {error}). There is no mark yet."
    return Result(check, Status.INFRASTRUCTURE, message)


def _notices(placed: list[Placed], master: Master) -> list[str]:
    """Remarks about a notebook, for the instructor."""
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
