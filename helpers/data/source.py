"""Where data sets come from: the files in this kit, a folder that the environment names."""

from __future__ import annotations

from pathlib import Path

#: The files that come with this kit.
FILES = Path(__file__).parent / "files"
#: A folder that is used before any other, as it is: the grader points it at its own data.
ENVIRONMENT = "LATENT_LAB_DATA"


class DataError(Exception):
    """A data set is missing or damaged; one sentence says what to do."""
