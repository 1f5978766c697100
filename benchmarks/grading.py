"""Grading a class: throughput, overhead by stage, memory, growth, one job against two, nbgrader.

``python benchmarks/grading.py [--students 200]`` trains the reference of deliverable 1 once, hands
it in under many names, and grades them all, in one run. nbgrader executes a few of the same
notebooks with its own preprocessor, training skipped: the checkpoint lies beside the notebook.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from machine import save

from autograder import gradebook, grading, sandbox
from autograder.demo import hand_in
from autograder.intake import read_handin
from autograder.master import Master, load_master
from autograder.matching import place
from autograder.release import release
from autograder.remote import Patience, Session
from autograder.standin import standin_folder
from helpers.submission import Request

NAME = "d1_autoencoder"
N_REPEATS, N_EXECUTED, SMALL_CLASS = 5, 3, 10


def main() -> None:
    """Measure, print, write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=200)
    n_students = parser.parse_args().students
    master = load_master(NAME)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("Training the reference...")
        hand_in(master, "reference", {}, folder / "work", folder)
        path = folder / f"{NAME}-reference.zip"

        results: dict[str, Any] = {"isolation level": sandbox.isolation_level()}
        results["stages of one submission, median (s)"] = stages(path, master)
        results["one job (s)"] = graded(path, folder / "small", SMALL_CLASS, jobs=1)
        results["two jobs (s)"] = graded(path, folder / "pair", SMALL_CLASS, jobs=2)
        results["a class, two jobs (s)"] = graded(path, folder / "class", n_students, jobs=2)
        peak = max(resource.getrusage(who).ru_maxrss for who in (0, -1))
        results["largest process that is no student's (MiB)"] = round(peak / 1024)
        results["nbgrader, training skipped (s)"] = executed(path, folder / "nbgrader")
    for key, value in results.items():
        print(f"{key:45} {value}")
    save("grading", results)


def stages(path: Path, master: Master) -> dict[str, float]:
    """How long each step of judging takes; what is left is the checks' own computing."""
    taken: dict[str, list[float]] = {}

    def timed(stage: str, do: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        result = do()
        taken.setdefault(stage, []).append(time.monotonic() - begin)
        return result

    start = partial(sandbox.start, standin=standin_folder(), level=2)
    timed("the nursery, once a run", start).kill()
    for _ in range(N_REPEATS):
        handin = timed("read the hand-in", lambda: read_handin(path, master.deliverable))
        placed = timed("match its cells", partial(place, handin.cells, master))
        session = Session(placed, start, Patience(), 0)
        timed("start a process, run the cells", partial(session.execute, Request("forget")))
        timed(
            "start another, run the cells",
            lambda session=session: (session.apart(), session.apart()),
        )
        timed("end them", lambda session=session: session.__exit__(None, None, None))
        timed("all of it, checks included", lambda: grading.judge(path, NAME, "student"))
    return {stage: round(statistics.median(seconds), 3) for stage, seconds in taken.items()}


def graded(path: Path, course: Path, n_students: int, jobs: int) -> dict[str, float]:
    """Judge a class of the same hand-in under many names."""
    students = [f"student{number:03}" for number in range(n_students)]
    for student in students:
        place_at = grading.submission_path(course, NAME, student)
        place_at.mkdir(parents=True)
        shutil.unpack_archive(path, place_at)
    begin = time.monotonic()
    judged = list(grading.judge_class(course, NAME, students, jobs))
    seconds = time.monotonic() - begin
    assert all(result.score == result.max_score for result in judged)
    return {
        "submissions": n_students,
        "seconds": round(seconds, 1),
        "seconds a submission": round(seconds / n_students, 2),
    }


def executed(path: Path, course: Path) -> dict[str, float]:
    """nbgrader's own autograde of the same notebooks, which find their checkpoints."""
    release(NAME, course, notebooks=course / "notebooks")
    handins = course / "handins"
    handins.mkdir()
    students = [f"student{number}" for number in range(N_EXECUTED)]
    for student in students:
        shutil.copy(path, handins / f"{NAME}-{student}.zip")
    gradebook.collect(handins, course)
    executing = [
        "nbgrader.preprocessors.Execute",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
    ]
    settings = {"autograde_preprocessors": executing}
    api = gradebook.open_course(course, Autograde=settings, Execute={"timeout": 1800})
    begin = time.monotonic()
    with gradebook.quietly():
        for student in students:
            answer = api.autograde(NAME, student)
            assert answer["success"], answer["log"]
    seconds = time.monotonic() - begin
    return {
        "submissions": N_EXECUTED,
        "seconds": round(seconds, 1),
        "seconds a submission": round(seconds / N_EXECUTED, 2),
    }


if __name__ == "__main__":
    main()
