"""Matches submitted cells to the master's, whatever an editor did to the notebook.

Colab and Kaggle drop metadata; students delete, duplicate, move and split cells. A cell is
recognised by its visible marker, or else by nbgrader's id, or else by its text. Recognised cells
are put back into the master's order, and locked ones get the master's text. Each cell that the
student added stays after the recognised cell that it followed.
"""

import ast
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbformat import NotebookNode

from autograder.judging.master import MARKER, Cell, Master

#: The kinds of cells whose text is the student's.
OWN = ("solution", "written")
_STUB = re.compile(r"^[ \t]*(# YOUR CODE HERE|raise NotImplementedError\(\)|YOUR ANSWER HERE)\s*$")


@dataclass(frozen=True)
class Placed:
    """One cell at its place in the master's order.

    Attributes:
        cell: the master's cell, or None for one that the student added.
        source: for solutions, answers and added cells the student's text, which is empty if the
            cell was deleted; for all others the master's.
        is_code: whether it is a code cell.
        submitted: the submitted cells from which it was made.
    """

    cell: Cell | None
    source: str
    is_code: bool
    submitted: tuple[NotebookNode, ...] = ()


def place(submitted: Sequence[NotebookNode], master: Master) -> list[Placed]:
    """Put the submitted cells into the master's order."""
    found: dict[str, list[NotebookNode]] = {cell.name: [] for cell in master.cells}
    extras: dict[str, list[NotebookNode]] = {"": [], **{cell.name: [] for cell in master.cells}}
    anchor = ""
    for node in submitted:
        cell = identify(node, master)
        if cell is not None:
            anchor = cell.name
            found[anchor].append(node)
        elif node.source.strip():
            extras[anchor].append(node)
    placed = [_extra(node) for node in extras[""]]
    for cell in master.cells:
        own = cell.kind in OWN
        source = _student_text(cell, found[cell.name]) if own else cell.source
        placed.append(Placed(cell, source, cell.is_code, tuple(found[cell.name])))
        placed += [_extra(node) for node in extras[cell.name]]
    return placed


def untouched(cell: Cell, source: str) -> bool:
    """Whether a solution or answer is unchanged since the release."""
    return _bare(source) == _bare(cell.starter)


def foreign_imports(sources: Iterable[str], allowed: frozenset[str]) -> list[str]:
    """The imported top-level modules that are not ``allowed``, in alphabetical order."""
    imported: set[str] = set()
    for source in sources:
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            tree = ast.parse("\n".join(lines))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                imported.add(node.module.partition(".")[0])
    return sorted(imported - allowed)


def identify(node: NotebookNode, master: Master) -> Cell | None:
    """The cell of the master that a submitted cell is, or None."""
    known = {cell.name: cell for cell in master.cells}
    is_code = node.cell_type == "code"
    match = MARKER.match(node.source.lstrip().partition("\n")[0])
    if match and match[2] in known:
        return known[match[2]]
    metadata = node.metadata.get("nbgrader")
    name = metadata.get("grade_id") if isinstance(metadata, dict) else None
    if isinstance(name, str) and name in known and known[name].is_code == is_code:
        return known[name]
    text = _bare(node.source)
    for cell in master.cells:
        if cell.is_code == is_code and text and text == _bare(cell.starter):
            return cell
        # An answer written below its question, without the marker.
        if cell.kind == "written" and not is_code and text.startswith(_bare(cell.starter)):
            return cell
    return None


def _student_text(cell: Cell, nodes: Sequence[NotebookNode]) -> str:
    """The student's text of a cell, which may have been split or duplicated."""
    touched = [node.source for node in nodes if not untouched(cell, node.source)]
    return "\n\n".join(touched or [node.source for node in nodes[:1]])


def _extra(node: NotebookNode) -> Placed:
    return Placed(None, node.source, node.cell_type == "code", (node,))


def _bare(source: str) -> str:
    """A cell's text without markers, stubs and white space, for comparison."""
    lines = [line for line in source.splitlines() if not (MARKER.match(line) or _STUB.match(line))]
    return "".join("".join(lines).split())
