"""A submission as a check sees it, wherever its code runs.

A check asks a :class:`Submission`. Each question becomes a :class:`Request`, which is executed by
an :class:`helpers.checking.engine.Engine`: in the student's notebook that of the same kernel, in
the grader that of a sandboxed process at the other end of a socket. The check cannot tell which.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from helpers.checking.expect import expect_number, expect_tensor, fail, is_finite

#: Why student code did not give an answer.
Failure = Literal["unattempted", "error", "timeout", "out-of-memory"]


class StudentError(Exception):
    """The student's code did not give an answer.

    Attributes:
        kind: the reason.
        message: one sentence for the student.
    """

    def __init__(self, kind: Failure, message: str) -> None:
        super().__init__(message)
        self.kind: Failure = kind
        self.message = message


@dataclass(frozen=True)
class Ref:
    """A reference to an object in the process of the student's code: its number and type."""

    number: int
    type_name: str


@dataclass(frozen=True)
class Request:
    """One question to the student's code.

    Attributes:
        op: what to do; see :class:`helpers.checking.engine.Engine`.
        target: the object to start from, or None for the names of the notebook.
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
    """One module inside a model, as described by the student's code."""

    path: str
    type_name: str
    #: Whether it contains other modules.
    container: bool
    #: Number of its own parameters, without those of modules inside it.
    n_parameters: int


@dataclass(frozen=True)
class Step:
    """One function of torch that a model called."""

    #: Its name, such as ``conv2d``; the same for a function, a method and an operator.
    function: str
    #: The steps that computed its inputs, as indices; -1 is the model's first input.
    inputs: tuple[int, ...]
    #: The shape of its (first) output.
    shape: tuple[int, ...]
    #: Its arguments that are not tensors, by name, such as ``stride``.
    settings: dict[str, Any]
    #: Of its arguments that are tensors, the names in the model; "" for other tensors.
    parameters: dict[str, str]
    #: The shapes of its arguments that are tensors.
    shapes: dict[str, tuple[int, ...]]
    #: The path of the module that called it.
    module: str


@dataclass(frozen=True)
class Trace:
    """What a model computed in one call."""

    output: Any
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Derivatives:
    """The result of a call, and its derivatives; None for tensors that it does not depend on."""

    output: Tensor
    #: With respect to the requested inputs, in their order.
    inputs: list[Tensor | None]
    #: With respect to the parameters of the called module, by name.
    parameters: dict[str, Tensor | None]


class Object:
    """A handle on an object of the student: a model, an optimiser, a function."""

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
        """Like :meth:`call`, but the answer must be a finite tensor of ``shape``."""
        what = what or f"The output of {path or self.type_name}"
        return expect_tensor(self.call(path, *args), shape, what=what, hint=hint)

    def number(self, path: str = "", *args: Any, what: str = "") -> float:
        """Like :meth:`call`, but the answer must be a finite number."""
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
        """Apply a module to many inputs, ``batch_size`` at a time, in eval mode without gradients.

        Args:
            path: the module, such as ``encoder``; "" is the object itself.
            inputs: (M, ...), split along its first axis.
            what: the subject of a message, such as "The encoder's output".
            pick: index of the output, if there are several.

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
            outputs.append(output)
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
            path: to what is called in it; "" is the object itself.
            inputs: the arguments of the call.
            weights: of the shape of the output; by default ones.
            wrt: indices of the inputs with respect to which to differentiate, besides parameters.
            pick: index of the output, if there are several.
        """
        options = {"weights": weights, "wrt": list(wrt), "pick": pick}
        answer = self.submission.ask("differentiate", self.ref, path, *inputs, **options)
        return _derivatives(answer, wrt)

    def parameters(self, path: str = "") -> dict[str, Tensor]:
        """Its trainable parameters (or those of the module at ``path``) by name."""
        return self._tensors("parameters", path)

    def state(self, path: str = "") -> dict[str, Tensor]:
        """Its state dict (or that of the module at ``path``): parameters and buffers, by name."""
        return self._tensors("state", path)

    def load(self, state: dict[str, Tensor], path: str = "") -> None:
        """Load a state dict, which must fit exactly."""
        self.submission.ask("load", self.ref, path, state)

    def layers(self, path: str = "") -> list[Layer]:
        """The modules inside it (or inside the module at ``path``), outermost first."""
        answer = self.submission.ask("layers", self.ref, path)
        try:
            found = [Layer(str(p), str(t), bool(c), int(n)) for p, t, c, n in answer]
        except Exception:  # it may be anything
            found = []
        if not found:
            fail(f"{path or self.type_name} cannot be looked into.")
        return found

    def trace(self, path: str = "", *inputs: Any, training: bool = False) -> Trace:
        """Call it (or the module at ``path``) without gradients and record what is executed.

        Args:
            path: the module, such as ``encoder``; "" is the object itself.
            inputs: of the call.
            training: whether in training mode; otherwise in eval mode.
        """
        answer = self.submission.ask("trace", self.ref, path, *inputs, training=training)
        try:
            steps = [_step(*fields) for fields in answer["steps"]]
            return Trace(answer["output"], tuple(steps))
        except Exception:  # it may be anything
            fail(f"What {path or self.type_name} computes cannot be followed.")

    def overwrites(self, path: str = "", *args: Any, **kwargs: Any) -> list[str]:
        """Positions ("0") and names of the arguments whose tensors a call changes."""
        return self.submission.overwrites(path, *args, target=self.ref, **kwargs)

    def get(self, path: str) -> Any:
        """The value of an attribute."""
        return self.submission.ask("get", self.ref, path)

    def holds(self, model: Object) -> int:
        """For an optimiser: the number of the model's parameters that it updates."""
        return int(expect_number(self.submission.ask("holds", self.ref, "", model), what="holds"))

    def _tensors(self, op: str, path: str) -> dict[str, Tensor]:
        answer = self.submission.ask(op, self.ref, path)
        if not isinstance(answer, dict):
            fail(f"{path or self.type_name} should be a torch module with {op}.")
        return {str(name): value for name, value in answer.items() if isinstance(value, Tensor)}


