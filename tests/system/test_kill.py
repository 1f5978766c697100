"""Killed at any moment, again and again, grading ends with the same gradebook."""

import csv
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode

from autograder.classroom import collecting
from autograder.judging import load_master
from autograder.release import release, released_notebook
from autograder.rubric import solved

ID = "d1_autoencoder"
#: ``make verify`` kills grading fifty times, five in each of these; otherwise it is killed once.
LONG = [pytest.param(5, number, marks=pytest.mark.long) for number in range(1, 11)]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course in which five hand-ins wait for the judge."""
    folder = tmp_path_factory.mktemp("class")
    course, handins, master = folder / "course", folder / "handins", load_master(ID)
    handins.mkdir()
    wrong = {"choices": "hidden_dim, latent_dim, batch_size, n_epochs = 10, 3, 8, 99"}
    exits = {"choices": "import os; os._exit(0)"}
    notebooks: dict[str, NotebookNode] = {
        "untouched": released_notebook(master),
        "solved": solved(master),
        "wrong": solved(master, wrong),
        "exits": solved(master, exits),
        "raises": solved(master, {"model_class": "raise ValueError"}),
    }
    for student, notebook in notebooks.items():
        with zipfile.ZipFile(handins / f"{ID}-{student}.zip", "w") as archive:
            archive.writestr(f"{ID}.ipynb", nbformat.writes(notebook))
    (handins / f"{ID}-corrupt.zip").write_bytes(b"PK no more")
    release(ID, course, folder / "notebooks")
    collecting.collect(handins, course)
    return course


@pytest.fixture(scope="module")
def undisturbed(collected: Path) -> tuple[dict[str, Any], float]:
    """What is there in the end, and how long it takes."""
    course = Path(shutil.copytree(collected, collected.parent / "undisturbed"))
    begin = time.monotonic()
    finish(course)
    seconds = time.monotonic() - begin
    end = state(course)
    assert len(end["results"]) == 6
    assert len(end["marks"]) == 6
    return end, seconds


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("n_kills", "seed"), [(1, 0), *LONG])
def test_killed_and_started_again(
    n_kills: int,
    seed: int,
    collected: Path,
    undisturbed: tuple[dict[str, Any], float],
    tmp_path: Path,
) -> None:
    expected, seconds = undisturbed
    course = Path(shutil.copytree(collected, tmp_path / "course"))
    chance = random.Random(seed)
    moments = [round(chance.uniform(0.1, 1.0) * seconds, 2) for _ in range(n_kills)]
    for number, moment in enumerate(moments):  # each goes on with what those before it left
        grading = start(course, jobs=2 - number % 2)
        time.sleep(moment)
        grading.send_signal(signal.SIGKILL)  # it alone: what it has started must follow by itself
        grading.wait()
    finish(course)
    assert state(course) == expected, f"killed after {moments} s"
    assert leftovers() == []


def start(course: Path, jobs: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "autograder.cli", "grade", "d1", "--jobs", str(jobs)]
    return subprocess.Popen(
        [*command, "--course", str(course), "--min-level", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "LATENT_LAB_TEST": str(os.getpid())},
        start_new_session=True,
    )


def finish(course: Path) -> None:
    assert start(course, jobs=1).wait(300) == 0


def state(course: Path) -> dict[str, Any]:
    """All that grading leaves, but how long it took and when."""
    results = {}
    for path in sorted(course.glob(f"results/{ID}/*")):
        result = json.loads(path.read_text())
        del result["seconds"]
        results[path.name] = result
    with sqlite3.connect(course / "gradebook.db") as database:
        grades = database.execute(
            "select student_id, base_cell.name, auto_score, manual_score, needs_manual_grade "
            "from grade join base_cell on base_cell.id = grade.cell_id "
            "join submitted_notebook as notebook on notebook.id = grade.notebook_id "
            "join submitted_assignment as assignment on assignment.id = notebook.assignment_id"
        ).fetchall()
    with (course / "marks.csv").open() as file:
        marks = [
            {key: value for key, value in row.items() if "time" not in key}
            for row in csv.DictReader(file)
        ]
    reports = sorted(path.name for path in course.glob(f"reports/{ID}/**/*"))
    return {
        "results": results,
        "grades": sorted(map(str, grades)),
        "marks": marks,
        "pages": reports,
    }


def leftovers() -> list[str]:
    """Processes of a grading that was killed, a few seconds later."""
    mark, server = f"LATENT_LAB_TEST={os.getpid()}".encode(), b"inside.forkserver"
    end = time.monotonic() + 10
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
                # A fork server has no environment; one that was left behind has no parent either.
                orphan = b"\nPPid:\t1\n" in (folder / "status").read_bytes()
                if mark in (folder / "environ").read_bytes() or (orphan and server in words):
                    found.append(words.replace(b"\0", b" ").decode(errors="replace")[:200])
            except OSError:
                continue
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)
