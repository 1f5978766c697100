"""Tests of the rubric: wrong solutions must lose what they name, right ones must lose nothing.

``python -m autograder.rubric d1_autoencoder`` judges them all and prints what each lost and why.
They are the kit's own code and need no sandbox: here they run in this process, in a tenth of the
time. ``--judge`` sends them through the real judge.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict

from autograder.judge import judge
from autograder.master import Master, load_master
from autograder.matching import Placed, place
from autograder.remote import NOT_RUN
from autograder.results import CheckResult
from autograder.specimen import solved, write
from autograder.standin import standin_folder
from helpers.check import load_checks, run
from helpers.engine import Engine, failure
from helpers.submission import StudentError, Submission

MUTANTS = Path(__file__).parent / "mutants"


class Solution(BaseModel):
    """A solution that differs from the master's in one cell.

    Attributes:
        name: what is wrong, or different.
        cell: the master's solution cell.
        old: what is replaced in it...
        new: ...and by what.
        also: further pairs of these.
        source: or all of it.
        loses: the checks that it must lose, by the last part of their ids; none for a right one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    cell: str
    old: str = ""
    new: str = ""
    also: tuple[tuple[str, str], ...] = ()
    source: str = ""
    loses: frozenset[str] = frozenset()

    def text(self, master: Master) -> str:
        """The cell's text.

        Raises:
            ValueError: if there is nothing to replace: the master has changed.
        """
        if self.source:
            return self.source
        text = master.cell(self.cell).source
        for old, new in ((self.old, self.new), *self.also):
            if old not in text:
                raise ValueError(f"{self.name}: the cell {self.cell!r} has no {old!r}.")
            text = text.replace(old, new)
        return text


def load_solutions(deliverable_id: str) -> tuple[list[Solution], list[Solution]]:
    """The wrong and the right solutions of a deliverable."""
    data = tomllib.loads((MUTANTS / f"{deliverable_id}.toml").read_text(encoding="utf-8"))
    wrong, right = ([Solution(**entry) for entry in data[key]] for key in ("wrong", "right"))
    return wrong, right


def judge_solution(solution: Solution, master: Master) -> list[CheckResult]:
    """What the real judge says of a solution without a trained model."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(_notebook(solution, master), Path(folder), master.deliverable.id)
        judgement = judge(path, master.deliverable.id, solution.name, only=_untrained(master))
    return list(judgement.checks)


def try_solution(solution: Solution, master: Master) -> list[CheckResult]:
    """The same in this process, without a sandbox."""
    placed = place(_notebook(solution, master).cells, master)
    cells = _untrained(master)
    checks = [c for c in load_checks(master.deliverable.id, hidden=True) if c.cell in cells]
    with redirect_stdout(io.StringIO()):  # some print a line for each image
        submission = Submission(_run_cells(placed).execute)
        return [CheckResult.of(run(check, submission)) for check in checks]


def lost(results: list[CheckResult]) -> frozenset[str]:
    """The checks that a solution did not pass, by the last part of their ids."""
    return frozenset(
        result.id.rpartition(".")[2] for result in results if result.status != "passed"
    )


def _notebook(solution: Solution, master: Master) -> NotebookNode:
    return solved(master, {solution.cell: solution.text(master)})


def _untrained(master: Master) -> frozenset[str]:
    """The check cells that need no trained model."""
    return frozenset(cell.name for cell in master.cells if cell.kind == "check") - {"result"}


def _run_cells(placed: list[Placed]) -> Engine:
    """An engine over the names that a notebook's cells leave behind."""
    names: dict[str, Any] = {"__name__": "__main__"}
    failures: dict[str, StudentError] = {}
    settings = {"LATENT_LAB_WORKER": "1", "LATENT_LAB_DATA": str(standin_folder())}
    with patch.dict(os.environ, settings):
        for p in placed:
            if not p.is_code or p.cell is None or p.cell.kind in NOT_RUN:
                continue
            try:
                exec(compile(p.source, f"ipython-input: {p.cell.name}", "exec"), names)
            except Exception as error:
                reason = failure(error)
                if isinstance(error, NameError):
                    reason = failures.get(str(error.name), reason)
                failures |= dict.fromkeys(p.cell.defines - names.keys(), reason)
    return Engine(names, failures)


def main(deliverable_id: str, judged: bool) -> int:
    """Judge them all; the number of survivors and of right ones that lost something."""
    master = load_master(deliverable_id)
    wrong, right = load_solutions(master.deliverable.id)
    n_faults = 0
    for solution in wrong + right:
        begin = time.monotonic()
        results = (judge_solution if judged else try_solution)(solution, master)
        as_it_should = lost(results) == solution.loses
        n_faults += not as_it_should
        seconds = time.monotonic() - begin
        print(f"{'ok ' if as_it_should else 'NOT'} {solution.name} ({seconds:.1f} s)")
        if missed := solution.loses - lost(results):
            print(f"      kept: {', '.join(sorted(missed))}")
        if more := lost(results) - solution.loses:
            print(f"      lost too: {', '.join(sorted(more))}")
        for result in results:
            if result.status != "passed":
                print(f"      {result.id.rpartition('.')[2]}: {result.status}: {result.message}")
    print(f"{len(wrong)} wrong, {len(right)} right; {n_faults} judged otherwise than they should.")
    return n_faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], "--judge" in sys.argv) > 0)
