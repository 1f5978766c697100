"""When the checks change: judged again for real, shown first, written when accepted."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from autograder.classroom import pool, store
from autograder.cli import app
from autograder.judging import Outcome, judge, load_master
from autograder.rubric import save_notebook, solved
from helpers.checking import PUBLIC, Submission, fail, registry

ID = "d1_autoencoder"
CHECK = f"{ID}.loss.criterion_is_the_mean_squared_error"


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Ada's notebook is right but untrained, and Bob's has another criterion; both are graded."""
    master = load_master(ID)
    other = "criterion = nn.L1Loss()\noptimizer = optim.Adam(model.parameters(), lr=1e-3)"
    for student, changes in (("ada", {}), ("bob", {"loss_and_optimizer": other})):
        save_notebook(solved(master, changes), tmp_path / "submitted" / student / ID, ID)
    results = list(pool.judge_class(tmp_path, ID, ["ada", "bob"]))
    assert {result.status for result in results} == {Outcome.GRADED}
    return tmp_path


@pytest.fixture
def change_check(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace something of a check, as an instructor would by editing its file."""

    def change(**fields: object) -> None:
        checks = registry._registry[PUBLIC, ID]
        changed = [dataclasses.replace(c, **fields) if c.id == CHECK else c for c in checks]
        monkeypatch.setitem(registry._registry, (PUBLIC, ID), changed)
        for module in (store, sys.modules[judge.__module__]):
            monkeypatch.setattr(module, "judge_version", lambda _: "another version")

    return change


def scores(course: Path) -> dict[str, float | None]:
    return {result.student: result.score for result in store.read_results(course, ID)}


def grade(course: Path, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(
        app, ["grade", "d1", "--course", str(course), "--min-level", "0", *arguments]
    )
    return done.exit_code, done.output


def refuse_everybody(submission: Submission) -> None:
    fail("Nothing is good enough.")


def test_difference_is_shown_before_it_is_written(
    course: Path, change_check: Callable[..., None]
) -> None:
    before = scores(course)
    change_check(function=refuse_everybody)
    assert store.stale(course, ID) == ["ada", "bob"]

    code, text = grade(course)
    assert code == 2
    assert "1 of 2 marks change." in text  # Bob had lost it anyway
    assert f"ada: {before['ada']:g} of 90, graded -> {before['ada'] - 4:g} of 90, graded" in text
    assert "criterion_is_the_mean_squared_error: 4 -> 0 Nothing is good enough." in text
    assert "bob:" not in text
    assert "Use --yes to accept the new marks." in text
    assert scores(course) == before

    store.accept(course, ID)
    assert scores(course) == {"ada": before["ada"] - 4, "bob": before["bob"]}
    assert store.stale(course, ID) == []


def test_what_changes_no_mark_is_accepted_silently(
    course: Path, change_check: Callable[..., None]
) -> None:
    before = scores(course)
    change_check(title="The same check, said better.")
    _, text = grade(course)
    assert "0 of 2 marks change." in text
    assert scores(course) == before
    (result, _) = store.read_results(course, ID)
    assert "The same check, said better." in {c.title for c in result.checks}


def test_our_fault_never_replaces_a_mark(course: Path, change_check: Callable[..., None]) -> None:
    def broken(submission: Submission) -> None:
        raise OSError("No space left on device")

    before = scores(course)
    change_check(function=broken)
    assert "0 of 2 marks change." in grade(course, "--yes")[1]
    assert scores(course) == before


def test_new_work_is_no_regrade(course: Path, change_check: Callable[..., None]) -> None:
    change_check(points=5.0)
    save_notebook(
        solved(load_master(ID), {"choices": "n_epochs = 3"}), course / "submitted/ada" / ID, ID
    )
    assert store.stale(course, ID) == ["bob"]
