"""Odd answers: what a student's code might return, and no check may stumble over.

An :class:`OddExecute` stands between a check and the code that answers it, and changes some of the
answers: another dtype, a missing attribute, an empty tensor, a lie. Whatever it does, a check must
end with a verdict, and an answer that is nothing but odd must not earn a point.
"""

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from helpers.checking import Engine, Ref, Request, StudentError

#: Changes of a tensor of any shape.
_OF_TENSORS: tuple[Callable[[Tensor], Any], ...] = (
    lambda t: t.double(),
    lambda t: t.half(),
    lambda t: t.bfloat16(),
    lambda t: t.bool(),
    lambda t: t.to(torch.uint8),
    lambda t: t.long(),
    lambda t: t.to(torch.complex64),
    lambda t: t[:0] if t.ndim else t.new_zeros(0),
    lambda t: t[:1] if t.ndim else t[None],
    lambda t: t[:-1] if t.ndim else t[None, None],
    lambda t: torch.cat([t, t]) if t.ndim else t.repeat(3),
    lambda t: t[None],
    lambda t: t[..., None],
    lambda t: t.unsqueeze(1) if t.ndim else t,
    lambda t: t.squeeze(),
    lambda t: t.flatten(),
    lambda t: t.flatten(1) if t.ndim > 1 else t,
    lambda t: t.flip(0) if t.ndim else -t,
    lambda t: t.transpose(0, -1) if t.ndim > 1 else t,
    lambda t: t.mT.contiguous().mT if t.ndim > 1 else t,  # the same numbers, not contiguous
    lambda t: t.float().clone().requires_grad_(),
    lambda t: torch.nn.Parameter(t.float()),
    lambda t: t.float() * float("nan"),
    lambda t: t.float() + float("inf"),
    lambda t: t.float() * 1e38 * 10,
    lambda t: t.float() * 1e-30,
    lambda t: torch.zeros_like(t),
    lambda t: torch.full_like(t, -7),
    lambda t: torch.randn(t.shape),
    lambda t: t.float().mean(),
    lambda t: t.tolist() if t.numel() < 1000 else [],
    lambda t: (t, t),
    lambda t: t.to_sparse() if t.ndim else t,
    lambda t: torch.empty(t.shape, device="meta"),
    lambda t: t.expand(2, *t.shape),
)
_OF_ALL: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 10**400, 0.5, float("nan"), float("inf"), -1e308, "", "mu",
    "\N{SNOWMAN}" * 600, b"bytes", [], [None], [[]], {}, {"": None}, {"weight": 1}, 1j,
    torch.tensor(0.5), torch.tensor([]), torch.zeros(3), torch.ones(2, 1, 28, 28),
    Ref(0, "Linear"), Ref(10**6, "int"), [1.0, "two", None], [torch.zeros(2), None],
)  # fmt: skip


class OddExecute:
    """Executes requests, and changes some of the answers.

    Args:
        engine: gives the answers.
        share: the probability with which an answer is changed.
        seed: of the choices.
    """

    def __init__(self, engine: Engine, share: float, seed: int) -> None:
        self._engine = engine
        self._share = share
        self._random = random.Random(seed)
        #: Number of answers that were changed.
        self.n_changed = 0

    def __call__(self, request: Request) -> Any:
        """The answer, or another one."""
        failure: StudentError | None = None
        answer: Any = None
        try:
            answer = self._engine.execute(request)
        except StudentError as error:
            failure = error
        housekeeping = request.op in ("seed", "forget", "build", "load")
        if housekeeping or self._random.random() >= self._share:
            if failure is not None:
                raise failure
            return answer
        self.n_changed += 1
        return self._engine.plain(self._odd(answer))

    def _odd(self, answer: Any, depth: int = 0) -> Any:
        choose = self._random.choice
        if self._random.random() < 0.2 or answer is None or depth > 3:
            return choose(_OF_ALL)
        if isinstance(answer, Tensor):
            try:
                return choose(_OF_TENSORS)(answer)
            except (RuntimeError, ValueError, OverflowError):  # not for this tensor
                return choose(_OF_ALL)
        if isinstance(answer, list) and answer:
            return choose(self._odd_lists(answer, depth))
        if isinstance(answer, dict) and answer:
            return choose(self._odd_dicts(answer, depth))
        return choose(_OF_ALL)

    def _odd_lists(self, answer: list[Any], depth: int) -> list[Any]:
        place = self._random.randrange(len(answer))
        before, after = answer[:place], answer[place + 1 :]
        changed = [*before, self._odd(answer[place], depth + 1), *after]
        return [changed, changed, before + after, answer[::-1], [*answer, None], answer[:1]]

    def _odd_dicts(self, answer: dict[str, Any], depth: int) -> list[Any]:
        key = self._random.choice(list(answer))
        rest = {k: v for k, v in answer.items() if k != key}
        changed = rest | {key: self._odd(answer[key], depth + 1)}
        renamed = rest | {f"{key}_": answer[key]}
        return [changed, changed, rest, renamed, answer | {"more": torch.zeros(2)}]
