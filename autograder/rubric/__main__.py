"""``python -m autograder.rubric d1``: tries all solutions of a deliverable on its checks.

Prints which checks each solution lost, and why. The solutions are the kit's own code and need no
sandbox; without one they run in a tenth of the time. ``--judge`` sends them through the real judge.
``--table`` writes the counts to ``benchmarks/results/rubric.md``.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

from autograder import ROOT
from autograder.judging import load_master
from autograder.rubric.solutions import Attempt, examine, load_solutions
from autograder.rubric.variants import KNOWN, load_variants
from helpers.deliverables import DELIVERABLES, get

_TABLE = ROOT / "benchmarks" / "results" / "rubric.md"
_COLUMNS = ("killed", "cause told", "kept", "variants kept")
_INTRODUCTION = """\
# The rubric

What the checks make of solutions that were written to try them, by
`python -m autograder.rubric --table`.

- *killed*: wrong solutions that lose exactly what they name, with the messages that they ask for;
- *cause told*: wrong solutions whose first message names the mistake, as their `says` demands;
- *kept*: right solutions of other shapes that keep full marks;
- *variants kept*: the same for the model solutions in other words, of `autograder/rubric/variants`.

"""


@dataclass(frozen=True)
class Counts:
    """How many solutions are as they should be, out of how many."""

    killed: int = 0
    wrong: int = 0
    told: int = 0
    kept: int = 0
    right: int = 0
    kept_variants: int = 0
    variants: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*map(sum, zip(astuple(self), astuple(other), strict=True)))

    def cells(self) -> list[str]:
        """What stands in a row of the table."""
        return [
            f"{self.killed}/{self.wrong}",
            f"{self.told}/{self.wrong}",
            f"{self.kept}/{self.right}",
            f"{self.kept_variants}/{self.variants}",
        ]


def main() -> int:
    """Try the solutions; the exit code is 1 if one of them loses other checks than it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", default=list(DELIVERABLES))
    parser.add_argument("--judge", action="store_true", help="use the judge and its sandbox")
    parser.add_argument("--quiet", action="store_true", help="print only unexpected results")
    parser.add_argument("--table", action="store_true", help=f"write {_TABLE.relative_to(ROOT)}")
    parser.add_argument("--share", type=int, default=1, help="try only one in so many")
    parser.add_argument("--jobs", type=int, default=2, help="solutions tried at the same time")
    arguments = parser.parse_args()
    rows: dict[str, Counts] = {}
    n_faults = 0
    # Spawned, not forked, because torch's threads do not survive a fork.
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for name in (get(given).id for given in arguments.ids):
            rows[name], faults = _try_all(pool, name, arguments)
            n_faults += faults
    rows["together"] = sum(rows.values(), Counts())
    print(f"\n{'':28}" + "".join(f"{column:>15}" for column in _COLUMNS))
    for name, counts in rows.items():
        print(f"{name:28}" + "".join(f"{cell:>15}" for cell in counts.cells()))
    if arguments.table:
        write_table(rows, _TABLE)
    return int(n_faults > 0)


def _try_all(pool: Executor, name: str, arguments: argparse.Namespace) -> tuple[Counts, int]:
    """The counts of a deliverable, and how many solutions are unexpectedly not as they should."""
    step = slice(None, None, arguments.share)
    wrong, right = (solutions[step] for solutions in load_solutions(name))
    variants = load_variants(load_master(name))[step]
    known = KNOWN.get(name, {})
    attempts: Sequence[Attempt] = [*wrong, *right, *variants]
    running = [pool.submit(examine, name, attempt, arguments.judge) for attempt in attempts]
    good: list[bool] = []
    for attempt, future in zip(attempts, running, strict=True):
        as_named, text = future.result()
        good.append(as_named)
        expected = as_named or attempt.name in known
        if not (expected and arguments.quiet):
            print(text, flush=True)
    n_wrong, n_own = len(wrong), len(wrong) + len(right)
    counts = Counts(
        killed=sum(good[:n_wrong]),
        wrong=n_wrong,
        told=sum(g and each.names_cause for g, each in zip(good, wrong, strict=False)),
        kept=sum(good[n_wrong:n_own]),
        right=len(right),
        kept_variants=sum(good[n_own:]),
        variants=len(variants),
    )
    killed, told, kept, kept_variants = counts.cells()
    print(
        f"{name}: {killed} killed, {told} told their cause, {kept} kept, variants kept "
        f"{kept_variants}" + (f", {len(known)} known not to be" if known else ""),
        flush=True,
    )
    names = [attempt.name for attempt in attempts]
    return counts, sum(not g and n not in known for g, n in zip(good, names, strict=True))


def write_table(rows: dict[str, Counts], path: Path) -> None:
    """Write the counts as a page."""
    lines = [f"| deliverable | {' | '.join(_COLUMNS)} |", "|---|" + "---|" * len(_COLUMNS)]
    lines += [f"| {name} | {' | '.join(counts.cells())} |" for name, counts in rows.items()]
    path.write_text(_INTRODUCTION + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"Written to {path}")


if __name__ == "__main__":
    sys.exit(main())
