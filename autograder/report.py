"""What people read: a page for each student, a page for the class, one line for the terminal."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from autograder.results import CheckResult, Judgement, Outcome
from helpers import deliverables
from helpers.check import Status
from helpers.deliverables import Deliverable

_MEANINGS = {
    Outcome.GRADED: "Your notebook was run and checked.",
    Outcome.UNATTEMPTED: "Nothing was filled in: every task still raises NotImplementedError.",
    Outcome.ERROR: "Your notebook could not be run: see the first message below.",
    Outcome.TIMEOUT: "Your notebook ran longer than is allowed: look for a loop without end.",
    Outcome.OUT_OF_MEMORY: "Your notebook used more memory than is allowed.",
    Outcome.UNREADABLE: "What you handed in cannot be read. Please hand it in again.",
    Outcome.MISSING: "Nothing was handed in.",
    Outcome.INFRASTRUCTURE: "The grader failed, through no fault of yours. It will be run again.",
}
_MARKS = {Status.PASSED: "✔", Status.UNATTEMPTED: "○"}

# Messages come from strangers' code: everything is escaped unless it was made here.
_templates = Environment(
    loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """What a student reads of one check."""

    title: str
    status: Status
    message: str
    points: str


def rows_for_student(checks: Iterable[CheckResult]) -> list[Row]:
    """The checks of a cell. Of a hidden one, only whether it passed."""
    checks = list(checks)
    n_hidden = sum(check.hidden for check in checks)
    rows, hidden = [], 0
    for check in checks:
        points = f"{check.earned:g} / {check.points:g}" if check.points else "advice"
        if check.hidden:
            hidden += 1
            status = Status.FAILED if check.status in _LOST else check.status
            rows.append(Row(f"Hidden check {hidden} of {n_hidden}", status, "", points))
        else:
            rows.append(Row(check.title, check.status, check.message, points))
    return rows


_LOST = (Status.ERROR, Status.TIMEOUT, Status.OUT_OF_MEMORY)


def feedback_html(result: Judgement) -> str:
    """The page of one student."""
    deliverable = deliverables.get(result.deliverable)
    names = list(dict.fromkeys(check.cell for check in result.checks))
    cells = [
        (name, rows_for_student(check for check in result.checks if check.cell == name))
        for name in names
    ]
    curves = [
        (name, _curve(losses, deliverable.max_loss))
        for name, losses in result.reported_losses.items()
        if len(losses) > 1
    ]
    return _templates.get_template("feedback.html.j2").render(
        result=result,
        deliverable=deliverable,
        meaning=_MEANINGS[result.status],
        # An unreadable hand-in has one message, and no checks that are worth a line.
        cells=[] if result.status is Outcome.UNREADABLE else cells,
        curves=curves,
        mark=_mark,
        points=_points,
    )


def class_html(results: Sequence[Judgement], deliverable: Deliverable, level: str) -> str:
    """The page of the class. It names hidden checks: it is for instructors.

    Args:
        level: a sentence about the isolation.
    """
    results = sorted(results, key=lambda result: result.student.casefold())
    scores = [result.score for result in results if result.score is not None]
    # What could not be read says nothing about the checks.
    judged = [result for result in results if result.status is not Outcome.UNREADABLE]
    counts = Counter(check.id for result in judged for check in lost_checks(result))
    by_id = {check.id: check for result in judged for check in result.checks}
    return _templates.get_template("class.html.j2").render(
        results=results,
        rows=[(result, lost_checks(result)) for result in results],
        deliverable=deliverable,
        level=level,
        median=_points(statistics.median(scores)) if scores else "-",
        most=_points(max((result.max_score for result in results), default=0)),
        histogram=_histogram([s / r.max_score for r in results if (s := r.score) is not None]),
        again=[r.student for r in results if r.status is Outcome.INFRASTRUCTURE],
        costly=[(by_id[name], count) for name, count in counts.most_common(8)],
        link=lambda student: f"feedback/{quote(_file_name(student))}",
        share=lambda result: round(100 * (result.score or 0) / (result.max_score or 1)),
        points=_points,
    )


def write_reports(
    results: Sequence[Judgement], deliverable: Deliverable, folder: Path, level: str
) -> Path:
    """Write the class page, a feedback page a student and results.json; the class page's path."""
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    for result in results:
        page = folder / "feedback" / _file_name(result.student)
        page.write_text(feedback_html(result), encoding="utf-8")
    everything = ",\n".join(result.model_dump_json(indent=2) for result in results)
    (folder / "results.json").write_text(f"[{everything}]\n", encoding="utf-8")
    path = folder / "class.html"
    path.write_text(class_html(results, deliverable, level), encoding="utf-8")
    return path


