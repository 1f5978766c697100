"""The ``autograder`` command: release, check, grade, report, export, demo.

Each command imports what it needs when it runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from autograder import BAD_INPUT, OUR_FAULT, UserError, __version__
from helpers import deliverables
from helpers.deliverables import Deliverable

if TYPE_CHECKING:
    from autograder.classroom import JudgeClass


class _Commands(TyperGroup):
    """The commands; an error that the instructor can fix is printed as one sentence."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            _stop(str(error), error.exit_code)


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
console = Console(highlight=False)

Id = Annotated[str, typer.Argument(help="The deliverable, such as d1.")]
Course = Annotated[Path | None, typer.Option(help="The course folder; by default course/.")]
Level = Annotated[int, typer.Option(help="The lowest isolation level to run at (3, 2, 1 or 0).")]


@app.callback(invoke_without_command=True)
def autograder(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Release deliverables, grade hand-ins, export marks."""
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command()
def release(
    ids: Annotated[list[str] | None, typer.Argument(help="Deliverables; by default all.")] = None,
    kit_url: Annotated[
        str | None, typer.Option(help="The address from which Colab and Kaggle fetch the kit.")
    ] = None,
    course: Course = None,
) -> None:
    """Make the students' notebooks and their zip from solutions/."""
    from autograder import release as releasing

    folder = _course(course)
    for deliverable in [_deliverable(name) for name in ids or deliverables.DELIVERABLES]:
        path = releasing.release(deliverable.id, folder, kit_url=kit_url)
        console.print(f"Released {path}")
    console.print(f"For students without git: {releasing.student_kit(folder)}")


@app.command()
def check(
    path: Annotated[Path, typer.Argument(help="A zip, a folder or a notebook.")],
    deliverable: Annotated[
        str | None, typer.Option(help="The deliverable; by default taken from the file's name.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="The student's id.")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the result to this JSON file.")] = None,
    min_level: Level = 0,
) -> None:
    """Grade one submission and show every check."""
    _expect_linux()
    from autograder.judging import Outcome, deliverable_of, judge
    from autograder.terminal import show_submission

    found = deliverable_of(path, deliverable)
    name = student or path.stem.removeprefix(found.id).removeprefix("-") or "student"
    _announce_level(min_level)
    result = judge(path, found.id, name)
    if json is not None:
        result.write(json)
    show_submission(console, result)
    if result.status is Outcome.UNREADABLE:
        _stop(result.message)
    if result.status is Outcome.INFRASTRUCTURE or result.faults:
        raise typer.Exit(OUR_FAULT)


@app.command()
def grade(
    ids: Annotated[list[str] | None, typer.Argument(help="Deliverables; by default all.")] = None,
    handins: Annotated[
        Path | None, typer.Option(help="A folder of <id>-<student>.zip to collect first.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Submissions judged at the same time.")] = 1,
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

    If the checks have changed since a submission was judged, its new mark is
    first shown next to the old one, with the reason, and is written only when
    you accept it.
    """
    _expect_linux()
    from autograder import unchanged
    from autograder.terminal import follow, show_class

    folder = _course(course)
    options = (ids, min_level, scheduler)
    said = unchanged.recall(folder, handins, *options)
    if said is not None:
        console.print("Nothing has changed since the last grading.")
        for summary in said:
            show_class(console, summary)
        return

    from autograder import classroom

    _announce_level(min_level)
    judge_class: JudgeClass = partial(classroom.judge_class, jobs=jobs)
    if scheduler is not None:
        judge_class = partial(classroom.judge_on_cluster, scheduler=scheduler, min_level=min_level)
    classroom.expect_usable(folder)
    if handins is not None and not handins.is_dir():
        _stop(f"There is no folder {handins}.")
    all_right, is_final, said = True, True, []
    for deliverable in [_deliverable(name) for name in ids or deliverables.DELIVERABLES]:
        if ids or handins is not None or classroom.submitted(folder, deliverable.id):
            _regrade(deliverable, folder, judge_class, yes)
            steps = classroom.grade_class(deliverable, folder, handins, judge_class)
            graded = follow(console, f"Judging {deliverable.id}", steps)
            said.append(graded.summary())
            show_class(console, said[-1])
            all_right &= graded.all_recorded and not graded.n_faults
            is_final &= graded.is_final
    if not all_right:
        raise typer.Exit(OUR_FAULT)
    if is_final:
        unchanged.remember(said, folder, handins, *options)


@app.command()
def report(name: Id, course: Course = None) -> None:
    """Write the class page and the feedback pages again."""
    from autograder import classroom, sandbox

    folder, deliverable = _course(course), _deliverable(name)
    results = classroom.read_results(folder, deliverable.id)
    if not results:
        _stop(f"There are no results of {deliverable.id} in {folder}: run `autograder grade`.")
    level = sandbox.describe(min(result.isolation_level for result in results))
    pages = folder / "reports" / deliverable.id
    page = classroom.write_reports(results, deliverable, pages, level)
    console.print(f"Class page: {page}")


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The CSV file to write.")] = Path("marks.csv"),
    course: Course = None,
) -> None:
    """Write the marks of the whole class as CSV."""
    from autograder import classroom

    folder = _course(course)
    classroom.expect_usable(folder)
    console.print(f"Marks: {classroom.export(folder, path)}")


@app.command()
def demo(
    folder: Annotated[
        Path, typer.Argument(help="The folder to work in; it is emptied first.")
    ] = Path("demo"),
) -> None:
    """Train the reference of deliverable 1 and grade a small class with it."""
    _expect_linux()
    from autograder.demo import run_demo

    _announce_level(0)
    run_demo(folder.resolve(), console)


def _regrade(deliverable: Deliverable, course: Path, judge_class: JudgeClass, yes: bool) -> None:
    """Judge again what an older version of the checks judged, show the changes, and ask."""
    from autograder import classroom
    from autograder.terminal import follow, show_change

    students = classroom.stale(course, deliverable.id)
    if not students:
        return
    console.print(f"The checks of {deliverable.id} have changed: judging {len(students)} again.")
    follow(console, deliverable.id, classroom.regrade(deliverable, course, judge_class))
    changed = [c for c in classroom.changes(course, deliverable.id) if c.matters]
    for change in changed:
        show_change(console, change)
    console.print(f"{len(changed)} of {len(students)} marks change.")
    if changed and not yes and not (sys.stdin.isatty() and typer.confirm("Write them?")):
        _stop("Nothing was written. Use --yes to accept the new marks.")
    classroom.accept(course, deliverable.id)


def _announce_level(minimum: int) -> None:
    """Print how well student code is isolated on this machine; stop if that is not enough."""
    from autograder import sandbox

    level = sandbox.isolation_level()
    style = "dim" if level >= 2 else "bold red"
    console.print(f"Isolation {sandbox.describe(level)}.", style=style)
    if level < minimum:
        _stop(
            f"Marks need level {minimum}: install bubblewrap (apt-get install bubblewrap), or use "
            f"--min-level {level} for practice scores."
        )


def _expect_linux() -> None:
    """Stop on systems that have no sandbox."""
    if sys.platform != "linux":
        _stop(
            "Judging needs Linux, whose namespaces isolate student code. On Windows use WSL 2, on "
            "macOS a Linux virtual machine or container. `autograder release` works here."
        )


def _course(course: Path | None) -> Path:
    """The course folder, created if it does not exist."""
    from autograder.course import default_course

    folder = course.resolve() if course is not None else default_course()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _deliverable(name: str) -> Deliverable:
    try:
        return deliverables.get(name)
    except KeyError as error:
        _stop(str(error.args[0]))


def _stop(sentence: str, code: int = BAD_INPUT) -> NoReturn:
    """Print one sentence and exit."""
    print(sentence, file=sys.stderr)
    raise typer.Exit(code)


def main() -> None:
    """Run the command; an error of the machine or of the database is printed as one sentence."""
    # nbgrader logs a traceback for every database error, which the sentence replaces.
    logging.getLogger("tornado.application").setLevel(logging.CRITICAL)
    try:
        app()
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        sentence = f"{what}. What was written so far is kept: run the same command again."
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        if not isinstance(error, SQLAlchemyError):
            raise
        reason = str(error).splitlines()[0]
        sentence = f"The gradebook cannot be used ({reason}). Run the same command again."
    else:
        return
    print(sentence, file=sys.stderr)
    sys.exit(OUR_FAULT)


if __name__ == "__main__":
    main()
