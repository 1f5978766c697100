"""What people read: a page for each student, a page for the class, rows and files of plain data.

Titles, messages and names of students are strangers' words: the templates escape all of them.
Students never read what a hidden check is, nor what went wrong inside the grader.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from autograder.results import CheckResult, Judgement, Outcome
from helpers import deliverables
from helpers.check import Status
from helpers.deliverables import Deliverable

_TO_STUDENTS = {
    Outcome.GRADED: "Your notebook was run and checked. Where points are missing, the message "
    "says what was expected; run the same check in your notebook to see whether it is right now.",
    Outcome.UNATTEMPTED: "Nothing was filled in: wherever a check looked, the TODO was still "
    "there. If you did work on it, you may have handed in another file: hand in the right one.",
    Outcome.ERROR: "Your code raised an error before any check could pass; the first message "
    "below says which. Restart the kernel, run all cells from the top, and mend what stops.",
    Outcome.TIMEOUT: "Your code was stopped because it took too long. Look for a loop without "
    "end, and for training outside the training cell.",
    Outcome.OUT_OF_MEMORY: "Your code was stopped because it used more memory than is allowed. "
    "Look for a list that keeps growing, and for a whole data set that is put through the model "
    "at once.",
    Outcome.UNREADABLE: "What you handed in cannot be read, so there is no mark. Make the zip "
    "again with the notebook's last cell, and hand it in again.",
    Outcome.MISSING: "Nothing was handed in under your name, so there is no mark. If you did hand "
    "something in, tell your instructor.",
    Outcome.INFRASTRUCTURE: "The grader failed, through no fault of yours. There is no mark yet "
    "and nothing for you to do: this will be graded again.",
}
_ALL_PASSED = "Your notebook was run and checked, and every check passed."

_TO_INSTRUCTORS = {
    Outcome.GRADED: "",
    Outcome.UNATTEMPTED: "Nothing was filled in.",
    Outcome.ERROR: "The code raised before any check could pass.",
    Outcome.TIMEOUT: "The code was stopped: it took too long.",
    Outcome.OUT_OF_MEMORY: "The code was stopped: it used too much memory.",
    Outcome.UNREADABLE: "What was handed in cannot be read.",
    Outcome.MISSING: "Nothing was handed in.",
    Outcome.INFRASTRUCTURE: "The grader failed: to be graded again.",
}

#: Notices that are about a student's own work, and so are for students too. Others are not shown.
_NOTICES_FOR_STUDENTS = ("Imports beyond those allowed: ", "The cell ", "The question ")

_NO_MARK_YET = "The grader failed; this will be graded again."
#: What stands where there is no mark.
NO_MARK = "\N{EN DASH}"
_MARKS = {Status.PASSED: "✔", Status.UNATTEMPTED: "○", Status.INFRASTRUCTURE: "…"}
_LONGEST = 4000  # characters of one message on a page
_FOLDED = 500  # characters beyond which a message is folded


@dataclass(frozen=True)
class Row:
    """What a student reads of one check; ``word`` is how it ended, empty if it passed."""

    title: str
    status: Status
    word: str
    message: str
    points: str

    @property
    def mark(self) -> str:
        """One character for the eye; the selector keeps it from becoming an emoji."""
        return _MARKS.get(self.status, "✘") + "\N{VARIATION SELECTOR-15}"


@dataclass(frozen=True)
class Cell:
    """What a student reads of one check cell; ``points`` is such as "7 of 25 points"."""

    title: str
    rows: list[Row]
    points: str


def verdict_html(checks: Sequence[CheckResult]) -> str:
    """The results of one check cell, for nbgrader's feedback; its styles are inline."""
    return _page("verdict", cell=_cell("", checks))


