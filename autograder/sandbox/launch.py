"""Starts untrusted processes, at one of four isolation levels.

Level 2 is bubblewrap: separate namespaces for users, processes, network and files; an unprivileged
uid; a read-only file system with a Python, its packages, ``helpers`` without its data sets, and the
package ``inside``. Most of the time of a start goes into importing torch, so this is done once: a
fork server inside such a sandbox forks the processes, each into its own namespaces. Level 3 adds a
control group, which limits the memory of all processes together. Level 1 is a child process
confined by Landlock and seccomp; level 0 is one with resource limits only. These two are for
practice scores on machines without bubblewrap, never for marks.
"""

import shutil
import socket
import tempfile
import threading
from functools import cache, lru_cache, partial
from pathlib import Path

from autograder.sandbox import cgroup
from autograder.sandbox.canary import is_caged
from autograder.sandbox.command import (
    SETUP_ENVIRONMENT,
    bubblewrap_command,
    environment,
    plain_command,
)
from autograder.sandbox.forking import ForkServer
from autograder.sandbox.inside import hardening
from autograder.sandbox.limits import Limits
from autograder.sandbox.process import Child, Process, SandboxError, popen

RUN_WORKER = "from inside.worker import serve; serve(fd)"


def start(
    *,
    standin: Path | None = None,
    limits: Limits | None = None,
    level: int | None = None,
    code: str = RUN_WORKER,
) -> Process:
    """Start a sandboxed Python.

    Args:
        standin: the folder to mount as the data set; by default there is none.
        level: 3 or 2 (the control group is used wherever it is available), 1 or 0; by default the
            best level that works on this machine.
        code: the code to run; in it, ``fd`` is its end of the socket.

    Raises:
        SandboxError: if the process cannot be started.
    """
    level = isolation_level() if level is None else level
    limits = limits or Limits()
    with _one_server_at_a_time:
        server = _forkserver(standin) if level >= 2 else None
    if server is not None:
        try:
            return server.spawn(limits, code)
        except SandboxError:
            _forkserver.cache_clear()  # it has ended: the next start creates another one
    return _start_cold(standin, limits, level, code)


def _start_cold(standin: Path | None, limits: Limits, level: int, code: str) -> Child:
    """Start a process without the fork server; it imports torch itself."""
    ours, theirs = socket.socketpair()
    if level >= 2:
        command = bubblewrap_command(limits, code, theirs.fileno(), standin)
        return Child(popen(command, SETUP_ENVIRONMENT, "/", theirs), ours)
    folder = Path(tempfile.mkdtemp(prefix="latent-lab-"))
    command = plain_command(limits, code, theirs.fileno(), standin, folder if level == 1 else None)
    variables = environment(str(standin or "/nonexistent"), str(folder))
    return Child(popen(command, variables, str(folder), theirs), ours, folder)


_one_server_at_a_time = threading.Lock()


@lru_cache(maxsize=2)
def _forkserver(standin: Path | None) -> ForkServer | None:
    """This process's fork server for a data set.

    None if its processes are less isolated on this machine than those that bubblewrap starts.
    """
    try:
        server = ForkServer(standin)
        if is_caged(lambda code: server.spawn(Limits(), code)):
            return server
    except SandboxError:
        return None
    server.close()
    return None


@cache
def isolation_level() -> int:
    """The best level that holds on this machine, found by trying to break out of each."""
    for level in (2, 1):
        if level == 2 and shutil.which("bwrap") is None:
            continue
        try:
            if is_caged(partial(_start_cold, None, Limits(), level), alone=level == 2):
                complete = cgroup.entrances() and hardening.landlock_version()
                return 3 if level == 2 and complete else level
        except SandboxError:
            continue
    return 0


def describe(level: int) -> str:
    """Describe a level in one sentence."""
    if level >= 2:
        together = "; a limit on all memory together" if level >= 3 else ""
        return (
            f"level {level}: bubblewrap, no network, read-only files, limited memory and "
            f"processes{together}"
        )
    if level == 1:
        return (
            "level 1: no bubblewrap, but Landlock and seccomp: no network, no access to your "
            "files; memory and processes are limited as far as possible. For practice scores, not "
            "for marks"
        )
    return (
        f"level {level}: NO SANDBOX (bubblewrap is missing or does not work here). Student code "
        "can read and change your files: for practice scores, never for marks"
    )
