"""Tests of the rubric: wrong solutions must lose what they name, right ones must lose nothing.

``python -m autograder.rubric d1`` tries them all and prints what each lost and why. They are the
kit's own code and need no sandbox: here they run without one, in a tenth of the time. ``--judge``
sends them through the real judge.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ProcessPoolExecutor
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
from helpers.deliverables import DELIVERABLES, get
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
        submission = Submission(run_cells(placed).execute)
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


def examine(deliverable_id: str, solution: Solution, judged: bool) -> tuple[bool, str]:
    """Whether a solution loses what it names and nothing else, and what there is to say of it."""
    master = load_master(deliverable_id)
    begin = time.monotonic()
    results = (judge_solution if judged else try_solution)(solution, master)
    as_it_should = lost(results) == solution.loses
    seconds = time.monotonic() - begin
    lines = [f"{'ok ' if as_it_should else 'NOT'} {solution.name} ({seconds:.1f} s)"]
    if missed := solution.loses - lost(results):
        lines.append(f"      kept: {', '.join(sorted(missed))}")
    if more := lost(results) - solution.loses:
        lines.append(f"      lost too: {', '.join(sorted(more))}")
    for result in results:
        if result.status != "passed":
            lines.append(f"      {result.id.rpartition('.')[2]}: {result.status}: {result.message}")
    return as_it_should, "\n".join(lines)


def main() -> int:
    """Examine the solutions of some deliverables; 1 if one is not judged as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", default=list(DELIVERABLES))
    parser.add_argument("--judge", action="store_true", help="through the sandbox")
    parser.add_argument("--quiet", action="store_true", help="only what is not as it should be")
    parser.add_argument("--jobs", type=int, default=2)
    arguments = parser.parse_args()
    table = ["", f"{'deliverable':28} {'killed':>9} {'survivors':>9} {'right ones kept':>16}"]
    n_faults = 0
    # Processes that are started, not forked: each imports torch for itself.
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for name in (get(given).id for given in arguments.ids):
            wrong, right = load_solutions(name)
            running = [pool.submit(examine, name, each, arguments.judge) for each in wrong + right]
            verdicts = []
            for future in running:
                as_it_should, text = future.result()
                verdicts.append(as_it_should)
                if not (as_it_should and arguments.quiet):
                    print(text, flush=True)
            killed, kept = sum(verdicts[: len(wrong)]), sum(verdicts[len(wrong) :])
            n_faults += len(verdicts) - killed - kept
            killed_of, kept_of = f"{killed}/{len(wrong)}", f"{kept}/{len(right)}"
            table.append(f"{name:28} {killed_of:>9} {len(wrong) - killed:>9} {kept_of:>16}")
            print(f"{name}: {killed_of} killed, {kept_of} kept", flush=True)
    print("\n".join(table))
    return int(n_faults > 0)


if __name__ == "__main__":
    sys.exit(main())
