"""Makes nbgrader's source notebook from a master, and from it the notebook that students receive.

The same master always gives the same bytes: cell ids come from the cells' names, and there are no
dates. ``notebooks/`` is committed, so that GitHub, Colab and Kaggle can open the notebooks.
"""

from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearSolutions

from autograder import ROOT, UserError
from autograder.course import last_words, load_config, open_course
from autograder.judging import Cell, Master, load_master
from helpers import deliverables

NOTEBOOKS = ROOT / "notebooks"

_LOCKED = {"grade": False, "solution": False, "locked": True}
#: nbgrader's metadata for each kind of cell; prose and the hand-in cell have none.
_GRADING: dict[str, dict[str, bool]] = {
    "given": _LOCKED,
    "train": _LOCKED,
    "figure": _LOCKED,
    "solution": {"grade": False, "solution": True, "locked": False},
    "check": {"grade": True, "solution": False, "locked": True},
    "written": {"grade": True, "solution": True, "locked": False},
}
#: Given cells that nobody needs to read, by name: JupyterLab and Colab show them folded.
_FOLDED = {"setup"}
_BEGIN, _END = "### BEGIN SOLUTION", "### END SOLUTION"


class ReleaseError(UserError):
    """A deliverable cannot be released; one sentence says why."""


def source_notebook(master: Master, kit_url: str | None = None) -> NotebookNode:
    """nbgrader's source notebook, with the solutions.

    Args:
        kit_url: the address from which the setup cell fetches the kit; by default the course's.

    Raises:
        ReleaseError: if a solution cell has no solution region; nbgrader would clear all of it.
    """
    notebook: NotebookNode = nbformat.v4.new_notebook(
        cells=[_node(cell, kit_url or deliverables.KIT_URL) for cell in master.cells],
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
    )
    notebook.nbformat_minor = 5
    return notebook


def released_notebook(master: Master) -> NotebookNode:
    """The notebook that students receive, except for nbgrader's checksums."""
    clear = ClearSolutions(config=load_config())
    notebook: NotebookNode = clear.preprocess(source_notebook(master), {})[0]
    return notebook


def release(
    deliverable_id: str, course: Path, notebooks: Path = NOTEBOOKS, kit_url: str | None = None
) -> Path:
    """Release a deliverable with nbgrader, and copy the notebook to ``notebooks/<id>/<id>.ipynb``.

    Raises:
        ReleaseError: if nbgrader refuses. An earlier release stays as it was.
    """
    master = load_master(deliverable_id)
    name = master.deliverable.id
    source = course / "source" / name / f"{name}.ipynb"
    before = source.read_bytes() if source.is_file() else None
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(nbformat.writes(source_notebook(master, kit_url)) + "\n", encoding="utf-8")
    result = open_course(course).generate_assignment(name, force=True)
    if not result["success"]:
        if before is not None:
            source.write_bytes(before)
        if "there are submissions associated" in result.get("log", ""):
            raise ReleaseError(
                f"{name} has submissions in {course / 'gradebook.db'}, so cells can no longer be "
                "added, removed or renamed: undo that in the master, or start a new course folder."
            )
        raise ReleaseError(f"nbgrader cannot release {name}: {last_words(result)}")
    released = notebooks / name / f"{name}.ipynb"
    released.parent.mkdir(parents=True, exist_ok=True)
    released.write_bytes((course / "release" / name / f"{name}.ipynb").read_bytes())
    return released


def _node(cell: Cell, kit_url: str) -> NotebookNode:
    """A cell of the source notebook."""
    source = cell.source.replace(deliverables.KIT_URL, kit_url)
    if cell.kind == "solution" and _BEGIN not in source:
        raise ReleaseError(f"The solution cell {cell.name!r} has no {_BEGIN} region.")
    if cell.kind == "written" and _BEGIN not in source:
        source += f"\n\n{_BEGIN}\n{_END}"  # otherwise nbgrader clears the question too
    new = nbformat.v4.new_code_cell if cell.is_code else nbformat.v4.new_markdown_cell
    node: NotebookNode = new(source)
    node.id = cell.name if cell.kind == "prose" else f"{cell.kind}-{cell.name}"
    if cell.name in _FOLDED:
        node.metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
    if cell.kind in _GRADING:
        about: dict[str, Any] = {**_GRADING[cell.kind], "grade_id": cell.name, "schema_version": 3}
        if about["grade"]:
            about["points"] = cell.points
        node.metadata["nbgrader"] = NotebookNode(about)
    return node
