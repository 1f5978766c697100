"""Notebooks that an editor or a student has turned upside down: same program, same marks."""

import copy
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from autograder import sandbox
from autograder.judging import MARKER, OWN, foreign_imports, judge, load_master, place
from autograder.release import released_notebook
from autograder.rubric import specimen

ID = "d1_autoencoder"
MASTER = load_master(ID)
UNTRAINED = frozenset({"architecture", "settings", "loss", "training"})

Edit = Callable[[NotebookNode], None]


def named(notebook: NotebookNode, name: str) -> NotebookNode:
    """The cell that was released under a name."""
    cell: NotebookNode
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == name:
            return cell
    raise KeyError(name)


def known(notebook: NotebookNode, *kinds: str) -> list[NotebookNode]:
    names = [cell.name for cell in MASTER.cells if cell.kind in kinds]
    return [named(notebook, name) for name in names]


def remove(notebook: NotebookNode, cells: list[NotebookNode]) -> None:
    notebook.cells = [cell for cell in notebook.cells if not any(cell is c for c in cells)]


def insert_after(notebook: NotebookNode, cell: NotebookNode, new: NotebookNode) -> None:
    notebook.cells.insert(next(i for i, c in enumerate(notebook.cells) if c is cell) + 1, new)


def program(notebook: NotebookNode) -> list[tuple[str, str]]:
    """What the judge would run: the names and texts of the code cells, white space apart."""
    return [
        (placed.cell.name if placed.cell else "", _text(placed.source))
        for placed in place(notebook.cells, MASTER)
        if placed.is_code
    ]


def answers(notebook: NotebookNode) -> dict[str, str]:
    """The written answers that the instructor would see."""
    return {
        placed.cell.name: _text(placed.source)
        for placed in place(notebook.cells, MASTER)
        if placed.cell is not None and placed.cell.kind == "written"
    }


def _text(source: str) -> str:
    lines = [line.rstrip() for line in source.splitlines() if not MARKER.match(line)]
    return "\n".join(line for line in lines if line)


# The edits. Each leaves what a student has done recognisable.


