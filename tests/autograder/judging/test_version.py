"""Which changes make results stale: those of what decides a mark, of this deliverable alone."""

import shutil
from pathlib import Path

import pytest

from autograder import ROOT
from autograder.judging import version
from helpers.deliverables import DELIVERABLES


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packages in another place, where they may be changed."""
    heavy = shutil.ignore_patterns("files", "weights", "__pycache__")
    for house in ("helpers", "autograder"):
        shutil.copytree(ROOT / house, tmp_path / house, ignore=heavy)
    monkeypatch.setattr(version, "ROOT", tmp_path)
    return tmp_path


def versions() -> dict[str, str]:
    return {name: version.judge_version.__wrapped__(name) for name in DELIVERABLES}


def change(path: Path) -> set[str]:
    """The deliverables whose version changes with one more character in a file."""
    before = versions()
    path.write_bytes(path.read_bytes().replace(b'"""', b'"""!', 1))
    after = versions()
    return {name for name in DELIVERABLES if before[name] != after[name]}


@pytest.mark.parametrize(
    "file",
    [
        "helpers/genpic.py",
        "helpers/notebook/table.py",
        "helpers/plotting/images.py",
        "autograder/cli.py",
        "autograder/classroom/report.py",
        "autograder/release/notebooks.py",
        "autograder/rubric/specimen.py",
    ],
)
def test_what_decides_no_mark_leaves_results_current(file: str, copy: Path) -> None:
    assert change(copy / file) == set()


@pytest.mark.parametrize("name", DELIVERABLES)
def test_checks_concern_their_deliverable(name: str, copy: Path) -> None:
    hidden = copy / "autograder" / "judging" / "checks" / f"{name}.py"
    public = copy / "helpers" / "checks"
    files = [hidden, *public.glob(f"{name}.py"), *public.glob(f"{name}/*.py")]
    assert len(files) > 1
    for file in files:
        assert change(file) == {name}


@pytest.mark.parametrize(
    "file",
    [
        "helpers/deliverables.py",
        "helpers/checking/expect.py",
        "helpers/checks/common/trial.py",
        "helpers/data/mnist.py",
        "helpers/models/digit_classifier.py",
        "helpers/training/loop.py",
        "autograder/judging/matching.py",
        "autograder/sandbox/inside/worker.py",
    ],
)
def test_what_all_share_concerns_all(file: str, copy: Path) -> None:
    assert change(copy / file) == set(DELIVERABLES)


def test_a_new_check_file_counts(copy: Path) -> None:
    before = versions()
    (copy / "helpers" / "checks" / "common" / "new.py").write_text('"""New."""\n')
    assert versions() != before


def test_what_python_makes_does_not_count(copy: Path) -> None:
    before = versions()
    (copy / "helpers" / "checks" / "__pycache__").mkdir()
    (copy / "helpers" / "checks" / "__pycache__" / "x.pyc").write_bytes(b"x")
    assert versions() == before
