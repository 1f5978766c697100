"""Files that are never seen half-written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace ``path`` by ``content`` in one step: a reader sees all of it or nothing.

    Args:
        mode: the file's permissions; by default everyone on the machine may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:  # also when the student stops the kernel just now
        Path(temporary).unlink(missing_ok=True)
        raise