def lost_checks(result: Judgement) -> list[CheckResult]:
    """The checks that cost points, the dearest first."""
    lost = [check for check in result.checks if check.earned < check.points]
    return sorted(lost, key=lambda check: -check.points)


def lost(result: Judgement) -> str:
    """What was lost and why, in a line or two."""
    if result.message or result.status is not Outcome.GRADED:
        return result.message or _MEANINGS[result.status]
    checks = lost_checks(result)
    lines = [f"{check.id.rpartition('.')[2]}: {check.message[:140]}" for check in checks[:3]]
    if len(checks) > 3:
        lines.append(f"... and {len(checks) - 3} more")
    return "\n".join(lines)


def verdict_html(checks: Iterable[CheckResult]) -> Markup:
    """The checks of one cell as a table, for nbgrader's feedback page: all styles are inline."""
    left = Markup(' style="text-align:left"')
    body = Markup("").join(
        Markup("<tr><td{0}>{1}</td><td{0}>{2}</td><td{0}>{3}</td><td{0}>{4}</td></tr>").format(
            left,
            row.title,
            f"{_mark(row.status)}\N{NO-BREAK SPACE}{row.status}",
            row.points,
            row.message,
        )
        for row in rows_for_student(checks)
    )
    names = ("Check", "Result", "Points", "What the grader says")
    head = Markup("").join(Markup("<th{}>{}</th>").format(left, name) for name in names)
    table = '<table class="table"><thead><tr>{}</tr></thead><tbody>{}</tbody></table>'
    return Markup(table).format(head, body)


def _mark(status: Status) -> str:
    return _MARKS.get(status, "✘")


def _points(value: float) -> str:
    return f"{value:g}"


def _file_name(student: str) -> str:
    """A file name for a student's page: whatever the name is, it stays in its folder."""
    plain = quote(student, safe="@+")[:120].replace("%", "_").lstrip(".")
    return f"{plain or '_'}.html"


def _curve(losses: Sequence[float], threshold: float) -> Markup:
    """Losses over epochs, with the threshold, as a small drawing."""
    width, height, left, bottom = 420, 170, 50, 30
    low, high = min(*losses, threshold), max(*losses, threshold)
    span = (high - low) or 1.0

    def x(epoch: float) -> float:
        return left + (width - left - 10) * (epoch - 1) / max(len(losses) - 1, 1)

    def y(loss: float) -> float:
        return 12 + (height - bottom - 20) * (high - loss) / span

    line = " ".join(f"{x(n):.1f},{y(loss):.1f}" for n, loss in enumerate(losses, 1))
    level = f"{y(threshold):.1f}"
    return Markup(
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="Loss by epoch, from {losses[0]:.4g} to {losses[-1]:.4g}">'
        f'<line x1="{left}" x2="{width - 10}" y1="{level}" y2="{level}" stroke="var(--bad)" '
        f'stroke-dasharray="4 3"/><text x="{width - 10}" y="{float(level) - 4:.1f}" '
        f'text-anchor="end">must end below {threshold:g}</text>'
        f'<polyline points="{line}" fill="none" stroke="var(--blue)" stroke-width="2"/>'
        f'<text x="{left - 6}" y="{y(high) + 4:.1f}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{left - 6}" y="{y(low) + 4:.1f}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{left}" y="{height - 8}">epoch 1</text>'
        f'<text x="{width - 10}" y="{height - 8}" text-anchor="end">{len(losses)}</text></svg>'
    )


def _histogram(shares: Sequence[float], n_bins: int = 10) -> Markup:
    """How many reached each tenth of the points, as a small drawing."""
    counts = Counter(min(int(share * n_bins), n_bins - 1) for share in shares)
    tallest = max(counts.values(), default=1)
    bars = "".join(
        f'<rect x="{24 * n}" y="{60 - 50 * count / tallest:.1f}" width="22" '
        f'height="{50 * count / tallest:.1f}" fill="var(--blue)"/>'
        f'<text x="{24 * n + 11}" y="{56 - 50 * count / tallest:.1f}" text-anchor="middle">{count}'
        "</text>"
        for n, count in counts.items()
    )
    return Markup(
        '<svg viewBox="0 -6 240 84" width="240" role="img" aria-label="Distribution of points">'
        f'{bars}<line x1="0" x2="240" y1="60.5" y2="60.5" stroke="var(--line)"/>'
        '<text x="0" y="74">0%</text><text x="240" y="74" text-anchor="end">100%</text></svg>'
    )
