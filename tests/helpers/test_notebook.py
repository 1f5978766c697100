"""What a notebook calls: in a real kernel, and its parts one by one."""

import gc
import json
import random
import sys
import types
import zipfile
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient
from nbformat import NotebookNode

from autograder.judging import identify, load_master, read_handin
from autograder.rubric import solved
from helpers import deliverables, notebook
from helpers.checking import Check, CheckFunction, Result, Status, Submission, fail, load_checks
from helpers.notebook import CheckTable, handin
from helpers.training import random_state

D1 = deliverables.get("d1")
MASTER = load_master(D1.id)


Checks = Callable[..., None]


@pytest.fixture
def student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of a notebook, of which there are none yet, in an empty folder."""
    monkeypatch.delenv("LATENT_LAB_WORKER", raising=False)
    monkeypatch.chdir(tmp_path)
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    return vars(main)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Checks:
    """A function that takes the place of a deliverable's checks by others; at first by none."""

    def use(*functions: CheckFunction) -> None:
        made = [Check("d1.cell.name", "cell", 2, "Right.", False, each) for each in functions]
        monkeypatch.setattr(notebook, "load_checks", lambda deliverable: made)

    use()
    return use


# In a real kernel.

#: Whether the random numbers are where they were, and the names that are new.
LOOK = "print(r.random_state() == state, *[n for n in {*globals()} - names if n[0] != '_'])"
UNSAVED = f"import helpers.notebook as h; print(h._unsaved(open('{D1.id}.ipynb').read()))"


def new_cell(name: str, source: str) -> NotebookNode:
    return nbformat.v4.new_code_cell(source, id=name)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[NotebookNode]]:
    """Outputs of the solved notebook's cells up to Task 4 and of its hand-in cell, by their ids.

    Around each check, and at the end, cells are run that are not in the notebook's file.
    """
    folder = tmp_path_factory.mktemp("student")
    choices = MASTER.cell("choices").source.replace("\n", "\n%matplotlib inline\n", 1)
    book = solved(MASTER, {"choices": choices})
    known = [(node, identify(node, MASTER)) for node in book.cells]
    last = next(index for index, (_, cell) in enumerate(known) if cell and cell.name == "training")
    kinds = ("given", "solution", "check")
    book.cells = [node for node, cell in known[: last + 1] if cell and cell.kind in kinds]
    book.cells.append(next(node for node, cell in known if cell and cell.kind == "handin"))
    book.cells[-1].source = book.cells[-1].source.replace("your-id", "ada")
    nbformat.write(book, folder / f"{D1.id}.ipynb")

    first = "from helpers.training import randomness as r; state = names = None"
    everything = [new_cell("first", first)]
    for node in book.cells:
        if node.id.startswith("check-"):
            everything.append(new_cell("before", "state, names = r.random_state(), {*globals()}"))
        everything.append(node)
        if node.id.startswith("check-"):
            everything.append(new_cell(f"after-{node.id}", LOOK))
    everything.append(new_cell("saved", UNSAVED))
    everything.append(new_cell("change", f"# Your code: choices\nhidden_dim = 300\n{UNSAVED}"))
    book.cells = everything
    NotebookClient(
        book,
        timeout=120,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    ).execute()
    assert (folder / f"{D1.id}-ada.zip").is_file()
    return {node.id: node.outputs for node in book.cells}


@pytest.mark.parametrize("cell", ["architecture", "settings", "loss", "training"])
def test_check_in_a_kernel(cell: str, outputs: dict[str, list[NotebookNode]]) -> None:
    (output,) = outputs[f"check-{cell}"]
    points = sum(check.points for check in load_checks(D1.id) if check.cell == cell)
    text = output.data["text/plain"]
    assert f"{points:g} of {points:g} points. All of these pass" in text
    assert "✘" not in text
    assert "<table" in output.data["text/html"]


@pytest.mark.parametrize("cell", ["architecture", "settings", "loss", "training"])
def test_check_leaves_no_trace(cell: str, outputs: dict[str, list[NotebookNode]]) -> None:
    (output,) = outputs[f"after-check-{cell}"]
    assert output.text.split() == ["True"]


def test_handin_in_a_kernel(outputs: dict[str, list[NotebookNode]]) -> None:
    (output,) = outputs["handin-handin"]
    text = output.data["text/plain"]
    assert "Run the training cell first." in text  # of the checks of the result
    assert f"Hand in {D1.id}-ada.zip (0.0 MB). It holds no trained model yet" in text
    assert "not saved" not in text


def test_unsaved_changes_in_a_kernel(outputs: dict[str, list[NotebookNode]]) -> None:
    """Also of a cell with a magic, which IPython rewrites before it runs it."""
    assert outputs["saved"][0].text == "False\n"
    assert outputs["change"][0].text == "True\n"


# The table.


def result(
    status: Status = Status.FAILED, message: str = "", title: str = "Right.", points: float = 2
) -> Result:
    check = Check("d1.cell.name", "cell", points, title, False, lambda submission: None)
    return Result(check, status, message)


