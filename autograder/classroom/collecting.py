"""Collects hand-ins from a folder into ``course/submitted``."""

import tempfile
from codecs import BOM_UTF8
from pathlib import Path

import nbformat

from autograder.classroom.gradebook import Summary
from autograder.classroom.store import result_path, submission_path
from autograder.course import quietly
from autograder.judging import HandIn, IntakeError, judge, read_handin
from helpers import deliverables
from helpers.deliverables import Deliverable


def collect(handins: Path, course: Path) -> Summary:
    """Copy the files of hand-ins that are used to ``course/submitted/<student>/<id>/``.

    Args:
        handins: a folder of ``<id>-<student>.zip``, ``<id>-<student>.ipynb`` or folders of that
            name; a short id (``d1``) is enough.
        course: the course folder.

    Returns:
        The collected hand-ins, as ``<id>-<student>``. Those that are not collected are problems and
        stay where they are. An unreadable one gets a result file that says so, unless the student
        has a readable one from before.
    """
    summary = Summary()
    spelt = {path.name.casefold(): path.name for path in course.glob("submitted/*")}
    taken: dict[str, str] = {}
    for entry in sorted(handins.iterdir()):
        if entry.name.startswith("."):
            continue
        try:
            deliverable, student = _parse_name(entry)
            key = f"{deliverable.id}-{student}"
            if (other := spelt.get(student.casefold(), student)) != student:
                raise IntakeError(f"There is already a student {other!r}: only capitals differ.")
            if key in taken:
                raise IntakeError(f"{taken[key]} is by the same student and was collected instead.")
        except IntakeError as error:
            summary.problems[entry.name] = str(error)
            continue
        folder = submission_path(course, deliverable.id, student)
        try:
            changed = _store(entry, deliverable, folder)
        except IntakeError as error:
            summary.problems[entry.name] = str(error)
            if not folder.exists():
                unreadable = judge(entry, deliverable.id, student)
                unreadable.write(result_path(course, deliverable.id, student))
        else:
            spelt[student.casefold()] = student
            taken[key] = entry.name
            (summary.done if changed else summary.unchanged).append(key)
    return summary


def _parse_name(entry: Path) -> tuple[Deliverable, str]:
    """The deliverable and the student from the name of a hand-in."""
    stem = entry.stem if entry.suffix in (".zip", ".ipynb") else entry.name
    name, _, student = stem.partition("-")
    try:
        deliverable = deliverables.get(name)
    except KeyError as error:
        raise IntakeError("Its name is not <deliverable>-<student>.") from error
    if not deliverables.is_student_id(student):
        raise IntakeError(
            "The student in its name must be letters, digits and . _ - @ +, without spaces."
        )
    if entry.is_symlink():
        raise IntakeError(f"{entry.name} is a link.")
    if not entry.is_dir() and entry.suffix not in (".zip", ".ipynb"):
        raise IntakeError(f"{entry.name} is neither a zip, nor a notebook, nor a folder.")
    return deliverable, student


def _store(entry: Path, deliverable: Deliverable, folder: Path) -> bool:
    """Store the files of a hand-in in ``folder``; return whether that changed anything."""
    handin = read_handin(entry, deliverable)
    files = {f"{deliverable.id}.ipynb": _for_nbgrader(handin)}
    for end, found in (("safetensors", handin.checkpoints), ("json", handin.histories)):
        files |= {f"checkpoints/{name}.{end}": data for name, data in found.items()}
    there = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    there.pop("timestamp.txt", None)  # for nbgrader, put there by hand
    if there.keys() == files.keys() and all(there[n].read_bytes() == files[n] for n in files):
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".new-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        for file, data in files.items():
            (new / file).parent.mkdir(parents=True, exist_ok=True)
            (new / file).write_bytes(data)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        if (old / "timestamp.txt").is_file():
            (old / "timestamp.txt").rename(folder / "timestamp.txt")
    return True


def _for_nbgrader(handin: HandIn) -> bytes:
    """The notebook as handed in, or a clean copy if nbgrader could not read it."""
    try:
        if handin.notebook.startswith(BOM_UTF8):
            raise ValueError("nbformat does not read byte order marks")
        with quietly():
            nbformat.validate(handin.document)
    except Exception:  # many kinds, for example for a cell without metadata
        make = {True: nbformat.v4.new_code_cell, False: nbformat.v4.new_markdown_cell}
        notebook = nbformat.v4.new_notebook(
            cells=[
                make[cell.cell_type == "code"](cell.source, id=f"cell-{number}")
                for number, cell in enumerate(handin.cells)
            ]
        )
        return str(nbformat.writes(notebook)).encode()
    return handin.notebook
