"""Tries every wrong and every right solution, and tells what each lost and why."""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor

from autograder.judging import load_master
from autograder.rubric.solutions import (
    Solution,
    judge_solution,
    load_solutions,
    lost_names,
    try_solution,
)
from helpers.deliverables import DELIVERABLES, get


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


def examine(deliverable_id: str, solution: Solution, judged: bool) -> tuple[bool, str]:
    """Whether a solution loses what it names and nothing else, and what there is to say of it."""
    master = load_master(deliverable_id)
    begin = time.monotonic()
    results = (judge_solution if judged else try_solution)(solution, master)
    as_it_should = lost_names(results) == solution.loses
    seconds = time.monotonic() - begin
    lines = [f"{'ok ' if as_it_should else 'NOT'} {solution.name} ({seconds:.1f} s)"]
    if missed := solution.loses - lost_names(results):
        lines.append(f"      kept: {', '.join(sorted(missed))}")
    if more := lost_names(results) - solution.loses:
        lines.append(f"      lost too: {', '.join(sorted(more))}")
    for result in results:
        if result.status != "passed":
            lines.append(f"      {result.id.rpartition('.')[2]}: {result.status}: {result.message}")
    return as_it_should, "\n".join(lines)
