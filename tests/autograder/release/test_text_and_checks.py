"""docs/text_and_checks.md: each check has its sentence in the notebook, and names what exists."""

import re
from functools import cache

import pytest

from autograder import ROOT
from autograder.judging import all_checks, load_master
from autograder.release import released_notebook
from helpers.deliverables import DELIVERABLES

PAGE = ROOT / "docs" / "text_and_checks.md"
_ROW = re.compile(r'^\| "(?P<quote>.+)" \| (?P<checks>.+) \|$')
_CHECK = re.compile(r"`(\w+\.\w+)`( \(hidden\))?")

EACH = pytest.mark.parametrize("name", DELIVERABLES)


@cache
def rows(name: str) -> list[tuple[str, list[tuple[str, bool]]]]:
    """The rows of a deliverable: a sentence, and its checks with whether each is hidden."""
    section = PAGE.read_text(encoding="utf-8").split(f"## {name}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    found = []
    for line in lines:
        row = _ROW.match(line)
        assert row, f"not a row: {line}"
        checks = [(each[1], bool(each[2])) for each in _CHECK.finditer(row["checks"])]
        found.append((row["quote"].replace(r"\|", "|"), checks))
    return found


@cache
def text(name: str) -> str:
    """All that a student can read in the notebook, without line breaks and comment signs."""
    lines = "\n".join(cell.source for cell in released_notebook(load_master(name)).cells)
    return " ".join(re.sub(r"^\s*#:? ", " ", lines, flags=re.M).split())


@EACH
def test_each_quote_is_in_the_notebook(name: str) -> None:
    assert rows(name)
    for quote, _ in rows(name):
        for part in quote.split(" ... "):
            assert part in text(name), part


@EACH
def test_each_check_has_its_sentence(name: str) -> None:
    named = {check for _, checks in rows(name) for check in checks}
    existing = {(c.id.removeprefix(f"{name}."), c.hidden) for c in all_checks(name)}
    assert named == existing
