"""The code of a solution cell as a syntax tree, and what rewrites do with it."""

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

Function = ast.FunctionDef


@dataclass
class Code:
    """A solution cell's code, which a rewrite changes in place.

    Attributes:
        tree: the cell.
        signatures: the parameters of the notebook's own functions and classes, by name.
        before: statements for an extra cell, which the student inserted before this one.
    """

    tree: ast.Module
    signatures: Mapping[str, Sequence[str]]
    before: list[ast.stmt] = field(default_factory=list)

    def functions(self) -> Iterator[Function]:
        """All functions and methods, without those inside of functions."""
        for node in self.tree.body:
            if isinstance(node, Function):
                yield node
        for owner in self.classes():
            yield from methods(owner)

    def classes(self) -> Iterator[ast.ClassDef]:
        """The classes of the cell."""
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef))

    def constructors(self) -> Iterator[tuple[ast.ClassDef, Function]]:
        """The classes that have an ``__init__`` of their own, with it."""
        for owner in self.classes():
            for method in methods(owner):
                if method.name == "__init__":
                    yield owner, method

    def trainings(self) -> Iterator[Function]:
        """The functions that train for one epoch."""
        return (f for f in self.functions() if {"model", "optimizer"} <= set(parameters(f)))

    def on_top(self, source: str) -> None:
        """Put statements at the beginning of the cell, such as imports."""
        self.tree.body[:0] = statements(source)


#: Changes a cell in place; False where it does not apply.
Rewrite = Callable[[Code], bool]


def methods(owner: ast.ClassDef) -> Iterator[Function]:
    """The methods of a class."""
    return (node for node in owner.body if isinstance(node, Function))


def parameters(function: Function) -> list[str]:
    """The names of a function's parameters."""
    return [arg.arg for arg in function.args.args]


def statements(source: str) -> list[ast.stmt]:
    """The statements of a piece of code."""
    return ast.parse(source).body


def expression(source: str) -> ast.expr:
    """The expression that a text is."""
    return ast.parse(source, mode="eval").body


def text(node: ast.AST) -> str:
    """The text of a node, by which it is compared with others."""
    return ast.unparse(node)


def calls(node: ast.AST, *names: str) -> list[ast.Call]:
    """The calls of functions of some dotted names, such as ``nn.Linear``."""
    return [n for n in ast.walk(node) if isinstance(n, ast.Call) and text(n.func) in names]


def names_in(*nodes: ast.AST) -> set[str]:
    """The names that are used in some nodes."""
    return {n.id for node in nodes for n in ast.walk(node) if isinstance(n, ast.Name)}


def after_docstring(function: Function) -> int:
    """Where a function's statements begin, after its docstring."""
    return int(ast.get_docstring(function) is not None)


def after_super(function: Function) -> int:
    """The place after a constructor's ``super().__init__(...)``."""
    for number, statement in enumerate(function.body):
        if isinstance(statement, ast.Expr) and text(statement).startswith("super("):
            return number + 1
    return after_docstring(function)


def replace(tree: ast.AST, change: Callable[[ast.AST], ast.AST | list[ast.stmt] | None]) -> bool:
    """Replace each node for which ``change`` gives another; return whether there was one.

    Inner nodes come first. A statement may be replaced by several.
    """

    class Replacer(ast.NodeTransformer):
        changed = False

        def visit(self, node: ast.AST) -> ast.AST:
            self.generic_visit(node)
            other = change(node)
            if other is None:
                return node
            self.changed = True
            return other  # type: ignore[return-value] # ast accepts lists of statements

    replacer = Replacer()
    replacer.visit(tree)
    return replacer.changed
