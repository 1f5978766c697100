"""Makes submissions from a master, for the demonstration, the tests and the benchmarks."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from autograder.judging import OWN, Master, identify
from autograder.release import released_notebook

#: Lines that are removed from the master's solutions.
_MARKS = ("### BEGIN SOLUTION", "### END SOLUTION")
#: The kinds of cells that a student runs to train a model and hand it in.
_TRAINED = ("given", "solution", "train", "handin")


def solved(
    master: Master,
    changes: Mapping[str, str] | None = None,
    inserted: Mapping[str, str] | None = None,
) -> NotebookNode:
    """The released notebook with the master's solutions filled in.

    Args:
        changes: other texts for some of the solution cells, by name.
        inserted: texts of further code cells, by the name of the cell that each stands before.
    """
    changes, inserted = changes or {}, inserted or {}
    notebook = released_notebook(master)
    nodes, notebook.cells = notebook.cells, []
    for node in nodes:
        cell = identify(node, master)
        if cell is not None and cell.name in inserted:
            notebook.cells.append(new_code_cell(inserted[cell.name]))
        notebook.cells.append(node)
        if cell is not None and cell.kind in OWN:
            # Without the marking scheme of a model answer, which is for graders.
            text = changes.get(cell.name, cell.source).partition("**Marking:**")[0]
            node.source = "\n".join(
                line for line in text.splitlines() if line.strip() not in _MARKS
            )
    return notebook


def save_notebook(notebook: NotebookNode, folder: Path, name: str) -> Path:
    """Save a notebook as ``<folder>/<name>.ipynb``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    nbformat.write(notebook, path)
    return path


def execute(path: Path, kinds: tuple[str, ...], master: Master) -> None:
    """Run a notebook's cells of the given kinds in a real kernel and in its folder.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    everything = notebook.cells
    known = [(node, identify(node, master)) for node in everything]
    notebook.cells = [node for node, cell in known if cell is not None and cell.kind in kinds]
    NotebookClient(
        notebook,
        timeout=1800,
        resources={"metadata": {"path": str(path.parent)}},
        extra_arguments=["--log-level=ERROR"],
    ).execute()
    notebook.cells = everything
    nbformat.write(notebook, path)


def reported_loss(folder: Path, name: str) -> float:
    """The last loss in the history of a training."""
    losses = json.loads((folder / "checkpoints" / f"{name}.json").read_text())["losses"]
    return float(losses[-1])


def hand_in(
    master: Master,
    student: str,
    changes: dict[str, str],
    work: Path,
    handins: Path,
    replace: Mapping[str, str] | None = None,
) -> Path:
    """Do what a student does: fill in, train, run the hand-in cell, send the zip.

    Args:
        changes: other texts for some of the solution cells, by name.
        work: the student's folder; it is returned.
        handins: the folder to which the zip is sent.
        replace: texts to replace in every cell, such as the seed.
    """
    notebook = solved(master, changes)
    for node in notebook.cells:
        for old, new in (replace or {}).items():
            node.source = node.source.replace(old, new)
        if node.source.startswith("# Hand-in:"):
            node.source = node.source.replace("your-id", student)
    execute(save_notebook(notebook, work, master.deliverable.id), _TRAINED, master)
    shutil.copy(work / f"{master.deliverable.id}-{student}.zip", handins)
    return work
