"""Tests the checks: wrong solutions must lose the checks that they name, right ones none.

- ``solutions`` loads the solutions in ``mutants/*.toml`` and runs the checks on them;
- ``variants`` writes the masters' solutions in other words, which must lose nothing;
- ``specimen`` makes submissions from a master, trained or not, as a student would hand them in;
- ``odd_answers`` gives the checks answers of every kind;
- ``likeness`` finds the masters' solutions in what students get.

``python -m autograder.rubric d1`` tries all solutions of a deliverable.
"""

from autograder.rubric.solutions import (
    Solution,
    judge_solution,
    load_solutions,
    run_cells,
    try_solution,
    verdict,
)
from autograder.rubric.specimen import execute, hand_in, reported_loss, save_notebook, solved

__all__ = [
    "Solution",
    "execute",
    "hand_in",
    "judge_solution",
    "load_solutions",
    "reported_loss",
    "run_cells",
    "save_notebook",
    "solved",
    "try_solution",
    "verdict",
]
