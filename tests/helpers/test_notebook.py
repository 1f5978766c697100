"""What a notebook calls: in a real kernel, and its parts one by one."""

import gc
import json
import random
import sys
import types
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from autograder.release import released_notebook
from autograder.rubric import solved
from helpers import deliverables, notebook
from helpers.checking import Check, CheckFunction, Result, Status, Submission, fail, load_checks
from helpers.notebook import CheckTable, cells, handin, table
from helpers.training import random_state

D1 = deliverables.get("d1")
IDS = list(deliverables.DELIVERABLES)
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
UNSAVED = f"from helpers.notebook import cells; print(cells.unsaved(open('{D1.id}.ipynb').read()))"

#: What a student tries in one cell, one after the other.
TRIES = (
    "# Your code: loss_and_optimizer\ncriterion = nn.L1Loss()\noptimizer = (",
    "# Your code: loss_and_optimizer\ncriterion = nn.L1Loss(1, 2, 3, 4, 5)",
    MASTER.cell("loss_and_optimizer").source,
)


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
    for number, source in enumerate(TRIES):
        everything.append(new_cell(f"try-{number}", source))
        everything[-1].metadata.tags = ["raises-exception"]
        everything.append(new_cell(f"judged-{number}", f'check("{D1.id}.loss")'))
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
    assert f"{points:g} of {points:g} points. All of these checks pass" in text
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
    first, second, *_ = text.splitlines()
    assert first == f"Before you hand in {D1.id}-ada.zip (0.0 MB):"
    assert "It contains no trained model yet" in second
    assert "differs" not in text
    page = output.data["text/html"]
    assert f'<a href="{D1.id}-ada.zip" download>{D1.id}-ada.zip</a>' in page
    assert page.index("<a href") < page.index("<table")


def test_unsaved_changes_in_a_kernel(outputs: dict[str, list[NotebookNode]]) -> None:
    """Also of a cell with a magic, which IPython rewrites before it runs it."""
    assert outputs["saved"][0].text == "[]\n"
    assert outputs["change"][0].text == "['choices']\n"


def test_a_cell_that_failed_is_named_before_any_verdict(
    outputs: dict[str, list[NotebookNode]],
) -> None:
    """The definitions before it are still there, and right."""
    cell = "Your last run of the cell `# Your code: loss_and_optimizer` raised "
    for number, error in enumerate(["SyntaxError: '(' was never closed (line 3)", "TypeError: "]):
        first, *others = outputs[f"judged-{number}"][0].data["text/plain"].splitlines()
        assert first.startswith(cell + error)
        assert first.endswith(". The checks below test the definition from before that run.")
        assert others[0].startswith("✔")
        assert "All of these checks pass" not in others[-1]
    assert outputs["judged-2"][0].data["text/plain"].startswith("✔")


# How runs of cells ended.


def ran(code: str, names: dict[str, Any] | None = None) -> Any:
    """What IPython says of a run, in so far as it is used."""
    before = within = None
    try:
        compiled = compile(code, "ipykernel", "exec")
    except SyntaxError as error:
        before = error
    else:
        try:
            exec(compiled, {} if names is None else names)
        except BaseException as error:
            within = error
    info = types.SimpleNamespace(raw_cell=code)
    return types.SimpleNamespace(info=info, error_before_exec=before, error_in_exec=within)


@pytest.mark.parametrize(
    ("code", "failed"),
    [
        ("a = 1\nb = 1 / 0\nc = 2", {"b", "c"}),
        ("def a():\n    pass\n\nclass B:\n    x = 1 / 0\n\nc: int = 2", {"B", "c"}),
        ("a, b = 1, (", {"a", "b"}),
        ("# Your code: it\nasync def a(:\n    pass", {"a"}),
        ("class A(:\n    x = 1\ny == 2\nif x: z = 3", {"A"}),
        ("a = 1\nraise SystemExit", set()),
        ("a = 1\nfor b in [1 / 0]: c = 2", {"b", "c"}),
        ("a = 1", set()),
        ("", set()),
    ],
)
def test_names_that_a_failed_run_left_as_they_were(code: str, failed: set[str]) -> None:
    log = cells.CellLog()
    log.record(ran(code))
    assert set(log.failed) == failed


