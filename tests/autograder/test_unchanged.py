"""A grading that has nothing to do says so at once, and one that has something never does."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from autograder import unchanged
from autograder.judging import load_master
from autograder.rubric import save_notebook, solved

ID = "d1_autoencoder"
SAID = [{"rows": []}]
#: The command line, which tells at its end whether it has imported torch.
GRADE = """
import sys
from autograder.cli import app
try:
    app(["grade", "d1", "--min-level", "0", "--course", *sys.argv[1:]])
finally:
    print("torch was imported:", "torch" in sys.modules)
"""


@pytest.fixture
def course(tmp_path: Path) -> Path:
    for name in ("submitted/ada/d1/d1.ipynb", "results/d1/ada.json", "gradebook.db"):
        (tmp_path / "course" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "course" / name).write_text(name)
    (tmp_path / "handins").mkdir()
    (tmp_path / "handins" / "d1-ada.zip").write_bytes(b"PK")
    return tmp_path / "course"


CHANGES: dict[str, Callable[[Path], object]] = {
    "new hand-in": lambda course: (course.parent / "handins" / "d1-bob.zip").write_bytes(b"PK"),
    "hand-in gone": lambda course: (course.parent / "handins" / "d1-ada.zip").unlink(),
    "another hand-in": lambda course: (course / "submitted/ada/d1/d1.ipynb").write_text("new"),
    "mark given by hand": lambda course: os.utime(course / "gradebook.db", ns=(1, 1)),
    "result gone": lambda course: (course / "results/d1/ada.json").unlink(),
    "damaged memory": lambda course: (course / unchanged.NAME).write_text("{"),
    "foreign memory": lambda course: (course / unchanged.NAME).write_text("[]"),
}


def test_what_was_said_is_said_again(course: Path) -> None:
    handins = course.parent / "handins"
    assert unchanged.recall(course, handins, ["d1"], 2) is None
    unchanged.remember(SAID, course, handins, ["d1"], 2)
    assert unchanged.recall(course, handins, ["d1"], 2) == SAID
    assert unchanged.recall(course, handins, ["d1"], 1) is None
    assert unchanged.recall(course, None, ["d1"], 2) is None


@pytest.mark.parametrize("change", CHANGES.values(), ids=list(CHANGES))
def test_every_change_counts(change: Callable[[Path], object], course: Path) -> None:
    handins = course.parent / "handins"
    unchanged.remember(SAID, course, handins)
    change(course)
    assert unchanged.recall(course, handins) is None


@pytest.mark.parametrize("name", ["helpers/checks.py", "nbgrader_config.py"])
def test_a_change_of_the_grader_counts(
    name: str, course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unchanged, "ROOT", course.parent)
    unchanged.remember(SAID, course, None)
    (course.parent / name).parent.mkdir(exist_ok=True)
    (course.parent / name).write_text("")
    assert unchanged.recall(course, None) is None


def test_grading_twice(tmp_path: Path) -> None:
    def grade() -> str:
        command = [sys.executable, "-c", GRADE, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    save_notebook(solved(load_master(ID)), tmp_path / "submitted" / "ada" / ID, ID)
    first, second = grade(), grade()
    assert "torch was imported: True" in first
    assert "torch was imported: False" in second
    table = first[first.index("student") : first.index("torch was")]
    assert "ada" in table
    assert table in second
    (tmp_path / "results" / ID / "ada.json").unlink()
    assert "torch was imported: True" in grade()
