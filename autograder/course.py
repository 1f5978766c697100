"""nbgrader's configuration for a course folder, and nbgrader's Python interface to it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from autograder import ROOT

if TYPE_CHECKING:
    from nbgrader.apps.api import NbGraderAPI


def load_config(course: Path | None = None) -> Config:
    """Load ``nbgrader_config.py``; ``course`` replaces the course folder that it names."""
    config = PyFileConfigLoader("nbgrader_config.py", path=str(ROOT)).load_config()
    if course is not None:
        (course / "exchange").mkdir(parents=True, exist_ok=True)
        config.CourseDirectory.root = str(course.resolve())
        config.Exchange.root = str(course.resolve() / "exchange")
    return config


def default_course() -> Path:
    """The course folder that ``nbgrader_config.py`` names."""
    return Path(load_config().CourseDirectory.root)


def open_course(course: Path, **overrides: dict[str, Any]) -> NbGraderAPI:
    """Open a course folder with nbgrader; the folder is created if it does not exist.

    Args:
        overrides: further configuration, by class.
    """
    from nbgrader.apps.api import NbGraderAPI  # the import takes a second, so not at the top

    config = load_config(course)
    config.merge(Config(overrides))
    return NbGraderAPI(config=config, log_level="ERROR")


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress warnings, such as nbgrader's about SQLAlchemy and nbformat's about missing ids."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def last_words(result: dict[str, Any]) -> str:
    """The line of nbgrader's log that says what went wrong."""
    lines = [line.strip() for line in (result.get("log") or "").splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    errors = [line for line in lines if "ERROR" in line]
    return (raised or errors or lines or ["it gives no reason."])[-1]
