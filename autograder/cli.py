"""``autograder``: release, check, grade, report, export, demo."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from autograder import grading, sandbox
from autograder.intake import IntakeError, deliverable_of
from autograder.judge import judge
from autograder.master import MasterError
from autograder.report import lost, write_reports
from autograder.results import Judgement, Outcome
from helpers import deliverables
from helpers.deliverables import Deliverable

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False)

#: How a class is judged: here, or on other machines.
JudgeClass = Callable[..., Iterator[Judgement]]

#: Exit codes: what was asked for cannot be done as it is; the grader itself failed.
BAD_INPUT, OUR_FAULT = 2, 3

Id = Annotated[str, typer.Argument(help="The deliverable, such as d1.")]
Course = Annotated[Path | None, typer.Option(help="The course folder; by default course/.")]
Level = Annotated[int, typer.Option(help="The least isolation level to run at (3, 2, 1 or 0).")]


@app.command()
def release(
    ids: Annotated[list[str] | None, typer.Argument(help="Deliverables; by default all.")] = None,
    kit_url: Annotated[
        str | None, typer.Option(help="Where Colab and Kaggle fetch the kit from.")
    ] = None,
    course: Course = None,
) -> None:
    """Make the students' notebooks and their zip from solutions/."""
    from autograder import release as releasing

    folder = _course(course)
    try:
        for deliverable in [_deliverable(name) for name in ids or deliverables.DELIVERABLES]:
            path = releasing.release(deliverable.id, folder, kit_url=kit_url)
            console.print(f"Released {path}")
        console.print(f"For students without git: {releasing.student_kit(folder)}")
    except (releasing.ReleaseError, MasterError) as error:
        _stop(str(error))


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A zip, a folder or a notebook.")],
    deliverable: Annotated[
        str | None, typer.Option(help="The deliverable; by default the file's name tells.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="The student's id.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the result here, as JSON.")] = None,
    min_level: Level = 0,
) -> None:
    """Grade one submission, and show every check."""
    try:
        found = deliverable_of(path, deliverable)
    except IntakeError as error:
        _stop(str(error))
    name = student or path.stem.removeprefix(found.id).removeprefix("-") or "student"
    _announce_level(min_level)
    result = judge(path, found.id, name)
    if json is not None:
        result.write(json)
    _show(result)
    if result.status is Outcome.UNREADABLE:
        _stop(result.message)
    if result.status is Outcome.INFRASTRUCTURE:
        raise typer.Exit(OUR_FAULT)


@app.command()
def grade(
    ids: Annotated[list[str] | None, typer.Argument(help="Deliverables; by default all.")] = None,
    handins: Annotated[
        Path | None, typer.Option(help="A folder of <id>-<student>.zip to collect first.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions judged at a time.")] = 1,
    course: Course = None,
    min_level: Level = 2,
    yes: Annotated[
        bool, typer.Option("--yes", help="Accept marks that new checks change.")
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler, to judge on other machines.")
    ] = None,
) -> None:
    """Grade a class: collect, judge what is new, fill the gradebook, write feedback.

    Where the checks have changed since a submission was judged, its new mark is shown beside the
    old one first, with the reason, and written only when that is accepted.
    """
    from autograder import gradebook

    _announce_level(min_level)
    folder = _course(course)
    judge_class: JudgeClass = partial(grading.judge_class, jobs=jobs)
    if scheduler is not None:
        judge_class = partial(_on_cluster, scheduler, min_level)
    gradebook.expect_usable(folder)
    unrecorded = False
    for deliverable in [_deliverable(name) for name in ids or deliverables.DELIVERABLES]:
        if ids or handins is not None or grading.submitted(folder, deliverable.id):
            _regrade(deliverable, folder, judge_class, yes)
            unrecorded |= not grade_class(deliverable, folder, handins, judge_class)
    if unrecorded:
        raise typer.Exit(OUR_FAULT)


@app.command()
def report(name: Id, course: Course = None) -> None:
    """Write the class page and the feedback pages again."""
    folder, deliverable = _course(course), _deliverable(name)
    results = grading.read_results(folder, deliverable.id)
    if not results:
        _stop(f"There are no results of {deliverable.id} in {folder}: run `autograder grade`.")
    level = min(result.isolation_level for result in results)
    pages = folder / "reports" / deliverable.id
    console.print(f"Class page: {write_reports(results, deliverable, pages, _sentence(level))}")


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The CSV file to write.")] = Path("marks.csv"),
    course: Course = None,
) -> None:
    """Write the marks of the whole class as CSV."""
    from autograder import gradebook

    folder = _course(course)
    gradebook.expect_usable(folder)
    console.print(f"Marks: {gradebook.export(folder, path)}")


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where it works; it is emptied first.")] = Path(
        "demo"
    ),
) -> None:
    """Train the reference of deliverable 1 and grade a small class with it."""
    from autograder.demo import run_demo

    _announce_level(0)
    run_demo(folder.resolve(), console)


