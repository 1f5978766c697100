"""Tells whether anything has changed since the last grading, without importing torch or nbgrader.

Those imports take seconds. If no file of the course, the hand-ins or the grader has changed,
another grading would print what the last one printed.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autograder import ROOT

#: The file in the course folder that remembers the last grading.
NAME = ".last-grading.json"


def recall(course: Path, handins: Path | None, *options: object) -> list[dict[str, Any]] | None:
    """The summaries of the last grading, or None if another one might differ.

    Args:
        options: the other arguments of the command.
    """
    try:
        kept = json.loads((course / NAME).read_bytes())
        said: list[dict[str, Any]] = kept["said"]
        return said if kept["state"] == _state(course, handins, options) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(
    said: list[dict[str, Any]], course: Path, handins: Path | None, *options: object
) -> None:
    """Keep the summaries of a grading for :func:`recall`."""
    kept = {"state": _state(course, handins, options), "said": said}
    (course / NAME).write_text(json.dumps(kept), encoding="utf-8")


def _state(course: Path, handins: Path | None, options: tuple[object, ...]) -> str:
    """A hash of the sizes and modification times of all files that grading reads or writes."""
    digest = hashlib.sha256(repr(options).encode())
    code = (ROOT / name for name in ("autograder", "helpers", "solutions", "nbgrader_config.py"))
    for folder in (*code, course, *([] if handins is None else [handins])):
        for path in sorted(_files(folder)):
            about = path.lstat()
            digest.update(f"{path}|{about.st_size}|{about.st_mtime_ns}\n".encode(errors="replace"))
    return digest.hexdigest()


def _files(folder: Path) -> Iterator[Path]:
    """All files in a folder, or the file itself."""
    if folder.is_file():
        yield folder
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name != "__pycache__"]
        yield from (Path(parent, name) for name in names if name != NAME)
