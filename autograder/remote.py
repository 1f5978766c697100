"""A submission at the other end of a socket: sandboxed processes that hold its notebook."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, get_args

from torch import Tensor

from autograder import protocol
from autograder.intake import HandIn, IntakeError, read_checkpoint, read_losses
from autograder.matching import Placed
from autograder.sandbox import Process, SandboxError
from helpers.submission import Failure, Object, Request, StudentError, Submission

#: What the judge does not run: checks are its own, and nobody sees the figures.
NOT_RUN = ("check", "figure", "handin")
_STARTUP_SECONDS = 60.0


@dataclass(frozen=True)
class Patience:
    """How long student code may take, in seconds."""

    #: One cell; the interpreter interrupts it then. A training line takes no time: it restores.
    cell: float = 20.0
    #: One request; the process is killed then. Also what a cell gets that cannot be interrupted.
    request: float = 30.0
    #: All of a submission together. What comes later counts as out of time.
    submission: float = 180.0


class Worker:
    """One sandboxed process. It is started at once; it need not be ready before it is asked."""

    def __init__(self, start: Callable[[], Process]) -> None:
        self._process = start()
        self._ready = False
        self.alive = True

    def ask(self, message: dict[str, Any], deadline: float) -> Any:
        """Send a message and wait for the answer.

        Raises:
            StudentError: if the student's code gave none; the process may be dead then.
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
            raise self._post_mortem() from error
        if "failure" in reply:
            raise _failure(reply["failure"])
        return reply.get("value")

    def close(self) -> None:
        """Kill the process and all that it started."""
        self.alive = False
        self._process.kill()

    def await_start(self) -> None:
        """The worker's greeting comes before any student code runs: without it, the fault is ours.

        Raises:
            SandboxError: if it does not come.
        """
        if self._ready:
            return
        try:
            greeting = protocol.receive(self._process.socket, time.monotonic() + _STARTUP_SECONDS)
        except protocol.ProtocolError as error:
            self.close()
            raise SandboxError("The sandboxed process did not start.") from error
        self._ready = greeting == "ready"

    def _post_mortem(self) -> StudentError:
        """Why the process broke off."""
        self.close()
        if self._process.died_of_memory:
            return StudentError("out-of-memory", "Your code used more memory than is allowed.")
        return StudentError(
            "error",
            "Your code ended the Python process (by exit, by a crash, or by writing to files "
            "that are not its own).",
        )


class Session:
    """A submission's notebook in a sandboxed process, started again whenever it has died."""

    def __init__(
        self,
        program: list[Placed],
        start: Callable[[], Process],
        patience: Patience,
        n_spare: int = 1,
    ) -> None:
        self._program = [p for p in program if p.is_code and not _skipped(p)]
        self._start = start
        self._patience = patience
        self._end = time.monotonic() + patience.submission
        self._left_out: dict[int, StudentError] = {}
        #: What became of the master's cells that did not run to their end, by name.
        self.failures: dict[str, StudentError] = {}
        # Started ahead, so that one imports torch while another works.
        self._spare = [Worker(start) for _ in range(n_spare)]
        self._open: list[Worker] = []
        self._main: Worker | None = None
        self._main_is_taken = False

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for worker in self._spare + self._open:
            worker.close()

    def execute(self, request: Request) -> Any:
        """Answer a request in the main process; see :class:`helpers.engine.Engine`."""
        return self.ask(self._main_worker(), request)

    def apart(self) -> Worker:
        """A process for (a part of) a trained model, another one each time.

        The first may be the main process: what it has seen so far are the checks' own questions.
        Starting a process is most of the time that judging takes.
        """
        if self._main_is_taken:
            # Dead, not just idle: two that live can talk, by locks on the files that both see.
            for worker in self._open:
                worker.close()
            return self._load()
        self._main_is_taken = True
        return self._main_worker()

    def _main_worker(self) -> Worker:
        if self._main is None or not self._main.alive:
            self._main = self._load()
        return self._main

    def forget(self) -> None:
        """Between two checks: drop what the last one left behind, other processes included."""
        for worker in self._open:
            if worker is not self._main:
                worker.close()
        self._open = [worker for worker in self._open if worker.alive]
        if self._main is not None and self._main.alive:
            try:
                self.ask(self._main, Request("forget"))
            except StudentError:
                self._main.close()

    def ask(self, worker: Worker, request: Request) -> Any:
        """Send a request to one of this session's processes."""
        message = {
            "op": request.op,
            "target": request.target,
            "path": request.path,
            "args": list(request.args),
            "kwargs": request.kwargs,
        }
        return worker.ask(message, self._deadline())

    def _load(self) -> Worker:
        """A process that has run the notebook's cells.

        A cell that kills it is left out the next time.

        Raises:
            StudentError: if cell after cell kills it.
        """
        fatal = StudentError("error", "")
        for _ in range(4):
            self._deadline()  # when time is up, nothing more is started
            worker = self._spare.pop() if self._spare else Worker(self._start)
            self._open.append(worker)
            worker.await_start()  # before any deadline: how long that takes is the machine's doing
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

    def _run(self, worker: Worker, number: int, placed: Placed) -> None:
        """Run one cell, or say that it is left out. Raises StudentError if it kills the process."""
        defines = sorted(placed.cell.defines) if placed.cell else []
        if number in self._left_out:
            failure = self._left_out[number]
            reason = [failure.kind, failure.message]
            worker.ask({"op": "leave-out", "defines": defines, "failure": reason}, self._deadline())
        else:
            reason = worker.ask(
                {
                    "op": "cell",
                    "source": placed.source,
                    "defines": defines,
                    "seconds": self._patience.cell,
                },
                self._deadline(),
            )
        if reason is not None and placed.cell is not None:
            self.failures[placed.cell.name] = _failure(reason)

    def _deadline(self) -> float:
        """When the next answer must be there.

        Raises:
            StudentError: if the submission's time is up.
        """
        now = time.monotonic()
        if now >= self._end:
            raise StudentError("timeout", "The time for the whole notebook ran out.")
        return min(now + self._patience.request, self._end)


class RemoteSubmission(Submission):
    """What a student handed in, as the judge's checks see it."""

    def __init__(self, session: Session, handin: HandIn) -> None:
        super().__init__(session.execute)
        self._session = session
        self._handin = handin

    def trained(self, name: str, beside: Object | None = None) -> Object:
        """The model that was handed in, in another process at each call, or ``beside`` another."""
        state = self.checkpoint(name)
        apart = beside.submission if beside is not None else self._apart()
        if name in self._session.failures:
            raise self._session.failures[name]
        model = apart.trained(name)
        model.load(state)
        return model

    def _apart(self) -> Submission:
        """The notebook in a process of its own."""
        worker = self._session.apart()
        return Submission(lambda request: self._session.ask(worker, request))

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


def _skipped(placed: Placed) -> bool:
    return placed.cell is not None and placed.cell.kind in NOT_RUN


def _failure(reason: Any) -> StudentError:
    """A failure as the sandbox tells it, which may be anything."""
    try:
        kind, message = reason
        assert kind in get_args(Failure)
        return StudentError(kind, str(message)[:1000])
    except Exception:
        return StudentError("error", "Your code broke the process that ran it.")
