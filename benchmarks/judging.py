"""One trained submission of deliverable 1: the judge against nbgrader's own re-execution.

The reference is trained and handed in once. Then the same hand-in is graded both ways, in one run:
by the judge, from the checkpoint; and by nbgrader's executing preprocessor, which runs every cell
again, training and figures included.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from machine import save

from autograder import sandbox
from autograder.classroom import collecting
from autograder.course import open_course, quietly
from autograder.judging import judge, load_master
from autograder.release import release
from autograder.rubric import hand_in


def main() -> None:
    """Measure, print, write it down."""
    master = load_master("d1_autoencoder")
    name = master.deliverable.id
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        handins, course = folder / "handins", folder / "course"
        handins.mkdir()
        print("Training the reference...")
        begin = time.monotonic()
        hand_in(master, "reference", {}, folder / "work", handins)
        training = time.monotonic() - begin

        print("Judging it, five times...")
        path = handins / f"{name}-reference.zip"
        judged = [judge(path, name, "reference") for _ in range(5)]
        assert all(result.score == result.max_score for result in judged)
        seconds = sorted(result.seconds for result in judged)

        print("Re-executing it by nbgrader...")
        release(name, course, notebooks=folder / "notebooks")
        collecting.collect(handins, course)
        executing = [
            "nbgrader.preprocessors.Execute",
            "nbgrader.preprocessors.LimitOutput",
            "nbgrader.preprocessors.SaveAutoGrades",
        ]
        api = open_course(
            course, Autograde={"autograde_preprocessors": executing}, Execute={"timeout": 1800}
        )
        begin = time.monotonic()
        with quietly():
            answer = api.autograde(name, "reference")
        executed = time.monotonic() - begin
        assert answer["success"], answer["log"]

    results = {
        "isolation level": sandbox.isolation_level(),
        "hand-in made by a real kernel, training included (s)": round(training, 1),
        "judge, first (s)": judged[0].seconds,
        "judge, median of 5 (s)": seconds[2],
        "nbgrader, every cell again (s)": round(executed, 1),
        "ratio": round(executed / seconds[2], 1),
    }
    for key, value in results.items():
        print(f"{key:55} {value}")
    save("judging", results)


if __name__ == "__main__":
    main()
