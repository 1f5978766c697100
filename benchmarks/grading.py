"""Measures grading a class: throughput, time by stage, memory, one job and two, nbgrader.

``python benchmarks/grading.py [--students 300]`` trains the reference of deliverable 1 once, hands
it in under many names, and grades all of them in one run. For comparison, nbgrader executes a few
of the same notebooks with its own preprocessor, which runs every cell again, with training and
figures.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from machine import save

from autograder import sandbox
from autograder.classroom import collecting, pool, store
from autograder.course import open_course, quietly
from autograder.judging import (
    Master,
    Patience,
    Session,
    load_master,
    place,
    read_handin,
    standin_folder,
)
from autograder.release import release
from autograder.rubric import hand_in
from helpers.checking import Request

NAME = "d1_autoencoder"
N_REPEATS, N_EXECUTED, SMALL_CLASS = 5, 3, 20
#: The numbers of submissions after which time and memory are measured.
MILESTONES = (10, 50, 100, 200, 300)


def main() -> None:
    """Measure, print the results, and save them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--students", type=int, default=300)
    n_students = parser.parse_args().students
    master = load_master(NAME)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("Training the reference...")
        hand_in(master, "reference", {}, folder / "work", folder)
        path = folder / f"{NAME}-reference.zip"

        results: dict[str, Any] = {"isolation level": sandbox.isolation_level()}
        results["stages of one submission, median (s)"] = stages(path, master)
        results["one job"] = graded(path, folder / "one", SMALL_CLASS, jobs=1)
        results["two jobs"] = graded(path, folder / "two", SMALL_CLASS, jobs=2)
        results["a class, two jobs"] = graded(path, folder / "class", n_students, jobs=2)
        results["nbgrader, every cell again"] = executed(path, folder / "nbgrader", N_EXECUTED)
    for key, value in results.items():
        print(f"{key:45} {value}")
    save("grading", results)


def stages(path: Path, master: Master) -> dict[str, float]:
    """Seconds for each step of judging; the rest of the total is the checks' own computing."""
    taken: dict[str, list[float]] = {}

    def timed(stage: str, do: Callable[[], Any]) -> Any:
        begin = time.monotonic()
        result = do()
        taken.setdefault(stage, []).append(time.monotonic() - begin)
        return result

    level = sandbox.isolation_level()
    start = partial(sandbox.start, standin=standin_folder(), level=level)
    timed("the fork server, once a run", start).kill()
    for _ in range(N_REPEATS):
        handin = timed("read the hand-in", lambda: read_handin(path, master.deliverable))
        placed = timed("match its cells", partial(place, handin.cells, master))
        session = Session(placed, start, Patience(), 0)
        timed("start a process, run the cells", partial(session.execute, Request("forget")))
        timed(
            "start another, run the cells",
            lambda session=session: (session.apart(), session.apart()),
        )
        timed("end them", session.__exit__)
        timed("all of it, checks included", lambda: pool.judge(path, NAME, "student"))
    return {stage: round(statistics.median(seconds), 3) for stage, seconds in taken.items()}


def graded(path: Path, course: Path, n_students: int, jobs: int) -> dict[str, Any]:
    """Judge a class of the same hand-in under many names."""
    students = [f"student{number:03}" for number in range(n_students)]
    for student in students:
        shutil.unpack_archive(path, store.submission_path(course, NAME, student))
    growth = {}
    begin = time.monotonic()
    for n_judged, result in enumerate(pool.judge_class(course, NAME, students, jobs), 1):
        assert result.score == result.max_score
        if n_judged in MILESTONES:
            growth[n_judged] = {
                "seconds": round(time.monotonic() - begin, 1),
                "memory (MiB)": memory(),
            }
    return {**timing(n_students, time.monotonic() - begin), "after as many": growth}


def memory() -> int:
    """The memory of this process and all that it started, in MiB; shared pages count once."""
    this = psutil.Process()
    total = 0
    for process in [this, *this.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total >> 20


def timing(n_submissions: int, seconds: float) -> dict[str, float]:
    """The time of that many submissions, as plain data."""
    return {
        "submissions": n_submissions,
        "seconds": round(seconds, 1),
        "seconds a submission": round(seconds / n_submissions, 2),
    }


def executed(path: Path, course: Path, n_students: int) -> dict[str, float]:
    """Time nbgrader's own autograde of one hand-in under several names.

    It trains again: ``nbgrader_config.py`` keeps checkpoints out of the folder where it runs.
    """
    release(NAME, course, notebooks=course / "notebooks")
    handins = course / "handins"
    handins.mkdir()
    students = [f"student{number}" for number in range(n_students)]
    for student in students:
        shutil.copy(path, handins / f"{NAME}-{student}.zip")
    collecting.collect(handins, course)
    executing = [
        "nbgrader.preprocessors.Execute",
        "nbgrader.preprocessors.LimitOutput",
        "nbgrader.preprocessors.SaveAutoGrades",
    ]
    settings = {"autograde_preprocessors": executing}
    api = open_course(course, Autograde=settings, Execute={"timeout": 1800})
    begin = time.monotonic()
    with quietly():
        for student in students:
            answer = api.autograde(NAME, student)
            assert answer["success"], answer["log"]
    return timing(n_students, time.monotonic() - begin)


if __name__ == "__main__":
    main()
