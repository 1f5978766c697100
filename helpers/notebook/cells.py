"""What is known about the notebook's cells: how their last runs ended, and what its file holds."""

import ast
import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

#: The first line of a cell whose code is the student's, and of one with a written answer.
_CODE = re.compile(r"# Your code: ([a-z0-9_]+)\s*$")
_ANSWER = re.compile(r"<!-- Your answer: ([a-z0-9_]+) -->\s*$")
_PLACEHOLDER = re.compile(r"^[ \t]*YOUR ANSWER HERE[ \t]*$", re.M)
_QUESTION = re.compile(r"\*\*(Question \d+)")
#: Where a statement outside functions and classes defines a name.
_DEFINITION = re.compile(
    r"^(?:(?:async +)?def|class)[ \t]+(\w+)|^([A-Za-z_][\w, \t]*?)[ \t]*(?::[^=\n]*)?=(?!=)", re.M
)
#: A line that IPython replaces by a call.
_MAGIC = re.compile(r"^[%!].*", re.M)


@dataclass(frozen=True)
class FailedRun:
    """A cell whose last run raised, so that the names it defines are as they were before.

    Attributes:
        cell: the cell, in words.
        error: the exception, with its line.
        waits: whether the cell uses a name that is not there yet.
    """

    cell: str
    error: str
    waits: bool = False


class CellLog:
    """How the last runs of the cells in this kernel ended."""

    def __init__(self) -> None:
        #: For each name, the run that should have defined it and failed.
        self.failed: dict[str, FailedRun] = {}
        self._names: dict[str, set[str]] = {}

    def record(self, result: Any) -> None:
        """Take note of a run; IPython calls this after each one, with an ``ExecutionResult``."""
        # An exception in here would be shown below the student's cell.
        with suppress(Exception):
            self._record(
                result.info.raw_cell or "", result.error_before_exec or result.error_in_exec
            )

    def _record(self, code: str, error: BaseException | None) -> None:
        first = code.lstrip().partition("\n")[0].strip()
        marker = first if _CODE.match(first) else ""
        # Also what earlier forms of the cell defined: the broken line may no longer say it.
        names = definitions(code) | self._names.get(marker, set())
        stale: set[str] = set()
        if error is not None and not is_untouched(error):
            error = python_error(code) or error
            line = failing_line(error)
            stale = names
            if not isinstance(error, SyntaxError):  # the statements before that line were run
                stale = names - definitions(code) | definitions_since(code, line)
            for name in stale:
                cell = f"the cell `{marker}`" if marker else f"the cell that defines `{name}`"
                text = in_one_line(error, line)
                self.failed[name] = FailedRun(cell, text, isinstance(error, NameError))
        for name in names - stale:
            self.failed.pop(name, None)
        if marker:
            self._names[marker] = names if stale else definitions(code)


#: The runs of this kernel, since this module was imported.
log = CellLog()


def watch() -> None:
    """Have IPython report each run to :data:`log`; without IPython, there are none."""
    with suppress(Exception):
        from IPython.core.getipython import get_ipython

        shell = get_ipython()
        if shell is not None:
            shell.events.register("post_run_cell", log.record)


def definitions(code: str) -> set[str]:
    """The names that the outermost statements define, also in code that is no valid Python."""
    found = {name.strip() for m in _DEFINITION.finditer(code) for name in (m[1] or m[2]).split(",")}
    return {name for name in found if name.isidentifier() and not iskeyword(name)}


def definitions_since(code: str, line: int) -> set[str]:
    """The names defined by the outermost statements that end on this line or later."""
    tree = ast.parse(_MAGIC.sub("pass", code))
    parts = [node for each in tree.body if (each.end_lineno or 0) >= line for node in _outer(each)]
    defined = {n.name for n in parts if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    return defined | {
        n.id for n in parts if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }


def _outer(statement: ast.stmt) -> Iterable[ast.AST]:
    """The parts of a statement; of a function or class only itself."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [statement] if isinstance(statement, inner) else ast.walk(statement)


def python_error(code: str) -> SyntaxError | None:
    """What Python says of code that is not valid; IPython's words for it say less."""
    try:
        compile(_MAGIC.sub("pass", code), "cell", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    except SyntaxError as error:
        return error
    return None


def is_untouched(error: BaseException) -> bool:
    """Whether a cell failed because it, or what it calls, still has its TODO."""
    return isinstance(error, NotImplementedError) and not str(error)


def failing_line(error: BaseException) -> int:
    """The line of the cell on which it failed; 0 if it is not known."""
    if isinstance(error, SyntaxError):
        return error.lineno or 0
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "<module>":  # the cell itself, not what it calls
            return trace.tb_lineno
        trace = trace.tb_next
    return 0


def in_one_line(error: BaseException, line: int) -> str:
    """An exception in one line, such as ``NameError: name 'x' is not defined (line 3)``."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = text.strip().partition("\n")[0][:200]
    name = type(error).__name__ + (f": {first}" if first else "")
    return f"{name} (line {line})" if line else name


# The notebook's file.


def unsaved(content: str) -> list[str]:
    """The names of cells that were run last in another form than the saved notebook has."""
    saved = {_normal(source) for source in _sources(content)}
    # Of a cell that was changed and run again, only the last form counts.
    last = {match[1]: source for source in _runs() if (match := _marker(_CODE, source))}
    return [name for name, source in last.items() if _normal(source) not in saved]


def unanswered(content: str) -> list[str]:
    """The questions of the saved notebook that still have their placeholder."""
    questions = []
    for source in _sources(content):
        marker = _marker(_ANSWER, source)
        if marker and _PLACEHOLDER.search(source):
            number = _QUESTION.search(source)
            questions.append(number[1] if number else f"`{marker[1]}`")
    return questions


def _sources(content: str) -> list[str]:
    """The texts of a notebook's cells; none if it is not a notebook."""
    try:
        return ["".join(cell.get("source", "")) for cell in json.loads(content)["cells"]]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []


def _runs() -> Sequence[str]:
    """The last runs, as typed: in IPython's ``In``, magics (%...) are replaced by calls."""
    from IPython.core.getipython import get_ipython

    history = getattr(get_ipython(), "history_manager", None)
    runs: Sequence[str] = getattr(history, "input_hist_raw", [])
    return runs[-200:]


def _marker(pattern: re.Pattern[str], source: str) -> re.Match[str] | None:
    return pattern.match(source.lstrip().partition("\n")[0])


def _normal(source: str) -> str:
    """A cell's code without its layout, or its text if it is not valid Python."""
    try:
        return ast.dump(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source.strip()
