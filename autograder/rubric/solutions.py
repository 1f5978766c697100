"""Tests of the rubric: wrong solutions must lose what they name, right ones must lose nothing.

``python -m autograder.rubric d1`` tries them all and prints what each lost and why. They are the
kit's own code and need no sandbox: here they run without one, in a tenth of the time. ``--judge``
sends them through the real judge.
"""

from __future__ import annotations

import io
import os
import tempfile
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

from nbformat import NotebookNode
from pydantic import BaseModel, ConfigDict

from autograder.judging import (
    NOT_RUN,
    CheckResult,
    Master,
    Placed,
    all_checks,
    judge,
    place,
    standin_folder,
)
from autograder.rubric.specimen import save_notebook, solved
from helpers.checking import Engine, StudentError, Submission, failure, run

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
        path = save_notebook(_notebook(solution, master), Path(folder), master.deliverable.id)
        judgement = judge(path, master.deliverable.id, solution.name, only=_untrained(master))
    return list(judgement.checks)


def try_solution(solution: Solution, master: Master) -> list[CheckResult]:
    """The same in this process, without a sandbox."""
    placed = place(_notebook(solution, master).cells, master)
    cells = _untrained(master)
    checks = [c for c in all_checks(master.deliverable.id) if c.cell in cells]
    with redirect_stdout(io.StringIO()):  # some print a line for each image
        submission = Submission(run_cells(placed).execute)
        return [CheckResult.of(run(check, submission)) for check in checks]


def lost_names(results: list[CheckResult]) -> frozenset[str]:
    """The checks that a solution did not pass, by the last part of their ids."""
    return frozenset(
        result.id.rpartition(".")[2] for result in results if result.status != "passed"
    )


def _notebook(solution: Solution, master: Master) -> NotebookNode:
    return solved(master, {solution.cell: solution.text(master)})


def _untrained(master: Master) -> frozenset[str]:
    """The check cells that need no trained model."""
    return frozenset(cell.name for cell in master.cells if cell.kind == "check") - {"result"}


def run_cells(placed: list[Placed]) -> Engine:
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
