"""A master: the one percent-format file that holds all of a deliverable.

Cells carry one marker, ``solution="name"`` for instance, which says what kind of cell it is and
names it. Everything else (the student's notebook, the order in which the judge runs cells, the
points of a cell) is derived from here.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path

import jupytext

from helpers import deliverables
from helpers.check import load_checks

SOLUTIONS = Path(__file__).parent.parent / "solutions"

#: What each marker makes of a cell, and the words that stay visible in it: Colab and Kaggle drop
#: metadata, so the first line of a cell must be enough to know it.
KINDS = {
    "given": "Given",  # code that the notebook needs, locked
    "solution": "Your code",  # the student's, with solution regions
    "check": "Check",  # runs the checks of one name, locked
    "train": "Training",  # the training line, locked
    "figure": "Figure",  # shows results, locked; the judge does not run it
    "written": "Your answer",  # a question, graded by hand
    "handin": "Hand-in",  # builds the zip
}
MARKER = re.compile(rf"^(?:#|<!--) ({'|'.join(KINDS.values())}): ([a-z0-9_]+)(?: -->)?\s*$")

#: Cells that several deliverables have, such as the setup: ``common="setup"``. Python files are
#: code (given cells, unless another marker stands beside), Markdown files prose.
COMMON = SOLUTIONS / "common"

_REGION = re.compile(r"^[ \t]*### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.M | re.S)
_FACT = re.compile(r"\{\{ *(\w+) *\}\}")


class MasterError(Exception):
    """A master is not as it should be; the text says where."""


@dataclass(frozen=True)
class Cell:
    """One cell of a master.

    Attributes:
        kind: a key of :data:`KINDS`, or "prose".
        name: its marker's name, unique in the notebook; for prose a number.
        source: with the visible marker as its first line, solution included.
        is_code: whether it is a code cell.
        points: what it is worth.
        defines: the global names that its code gives a value.
    """

    kind: str
    name: str
    source: str
    is_code: bool
    points: float = 0.0
    defines: frozenset[str] = frozenset()

    @property
    def starter(self) -> str:
        """The source without its solution regions, as far as telling cells apart needs it."""
        return _REGION.sub("", self.source)


@dataclass(frozen=True)
class Master:
    """A deliverable's master, read and checked."""

    deliverable: deliverables.Deliverable
    cells: tuple[Cell, ...]

    def cell(self, name: str) -> Cell:
        """The cell called ``name``."""
        return next(cell for cell in self.cells if cell.name == name)

    @property
    def max_score(self) -> float:
        """Points of the checks; written answers are marked by hand."""
        return sum(cell.points for cell in self.cells if cell.kind == "check")


@cache
def load_master(deliverable_id: str) -> Master:
    """Read ``solutions/<id>.py``.

    Raises:
        MasterError: if it is missing, or has an unknown or doubled marker, or its check cells are
            not those that its checks belong to.
    """
    deliverable = deliverables.get(deliverable_id)
    path = SOLUTIONS / f"{deliverable.id}.py"
    if not path.is_file():
        raise MasterError(f"There is no master {path}.")
    return parse_master(path.read_text(encoding="utf-8"), deliverable)


def parse_master(text: str, deliverable: deliverables.Deliverable) -> Master:
    """Read a master from its text; see :func:`load_master`."""
    notebook = jupytext.reads(text, fmt="py:percent")
    points: dict[str, float] = {}
    for check in load_checks(deliverable.id, hidden=True):
        points[check.cell] = points.get(check.cell, 0.0) + check.points
    cells = [_cell(n, raw, deliverable, points) for n, raw in enumerate(notebook.cells)]
    names = [cell.name for cell in cells]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise MasterError(f"{deliverable.id}: more than one cell is called {sorted(doubled)}.")
    if missing := points.keys() - {cell.name for cell in cells if cell.kind == "check"}:
        raise MasterError(f"{deliverable.id}: no check cell runs the checks {sorted(missing)}.")
    return Master(deliverable, tuple(cells))


def _cell(
    number: int,
    raw: jupytext.cell_metadata.NotebookNode,
    deliverable: deliverables.Deliverable,
    points: dict[str, float],
) -> Cell:
    """One cell from jupytext's."""
    where = f"{deliverable.id}, cell {number + 1}"
    markers = {key: value for key, value in raw.metadata.items() if key != "lines_to_next_cell"}
    worth = float(markers.pop("points", 0))
    is_code, source = raw.cell_type == "code", raw.source
    if common := markers.pop("common", None):
        file = COMMON / f"{common}.{'py' if is_code else 'md'}"
        source = file.read_text(encoding="utf-8").strip()
        source = source.replace("{{ kit_url }}", deliverables.KIT_URL)
        if is_code and not markers:
            markers["given"] = common
    if not markers:
        if is_code:
            raise MasterError(f"{where}: a code cell needs a marker ({', '.join(KINDS)}).")
        return Cell("prose", f"prose_{number + 1}", _facts(source, deliverable, where), False)
    if len(markers) != 1 or not markers.keys() <= KINDS.keys():
        raise MasterError(f"{where}: expected one marker of {list(KINDS)}, found {list(markers)}.")
    kind, name = next(iter(markers.items()))
    if not (isinstance(name, str) and re.fullmatch("[a-z0-9_]+", name)):
        raise MasterError(f"{where}: {kind} needs a name of a-z, 0-9 and _, not {name!r}.")
    if (kind == "written") == is_code:
        raise MasterError(f"{where}: written answers are markdown cells, all else is code.")
    if kind == "check":
        if name not in points:
            raise MasterError(f"{where}: there are no checks called {name!r}.")
        worth = points[name]
    mark = f"# {KINDS[kind]}: {name}" if is_code else f"<!-- {KINDS[kind]}: {name} -->"
    if not is_code:
        source = _facts(source, deliverable, where)
    defines = _defines(source) if is_code else frozenset()
    return Cell(kind, name, f"{mark}\n{source}", is_code, worth, defines)


def _facts(source: str, deliverable: deliverables.Deliverable, where: str) -> str:
    """Fill in ``{{ name }}`` from the deliverable's record; whole numbers get thousands commas."""
    facts = {field.name: getattr(deliverable, field.name) for field in fields(deliverable)}
    facts |= deliverable.facts

    def fill(match: re.Match[str]) -> str:
        if match[1] not in facts:
            raise MasterError(f"{where}: the deliverable has no fact {match[1]!r}.")
        value = facts[match[1]]
        if isinstance(value, int | float):
            return f"{value:,}" if isinstance(value, int) else f"{value:g}"
        return str(value)

    return _FACT.sub(fill, source)


def _defines(source: str) -> frozenset[str]:
    """The global names that a cell's code gives a value."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            names |= {
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return frozenset(names)
