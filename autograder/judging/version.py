"""The version of the checks: a hash of everything that decides a mark."""

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from autograder import ROOT
from autograder.judging.master import load_master
from helpers.deliverables import DELIVERABLES

#: The packages and modules that decide a mark, without those that only show or store marks.
DECIDING = (
    "autograder/judging",
    "autograder/sandbox",
    "helpers/checking",
    "helpers/checks",
    "helpers/data",
    "helpers/deliverables.py",
    "helpers/models",
    "helpers/training",
)


@cache
def judge_version(deliverable_id: str) -> str:
    """A hash of everything that decides the marks of a deliverable.

    Together with the hash of the hand-in it is the key of a result. The checks of other
    deliverables and the prose of the master are not included.
    """
    digest = hashlib.sha256()
    for cell in load_master(deliverable_id).cells:
        if cell.is_code:
            digest.update(cell.source.encode())
    others = DELIVERABLES.keys() - {deliverable_id}
    for file in sorted(_files()):
        name = file.relative_to(ROOT)
        if others.isdisjoint(name.with_suffix("").parts):
            digest.update(name.as_posix().encode() + file.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    """The files of the packages in :data:`DECIDING`, without compiled ones."""
    for name in DECIDING:
        path = ROOT / name
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                yield file
