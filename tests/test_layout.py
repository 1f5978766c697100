"""The borders between packages, and one meaning for each name. CONTRIBUTING.md draws the layers."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from autograder import ROOT
from autograder.judging import load_master
from helpers.deliverables import DELIVERABLES

#: Each room imports only from those in earlier rows of its house.
LAYERS = {
    "helpers": [
        {"deliverables", "budget"},
        {"training"},
        {"data"},
        {"models", "plotting"},
        {"checking"},
        {"checks"},
        {"notebook", "genpic"},
    ],
    "autograder": [
        {"course", "sandbox", "unchanged"},
        {"judging"},
        {"release"},
        {"classroom"},
        {"rubric"},
        {"terminal"},
        {"demo"},
        {"cli"},
        {"conftest"},
    ],
}
FILES = [file for house in LAYERS for file in (ROOT / house).rglob("*.py")]
#: Checks are many modules side by side, and a sandboxed process speaks the protocol of ``inside``.
OPEN = ("helpers.checks", "autograder.sandbox.inside")


def name_of(file: Path) -> str:
    """A file's module, such as ``helpers.data.mnist``."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(code: str) -> Iterator[str]:
    """The modules of ours that some code imports, wherever in it."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            # ``from autograder import sandbox`` imports the package sandbox.
            within = [f"{node.module}.{alias.name}" for alias in node.names]
            names = within if node.module in LAYERS else [node.module or ""]
        else:
            continue
        yield from (name for name in names if name.partition(".")[0] in LAYERS)


def place(module: str) -> tuple[int, int]:
    """House and layer of a module; what a house itself gives out comes before all its layers."""
    house, _, rest = module.partition(".")
    room = rest.partition(".")[0]
    layer = next((n for n, rooms in enumerate(LAYERS[house]) if room in rooms), -1)
    return list(LAYERS).index(house), layer


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_point_downwards(file: Path) -> None:
    module = name_of(file)
    for other in imported(file.read_text(encoding="utf-8")):
        assert room(other) == room(module) or place(other) < place(module), other
        if room(other) != room(module) and not other.startswith(OPEN):
            assert other.count(".") <= 1, f"{other} is inside another package: import from that."


def test_every_room_has_its_layer() -> None:
    for house, layers in LAYERS.items():
        rooms = {path.stem for path in (ROOT / house).iterdir() if path.name[0] not in "._"}
        rooms -= {"py"}  # py.typed
        assert rooms == set().union(*layers)


def test_what_is_in_the_sandbox_needs_nothing_else_of_the_grader() -> None:
    for file in (ROOT / "autograder" / "sandbox" / "inside").glob("*.py"):
        assert not [m for m in imported(file.read_text()) if m.startswith("autograder")]


@pytest.mark.parametrize("name", DELIVERABLES)
def test_notebooks_import_packages(name: str) -> None:
    for cell in load_master(name).cells:
        if cell.is_code and cell.kind != "handin":
            code = "\n".join(line for line in cell.source.splitlines() if line[:1] not in "%!")
            for module in imported(code):
                assert module.startswith("helpers.")
                assert module.count(".") == 1


def public_names() -> Iterator[tuple[str, str]]:
    """Classes and functions of modules, with where they are."""
    for file in FILES:
        module = name_of(file)
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_":
                yield node.name, module


def test_a_public_name_is_defined_once() -> None:
    """But for the checks of different deliverables, which are parallel, and for commands.

    The command line's functions are its commands, and ``main`` is what a program calls. ``check``
    is what a notebook calls to run the checks, and what marks a function as one.
    """
    parallel = set(DELIVERABLES)
    names = [
        name
        for name, module in public_names()
        if parallel.isdisjoint(module.split(".")) and module != "autograder.cli"
    ]
    allowed = {"main", "check"}
    assert {name for name, count in Counter(names).items() if count > 1} <= allowed
