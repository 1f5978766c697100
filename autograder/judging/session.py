"""The judge's side of a submission: sandboxed processes that have run its notebook."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

from torch import Tensor

from autograder.judging.intake import HandIn, IntakeError, read_checkpoint, read_losses
from autograder.judging.matching import Placed
from autograder.sandbox import Process, SandboxError
from autograder.sandbox.inside import protocol
from helpers.checking import Failure, Object, Request, StudentError, Submission

#: Kinds of cells that the judge does not run: it has its own checks, and nobody sees the figures.
NOT_RUN = ("check", "figure", "handin")
_STARTUP_SECONDS = 60.0


@dataclass(frozen=True)
class Patience:
    """How long student code may take, in seconds."""

    #: For one cell, which is then interrupted. Training lines are quick: they restore a checkpoint.
    cell: float = 20.0
    #: For one request, or a cell that ignores the interrupt; then the process is killed.
    request: float = 30.0
    #: For the whole submission; later requests end as a timeout.
    submission: float = 180.0


class RemoteWorker:
    """One sandboxed process. It starts at once, and is waited for when it is first asked."""

    def __init__(self, start: Callable[[], Process]) -> None:
        self._process = start()
        self._ready = False
        self.alive = True

    def ask(self, message: dict[str, Any], deadline: float) -> Any:
        """Send a message and wait for the answer.

        Raises:
            StudentError: if the student's code gave no answer; the process may have ended.
            SandboxError: if the sandbox did not start.
        """
        self.await_start()
        try:
            protocol.expect_silence(self._process.socket)
            protocol.send(self._process.socket, message, deadline)
            reply = protocol.receive(self._process.socket, deadline)
            if not isinstance(reply, dict) or len(reply) != 1:
                raise protocol.ProtocolError("An answer has a value or a failure.")
        except protocol.DeadlineError as error:
            self.close()
            raise StudentError("timeout", "Your code took too long and was stopped.") from error
        except protocol.ProtocolError as error:
            raise self._cause_of_end() from error
        if "failure" in reply:
            raise _failure(reply["failure"])
        return reply.get("value")

    def close(self) -> None:
        """Kill the process and everything that it started."""
        self.alive = False
        self._process.kill()

    def await_start(self) -> None:
        """Wait until the worker reports that it is ready, before it runs any student code.

        Raises:
            SandboxError: if it does not. No student can be the cause.
        """
        if self._ready:
            return
        try:
            greeting = protocol.receive(self._process.socket, time.monotonic() + _STARTUP_SECONDS)
        except protocol.ProtocolError as error:
            self.close()
            raise SandboxError("The sandboxed process did not start.") from error
        self._ready = greeting == "ready"

    def _cause_of_end(self) -> StudentError:
        """Why the process ended in the middle of a request."""
        self.close()
        if self._process.died_of_memory:
            return StudentError("out-of-memory", "Your code used more memory than is allowed.")
        return StudentError(
            "error",
            "Your code ended the Python process (by exit, by a crash, or by writing to files "
            "that are not its own).",
        )


class Session:
    """A submission's notebook in a sandboxed process, which is restarted whenever it has ended."""

    def __init__(
        self,
        program: list[Placed],
        start: Callable[[], Process],
        patience: Patience,
        n_spare: int = 1,
    ) -> None:
        self._program = [
            p for p in program if p.is_code and (p.cell is None or p.cell.kind not in NOT_RUN)
        ]
        self._start = start
        self._patience = patience
        self._end = time.monotonic() + patience.submission
        self._left_out: dict[int, StudentError] = {}
        #: How the master's cells failed that did not run to their end, by name.
        self.failures: dict[str, StudentError] = {}
        # Started ahead of time, so that one imports torch while another works.
        self._spare = [RemoteWorker(start) for _ in range(n_spare)]
        self._open: list[RemoteWorker] = []
        self._main: RemoteWorker | None = None
        self._main_is_taken = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._spare + self._open:
            worker.close()

    def execute(self, request: Request) -> Any:
        """Answer a request in the main process; see :class:`helpers.checking.Engine`."""
        return self.ask(self._main_worker(), request)

    def apart(self) -> RemoteWorker:
        """A process for a trained model or a part of one, a different one each time.

        The first may be the main process: it has seen nothing but the checks' own questions, and
        starting another process would take most of the time of judging.
        """
        if self._main_is_taken:
            # Killed, not left idle: two running processes could talk through file locks.
            for worker in self._open:
                worker.close()
            return self._load()
        self._main_is_taken = True
        return self._main_worker()

    def _main_worker(self) -> RemoteWorker:
        if self._main is None or not self._main.alive:
            self._main = self._load()
        return self._main

    def forget(self) -> None:
        """Clean up between two checks: drop their objects and end all but the main process."""
        for worker in self._open:
            if worker is not self._main:
                worker.close()
        self._open = [worker for worker in self._open if worker.alive]
        if self._main is not None and self._main.alive:
            try:
                self.ask(self._main, Request("forget"))
            except StudentError:
                self._main.close()

    def ask(self, worker: RemoteWorker, request: Request) -> Any:
        """Send a request to one of this session's processes."""
        return worker.ask(vars(request), self._deadline())

    def _load(self) -> RemoteWorker:
        """A process that has run the notebook's cells.

        If a cell ends the process, another process runs the notebook without that cell.

        Raises:
            StudentError: if several cells in turn end the process.
        """
        fatal = StudentError("error", "")
        for _ in range(4):
            self._deadline()  # nothing is started when the time is up
            worker = self._spare.pop() if self._spare else RemoteWorker(self._start)
            self._open.append(worker)
            worker.await_start()  # before the cell's deadline: this depends on the machine
            for number, placed in enumerate(self._program):
                try:
                    self._run(worker, number, placed)
                except StudentError as failure:
                    fatal = self._left_out[number] = failure
                    worker.close()
                    break
            else:
                return worker
        raise fatal

    def _run(self, worker: RemoteWorker, number: int, placed: Placed) -> None:
        """Run a cell or report it as left out. Raises StudentError if it ends the process."""
        defines = sorted(placed.cell.defines) if placed.cell else []
        if number in self._left_out:
            failure = self._left_out[number]
            reason = [failure.kind, failure.message]
            message = {"op": "leave-out", "defines": defines, "failure": reason}
            worker.ask(message, self._deadline())
        else:
            message = {"op": "cell", "source": placed.source, "defines": defines}
            reason = worker.ask(message | {"seconds": self._patience.cell}, self._deadline())
        if reason is not None and placed.cell is not None:
            self.failures[placed.cell.name] = _failure(reason)

    def _deadline(self) -> float:
        """The time by which the next answer must arrive.

        Raises:
            StudentError: if the submission's time is up.
        """
        now = time.monotonic()
        if now >= self._end:
            raise StudentError("timeout", "The time for the whole notebook ran out.")
        return min(now + self._patience.request, self._end)


