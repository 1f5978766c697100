"""Every check ends with a verdict, whatever it is answered, and odd answers earn nothing."""

import io
from contextlib import redirect_stdout

import pytest
import torch

from autograder.judging import all_checks, load_master, place, standin_folder
from autograder.rubric import run_cells, solved
from autograder.rubric.odd_answers import OddExecute
from helpers.checking import Engine, Request, Result, Status, Submission, run
from helpers.deliverables import DELIVERABLES

#: Shares of the answers that are changed: a check that goes on for long sees rare ones, too.
SHARES = (0.03, 0.1, 0.4)
#: Odd answers for each deliverable; the long run gives 100,000 to all of them together.
FEW, MANY = 40, 9_100
#: Checks that an answer may pass that has nothing to do with the task, since it has what they ask.
PASSABLE = {
    "images_do_not_influence_each_other",  # the same answer for every image
    "loss_survives_black_and_white",  # any finite number
}


def engine_of(deliverable_id: str, *, is_solved: bool) -> Engine:
    """The reference, or a notebook without any solution."""
    master = load_master(deliverable_id)
    left_out = {} if is_solved else {c.name: "" for c in master.cells if c.kind == "solution"}
    with redirect_stdout(io.StringIO()):
        return run_cells(place(solved(master, left_out).cells, master))


def drive(engine: Engine, deliverable_id: str, share: float, seed: int) -> tuple[list[Result], int]:
    """The results of all checks with odd answers, and the number of these."""
    results, n_changed = [], 0
    for number, check in enumerate(all_checks(deliverable_id)):
        if check.cell == "result" and seed % 20:  # to measure a trained model takes seconds
            continue
        odd = OddExecute(engine, share, 1000 * seed + number)
        torch.manual_seed(seed)
        with redirect_stdout(io.StringIO()):
            results.append(run(check, Submission(odd)))
        engine.execute(Request("forget"))
        n_changed += odd.n_changed
    return results, n_changed


@pytest.fixture(autouse=True)
def standin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATENT_LAB_DATA", str(standin_folder()))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_answers", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
@pytest.mark.parametrize("deliverable_id", DELIVERABLES)
def test_no_answer_breaks_a_check(deliverable_id: str, n_answers: int) -> None:
    engine = engine_of(deliverable_id, is_solved=True)
    given, seed = 0, 1
    while given < n_answers:
        results, n_changed = drive(engine, deliverable_id, SHARES[seed % 3], seed)
        assert [(r.check.id, r.fault) for r in results if r.fault] == [], f"seed {seed}"
        given, seed = given + n_changed, seed + 1


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_seeds", [1, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("deliverable_id", DELIVERABLES)
def test_odd_answers_earn_nothing(deliverable_id: str, n_seeds: int) -> None:
    engine = engine_of(deliverable_id, is_solved=False)
    for seed in range(1, 1 + n_seeds):
        for result in drive(engine, deliverable_id, 1.0, seed)[0]:
            name = result.check.id.rpartition(".")[2]
            passed = result.status is Status.PASSED and result.check.points
            assert not passed or name in PASSABLE, f"{name}, seed {seed}"
