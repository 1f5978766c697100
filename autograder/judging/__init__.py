"""Judges submissions: reads a hand-in, runs the checks on it, and gives points.

- ``judge`` judges one submission, from the hand-in to the result;
- ``intake`` reads a hand-in (a zip, a folder or a notebook) without trusting it;
- ``master`` reads a master: its cells, their kinds, names and points;
- ``matching`` finds which submitted cell is which cell of the master;
- ``session`` starts the sandboxed processes and sends them the checks' questions;
- ``standin`` makes the data that a notebook finds there instead of the real data sets;
- ``results`` defines the result of one submission, which is stored as JSON;
- ``version`` computes the version of the checks, which is written into each result;
- ``checks`` contains the hidden checks, one module per deliverable.
"""

from autograder.judging.intake import (
    HandIn,
    IntakeError,
    deliverable_of,
    handin_digest,
    read_handin,
)
from autograder.judging.judge import judge
from autograder.judging.master import MARKER, Cell, Master, all_checks, load_master
from autograder.judging.matching import OWN, Placed, foreign_imports, identify, place, untouched
from autograder.judging.results import CheckResult, Judgement, Outcome
from autograder.judging.session import NOT_RUN, Patience, Session
from autograder.judging.standin import standin_folder
from autograder.judging.version import judge_version

__all__ = [
    "MARKER",
    "NOT_RUN",
    "OWN",
    "Cell",
    "CheckResult",
    "HandIn",
    "IntakeError",
    "Judgement",
    "Master",
    "Outcome",
    "Patience",
    "Placed",
    "Session",
    "all_checks",
    "deliverable_of",
    "foreign_imports",
    "handin_digest",
    "identify",
    "judge",
    "judge_version",
    "load_master",
    "place",
    "read_handin",
    "standin_folder",
    "untouched",
]
