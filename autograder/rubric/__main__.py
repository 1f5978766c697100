"""``python -m autograder.rubric d1``: tries all solutions of a deliverable on its checks.

Prints which checks each solution lost, and why. The solutions are the kit's own code and need no
sandbox; without one they run in a tenth of the time. ``--judge`` sends them through the real judge.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from autograder.rubric.solutions import examine, load_solutions
from helpers.deliverables import DELIVERABLES, get


def main() -> int:
    """Try the solutions; the exit code is 1 if one of them loses other checks than it names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ids", nargs="*", default=list(DELIVERABLES))
    parser.add_argument("--judge", action="store_true", help="use the judge and its sandbox")
    parser.add_argument("--quiet", action="store_true", help="print only unexpected results")
    parser.add_argument("--jobs", type=int, default=2, help="solutions tried at the same time")
    arguments = parser.parse_args()
    table = ["", f"{'deliverable':28} {'killed':>9} {'survivors':>9} {'right ones kept':>16}"]
    n_faults = 0
    # Spawned, not forked, because torch's threads do not survive a fork.
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as pool:
        for name in (get(given).id for given in arguments.ids):
            wrong, right = load_solutions(name)
            running = [pool.submit(examine, name, each, arguments.judge) for each in wrong + right]
            verdicts = []
            for future in running:
                as_named, text = future.result()
                verdicts.append(as_named)
                if not (as_named and arguments.quiet):
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