class Tags(HTMLParser):
    """The tags and the text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("status", Status)
def test_html_shows_students_text_as_text(status: Status) -> None:
    evil = "<script>alert(1)</script><img src=x onerror='alert(2)'> & \"quoted\""
    report = CheckTable([result(status, evil, title=evil)], footer=evil)
    page = Tags(report._repr_html_())
    assert page.tags <= {"table", "tr", "td", "b", "br", "p"}
    assert page.text.count(evil) == 3
    assert repr(report).count(evil) == 3


def test_errors_of_a_student_are_shown_as_text(student: dict[str, Any]) -> None:
    class Autoencoder:
        def __init__(self, **sizes: int) -> None:
            raise ValueError("<b>bold</b>")

    student["Autoencoder"] = Autoencoder
    report = notebook.check(f"{D1.id}.architecture")
    assert report is not None
    assert "ValueError: <b>bold</b>" in repr(report)
    assert "ValueError: &lt;b&gt;bold&lt;/b&gt;" in report._repr_html_()


def test_points_add_up() -> None:
    report = CheckTable(
        [result(Status.PASSED, points=2.5), result(), result(Status.PASSED, points=0)], "Well."
    )
    assert (report.earned, report.points) == (2.5, 4.5)
    assert repr(report).splitlines() == [
        "✔ Right.  [2.5/2.5]",
        "✘ Right.  [0/2]",
        "✔ Right.  [advice]",
        "2.5 of 4.5 points. Well.",
    ]
    assert "2.5 of 4.5 points." in Tags(report._repr_html_()).text


# check().


@pytest.mark.parametrize("name", [f"{D1.id}.nonsense", D1.id, "nonsense.loss", "", "d1.loss"])
def test_unknown_check(name: str, student: dict[str, Any]) -> None:
    with pytest.raises(KeyError, match="There are no checks"):
        notebook.check(name)


def test_nothing_is_checked_inside_the_grader(
    student: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENT_LAB_WORKER", "1")
    assert notebook.check(f"{D1.id}.architecture") is None
    assert handin(D1.id, "ada") is None
    assert list(Path.cwd().iterdir()) == []


def test_footer_only_where_all_pass(student: dict[str, Any], checks: Checks) -> None:
    checks(lambda submission: None, lambda submission: fail("Wrong."))
    report = notebook.check("d1.cell")
    assert report is not None
    assert [each.status for each in report.results] == [Status.PASSED, Status.FAILED]
    assert report.footer == ""
    checks(lambda submission: "A note.")
    report = notebook.check("d1.cell")
    assert report is not None
    assert "A note." in repr(report)
    assert "All of these pass" in report.footer


def test_random_numbers_stay_as_they_were(student: dict[str, Any], checks: Checks) -> None:
    def draw(submission: Submission) -> None:
        submission.seed(1)
        torch.rand(1), np.random.rand(), random.random()

    def crash(submission: Submission) -> None:
        draw(submission)
        raise ZeroDivisionError  # the check's own fault

    before = random_state()
    checks(draw)
    notebook.check("d1.cell")
    assert random_state() == before
    checks(crash)
    report = notebook.check("d1.cell")
    assert report is not None
    assert report.results[0].status is Status.FAILED
    assert "ZeroDivisionError" in report.results[0].message
    assert random_state() == before


def test_one_submission_which_forgets(student: dict[str, Any], checks: Checks) -> None:
    """What a check computed about the submission is kept, the objects that it made are not."""

    class Model:
        pass

    student["Model"] = Model
    seen, made = [], []

    def look(submission: Submission) -> None:
        seen.append(submission)
        made.append(submission.new("Model").ref.number)
        made.append(len([each for each in gc.get_objects() if type(each) is Model]))

    checks(look, look)
    notebook.check("d1.cell")
    assert seen[0] is seen[1]
    assert made == [0, 1, 0, 1]


# handin().


def make_notebook(folder: Path = Path(), name: str = f"{D1.id}.ipynb") -> str:
    folder.mkdir(exist_ok=True)
    cell = nbformat.v4.new_code_cell("# Your code: choices\nhidden_dim = 400  # é")
    text: str = nbformat.writes(nbformat.v4.new_notebook(cells=[cell]))
    (folder / name).write_text(text, encoding="utf-8")
    return text


def make_checkpoint(folder: Path = Path("checkpoints"), weights: bytes = b"weights") -> None:
    folder.mkdir()
    for name in D1.checkpoints:
        (folder / f"{name}.safetensors").write_bytes(weights)
        (folder / f"{name}.json").write_text('{"losses": [0.04]}')
    (folder / "other.safetensors").write_bytes(b"not of this deliverable")


def unzipped(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def footer(report: CheckTable | None) -> str:
    assert report is not None
    return report.footer


def test_zip_holds_what_the_grader_reads(student: dict[str, Any], checks: Checks) -> None:
    text = make_notebook()
    make_checkpoint()
    said = footer(handin(D1.id, "ada.l-1@uni"))
    assert said.endswith(f"Hand in {D1.id}-ada.l-1@uni.zip (0.0 MB).")
    path = f"{D1.id}-ada.l-1@uni.zip"
    assert unzipped(path) == {
        f"{D1.id}.ipynb": text.encode(),
        "checkpoints/autoencoder.safetensors": b"weights",
        "checkpoints/autoencoder.json": b'{"losses": [0.04]}',
    }
    read = read_handin(Path(path), D1)
    assert read.cells[0].source == "# Your code: choices\nhidden_dim = 400  # é"
    assert read.checkpoints == {"autoencoder": b"weights"}
    assert read.histories == {"autoencoder": b'{"losses": [0.04]}'}


def test_zip_is_made_anew(student: dict[str, Any], checks: Checks) -> None:
    make_notebook()
    make_checkpoint()
    handin(D1.id, "ada")
    Path("checkpoints/autoencoder.json").unlink()
    said = footer(handin("d1", "ada"))
    assert "It holds no trained model yet: run the training cell first." in said
    assert list(unzipped(f"{D1.id}-ada.zip")) == [
        f"{D1.id}.ipynb",
        "checkpoints/autoencoder.safetensors",
    ]


@pytest.mark.parametrize("name", ["your-id", "", "a b", "../ada", "a/b", ".ada", "a" * 101])
def test_bad_ids(
    name: str, student: dict[str, Any], checks: Checks, capsys: pytest.CaptureFixture[str]
) -> None:
    make_notebook()
    assert handin(D1.id, name) is None
    assert capsys.readouterr().out.startswith('Write your own id in place of "your-id"')
    assert list(Path.cwd().glob("**/*.zip")) == []


def test_no_notebook_file(student: dict[str, Any], checks: Checks) -> None:
    said = footer(handin(D1.id, "ada"))
    assert f"No zip was made: there is no {D1.id}.ipynb in {Path.cwd()}." in said
    said = footer(handin(D1.id, "ada", notebook="mine.ipynb"))
    assert "there is no mine.ipynb" in said
    assert list(Path.cwd().iterdir()) == []


def test_notebook_by_another_name(student: dict[str, Any], checks: Checks) -> None:
    text = make_notebook(Path("mine"), "my copy.ipynb")
    handin(D1.id, "ada", notebook="mine/my copy.ipynb")
    assert unzipped(f"{D1.id}-ada.zip") == {f"{D1.id}.ipynb": text.encode()}


def test_on_colab_the_notebook_comes_from_the_browser(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    asked = []

    def blocking_request(request: str, timeout_sec: int) -> dict[str, Any]:
        asked.append(request)
        return {"ipynb": book}

    message = types.SimpleNamespace(blocking_request=blocking_request)
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    colab = types.ModuleType("google.colab")
    monkeypatch.setattr(colab, "_message", message, raising=False)
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    handin(D1.id, "ada")
    assert asked == ["get_ipynb"]
    assert json.loads(unzipped(f"{D1.id}-ada.zip")[f"{D1.id}.ipynb"]) == book


def test_too_large(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_notebook()
    make_checkpoint(weights=random.Random(0).randbytes(2**20))
    monkeypatch.setattr(deliverables, "MAX_HANDIN_BYTES", 2**20)
    said = footer(handin(D1.id, "ada"))
    assert f"{D1.id}-ada.zip is too large to hand in (1 MB)" in said
    assert "Hand in" not in said
    monkeypatch.setattr(deliverables, "MAX_HANDIN_BYTES", 2**21)
    assert "Hand in" in footer(handin(D1.id, "ada"))


def test_too_large_unpacked(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grader's limit holds for what is in the zip, however well it packs."""
    make_notebook()
    make_checkpoint(weights=bytes(2**20))
    monkeypatch.setattr(deliverables, "MAX_HANDIN_BYTES", 2**20)
    assert "too large to hand in" in footer(handin(D1.id, "ada"))


@pytest.mark.parametrize(
    ("ran", "unsaved"),
    [
        ([], False),
        (["# Your code: choices\nhidden_dim = 400  # é"], False),
        (["# Your code: choices\nhidden_dim=400"], False),  # the same code in another layout
        (["# Your code: choices\nhidden_dim = 300"], True),
        # Tried, and then put back: only the last run counts.
        (
            ["# Your code: choices\nhidden_dim = 300", "# Your code: choices\nhidden_dim = 400"],
            False,
        ),
        (["# Your code: choices\nhidden_dim = ("], True),
        (["hidden_dim = 300"], False),  # a cell of one's own
    ],
)
def test_unsaved_changes(
    ran: list[str],
    unsaved: bool,
    student: dict[str, Any],
    checks: Checks,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    history = types.SimpleNamespace(input_hist_raw=["", *ran])
    shell = types.SimpleNamespace(history_manager=history)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    make_notebook()
    said = footer(handin(D1.id, "ada"))
    assert ("changes that are not saved" in said) == unsaved
