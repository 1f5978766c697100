"""How nbgrader works here: its folders, and our judge in place of its executing preprocessor.

``nbgrader`` on the command line, the formgrader in JupyterLab (start both in this folder) and the
``autograder`` command all read this file, and nothing else says the same again.
"""

import os
import sys
from pathlib import Path

c = get_config()  # noqa: F821 (traitlets puts it there)

# nbgrader starts `alembic`, which lies beside the interpreter: also found without activating.
BIN = str(Path(sys.executable).parent)
if BIN not in os.environ.get("PATH", "").split(os.pathsep):
    os.environ["PATH"] = os.pathsep.join([BIN, os.environ.get("PATH", "")])

# source/, release/, submitted/, autograded/, feedback/, results/ and gradebook.db are made in here.
COURSE = Path(os.environ.get("LATENT_LAB_COURSE") or Path(__file__).parent / "course").resolve()
c.CourseDirectory.root = str(COURSE)
c.CourseDirectory.course_id = "latent-lab"
# The judge reads checkpoints where they were handed in: no second copy beside the marked notebook.
c.CourseDirectory.ignore = [
    ".ipynb_checkpoints",
    "*.pyc",
    "__pycache__",
    "feedback",
    "checkpoints",
]
# Kilobytes. A hand-in has 100 MiB at most; nbgrader silently skips what is larger than this.
c.CourseDirectory.max_file_size = 110_000
c.CourseDirectory.max_dir_size = 110_000

# Hand-ins come as zips, not through nbgrader's exchange, but it insists on having a folder.
c.Exchange.root = str(COURSE / "exchange")
(COURSE / "exchange").mkdir(parents=True, exist_ok=True)

# What stands where a solution was cut out; `autograder/judging/matching.py` knows these words.
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
# Answers are Markdown, which may hold HTML: a script in one would run with the grader's rights, in
# the formgrader and wherever feedback is opened.
c.HTMLExporter.filters = {"markdown2html": "autograder.classroom.preprocessors.safe_markdown"}

c.ExportApp.plugin_class = "autograder.classroom.export.StatusExporter"
