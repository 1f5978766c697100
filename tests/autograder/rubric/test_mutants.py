"""The rubric's own test: wrong solutions lose what they name, and right ones keep all."""

from collections.abc import Callable
from typing import Any

import pytest

from autograder.judging import CheckResult, Master, load_master
from autograder.rubric import Solution, judge_solution, load_solutions, try_solution, verdict
from helpers.deliverables import DELIVERABLES

SOLUTIONS = {name: load_solutions(name) for name in DELIVERABLES}
#: One in so many is tried in the default run, and all in the long run.
SHARE = 6


def each_solution() -> list[Any]:
    """Every wrong and every right solution."""
    parameters = []
    for name, (wrong, right) in SOLUTIONS.items():
        for number, solution in enumerate(wrong + right):
            marks = [pytest.mark.long] if number % SHARE else []
            short = name.partition("_")[0]
            identity = f"{short}-{solution.name}"
            parameters.append(pytest.param(name, solution, id=identity, marks=marks))
    return parameters


@pytest.mark.parametrize("deliverable_id", SOLUTIONS)
def test_there_are_enough(deliverable_id: str) -> None:
    wrong, right = SOLUTIONS[deliverable_id]
    assert len(wrong) >= 20
    assert len(right) >= 4
    assert all(solution.loses for solution in wrong)
    assert not any(solution.loses for solution in right)


@pytest.mark.parametrize("deliverable_id", SOLUTIONS)
def test_every_wrong_solution_says_what_its_message_must_say(deliverable_id: str) -> None:
    wrong, _ = SOLUTIONS[deliverable_id]
    assert [solution.name for solution in wrong if not solution.says] == []


def test_nearly_all_wrong_solutions_are_told_their_cause() -> None:
    wrong = [solution for pair in SOLUTIONS.values() for solution in pair[0]]
    assert sum(solution.names_cause for solution in wrong) >= 0.95 * len(wrong)


@pytest.mark.parametrize(("deliverable_id", "solution"), each_solution())
def test_solution(deliverable_id: str, solution: Solution) -> None:
    expect_what_it_names(solution, load_master(deliverable_id), try_solution)


@pytest.mark.parametrize("deliverable_id", SOLUTIONS)
def test_the_judge_says_the_same(deliverable_id: str) -> None:
    """One wrong and one right solution of each; ``make verify`` sends one in six."""
    wrong, right = SOLUTIONS[deliverable_id]
    for solution in (wrong[0], right[-1]):
        expect_what_it_names(solution, load_master(deliverable_id), judge_solution)


def expect_what_it_names(
    solution: Solution, master: Master, judge: Callable[[Solution, Master], list[CheckResult]]
) -> None:
    results = judge(solution, master)
    assert verdict(solution, results, master.points) == [], [
        (result.id, result.status, result.message) for result in results if result.message
    ]
    # A failure is the student's, told in a sentence, and never ours.
    for result in results:
        assert result.status in ("passed", "failed", "error", "unattempted")
        assert result.status == "passed" or result.message
