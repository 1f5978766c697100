"""The table of results, as HTML in a notebook and as text elsewhere."""

import html
import re
from collections.abc import Sequence
from urllib.parse import quote

from helpers.checking import Result, Status

#: Symbol and colour of each status. They differ in shape, and the symbol is white on its colour:
#: legible on light and dark pages and without colour vision.
_BADGES = {
    Status.PASSED: ("✔", "#1a7f37"),
    Status.UNATTEMPTED: ("○", "#57606a"),
    Status.INFRASTRUCTURE: ("?", "#57606a"),
}
_WRONG = ("✘", "#cf222e")
#: Of these, identical results of one cell share a row.
_SHARED = (Status.UNATTEMPTED, Status.ERROR, Status.INFRASTRUCTURE)
_CODE = re.compile(r"`([^`\n]+)`")


class CheckTable:
    """Results of checks, shown as a table in a notebook and as text elsewhere.

    Args:
        results: in the order of their rows.
        footer: a sentence below the table, after the points.
        header: sentences above the table; all but the first are a list.
        file: the name of a file next to the notebook; where the header has it, it is a link.
    """

    def __init__(
        self,
        results: Sequence[Result],
        footer: str = "",
        header: Sequence[str] = (),
        file: str = "",
    ) -> None:
        self.results = list(results)
        self.footer = footer
        self.header = list(header)
        self.file = file

    @property
    def earned(self) -> float:
        """Points earned."""
        return sum(result.earned for result in self.results)

    @property
    def points(self) -> float:
        """Points that could be earned."""
        return sum(result.check.points for result in self.results)

    def __repr__(self) -> str:
        lines = [("  - " if number else "") + text for number, text in enumerate(self.header)]
        for row in rows(self.results):
            lines.append(f"{_badge(row[0])[0]} {_title(row)}  [{_points(row)}]")
            if row[0].message:
                lines.append(f"    {_message(row[0])}")
        lines.append(f"{self._score()} {self.footer}".strip())
        return _sendable("\n".join(lines))

    def _repr_html_(self) -> str:
        try:
            return _sendable(self._page())
        except Exception:  # something that is no text: show it, whatever it looks like
            return f"<pre>{html.escape(repr(self))}</pre>"

    def _page(self) -> str:
        first, *others = [_inline(text) for text in self.header] or [""]
        if self.file:
            name = html.escape(self.file)
            link = f'<a href="{quote(self.file)}" download>{name}</a>'
            first = first.replace(name, link)
        above = f'<p style="margin:.5em 0"><b>{first}</b></p>' if first else ""
        if others:
            above += f"<ul>{''.join(f'<li>{text}</li>' for text in others)}</ul>"
        body = "".join(_row(row) for row in rows(self.results))
        return (
            f'{above}<table style="font-size:100%; border-collapse:collapse; margin:0; '
            f'color:inherit">{body}</table><p style="margin:.5em 0">'
            f"<b>{self._score()}</b> {_inline(self.footer)}</p>"
        )

    def _score(self) -> str:
        return f"{self.earned:g} of {self.points:g} points."


def rows(results: Sequence[Result]) -> list[list[Result]]:
    """The results in rows: of a task that is untouched, all checks share one."""
    started = {each.check.cell for each in results if each.status is not Status.UNATTEMPTED}
    found: dict[object, list[Result]] = {}
    for number, result in enumerate(results):
        cell = result.check.cell
        key: object = number
        if cell not in started:
            key = cell  # of several things that are missing, the first one is said
        elif result.status in _SHARED:
            key = (cell, result.status, result.message)
        found.setdefault(key, []).append(result)
    return list(found.values())


def _row(row: Sequence[Result]) -> str:
    symbol, colour = _badge(row[0])
    status = "" if row[0].status is Status.PASSED else f"<b>{_status(row[0])}.</b> "
    message = f"{status}{_inline(str(row[0].message))}"
    return (
        '<tr style="vertical-align:top"><td><span style="display:inline-block; min-width:1.4em; '
        f'text-align:center; border-radius:.3em; color:#fff; background:{colour}" '
        f'title="{row[0].status.value}">{symbol}</span></td>'
        '<td style="text-align:left; white-space:pre-line; padding:.15em .6em">'
        f"{_inline(_title(row))}"
        f"{'<br>' if message else ''}{message}</td>"
        f'<td style="white-space:nowrap">{_points(row)}</td></tr>'
    )


def _badge(result: Result) -> tuple[str, str]:
    return _BADGES.get(result.status, _WRONG)


def _title(row: Sequence[Result]) -> str:
    if len(row) == 1:
        return row[0].check.title
    return f"{len(row)} checks of `{row[0].check.cell}`"


def _message(result: Result) -> str:
    """The message in the table as text, with the status where the symbol does not tell."""
    return f"{_status(result)}. {result.message}" if result.fault else str(result.message)


def _status(result: Result) -> str:
    if result.fault:
        return "failed, since the check itself raised an exception"
    if result.status is Status.INFRASTRUCTURE:
        return "not run"
    return result.status.value


def _points(row: Sequence[Result]) -> str:
    points = sum(result.check.points for result in row)
    return f"{sum(result.earned for result in row):g}/{points:g}" if points else "advice"


def _inline(text: str) -> str:
    """A sentence as HTML; what is between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", html.escape(text))


def _sendable(text: str) -> str:
    """The text without half characters, which a student's exception may have and JSON may not."""
    return text.encode("utf-8", "replace").decode("utf-8")
