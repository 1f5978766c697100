"""Wrong and right solutions, each of which names the checks that it must lose."""

import io
import os
import re
import tempfile
import time
import tomllib
from contextlib import redirect_stderr, redirect_stdout
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
    load_master,
    place,
    standin_folder,
)
from autograder.rubric.specimen import save_notebook, solved
from helpers.checking import Engine, StudentError, Submission, failure, run

MUTANTS = Path(__file__).parent / "mutants"
#: The largest share of a notebook's points that a mistake in one function or one line should cost.
MOST_SHARE = 0.2


class Attempt(BaseModel):
    """What a student might hand in, and what the checks should say about it.

    Attributes:
        name: what is wrong or different.
        loses: the names of the checks that it must lose; none for a right solution.
        says: a pattern that the message of the first lost check must match.
        never: a pattern that no message may match: a cause that is not the cause.
        neutral: whether that message is true but names no cause.
        dear: why one mistake may cost more than :data:`MOST_SHARE`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    loses: frozenset[str] = frozenset()
    says: str = ""
    never: str = ""
    neutral: bool = False
    dear: str = ""

    @property
    def names_cause(self) -> bool:
        """Whether the first message must name what is wrong."""
        return bool(self.says) and not self.neutral

    def changes(self, master: Master) -> dict[str, str]:
        """The texts of the cells that differ from the master's, by name."""
        raise NotImplementedError

    def inserted(self, master: Master) -> dict[str, str]:
        """The texts of cells that the student inserted, by the cell that each stands before."""
        return {}


class Solution(Attempt):
    """A solution that differs from the master's in one cell.

    Attributes:
        cell: the name of the master's solution cell.
        old: the text to replace in that cell.
        new: the text that replaces it.
        also: further pairs of old and new.
        source: the whole text of the cell, instead of replacements.
    """

    cell: str
    old: str = ""
    new: str = ""
    also: tuple[tuple[str, str], ...] = ()
    source: str = ""

    def changes(self, master: Master) -> dict[str, str]:
        """The text of the changed cell.

        Raises:
            ValueError: if the master no longer contains the text to replace.
        """
        if self.source:
            return {self.cell: self.source}
        text = master.cell(self.cell).source
        for old, new in ((self.old, self.new), *self.also):
            if old not in text:
                raise ValueError(f"{self.name}: the cell {self.cell!r} does not contain {old!r}.")
            text = text.replace(old, new)
        return {self.cell: text}


def load_solutions(deliverable_id: str) -> tuple[list[Solution], list[Solution]]:
    """The wrong and the right solutions of a deliverable."""
    data = tomllib.loads((MUTANTS / f"{deliverable_id}.toml").read_text(encoding="utf-8"))
    wrong, right = ([Solution(**entry) for entry in data[key]] for key in ("wrong", "right"))
    return wrong, right


def judge_solution(solution: Attempt, master: Master) -> list[CheckResult]:
    """The judge's results for a solution, without the checks of trained models."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_notebook(_notebook(solution, master), Path(folder), master.deliverable.id)
        judgement = judge(path, master.deliverable.id, solution.name, only=_untrained(master))
    return list(judgement.checks)


def try_solution(solution: Attempt, master: Master) -> list[CheckResult]:
    """The same results, computed in this process without a sandbox."""
    placed = place(_notebook(solution, master).cells, master)
    cells = _untrained(master)
    checks = [c for c in all_checks(master.deliverable.id) if c.cell in cells]
    # Some solutions print a line per image, some show a progress bar.
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        submission = Submission(run_cells(placed).execute)
        return [CheckResult.of(run(check, submission)) for check in checks]


def examine(deliverable_id: str, solution: Attempt, judged: bool) -> tuple[bool, str]:
    """Whether a solution loses exactly the checks that it names, and a text with the details."""
    master = load_master(deliverable_id)
    begin = time.monotonic()
    results = (judge_solution if judged else try_solution)(solution, master)
    wrong = verdict(solution, results, master.points)
    seconds = time.monotonic() - begin
    lines = [f"{'NOT' if wrong else 'ok '} {solution.name} ({seconds:.1f} s)"]
    lines += [f"      {sentence}" for sentence in wrong]
    for result in results:
        if result.status != "passed":
            lines.append(f"      {result.name}: {result.status}: {result.message}")
    return not wrong, "\n".join(lines)


def verdict(solution: Attempt, results: list[CheckResult], worth: float) -> list[str]:
    """How the results of a solution differ from what it states, a sentence each.

    Args:
        worth: the points of the whole notebook.
    """
    lost = [result for result in results if result.status != "passed"]
    names = frozenset(result.name for result in lost)
    wrong = []
    if missed := solution.loses - names:
        wrong.append(f"kept: {', '.join(sorted(missed))}")
    if more := names - solution.loses:
        wrong.append(f"lost too: {', '.join(sorted(more))}")
    if lost and not re.search(solution.says, lost[0].message):
        wrong.append(f"the first message does not match {solution.says!r}")
    if solution.never and any(re.search(solution.never, result.message) for result in lost):
        wrong.append(f"a message matches {solution.never!r}")
    points = sum(result.points for result in lost)
    most = MOST_SHARE * worth
    if points > most and not solution.dear:
        wrong.append(f"costs {points:g} points; at most {most:g}, or say why (`dear`)")
    wrong += [f"{result.name} raised {result.fault}" for result in lost if result.fault]
    return wrong


def _notebook(solution: Attempt, master: Master) -> NotebookNode:
    """The notebook with a solution filled in."""
    return solved(master, solution.changes(master), solution.inserted(master))


def _untrained(master: Master) -> frozenset[str]:
    """The check cells that do not need a trained model."""
    return frozenset(cell.name for cell in master.cells if cell.kind == "check") - {"result"}


def run_cells(placed: list[Placed]) -> Engine:
    """Run a notebook's cells in this process; return an engine on the names that they define."""
    names: dict[str, Any] = {"__name__": "__main__"}
    failures: dict[str, StudentError] = {}
    settings = {"LATENT_LAB_WORKER": "1", "LATENT_LAB_DATA": str(standin_folder())}
    with patch.dict(os.environ, settings):
        for p in placed:
            if not p.is_code or (p.cell is not None and p.cell.kind in NOT_RUN):
                continue
            name, defines = (p.cell.name, p.cell.defines) if p.cell else ("inserted", frozenset())
            try:
                exec(compile(p.source, f"ipython-input: {name}", "exec"), names)
            except Exception as error:
                reason = failure(error)
                if isinstance(error, NameError):
                    reason = failures.get(str(error.name), reason)
                failures |= dict.fromkeys(defines - names.keys(), reason)
    return Engine(names, failures)