def test_magics_do_not_hide_what_is_defined() -> None:
    code = "%matplotlib inline\na = 1\n!ls\nb = 1 / 0"
    assert cells.definitions_since(code, 4) == {"b"}
    assert cells.python_error(code) is None


def test_a_cell_is_known_by_its_marker() -> None:
    """Also where the broken line no longer says what it should define."""
    log = cells.CellLog()
    log.record(ran("# Your code: model\nclass Net: pass"))
    log.record(ran("# Your code: model\nclas Net: pass"))
    assert log.failed["Net"].cell == "the cell `# Your code: model`"
    log.record(ran("# Your code: model\nclass Net: pass"))
    assert log.failed == {}
    log.record(ran("class Net(: pass"))
    assert log.failed["Net"].cell == "the cell that defines `Net`"
    log.record(ran("class Net: pass"))
    assert log.failed == {}


def test_an_untouched_cell_has_not_failed() -> None:
    log = cells.CellLog()
    log.record(ran("# Your code: it\nraise NotImplementedError()\na = 1"))
    assert log.failed == {}
    log.record(ran("a = missing"))
    assert log.failed["a"].waits


def test_odd_reports_of_runs_are_left_alone() -> None:
    log = cells.CellLog()
    log.record(None)
    log.record(types.SimpleNamespace(info=None))
    assert log.failed == {}