class RemoteSubmission(Submission):
    """A hand-in as the judge's checks see it: a submission with trained models."""

    def __init__(self, session: Session, handin: HandIn) -> None:
        super().__init__(session.execute)
        self._session = session
        self._handin = handin

    def trained(self, name: str, beside: Object | None = None) -> Object:
        """The model that was handed in, in a new process for each call or in that of ``beside``."""
        state = self.checkpoint(name)
        if beside is not None:
            apart = beside.submission
        else:
            apart = Submission(partial(self._session.ask, self._session.apart()))
        if name in self._session.failures:
            raise self._session.failures[name]
        model = apart.trained(name)
        model.load(state)
        return model

    def checkpoint(self, name: str) -> dict[str, Tensor]:
        """The tensors of the file that was handed in."""
        if name not in self._handin.checkpoints:
            raise StudentError("unattempted", f"No checkpoints/{name}.safetensors was handed in.")
        try:
            return read_checkpoint(self._handin.checkpoints[name])
        except IntakeError as error:
            raise StudentError("error", str(error)) from error

    def losses(self, name: str) -> list[float]:
        """The losses of the history that was handed in."""
        return read_losses(self._handin.histories.get(name, b""))


def _failure(reason: Any) -> StudentError:
    """The failure that the sandbox reports, which may be anything."""
    try:
        kind, message = reason
        assert kind in get_args(Failure)
        return StudentError(kind, str(message)[:1000])
    except Exception:
        return StudentError("error", "Your code broke the process that ran it.")
