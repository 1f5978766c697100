"""What people read: nothing hidden shown, nothing of a stranger's run, nothing that is no mark."""

import json
from pathlib import Path

import pytest

from autograder.classroom.report import (
    class_html,
    describe_lost,
    feedback_html,
    verdict_html,
    write_reports,
)
from autograder.judging import CheckResult, Judgement, Outcome
from helpers.checking import Status
from helpers.deliverables import get

D1 = get("d1_autoencoder")
ATTACK = "<script>alert('mark me')</script>"


def make_check(
    name: str, status: Status = Status.PASSED, message: str = "", hidden: bool = False
) -> CheckResult:
    earned = 4.0 if status is Status.PASSED else 0.0
    return CheckResult(
        id=f"{D1.id}.architecture.{name}", cell="architecture", title=f"Title of {name}.",
        points=4.0, earned=earned, status=status, message=message, hidden=hidden,
    )  # fmt: skip


def make_result(
    *checks: CheckResult, student: str = "ada", status: Outcome = Outcome.GRADED, message: str = ""
) -> Judgement:
    no_mark = status in (Outcome.INFRASTRUCTURE, Outcome.UNREADABLE)
    return Judgement(
        deliverable=D1.id, student=student, message=message, status=status,
        score=None if no_mark else sum(check.earned for check in checks),
        max_score=sum(check.points for check in checks), isolation_level=2, checks=checks,
        reported_losses={"autoencoder": [0.06, 0.05, 0.036]},
        handin_sha256="", judge_sha256="", seconds=5.0,
    )  # fmt: skip


SECRET = make_check("secret", Status.FAILED, "the secret message", hidden=True)
SHOWN = make_check("shown", Status.FAILED, f"Expected 2, got 3. {ATTACK}")


def test_hidden_checks_stay_hidden_from_students() -> None:
    for page in (feedback_html(make_result(SHOWN, SECRET)), verdict_html([SHOWN, SECRET])):
        assert "Hidden check 1 of 1" in page
        assert "secret" not in page
        assert "Title of shown." in page
        assert "Expected 2, got 3." in page


def test_instructors_see_what_was_lost_and_why() -> None:
    page = class_html([make_result(SHOWN, SECRET)], D1, "level 2")
    assert "Title of secret." in page
    assert "the secret message" in page
    assert describe_lost(make_result(SHOWN)).startswith("shown: Expected 2, got 3.")


def test_what_strangers_write_is_escaped(tmp_path: Path) -> None:
    result = make_result(SHOWN, student=ATTACK, message=ATTACK)
    write_reports([result], D1, tmp_path, "level 2")
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) == 2
    assert all("<script" not in page.read_text(encoding="utf-8") for page in pages)
    assert all(tmp_path in page.parents for page in pages)


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "a/b", "", "x" * 500, "Zoë"])
def test_feedback_stays_in_its_folder(name: str, tmp_path: Path) -> None:
    write_reports([make_result(SHOWN, student=name)], D1, tmp_path / "out", "level 2")
    (page,) = (tmp_path / "out" / "feedback").iterdir()
    assert page.suffix == ".html"


def test_no_mark_is_not_shown_as_zero() -> None:
    broken = make_result(SHOWN, student="broken", status=Outcome.INFRASTRUCTURE)
    assert "no mark yet" in feedback_html(broken)
    page = class_html([broken, make_result(SHOWN)], D1, "level 2")
    assert "To be graded again" in page


@pytest.mark.parametrize("status", list(Outcome))
def test_every_status_has_its_sentence(status: Outcome) -> None:
    page = feedback_html(make_result(SHOWN, status=status))
    assert f">{status.value.replace('-', ' ')}<" in page


@pytest.mark.parametrize("name", ["d1_autoencoder", "d5_structured_prediction"])
def test_only_the_model_that_is_measured_has_a_threshold(name: str) -> None:
    deliverable = get(name)
    result = make_result(SHOWN).model_copy(
        update={
            "deliverable": name,
            "reported_losses": {model: [3.0, 2.0] for model in deliverable.checkpoints},
        }
    )
    page = feedback_html(result)
    assert page.count("<svg") == len(deliverable.checkpoints)
    assert page.count(f"below {deliverable.max_loss:g}") == 1


def test_what_broke_in_the_grader_is_not_for_students() -> None:
    ours = make_check("shown", Status.INFRASTRUCTURE, "OSError: [Errno 28] No space left")
    result = make_result(ours, status=Outcome.INFRASTRUCTURE, message="the disk is full")
    page = feedback_html(result)
    assert "Errno" not in page
    assert "disk" not in page
    assert "disk" in class_html([result], D1, "level 2")


def test_csv_tells_no_mark_from_zero(tmp_path: Path) -> None:
    broken = make_result(SHOWN, student="broken", status=Outcome.INFRASTRUCTURE)
    formula = make_result(SHOWN, student="=1+1", status=Outcome.UNATTEMPTED)
    write_reports([broken, formula], D1, tmp_path, "level 2")
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert rows[1].startswith(f"{D1.id},broken,,4.0,infrastructure,2,")
    assert rows[2].startswith(f"{D1.id},'=1+1,0.0,4.0,unattempted,2,")


def test_results_are_kept_as_data(tmp_path: Path) -> None:
    results = [make_result(SHOWN), make_result(SECRET, student="grace")]
    write_reports(results, D1, tmp_path, "level 2")
    read = json.loads((tmp_path / "results.json").read_text())
    assert [Judgement.model_validate(one) for one in read] == results


def test_an_empty_class_has_a_page() -> None:
    assert D1.title in class_html([], D1, "level 2")


def test_a_check_that_raised_is_for_the_instructor_to_look_at() -> None:
    fault = f"IndexError: {ATTACK} in line 3"
    raised = make_check("shown", Status.FAILED, "This check cannot work with the answer.")
    result = make_result(raised.model_copy(update={"fault": fault}), make_check("other"))
    page = class_html([result, make_result(SHOWN, student="bob")], D1, "level 2")
    assert "To be looked at: 1" in page
    assert "IndexError" in page
    assert "<script" not in page
    assert "IndexError" not in feedback_html(result)
    assert "To be looked at" not in class_html([make_result(SHOWN)], D1, "level 2")