def feedback_html(result: Judgement) -> str:
    """The page of one student: whole in itself, for the screen and for paper."""
    deliverable = deliverables.get(result.deliverable)
    complete = result.score is not None and result.score >= result.max_score > 0
    graded = result.status is Outcome.GRADED
    # Our own exceptions are not for students. An unreadable hand-in has one message and no checks.
    message = "" if result.status is Outcome.INFRASTRUCTURE else result.message
    unreadable = result.status in (Outcome.UNREADABLE, Outcome.MISSING)
    cells = {} if unreadable else _by_cell(result)
    losses = {
        name: [v for v in h if math.isfinite(v)] for name, h in result.reported_losses.items()
    }
    return _page(
        "feedback",
        result=result,
        deliverable=deliverable,
        meaning=_ALL_PASSED if graded and complete else _TO_STUDENTS[result.status],
        message=message,
        cells=[_cell(name, checks) for name, checks in cells.items()],
        has_hidden=any(check.hidden for checks in cells.values() for check in checks),
        curves=[_curve(name, h, _threshold(name, deliverable)) for name, h in losses.items() if h],
        notices=[n for n in result.notices if n.startswith(_NOTICES_FOR_STUDENTS)],
    )


def class_html(
    results: Sequence[Judgement],
    deliverable: Deliverable,
    level: str,
    link: Callable[[str], str] | None = None,
) -> str:
    """The page of the class. It names hidden checks: it is for instructors.

    Args:
        level: a sentence about the isolation, such as that of ``sandbox.describe``.
        link: the address of a student's feedback page; by default as ``write_reports`` names it.
    """
    results = sorted(results, key=lambda result: (result.student.casefold(), result.student))
    marked = [result for result in results if result.score is not None]
    scores = [result.score or 0.0 for result in marked]
    levels = Counter(result.isolation_level for result in results)
    return _page(
        "class",
        deliverable=deliverable,
        level=level,
        levels=sorted(levels.items()) if len(levels) > 1 else [],
        rows=[
            {
                "result": result,
                "link": (link or _feedback_link)(result.student),
                "share": _percent(result.score or 0, result.max_score),
                "sentence": result.message or _TO_INSTRUCTORS[result.status],
                # Where every check ended alike, one sentence says so, and one message why.
                "cause": _cause(result),
                "lost": lost_checks(result) if result.status is Outcome.GRADED else [],
            }
            for result in results
        ],
        n_marked=len(marked),
        median=_number(statistics.median(scores)) if scores else NO_MARK,
        lowest=_number(min(scores, default=0)),
        highest=_number(max(scores, default=0)),
        most=_number(max((result.max_score for result in results), default=0)),
        histogram=_histogram(marked),
        costly=_costly(marked),
    )


def lost(result: Judgement) -> str:
    """What was lost and why, in at most four lines."""
    if sentence := result.message or _TO_INSTRUCTORS[result.status]:
        return _shorten(f"{sentence} {'' if result.message else _cause(result)}", 200)
    checks = lost_checks(result)
    names = [check.id.rpartition(".")[2] for check in checks[:3]]
    lines = [
        f"{name}: {_shorten(check.message, 140) or _word(check.status)}"
        for name, check in zip(names, checks, strict=False)
    ]
    return "\n".join(lines + [f"... and {len(checks) - 3} more"] * (len(checks) > 3))


def lost_checks(result: Judgement) -> list[CheckResult]:
    """The checks that cost points, the dearest first. Where the fault was ours, nothing is lost."""
    lost = [check for check in result.checks if check.earned < check.points]
    lost = [check for check in lost if check.status is not Status.INFRASTRUCTURE]
    return sorted(lost, key=lambda check: -check.points)


def results_json(results: Iterable[Judgement]) -> str:
    """All there is to know, as a JSON list."""
    return "[" + ",\n".join(result.model_dump_json(indent=2) for result in results) + "]\n"


def csv_text(results: Sequence[Judgement]) -> str:
    """One row a submission, one column a check cell; where there is no mark, the field is empty."""
    cells = list(dict.fromkeys(check.cell for result in results for check in result.checks))
    columns = ["deliverable", "student", "score", "max_score", "status", "isolation_level"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "seconds", *map(_no_formula, cells)])
    for r in results:
        about = [_no_formula(r.deliverable), _no_formula(r.student), r.score, r.max_score]
        theirs = _by_cell(r)
        points = [r.points(c) if c in theirs and r.score is not None else None for c in cells]
        writer.writerow([*about, r.status.value, r.isolation_level, r.seconds, *points])
    return file.getvalue()


