"""What a notebook calls: ``check`` after each task and ``handin`` at the end."""

import os
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from helpers import deliverables
from helpers.checking import (
    Check,
    Engine,
    Request,
    Result,
    Status,
    StudentError,
    Submission,
    load_checks,
    run,
)
from helpers.notebook import cells
from helpers.notebook.packing import build_zip
from helpers.notebook.table import CheckTable
from helpers.training import same_randomness

__all__ = ["CheckTable", "check", "handin"]

if "LATENT_LAB_WORKER" not in os.environ:
    cells.watch()


def check(name: str) -> CheckTable | None:
    """Run the checks of one cell, such as ``check("d1_autoencoder.architecture")``.

    Your variables and the state of the random numbers do not change.

    Returns:
        The table of results; None in the grader, which runs the checks itself.

    Raises:
        KeyError: if there are no checks of that name.
    """
    deliverable, _, cell = name.partition(".")
    if "LATENT_LAB_WORKER" in os.environ:
        return None
    checks = [c for c in load_checks(deliverable) if c.cell == cell]
    if not checks:
        raise KeyError(f"There are no checks called {name!r}.")
    results, notes = _run_all(checks)
    passed = all(result.status is Status.PASSED for result in results) and not notes
    footer = "All of these checks pass. The grader runs some more." if passed else ""
    return CheckTable(results, footer, notes)


def handin(deliverable_id: str, student: str, notebook: str | None = None) -> CheckTable | None:
    """Build the zip to hand in, re-run every check and show the score so far.

    Args:
        deliverable_id: such as ``d1_autoencoder``.
        student: your id in the course.
        notebook: the notebook's file, if it is not ``<deliverable_id>.ipynb`` in this folder.

    Returns:
        The table of results, or None in the grader and for an id that is not allowed. The zip is
        ``<deliverable_id>-<student>.zip`` in this folder.
    """
    if "LATENT_LAB_WORKER" in os.environ:
        return None
    if not deliverables.is_student_id(student) or student == "your-id":
        print('Replace "your-id" with your own id (only letters, digits and . _ @ + -).')
        return None
    deliverable = deliverables.get(deliverable_id)
    # First of all the zip: a check may run out of memory, or the student out of patience.
    said, file = build_zip(deliverable, student, notebook)
    results: list[Result] = []
    try:
        results, notes = _run_all(load_checks(deliverable.id))
        said += notes
    except Exception as error:
        said.append(f"The checks could not be run ({type(error).__name__}: {error}).")
    footer = "Written answers and the grader's hidden checks add to this."
    return CheckTable(results, footer, said, file if _links_work() else "")


def _run_all(checks: Iterable[Check]) -> tuple[list[Result], list[str]]:
    """Run checks on the names of the notebook in this kernel.

    Returns:
        The results, and a sentence for each definition that is older than its cell.
    """
    # The names of the notebook are those of IPython's user; outside IPython, of __main__.
    import __main__

    names = vars(__main__)
    missing = {
        name: StudentError(
            "unattempted" if failed.waits else "error",
            f"Your last run of {failed.cell} raised {failed.error}.",
        )
        for name, failed in cells.log.failed.items()
    }
    engine, asked = Engine(names, missing), set()

    def execute(request: Request) -> object:
        if request.target is None:
            first = request.path.partition(".")[0]
            asked.update({first, type(names.get(first)).__name__})
        return engine.execute(request)

    # One submission for all, since checks store results in it for later checks.
    submission, results = Submission(execute), []
    # If the state of the random numbers cannot be read or put back, the results count all the same.
    with suppress(Exception), ExitStack() as stack:
        with suppress(Exception):
            stack.enter_context(same_randomness())
        for each in checks:
            results.append(_run(each, submission))
            with suppress(Exception):
                submission.ask("forget")  # the objects that the check created
    stale = {
        f"Your last run of {failed.cell} raised {failed.error}. The checks below test the "
        "definition from before that run."
        for name, failed in cells.log.failed.items()
        if name in asked and name in names
    }
    return results, sorted(stale)


def _run(check: Check, submission: Submission) -> Result:
    """Run one check; if the machine fails, only this check is without a result."""
    try:
        return run(check, submission)
    except Exception as error:
        message = f"This check could not be run here ({type(error).__name__}: {error})."
        return Result(check, Status.INFRASTRUCTURE, message)


def _links_work() -> bool:
    """Whether a link to a file leads there; in Colab's and Kaggle's pages it does not."""
    return "google.colab" not in sys.modules and "KAGGLE_KERNEL_RUN_TYPE" not in os.environ
