"""The instructor's side of the kit; students do not receive it.

Packages, in the order in which they build on each other:

- ``sandbox`` runs untrusted code in isolated processes;
- ``judging`` reads masters and hand-ins, runs the checks and gives points;
- ``release`` makes the students' notebooks and their zip from the masters in ``solutions/``;
- ``classroom`` collects and judges a class, and writes gradebook, feedback, pages and tables;
- ``rubric`` tests the checks with wrong and right solutions.

Modules: ``cli`` is the ``autograder`` command, ``terminal`` what it prints, ``demo`` its
demonstration; ``course`` opens a course folder with nbgrader; ``unchanged`` tells whether there is
anything to grade; ``conftest`` lets pytest run the checks on a submission.
"""

from pathlib import Path

from helpers import __version__

__all__ = ["BAD_INPUT", "OUR_FAULT", "ROOT", "UserError", "__version__"]

#: The repository, with the masters, the notebooks and nbgrader's configuration.
ROOT = Path(__file__).resolve().parent.parent
#: Exit codes: something in the input is wrong; the grader or the machine failed.
BAD_INPUT, OUR_FAULT = 2, 3


class UserError(Exception):
    """An error that the instructor can fix; its text is one sentence for the terminal."""

    exit_code = BAD_INPUT
