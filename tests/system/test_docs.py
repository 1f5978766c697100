"""The documentation: its examples run, its links lead somewhere, and no public name is missing."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from autograder import ROOT

HELPERS = (ROOT / "docs" / "helpers.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/results/*.md")]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-") for text in headings}


def test_examples_of_the_helpers_run(tmp_path: Path) -> None:
    examples = "\n".join(re.findall(r"```python\n(.*?)```", HELPERS, re.S))
    env = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "agg"}
    command = [sys.executable, "-c", examples]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["data", "training", "plotting", "models"])
def test_every_public_helper_is_documented(package: str) -> None:
    names = importlib.import_module(f"helpers.{package}").__all__
    assert [name for name in names if f"**`{name}`**" not in HELPERS] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target