def write_reports(
    results: Sequence[Judgement], deliverable: Deliverable, folder: Path, level: str
) -> Path:
    """Write the class page, a feedback page a student and the plain data; the class page's path."""
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    for result in results:
        page = folder / "feedback" / _file_name(result.student)
        page.write_text(feedback_html(result), encoding="utf-8")
    (folder / "results.json").write_text(results_json(results), encoding="utf-8")
    (folder / "results.csv").write_text(csv_text(results), encoding="utf-8")
    path = folder / "class.html"
    path.write_text(class_html(results, deliverable, level), encoding="utf-8")
    return path


# What students read of checks.


def _by_cell(result: Judgement) -> dict[str, list[CheckResult]]:
    cells: dict[str, list[CheckResult]] = {}
    for check in result.checks:
        cells.setdefault(check.cell, []).append(check)
    return cells


def _cell(name: str, checks: Sequence[CheckResult]) -> Cell:
    """A cell's checks. Of a hidden one, only whether it passed."""
    n_hidden = sum(check.hidden for check in checks)
    rows, hidden = [], 0
    for check in checks:
        hidden += check.hidden
        rows.append(_hidden_row(check, hidden, n_hidden) if check.hidden else _public_row(check))
    most = sum(check.points for check in checks)
    if any(check.status is Status.INFRASTRUCTURE for check in checks):
        points = "no mark yet"
    else:
        points = f"{_number(sum(c.earned for c in checks))} of {_number(most)} points"
    return Cell(name.replace("_", " ").capitalize(), rows, points)


def _public_row(check: CheckResult) -> Row:
    word = "" if check.status is Status.PASSED else _word(check.status)
    if check.status is Status.INFRASTRUCTURE:
        return Row(check.title, check.status, "no mark yet", _NO_MARK_YET, NO_MARK)
    return Row(check.title, check.status, word, check.message, _points(check))


def _hidden_row(check: CheckResult, number: int, total: int) -> Row:
    title = f"Hidden check {number} of {total}"
    if check.status is Status.INFRASTRUCTURE:
        return Row(title, check.status, "no mark yet", _NO_MARK_YET, NO_MARK)
    passed = check.status is Status.PASSED
    title += ": passed" if passed else ": not passed"
    return Row(title, Status.PASSED if passed else Status.FAILED, "", "", _points(check))


def _points(check: CheckResult) -> str:
    return f"{_number(check.earned)} of {_number(check.points)}" if check.points else "advice"


# What instructors read of a class.


def _cause(result: Judgement) -> str:
    """The first message of a submission that ended as a whole; none if that goes without saying."""
    if result.status in (Outcome.GRADED, Outcome.UNATTEMPTED, Outcome.UNREADABLE):
        return ""
    ended = [check for check in result.checks if check.status.value == result.status.value]
    return next((check.message for check in ended if check.message), "")


def _costly(marked: Sequence[Judgement], n_most: int = 12) -> list[dict[str, Any]]:
    """The checks that cost the class the most points."""
    losses = [check for result in marked for check in lost_checks(result)]
    counts = Counter(check.id for check in losses)
    totals: Counter[str] = Counter()
    for check in losses:
        totals[check.id] += check.points - check.earned  # type: ignore[assignment]
    by_id = {check.id: check for check in losses}
    dearest = sorted(counts, key=lambda name: (-totals[name], -counts[name], name))
    return [
        {
            "check": by_id[name],
            "count": counts[name],
            "total": totals[name],
            "share": _percent(counts[name], len(marked)),
        }
        for name in dearest[:n_most]
    ]


def _feedback_link(student: str) -> str:
    return f"feedback/{quote(_file_name(student))}"


