"""Judges hostile notebooks and writes a table, ``benchmarks/results/hostile.md``.

The attacks of ``tests/autograder/judging/test_hostile.py`` run one by one through the judge, at the
best isolation level of this machine and at the next lower one. An honest notebook is judged at the
beginning, after every ten attacks and at the end.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from machine import RESULTS, describe_machine

from autograder import ROOT, sandbox
from autograder.judging import Judgement, judge
from autograder.rubric import save_notebook, solved

sys.path.insert(0, str(ROOT / "tests" / "autograder" / "judging"))
import test_hostile as corpus


def main() -> int:
    """Run all attacks; 1 if one gained points, made the grader fail or harmed another notebook."""
    parser = argparse.ArgumentParser(description=__doc__)
    top = sandbox.isolation_level()
    parser.add_argument("--levels", nargs="+", type=int, default=[top, top - 1])
    levels = parser.parse_args().levels
    columns = [measure(level) for level in levels]
    machine = describe_machine()
    text = [
        "# Hostile notebooks, as judged",
        "",
        f"{len(columns[0].rows)} attacks of `tests/autograder/judging/test_hostile.py`, on "
        f"{machine['cores']} cores ({machine['processor']}), by `python benchmarks/hostile.py`. "
        "*Points* are the difference from the same notebook without the attack; a float64 or "
        "float16 tensor from a wrong model is unusual, but not an attack.",
        "",
        "| isolation level | points gained | neighbours harmed | infrastructure errors |",
        "|---|---|---|---|",
        *(f"| {c.level} | {c.gained} | {c.harmed} | {c.ours} |" for c in columns),
        "",
        "| where | what |" + "".join(f" level {c.level} | points | s |" for c in columns),
        "|---|---|" + "---|---|---|" * len(columns),
    ]
    for key in columns[0].rows:
        cells = [cell for column in columns for cell in column.rows[key]]
        text.append("| " + " | ".join([*key, *cells]) + " |")
    path = RESULTS / "hostile.md"
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"Written to {path}")
    return int(any(c.gained + c.harmed + c.ours for c in columns))


@dataclass
class Column:
    """The results of the attacks at one level."""

    level: int
    #: Status, points gained and seconds, by the place and the name of the attack.
    rows: dict[tuple[str, str], tuple[str, str, str]] = field(default_factory=dict)
    gained: int = 0
    harmed: int = 0
    ours: int = 0


def measure(level: int) -> Column:
    """Run every attack at one level."""
    column = Column(level)
    honest = earned(run({}, level))
    wrong = earned(run(corpus.TestCheats.WRONG, level))
    bare = {
        "in a cell": honest,
        "in forward": earned(run(corpus.in_forward("return x"), level)),
        "cheat": wrong,
        "answers": wrong,
    }
    for number, (family, name, changes) in enumerate(attacks(), 1):
        begin = time.monotonic()
        result = run(changes, level)
        seconds = time.monotonic() - begin
        more = earned(result) - bare[family]
        column.gained += more > 0 and name not in corpus.HONEST
        column.ours += result.status == "infrastructure"
        row = (result.status.value, f"{more:+g}", f"{seconds:.1f}")
        column.rows[family, name] = row
        print(level, family, name, *row, sep=" | ", flush=True)
        if number % 10 == 0:
            column.harmed += earned(run({}, level)) != honest
    column.harmed += earned(run({}, level)) != honest
    return column


def attacks() -> Iterator[tuple[str, str, dict[str, str]]]:
    """For each attack its place, its name, and the cells that it changes."""
    for name, code in corpus.IN_CELL.items():
        yield "in a cell", name, corpus.before("choices", code)
    for name, code in corpus.IN_FORWARD.items():
        yield "in forward", name, corpus.in_forward(code)
    wrong = corpus.TestCheats.WRONG
    for name, code in corpus.CHEATS.items():
        yield "cheat", name, {**wrong, **corpus.before("choices", code)}
    for name, answer in corpus.FORGED_ANSWERS.items():
        yield "answers", name, {**wrong, **corpus.forged(answer)}


def run(changes: dict[str, str], level: int) -> Judgement:
    """Judge one notebook, without the checks of trained models."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_notebook(solved(corpus.MASTER, changes), Path(folder), corpus.ID)
        return judge(
            path,
            corpus.ID,
            "stranger",
            level=level,
            patience=corpus.PATIENCE,
            only=corpus.UNTRAINED,
        )


def earned(result: Judgement) -> float:
    """The points, or 0 if there is no mark."""
    return result.score or 0.0


if __name__ == "__main__":
    sys.exit(main())
