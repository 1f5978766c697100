"""A submission as a check sees it: something that computes, wherever it runs.

A check talks to a :class:`Submission`. Each question becomes a :class:`Request`, which an
:class:`~helpers.checking.Engine` executes: that of the same kernel in the student's notebook, that
of a sandboxed process at the other end of a socket in the grader. The check cannot tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from helpers.checking.expect import expect_number, expect_tensor, fail

#: Why student code gave no answer.
Failure = Literal["unattempted", "error", "timeout", "out-of-memory"]


class StudentError(Exception):
    """The student's code gave no answer.

    Attributes:
        kind: why not.
        message: one sentence for the student.
    """

    def __init__(self, kind: Failure, message: str) -> None:
        super().__init__(message)
        self.kind: Failure = kind
        self.message = message


@dataclass(frozen=True)
class Ref:
    """An object that stays where the student's code runs: its number and its type's name."""

    number: int
    type_name: str


@dataclass(frozen=True)
class Request:
    """One question to the student's code.

    Attributes:
        op: what to do; see :class:`helpers.checking.engine.Engine`.
        target: the object that is asked, or None for the notebook's own names.
        path: a dotted path from there, such as ``encoder`` or ``decoder.forward``.
        args: positional arguments: plain data, tensors and :class:`Ref`.
        kwargs: the same by name.
    """

    op: str
    target: Ref | None = None
    path: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)


Execute = Callable[[Request], Any]


@dataclass(frozen=True)
class Layer:
    """One module inside a model, as the student's code describes it."""

    path: str
    type_name: str
    #: Whether it holds other modules.
    container: bool
    #: Whether its class is torch's own.
    of_torch: bool
    #: Parameters of its own, not counting those of modules inside it.
    n_parameters: int


@dataclass(frozen=True)
class Derivatives:
    """The result of a call and its derivatives; None for what has no part in it."""

    output: Tensor
    #: For the inputs that were asked for, in their order.
    inputs: list[Tensor | None]
    #: For the parameters of the module that was called, by name.
    parameters: dict[str, Tensor | None]


class Object:
    """A handle on something of the student's: a model, an optimiser, a function."""

    def __init__(self, submission: Submission, ref: Ref) -> None:
        self.submission = submission
        self.ref = ref

    @property
    def type_name(self) -> str:
        """The name of its class."""
        return self.ref.type_name

    def call(self, path: str = "", *args: Any, **kwargs: Any) -> Any:
        """Call it (or the object at ``path`` in it); tensors come back detached, on the CPU."""
        return self.submission.ask("call", self.ref, path, *args, **kwargs)

    def tensor(
        self,
        path: str = "",
        *args: Any,
        shape: tuple[int, ...] | None = None,
        hint: str = "",
        what: str = "",
    ) -> Tensor:
        """Like :meth:`call`, for an answer that must be a finite tensor of ``shape``."""
        what = what or f"The output of {path or self.type_name}"
        return expect_tensor(self.call(path, *args), shape, what=what, hint=hint)

    def number(self, path: str = "", *args: Any, what: str = "") -> float:
        """Like :meth:`call`, for an answer that must be a finite number."""
        what = what or f"The output of {path or self.type_name}"
        return expect_number(self.call(path, *args), what=what)

    def apply(
        self,
        path: str,
        inputs: Tensor,
        *,
        what: str,
        batch_size: int = 2000,
        pick: int | None = None,
    ) -> Tensor:
        """Evaluate a module on many inputs: eval mode, no gradients, ``batch_size`` at a time.

        Args:
            path: the module, such as ``encoder``; "" is the object itself.
            inputs: (M, ...), split along its first axis.
            what: the subject of a message, such as "The encoder's output".
            pick: which of several outputs is meant.

        Returns:
            (M, ...), float32.
        """
        outputs: list[Tensor] = []
        for batch in inputs.split(batch_size):
            answer = self.submission.ask("apply", self.ref, path, batch, pick=pick)
            output = expect_tensor(answer, None, what=what)
            if output.ndim == 0 or len(output) != len(batch):
                fail(f"{what} has shape {tuple(output.shape)} for a batch of {len(batch)}.")
            if outputs and output.shape[1:] != outputs[0].shape[1:]:
                fail(f"{what} changes its shape from one batch to the next.")
            outputs.append(output.to(torch.float32))
        return torch.cat(outputs)

    def differentiate(
        self,
        path: str,
        *inputs: Any,
        weights: Tensor | None = None,
        wrt: Sequence[int] = (),
        pick: int | None = None,
    ) -> Derivatives:
        """Call it, and differentiate sum(weights * output).

        Args:
            path: what is called in it; "" is the object itself.
            inputs: the arguments of the call.
            weights: of the output's shape; by default ones.
            wrt: the inputs, by number, whose derivatives are wanted, in addition to the parameters.
            pick: which of several outputs is meant.
        """
        options = {"weights": weights, "wrt": list(wrt), "pick": pick}
        answer = self.submission.ask("differentiate", self.ref, path, *inputs, **options)
        return _derivatives(answer, wrt)

    def parameters(self, path: str = "") -> dict[str, Tensor]:
        """Its trainable parameters (or those of the module at ``path``) by name."""
        return self._tensors("parameters", path)

    def state(self, path: str = "") -> dict[str, Tensor]:
        """Its state dict (or that of the module at ``path``): parameters and buffers by name."""
        return self._tensors("state", path)

    def load(self, state: dict[str, Tensor], path: str = "") -> None:
        """Load a state dict, which must fit exactly."""
        self.submission.ask("load", self.ref, path, state)

    def layers(self, path: str = "") -> list[Layer]:
        """The modules inside it (or inside what lies at ``path``), outermost first."""
        answer = self.submission.ask("layers", self.ref, path)
        try:
            return [Layer(str(p), str(t), bool(c), bool(o), int(n)) for p, t, c, o, n in answer]
        except (TypeError, ValueError, OverflowError):
            fail(f"{path or self.type_name} cannot be looked into.")

    def get(self, path: str) -> Any:
        """The value of an attribute."""
        return self.submission.ask("get", self.ref, path)

    def holds(self, model: Object) -> int:
        """For an optimiser: how many of the model's parameters it updates."""
        return int(expect_number(self.submission.ask("holds", self.ref, "", model), what="holds"))

    def _tensors(self, op: str, path: str) -> dict[str, Tensor]:
        answer = self.submission.ask(op, self.ref, path)
        if not isinstance(answer, dict):
            fail(f"{path or self.type_name} should be a torch module with {op}.")
        return {str(name): value for name, value in answer.items() if isinstance(value, Tensor)}


