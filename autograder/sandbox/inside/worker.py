"""Runs inside the sandbox: executes a notebook's cells and answers requests about them.

Nothing here is trusted or secret. Student code shares this process and may change all of it. All it
can achieve by that is to give wrong answers, which the judge expects anyway.
"""

import importlib
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell

from helpers.checking import Engine, Request, StudentError, failure

from . import protocol

#: Modules that every notebook imports. They are imported early, since workers start ahead of time.
_PRELOADED = ("torchvision", "matplotlib.pyplot", "helpers.training", "helpers.plotting")
#: With more threads, a busy machine is slower by orders of magnitude.
N_THREADS = 1


class Shell(InteractiveShell):
    """IPython without output: magics work, nothing is shown, no program is started."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing; otherwise ``%matplotlib inline`` raises NotImplementedError."""

    def system(self, cmd: str) -> None:
        """Do nothing for ``!pip install ...``: there is no network and no shell."""

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: formatting a traceback that nobody reads takes longer than most cells."""

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, for the same reason."""

    @contextmanager
    def _tee(self, channel: str) -> Iterator[None]:
        """Do nothing: IPython 9 would keep in memory all that a cell prints."""
        yield


class Worker:
    """One notebook: its global names, and the cells that failed."""

    def __init__(self) -> None:
        Shell.cache_size.default_value = 0
        self._shell = Shell.instance()
        self._shell.history_manager.enabled = False  # type: ignore[union-attr]
        self._failures: dict[str, StudentError] = {}
        self._engine = Engine(self._shell.user_ns, self._failures)

    def answer(self, message: dict[str, Any]) -> Any:
        """Run a cell, note that a cell was left out, or execute a request of a check."""
        if message["op"] == "cell":
            return self._run(message["source"], message["defines"], message["seconds"])
        if message["op"] == "leave-out":
            self._fail(StudentError(*message["failure"]), message["defines"])
            return None
        return self._engine.execute(Request(**{**message, "args": tuple(message["args"])}))

    def _run(self, source: str, defines: list[str], seconds: float) -> Any:
        """Run one cell; record the reason for each name that it should have defined but did not."""
        signal.signal(signal.SIGALRM, _out_of_time)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            result = self._shell.run_cell(source, silent=True)
            exception = result.error_before_exec or result.error_in_exec
        except BaseException as error:
            exception = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if exception is None:
            return None
        reason = _reason(exception)
        if isinstance(exception, NameError) and exception.name in self._failures:
            # The cause, and so the kind of failure, is that of an earlier cell.
            reason = self._failures[exception.name]
        self._fail(reason, defines)
        return [reason.kind, reason.message]

    def _fail(self, reason: StudentError, defines: list[str]) -> None:
        for name in set(defines) - self._shell.user_ns.keys():
            self._failures[name] = reason


def _out_of_time(*_: Any) -> None:
    raise TimeoutError("this cell took too long")


def _reason(error: BaseException) -> StudentError:
    """The failure that an exception means, even if the exception object itself misbehaves."""
    if isinstance(error, StudentError):
        return error
    try:
        return failure(error)
    except BaseException:
        return StudentError("error", "Your code raised an exception that cannot be shown.")


def preload() -> None:
    """Import the modules that every notebook needs."""
    torch.set_num_threads(N_THREADS)
    for module in _PRELOADED:
        importlib.import_module(module)


def serve(fd: int) -> None:
    """Answer the messages that arrive on the socket ``fd`` until it is closed."""
    preload()
    sock = socket.socket(fileno=fd)
    worker = Worker()
    # Sent before any student code has run: failures from here on are the student's.
    protocol.send(sock, "ready")
    while True:
        message = protocol.receive(sock, caps=protocol.TRUSTED)
        # An answer beyond the caps becomes a failure here; the judge would end this process.
        try:
            frame = protocol.encode({"value": worker.answer(message)}, protocol.Caps())
        except BaseException as error:  # even KeyboardInterrupt: the worker carries on
            reason = _reason(error)
            frame = protocol.encode({"failure": [reason.kind, reason.message]})
        sock.sendall(frame)