class Submission:
    """The code and models of a student.

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

    def overwrites(
        self, name: str, *args: Any, target: Ref | None = None, **kwargs: Any
    ) -> list[str]:
        """Positions ("0") and names of the arguments whose tensors a call of ``name`` changes."""
        answer = self.ask("overwrites", target, name, *args, **kwargs)
        if not isinstance(answer, dict) or not isinstance(answer.get("changed"), list):
            fail(f"Whether {name or 'the model'} changes its arguments cannot be told.")
        return [str(changed) for changed in answer["changed"]]

    def get(self, name: str) -> Any:
        """The value of the student's variable ``name``; a handle if it is not plain data."""
        return self.ask("get", None, name)

    def object(self, name: str) -> Object:
        """A handle on the student's variable ``name``, which must not be plain data."""
        value = self.get(name)
        if not isinstance(value, Object):
            fail(f"`{name}` should be an object, but it is {value!r:.80}.")
        return value

    def number(self, name: str) -> float:
        """The student's variable ``name``, which must be a finite number."""
        return expect_number(self.get(name), what=f"`{name}`")

    def build(self, path: str, *args: Any, **kwargs: Any) -> Object:
        """A new object of a class of torch, torchvision or the kit, in the student's process."""
        answer = self.ask("build", None, path, *args, **kwargs)
        if not isinstance(answer, Object):
            fail(f"{path} cannot be made.")
        return answer

    def pil_image(self, pixels: Tensor) -> Object:
        """A PIL image from (H, W) or (H, W, 3) uint8 pixels, in the student's process."""
        answer = self.ask("pil_image", None, "", pixels)
        if not isinstance(answer, Object):
            fail("An image cannot be made.")
        return answer

    def trained(self, name: str, beside: Object | None = None) -> Object:
        """The trained model ``name``.

        In the grader, this is the model that was handed in, in a new process for each call, so that
        parts of a model can only exchange what the check itself passes on.

        Args:
            beside: a trained model that may share its process, which saves seconds. Only for models
                that would gain nothing from exchanging data.
        """
        answer = self.ask("trained", None, name)
        if not isinstance(answer, Object):
            fail(f"The trained model {name!r} should be an object.")
        return answer

    def checkpoint(self, name: str) -> dict[str, Tensor]:
        """The state dict of the trained model ``name``; the grader reads it from the file."""
        return self.trained(name).state()

    def losses(self, name: str) -> list[float]:
        """The training loss of each epoch as the student's run recorded it; not to be trusted."""
        answer = self.ask("losses", None, name)
        losses = answer if isinstance(answer, list) else []
        return [float(one) for one in losses if isinstance(one, int | float) and is_finite(one)]

    def seed(self, seed: int) -> None:
        """Seed the random number generators in the student's process."""
        self.ask("seed", None, "", seed)

    def _raise(self, value: Any) -> Any:
        """Turn the handles inside an answer into objects, and its tensors into float32."""
        if isinstance(value, Ref):
            return Object(self, value)
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(torch.float32)
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


def _step(function: Any, inputs: Any, shape: Any, settings: Any, tensors: Any, module: Any) -> Step:
    return Step(
        str(function),
        tuple(map(int, inputs)),
        tuple(map(int, shape)),
        {str(k): v for k, v in settings.items()},
        {str(k): str(name) for k, (name, _) in tensors.items()},
        {str(k): tuple(map(int, size)) for k, (_, size) in tensors.items()},
        str(module),
    )


def _derivatives(answer: Any, wrt: Sequence[int]) -> Derivatives:
    """The answer to a request for derivatives; the check fails if it is not one."""
    try:
        output, found = answer["output"], dict(answer["gradients"])
        gradients = {str(k): v if isinstance(v, Tensor) else None for k, v in found.items()}
        inputs = [gradients.pop(str(index)) for index in wrt]
    except Exception:  # it may be anything
        fail("The derivatives cannot be computed.")
    if not isinstance(output, Tensor):
        fail("What is differentiated should be a tensor.")
    return Derivatives(output, inputs, gradients)
