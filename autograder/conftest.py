"""``pytest autograder --submission PATH``: the checks on one submission, as pytest tests.

Useful when you write checks, or want pytest's ``-k``, ``-x`` and ``--junitxml``. The judge decides
here too: student code runs in the sandbox, never in pytest's own process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder import OUR_FAULT, sandbox
from autograder.judging import CheckResult, IntakeError, Outcome, all_checks, deliverable_of, judge
from helpers.checking import Check, Status
from helpers.deliverables import Deliverable

CHECKS = Path(__file__).parent / "judging" / "checks"

deliverable_key = pytest.StashKey[Deliverable]()
results_key = pytest.StashKey[dict[str, CheckResult]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that name the submission."""
    group = parser.getgroup("autograder")
    group.addoption(
        "--submission", type=Path, metavar="PATH", help="A zip, a folder or a notebook to judge."
    )
    group.addoption(
        "--deliverable",
        metavar="d1",
        help="The deliverable; by default taken from the file's name.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Find the deliverable, or stop with one sentence."""
    path = config.option.submission
    if path is None:
        return
    try:
        config.stash[deliverable_key] = deliverable_of(path, config.option.deliverable)
    except IntakeError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Name the submission and the isolation level."""
    if deliverable_key not in config.stash:
        return ["submission: none (use --submission PATH)"]
    return [
        f"submission: {config.option.submission} ({config.stash[deliverable_key].id})",
        f"isolation: {sandbox.describe(sandbox.isolation_level())}",
    ]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect all checks of the deliverable when pytest comes to the file of its hidden ones."""
    deliverable = parent.config.stash.get(deliverable_key, None)
    if deliverable is None or file_path != CHECKS / f"{deliverable.id}.py":
        return None
    return Checks.from_parent(parent, path=file_path)


class Checks(pytest.File):
    """All checks of the submission's deliverable, public and hidden."""

    def collect(self) -> Iterator[Test]:
        """One test for each check."""
        for check in all_checks(self.config.stash[deliverable_key].id):
            name = check.id.partition(".")[2]
            yield Test.from_parent(self, name=name, check=check)


class Test(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, **more: Any) -> None:
        super().__init__(**more)
        self.check = check

    def runtest(self) -> None:
        """Fail unless the judge found that the check passes."""
        result = self.config.stash[results_key][self.check.id]
        self.user_properties += [("points", result.points), ("earned", result.earned)]
        if result.status is not Status.PASSED:
            pytest.fail(f"{result.status}: {result.message}", pytrace=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Judge the submission once, with the selected check cells only."""
    cells = frozenset(item.check.cell for item in session.items if isinstance(item, Test))
    if not cells or session.config.option.collectonly:
        return
    deliverable = session.config.stash[deliverable_key]
    path = session.config.option.submission
    judgement = judge(path, deliverable.id, path.stem, only=cells)
    if judgement.status is Outcome.UNREADABLE:
        raise pytest.UsageError(judgement.message)
    if judgement.status is Outcome.INFRASTRUCTURE:
        message = next(c.message for c in judgement.checks if c.status is Status.INFRASTRUCTURE)
        pytest.exit(f"The grader failed, so there is no mark: {message}", returncode=OUR_FAULT)
    session.config.stash[results_key] = {result.id: result for result in judgement.checks}
