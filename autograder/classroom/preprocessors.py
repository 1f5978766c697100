"""Preprocessors that nbgrader runs instead of its own: repair, judge, save, withhold.

``nbgrader autograde``, the formgrader's button and ``autograder grade`` all use them.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bleach
import nbformat
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.converters.base import NbGraderException
from nbgrader.preprocessors import NbGraderPreprocessor, SaveAutoGrades
from traitlets import Bool

from autograder.classroom.gradebook import missing_marks, stamp
from autograder.classroom.pool import judge_student
from autograder.classroom.report import verdict_html
from autograder.judging import OWN, Judgement, Master, load_master, place, untouched
from autograder.release import released_notebook

_PICTURES = ("image/png", "image/jpeg", "image/gif")
_MAX_PICTURE = 5_000_000
_TAGS = frozenset(
    {"a", "abbr", "b", "blockquote", "br", "code", "dd", "del", "details", "div", "dl", "dt", "em"}
    | {"h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "s"}
    | {"span", "strong", "sub", "summary", "sup", "table", "tbody", "td", "th", "thead", "tr", "ul"}
)

Resources = dict[str, Any]


class Repair(NbGraderPreprocessor):
    """Restores the released layout of a submitted notebook.

    Whatever an editor or a student did to it, nbgrader then finds each of its cells exactly once,
    with its metadata. Cells that the student added stay where they were.
    """

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Rebuild the notebook; see :func:`rebuild`."""
        return rebuild(nb, load_master(resources["nbgrader"]["assignment"])), resources