def test_a_failed_cell_without_an_older_definition(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = cells.CellLog()
    monkeypatch.setattr(cells, "log", log)
    log.record(ran("# Your code: model\nclass Model(:"))
    log.record(ran("# Your code: other\nclass Other(:"))
    checks(lambda submission: submission.new("Model"), lambda submission: submission.new("Model"))
    text = repr(notebook.check("d1.cell"))
    assert text.count("Your last run of the cell `# Your code: model` raised SyntaxError") == 1
    student["Model"] = int
    text = repr(notebook.check("d1.cell"))
    assert text.startswith("Your last run of the cell `# Your code: model` raised SyntaxError")
    assert "Other" not in text


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
    assert page.tags <= {"table", "tr", "td", "b", "br", "p", "span"}
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


def test_an_untouched_task_takes_one_row() -> None:
    untouched = [result(Status.UNATTEMPTED, "This part still raises NotImplementedError.")] * 6
    report = CheckTable([result(Status.PASSED), *untouched, result(), result()])
    assert repr(report).splitlines() == [
        "✔ Right.  [2/2]",
        "○ 6 checks of `cell`  [0/12]",
        "    This part still raises NotImplementedError.",
        "✘ Right.  [0/2]",
        "✘ Right.  [0/2]",
        "2 of 18 points.",
    ]
    assert report._repr_html_().count("<tr") == 4


def test_several_things_are_missing_in_an_untouched_task() -> None:
    missing = [result(Status.UNATTEMPTED, f"`{name}` is not defined.") for name in "ab"]
    assert repr(CheckTable(missing)).splitlines() == [
        "○ 2 checks of `cell`  [0/4]",
        "    `a` is not defined.",
        "0 of 4 points.",
    ]


def test_backticks_are_code_and_stay_text() -> None:
    page = CheckTable([result(message="Use `a < b`, not `<b>` or a lone `.")])._repr_html_()
    assert "Use <code>a &lt; b</code>, not <code>&lt;b&gt;</code> or a lone `." in page


def test_a_check_that_raised_is_shown_as_such() -> None:
    check = Check("d1.cell.name", "cell", 2, "Right.", False, lambda submission: None)
    report = CheckTable([Result(check, Status.FAILED, "Hm.", fault="IndexError: 0\nTraceback")])
    for text in (repr(report), report._repr_html_()):
        assert "failed, since the check itself raised an exception." in text
        assert "✘" in text
        assert "Traceback" not in text


def test_symbols_differ_without_colour_and_are_legible_on_any_page() -> None:
    """White on a colour that is dark enough (WCAG: 4.5 : 1) and still shows on a black page."""

    def luminance(colour: str) -> float:
        parts = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    badges = {status: table._BADGES.get(status, table._WRONG) for status in Status}
    assert len({symbol for symbol, _ in badges.values()}) == 4
    for _, colour in badges.values():
        assert 1.05 / (luminance(colour) + 0.05) > 4.5
        assert (luminance(colour) + 0.05) / (luminance("#111111") + 0.05) > 2.5


@pytest.mark.parametrize("message", [b"bytes", 7, None, "half a character: \ud83d"])
def test_any_message_can_be_shown(message: Any) -> None:
    report = CheckTable([result(message=message)])
    for text in (repr(report), report._repr_html_()):
        text.encode()


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
    assert "All of these checks pass" in report.footer


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


def said(report: CheckTable | None) -> str:
    """What stands above the table."""
    assert report is not None
    return " ".join(report.header)


def test_zip_holds_what_the_grader_reads(student: dict[str, Any], checks: Checks) -> None:
    book = make_notebook()
    make_checkpoint()
    text = said(handin(D1.id, "ada.l-1@uni"))
    assert text == f"Hand in {D1.id}-ada.l-1@uni.zip (0.0 MB)."
    path = f"{D1.id}-ada.l-1@uni.zip"
    assert unzipped(path) == {
        f"{D1.id}.ipynb": book.encode(),
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
    text = said(handin("d1", "ada"))
    assert (
        "It contains no trained model yet: run the training cell, then run this cell again." in text
    )
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
    assert capsys.readouterr().out.startswith('Replace "your-id" with your own id')
    assert list(Path.cwd().glob("**/*.zip")) == []


def test_no_notebook_file(student: dict[str, Any], checks: Checks) -> None:
    text = said(handin(D1.id, "ada"))
    assert f"No zip was made: there is no {D1.id}.ipynb in {Path.cwd()}." in text
    text = said(handin(D1.id, "ada", notebook="mine.ipynb"))
    assert "there is no mine.ipynb" in text
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
    text = said(handin(D1.id, "ada"))
    assert f"{D1.id}-ada.zip is too large to hand in (1 MB, and the limit is 1 MB)" in text
    assert "Hand in" not in text
    monkeypatch.setattr(deliverables, "MAX_HANDIN_BYTES", 2**21)
    assert "Hand in" in said(handin(D1.id, "ada"))


def test_too_large_unpacked(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grader's limit holds for what is in the zip, however well it packs."""
    make_notebook()
    make_checkpoint(weights=bytes(2**20))
    monkeypatch.setattr(deliverables, "MAX_HANDIN_BYTES", 2**20)
    assert "too large to hand in" in said(handin(D1.id, "ada"))


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
    text = said(handin(D1.id, "ada"))
    assert ("differs from what you ran last (in `choices`)" in text) == unsaved


def make_answers(*texts: str) -> None:
    """A notebook with a question for each text, which is what stands below it."""
    questions = [
        f"<!-- Your answer: q{n} -->\n**Question {n} (3 points).** Why?\n\n{text}"
        for n, text in enumerate(texts, 1)
    ]
    book = nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_markdown_cell, questions)])
    nbformat.write(book, f"{D1.id}.ipynb")


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (["Because.", "YOUR ANSWER HERE", "So."], "Question 2 still says YOUR ANSWER HERE."),
        (["YOUR ANSWER HERE"] * 3, "Question 1, Question 2 and Question 3 still say YOUR ANSWER"),
        (["Because.", "It stands below YOUR ANSWER HERE."], ""),
    ],
)
def test_unanswered_questions_are_named(
    answers: list[str], sentence: str, student: dict[str, Any], checks: Checks
) -> None:
    make_answers(*answers)
    make_checkpoint()
    text = said(handin(D1.id, "ada"))
    assert sentence in text
    assert ("YOUR ANSWER HERE" in text) == bool(sentence)


