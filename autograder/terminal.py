"""What the command line and the demonstration print in the terminal."""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from autograder.classroom import Change, Judged
    from autograder.judging import Judgement

T = TypeVar("T")


def follow(console: Console, title: str, steps: Generator[Judged, None, T]) -> T:
    """Show the progress of a grading and return its result."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as progress:
        task = progress.add_task(title, total=None)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                progress.update(task, total=progress.tasks[0].completed)
                result: T = end.value
                return result
            name = plain(step.result.student)
            progress.update(task, total=step.total, completed=step.done, description=name)


def show_submission(console: Console, result: Judgement) -> None:
    """Print the result of every check of one submission."""
    for one in result.checks:
        points = f"{one.earned:g}/{one.points:g}" if one.points else "advice"
        hidden = " (hidden)" if one.hidden else ""
        console.print(plain(f"{one.status.value:13} {points:>7}  {one.title}{hidden}"))
        if one.message:
            console.print(plain(f"{'':23}{one.message}"), style="dim")
    for one in result.faults:
        console.print(plain(f"Look at this: the check {one.name} raised {one.fault}"))
    for notice in result.notices:
        console.print(plain(f"Notice: {notice}"))
    line = f"{_score(result)} points, {result.status.value}, {result.seconds:.1f} s."
    console.print(line, style="bold")


def show_class(console: Console, summary: Mapping[str, Any]) -> None:
    """Print a table of a class, the problems that need attention, and the paths of the pages.

    Args:
        summary: what :meth:`autograder.classroom.ClassResults.summary` returns.
    """
    table = Table(box=None, pad_edge=False)
    table.add_column("student", style="bold", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    table.add_column("lost, and why", overflow="fold")
    table.add_column("s", justify="right")
    for row in summary["rows"]:
        table.add_row(*map(plain, row))
    console.print(table)
    for name, sentence in summary["problems"].items():
        console.print(f"[bold]{plain(name)}[/]: {plain(sentence)}")
    if summary["n_faults"]:
        console.print(
            f"Checks that could not work with an answer: {summary['n_faults']}. They are counted "
            "as failed; the class page says which. Please report them."
        )
    if summary["n_waiting"]:
        console.print(
            f"Submissions that still need a mark: {summary['n_waiting']}. To mark written answers, "
            "run `make lab` and open the formgrader."
        )
    for title, what in (("Class page", "page"), ("Feedback", "feedback"), ("Marks", "marks")):
        console.print(plain(f"{title + ':':11} {summary[what]}"))


def show_change(console: Console, change: Change) -> None:
    """Print how a submission's result changes with the new checks."""
    before, after = (f"{_score(r)}, {r.status.value}" for r in (change.before, change.after))
    console.print(plain(f"{change.after.student}: {before} -> {after}"), style="bold")
    for points, check in change.checks:
        console.print(plain(f"   {check.name}: {points:g} -> {check.earned:g} {check.message}"))


def plain(text: str) -> str:
    """Text from a submission, without markup and control characters."""
    return escape(re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", "?", text))


def _score(result: Judgement) -> str:
    mark = "no mark" if result.score is None else f"{result.score:g}"
    return f"{mark} of {result.max_score:g}"
