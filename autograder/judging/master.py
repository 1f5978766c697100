"""Reads masters: percent-format files that contain everything about a deliverable.

Each cell has one marker, such as ``solution="name"``, which gives the cell's kind and name. The
student's notebook, the order in which the judge runs cells, and the points are derived from these.
"""

import ast
import re
from dataclasses import dataclass, fields
from functools import cache

import jupytext
from nbformat import NotebookNode

from autograder import ROOT, UserError
from helpers import deliverables
from helpers.checking import PUBLIC, Check, load_checks

SOLUTIONS = ROOT / "solutions"
#: The checks that students do not see, a module for each deliverable.
HIDDEN = "autograder.judging.checks"

#: The kinds of cells, with the words of their visible marker. Colab and Kaggle drop metadata, so
#: the first line of a cell must be enough to recognise it.
KINDS = {
    "given": "Given",  # code that the notebook needs, locked
    "solution": "Your code",  # the student's code, with solution regions
    "check": "Check",  # runs the checks of that name, locked
    "train": "Training",  # the training line, locked
    "figure": "Figure",  # shows results, locked; the judge does not run it
    "written": "Your answer",  # a question, graded by hand
    "handin": "Hand-in",  # builds the zip
}
MARKER = re.compile(rf"^(?:#|<!--) ({'|'.join(KINDS.values())}): ([a-z0-9_]+)(?: -->)?\s*$")

#: Cells that several deliverables share, such as the setup: ``common="setup"``. Python files are
#: code (given cells, unless there is another marker too), Markdown files are prose.
COMMON = SOLUTIONS / "common"

_REGION = re.compile(r"^[ \t]*### BEGIN SOLUTION\n.*?^[ \t]*### END SOLUTION\n?", re.M | re.S)
_FACT = re.compile(r"\{\{ *(\w+) *\}\}")


class MasterError(UserError):
    """There is an error in a master; the text says where."""


@dataclass(frozen=True)
class Cell:
    """One cell of a master.

    Attributes:
        kind: a key of :data:`KINDS`, or "prose".
        name: the name in its marker, unique in the notebook; prose is numbered.
        source: its text with the solution; the first line is the visible marker.
        is_code: whether it is a code cell.
        points: the points that it is worth.
        defines: the global names that its code defines.
    """

    kind: str
    name: str
    source: str
    is_code: bool
    points: float = 0.0
    defines: frozenset[str] = frozenset()

    @property
    def starter(self) -> str:
        """The source without its solution regions: enough to tell cells apart."""
        return _REGION.sub("", self.source)


@dataclass(frozen=True)
class Master:
    """A deliverable's master, parsed and validated."""

    deliverable: deliverables.Deliverable
    cells: tuple[Cell, ...]

    @property
    def points(self) -> float:
        """The points of all cells."""
        return sum(cell.points for cell in self.cells)

    def cell(self, name: str) -> Cell:
        """The cell called ``name``."""
        return next(cell for cell in self.cells if cell.name == name)


def all_checks(deliverable_id: str) -> list[Check]:
    """The checks of a deliverable: first the public ones, then the hidden ones."""
    return load_checks(deliverable_id, (PUBLIC, HIDDEN))


@cache
def load_master(deliverable_id: str) -> Master:
    """Read ``solutions/<id>.py``.

    Raises:
        MasterError: if it is missing, if a marker is unknown or used twice, or if its check cells
            do not match its checks.
    """
    deliverable = deliverables.get(deliverable_id)
    path = SOLUTIONS / f"{deliverable.id}.py"
    if not path.is_file():
        raise MasterError(f"There is no master {path}.")
    notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    points: dict[str, float] = {}
    for check in all_checks(deliverable.id):
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
    raw: NotebookNode,
    deliverable: deliverables.Deliverable,
    points: dict[str, float],
) -> Cell:
    """Make a cell of a master from one of jupytext's."""
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
        raise MasterError(f"{where}: written answers are Markdown cells, all others are code.")
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
    """Fill in ``{{ name }}`` from the deliverable's record, with commas between thousands."""
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
    """The global names that a cell's code defines."""
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
