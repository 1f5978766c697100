"""What a notebook calls: ``check`` after each task and ``handin`` at the end."""

import ast
import html
import json
import os
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from helpers import deliverables
from helpers.checking import Check, Engine, Result, Status, Submission, load_checks, run
from helpers.training import same_randomness

#: Mark and colour of each status; the others are wrong.
_MARKS = {Status.PASSED: ("✔", "#1a7f37"), Status.UNATTEMPTED: ("○", "#6e7781")}
_WRONG = ("✘", "#cf222e")


class CheckTable:
    """Results of checks, shown as a table in a notebook and as text elsewhere."""

    def __init__(self, results: Sequence[Result], footer: str = "") -> None:
        self.results = list(results)
        self.footer = footer

    @property
    def earned(self) -> float:
        """Points earned."""
        return sum(result.earned for result in self.results)

    @property
    def points(self) -> float:
        """Points that could be earned."""
        return sum(result.check.points for result in self.results)

    def __repr__(self) -> str:
        lines = []
        for result in self.results:
            mark, _ = _MARKS.get(result.status, _WRONG)
            lines.append(f"{mark} {result.check.title}  [{_points(result)}]")
            if result.message:
                lines.append(f"    {result.message}")
        lines.append(f"{self.earned:g} of {self.points:g} points. {self.footer}".strip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(_row(result) for result in self.results)
        return (
            f'<table style="font-size:100%; border-collapse:collapse">{rows}</table>'
            f'<p style="margin:.5em 0"><b>{self.earned:g} of {self.points:g} points.</b> '
            f"{html.escape(self.footer)}</p>"
        )


def check(name: str) -> CheckTable | None:
    """Run the checks of one cell, such as ``check("d1_autoencoder.architecture")``.

    Your variables and the state of the random numbers do not change.

    Returns:
        The table of results; None in the grader, which runs the checks itself.

    Raises:
        KeyError: if there are no checks of that name.
    """
    deliverable, _, cell = name.partition(".")
    if "LATENT_LAB_WORKER" in os.environ:
        return None
    checks = [c for c in load_checks(deliverable) if c.cell == cell]
    if not checks:
        raise KeyError(f"There are no checks called {name!r}.")
    results = _run_all(checks)
    passed = all(result.status is Status.PASSED for result in results)
    footer = "All of these pass; the grader runs some more." if passed else ""
    return CheckTable(results, footer)


def handin(deliverable_id: str, student: str, notebook: str | None = None) -> CheckTable | None:
    """Re-run every check, show the score so far and build the zip to hand in.

    Args:
        deliverable_id: such as ``d1_autoencoder``.
        student: your id in the course.
        notebook: the notebook's file, if it is not ``<deliverable_id>.ipynb`` in this folder.

    Returns:
        The table of results, or None in the grader and for an id that is not allowed. The zip is
        ``<deliverable_id>-<student>.zip`` in this folder.
    """
    if "LATENT_LAB_WORKER" in os.environ:
        return None
    if not deliverables.is_student_id(student) or student == "your-id":
        print('Write your own id in place of "your-id" (letters, digits and . _ @ + - only).')
        return None
    deliverable = deliverables.get(deliverable_id)
    results = _run_all(load_checks(deliverable.id))
    footer = "Written answers and the grader's own checks come on top."
    return CheckTable(results, f"{footer} {_build_zip(deliverable, student, notebook)}")


def _run_all(checks: Iterable[Check]) -> list[Result]:
    """Run checks on the names of the notebook in this kernel."""
    # The names of the notebook are those of IPython's user; outside IPython, of __main__.
    import __main__

    # One submission for all, since checks store results in it for later checks.
    submission, results = Submission(Engine(vars(__main__)).execute), []
    with same_randomness():
        for each in checks:
            results.append(run(each, submission))
            submission.ask("forget")  # the objects that the check created
    return results


def _build_zip(deliverable: deliverables.Deliverable, student: str, notebook: str | None) -> str:
    """Build the zip, and return a sentence about it."""
    content = _notebook_content(notebook or f"{deliverable.id}.ipynb")
    if content is None:
        return (
            f"No zip was made: there is no {notebook or deliverable.id + '.ipynb'} in "
            f"{Path.cwd()}. Name your notebook's file: handin(..., notebook='my_file.ipynb')."
        )
    folder = Path("checkpoints")
    names = [
        f"{name}{end}" for name in deliverable.checkpoints for end in (".safetensors", ".json")
    ]
    files = [folder / name for name in names if (folder / name).is_file()]
    path = Path(f"{deliverable.id}-{student}.zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{deliverable.id}.ipynb", content)
        for file in files:
            archive.write(file, file.as_posix())
        unpacked = sum(info.file_size for info in archive.infolist())
    size = path.stat().st_size
    if max(size, unpacked) > deliverables.MAX_HANDIN_BYTES:
        return f"{path} is too large to hand in ({max(size, unpacked) / 2**20:.0f} MB)."
    warnings = ""
    if len(files) < len(names):
        warnings += " It holds no trained model yet: run the training cell first."
    if _unsaved(content):
        warnings += " Your notebook has changes that are not saved: save it and run this again."
    return f"Hand in {path} ({size / 2**20:.1f} MB).{warnings}"


def _notebook_content(name: str) -> str | None:
    """The notebook's JSON: from its file or, on Colab, where there is no file, from the browser."""
    if Path(name).is_file():
        return Path(name).read_text(encoding="utf-8")
    try:
        from google.colab import _message  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return None
    answer = _message.blocking_request("get_ipynb", timeout_sec=60)
    return json.dumps(answer["ipynb"]) if answer else None


def _unsaved(content: str) -> bool:
    """Whether the saved notebook differs from the cells that were run last."""
    from IPython.core.getipython import get_ipython

    # The cells as typed: in IPython's `In`, magics (%...) are replaced by calls.
    history = getattr(get_ipython(), "history_manager", None)
    ran: list[str] = history.input_hist_raw[-20:] if history is not None else []
    try:
        cells = json.loads(content)["cells"]
    except (ValueError, KeyError, TypeError):
        return False
    saved = {_normal("".join(cell.get("source", ""))) for cell in cells}
    # Of a cell that was changed and run again, only the last form counts: its first line tells.
    last = {source.partition("\n")[0]: source for source in ran if source.startswith("# Your code")}
    return any(_normal(source) not in saved for source in last.values())


def _normal(source: str) -> str:
    """A cell's code without its layout, or its text if it is not valid Python."""
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return source.strip()


def _points(result: Result) -> str:
    return f"{result.earned:g}/{result.check.points:g}" if result.check.points else "advice"


def _row(result: Result) -> str:
    mark, colour = _MARKS.get(result.status, _WRONG)
    status = "" if result.status is Status.PASSED else f"<b>{result.status.value}.</b> "
    message = f"<br>{status}{html.escape(result.message)}" if result.message or status else ""
    return (
        f'<tr style="vertical-align:top"><td style="color:{colour}; font-size:120%">{mark}</td>'
        f'<td style="text-align:left">{html.escape(result.check.title)}{message}</td>'
        f'<td style="white-space:nowrap">{_points(result)}</td></tr>'
    )