def _on_cluster(
    scheduler: str,
    min_level: int,
    course: Path,
    deliverable_id: str,
    students: Sequence[str],
    kept: str = grading.RESULTS,
) -> Iterator[Judgement]:
    """Judge on other machines; stop with one sentence if that cannot be."""
    from autograder.cluster import ClusterError, judge_on_cluster

    try:
        yield from judge_on_cluster(scheduler, course, deliverable_id, students, min_level, kept)
    except ImportError:
        _stop('Grading on a cluster needs Dask: pip install "latent-lab[cluster]".')
    except ClusterError as error:
        _stop(str(error))


def _regrade(deliverable: Deliverable, course: Path, judge_class: JudgeClass, yes: bool) -> None:
    """Judge again what other checks have judged, show what changes, and ask."""
    students = grading.stale(course, deliverable.id)
    if not students:
        return
    console.print(f"The checks of {deliverable.id} have changed: judging {len(students)} again.")
    for _ in judge_class(course, deliverable.id, students, kept=grading.REGRADED):
        pass
    changed = [c for c in grading.changes(course, deliverable.id) if c.matters]
    for change in changed:
        before, after = (_score(result) for result in (change.before, change.after))
        console.print(_plain(f"{change.after.student}: {before} -> {after}"), style="bold")
        for points, check in change.checks:
            name = check.id.rpartition(".")[2]
            line = f"   {name}: {points:g} -> {check.earned:g} {check.message}"
            console.print(_plain(line))
    console.print(f"{len(changed)} of {len(students)} marks change.")
    if changed and not yes and not (sys.stdin.isatty() and typer.confirm("Write them?")):
        _stop("Nothing was written. To accept the new marks, say --yes.")
    grading.accept(course, deliverable.id)


def _score(result: Judgement) -> str:
    mark = "no mark" if result.score is None else f"{result.score:g}"
    return f"{mark} of {result.max_score:g}, {result.status.value}"


def grade_class(
    deliverable: Deliverable,
    course: Path,
    handins: Path | None,
    judge_class: JudgeClass = grading.judge_class,
) -> bool:
    """All of ``autograder grade`` for one deliverable; whether every result was recorded."""
    from autograder import gradebook, release

    if not (course / "release" / deliverable.id).is_dir():
        release.release(deliverable.id, course)
    problems: dict[str, str] = {}
    if handins is not None:
        if not handins.is_dir():
            _stop(f"There is no folder {handins}.")
        problems |= gradebook.collect(handins, course).problems
    students = grading.submitted(course, deliverable.id)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(f"Judging {deliverable.id}", total=len(students))
        for result in judge_class(course, deliverable.id, students):
            progress.update(task, advance=1, description=f"Judged {result.student}")
    recorded = gradebook.record(course, deliverable.id)
    problems |= recorded.problems
    written = gradebook.feedback(course, deliverable.id)
    results = grading.read_results(course, deliverable.id)
    pages = course / "reports" / deliverable.id
    level = sandbox.isolation_level()
    page = write_reports(results, deliverable, pages, _sentence(level))
    marks = gradebook.export(course, course / "marks.csv")

    console.print(_table(results))
    for name, sentence in problems.items():
        console.print(f"[bold]{name}[/]: {sentence}", markup=True)
    waiting = len(written.problems)
    if waiting:
        console.print(
            f"{waiting} wait for a mark on their written answers: `make lab`, formgrader."
        )
    console.print(
        f"Class page: {page}\nFeedback:   {page.parent / 'feedback'}\nMarks:      {marks}"
    )
    return not recorded.problems


