"""Makes what students receive from the masters.

- ``notebooks`` makes nbgrader's source notebook, and from it the released one;
- ``student_kit`` makes the zip with the helpers, the data sets and the notebooks.
"""

from autograder.release.notebooks import NOTEBOOKS, ReleaseError, release, released_notebook
from autograder.release.student_kit import KIT_NAME, student_kit

__all__ = ["KIT_NAME", "NOTEBOOKS", "ReleaseError", "release", "released_notebook", "student_kit"]
