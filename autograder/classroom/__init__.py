"""Grades a class with nbgrader's gradebook.

- ``grading`` grades a class from start to end, with the modules below;
- ``collecting`` moves hand-ins from a folder to ``submitted/``;
- ``pool`` judges submissions on this machine, ``cluster`` on others over Dask;
- ``store`` keeps one result file per submission, and tells when new checks change a mark;
- ``gradebook`` writes results into nbgrader's database and makes nbgrader's feedback;
- ``preprocessors`` are what nbgrader runs instead of its own: repair, judge, save;
- ``report`` writes the class page and the feedback pages, ``drawings`` computes their drawings;
- ``export`` writes the marks of the class as CSV.
"""

from autograder.classroom.cluster import ClusterError, judge_on_cluster
from autograder.classroom.export import export
from autograder.classroom.gradebook import expect_usable
from autograder.classroom.grading import ClassResults, JudgeClass, Judged, grade_class, regrade
from autograder.classroom.pool import judge_class
from autograder.classroom.report import write_reports
from autograder.classroom.store import Change, accept, changes, read_results, stale, submitted

__all__ = [
    "Change",
    "ClassResults",
    "ClusterError",
    "JudgeClass",
    "Judged",
    "accept",
    "changes",
    "expect_usable",
    "export",
    "grade_class",
    "judge_class",
    "judge_on_cluster",
    "read_results",
    "regrade",
    "stale",
    "submitted",
    "write_reports",
]
