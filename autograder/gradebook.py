"""nbgrader's side of a class: hand-ins in, marks into the database, feedback and a table out.

The judging is done before and lies in result files, one a submission; the database is written here,
by one process. Everything may be killed and run again.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import shutil
import sqlite3
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook, MissingEntry, SubmittedNotebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.plugins import ExportPlugin
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder.grading import current_result, read_result, result_path, submission_path, submitted
from autograder.intake import HandIn, IntakeError, read_handin, wanted_files
from autograder.judge import judge
from autograder.results import Judgement, Outcome
from helpers import deliverables
from helpers.deliverables import Deliverable
from helpers.training import write

ROOT = Path(__file__).parent.parent

#: How long another program may keep the database to itself.
_LOCK_SECONDS = 5.0
#: nbgrader takes a student's name for a file pattern and shows it on its pages: plain names only.
_STUDENT = re.compile(r"[\w@][\w.@+-]{0,99}")
#: What is no mark, and must not look like one.
_NO_MARK = {Outcome.UNREADABLE, Outcome.MISSING, Outcome.INFRASTRUCTURE}


class GradebookError(Exception):
    """The database cannot be used; one sentence says why and what to do."""


@dataclass
class Report:
    """What a step did, student by student.

    Attributes:
        done: for whom something was written.
        unchanged: for whom all was as it should be already.
        problems: what somebody must look at, one sentence each, by student or file.
    """

    done: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def load_config(course: Path | None = None) -> Config:
    """``nbgrader_config.py``, for another course folder if one is given."""
    config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()
    if course is not None:
        (course / "exchange").mkdir(parents=True, exist_ok=True)
        config.CourseDirectory.root = str(course.resolve())
        config.Exchange.root = str(course.resolve() / "exchange")
    return config


def default_course() -> Path:
    """The course folder that ``nbgrader_config.py`` names."""
    return Path(load_config().CourseDirectory.root)


def open_course(course: Path, **overrides: dict[str, Any]) -> NbGraderAPI:
    """nbgrader's own interface to a course folder, which is made if it is not there.

    Args:
        course: the folder.
        overrides: more configuration, by class.
    """
    config = load_config(course)
    config.merge(Config(overrides))
    return NbGraderAPI(config=config, log_level="ERROR")


def expect_usable(course: Path) -> None:
    """See that the database, if there is one, is whole and can be written.

    Raises:
        GradebookError: if it is damaged, locked by another program, or not to be written.
    """
    path = course / "gradebook.db"
    if not path.exists():
        return
    kept = "What is judged is kept in results/ and is not judged again."
    try:
        with closing(sqlite3.connect(path, timeout=_LOCK_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            damage = database.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise GradebookError(
            f"{path} cannot be written ({error}). Close the formgrader and any other grader, see "
            f"that the disk is not full, and run the same command again. {kept}"
        ) from error
    except sqlite3.DatabaseError as error:
        damage = str(error)
    if damage != "ok":
        raise GradebookError(
            f"{path} is damaged ({damage}). Put a backup in its place, or move it away and run the "
            f"same command again: marks given by hand are in it alone. {kept}"
        )


@contextmanager
def quietly() -> Iterator[None]:
    """Without the warnings of nbgrader (its use of SQLAlchemy) and nbformat (ids that it mends)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def missing_marks(submission: SubmittedNotebook) -> list[str]:
    """The cells that neither the judge nor a grader has given a mark."""
    return sorted(grade.name for grade in submission.grades if _is_missing(grade))


def stamp(judgement: Judgement) -> str:
    """A hash of all that a result says: it tells whether the database has this very result."""
    return hashlib.sha256(judgement.model_dump_json().encode()).hexdigest()


def collect(handins: Path, course: Path) -> Report:
    """Put hand-ins into ``course/submitted/<student>/<id>/``, only the files that count.

    Args:
        handins: a folder of ``<id>-<student>.zip``, ``<id>-<student>.ipynb`` or folders so called;
            a short id (``d1``) will do.
        course: the course folder.

    Returns:
        What came in, as ``<id>-<student>``. Whatever is not taken is a problem and stays where it
        is; an unreadable hand-in gets a result file that says so, unless an earlier one was read.
    """
    report = Report()
    spelt = {path.name.casefold(): path.name for path in course.glob("submitted/*")}
    taken: dict[str, str] = {}
    for entry in sorted(handins.iterdir()):
        if entry.name.startswith("."):
            continue
        try:
            deliverable, student = _parse_name(entry)
            key = f"{deliverable.id}-{student}"
            if (other := spelt.get(student.casefold(), student)) != student:
                raise IntakeError(f"There is a student {other!r} already, spelt like that.")
            if key in taken:
                raise IntakeError(f"{taken[key]} is by the same student and was taken.")
        except IntakeError as error:
            report.problems[entry.name] = str(error)
            continue
        folder = submission_path(course, deliverable.id, student)
        try:
            changed = _store(entry, deliverable, folder)
        except IntakeError as error:
            report.problems[entry.name] = str(error)
            if not folder.exists():
                unreadable = judge(entry, deliverable.id, student)
                unreadable.write(result_path(course, deliverable.id, student))
        else:
            spelt[student.casefold()] = student
            taken[key] = entry.name
            (report.done if changed else report.unchanged).append(key)
    return report


