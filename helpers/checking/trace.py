"""What a model computes: the functions of torch that it calls when it is applied.

How a model is written down says little about what it does: its layers may be kept in a list, one
activation may be used many times, a function of ``torch.nn.functional`` may stand in a module's
place. A trace tells what was executed, in which order, and what each step was given.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode

#: Names of the arguments of functions that are not written in Python.
_ARGUMENTS = {
    "linear": ("input", "weight", "bias"),
    **{
        f"conv{n}d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
        for n in (1, 2, 3)
    },
    **{
        f"conv_transpose{n}d": (
            *("input", "weight", "bias", "stride", "padding", "output_padding", "groups"),
            "dilation",
        )
        for n in (1, 2, 3)
    },
    "scaled_dot_product_attention": ("query", "key", "value"),
    "softmax": ("input", "dim"),
    "cat": ("tensors", "dim"),
}
#: Different names of one operation.
_SAME = {
    "iadd": "add",
    "radd": "add",
    "imul": "mul",
    "rmul": "mul",
    "multiply": "mul",
    "isub": "sub",
    "rsub": "sub",
    "subtract": "sub",
    "itruediv": "div",
    "rtruediv": "div",
    "truediv": "div",
    "divide": "div",
    "rmatmul": "matmul",
    "mm": "matmul",
    "bmm": "matmul",
    "concat": "cat",
    "concatenate": "cat",
    "special_expit": "sigmoid",
    "expit": "sigmoid",
}
#: More steps than any model of this course takes; a trace ends there.
MAX_STEPS = 2000


class Tracer(TorchFunctionMode):
    """Records the functions that are called while it is active.

    Args:
        model: its parameters and modules are recorded by name.
        inputs: their results are steps -1, -2 and so on.
    """

    def __init__(self, model: object, inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        owner = getattr(model, "__self__", model)
        module = owner if isinstance(owner, nn.Module) else None
        self._parameters = {id(p): n for n, p in module.named_parameters()} if module else {}
        self._modules = {id(m): n for n, m in module.named_modules()} if module else {}
        self._open: list[str] = []
        self._made_by = {id(each): -1 - number for number, each in enumerate(inputs)}
        self._kept: list[Any] = list(inputs)  # else the id of a tensor could be given out again
        self.steps: list[list[Any]] = []

    def __torch_function__(
        self, func: Callable[..., Any], _: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function and record it."""
        result = func(*args, **(kwargs or {}))
        outputs = [one for one in _flat(result) if isinstance(one, Tensor)]
        name = getattr(func, "__name__", "").strip("_")
        if outputs and name != "get" and len(self.steps) < MAX_STEPS:
            arguments = _named(func, name, args, kwargs or {})
            given = [one for one in _flat(list(arguments.values())) if isinstance(one, Tensor)]
            self._kept += [*outputs, *given]
            self.steps.append(
                [
                    _SAME.get(name, name),
                    [self._made_by[id(t)] for t in given if id(t) in self._made_by],
                    list(outputs[0].shape),
                    {k: v for k, v in arguments.items() if _is_setting(v)},
                    {
                        k: [self._parameters.get(id(v), ""), list(v.shape)]
                        for k, v in arguments.items()
                        if isinstance(v, Tensor)
                    },
                    self._open[-1] if self._open else "",
                ]
            )
            self._made_by |= dict.fromkeys(map(id, outputs), len(self.steps) - 1)
        return result

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record what is called in the block, and in which module."""

        def enter(module: nn.Module, _: Any) -> None:
            self._open.append(self._modules.get(id(module), ""))

        def leave(*_: Any) -> None:
            self._open.pop()

        hooks = [
            register_module_forward_pre_hook(enter),
            register_module_forward_hook(leave, always_call=True),
        ]
        try:
            with self:
                yield
        finally:
            for hook in hooks:
                hook.remove()


def _named(
    func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments of a call by name; "0", "1" and so on where the names are not known."""
    if name in _ARGUMENTS:
        return dict(zip(_ARGUMENTS[name], args, strict=False)) | kwargs
    try:
        bound = inspect.signature(func).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return {str(number): value for number, value in enumerate(args)} | kwargs
    bound.apply_defaults()
    return dict(bound.arguments)


def _flat(value: Any) -> Iterator[Any]:
    """The items of nested lists and tuples."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _is_setting(value: Any) -> bool:
    return all(one is None or isinstance(one, bool | int | float | str) for one in _flat(value))