def _table(results: list[Judgement]) -> Table:
    """The class in the terminal."""
    table = Table(box=None, pad_edge=False)
    table.add_column("student", style="bold", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("lost, and why", overflow="fold")
    table.add_column("s", justify="right")
    for result in results:
        score = "-" if result.score is None else f"{result.score:g}"
        table.add_row(
            result.student,
            f"{score}/{result.max_score:g}",
            result.status.value,
            # Strangers' text: no markup of theirs.
            _plain(lost(result)),
            f"{result.seconds:.0f}",
        )
    return table


def _show(result: Judgement) -> None:
    """One submission in the terminal."""
    for one in result.checks:
        points = f"{one.earned:g}/{one.points:g}" if one.points else "advice"
        hidden = " (hidden)" if one.hidden else ""
        console.print(_plain(f"{one.status.value:13} {points:>7}  {one.title}{hidden}"))
        if one.message:
            console.print(_plain(f"{'':23}{one.message}"), style="dim")
    for notice in result.notices:
        console.print(_plain(f"Notice: {notice}"))
    score = "no mark" if result.score is None else f"{result.score:g}"
    line = f"{score} of {result.max_score:g} points, {result.status.value}, {result.seconds:.1f} s."
    console.print(line, style="bold")


def _plain(text: str) -> str:
    """Text that the console takes as it is: no markup, no control characters."""
    from rich.markup import escape

    return escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", text))


def _announce_level(minimum: int) -> None:
    """Say how isolated student code will be; stop if that is not enough."""
    level = sandbox.isolation_level()
    style = "dim" if level >= 2 else "bold red"
    console.print(f"Isolation {_sentence(level)}.", style=style)
    if level < minimum:
        _stop(
            f"Marks need level {minimum}: install bubblewrap (apt-get install bubblewrap), or say "
            f"--min-level {level} for practice scores."
        )


def _sentence(level: int) -> str:
    return sandbox.describe(level)


def _course(course: Path | None) -> Path:
    """The course folder, made if it is not there."""
    from autograder.gradebook import default_course

    folder = course.resolve() if course is not None else default_course()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _deliverable(name: str) -> Deliverable:
    try:
        return deliverables.get(name)
    except KeyError as error:
        _stop(str(error.args[0]))


def _stop(sentence: str) -> NoReturn:
    """One clear sentence and an exit code."""
    print(sentence, file=sys.stderr)
    raise typer.Exit(BAD_INPUT)


def main() -> None:
    """The command; what the machine refuses ends in one sentence, and nothing is lost."""
    from sqlalchemy.exc import SQLAlchemyError

    from autograder.gradebook import GradebookError

    # nbgrader logs a traceback of every database error that it raises; the sentence says it.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    try:
        app()
    except GradebookError as error:
        sentence = str(error)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        sentence = f"{what}. What was written so far is kept: run the same command again."
    except SQLAlchemyError as error:
        sentence = f"The gradebook cannot be used ({str(error).splitlines()[0]}). Run it again."
    else:
        return
    print(sentence, file=sys.stderr)
    sys.exit(OUR_FAULT)


if __name__ == "__main__":
    main()