def record(course: Path, deliverable_id: str, students: Iterable[str] | None = None) -> Report:
    """Write results into the database, for those whose result or submission changed.

    It is nbgrader's own ``autograde``, which finds the results beside it; see
    :class:`autograder.preprocessors.Judge`.

    Args:
        course: the course folder.
        deliverable_id: the deliverable.
        students: by default all who handed it in.
    """
    deliverable = deliverables.get(deliverable_id)
    api = open_course(course, Judge={"retry": False})
    report = Report()
    with api.gradebook as gradebook:
        known = _submissions(gradebook, deliverable.id)
    for student in sorted(submitted(course, deliverable.id) if students is None else students):
        if student in known and _is_recorded(course, deliverable, student):
            report.unchanged.append(student)
            continue
        with quietly():
            result = api.autograde(deliverable.id, student)
        # nbgrader reports success for a submission in which it found nothing to grade.
        if result["success"] and _marked_notebook(course, deliverable.id, student).is_file():
            report.done.append(student)
        else:
            report.problems[student] = f"nbgrader could not record it: {last_words(result)}"
    return report


def feedback(course: Path, deliverable_id: str, students: Iterable[str] | None = None) -> Report:
    """Write ``course/feedback/<student>/<id>/<id>.html`` for those with no mark missing.

    nbgrader's page shows a missing mark as 0.0: it is withheld, and an older one removed, until
    every written answer is marked and every check has been judged.

    Args:
        course: the course folder.
        deliverable_id: the deliverable.
        students: by default all in the database who handed it in.
    """
    name = deliverables.get(deliverable_id).id
    api = open_course(course)
    report = Report()
    with api.gradebook as gradebook:
        missing = {
            student: missing_marks(notebook)
            for student, notebook in _submissions(gradebook, name).items()
        }
    for student in sorted(missing if students is None else students):
        if student not in missing:
            report.problems[student] = "There is nothing in the database yet."
        elif missing[student]:
            shutil.rmtree(course / "feedback" / student / name, ignore_errors=True)
            report.problems[student] = f"No mark yet for {', '.join(missing[student])}."
        else:
            with quietly():
                result = api.generate_feedback(name, student)
            if result["success"]:
                report.done.append(student)
            else:
                report.problems[student] = f"nbgrader wrote no feedback: {last_words(result)}"
    return report


def export(course: Path, path: Path) -> Path:
    """Write the class's marks as CSV; see :class:`StatusExporter`."""
    api = open_course(course)
    exporter = StatusExporter(parent=api)
    exporter.to = str(path)
    with api.gradebook as gradebook:
        exporter.export(gradebook)
    return path


class StatusExporter(ExportPlugin):
    """CSV with one row a student and deliverable, which tells a mark of zero from no mark.

    Also ``nbgrader export --exporter autograder.gradebook.StatusExporter``.
    """

    columns = (
        "student",
        "deliverable",
        "checks_score",
        "checks_max",
        "written_score",
        "written_max",
        "late_penalty",
        "score",
        "max_score",
        "status",
        "needs_manual_grade",
    )

    def export(self, gradebook: Gradebook) -> None:
        """Write the file ``self.to``, by default grades.csv."""
        course = Path(self.parent.coursedir.root)
        table = io.StringIO()
        writer = csv.DictWriter(table, self.columns, lineterminator="\n")
        writer.writeheader()
        for assignment in gradebook.assignments:
            if self.assignment and assignment.name not in map(str, self.assignment):
                continue
            submissions = _submissions(gradebook, assignment.name)
            students = {student.id for student in gradebook.students} | {
                path.stem for path in course.glob(f"results/{assignment.name}/[!.]*.json")
            }
            for student in sorted(students):
                if not self.student or student in map(str, self.student):
                    result = read_result(result_path(course, assignment.name, student))
                    row = _row(submissions.get(student), result)
                    writer.writerow({"student": student, "deliverable": assignment.name, **row})
        write(Path(self.to or "grades.csv"), table.getvalue().encode())


