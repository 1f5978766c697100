"""Writing a file in one step."""

import os
import tempfile
from pathlib import Path


def write_atomic(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write ``content`` to ``path`` in one step: nobody ever reads a half-written file.

    Args:
        path: the file; its folder is created if necessary.
        content: all of its bytes.
        mode: its permissions; by default everyone on the machine may read it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:  # also if the student stops the kernel at this moment
        Path(temporary).unlink(missing_ok=True)
        raise
