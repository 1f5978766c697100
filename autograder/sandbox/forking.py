"""Starts the fork server: a sandboxed process that has imported torch and forks the others.

Importing torch takes most of the time of starting a process.
"""

import atexit
import json
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from autograder.sandbox.command import INSIDE_BUBBLEWRAP, SETUP_ENVIRONMENT, bubblewrap_command
from autograder.sandbox.limits import Limits
from autograder.sandbox.process import ForkedProcess, SandboxError, popen

RUN_FORKSERVER = "from inside.forkserver import main; main(fd)"
_START_SECONDS = 60.0


class ForkServer:
    """A sandboxed process that has imported torch and forks the others.

    Args:
        standin: the folder to mount as the data set; by default there is none.

    Raises:
        SandboxError: if it does not start.
    """

    def __init__(self, standin: Path | None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = bubblewrap_command(None, RUN_FORKSERVER, theirs.fileno(), standin)
        self._popen = popen(command, SETUP_ENVIRONMENT, "/", theirs)
        self._control = ours
        atexit.register(self.close)
        ours.settimeout(_START_SECONDS)
        try:
            ready = ours.recv(16) == b"ready"
        except OSError:
            ready = False
        if not ready:
            self.close()
            raise SandboxError("The fork server did not start.")

    def spawn(self, limits: Limits, code: str) -> ForkedProcess:
        """Fork a process that runs ``code``.

        Raises:
            SandboxError: if the fork server has ended.
        """
        ours, theirs = socket.socketpair()
        life, keepers_end = socket.socketpair()
        order = {
            "limits": limits.rlimits(own_uid=True),
            "tmp": limits.file,
            "hardening": INSIDE_BUBBLEWRAP,
            "code": code,
        }
        with theirs, keepers_end:
            try:
                fds = [theirs.fileno(), keepers_end.fileno()]
                socket.send_fds(self._control, [json.dumps(order).encode()], fds)
            except OSError as error:
                ours.close()
                life.close()
                raise SandboxError("The fork server has ended.") from error
        return ForkedProcess(ours, life)

    def close(self) -> None:
        """Kill the server and everything that it forked."""
        self._control.close()
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