def last_words(result: dict[str, Any]) -> str:
    """Of what nbgrader logged, the line that says what went wrong."""
    lines = [line.strip() for line in (result.get("log") or "").splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    errors = [line for line in lines if "ERROR" in line]
    return (raised or errors or lines or ["it does not say why."])[-1]


def _parse_name(entry: Path) -> tuple[Deliverable, str]:
    """The deliverable and the student that a hand-in's name tells."""
    stem = entry.stem if entry.suffix in (".zip", ".ipynb") else entry.name
    name, _, student = stem.partition("-")
    try:
        deliverable = deliverables.get(name)
    except KeyError as error:
        raise IntakeError("Its name is not <deliverable>-<student>.") from error
    if not _STUDENT.fullmatch(student):
        raise IntakeError(
            "The student in its name must be letters, digits and . _ - @ +, without spaces."
        )
    if entry.is_symlink():
        raise IntakeError(f"{entry.name} is a link.")
    if not entry.is_dir() and entry.suffix not in (".zip", ".ipynb"):
        raise IntakeError(f"{entry.name} is neither a zip, nor a notebook, nor a folder.")
    return deliverable, student


def _store(entry: Path, deliverable: Deliverable, folder: Path) -> bool:
    """Put the files of a hand-in that count into ``folder``; whether that changed anything."""
    handin = read_handin(entry, deliverable)
    files = {f"checkpoints/{name}": data for name, data in wanted_files(entry, deliverable).items()}
    name = f"{deliverable.id}.ipynb"
    files[name] = _for_nbgrader(files.pop("checkpoints/notebook"), handin)
    there = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    there.pop("timestamp.txt", None)  # nbgrader's: put there by hand
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


def _for_nbgrader(data: bytes, handin: HandIn) -> bytes:
    """A notebook's bytes as handed in, or a clean copy where nbgrader would not read them."""
    try:
        with quietly():
            nbformat.validate(nbformat.reads(data.decode(), as_version=4))
    except Exception:  # a byte order mark, a cell without metadata: many kinds
        make = {True: nbformat.v4.new_code_cell, False: nbformat.v4.new_markdown_cell}
        notebook = nbformat.v4.new_notebook(
            cells=[
                make[cell.cell_type == "code"](cell.source, id=f"cell-{number}")
                for number, cell in enumerate(handin.cells)
            ]
        )
        return str(nbformat.writes(notebook)).encode()
    return data


def _submissions(gradebook: Gradebook, name: str) -> dict[str, SubmittedNotebook]:
    """What the database has of a deliverable, by student."""
    try:
        notebooks = gradebook.notebook_submissions(name, name)
    except MissingEntry:
        return {}
    return {notebook.student.id: notebook for notebook in notebooks}


def _marked_notebook(course: Path, name: str, student: str) -> Path:
    return course / "autograded" / student / name / f"{name}.ipynb"


def _is_recorded(course: Path, deliverable: Deliverable, student: str) -> bool:
    """Whether nbgrader has the present result of the present submission."""
    result = current_result(course, deliverable.id, student)
    try:
        marked = nbformat.read(_marked_notebook(course, deliverable.id, student), as_version=4)
    except OSError:
        return False
    return result is not None and marked.metadata.get("latent_lab") == stamp(result)


def _is_missing(grade: Any) -> bool:
    return grade.auto_score is None and grade.manual_score is None


def _row(submission: SubmittedNotebook | None, result: Judgement | None) -> dict[str, Any]:
    """The columns of one student and deliverable that are not their names."""
    if submission is None:
        status = result.status if result is not None else Outcome.MISSING
        # A result that is not in the database is not a mark yet.
        return {"status": status if status in _NO_MARK else "unrecorded"}
    checks = [grade for grade in submission.grades if grade.cell.cell_type == "code"]
    written = [grade for grade in submission.grades if grade.cell.cell_type == "markdown"]
    no_mark = result is not None and result.status is Outcome.UNREADABLE
    sums = [None if no_mark else _sum(grades) for grades in (checks, written)]
    penalty = submission.late_submission_penalty or 0.0
    whole = None if None in sums else max(0.0, sum(s for s in sums if s is not None) - penalty)
    return {
        "checks_score": sums[0],
        "checks_max": sum(grade.max_score for grade in checks),
        "written_score": sums[1],
        "written_max": sum(grade.max_score for grade in written),
        "late_penalty": penalty,
        "score": whole,
        "max_score": submission.max_score,
        "status": result.status if result is not None else "",
        "needs_manual_grade": submission.needs_manual_grade,
    }


def _sum(grades: Iterable[Any]) -> float | None:
    """The sum of marks; None if one is missing."""
    grades = list(grades)
    if any(map(_is_missing, grades)):
        return None
    return sum((grade.score for grade in grades), 0.0)
