"""What students get: in step with the masters, the same bytes each time, and nothing secret."""

import dataclasses
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import nbformat
import pytest

from autograder.course import open_course, quietly
from autograder.judging import all_checks, identify, load_master
from autograder.release import notebooks, student_kit
from helpers import deliverables
from helpers.checking import load_checks

IDS = list(deliverables.DELIVERABLES)
_REGION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.S)


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all notebooks, released now."""
    folder = tmp_path_factory.mktemp("released")
    for name in IDS:
        notebooks.release(name, folder / "course", folder / "notebooks")
    return folder / "notebooks"


@pytest.fixture(scope="module")
def kit(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return student_kit(tmp_path_factory.mktemp("kit"), released)


def secrets(name: str, shortest: int = 15) -> list[str]:
    """What nobody may read in anything that students get.

    A line of a solution that is short (``optimizer.step()``), or is given elsewhere, is no secret.
    """
    master = load_master(name)
    open_text = "\n".join(cell.starter for cell in master.cells)
    regions = [region for cell in master.cells for region in _REGION.findall(cell.source)]
    lines = {line.strip() for region in regions for line in region.splitlines()}
    public = {check.id for check in load_checks(name)}
    hidden = [check for check in all_checks(name) if check.id not in public]
    return [line for line in lines if len(line) > shortest and line not in open_text] + [
        text for check in hidden for text in (check.title, check.function.__name__)
    ]


@pytest.mark.parametrize("name", IDS)
def test_notebooks_are_in_step_with_masters(name: str, released: Path) -> None:
    committed = notebooks.NOTEBOOKS / name / f"{name}.ipynb"
    same = committed.read_bytes() == (released / name / f"{name}.ipynb").read_bytes()
    assert same, f"{committed} is not what solutions/{name}.py makes: run `make release`."


@pytest.mark.parametrize("name", IDS)
def test_released_notebook_has_no_secrets(name: str, released: Path) -> None:
    notebook = nbformat.read(released / name / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert secrets(name)
    assert [secret for secret in secrets(name) if secret in text] == []
    assert "SOLUTION" not in text


@pytest.mark.parametrize("name", IDS)
def test_cells_know_what_they_are(name: str, released: Path) -> None:
    master = load_master(name)
    notebook = nbformat.read(released / name / f"{name}.ipynb", as_version=4)
    for cell, node in zip(master.cells, notebook.cells, strict=True):
        assert node.source.splitlines()[0] == cell.source.splitlines()[0]
        about = node.metadata.get("nbgrader")
        if cell.kind in ("prose", "handin"):
            assert about is None
        else:
            assert about.grade_id == cell.name
            assert about.get("points", 0) == (cell.points if about.grade else 0)
        if cell.kind == "solution":
            assert "raise NotImplementedError()" in node.source
        if cell.kind == "written":
            assert node.source.endswith("YOUR ANSWER HERE")
            assert len(node.source.splitlines()) > 2, "The question is gone."


@pytest.mark.parametrize("name", IDS)
def test_the_setup_is_folded_away(name: str, released: Path) -> None:
    """In JupyterLab and, by its title, in Colab; it stays the cell that it is."""
    notebook = nbformat.read(released / name / f"{name}.ipynb", as_version=4)
    (node,) = [cell for cell in notebook.cells if cell.metadata.get("jupyter")]
    assert node.metadata.jupyter == {"source_hidden": True}
    assert node.metadata.cellView == "form"
    assert node.source.splitlines()[0] == "# Given: setup"
    assert node.source.splitlines()[1].startswith("# @title ")
    found = identify(node, load_master(name))
    assert found is not None
    assert found.name == "setup"


def test_kit_url_replaces_the_address() -> None:
    master = load_master(IDS[0])
    notebook = nbformat.writes(notebooks.source_notebook(master, "https://example.org/kit.zip"))
    assert deliverables.KIT_URL not in notebook
    usual = nbformat.writes(notebooks.source_notebook(master))
    assert usual.replace(deliverables.KIT_URL, "https://example.org/kit.zip") == notebook


def test_cells_cannot_be_removed_once_there_are_submissions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    course, name = tmp_path / "course", IDS[0]
    notebook = notebooks.release(name, course, tmp_path / "notebooks")
    before = notebook.read_bytes()
    with quietly(), open_course(course).gradebook as gradebook:
        gradebook.add_student("ada")
        gradebook.add_submission(name, "ada")
    master = load_master(name)
    last = max(i for i, cell in enumerate(master.cells) if cell.kind == "check")
    fewer = dataclasses.replace(master, cells=master.cells[:last] + master.cells[last + 1 :])
    monkeypatch.setattr(notebooks, "load_master", lambda _: fewer)
    with pytest.raises(notebooks.ReleaseError, match=r"^[^\n]*has submissions[^\n]*$"):
        notebooks.release(name, course, tmp_path / "notebooks")
    assert notebook.read_bytes() == before


def test_solution_cell_needs_a_region() -> None:
    master = load_master(IDS[0])
    bare = [dataclasses.replace(c, source=c.starter) for c in master.cells if c.kind == "solution"]
    with pytest.raises(notebooks.ReleaseError, match="region"):
        notebooks.source_notebook(dataclasses.replace(master, cells=tuple(bare)))


def test_kit_is_clean(kit: Path) -> None:
    with zipfile.ZipFile(kit) as archive:
        names = archive.namelist()
        code = {n: archive.read(n).decode() for n in names if n.endswith((".py", ".ipynb"))}
        project = tomllib.loads(archive.read("pyproject.toml").decode())
    assert {name.partition("/")[0] for name in names} == {
        "helpers",
        "notebooks",
        "README.md",
        "LICENSE",
        "pyproject.toml",
    }
    assert not [name for name in names if "__pycache__" in name or "/." in name]
    assert project["project"]["dependencies"]
    shown = {}
    for name in IDS:
        assert f"notebooks/{name}/{name}.ipynb" in names
        for secret in secrets(name, shortest=40):
            shown[secret] = [file for file, text in code.items() if secret in text]
    assert {secret: files for secret, files in shown.items() if files} == {}


def test_kit_is_reproducible(kit: Path, released: Path, tmp_path: Path) -> None:
    assert student_kit(tmp_path, released).read_bytes() == kit.read_bytes()


def test_kit_can_be_imported(kit: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(kit) as archive:
        archive.extractall(tmp_path)
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import helpers; from helpers.checking import load_checks\n"
        f"print(sum(len(load_checks(name)) for name in {IDS!r}))\n"
        "from helpers.data import CIFAR10; from helpers.models import digit_classifier\n"
        "print(len(CIFAR10()), type(digit_classifier()).__name__)\n"
        "print(helpers.__file__)"
    )
    run = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True)
    *found, place = run.stdout.splitlines()
    assert place.startswith(str(tmp_path)), run.stderr
    assert found == [str(sum(len(load_checks(name)) for name in IDS)), "4000 DigitClassifier"]
