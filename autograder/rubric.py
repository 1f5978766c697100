"""Tests of the rubric: wrong solutions must lose what they name, right ones must lose nothing.

``python -m autograder.rubric d1_autoencoder`` judges them all and prints what each lost and why.
"""

from __future__ import annotations

import sys
import tempfile
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from autograder.judge import judge
from autograder.master import Master, load_master
from autograder.results import Judgement
from autograder.specimen import solved, write

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


def judge_solution(solution: Solution, master: Master) -> Judgement:
    """Judge a solution without a trained model."""
    cells = frozenset(c.name for c in master.cells if c.kind == "check") - {"result"}
    with tempfile.TemporaryDirectory() as folder:
        notebook = solved(master, {solution.cell: solution.text(master)})
        path = write(notebook, Path(folder), master.deliverable.id)
        return judge(path, master.deliverable.id, solution.name, only=cells)


def lost(judgement: Judgement) -> frozenset[str]:
    """The checks that a solution did not pass, by the last part of their ids."""
    return frozenset(
        check.id.rpartition(".")[2] for check in judgement.checks if check.status != "passed"
    )


def main(deliverable_id: str) -> int:
    """Judge them all; the number of survivors and of right ones that lost something."""
    master = load_master(deliverable_id)
    wrong, right = load_solutions(master.deliverable.id)
    n_faults = 0
    for solution in wrong + right:
        judgement = judge_solution(solution, master)
        as_it_should = lost(judgement) == solution.loses
        n_faults += not as_it_should
        print(f"{'ok ' if as_it_should else 'NOT'} {solution.name} ({judgement.seconds:.1f} s)")
        if missed := solution.loses - lost(judgement):
            print(f"      kept: {', '.join(sorted(missed))}")
        if more := lost(judgement) - solution.loses:
            print(f"      lost too: {', '.join(sorted(more))}")
        for check in judgement.checks:
            if check.status != "passed":
                print(f"      {check.id.rpartition('.')[2]}: {check.status}: {check.message}")
    print(f"{len(wrong)} wrong, {len(right)} right; {n_faults} judged otherwise than they should.")
    return n_faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]) > 0)
