"""``pytest autograder --submission PATH``: one submission's checks as pytest's tests.

For whoever writes checks, or wants pytest's ``-k``, ``-x`` and ``--junitxml``. The judge decides
here as everywhere: student code runs in the sandbox, and never in pytest's own process.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from autograder import sandbox
from autograder.cli import OUR_FAULT
from autograder.intake import IntakeError, deliverable_of
from autograder.judge import judge
from autograder.results import CheckResult, Outcome
from helpers.check import Check, Status, load_checks
from helpers.deliverables import Deliverable

CHECKS = Path(__file__).parent / "checks"

deliverable_key = pytest.StashKey[Deliverable]()
results_key = pytest.StashKey[dict[str, CheckResult]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what tells the submission."""
    group = parser.getgroup("autograder")
    group.addoption(
        "--submission", type=Path, metavar="PATH", help="A zip, a folder or a notebook to judge."
    )
    group.addoption(
        "--deliverable", metavar="d1", help="The deliverable; by default the file's name tells."
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
    """Say what is judged, and how well it is shut in."""
    if deliverable_key not in config.stash:
        return ["submission: none; say --submission PATH"]
    return [
        f"submission: {config.option.submission} ({config.stash[deliverable_key].id})",
        f"isolation: {sandbox.describe(sandbox.isolation_level())}",
    ]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the deliverable's checks at its file of hidden ones."""
    deliverable = parent.config.stash.get(deliverable_key, None)
    if deliverable is None or file_path != CHECKS / f"{deliverable.id}.py":
        return None
    return Checks.from_parent(parent, path=file_path)


class Checks(pytest.File):
    """All checks of the deliverable that was handed in, the students' and the hidden ones."""

    def collect(self) -> Iterator[Test]:
        """One test for each check."""
        for check in load_checks(self.config.stash[deliverable_key].id, hidden=True):
            name = check.id.partition(".")[2]
            yield Test.from_parent(self, name=name, check=check)


class Test(pytest.Item):
    """One check."""

    def __init__(self, *, check: Check, **more: Any) -> None:
        super().__init__(**more)
        self.check = check

    def runtest(self) -> None:
        """Fail unless the judge found the check passed."""
        result = self.config.stash[results_key][self.check.id]
        self.user_properties += [("points", result.points), ("earned", result.earned)]
        if result.status is not Status.PASSED:
            pytest.fail(f"{result.status}: {result.message}", pytrace=False)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Judge once, and only the check cells that were chosen."""
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
        pytest.exit(f"There is no mark, and the fault is ours: {message}", returncode=OUR_FAULT)
    session.config.stash[results_key] = {result.id: result for result in judgement.checks}
