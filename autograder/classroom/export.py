"""Writes the marks of the class as CSV."""

import csv
import io
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, SubmittedNotebook
from nbgrader.plugins import ExportPlugin

from autograder.classroom.gradebook import is_missing, submissions
from autograder.classroom.store import read_result, result_path
from autograder.course import open_course
from autograder.judging import Judgement, Outcome
from helpers.training import write_atomic

#: The outcomes without a mark.
_NO_MARK = {Outcome.UNREADABLE, Outcome.MISSING, Outcome.INFRASTRUCTURE}


def export(course: Path, path: Path) -> Path:
    """Write the marks of a class as CSV; see :class:`StatusExporter`."""
    api = open_course(course)
    exporter = StatusExporter(parent=api)
    exporter.to = str(path)
    with api.gradebook as gradebook:
        exporter.export(gradebook)
    return path


class StatusExporter(ExportPlugin):
    """CSV with one row per student and deliverable, which distinguishes no mark from zero.

    ``nbgrader export`` uses it too; see ``nbgrader_config.py``.
    """

    columns = (
        *("student", "deliverable", "checks_score", "checks_max", "written_score", "written_max"),
        *("late_penalty", "score", "max_score", "status", "needs_manual_grade"),
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
            notebooks = submissions(gradebook, assignment.name)
            students = {student.id for student in gradebook.students} | {
                path.stem for path in course.glob(f"results/{assignment.name}/[!.]*.json")
            }
            for student in sorted(students):
                if not self.student or student in map(str, self.student):
                    result = read_result(result_path(course, assignment.name, student))
                    row = _row(notebooks.get(student), result)
                    writer.writerow({"student": student, "deliverable": assignment.name, **row})
        write_atomic(Path(self.to or "grades.csv"), table.getvalue().encode())


def _row(submission: SubmittedNotebook | None, result: Judgement | None) -> dict[str, Any]:
    """The columns of one student and deliverable, except for their names."""
    if submission is None:
        status = result.status if result is not None else Outcome.MISSING
        # A result that is not in the database is not a mark yet.
        return {"status": status if status in _NO_MARK else "unrecorded"}
    checks = [grade for grade in submission.grades if grade.cell.cell_type == "code"]
    written = [grade for grade in submission.grades if grade.cell.cell_type == "markdown"]
    no_mark = result is not None and result.status is Outcome.UNREADABLE
    sums = [
        None if no_mark or any(map(is_missing, grades)) else sum((g.score for g in grades), 0.0)
        for grades in (checks, written)
    ]
    penalty = submission.late_submission_penalty or 0.0
    return {
        "checks_score": sums[0],
        "checks_max": sum(grade.max_score for grade in checks),
        "written_score": sums[1],
        "written_max": sum(grade.max_score for grade in written),
        "late_penalty": penalty,
        "score": None if None in sums else max(0.0, sum(filter(None, sums)) - penalty),
        "max_score": submission.max_score,
        "status": result.status if result is not None else "",
        "needs_manual_grade": submission.needs_manual_grade,
    }
