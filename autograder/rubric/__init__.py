"""Tests of the checks themselves: wrong solutions lose what they name, right ones nothing."""

from autograder.rubric.solutions import (
    Solution,
    judge_solution,
    load_solutions,
    lost_names,
    run_cells,
    try_solution,
)
from autograder.rubric.specimen import execute, hand_in, reported_loss, save_notebook, solved

__all__ = [
    "Solution",
    "execute",
    "hand_in",
    "judge_solution",
    "load_solutions",
    "lost_names",
    "reported_loss",
    "run_cells",
    "save_notebook",
    "solved",
    "try_solution",
]
