"""Writes results into nbgrader's database, and feedback from it.

The judge has written one result file per submission before; one process then writes all of them
into the database. It may be killed at any moment and started again.
"""

import hashlib
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbgrader.api import Grade, Gradebook, MissingEntry, SubmittedNotebook

from autograder import OUR_FAULT, UserError
from autograder.classroom.store import current_result, submitted
from autograder.course import last_words, open_course, quietly
from autograder.judging import Judgement

#: How long to wait for another program that has locked the database.
_LOCK_SECONDS = 5.0


class GradebookError(UserError):
    """The database cannot be used; one sentence says why and what to do."""

    exit_code = OUR_FAULT


@dataclass
class Summary:
    """What a step did, by student.

    Attributes:
        done: the students for whom something was written.
        unchanged: the students for whom there was nothing to write.
        problems: what needs attention, one sentence each, by student or file.
    """

    done: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def expect_usable(course: Path) -> None:
    """Check that the database, if there is one, is intact and can be written.

    Raises:
        GradebookError: if it is damaged, locked by another program, or not writable.
    """
    path = course / "gradebook.db"
    if not path.exists():
        return
    kept = "The results in results/ are kept and are not judged again."
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise GradebookError(
            f"{path} cannot be written ({error}). Close the formgrader and any other grader, make "
            f"sure that the disk is not full, and run the same command again. {kept}"
        ) from error
    except sqlite3.DatabaseError as error:
        damage = str(error)
    if damage != "ok":
        raise GradebookError(
            f"{path} is damaged ({damage}). Put a backup in its place, or move it away and run the "
            f"same command again: only marks given by hand are lost with it. {kept}"
        )


def is_missing(grade: Grade) -> bool:
    """Whether neither the judge nor a grader has given this mark."""
    return grade.auto_score is None and grade.manual_score is None


def missing_marks(submission: SubmittedNotebook) -> list[str]:
    """The cells of a submission that have no mark yet."""
    return sorted(grade.name for grade in submission.grades if is_missing(grade))


def stamp(judgement: Judgement) -> str:
    """A hash of a result, by which the database's copy of it is recognised."""
    return hashlib.sha256(judgement.model_dump_json().encode()).hexdigest()


def record(course: Path, deliverable_id: str) -> Summary:
    """Write into the database all results that are new, or whose submission is.

    nbgrader's own ``autograde`` does this. It finds the results in ``results/``; see
    :class:`autograder.classroom.preprocessors.Judge`.
    """
    api = open_course(course, Judge={"retry": False})
    summary = Summary()
    with api.gradebook as gradebook:
        known = submissions(gradebook, deliverable_id)
    for student in submitted(course, deliverable_id):
        if student in known and _is_recorded(course, deliverable_id, student):
            summary.unchanged.append(student)
            continue
        with quietly():
            result = api.autograde(deliverable_id, student)
        # nbgrader also reports success for a submission without any notebook to grade.
        if result["success"] and _marked_notebook(course, deliverable_id, student).is_file():
            summary.done.append(student)
        else:
            summary.problems[student] = f"nbgrader could not record it: {last_words(result)}"
    return summary


def feedback(course: Path, deliverable_id: str) -> Summary:
    """Write ``course/feedback/<student>/<id>/<id>.html`` for students who have all their marks.

    nbgrader's page shows a missing mark as 0.0. So the page is withheld, and an older one removed,
    until every written answer is marked and every check has been judged.
    """
    api = open_course(course)
    summary = Summary()
    with api.gradebook as gradebook:
        notebooks = submissions(gradebook, deliverable_id)
        missing = {student: missing_marks(notebook) for student, notebook in notebooks.items()}
    for student in sorted(missing):
        if missing[student]:
            folder = course / "feedback" / student / deliverable_id
            shutil.rmtree(folder, ignore_errors=True)
            summary.problems[student] = f"No mark yet for {', '.join(missing[student])}."
            continue
        with quietly():
            result = api.generate_feedback(deliverable_id, student)
        if result["success"]:
            summary.done.append(student)
        else:
            summary.problems[student] = f"nbgrader wrote no feedback: {last_words(result)}"
    return summary


def submissions(gradebook: Gradebook, deliverable_id: str) -> dict[str, SubmittedNotebook]:
    """The database's submissions of a deliverable, by student."""
    try:
        notebooks = gradebook.notebook_submissions(deliverable_id, deliverable_id)
    except MissingEntry:
        return {}
    return {notebook.student.id: notebook for notebook in notebooks}


def _marked_notebook(course: Path, deliverable_id: str, student: str) -> Path:
    return course / "autograded" / student / deliverable_id / f"{deliverable_id}.ipynb"


def _is_recorded(course: Path, deliverable_id: str, student: str) -> bool:
    """Whether the database has the current result of the current submission."""
    result = current_result(course, deliverable_id, student)
    try:
        marked = nbformat.read(_marked_notebook(course, deliverable_id, student), as_version=4)
    except OSError:
        return False
    return result is not None and marked.metadata.get("latent_lab") == stamp(result)
