"""Runs inside the sandbox: executes a notebook's cells and answers requests about them.

Nothing here is trusted or secret. Student code shares this process and may change all of it; what
it can reach by that is to give wrong answers, which is what the judge expects of it anyway.
"""

from __future__ import annotations

import importlib
import signal
import socket
from typing import Any

import torch
from IPython.core.interactiveshell import InteractiveShell

from autograder import protocol
from helpers.engine import Engine, failure
from helpers.submission import Request, StudentError

#: What every notebook imports, imported before the first cell asks: workers start ahead of need.
_PRELOADED = ("torchvision", "matplotlib.pyplot", "helpers.training", "helpers.plotting")
#: Threads beyond one make a busy machine slower by orders of magnitude.
N_THREADS = 1


class Shell(InteractiveShell):
    """IPython without a screen: magics work, nothing is shown, no program is started."""

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: without this, ``%matplotlib inline`` raises NotImplementedError."""

    def system(self, cmd: str) -> None:
        """Do nothing for ``!pip install ...``: there is no network and no shell."""

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: formatting a traceback for nobody takes longer than most cells."""

    def showsyntaxerror(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing, for the same reason."""


class Worker:
    """One notebook, its names and its failures."""

    def __init__(self) -> None:
        Shell.cache_size.default_value = 0
        self._shell = Shell.instance()
        self._shell.history_manager.enabled = False  # type: ignore[union-attr]
        self._failures: dict[str, StudentError] = {}
        self._engine = Engine(self._shell.user_ns, self._failures)

    def answer(self, message: dict[str, Any]) -> Any:
        """Do what a message asks: run a cell, note that one must be left out, or a request."""
        if message["op"] == "cell":
            return self._run(message["source"], message["defines"], message["seconds"])
        if message["op"] == "leave-out":
            self._fail(StudentError(*message["failure"]), message["defines"])
            return None
        request = Request(
            message["op"],
            message["target"],
            message["path"],
            tuple(message["args"]),
            message["kwargs"],
        )
        return self._engine.execute(request)

    def _run(self, source: str, defines: list[str], seconds: float) -> Any:
        """Run one cell; what it should have defined and did not is noted with the reason."""
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
            # The cause lies in an earlier cell, and so does the kind of failure.
            reason = self._failures[exception.name]
        self._fail(reason, defines)
        return [reason.kind, reason.message]

    def _fail(self, reason: StudentError, defines: list[str]) -> None:
        for name in set(defines) - self._shell.user_ns.keys():
            self._failures[name] = reason


def _out_of_time(*_: Any) -> None:
    raise TimeoutError("this cell took too long")


def _reason(error: BaseException) -> StudentError:
    """What an exception means, whatever its class makes of being looked at."""
    if isinstance(error, StudentError):
        return error
    try:
        return failure(error)
    except BaseException:
        return StudentError("error", "Your code raised an exception that cannot be shown.")


def preload() -> None:
    """Import what every notebook needs."""
    torch.set_num_threads(N_THREADS)
    for module in _PRELOADED:
        importlib.import_module(module)


def serve(fd: int) -> None:
    """Answer the messages that come over the socket ``fd`` until it is closed."""
    preload()
    sock = socket.socket(fileno=fd)
    worker = Worker()
    # Sent before any student code has run: failures from here on are the student's.
    protocol.send(sock, "ready")
    while True:
        message = protocol.receive(sock, caps=protocol.TRUSTED)
        # Within the caps: what the judge would refuse gets a reason here, and the worker lives on.
        try:
            frame = protocol.encode({"value": worker.answer(message)}, protocol.Caps())
        except BaseException as error:  # KeyboardInterrupt among them: the worker goes on
            reason = _reason(error)
            frame = protocol.encode({"failure": [reason.kind, reason.message]})
        sock.sendall(frame)