def metadata_lost(notebook: NotebookNode) -> None:
    """Colab and Kaggle."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()


def markers_lost(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        first, _, rest = cell.source.partition("\n")
        cell.source = rest if MARKER.match(first) else cell.source


def lines_above_markers(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.source = "\n\n" + cell.source


def checks_deleted(notebook: NotebookNode) -> None:
    remove(notebook, known(notebook, "check"))


def checks_doubled(notebook: NotebookNode) -> None:
    for cell in known(notebook, "check"):
        insert_after(notebook, cell, copy.deepcopy(cell))


def checks_moved(notebook: NotebookNode) -> None:
    checks = known(notebook, "check")
    remove(notebook, checks)
    notebook.cells = checks[::-1] + notebook.cells


def checks_edited(notebook: NotebookNode) -> None:
    for cell in known(notebook, "check"):
        cell.source = cell.source.partition("\n")[0] + "\nprint('All checks passed!')"


def given_edited(notebook: NotebookNode) -> None:
    for cell in known(notebook, "given", "train", "figure"):
        cell.source += "\nraise SystemExit"


def given_deleted(notebook: NotebookNode) -> None:
    remove(notebook, known(notebook, "given", "train", "figure"))


def prose_deleted(notebook: NotebookNode) -> None:
    remove(notebook, [cell for cell in notebook.cells if not cell.metadata.get("nbgrader")])


def starter_doubled(notebook: NotebookNode) -> None:
    """A student who has kept the released cell for reference, below their own."""
    released = released_notebook(MASTER)
    for cell in known(notebook, "solution"):
        starter = named(released, cell.metadata.nbgrader.grade_id)
        insert_after(notebook, cell, new_code_cell(starter.source, metadata=starter.metadata))


def starter_kept_above(notebook: NotebookNode) -> None:
    released = released_notebook(MASTER)
    for cell in known(notebook, "solution"):
        insert_after(notebook, cell, copy.deepcopy(cell))
        cell.source = named(released, cell.metadata.nbgrader.grade_id).source


def solution_split(notebook: NotebookNode) -> None:
    """Split at the cursor: the second half has no marker, and no metadata."""
    cell = named(notebook, "choices")
    lines = cell.source.splitlines()
    cell.source = "\n".join(lines[:3])
    insert_after(notebook, cell, new_code_cell("\n".join(lines[3:])))


def solution_split_with_metadata(notebook: NotebookNode) -> None:
    """Some editors copy the metadata to the second half."""
    cell = named(notebook, "choices")
    second = copy.deepcopy(cell)
    lines = cell.source.splitlines()
    cell.source, second.source = "\n".join(lines[:3]), "\n".join(lines[3:])
    insert_after(notebook, cell, second)


def answer_marker_lost(notebook: NotebookNode) -> None:
    for cell in known(notebook, "written"):
        cell.source = cell.source.partition("\n")[2]
        cell.metadata = NotebookNode()


def reversed_order(notebook: NotebookNode) -> None:
    notebook.cells = notebook.cells[::-1]


def shuffled(notebook: NotebookNode) -> None:
    random.Random(0).shuffle(notebook.cells)


def shuffled_without_metadata(notebook: NotebookNode) -> None:
    shuffled(notebook)
    metadata_lost(notebook)


def windows_line_ends(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.source = cell.source.replace("\n", "\r\n")


def odd_metadata(notebook: NotebookNode) -> None:
    for cell in notebook.cells:
        cell.metadata = NotebookNode(nbgrader=[cell.metadata])


SAME_PROGRAM: list[Edit] = [
    metadata_lost,
    markers_lost,
    lines_above_markers,
    checks_deleted,
    checks_doubled,
    checks_moved,
    checks_edited,
    given_edited,
    given_deleted,
    prose_deleted,
    starter_doubled,
    starter_kept_above,
    answer_marker_lost,
    reversed_order,
    shuffled,
    shuffled_without_metadata,
    windows_line_ends,
    odd_metadata,
]
#: The same program, in other cells.
SAME_CODE: list[Edit] = [solution_split, solution_split_with_metadata]


def edited(*edits: Edit) -> NotebookNode:
    notebook = specimen.solved(MASTER)
    for edit in edits:
        edit(notebook)
    return notebook


INTACT = edited()


@pytest.mark.parametrize("edit", SAME_PROGRAM, ids=lambda edit: edit.__name__)
def test_same_program(edit: Edit) -> None:
    notebook = edited(edit)
    assert program(notebook) == program(INTACT)
    assert answers(notebook) == answers(INTACT)


@pytest.mark.parametrize("edit", SAME_CODE, ids=lambda edit: edit.__name__)
def test_same_code(edit: Edit) -> None:
    def code(notebook: NotebookNode) -> str:
        return "\n".join(source for _, source in program(notebook))

    assert code(edited(edit)) == code(INTACT)
    assert code(edited(edit, checks_doubled, given_edited)) == code(INTACT)


def test_intact_notebook_is_the_master_in_order() -> None:
    assert [name for name, _ in program(INTACT)] == [c.name for c in MASTER.cells if c.is_code]


def test_locked_cells_have_the_master_s_text() -> None:
    for placed in place(edited(given_edited, checks_edited).cells, MASTER):
        if placed.cell is not None and placed.cell.kind not in OWN:
            assert placed.source == placed.cell.source


def test_extra_cells_stay_where_they_are() -> None:
    def extra(notebook: NotebookNode) -> None:
        notebook.cells.insert(0, new_code_cell("first = 1"))
        insert_after(notebook, named(notebook, "choices"), new_code_cell("hidden_dim = 300"))
        insert_after(notebook, named(notebook, "choices"), new_markdown_cell("A thought."))
        notebook.cells.append(new_code_cell("last = 1"))

    found = program(edited(extra))
    assert [step for step in found if step[0]] == program(INTACT)
    names = [name for name, _ in found]
    assert found[0] == ("", "first = 1")
    assert found[names.index("choices") + 1] == ("", "hidden_dim = 300")
    assert found[-1] == ("", "last = 1")


def test_cell_of_another_kind() -> None:
    """The key "m" makes text of a code cell, "y" code of a text: easily pressed by accident."""

    def pressed(notebook: NotebookNode) -> None:
        for cell in known(notebook, "solution", "written"):
            cell.cell_type = "markdown" if cell.cell_type == "code" else "code"

    assert program(edited(pressed)) == program(INTACT)
    assert answers(edited(pressed)) == answers(INTACT)


def test_deleted_solution_is_empty() -> None:
    def deleted(notebook: NotebookNode) -> None:
        remove(notebook, [named(notebook, "choices")])

    assert dict(program(edited(deleted)))["choices"] == ""


def test_nothing_at_all() -> None:
    assert [name for name, _ in program(NotebookNode(cells=[]))] == [
        cell.name for cell in MASTER.cells if cell.is_code
    ]


@pytest.mark.skipif(sandbox.isolation_level() < 2, reason="there is no level 2 here")
@pytest.mark.parametrize(
    "edits",
    [
        (metadata_lost, checks_deleted, starter_doubled, solution_split),
        (shuffled_without_metadata, given_edited),
    ],
    ids=["damaged", "shuffled"],
)
def test_same_marks(edits: tuple[Edit, ...], tmp_path: Path) -> None:
    # The edits find cells by their metadata, so that those that take it away come last.
    notebook = edited(*sorted(edits, key=lambda edit: "metadata" in edit.__name__))
    path = specimen.save_notebook(notebook, tmp_path, ID)
    judgement = judge(path, ID, "student", only=UNTRAINED)
    assert {c.cell: judgement.points(c.cell) for c in judgement.checks} == {
        name: MASTER.cell(name).points for name in UNTRAINED
    }


@pytest.mark.parametrize(
    ("source", "foreign"),
    [
        ("import torch, os.path\nimport pandas as pd", ["pandas"]),
        ("from sklearn.svm import SVC", ["sklearn"]),
        ("from . import x", []),
        ("%matplotlib inline\n!pip install x\nimport seaborn", ["seaborn"]),
        ("def f():\n    import jax", ["jax"]),
        ("import (", []),
        ("(" * 10_000, []),
        ("\0", []),
        ("\ud800", []),
        ("-" * 100_000 + "1", []),
    ],
    ids=range(10),
)
def test_foreign_imports(source: str, foreign: list[str]) -> None:
    assert foreign_imports([source], frozenset({"torch", "os"})) == foreign
