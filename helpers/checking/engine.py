"""Executes the requests of checks, in the process of the student's code."""

import importlib
import linecache
import random
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from helpers.checking.errors import describe_error
from helpers.checking.submission import Failure, Ref, Request, StudentError
from helpers.checking.trace import Tracer

#: Depth to which lists and dicts are passed on; deeper ones become a handle.
_MAX_DEPTH = 6
_MAX_TEXT = 500


class Engine:
    """Executes requests about the names of one notebook.

    Args:
        names: the global names of the notebook.
        failures: for each missing name, what happened to the cell that should have defined it.
    """

    def __init__(
        self, names: dict[str, Any], failures: dict[str, StudentError] | None = None
    ) -> None:
        self._names = names
        self._failures = {} if failures is None else failures
        self._objects: list[Any] = []

    def execute(self, request: Request) -> Any:
        """Execute ``request``; for each ``op`` there is a method below.

        Returns:
            Plain data, tensors (detached copies on the CPU) and :class:`Ref`.

        Raises:
            StudentError: if the student's code did not give an answer.
        """
        operation: Callable[..., Any] = getattr(self, f"_op_{request.op}")
        with student_code():
            args, kwargs = self._restore(request.args), self._restore(request.kwargs)
            return self.plain(operation(request, *args, **kwargs))

    # Operations. Each takes the request and its arguments.

    def _op_call(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """Call the object at the path."""
        called = self._find(request)
        with torch.enable_grad():
            return called(*_to_device(called, args), **kwargs)

    def _op_get(self, request: Request) -> Any:
        """The value at the path."""
        return self._find(request)

    def _op_apply(self, request: Request, inputs: Tensor, pick: int | None = None) -> Any:
        """Call a module in eval mode without gradients, then restore its modes."""
        module = self._find(request)
        modes = {m: m.training for m in module.modules()} if isinstance(module, nn.Module) else {}
        try:
            for each in modes:
                each.training = False
            with torch.no_grad():
                output = module(*_to_device(module, (inputs,)))
                return output if pick is None else output[pick]
        finally:
            for each, training in modes.items():
                each.training = training

    def _op_trace(self, request: Request, *inputs: Any, training: bool = False) -> Any:
        """Call a module in eval or training mode, then restore it; see :class:`Object`."""
        module = self._find(request)
        owner = getattr(module, "__self__", module)
        modules = list(owner.modules()) if isinstance(owner, nn.Module) else []
        modes = {m: m.training for m in modules}
        buffers = [(b, b.clone()) for m in modules for b in m.buffers(recurse=False)]
        arguments = _to_device(module, inputs)
        tracer = Tracer(module, tuple(arg for arg in arguments if isinstance(arg, Tensor)))
        try:
            for each in modes:
                each.training = training
            with torch.no_grad(), tracer.recording():
                output = module(*arguments)
        finally:
            for each, was_training in modes.items():
                each.training = was_training
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
        return {"output": output, "steps": tracer.steps}

    def _op_overwrites(self, request: Request, *args: Any, **kwargs: Any) -> dict[str, list[str]]:
        """The positions and names of tensors among the arguments that a call changes."""
        given = {str(n): arg for n, arg in enumerate(args)} | kwargs
        called = self._find(request)
        # On the device of the model already: otherwise the call would change a copy.
        moved = dict(zip(given, _to_device(called, tuple(given.values())), strict=True))
        before = {k: v.clone() for k, v in moved.items() if isinstance(v, Tensor)}
        positional = [moved[str(n)] for n in range(len(args))]
        called(*positional, **{k: moved[k] for k in kwargs})
        changed = [k for k, v in before.items() if not torch.equal(v, moved[k].detach())]
        return {"changed": changed}

    def _op_differentiate(
        self,
        request: Request,
        *inputs: Any,
        weights: Tensor | None = None,
        wrt: list[int] | None = None,
        pick: int | None = None,
    ) -> Any:
        """Gradients of sum(weights * output) for inputs and parameters; see :class:`Object`."""
        called = self._find(request)
        arguments = _to_device(called, inputs)
        for index in wrt or ():
            arguments[index] = arguments[index].detach().clone().requires_grad_()
        sources = {str(index): arguments[index] for index in wrt or ()}
        with torch.enable_grad():
            output = called(*arguments)
            output = output if pick is None else output[pick]
            total = (output if weights is None else output * weights.to(output.device)).sum()
        if isinstance(called, nn.Module):
            sources |= dict(called.named_parameters())
        gradients: Any = [None] * len(sources)
        if total.requires_grad:
            wanted = list(sources.values())
            gradients = torch.autograd.grad(total, wanted, allow_unused=True)
        return {"output": output, "gradients": dict(zip(sources, gradients, strict=True))}

    def _op_parameters(self, request: Request) -> Any:
        """The trainable parameters of the module at the path, by name."""
        named = self._module(request).named_parameters()
        return {name: value for name, value in named if value.requires_grad}

    def _op_state(self, request: Request) -> Any:
        """The state dict of the module at the path."""
        return dict(self._module(request).state_dict())

    def _op_load(self, request: Request, state: dict[str, Tensor]) -> None:
        """Load a state dict strictly."""
        self._module(request).load_state_dict(state)

    def _op_layers(self, request: Request) -> Any:
        """The modules at the path, outermost first: the fields of :class:`Layer` of each."""
        return [
            [
                path,
                type(layer).__name__,
                any(True for _ in layer.children()),
                sum(p.numel() for p in layer.parameters(recurse=False)),
            ]
            for path, layer in self._module(request).named_modules()
        ]

    def _op_holds(self, request: Request, model: nn.Module) -> int:
        """How many of the model's parameters an optimiser updates."""
        groups = self._find(request).param_groups
        held = {id(parameter) for group in groups for parameter in group["params"]}
        return sum(id(parameter) in held for parameter in model.parameters())

    def _op_build(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        """An object of a class of torch, torchvision or the kit."""
        module, _, name = request.path.rpartition(".")
        if module.partition(".")[0] not in ("torch", "torchvision", "helpers"):
            raise ValueError(f"{request.path} is not of torch, torchvision or the kit")
        return getattr(importlib.import_module(module), name)(*args, **kwargs)

    def _op_pil_image(self, request: Request, pixels: Tensor) -> Any:
        """A PIL image from (H, W) or (H, W, 3) bytes."""
        from PIL import Image

        return Image.fromarray(pixels.to(torch.uint8).numpy())

    def _op_trained(self, request: Request) -> Any:
        """The model that was passed to ``train_or_restore`` under this name."""
        from helpers import training

        if request.path not in training.models:
            raise StudentError("unattempted", "Run the training cell first.")
        return training.models[request.path]

    def _op_losses(self, request: Request) -> Any:
        """The losses in the history of a training."""
        from helpers import training

        history = training.histories.get(request.path)
        return list(history.losses) if history else []

    def _op_forget(self, request: Request) -> None:
        """Forget all objects that requests have created so far."""
        self._objects.clear()

    def _op_seed(self, request: Request, seed: int) -> None:
        """Seed all random number generators."""
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)

    # Finding things.

    def _find(self, request: Request) -> Any:
        """The object at a request's target and path."""
        first, *rest = request.path.split(".") if request.path else [""]
        if request.target is not None:
            found = self._objects[request.target.number]
            rest = [first, *rest] if first else []
        elif first in self._names:
            found = self._names[first]
        else:
            raise self._failures.get(first) or StudentError(
                "unattempted", f"`{first}` is not defined: complete its cell and run it."
            )
        for part in rest:
            if not hasattr(found, part):
                kind = type(found).__name__
                raise StudentError("error", f"{kind} has no attribute or method `{part}`.")
            found = getattr(found, part)
        return found

    def _module(self, request: Request) -> nn.Module:
        found = self._find(request)
        if not isinstance(found, nn.Module):
            name = f"`{request.path}`" if request.path else type(found).__name__
            raise StudentError("error", f"{name} should be a torch nn.Module.")
        return found

    # Converting arguments and answers.

    def _restore(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self._objects[value.number]
        if isinstance(value, Tensor):
            return value.clone()  # student code may change it, but the check may use it again
        if isinstance(value, list | tuple):
            return type(value)(self._restore(item) for item in value)
        if isinstance(value, dict):
            return {key: self._restore(item) for key, item in value.items()}
        return value

    def plain(self, value: Any, depth: int = 0) -> Any:
        """A value as an answer: plain data, dense tensors on the CPU, and handles."""
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            return float(value) if isinstance(value, float) else int(value)
        if isinstance(value, str):
            return value[:_MAX_TEXT]
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Tensor):
            return _plain_tensor(value)
        if depth < _MAX_DEPTH and isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        if depth < _MAX_DEPTH and isinstance(value, dict):
            return {str(key): self.plain(item, depth + 1) for key, item in value.items()}
        self._objects.append(value)
        return Ref(len(self._objects) - 1, type(value).__name__[:_MAX_TEXT])


def _plain_tensor(value: Tensor) -> Tensor:
    """A dense copy on the CPU, of class Tensor, without gradient.

    Raises:
        StudentError: if it has complex numbers, or no numbers at all.
    """
    with torch._C.DisableTorchFunctionSubclass():  # a class of the student's has no say in this
        value = value.detach()
        if value.is_complex():
            raise StudentError("error", "Your code gives complex numbers in place of real ones.")
        if value.is_meta:
            raise StudentError("error", "Your code gives a tensor on the meta device: no numbers.")
        if value.is_quantized:
            value = value.dequantize()
        if value.layout != torch.strided:
            value = value.to_dense()
        return value.to("cpu", copy=True).contiguous().as_subclass(Tensor)


@contextmanager
def student_code() -> Iterator[None]:
    """Turn exceptions of student code in the block into :class:`StudentError`."""
    try:
        yield
    except StudentError:
        raise
    except KeyboardInterrupt:
        raise
    except BaseException as exception:
        raise failure(exception) from exception


def failure(exception: BaseException) -> StudentError:
    """An exception of student code as an error with a sentence for its author."""
    name, text = type(exception).__name__, str(exception).strip()
    kind: Failure = "error"
    if isinstance(exception, NotImplementedError) and not text:
        # From an untouched TODO. Those that torch raises have a text.
        return StudentError("unattempted", "This part still raises NotImplementedError.")
    if isinstance(exception, MemoryError) or "alloc_cpu" in text or "out of memory" in text:
        kind = "out-of-memory"
    elif isinstance(exception, TimeoutError):
        kind = "timeout"
    message = f"{name}: {text[:_MAX_TEXT]}" if text else name
    if sentence := describe_error(exception) if kind == "error" else "":
        message = f"{sentence} {message}"
    return StudentError(kind, message + _place(exception))


def _place(exception: BaseException) -> str:
    """The line of the student's cells in which it happened, or ""."""
    for frame in reversed(traceback.extract_tb(exception.__traceback__)):
        if "ipython-input" in frame.filename or "ipykernel" in frame.filename:
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f" (in your line `{line[:120]}`)" if line else ""
    return ""


def _to_device(module: Any, args: tuple[Any, ...]) -> list[Any]:
    """``args`` with tensors on the device of a module's (or its method's) parameters."""
    module = getattr(module, "__self__", module)
    parameter = next(module.parameters(), None) if isinstance(module, nn.Module) else None
    if parameter is None:
        return list(args)
    return [arg.to(parameter.device) if isinstance(arg, Tensor) else arg for arg in args]
