"""A class of made-up students through the real nbgrader; the judge's word is made up as well."""

import base64
import csv
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from jinja2 import Environment
from nbformat import NotebookNode

from autograder.classroom import collecting, export, gradebook, pool, preprocessors, store
from autograder.course import open_course
from autograder.judging import (
    Cell,
    CheckResult,
    Judgement,
    Outcome,
    all_checks,
    judge_version,
    load_master,
    read_handin,
)
from autograder.release import release
from helpers import deliverables
from helpers.checking import Check, Result, Status, load_checks

ID = "d1_autoencoder"
DELIVERABLE = deliverables.get(ID)
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n made up").decode()

Edit = Callable[[NotebookNode], object]


@pytest.fixture(scope="module")
def fresh_course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    course = tmp_path_factory.mktemp("class") / "course"
    release(ID, course, course / "notebooks")
    return course


@pytest.fixture
def course(fresh_course: Path, tmp_path: Path) -> Path:
    """A course folder in which d1 was released and nothing handed in."""
    return Path(shutil.copytree(fresh_course, tmp_path / "course"))


@pytest.fixture(autouse=True)
def no_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judging takes long and is tested elsewhere: here it is an error unless a test allows it."""

    def refuse(*_: object) -> Judgement:
        raise AssertionError("The judge was asked.")

    monkeypatch.setattr(pool, "judge", refuse)


def cells(kind: str) -> list[Cell]:
    return [cell for cell in load_master(ID).cells if cell.kind == kind]


def find(notebook: NotebookNode, name: str) -> NotebookNode:
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == name)


def solve(notebook: NotebookNode) -> None:
    """Touch every solution."""
    for cell in cells("solution"):
        find(notebook, cell.name).source += "\n# solved"


def answer(notebook: NotebookNode, text: str = "Because.") -> None:
    for cell in cells("written"):
        node = find(notebook, cell.name)
        node.source = node.source.replace("YOUR ANSWER HERE", text)


def hand_in(course: Path, student: str, *edits: Edit) -> None:
    """Zip a notebook and collect it."""
    notebook = nbformat.read(course / "release" / ID / f"{ID}.ipynb", as_version=4)
    for edit in edits or (solve,):
        edit(notebook)
    folder = course.parent / "handins"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{ID}-{student}.zip", "w") as archive:
        archive.writestr(f"{ID}.ipynb", nbformat.writes(notebook))
    report = collecting.collect(folder, course)
    assert not report.problems


def say(
    course: Path,
    student: str,
    verdict: Callable[[Check], Status] = lambda check: Status.PASSED,
    status: Outcome = Outcome.GRADED,
) -> Judgement:
    """Write a result file."""
    public = {check.id for check in load_checks(ID)}
    results = [
        Result(
            check,
            verdict(check),
            f"PUBLIC <b> {check.id}" if check.id in public else f"SECRET {check.id}",
        )
        for check in all_checks(ID)
    ]
    checks = tuple(CheckResult.of(result) for result in results)
    folder = store.submission_path(course, ID, student)
    judgement = Judgement(
        deliverable=ID,
        student=student,
        score=None if status is Outcome.INFRASTRUCTURE else sum(c.earned for c in checks),
        max_score=sum(c.points for c in checks),
        status=status,
        isolation_level=1,
        checks=checks,
        handin_sha256=read_handin(folder, DELIVERABLE).sha256,
        judge_sha256=judge_version(ID),
        seconds=1.0,
    )
    judgement.write(store.result_path(course, ID, student))
    return judgement


def broken(check: Check) -> Status:
    return Status.INFRASTRUCTURE


def record(course: Path) -> None:
    report = gradebook.record(course, ID)
    assert not report.problems


def marks(course: Path, student: str) -> dict[str, float | None]:
    with open_course(course).gradebook as book:
        grades = book.find_submission_notebook(ID, ID, student).grades
        return {g.name: g.auto_score if g.manual_score is None else g.manual_score for g in grades}


def mark_by_hand(course: Path, student: str, score: float) -> None:
    with open_course(course).gradebook as book:
        for grade in book.find_submission_notebook(ID, ID, student).grades:
            if grade.cell.cell_type == "markdown":
                grade.manual_score, grade.needs_manual_grade = score, False
        book.db.commit()


def table(course: Path) -> dict[str, dict[str, str]]:
    path = export(course, course / "marks.csv")
    with path.open(encoding="utf-8") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def page(course: Path, student: str) -> Path:
    return course / "feedback" / student / ID / f"{ID}.html"


def marked(course: Path, student: str) -> NotebookNode:
    path = course / "autograded" / student / ID / f"{ID}.ipynb"
    return nbformat.read(path, as_version=4)


def test_partial_credit(course: Path) -> None:
    lost = load_checks(ID)[0]
    hand_in(course, "ada")
    said = say(course, "ada", lambda c: Status.FAILED if c.id == lost.id else Status.PASSED)
    record(course)
    got = marks(course, "ada")
    for cell in cells("check"):
        assert got[cell.name] == pytest.approx(
            cell.points - (lost.points if cell.name == lost.cell else 0)
        )
    row = table(course)["ada"]
    assert float(row["checks_score"]) == pytest.approx(said.score)
    assert row["status"] == "graded"
    assert float(row["written_score"]) == 0, "Nothing was written."


def test_feedback_hides_what_is_hidden(course: Path) -> None:
    hand_in(course, "ada")
    say(course, "ada", lambda check: Status.FAILED)
    record(course)
    assert gradebook.feedback(course, ID).done == ["ada"]
    html = page(course, "ada").read_text(encoding="utf-8")
    public = {check.id for check in load_checks(ID)}
    hidden = [check for check in all_checks(ID) if check.id not in public]
    assert hidden
    assert "Hidden check 1" in html
    assert "PUBLIC &lt;b&gt;" in html
    assert "SECRET" not in html
    for check in hidden:
        assert check.title not in html
        assert check.id not in html
    shown = (course / "autograded" / "ada" / ID / f"{ID}.ipynb").read_text(encoding="utf-8")
    assert "SECRET" not in shown


def test_our_fault_is_no_mark(course: Path) -> None:
    hand_in(course, "ada")
    say(course, "ada", broken, Outcome.INFRASTRUCTURE)
    record(course)
    names = {cell.name for cell in cells("check")}
    assert {mark for name, mark in marks(course, "ada").items() if name in names} == {None}
    row = table(course)["ada"]
    assert (row["status"], row["checks_score"], row["score"]) == ("infrastructure", "", "")
    assert row["needs_manual_grade"] == "True"
    withheld = gradebook.feedback(course, ID)
    assert "No mark yet" in withheld.problems["ada"]
    assert not page(course, "ada").exists()

    result = open_course(course).generate_feedback(ID, "ada")
    assert not result["success"], "The formgrader's button must withhold it too."
    assert not page(course, "ada").exists()

    say(course, "ada")
    record(course)
    assert None not in marks(course, "ada").values()
    assert gradebook.feedback(course, ID).done == ["ada"]


def test_feedback_is_taken_back_when_a_mark_goes(course: Path) -> None:
    hand_in(course, "ada")
    say(course, "ada")
    record(course)
    gradebook.feedback(course, ID)
    assert page(course, "ada").exists()
    say(course, "ada", broken, Outcome.INFRASTRUCTURE)
    record(course)
    gradebook.feedback(course, ID)
    assert not page(course, "ada").exists()


def test_written_answers_wait_for_a_grader(course: Path) -> None:
    hand_in(course, "ada", solve, answer)
    say(course, "ada")
    record(course)
    row = table(course)["ada"]
    assert (row["written_score"], row["score"], row["needs_manual_grade"]) == ("", "", "True")
    assert gradebook.feedback(course, ID).problems
    mark_by_hand(course, "ada", 0.5)
    row = table(course)["ada"]
    assert float(row["written_score"]) == 0.5 * len(cells("written"))
    assert row["needs_manual_grade"] == "False"
    assert gradebook.feedback(course, ID).done == ["ada"]

    say(course, "ada", lambda check: Status.FAILED)
    record(course)
    assert float(table(course)["ada"]["written_score"]) == 0.5 * len(cells("written"))


def test_every_status_is_told_apart(course: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zero = {
        "una": (Status.UNATTEMPTED, Outcome.UNATTEMPTED),
        "tim": (Status.TIMEOUT, Outcome.TIMEOUT),
        "oom": (Status.OUT_OF_MEMORY, Outcome.OUT_OF_MEMORY),
    }
    for student, (status, outcome) in zero.items():
        hand_in(course, student, lambda notebook: None)
        say(course, student, lambda check, status=status: status, outcome)  # type: ignore[misc]
    record(course)
    hand_in(course, "new")
    unread = say(course, "new").model_copy(update={"status": Outcome.UNREADABLE})
    monkeypatch.setattr(collecting, "judge", lambda *_: unread)
    (course.parent / "handins" / f"{ID}-bad.zip").write_bytes(b"no zip")
    report = collecting.collect(course.parent / "handins", course)
    assert list(report.problems) == [f"{ID}-bad.zip"]
    with open_course(course).gradebook as book:
        book.add_student("none")
    rows = table(course)
    for student, (_, outcome) in zero.items():
        assert (rows[student]["status"], rows[student]["checks_score"]) == (outcome, "0.0")
    for student, status in (("bad", "unreadable"), ("none", "missing"), ("new", "unrecorded")):
        assert (rows[student]["status"], rows[student]["checks_score"]) == (status, "")
        assert rows[student]["score"] == ""


def strip(notebook: NotebookNode) -> None:
    """What Colab and a careless student leave of a notebook."""
    for cell in notebook.cells:
        cell.metadata = NotebookNode()
        del cell["id"]
    notebook.nbformat_minor = 4
    notebook.metadata = NotebookNode()
    checks = [cell for cell in notebook.cells if cell.source.startswith("# Check")]
    own = nbformat.v4.new_code_cell("print('my own')")
    del own["id"]
    rest = [cell for cell in notebook.cells if cell not in checks]
    notebook.cells = [own, *reversed(rest), *checks[1:], *checks[1:]]


def test_stripped_notebook_is_repaired(course: Path) -> None:
    hand_in(course, "ada", solve, answer, strip)
    say(course, "ada")
    record(course)
    notebook = marked(course, "ada")
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    expected = [c.name for c in load_master(ID).cells if c.kind not in ("prose", "handin")]
    assert [name for name in ids if name] == expected
    for cell in cells("solution"):
        assert "# solved" in find(notebook, cell.name).source
    for cell in cells("written"):
        assert "Because." in find(notebook, cell.name).source
    assert sum("my own" in cell.source for cell in notebook.cells) == 1
    got = marks(course, "ada")
    assert {cell.name: got[cell.name] for cell in cells("check")} == {
        cell.name: cell.points for cell in cells("check")
    }


def test_answer_in_a_cell_below_its_question_is_not_zero(course: Path) -> None:
    first = cells("written")[0].name

    def answer_below(notebook: NotebookNode) -> None:
        place = notebook.cells.index(find(notebook, first)) + 1
        notebook.cells.insert(place, nbformat.v4.new_markdown_cell("My answer.", id="below"))

    hand_in(course, "ada", solve, answer_below)
    say(course, "ada")
    record(course)
    assert marks(course, "ada")[first] is None
    assert find(marked(course, "ada"), first).source.endswith("My answer.")
    assert sum("My answer." in cell.source for cell in marked(course, "ada").cells) == 1


def forge(notebook: NotebookNode) -> None:
    notebook.metadata["latent_lab"] = "0" * 64
    for cell in cells("check"):
        node = find(notebook, cell.name)
        node.metadata.nbgrader.points = 1000
        node.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "1000"})]


def test_forged_outputs_count_for_nothing(course: Path) -> None:
    hand_in(course, "ada", forge)
    say(course, "ada", lambda check: Status.FAILED)
    hand_in(course, "bea", forge)
    say(course, "bea", broken, Outcome.INFRASTRUCTURE)
    record(course)
    names = [cell.name for cell in cells("check")]
    assert {marks(course, "ada")[name] for name in names} == {0.0}
    assert {marks(course, "bea")[name] for name in names} == {None}


def test_second_run_touches_nothing(course: Path) -> None:
    for student in ("ada", "bea"):
        hand_in(course, student)
        say(course, student)
    record(course)
    database = course / "gradebook.db"
    before = database.read_bytes(), database.stat().st_mtime_ns
    assert gradebook.record(course, ID).unchanged == ["ada", "bea"]
    export(course, course / "marks.csv")
    assert (database.read_bytes(), database.stat().st_mtime_ns) == before

    say(course, "bea", lambda check: Status.FAILED)
    report = gradebook.record(course, ID)
    assert (report.done, report.unchanged) == (["bea"], ["ada"])


def test_result_of_an_older_submission_is_not_used(
    course: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in(course, "ada")
    say(course, "ada")
    record(course)
    hand_in(course, "ada", solve, answer)
    asked = []

    def judge(folder: Path, deliverable_id: str, student: str) -> Judgement:
        asked.append(student)
        return say(course, student, lambda check: Status.FAILED)

    monkeypatch.setattr(pool, "judge", judge)
    record(course)
    assert asked == ["ada"]
    assert {marks(course, "ada")[cell.name] for cell in cells("check")} == {0.0}


def test_impossible_mark_is_refused(course: Path) -> None:
    hand_in(course, "ada")
    said = say(course, "ada")
    more = said.checks[0].model_copy(update={"earned": 1e6})
    said.model_copy(update={"checks": (more, *said.checks[1:])}).write(
        store.result_path(course, ID, "ada")
    )
    report = gradebook.record(course, ID)
    assert "release it again" in report.problems["ada"]
    assert "1000" not in table(course)["ada"]["checks_score"]


def test_pictures_stay_and_scripts_go(course: Path) -> None:
    def write(notebook: NotebookNode) -> None:
        answer(
            notebook,
            "<script>alert(1)</script>\n\n<img src=x onerror=alert(2)>\n\n![](attachment:a)",
        )
        for cell in cells("written"):
            find(notebook, cell.name).attachments = {"a": {"image/png": PNG}}
        data = {"image/png": PNG, "text/html": "<script>alert(3)</script>"}
        forged = {"image/png": '"><script>alert(4)</script>'}
        notebook.cells.insert(0, nbformat.v4.new_code_cell("plot()"))
        notebook.cells[0].outputs = [
            nbformat.v4.new_output("display_data", shown) for shown in (data, forged)
        ]
        notebook.cells.append(nbformat.v4.new_markdown_cell("<script>alert(5)</script>"))

    hand_in(course, "ada", solve, write)
    say(course, "ada")
    record(course)
    mark_by_hand(course, "ada", 0)
    assert gradebook.feedback(course, ID).done == ["ada"]
    html = page(course, "ada").read_text(encoding="utf-8")
    assert not re.search(r"<script[^>]*>\s*alert|<[^>]* onerror", html)
    assert html.count(f"data:image/png;base64,{PNG}") == 1 + len(cells("written"))


def test_markdown_is_rendered_without_danger() -> None:
    environment = Environment()
    environment.filters["markdown2html"] = preprocessors.safe_markdown
    source = (
        "# Title\n\n| a |\n|---|\n| **b** |\n\n[x](javascript:alert(1)) [y](https://example.org)\n"
        "<iframe src='https://example.org'></iframe>\n\n![z](https://example.org/spy.png) $a<b$"
    )
    html = environment.from_string("{{ source | markdown2html }}").render(source=source)
    for kept in ("<h1>Title", "<strong>b</strong>", 'href="https://example.org"', "$a&lt;b$"):
        assert kept in html
    for gone in ("javascript:", "<iframe", "spy.png"):
        assert gone not in html


def test_collecting_leaves_out_what_is_unsafe(
    course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    class Unreadable:
        def write(self, path: Path) -> None:
            asked.append(path.name)

    monkeypatch.setattr(collecting, "judge", lambda *_: Unreadable())
    notebook = (course / "release" / ID / f"{ID}.ipynb").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    with zipfile.ZipFile(folder / "d1-ada.zip", "w") as archive:
        archive.writestr("../../evil.ipynb", notebook)
        archive.writestr("checkpoints/autoencoder.json", "{}")
        archive.writestr("/etc/passwd", "x")
    (folder / "d1-ADA.ipynb").write_bytes(notebook)
    (folder / "d1-bea.ipynb").write_bytes(b"\xef\xbb\xbf" + notebook)
    (folder / "d1-cyd.zip").write_bytes(b"PK no zip")
    (folder / "d1-..zip").write_bytes(b"")
    (folder / "d1-a b.zip").write_bytes(b"")
    (folder / "d9-ada.zip").write_bytes(b"")
    os.symlink(folder / "d1-bea.ipynb", folder / "d1-eve.ipynb")
    (folder / "d1-dan").mkdir()
    (folder / "d1-dan" / "work.ipynb").write_bytes(notebook)

    report = collecting.collect(folder, course)

    students = ["ADA", "bea", "dan"]
    assert report.done == [f"{ID}-{student}" for student in students]
    assert set(report.problems) == {
        "d1-ada.zip",  # clashes with ADA
        "d1-cyd.zip",
        "d1-..zip",
        "d1-a b.zip",
        "d9-ada.zip",
        "d1-eve.ipynb",
    }
    assert all(text.endswith(".") for text in report.problems.values())
    assert asked == ["cyd.json"]
    files = {p.relative_to(course / "submitted") for p in course.glob("submitted/**/*.*")}
    assert files == {Path(student, ID, f"{ID}.ipynb") for student in students}
    assert collecting.collect(folder, course).unchanged == report.done
    for student in students:
        say(course, student)
    record(course)
