"""A full disk, a gradebook that is locked or damaged: one clear sentence, and nothing is lost."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from autograder import cli
from autograder.classroom import read_results
from autograder.judging import load_master
from autograder.release import released_notebook
from autograder.rubric import save_notebook, solved

ID = "d1_autoencoder"
MASTER = load_master(ID)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course in which one untouched notebook has been graded."""
    folder = tmp_path_factory.mktemp("class")
    save_notebook(released_notebook(MASTER), folder / "handins" / f"{ID}-ada", ID)
    done = grade(folder / "course", folder / "handins")
    assert done.returncode == 0, done.stderr
    return folder / "course"


@pytest.fixture
def course(graded: Path, tmp_path: Path) -> Path:
    """A copy of it, into which a second student has handed in."""
    return hand_in_second(Path(shutil.copytree(graded, tmp_path / "course")))


@pytest.fixture
def small_disk(graded: Path, tmp_path: Path) -> Iterator[Path]:
    """The same on a file system of its own, small enough to be filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("only root can make a small disk, and not on every machine")
    try:
        yield hand_in_second(Path(shutil.copytree(graded, disk / "course")))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def hand_in_second(course: Path) -> Path:
    raising = solved(MASTER, {"model_class": "raise ValueError"})
    save_notebook(raising, course / "submitted" / "bob" / ID, ID)
    return course


def grade(course: Path, handins: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autograder.cli", "grade", "d1", "--min-level", "0"]
    command += ["--course", str(course)]
    if handins is not None:
        command += ["--handins", str(handins)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def expect_one_sentence(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == cli.OUR_FAULT
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def marks(course: Path) -> list[str]:
    """Who has a result and who a row of marks."""
    rows = (course / "marks.csv").read_text().splitlines()[1:]
    results = [result.student for result in read_results(course, ID)]
    return results + [",".join(row.split(",")[:3]) for row in rows]


BOTH = ["ada", "bob", f"ada,{ID},0.0", f"bob,{ID},27.0"]


@pytest.mark.parametrize(
    "free_kib", [4, *(pytest.param(k, marks=pytest.mark.long) for k in (0, 16, 32, 64))]
)
def test_disk_full(small_disk: Path, free_kib: int) -> None:
    before = marks(small_disk)
    filler = small_disk.parent / "filler"
    fill(filler, free_kib)
    expect_one_sentence(grade(small_disk))
    assert set(before) <= set(marks(small_disk))
    assert not list(small_disk.glob("results/**/.*"))
    filler.unlink()
    assert grade(small_disk).returncode == 0
    assert marks(small_disk) == BOTH


def fill(path: Path, free_kib: int) -> None:
    """Take all the room there is, but so many KiB."""
    free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
    path.write_bytes(bytes(free - (free_kib << 10)))


def test_locked_gradebook(course: Path) -> None:
    with closing(sqlite3.connect(course / "gradebook.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        expect_one_sentence(grade(course), "gradebook.db cannot be written", "locked")
    assert grade(course).returncode == 0
    assert marks(course) == BOTH


@pytest.mark.parametrize("damage", ["cut short", "overwritten"])
def test_damaged_gradebook(course: Path, damage: str) -> None:
    path = course / "gradebook.db"
    whole = path.read_bytes()
    broken = {"cut short": whole[: len(whole) // 2], "overwritten": b"no database" * 9999}
    path.write_bytes(broken[damage])
    expect_one_sentence(grade(course), "gradebook.db is damaged", "Put a backup in its place")
    path.write_bytes(whole)
    assert grade(course).returncode == 0
    assert marks(course) == BOTH
