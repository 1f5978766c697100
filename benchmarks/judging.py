"""Compares the judge with nbgrader's re-execution, on one trained submission of deliverable 1.

The reference is trained and handed in once. Then the same hand-in is graded in both ways, in one
run: by the judge, from the checkpoint; and by nbgrader's executing preprocessor, which runs every
cell again, with training and figures.
"""

import statistics
import tempfile
import time
from pathlib import Path

from grading import NAME, executed
from machine import save

from autograder import sandbox
from autograder.judging import judge, load_master
from autograder.rubric import hand_in


def main() -> None:
    """Measure, print the results, and save them."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        print("Training the reference...")
        begin = time.monotonic()
        hand_in(load_master(NAME), "reference", {}, folder / "work", folder)
        training = time.monotonic() - begin

        print("Judging it, five times...")
        path = folder / f"{NAME}-reference.zip"
        judged = [judge(path, NAME, "reference") for _ in range(5)]
        assert all(result.score == result.max_score for result in judged)
        median = statistics.median(result.seconds for result in judged)

        print("Re-executing it by nbgrader...")
        by_nbgrader = executed(path, folder / "course", n_students=1)["seconds"]

    results = {
        "isolation level": sandbox.isolation_level(),
        "hand-in made by a real kernel, training included (s)": round(training, 1),
        "judge, first (s)": judged[0].seconds,
        "judge, median of 5 (s)": median,
        "nbgrader, every cell again (s)": by_nbgrader,
        "ratio": round(by_nbgrader / median, 1),
    }
    for key, value in results.items():
        print(f"{key:55} {value}")
    save("judging", results)


if __name__ == "__main__":
    main()
