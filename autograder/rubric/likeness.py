"""Finds answers to tasks in what students get: code is compared by what it computes.

A piece of code becomes the list of its operations, in the order in which they are executed. Names,
numbers, texts, docstrings and type hints are left out, ``torch.exp(x)`` and ``x.exp()`` are the
same, and it makes no difference whether an intermediate result has a name. How much of an answer
stands in another function is the share of its runs of :data:`RUN` operations that are found there
too, as programs against plagiarism do it (Schleimer, Wilkerson & Aiken, 2003).
"""

import ast
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from autograder.judging import Master

#: Operations in a run.
RUN = 3
#: An answer that shares more of its runs with a function is said to stand in it. Answers with other
#: names, keywords and intermediate results share all with their originals, and different solutions
#: of like tasks up to 0.44.
LIMIT = 0.45
#: Runs that must be shared at least. Fewer are found by chance, and answers that have fewer, such
#: as ``mu + sigma * eps``, are too short to say where they come from.
FEWEST = 4
#: Operations that say nothing on their own.
_EVERYWHERE = {"call", "times", "Compare", "cat", "IfExp"}
#: Modules whose functions are also methods of tensors.
_MODULES = ("torch", "nn", "functional", "nn.functional", "torch.nn.functional", "F", "math", "np")
#: Operations of other names that do the same.
_SAME = {
    "reshape": "view",
    "concat": "cat",
    **dict.fromkeys(("linear", "conv2d", "conv_transpose2d", "group_norm"), "call"),
    **dict.fromkeys(("Mult", "Div", "FloorDiv"), "times"),
    **dict.fromkeys(("pow", "square"), "Pow"),
    "matmul": "MatMult",
}
#: Nodes that are operations.
_OPERATIONS = (ast.BinOp, ast.Compare, ast.IfExp, ast.If, ast.For, ast.With, ast.comprehension)


@dataclass(frozen=True)
class Piece:
    """A function, or a part of one.

    Attributes:
        name: where it stands.
        operations: what it computes.
    """

    name: str
    operations: tuple[str, ...] = field(repr=False)

    @cached_property
    def runs(self) -> Counter[tuple[str, ...]]:
        """How often it has each run of operations that says something."""
        runs = zip(*(self.operations[n:] for n in range(RUN)), strict=False)
        return Counter(run for run in runs if not _EVERYWHERE.issuperset(run))

    def share_in(self, other: "Piece") -> float:
        """The share of this piece's runs that the other has as well, from 0 to 1."""
        common = (self.runs & other.runs).total()
        return common / self.runs.total() if common >= FEWEST else 0.0


def answers(master: Master) -> Iterator[Piece]:
    """What the students have to write: the functions in a master's solution regions."""
    for cell in master.cells:
        if cell.kind != "solution":
            continue
        lines = [line.strip() for line in cell.source.splitlines()]
        begins = [n for n, line in enumerate(lines, 1) if line == "### BEGIN SOLUTION"]
        ends = [n for n, line in enumerate(lines, 1) if line == "### END SOLUTION"]
        regions = list(zip(begins, ends, strict=True))
        for name, function in _functions(ast.parse(cell.source)):
            found = [
                statement
                for statement in ast.walk(function)
                if isinstance(statement, ast.stmt) and _inside(statement, regions)
            ]
            short = master.deliverable.id.partition("_")[0]
            piece = Piece(f"{short} {name}", tuple(_operations(_outermost(found))))
            if piece.runs.total() >= FEWEST:
                yield piece


def kit_pieces(kit: Path) -> Iterator[Piece]:
    """All functions in a kit's modules and notebooks."""
    with zipfile.ZipFile(kit) as archive:
        for file in archive.namelist():
            for tree in _trees(file, archive.read(file)):
                yield from pieces(tree, file)


def pieces(tree: ast.Module, where: str) -> Iterator[Piece]:
    """The functions and methods of some code."""
    for name, function in _functions(tree):
        yield Piece(f"{where}: {name}", tuple(_operations(function.body)))


def _trees(file: str, data: bytes) -> Iterator[ast.Module]:
    """The code of a module, or of a notebook's cells."""
    if file.endswith(".py"):
        yield ast.parse(data)
    elif file.endswith(".ipynb"):
        for cell in json.loads(data)["cells"]:
            if cell["cell_type"] == "code":
                lines = "".join(cell["source"]).splitlines()
                yield ast.parse("\n".join(line for line in lines if line[:1] not in "%!"))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions and methods of some code, with the names of their classes."""
    owners = {
        id(node): f"{owner.name}.{node.name}"
        for owner in ast.walk(tree)
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, ast.FunctionDef)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield owners.get(id(node), node.name), node


def _inside(statement: ast.stmt, regions: list[tuple[int, int]]) -> bool:
    last = statement.end_lineno or statement.lineno
    return any(begin < statement.lineno and last < end for begin, end in regions)


def _outermost(found: list[ast.stmt]) -> list[ast.stmt]:
    """Statements without those inside of others among them, in the order of their lines."""
    inner = {id(n) for each in found for n in ast.walk(each) if n is not each}
    return sorted((each for each in found if id(each) not in inner), key=lambda s: s.lineno)


def _operations(nodes: Sequence[ast.AST]) -> Iterator[str]:
    """The operations of some nodes, one after the other."""
    for node in nodes:
        for operation in _of(node):
            yield _SAME.get(operation, operation)


def _of(node: ast.AST) -> Iterator[str]:
    """The operations of a node: first those that give its arguments, then its own."""
    match node:
        case ast.arguments() | ast.operator() | ast.Attribute(value=ast.Name(id="self")):
            return
        case ast.Attribute():
            yield from _operations(_owner(node))
            yield node.attr
        case ast.Call(func=ast.Attribute(attr="get")) | ast.Subscript(slice=ast.JoinedStr()):
            return  # weights from a state
        case ast.Call():
            own = isinstance(node.func, ast.Name) or ast.unparse(node.func).startswith("self.")
            function = [] if own else _owner(node.func)
            yield from _operations([*function, *node.args, *(k.value for k in node.keywords)])
            yield node.func.attr if isinstance(node.func, ast.Attribute) and not own else "call"
        case ast.AnnAssign():
            yield from _operations([node.value] if node.value else [])
        case _:
            yield from _operations(list(ast.iter_child_nodes(node)))
            if isinstance(node, _OPERATIONS):
                yield type(node.op if isinstance(node, ast.BinOp) else node).__name__


def _owner(node: ast.AST) -> list[ast.AST]:
    """The object that an attribute belongs to, unless it is a module."""
    known = isinstance(node, ast.Attribute) and ast.unparse(node.value) not in _MODULES
    return [node.value] if known and isinstance(node, ast.Attribute) else []
