"""Writes the pages: one per student and one for the class, and the same results as plain data.

Titles, messages and students' names are untrusted text; the templates escape all of it. Students
never see what a hidden check is, or what went wrong inside the grader.
"""

import csv
import hashlib
import io
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from autograder.classroom.drawings import loss_curve, percent, score_histogram
from autograder.judging import CheckResult, Judgement, Outcome
from helpers import deliverables
from helpers.checking import Status
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
    Outcome.ERROR: "The code raised an error before any check could pass.",
    Outcome.TIMEOUT: "The code was stopped because it took too long.",
    Outcome.OUT_OF_MEMORY: "The code was stopped because it used too much memory.",
    Outcome.UNREADABLE: "The hand-in cannot be read.",
    Outcome.MISSING: "Nothing was handed in.",
    Outcome.INFRASTRUCTURE: "The grader failed. This submission must be graded again.",
}

#: The beginnings of notices about a student's own work. Only these are shown to students.
_NOTICES_FOR_STUDENTS = ("Imports beyond those allowed: ", "The cell ", "The question ")

_NO_MARK_YET = "The grader failed; this will be graded again."
#: Shown instead of a missing mark.
NO_MARK = "\N{EN DASH}"
_MARKS = {Status.PASSED: "✔", Status.UNATTEMPTED: "○", Status.INFRASTRUCTURE: "…"}
_LONGEST = 4000  # characters of one message on a page
_FOLDED = 500  # characters above which a message is folded


@dataclass(frozen=True)
class CheckRow:
    """What a student sees of one check; ``word`` says how it ended, and is empty if it passed."""

    title: str
    status: Status
    word: str
    message: str
    points: str

    @property
    def mark(self) -> str:
        """A symbol for the status; the variation selector prevents an emoji."""
        return _MARKS.get(self.status, "✘") + "\N{VARIATION SELECTOR-15}"


@dataclass(frozen=True)
class CellVerdict:
    """What a student sees of one check cell; ``points`` is a text like "7 of 25 points"."""

    title: str
    rows: list[CheckRow]
    points: str


def verdict_html(checks: Sequence[CheckResult]) -> str:
    """The results of one check cell, for nbgrader's feedback page; its styles are inline."""
    return _page("verdict", cell=_cell("", checks))


def feedback_html(result: Judgement) -> str:
    """The page of one student, in a single file, for the screen and for paper."""
    deliverable = deliverables.get(result.deliverable)
    complete = result.score is not None and result.score >= result.max_score > 0
    graded = result.status is Outcome.GRADED
    # Exceptions of the grader are not for students. An unreadable hand-in has one message only.
    message = "" if result.status is Outcome.INFRASTRUCTURE else result.message
    unreadable = result.status in (Outcome.UNREADABLE, Outcome.MISSING)
    cells = {} if unreadable else _grouped(result.checks, "cell")
    losses = {
        name: [v for v in h if math.isfinite(v)] for name, h in result.reported_losses.items()
    }
    # Only the first model has a threshold; the others are trained for comparison.
    thresholds = dict.fromkeys(deliverable.checkpoints[:1], deliverable.max_loss)
    return _page(
        "feedback",
        result=result,
        deliverable=deliverable,
        meaning=_ALL_PASSED if graded and complete else _TO_STUDENTS[result.status],
        message=message,
        cells=[_cell(name, checks) for name, checks in cells.items()],
        has_hidden=any(check.hidden for checks in cells.values() for check in checks),
        curves=[loss_curve(name, h, thresholds.get(name)) for name, h in losses.items() if h],
        notices=[n for n in result.notices if n.startswith(_NOTICES_FOR_STUDENTS)],
    )


def class_html(results: Sequence[Judgement], deliverable: Deliverable, level: str) -> str:
    """The page of the class, for instructors: it names hidden checks.

    Args:
        level: a sentence about the isolation, from ``sandbox.describe``.
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
                "link": f"feedback/{quote(_file_name(result.student))}",
                "share": percent(result.score or 0, result.max_score),
                "sentence": result.message or _TO_INSTRUCTORS[result.status],
                # If all checks ended in the same way: one sentence, and the message of the first.
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
        histogram=score_histogram(marked),
        costly=_costly(marked),
    )


def describe_lost(result: Judgement) -> str:
    """The checks that were lost and their messages, in at most four lines."""
    if sentence := result.message or _TO_INSTRUCTORS[result.status]:
        return _shorten(f"{sentence} {'' if result.message else _cause(result)}", 200)
    checks = lost_checks(result)
    lines = [
        f"{check.name}: {_shorten(check.message, 140) or _word(check.status)}"
        for check in checks[:3]
    ]
    return "\n".join(lines + [f"... and {len(checks) - 3} more"] * (len(checks) > 3))


def lost_checks(result: Judgement) -> list[CheckResult]:
    """The checks that cost points, most points first; a failure of the grader costs none."""
    lost = [check for check in result.checks if check.earned < check.points]
    lost = [check for check in lost if check.status is not Status.INFRASTRUCTURE]
    return sorted(lost, key=lambda check: -check.points)


def csv_text(results: Sequence[Judgement]) -> str:
    """One row per submission and one column per check cell; a missing mark is an empty field."""
    cells = list(dict.fromkeys(check.cell for result in results for check in result.checks))
    columns = ["deliverable", "student", "score", "max_score", "status", "isolation_level"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*columns, "seconds", *map(_no_formula, cells)])
    for r in results:
        about = [_no_formula(r.deliverable), _no_formula(r.student), r.score, r.max_score]
        theirs = _grouped(r.checks, "cell")
        points = [r.points(c) if c in theirs and r.score is not None else None for c in cells]
        writer.writerow([*about, r.status.value, r.isolation_level, r.seconds, *points])
    return file.getvalue()


def write_reports(
    results: Sequence[Judgement], deliverable: Deliverable, folder: Path, level: str
) -> Path:
    """Write the class page, the feedback pages and the plain data; return the class page's path."""
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    for result in results:
        page = folder / "feedback" / _file_name(result.student)
        page.write_text(feedback_html(result), encoding="utf-8")
    data = ",\n".join(result.model_dump_json(indent=2) for result in results)
    (folder / "results.json").write_text(f"[{data}]\n", encoding="utf-8")
    (folder / "results.csv").write_text(csv_text(results), encoding="utf-8")
    path = folder / "class.html"
    path.write_text(class_html(results, deliverable, level), encoding="utf-8")
    return path


