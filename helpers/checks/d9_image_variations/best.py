"""The checks of keeping the best model."""

import torch
from torch import Tensor

from helpers.checking import Object, StudentError, Submission, check, expect, fail
from helpers.checks.d9_image_variations.training import moved

Weights = dict[str, Tensor]


class Offers:
    """A KeepBest of the student's with a model of ours, to which others are offered."""

    def __init__(self, submission: Submission) -> None:
        tiny = "helpers.checks.common.tiny_faces.TinyFaceVAE"
        self.best, self.model = submission.build(tiny), submission.build(tiny)
        self.start = self.best.state()
        self.keeper = submission.new("KeepBest", self.best)
        #: The losses that were offered, and the weights that came with them.
        self.offered: list[tuple[float, Weights]] = []

    def offer(self, loss: float) -> Weights:
        """Offer a model with random weights and this loss; the weights."""
        state = self.new_weights()
        self.model.load(state)
        self.keeper.call("offer", self.model, loss)
        self.offered.append((loss, state))
        return state

    def new_weights(self) -> Weights:
        """Random numbers for the model's state dict."""
        whole = {name: torch.tensor(7) for name, v in self.start.items() if v.ndim == 0}
        return {name: torch.randn(value.shape) for name, value in self.start.items()} | whole

    def held(self) -> Object:
        """The model that the student's object holds now, which should be the one it was given."""
        try:
            held = self.keeper.get("best_model")
        except StudentError:
            return self.best
        return held if isinstance(held, Object) else self.best

    def noted(self) -> float:
        """The loss that was noted down; infinity if there is none."""
        try:
            noted = self.keeper.get("best_loss")
        except StudentError:
            return float("inf")
        noted = noted.item() if isinstance(noted, Tensor) and noted.numel() == 1 else noted
        return float(noted) if isinstance(noted, int | float) else float("inf")

    def why(self) -> str:
        """Why the weights that are kept are not those of the lowest loss; "" if it is not known."""
        kept, last = self.best.state(), self.offered[-1][0]
        if not moved(_parameters(self.start), kept):
            if any(not moved(_parameters(state), self.held().state()) for _, state in self.offered):
                return (
                    "`self.best_model` is another object now: copy the weights into the model that "
                    "KeepBest was given, with load_state_dict."
                )
            if not moved(_parameters(self.start), self.model.state()):
                return "The weights are copied from best_model, and not into it."
            if self.noted() == last:
                return "The loss was noted down, but no weights were copied: use load_state_dict."
            return (
                "Nothing was copied, and no loss noted down: is the comparison the right way "
                "round? A lower loss is better."
            )
        losses = [loss for loss, state in self.offered if not moved(_parameters(state), kept)]
        if not losses:
            return "Copy all of the state with load_state_dict."
        hint = f"They are those of the loss {losses[-1]:g}."
        if losses[-1] != last:
            return f"{hint} A lower loss is better."
        other = self.new_weights()
        self.model.load(other)
        if not moved(_parameters(other), self.best.state()):
            return "They share their tensors with the other model: copy them, with load_state_dict."
        if self.noted() == float("inf"):
            return f"{hint} No loss was noted down in self.best_loss."
        if len(self.offered) > 1 and last < self.offered[-2][0]:
            return f"{hint} It is lower than the one before it, but not the lowest so far."
        return f"{hint} Copy the weights only if the loss is lower than self.best_loss."


def _parameters(state: Weights) -> Weights:
    """The part of a state dict that is no running statistic."""
    return {k: v for k, v in state.items() if "running" not in k and "tracked" not in k}


@check("best", points=3)
def lowest_loss_is_kept(submission: Submission) -> None:
    """best_model has the parameters of the offer with the lowest loss so far."""
    offers = Offers(submission)
    for loss in (7500.0, 5.2, 6.1, 5.9, 3.3, 3.4, 8.8, 3.29, 3.29):
        offers.offer(loss)
        _, lowest = min(offers.offered, key=lambda item: item[0])
        if moved(_parameters(lowest), offers.best.state()):
            losses = ", ".join(f"{each:g}" for each, _ in offers.offered)
            several = f"losses {losses}" if "," in losses else f"loss {losses}"
            fail(
                f"After the {several} best_model does not have the weights of the lowest.",
                offers.why(),
            )


@check("best", points=2)
def kept_weights_are_a_full_copy(submission: Submission) -> None:
    """What is kept is a copy of the whole state, which stays as it is when training goes on."""
    offers = Offers(submission)
    first = offers.offer(2.0)
    kept = offers.held().state()
    if not moved(_parameters(first), kept):
        missing = moved({k: v for k, v in first.items() if "running" in k}, kept)
        expect(
            not missing,
            f"best_model has the parameters of the model that was offered, but not its "
            f"{', '.join(missing[:1])}.",
            "Copy the whole state_dict(): parameters() leaves the running statistics out.",
        )
    offers.model.load(offers.new_weights())
    expect(
        not moved(kept, offers.held().state()),
        "best_model changes when the training of the other model goes on.",
        "They share tensors: copy them, with load_state_dict or copy.deepcopy.",
    )
    expect(
        not moved(_parameters(first), kept),
        "After the first offer best_model does not have the weights offered.",
    )