def _file_name(student: str) -> str:
    """A file name for a student's page: whatever the name is, it stays in its folder."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}", student):
        return f"{student}.html"
    data = student.encode("utf-8", "surrogatepass")
    plain = re.sub(r"[^A-Za-z0-9]+", "_", student)[:60]
    return f"{plain}-{hashlib.sha256(data).hexdigest()[:12]}.html"


def _no_formula(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# Drawings: the numbers are made here, the templates draw.


def _threshold(name: str, deliverable: Deliverable) -> float | None:
    """What the loss of a model must end below: that of the first one, others are for comparison."""
    return deliverable.max_loss if name == deliverable.checkpoints[0] else None


def _curve(name: str, losses: Sequence[float], threshold: float | None) -> dict[str, Any]:
    """Where the losses, the threshold and the ticks of both axes lie in the drawing."""
    width, height, left, right, top, bottom = 560, 230, 62, 92, 14, 46
    shown = [*losses, *([] if threshold is None else [threshold])]
    low, high = min(shown), max(shown)
    pad = 0.08 * ((high - low) or abs(high) or 1.0)
    low, high = low - pad, high + pad
    n = len(losses)

    def x(epoch: float) -> float:
        share = (epoch - 1) / (n - 1) if n > 1 else 0.5
        return round(left + (width - left - right) * share, 1)

    def y(loss: float) -> float:
        return round(top + (height - top - bottom) * (high - loss) / (high - low), 1)

    points = [(x(epoch), y(loss)) for epoch, loss in enumerate(losses, 1)]
    epochs = [epoch for epoch in _ticks(1, n, 8) if epoch == int(epoch)]
    return {
        "name": name, "n": n, "first": f"{losses[0]:.3g}", "last": f"{losses[-1]:.3g}",
        "threshold": "" if threshold is None else f"{threshold:g}",
        "threshold_y": y(threshold or 0.0),
        "width": width, "height": height, "left": left, "right": width - right,
        "top": top, "bottom": height - bottom,
        "points": points, "line": " ".join(f"{px},{py}" for px, py in points),
        "x_ticks": [(x(epoch), f"{epoch:g}") for epoch in epochs],
        "y_ticks": [(y(loss), f"{loss:.4g}") for loss in _ticks(low, high, 5)],
    }  # fmt: skip


def _ticks(low: float, high: float, n_most: int) -> list[float]:
    """Round numbers from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    if high <= low:
        return [low]
    least = (high - low) / n_most
    power: float = 10.0 ** math.floor(math.log10(least))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= least * 0.999)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _histogram(marked: Sequence[Judgement]) -> list[dict[str, Any]]:
    """How many reached each tenth of the points: the bars of a small drawing."""
    shares = [_percent(result.score or 0.0, result.max_score) for result in marked]
    counts = Counter(min(share // 10, 9) for share in shares)
    tallest = max(counts.values(), default=1)
    return [
        {"x": 30 * n, "height": round(64 * counts[n] / tallest, 1), "count": counts[n]}
        for n in range(10)
    ]


# Words and numbers.


def _word(status: Status | Outcome) -> str:
    return status.value.replace("-", " ")


def _number(value: float) -> str:
    return f"{value:g}"


def _percent(part: float, whole: float) -> int:
    """A whole number from 0 to 100, rounded down: 100 is for all."""
    return max(0, min(100, math.floor(100 * part / whole + 1e-9))) if whole > 0 else 0


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _cut(text: str) -> str:
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]}… ({more} more characters)"


def _is_long(text: str) -> bool:
    return len(text) > _FOLDED or text.count("\n") > 7


def _code(text: str) -> Markup:
    """Escaped, with what stands between backticks as code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one is left over
        return escape(_clean(text))
    form = Markup("{}"), Markup("<code>{}</code>")
    return Markup("").join(form[n % 2].format(_clean(p)) for n, p in enumerate(pieces) if p)


def _clean(value: Any) -> Any:
    """What goes into a page, without what no page may hold: control characters, lone surrogates."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return re.sub(
            r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]",
            "\N{REPLACEMENT CHARACTER}",
            value,
        )
    return value


_templates = Environment(
    loader=PackageLoader("autograder"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, finalize=_clean,
)  # fmt: skip
_templates.filters.update(code=_code, cut=_cut, number=_number, shorten=_shorten, word=_word)
_templates.tests.update(long=_is_long)


def _page(name: str, **facts: Any) -> str:
    return _templates.get_template(f"{name}.html.j2").render(**facts)
