"""A sandboxed process as seen from outside: start, socket, exit status, end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

#: Environment variable: set it to 1 to see what a sandboxed process prints.
_DEBUG = "LATENT_LAB_DEBUG"
#: How long to wait until all processes of a killed sandbox have ended.
_CLEARING_SECONDS = 10.0


class SandboxError(Exception):
    """The sandbox did not start: a fault of the machine or the grader, never of a student."""


class Process(ABC):
    """A sandboxed process and our end of the socket to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._killed = False

    @abstractmethod
    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status; 128 + n after signal n. Raises TimeoutError."""

    @abstractmethod
    def _end(self) -> None:
        """Kill the process and everything that it started, and wait until they have ended."""

    @property
    def died_of_memory(self) -> bool:
        """Whether the kernel killed it, as it does when memory runs out."""
        return not self._killed and self._ended(0) == 128 + signal.SIGKILL

    def kill(self) -> None:
        """Kill the process and everything that it started; at level 2 nothing can survive this."""
        # A process that is ending by itself gets a moment, so that its own exit status is seen.
        self._killed = self._ended(0.05) is None or self._killed
        self._end()
        self.socket.close()

    def _ended(self, timeout: float) -> int | None:
        """The exit status, or None while it runs."""
        try:
            return self.wait(timeout)
        except TimeoutError:
            return None

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class Child(Process):
    """A child of this process."""

    def __init__(
        self, popen: subprocess.Popen[bytes], sock: socket.socket, folder: Path | None = None
    ) -> None:
        super().__init__(sock)
        self._popen = popen
        self._folder = folder  # its working folder, removed at its end

    def wait(self, timeout: float | None = None) -> int:
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError from error
        return status if status >= 0 else 128 - status

    def _end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class ForkedProcess(Process):
    """A process of the fork server. Its keeper reports its end, and kills it when we hang up."""

    def __init__(self, sock: socket.socket, life: socket.socket) -> None:
        super().__init__(sock)
        self._life = life
        self._status: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            # For a socket, a timeout of 0 means non-blocking.
            self._life.settimeout(timeout if timeout is None else max(timeout, 1e-3))
            with suppress(ConnectionError):
                told = self._life.recv(4)
                # A keeper that was killed with the fork server reports nothing.
                status = struct.unpack("i", told)[0] if len(told) == 4 else -signal.SIGKILL
                self._status = status if status >= 0 else 128 - status
        return 128 + signal.SIGKILL if self._status is None else self._status

    def _end(self) -> None:
        with suppress(OSError):
            self._life.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            self.wait(_CLEARING_SECONDS)
        if self._status is None:
            # The keeper kills it but reports late: clearing a fork bomb takes a while.
            self._status = 128 + signal.SIGKILL
        self._life.close()


def popen(
    command: list[str], environment: dict[str, str], cwd: str, theirs: socket.socket
) -> subprocess.Popen[bytes]:
    """Start a command that inherits one end of a socket and nothing else."""
    output = None if os.environ.get(_DEBUG) else subprocess.DEVNULL
    try:
        with theirs:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=cwd,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
    except OSError as error:
        raise SandboxError(f"The sandbox cannot be started: {error}.") from error
