"""What hostile notebooks come to: a table for the docs, ``docs/hostile.md``.

Runs the attacks of ``tests/test_hostile.py`` one by one through the judge, at the level that this
machine allows (``--level 1`` for a lower one), with an honest notebook after each ten.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from machine import describe_machine

from autograder import sandbox
from autograder.judge import judge
from autograder.results import Judgement
from autograder.specimen import solved, write

ROOT = Path(__file__).parent.parent
#: Odd, and right: what they add to a wrong forward is theirs.
HONEST = ("a float64 tensor", "a float16 tensor")
sys.path.insert(0, str(ROOT / "tests"))
import test_hostile as corpus  # noqa: E402


def main() -> int:
    """Run, write, print; 1 if an attack gained a point, broke something or hurt a neighbour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", type=int, default=sandbox.isolation_level())
    level = parser.parse_args().level
    honest = earned(run({}, level))
    bare = {
        "in a cell": honest,
        "in forward": earned(run(corpus.in_forward("return x"), level)),
        "cheat": earned(run(corpus.TestCheats.WRONG, level)),
        "answers": earned(run(corpus.TestCheats.WRONG, level)),
    }
    rows, gained, harmed, ours = [], 0, 0, 0
    for number, (family, name, changes) in enumerate(attacks()):
        begin = time.monotonic()
        result = run(changes, level)
        seconds = time.monotonic() - begin
        more = earned(result) - bare[family]
        gained += more > 0 and name not in HONEST
        ours += result.status == "infrastructure"
        rows.append(f"| {family} | {name} | {result.status.value} | {more:+g} | {seconds:.1f} |")
        print(rows[-1], flush=True)
        if number % 10 == 9:
            harmed += earned(run({}, level)) != honest
    machine = describe_machine()
    text = [
        "# Hostile notebooks, as judged",
        "",
        f"{len(rows)} attacks of `tests/test_hostile.py` at isolation level {level}, on "
        f"{machine['cores']} cores ({machine['processor']}), by `python benchmarks/hostile.py`. "
        f"Points gained: {gained} times. Neighbours harmed: {harmed}. Infrastructure errors: "
        f"{ours}. *Points* are the difference to the same notebook without the attack.",
        "",
        "| where | what | status | points | seconds |",
        "|---|---|---|---|---|",
        *rows,
    ]
    path = ROOT / "docs" / ("hostile.md" if level >= 2 else f"hostile-level{level}.md")
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    print(f"Written to {path}")
    return int(gained + harmed + ours > 0)


def attacks() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Where each attack is, its name, and the cells that it changes."""
    for name, code in corpus.IN_CELL.items():
        yield "in a cell", name, corpus.before("choices", code)
    for name, code in corpus.IN_FORWARD.items():
        yield "in forward", name, corpus.in_forward(code)
    wrong = corpus.TestCheats.WRONG
    for name, code in corpus.CHEATS.items():
        yield "cheat", name, {**wrong, **corpus.before("choices", code)}
    for name, answer in corpus.FORGED_ANSWERS.items():
        forge = "import random\nfrom helpers.engine import Engine\n"
        forge += "from helpers.submission import Ref\n"
        forge += f"Engine.execute = lambda self, request: {answer}"
        yield "answers", name, {**wrong, **corpus.before("train_epoch", forge)}


def run(changes: dict[str, str], level: int) -> Judgement:
    """Judge one notebook without a trained model."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(solved(corpus.MASTER, changes), Path(folder), corpus.ID)
        return judge(
            path,
            corpus.ID,
            "stranger",
            level=level,
            patience=corpus.PATIENCE,
            only=corpus.UNTRAINED,
        )


def earned(result: Judgement) -> float:
    """Points; none where there is no mark."""
    return result.score or 0.0


if __name__ == "__main__":
    sys.exit(main())