# What students see of checks.


def _grouped(checks: Iterable[CheckResult], by: str) -> dict[str, list[CheckResult]]:
    """Checks by their ``cell`` or ``id``."""
    groups: dict[str, list[CheckResult]] = {}
    for check in checks:
        groups.setdefault(getattr(check, by), []).append(check)
    return groups


def _cell(name: str, checks: Sequence[CheckResult]) -> CellVerdict:
    """The checks of one cell."""
    n_hidden = sum(check.hidden for check in checks)
    rows, hidden = [], 0
    for check in checks:
        hidden += check.hidden
        title = f"Hidden check {hidden} of {n_hidden}" if check.hidden else check.title
        rows.append(_row(check, title))
    most = sum(check.points for check in checks)
    if any(check.status is Status.INFRASTRUCTURE for check in checks):
        points = "no mark yet"
    else:
        points = f"{_number(sum(c.earned for c in checks))} of {_number(most)} points"
    return CellVerdict(name.replace("_", " ").capitalize(), rows, points)


def _row(check: CheckResult, title: str) -> CheckRow:
    """One check; of a hidden one, students see only whether it passed."""
    if check.status is Status.INFRASTRUCTURE:
        return CheckRow(title, check.status, "no mark yet", _NO_MARK_YET, NO_MARK)
    passed = check.status is Status.PASSED
    points = f"{_number(check.earned)} of {_number(check.points)}" if check.points else "advice"
    if check.hidden:
        title += ": passed" if passed else ": not passed"
        return CheckRow(title, Status.PASSED if passed else Status.FAILED, "", "", points)
    word = "" if passed else _word(check.status)
    return CheckRow(title, check.status, word, check.message, points)


# What instructors see of a class.


def _cause(result: Judgement) -> str:
    """Why a submission ended as a whole: its first message; "" if the status says enough."""
    if result.status in (Outcome.GRADED, Outcome.UNATTEMPTED, Outcome.UNREADABLE):
        return ""
    ended = [check for check in result.checks if check.status.value == result.status.value]
    return next((check.message for check in ended if check.message), "")


def _costly(marked: Sequence[Judgement], n_most: int = 12) -> list[dict[str, Any]]:
    """The checks that cost the class the most points."""
    lost = _grouped((check for result in marked for check in lost_checks(result)), "id")
    costs = [(sum(c.points - c.earned for c in checks), checks) for checks in lost.values()]
    costs.sort(key=lambda cost: (-cost[0], -len(cost[1]), cost[1][0].id))
    return [
        {
            "check": checks[0],
            "count": len(checks),
            "total": total,
            "share": percent(len(checks), len(marked)),
        }
        for total, checks in costs[:n_most]
    ]


def _file_name(student: str) -> str:
    """A safe file name for a student's page; no name can lead out of the folder."""
    if deliverables.is_student_id(student) and len(student.encode()) < 200:
        return f"{student}.html"
    data = student.encode("utf-8", "surrogatepass")
    plain = re.sub(r"[^A-Za-z0-9]+", "_", student)[:60]
    return f"{plain}-{hashlib.sha256(data).hexdigest()[:12]}.html"


def _no_formula(text: str) -> str:
    """Text that a spreadsheet cannot mistake for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


# Words and numbers.


def _word(status: Status | Outcome) -> str:
    return status.value.replace("-", " ")


def _number(value: float) -> str:
    return f"{value:g}"


def _shorten(text: str, width: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def _cut(text: str) -> str:
    more = len(text) - _LONGEST
    return text if more <= 0 else f"{text[:_LONGEST]}… ({more} more characters)"


def _code(text: str) -> Markup:
    """Escape a text; the parts between backticks become code."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # one backtick has no partner
        return escape(_clean(text))
    form = Markup("{}"), Markup("<code>{}</code>")
    return Markup("").join(form[n % 2].format(_clean(p)) for n, p in enumerate(pieces) if p)


def _clean(value: Any) -> Any:
    """A value for a page, without control characters and lone surrogates."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return re.sub(
            r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]",
            "\N{REPLACEMENT CHARACTER}",
            value,
        )
    return value


_templates = Environment(
    loader=PackageLoader("autograder.classroom"), autoescape=True, undefined=StrictUndefined,
    trim_blocks=True, lstrip_blocks=True, finalize=_clean,
)  # fmt: skip
_templates.filters.update(code=_code, cut=_cut, number=_number, shorten=_shorten, word=_word)
_templates.tests["long"] = lambda text: len(text) > _FOLDED or text.count("\n") > 7


def _page(name: str, **facts: Any) -> str:
    return _templates.get_template(f"{name}.html.j2").render(**facts)
