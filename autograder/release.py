"""From a master to what students get: nbgrader's source, the released notebook, the student kit.

The same master gives the same bytes: ids come from the cells' names, and nothing that an editor
or a clock adds is kept. ``notebooks/`` is committed, so that GitHub, Colab and Kaggle can open it.
"""

from __future__ import annotations

import json
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import ClearSolutions

from autograder.gradebook import ROOT, last_words, load_config, open_course
from autograder.master import Cell, Master, load_master
from helpers import deliverables

NOTEBOOKS = ROOT / "notebooks"
KIT_NAME = "latent-lab-kit.zip"

_LOCKED = {"grade": False, "solution": False, "locked": True}
#: What nbgrader is told of each kind of cell; of prose and the hand-in cell, nothing.
_GRADING: dict[str, dict[str, bool]] = {
    "given": _LOCKED,
    "train": _LOCKED,
    "figure": _LOCKED,
    "solution": {"grade": False, "solution": True, "locked": False},
    "check": {"grade": True, "solution": False, "locked": True},
    "written": {"grade": True, "solution": True, "locked": False},
}
_BEGIN, _END = "### BEGIN SOLUTION", "### END SOLUTION"

_KIT_README = """\
# Latent Lab

Autoencoders and variational autoencoders in PyTorch: the notebooks, and the helpers they import.

1. Unpack this zip.
2. In the unpacked folder, run `python -m pip install ".[lab]"`.
3. Run `jupyter lab` and open a notebook in `notebooks/`.

Each notebook tells what to do, checks your work as you go, and builds the zip to hand in.
"""


class ReleaseError(Exception):
    """A deliverable cannot be released; one sentence says why."""


def source_notebook(master: Master, kit_url: str | None = None) -> NotebookNode:
    """nbgrader's source notebook, solutions included.

    Args:
        master: the deliverable's master.
        kit_url: where the setup cell fetches the kit, if not at the course's usual address.

    Raises:
        ReleaseError: if a solution cell has no solution region: nbgrader would wipe it whole.
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
    """The notebook as students get it, but for checksums: solutions are cut out."""
    clear = ClearSolutions(config=load_config())
    notebook: NotebookNode = clear.preprocess(source_notebook(master), {})[0]
    return notebook


def release(
    deliverable_id: str, course: Path, notebooks: Path = NOTEBOOKS, kit_url: str | None = None
) -> Path:
    """Release a deliverable with nbgrader, and copy what it made to ``notebooks/<id>/<id>.ipynb``.

    Raises:
        ReleaseError: if nbgrader refuses. What was released before stays as it was.
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


def student_kit(path: Path, notebooks: Path = NOTEBOOKS) -> Path:
    """Write what a student needs without git: helpers, data sets and released notebooks.

    Args:
        path: the zip's path, or a folder to put ``latent-lab-kit.zip`` in.
        notebooks: the folder of the released notebooks.

    Returns:
        The zip's path. The same contents give the same bytes.
    """
    path = path / KIT_NAME if path.is_dir() else path
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in sorted(_kit_files(notebooks)):
            info = zipfile.ZipInfo(name)  # without a date: 1 January 1980
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
    return path


def _node(cell: Cell, kit_url: str) -> NotebookNode:
    """One cell for nbgrader."""
    source = cell.source.replace(deliverables.KIT_URL, kit_url)
    if cell.kind == "solution" and _BEGIN not in source:
        raise ReleaseError(f"The solution cell {cell.name!r} has no {_BEGIN} region.")
    if cell.kind == "written" and _BEGIN not in source:
        source += f"\n\n{_BEGIN}\n{_END}"  # or nbgrader would wipe the question
    new = nbformat.v4.new_code_cell if cell.is_code else nbformat.v4.new_markdown_cell
    node: NotebookNode = new(source)
    node.id = cell.name if cell.kind == "prose" else f"{cell.kind}-{cell.name}"
    if cell.kind in _GRADING:
        about: dict[str, Any] = {**_GRADING[cell.kind], "grade_id": cell.name, "schema_version": 3}
        if about["grade"]:
            about["points"] = cell.points
        node.metadata["nbgrader"] = NotebookNode(about)
    return node


def _kit_files(notebooks: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the kit's files."""
    yield "README.md", _KIT_README.encode()
    yield "pyproject.toml", _kit_pyproject().encode()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()
    helpers = ROOT / "helpers"
    for file in helpers.rglob("*"):
        parts = file.relative_to(helpers).parts
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        if file.is_file() and not file.is_symlink() and not hidden and file.suffix != ".pyc":
            yield "/".join(["helpers", *parts]), file.read_bytes()
    for name in deliverables.DELIVERABLES:
        file = notebooks / name / f"{name}.ipynb"
        if file.is_file():
            yield f"notebooks/{name}/{name}.ipynb", file.read_bytes()


def _kit_pyproject() -> str:
    """A pyproject.toml for the helpers alone, with the dependencies of this repository's."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        ours = tomllib.load(file)
    project, data = ours["project"], ours["tool"]["setuptools"]["package-data"]["helpers"]
    tables = {
        "build-system": ours["build-system"],
        "project": {
            key: project[key]
            for key in ("name", "version", "description", "license", "license-files")
        }
        | {"readme": "README.md", "requires-python": project["requires-python"]}
        | {"dependencies": project["dependencies"]},
        "project.optional-dependencies": {"lab": project["optional-dependencies"]["lab"]},
        "tool.setuptools.packages.find": {"include": ["helpers*"]},
        "tool.setuptools.package-data": {"helpers": data},
    }
    # Strings and lists of strings are written alike in JSON and in TOML.
    return "\n".join(
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in rows.items())
        for table, rows in tables.items()
    )
