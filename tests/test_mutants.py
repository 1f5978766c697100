"""The rubric's own test: wrong solutions lose what they name, right ones keep all, by the judge."""

from __future__ import annotations

import pytest

from autograder.master import load_master
from autograder.rubric import Solution, judge_solution, load_solutions, lost

ID = "d1_autoencoder"
WRONG, RIGHT = load_solutions(ID)


def test_there_are_enough() -> None:
    assert len(WRONG) >= 20
    assert len(RIGHT) >= 5
    assert all(solution.loses for solution in WRONG)
    assert not any(solution.loses for solution in RIGHT)


@pytest.mark.parametrize("solution", WRONG + RIGHT, ids=lambda solution: solution.name)
def test_solution(solution: Solution) -> None:
    judgement = judge_solution(solution, load_master(ID))
    assert lost(judgement) == solution.loses, [
        (check.id, check.status, check.message) for check in judgement.checks if check.message
    ]
    # A failure is the student's, told in a sentence, and never ours.
    for check in judgement.checks:
        assert check.status in ("passed", "failed", "error", "unattempted")
        assert check.status == "passed" or check.message
