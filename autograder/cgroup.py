"""A limit on the memory and the processes of everything in a sandbox together.

Address space limits one process, and not what many of them take together or put into /tmp. The
kernel's control groups do, where we may make one: as root, with version 1 or 2. Standard library.
"""

from __future__ import annotations

import atexit
import os
import time
from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NAME = "latent-lab"
#: Bytes for all sandboxed processes of one run of the grader, and how many of them.
MEMORY, PROCESSES = 6 * 2**30, 512


@cache
def entrances(memory: int = MEMORY) -> tuple[Path, ...]:
    """Files that a process writes its number to in order to be limited; none if we may not.

    The groups are removed when this process ends; if it is killed, when the next one begins.
    """
    if os.geteuid() != 0:
        return ()
    name = f"{_NAME}-{os.getpid()}-{memory}"
    if (_ROOT / "cgroup.controllers").exists():
        groups = [(_ROOT / name, {"memory.max": memory, "pids.max": PROCESSES})]
    else:
        groups = [
            (_ROOT / "memory" / name, {"memory.limit_in_bytes": memory}),
            (_ROOT / "pids" / name, {"pids.max": PROCESSES}),
        ]
    try:
        for folder, limits in groups:
            for left in folder.parent.glob(f"{_NAME}-*"):
                if not Path("/proc", left.name.split("-")[2]).exists():
                    _remove(left)
            folder.mkdir()
            atexit.register(_remove, folder)
            for file, value in limits.items():
                (folder / file).write_text(str(value))
    except OSError:
        return ()
    return tuple(folder / "cgroup.procs" for folder, _ in groups)


def _remove(folder: Path) -> None:
    """Remove a group; what was killed in it may take a moment to be gone."""
    for _ in range(40):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
