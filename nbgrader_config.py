"""nbgrader's configuration: its folders, and our judge instead of its executing preprocessor.

``nbgrader`` on the command line, the formgrader in JupyterLab (start both in this folder) and the
``autograder`` command all read this file.
"""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821 (defined by traitlets)

# nbgrader starts `alembic`, which is next to the interpreter, also if no environment is activated.
BIN = str(Path(sys.executable).parent)
if BIN not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([BIN, os.environ.get("PATH", "")])

# The folder of source/, release/, submitted/, autograded/, feedback/, results/ and gradebook.db.
COURSE = Path(os.environ.get("LATENT_LAB_COURSE") or Path(__file__).parent / "course").resolve()
c.CourseDirectory.root = str(COURSE)
c.CourseDirectory.course_id = "latent-lab"
# The judge reads checkpoints from submitted/, so they need no copy next to the marked notebook.
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "checkpoints"]
# In kilobytes. A hand-in has at most 100 MiB; nbgrader silently skips anything larger than this.
c.CourseDirectory.max_file_size = 110_000
c.CourseDirectory.max_dir_size = 110_000

# Hand-ins are zips and do not come through nbgrader's exchange, but its folder must exist.
c.Exchange.root = str(COURSE / "exchange")
(COURSE / "exchange").mkdir(parents=True, exist_ok=True)

# The text in place of a removed solution; `autograder/judging/matching.py` recognises it.
c.ClearSolutions.code_stub = {"python": "# YOUR CODE HERE\nraise NotImplementedError()"}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"

c.Autograde.sanitize_preprocessors = [
    "autograder.classroom.preprocessors.Repair",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    "autograder.classroom.preprocessors.Judge",
    "autograder.classroom.preprocessors.Save",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.OverwriteCells.add_missing_cells = True

c.GenerateFeedback.preprocessors = [
    "autograder.classroom.preprocessors.Withhold",
    "nbgrader.preprocessors.GetGrades",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]
# Answers are Markdown, which may contain HTML. A script in an answer would run with the grader's
# rights in the formgrader, and wherever feedback is opened.
c.HTMLExporter.filters = {"markdown2html": "autograder.classroom.preprocessors.safe_markdown"}

c.ExportApp.plugin_class = "autograder.classroom.export.StatusExporter"