class Judge(NbGraderPreprocessor):
    """Writes the judge's verdict into each check cell, instead of executing the notebook.

    The verdict is taken from the result file if it is up to date; otherwise the submission is
    judged now, which takes a while. If the grader failed, the cell gets no output.
    """

    retry = Bool(True, help="Whether to judge again if the grader failed.").tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Write the verdicts.

        Raises:
            ValueError: if a mark is not between 0 and the cell's points.
        """
        about = resources["nbgrader"]
        # The parent of this preprocessor is an exporter, whose parent is nbgrader's Autograde.
        course = Path(self.parent.parent.coursedir.root)
        judgement = judge_student(course, about["assignment"], about["student"], retry=self.retry)
        for cell in nb.cells:
            if _is_check(cell):
                cell.outputs = _verdict(judgement, cell.metadata.nbgrader)
        nb.metadata["latent_lab"] = stamp(judgement)
        return nb, resources


class Save(SaveAutoGrades):
    """Saves the marks; a check cell without a verdict has none (nbgrader would give all points)."""

    def _add_score(self, cell: NotebookNode, resources: Resources) -> None:
        if not _is_check(cell) or any(o.output_type == "execute_result" for o in cell.outputs):
            super()._add_score(cell, resources)
            return
        about = self.notebook_id, self.assignment_id, self.student_id
        grade = self.gradebook.find_grade(cell.metadata.nbgrader.grade_id, *about)
        grade.auto_score = None
        grade.needs_manual_grade = True
        self.gradebook.db.commit()


class Withhold(NbGraderPreprocessor):
    """Refuses to write feedback while a mark is missing, since the page would show it as 0.0."""

    def preprocess(self, nb: NotebookNode, resources: Resources) -> tuple[NotebookNode, Resources]:
        """Leave the notebook unchanged.

        Raises:
            NbGraderException: if a mark is missing.
        """
        about = resources["nbgrader"]
        with Gradebook(about["db_url"]) as gradebook:
            submission = gradebook.find_submission_notebook(
                about["notebook"], about["assignment"], about["student"]
            )
            if missing := missing_marks(submission):
                raise NbGraderException(f"No mark yet for {', '.join(missing)}.")
        return nb, resources


def rebuild(notebook: NotebookNode, master: Master) -> NotebookNode:
    """The released notebook with a student's solutions, answers and added cells.

    An answer in a new cell below its question is moved into the question's cell. Of the outputs,
    only pictures are kept: a grader needs them to mark answers about figures.
    """
    released = released_notebook(master)
    nodes = dict(zip((cell.name for cell in master.cells), released.cells, strict=True))
    cells: list[NotebookNode] = []
    unanswered: NotebookNode | None = None
    for number, placed in enumerate(place(notebook.cells, master)):
        if placed.cell is not None:
            node = nodes[placed.cell.name]
            answered = placed.source.strip() and not untouched(placed.cell, placed.source)
            if placed.cell.kind in OWN and answered:
                node.source = placed.source
            unanswered = node if placed.cell.kind == "written" and not answered else None
            cells.append(node)
        elif unanswered is not None and not placed.is_code:
            node = unanswered
            node.source += f"\n\n{placed.source}"
        else:
            new = nbformat.v4.new_code_cell if placed.is_code else nbformat.v4.new_markdown_cell
            node = new(placed.source, id=f"own-{number}")
            cells.append(node)
        if node.cell_type == "code":
            node.outputs = _pictures(placed.submitted)
        elif attachments := _attachments(placed.submitted):
            node.attachments = {**node.get("attachments", {}), **attachments}
    released.cells = cells
    return released


@pass_context
def safe_markdown(context: Context, source: str) -> str:
    """Render Markdown to HTML without scripts and without anything fetched from elsewhere.

    It replaces nbconvert's ``markdown2html``, which passes on a student's HTML unchanged.
    """
    attachments = context.get("cell", {}).get("attachments", {})
    renderer = IPythonRenderer(escape=False, attachments=attachments, exclude_anchor_links=True)
    cleaned: str = bleach.clean(
        MarkdownWithMath(renderer=renderer).render(source),
        tags=_TAGS,
        attributes=_is_harmless,
        protocols=["http", "https", "mailto", "data"],
    )
    return cleaned


def _is_harmless(tag: str, name: str, value: str) -> bool:
    """Whether an HTML attribute may be kept."""
    if tag == "img" and name == "src":
        return value.startswith(tuple(f"data:{kind};base64," for kind in _PICTURES))
    if tag == "a" and name == "href":
        return value.lower().startswith(("http://", "https://", "mailto:", "#"))
    return name in ("alt", "title", "colspan", "rowspan")


def _is_check(cell: NotebookNode) -> bool:
    return bool(utils.is_grade(cell)) and not utils.is_solution(cell)


def _verdict(judgement: Judgement, about: NotebookNode) -> list[NotebookNode]:
    """The output of a check cell: the points, for nbgrader, and a table, for people."""
    points = judgement.points(about.grade_id)
    if points is None:
        return []
    if not (math.isfinite(points) and 0 <= points <= about.points + 1e-9):
        raise ValueError(
            f"The check {about.grade_id!r} has {points} of {about.points} points. If its points "
            "were changed since it was released, release it again."
        )
    checks = [check for check in judgement.checks if check.cell == about.grade_id]
    data = {"text/plain": str(min(points, about.points)), "text/html": verdict_html(checks)}
    return [nbformat.v4.new_output("execute_result", data, execution_count=None)]


def _pictures(nodes: Sequence[NotebookNode]) -> list[NotebookNode]:
    """The pictures among the outputs of submitted cells."""
    shown = [output.get("data", {}) for node in nodes for output in node.get("outputs", [])]
    return [
        nbformat.v4.new_output("display_data", {"image/png": data["image/png"].strip()})
        for data in shown
        if _is_picture(data.get("image/png"))
    ]


def _attachments(nodes: Sequence[NotebookNode]) -> dict[str, dict[str, str]]:
    """The pictures that were pasted into submitted cells."""
    kept = {}
    for node in nodes:
        for name, bundle in node.get("attachments", {}).items():
            if pictures := {k: v for k, v in bundle.items() if k in _PICTURES and _is_picture(v)}:
                kept[name] = pictures
    return kept


def _is_picture(data: Any) -> bool:
    """Whether this is nothing but base64, since it is written into a page's source."""
    if not isinstance(data, str) or len(data) > _MAX_PICTURE:
        return False
    try:
        base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        return False
    return True