@pytest.mark.parametrize("name", IDS)
def test_placeholders_are_those_of_the_release(name: str) -> None:
    """All questions of a released notebook are unanswered, none of a solved one is."""
    master = load_master(name)
    written = [cell for cell in master.cells if cell.kind == "written"]
    released = nbformat.writes(released_notebook(master))
    assert len(cells.unanswered(released)) == len(written)
    assert all(question.startswith("Question") for question in cells.unanswered(released))
    assert cells.unanswered(nbformat.writes(solved(master))) == []


# The zip is built whatever happens.


def unpackable(name: str) -> bool:
    return zipfile.ZipFile(name).testzip() is None


@pytest.mark.parametrize("error", [MemoryError, OSError("No space"), RuntimeError, IndexError])
def test_a_check_that_cannot_run(error: Exception, student: dict[str, Any], checks: Checks) -> None:
    def broken(submission: Submission) -> None:
        raise error

    make_notebook()
    checks(broken, lambda submission: None)
    report = handin(D1.id, "ada")
    assert report is not None
    assert [each.status is Status.PASSED for each in report.results] == [False, True]
    assert unpackable(f"{D1.id}-ada.zip")


@pytest.mark.parametrize("when", ["before", "after"])
def test_random_numbers_that_cannot_be_kept(
    when: str, student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        if when == "after":
            yield
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(notebook, "same_randomness", broken)
    checks(lambda submission: None, lambda submission: None)
    report = notebook.check("d1.cell")
    assert report is not None
    assert [each.status for each in report.results] == [Status.PASSED] * 2


def test_checks_that_cannot_be_loaded(
    student: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(deliverable: str) -> list[Check]:
        raise ImportError("helpers is damaged")

    monkeypatch.setattr(notebook, "load_checks", load)
    make_notebook()
    assert "The checks could not be run (ImportError: helpers is damaged)." in said(
        handin(D1.id, "ada")
    )
    assert unpackable(f"{D1.id}-ada.zip")


@pytest.mark.parametrize("history", [None, 7, types.SimpleNamespace(input_hist_raw=[None, 3])])
def test_a_broken_history(
    history: Any, student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = types.SimpleNamespace(history_manager=history)
    monkeypatch.setattr("IPython.core.getipython.get_ipython", lambda: shell)
    make_notebook()
    handin(D1.id, "ada")
    assert unpackable(f"{D1.id}-ada.zip")


@pytest.mark.parametrize("content", [b"", b"no JSON", b"\xff\xfe", b"[]", b'{"cells": [3, null]}'])
def test_a_notebook_that_cannot_be_read(
    content: bytes, student: dict[str, Any], checks: Checks
) -> None:
    """The grader says what is wrong with it."""
    Path(f"{D1.id}.ipynb").write_bytes(content)
    handin(D1.id, "ada")
    assert unzipped(f"{D1.id}-ada.zip") == {f"{D1.id}.ipynb": content}


def test_a_zip_that_cannot_be_written(student: dict[str, Any], checks: Checks) -> None:
    make_notebook()
    Path(f"{D1.id}-ada.zip").mkdir()
    report = handin(D1.id, "ada")
    assert said(report).startswith("No zip was made (IsADirectoryError: ")
    assert "<a " not in report._repr_html_()  # type: ignore[union-attr]


def test_no_link_where_links_lead_nowhere(
    student: dict[str, Any], checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_notebook()
    report = handin(D1.id, "a@b+c")
    assert report is not None
    assert f'<a href="{D1.id}-a%40b%2Bc.zip" download>' in report._repr_html_()
    monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    report = handin(D1.id, "ada")
    assert report is not None
    assert "<a " not in report._repr_html_()