class Submission:
    """What a student handed in.

    Args:
        execute: answers requests, or raises :class:`StudentError`.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute = execute

    def ask(self, op: str, target: Ref | None = None, path: str = "", *args: Any, **kw: Any) -> Any:
        """Execute one request; handles in the answer become :class:`Object`."""
        request = Request(op, target, path, _lower(args), _lower(kw))
        return self._raise(self._execute(request))

    def new(self, name: str, *args: Any, **kwargs: Any) -> Object:
        """An object of the student's class ``name``."""
        answer = self.ask("call", None, name, *args, **kwargs)
        if not isinstance(answer, Object):
            fail(f"{name}(...) should make an object.")
        return answer

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call the student's function ``name``."""
        return self.ask("call", None, name, *args, **kwargs)

    def differentiate(
        self,
        name: str,
        *inputs: Any,
        weights: Tensor | None = None,
        wrt: Sequence[int] = (),
        pick: int | None = None,
    ) -> Derivatives:
        """Call the student's function ``name``; see :meth:`Object.differentiate`."""
        options = {"weights": weights, "wrt": list(wrt), "pick": pick}
        return _derivatives(self.ask("differentiate", None, name, *inputs, **options), wrt)

    def get(self, name: str) -> Any:
        """The value of the student's variable ``name``; a handle if it is not plain data."""
        return self.ask("get", None, name)

    def object(self, name: str) -> Object:
        """The student's variable ``name``, which must be an object and not plain data."""
        value = self.get(name)
        if not isinstance(value, Object):
            fail(f"`{name}` should be an object, but it is {value!r:.80}.")
        return value

    def number(self, name: str) -> float:
        """The student's variable ``name``, which must be a finite number."""
        return expect_number(self.get(name), what=f"`{name}`")

    def build(self, path: str, *args: Any, **kwargs: Any) -> Object:
        """An object of a class of torch, torchvision or the kit, where the student's code runs."""
        answer = self.ask("build", None, path, *args, **kwargs)
        if not isinstance(answer, Object):
            fail(f"{path} cannot be made.")
        return answer

    def pil_image(self, pixels: Tensor) -> Object:
        """A PIL image from (H, W) or (H, W, 3) bytes, where the student's code runs."""
        answer = self.ask("pil_image", None, "", pixels)
        if not isinstance(answer, Object):
            fail("An image cannot be made.")
        return answer

    def trained(self, name: str, beside: Object | None = None) -> Object:
        """The trained model ``name``.

        The grader gives the model that was handed in, in another process for each call, so that
        nothing can pass from one part of a model to another but what the check itself hands on.

        Args:
            beside: a trained model that may share its process, if nothing could be gained by
                passing something between the two: starting one takes seconds.
        """
        answer = self.ask("trained", None, name)
        if not isinstance(answer, Object):
            fail(f"The trained model {name!r} should be an object.")
        return answer

    def checkpoint(self, name: str) -> dict[str, Tensor]:
        """The state dict of the trained model ``name``; the grader reads it from the file."""
        return self.trained(name).state()

    def losses(self, name: str) -> list[float]:
        """The training losses that the student's own run wrote down, one an epoch. Not believed."""
        answer = self.ask("losses", None, name)
        return [float(loss) for loss in answer] if isinstance(answer, list) else []

    def seed(self, seed: int) -> None:
        """Seed the random numbers where the student's code runs."""
        self.ask("seed", None, "", seed)

    def _raise(self, value: Any) -> Any:
        """Turn the handles inside an answer into objects."""
        if isinstance(value, Ref):
            return Object(self, value)
        if isinstance(value, list):
            return [self._raise(item) for item in value]
        if isinstance(value, dict):
            return {key: self._raise(item) for key, item in value.items()}
        return value


def _lower(value: Any) -> Any:
    """Turn the objects inside arguments into handles."""
    if isinstance(value, Object):
        return value.ref
    if isinstance(value, list | tuple):
        return type(value)(_lower(item) for item in value)
    if isinstance(value, dict):
        return {key: _lower(item) for key, item in value.items()}
    return value


def _derivatives(answer: Any, wrt: Sequence[int]) -> Derivatives:
    """The answer to a request for derivatives, as far as it is one."""
    try:
        output, found = answer["output"], dict(answer["gradients"])
        gradients = {str(k): v if isinstance(v, Tensor) else None for k, v in found.items()}
        inputs = [gradients.pop(str(index)) for index in wrt]
    except (TypeError, KeyError, ValueError):
        fail("The derivatives cannot be computed.")
    if not isinstance(output, Tensor):
        fail("What is differentiated should be a tensor.")
    return Derivatives(output, inputs, gradients)
