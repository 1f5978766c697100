"""What the rubric says about a solution's results."""

from functools import partial
from typing import Any

import pytest

from autograder import rubric
from autograder.judging import CheckResult, load_master, place
from autograder.rubric import Solution, run_cells, solved
from autograder.rubric.solutions import MOST_SHARE
from autograder.rubric.variants import Variant
from helpers.checking import Request, Status

WORTH = 100
verdict = partial(rubric.verdict, worth=WORTH)


def result(name: str, message: str = "", *, points: float = 5, **more: Any) -> CheckResult:
    """A result that is passed if there is no message."""
    status = Status.FAILED if message else Status.PASSED
    fields = {"cell": "loss", "title": "", "hidden": False, "status": status, "message": message}
    earned = 0 if message else points
    return CheckResult(id=f"d1.{name}", points=points, earned=earned, **{**fields, **more})


def solution(**fields: Any) -> Solution:
    return Solution(name="example", cell="loss", **fields)


PASSED = result("shape")
LOST = result("value", "The sign is wrong.")


def test_as_it_names() -> None:
    assert verdict(solution(), [PASSED]) == []
    assert verdict(solution(loses={"value"}), [PASSED, LOST]) == []


def test_a_check_that_should_be_lost_is_kept() -> None:
    assert verdict(solution(loses={"shape", "value"}), [PASSED, LOST]) == ["kept: shape"]


def test_a_check_that_does_not_run_is_kept() -> None:
    assert verdict(solution(loses={"value"}), [PASSED]) == ["kept: value"]


def test_a_check_is_lost_too() -> None:
    assert verdict(solution(), [PASSED, LOST]) == ["lost too: value"]


def test_every_status_but_passed_is_a_loss() -> None:
    for status in Status:
        other = result("value", "Raised.", status=status)
        expected = [] if status is Status.PASSED else ["lost too: value"]
        assert verdict(solution(), [other]) == expected


@pytest.mark.parametrize("says", ["sign", "The sign is", "^The .* wrong\\.$", ""])
def test_the_first_message_says_the_cause(says: str) -> None:
    assert verdict(solution(loses={"value"}, says=says), [LOST]) == []


def test_the_first_message_says_something_else() -> None:
    (sentence,) = verdict(solution(loses={"value"}, says="factor"), [LOST])
    assert "first message" in sentence
    assert "'factor'" in sentence


def test_only_the_first_lost_message_counts() -> None:
    """It is the one that a student reads first."""
    first, second = result("shape", "Lost."), LOST
    wrong = solution(loses={"shape", "value"}, says="sign")
    assert len(verdict(wrong, [first, second])) == 1
    assert verdict(wrong, [second, first]) == []


def test_a_passed_check_s_message_does_not_count() -> None:
    remark = result("shape", "The sign is right.", status=Status.PASSED)
    assert len(verdict(solution(loses={"value"}, says="right"), [remark, LOST])) == 1
    assert verdict(solution(loses={"value"}, never="right"), [remark, LOST]) == []


def test_no_message_names_a_wrong_cause() -> None:
    last = result("steps", "Is detach missing?")
    wrong = solution(loses={"value", "steps"}, says="sign", never="detach|clamp")
    (sentence,) = verdict(wrong, [LOST, last])
    assert "'detach|clamp'" in sentence


def test_one_mistake_may_not_cost_much() -> None:
    many = [result(f"check_{n}", "Lost.", points=MOST_SHARE * WORTH / 2) for n in range(3)]
    names = {each.name for each in many}
    assert verdict(solution(loses=names - {"check_2"}), many[:2]) == []
    (sentence,) = verdict(solution(loses=names), many)
    assert "costs 30 points" in sentence
    assert verdict(solution(loses=names, dear="nothing can be run"), many) == []


def test_a_check_that_raised_is_never_right() -> None:
    raised = result("value", "Could not be checked.", fault="ValueError: empty")
    (sentence,) = verdict(solution(loses={"value"}), [raised])
    assert sentence == "value raised ValueError: empty"


def test_all_that_is_wrong_is_told() -> None:
    wrong = solution(loses={"shape"}, says="factor", never="sign")
    dear = result("value", "The sign is wrong.", points=MOST_SHARE * WORTH + 1)
    assert len(verdict(wrong, [PASSED, dear])) == 5


def test_a_cause_is_named_unless_the_message_is_neutral() -> None:
    assert solution(says="sign").names_cause
    assert not solution().names_cause
    assert not solution(says="differs", neutral=True).names_cause


def test_a_solution_changes_one_cell() -> None:
    master = load_master("d1_autoencoder")
    changed = Solution(
        name="", cell="choices", old="hidden_dim = 400", new="hidden_dim = 9", also=(("15", "1"),)
    )
    (text,) = changed.changes(master).values()
    assert "hidden_dim = 9" in text
    assert "n_epochs = 1\n" in text
    assert changed.inserted(master) == {}


def test_a_solution_for_an_older_master_is_noticed() -> None:
    with pytest.raises(ValueError, match="does not contain 'hidden = 3'"):
        Solution(name="", cell="choices", old="hidden = 3").changes(load_master("d1_autoencoder"))


def test_several_cells_are_changed_and_others_inserted() -> None:
    master = load_master("d1_autoencoder")
    variant = Variant(
        name="",
        cells={
            "choices": "# Your code: choices\nhidden_dim = width\nlatent_dim = n_epochs = 2\n"
            "batch_size = 128\ntransform = transforms.ToTensor()",
            "loss_and_optimizer": "# Your code: loss_and_optimizer\ncriterion = optimizer = width",
        },
        before={"choices": "width = 5"},
    )
    notebook = solved(master, variant.changes(master), variant.inserted(master))
    engine = run_cells(place(notebook.cells, master))
    paths = ("hidden_dim", "criterion", "n_epochs")
    assert [engine.execute(Request("get", path=path)) for path in paths] == [5, 5, 2]
