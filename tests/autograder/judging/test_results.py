"""Each deliverable's result, where nothing was trained: lost, and never an error of anybody's."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from autograder import OUR_FAULT, cli
from autograder.judging import Judgement, Outcome, all_checks, judge, load_master, place
from autograder.release import released_notebook
from autograder.rubric import run_cells, save_notebook, solved
from helpers import training
from helpers.checking import Check, Status, Submission
from helpers.deliverables import DELIVERABLES

EACH = pytest.mark.parametrize("deliverable_id", DELIVERABLES)
#: Deliverable 11 trains nothing.
EACH_TRAINED = pytest.mark.parametrize(
    "deliverable_id", [name for name, each in DELIVERABLES.items() if each.checkpoints]
)
#: Checks of a result that say nothing of the training.
SIZES = ("checkpoint_is_within_its_budget", "checkpoints_are_within_their_budget")


@EACH
def test_untouched_starter_is_unattempted_everywhere(deliverable_id: str, tmp_path: Path) -> None:
    notebook = released_notebook(load_master(deliverable_id))
    judgement = judge(save_notebook(notebook, tmp_path, deliverable_id), deliverable_id, "student")
    assert judgement.status is Outcome.UNATTEMPTED
    assert judgement.score == 0
    assert {check.status for check in judgement.checks} == {Status.UNATTEMPTED}


@EACH
def test_hundred_points(deliverable_id: str) -> None:
    master = load_master(deliverable_id)
    points = {
        kind: sum(cell.points for cell in master.cells if cell.kind == kind)
        for kind in ("check", "written")
    }
    # Deliverable 7 keeps the nine points of its tasks as they are known, and adds eleven.
    expected = (15, 5) if deliverable_id == "d7_elbo" else (90, 10)
    assert (points["check"], points["written"]) == expected


@EACH_TRAINED
def test_weights_that_were_never_trained_earn_nothing(deliverable_id: str, tmp_path: Path) -> None:
    judgement = judge_weights(deliverable_id, tmp_path)
    for check in judgement.checks:
        if check.id.rpartition(".")[2] in SIZES:
            assert check.status is Status.PASSED
        elif check.points:
            assert check.status is Status.FAILED, (check.id, check.message)


@EACH_TRAINED
def test_one_model_missing(deliverable_id: str, tmp_path: Path) -> None:
    """What was not handed in is unattempted, whatever else there is."""
    last = DELIVERABLES[deliverable_id].checkpoints[-1]
    judgement = judge_weights(deliverable_id, tmp_path, leave_out=last)
    assert {check.status for check in judgement.checks if check.points} <= {
        Status.UNATTEMPTED,
        Status.FAILED,
    }
    assert any(last in check.message for check in judgement.checks)


def judge_weights(deliverable_id: str, folder: Path, leave_out: str = "") -> Judgement:
    """Judge the solved notebook with the weights that its models start with."""
    master = load_master(deliverable_id)
    notebook = solved(master)
    run_cells(place(notebook.cells, master))
    save_notebook(notebook, folder, deliverable_id)
    (folder / "checkpoints").mkdir()
    for name in set(master.deliverable.checkpoints) - {leave_out}:
        state = {k: v.clone() for k, v in training.models[name].state_dict().items()}
        save_file(state, folder / "checkpoints" / f"{name}.safetensors")
    return judge(folder, deliverable_id, "student", only=frozenset({"result"}))


def test_a_check_that_raises_is_failed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other checks are run, there is a mark, and the exit code asks somebody to look."""
    master = load_master("d1_autoencoder")
    odd = "encoder_maps_images_to_codes"

    def changed(name: str) -> list[Check]:
        def stumble(submission: Submission) -> None:
            submission.new("Autoencoder", 2, 64, 784)
            raise IndexError("too many indices")

        return [
            replace(check, function=stumble) if check.id.endswith(odd) else check
            for check in all_checks(name)
        ]

    monkeypatch.setattr(sys.modules[judge.__module__], "all_checks", changed)
    path = save_notebook(solved(master), tmp_path, "d1_autoencoder")
    only = frozenset({"architecture"})
    judgement = judge(path, "d1_autoencoder", "student", only=only)
    assert judgement.status is Outcome.GRADED
    (faulty,) = judgement.faults
    assert faulty.id.endswith(odd)
    assert faulty.status is Status.FAILED
    assert "IndexError: too many indices" in faulty.fault
    assert "stumble" in faulty.fault
    assert judgement.score == judgement.max_score - faulty.points > 0
    monkeypatch.setattr("autograder.judging.judge", lambda *_, **__: judgement)
    result = CliRunner().invoke(cli.app, ["check", str(path), "--deliverable", "d1"])
    assert result.exit_code == OUR_FAULT
    assert "Look at this" in result.output
