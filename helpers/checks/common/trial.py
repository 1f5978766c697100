"""A student's training loop on a tiny model, and the same training computed by the kit."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import (
    CheckFailedError,
    StudentError,
    Submission,
)
from helpers.checks.common import tiny
from helpers.checks.common.conduct import recorded
from helpers.checks.common.images import random_images
from helpers.checks.common.standin import function_with

#: The loss of a model, given what it was shown, the images and their labels.
BatchLoss = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]
#: Computes what a model is given besides its input, (N, C), from the images and their labels.
Condition = Callable[[Tensor, Tensor], Tensor]

#: The most common mistake in the call of a loss.
EXCHANGED = "The images and the reconstructions are exchanged in the call of the loss."

N_IMAGES, BATCH_SIZE = 13, 5
#: Images in MNIST's training set.
N_TRAINING = 60_000


class Trial:
    """A student's ``train_epoch`` on a tiny model, and the same training computed here.

    There are thirteen images in batches of 5, 5 and 3, each of a different brightness, so that each
    wrong way to average gives a different number. SGD has momentum, so that a new optimiser in each
    epoch changes the result. Code that only works with the notebook's own ``batch_size``, such as
    ``images.view(batch_size, -1)``, is tried once more with batches of that size, the last of them
    as small as it is in the notebook's training.

    Args:
        lr: of SGD; so small that clipping the norm of the gradient makes no difference.
        model: a class of :mod:`helpers.checks.common.tiny`, by name.
        sizes: the arguments of that class.
        criterion: the class of the loss that the student's function is given.
        loss: what should be minimised for a batch.
        reported: what should be returned, if that is another loss.
        records: whether the model is shown something other than the images.
        wrong: what a mistake makes of ``loss`` and of ``reported``, by a sentence about it.
        function: the name of the student's training function.
        condition: what the model should be given besides the images, or instead of them; computed
            from the images and their labels.
        condition_text: what that is called, such as "one_hot(labels, 10)".
        recorder: the path of the recorder in the model that sees it.
        replaced: right functions for some of the notebook's; see :class:`standin.StandIn`.
        gives: what the model returns, if not the images alone; see :class:`tiny.TinyAutoencoder`.
    """

    def __init__(
        self,
        submission: Submission,
        lr: float,
        *,
        model: str,
        criterion: str,
        loss: BatchLoss,
        reported: BatchLoss | None = None,
        sizes: Sequence[int] = (),
        records: bool = False,
        wrong: Mapping[str, tuple[BatchLoss, BatchLoss]] | None = None,
        function: str = "train_epoch",
        condition: Condition | None = None,
        condition_text: str = "the condition",
        recorder: str = "condition_recorder",
        replaced: Mapping[str, str] | None = None,
        gives: str = "",
    ) -> None:
        self.wrong = wrong or {}
        self.lr, self.records, self.function = lr, records, function
        self.condition, self.condition_text = condition, condition_text
        self.condition_recorder, self._replaced = recorder, replaced or {}
        self._submission = submission
        self._new: Callable[[], nn.Module] = partial(getattr(tiny, model), *sizes)
        self._loss, self._reported = loss, reported or loss
        #: The parameters before the training.
        self.start = self._new().state_dict()
        self._known: dict[str, list[Any]] = {}
        #: What the student's function takes after the device.
        self.more_arguments: tuple[int, ...] = ()
        #: Whether what was returned holds on to what gradients need.
        self.keeps_graph = False
        self.criterion = submission.build(criterion)
        #: Whether the loss keeps what it is given.
        self.loss_records = criterion.startswith(tiny.__name__)
        arguments = [*sizes, gives] if gives else sizes
        self._build = partial(submission.build, f"{tiny.__name__}.{model}", *arguments)
        self._prepare(N_IMAGES, BATCH_SIZE)

    def _prepare(self, n_images: int, batch_size: int) -> None:
        """New images, in batches, and the model as it was at the start."""
        self.batch_size = batch_size
        self.images = random_images(n_images) * torch.linspace(0.2, 1, n_images).view(-1, 1, 1, 1)
        self.labels = torch.arange(n_images) % 7  # never all classes in one batch
        #: Number of images in each batch.
        self.counts = torch.tensor([float(len(x)) for x in self.images.split(batch_size)])
        submission = self._submission
        self.model = self._build()
        self.model.load(self.start)
        dataset = submission.build("torch.utils.data.TensorDataset", self.images, self.labels)
        self.loader = submission.build("helpers.data.Loader", dataset, batch_size)
        parameters = self.model.call("parameters")
        self.optimizer = submission.build(f"{tiny.__name__}.RecordingSGD", parameters, lr=self.lr)
        self._arguments = (self.loader, self.criterion, self.optimizer)

    def epoch(self) -> Any:
        """Run one epoch of the student's code and return what it returned."""
        self._known.clear()
        try:
            return self._run()
        except StudentError as error:
            size = self._own_batch_size()
            if error.kind != "error" or size in (0, self.batch_size):
                raise
            training = self.model.get("training")
            self._prepare(2 * size + (N_TRAINING % size or size), size)
            self.model.call("train", training)
            try:
                return self._run()
            except StudentError:
                raise error from None  # it has nothing to do with the size of the batch

    def _run(self) -> Any:
        device = self._submission.build("torch.device", "cpu")
        function = function_with(self._submission, self.function, self._replaced)
        arguments = (*self._arguments, device, *self.more_arguments)
        answer = function.call("", self.model, *arguments)
        self.keeps_graph = function.get("keeps_graph") is True
        return answer

    def _own_batch_size(self) -> int:
        """The notebook's ``batch_size``, or 0 if there is none."""
        try:
            size = self._submission.number("batch_size")
        except (CheckFailedError, StudentError):
            return 0
        return int(size) if 1 <= size <= 1000 else 0

    def shown(self) -> list[Tensor]:
        """The inputs of the model that it was trained on, batch by batch, over all epochs."""
        return self.trained_on("recorder")

    def trained_on(self, recorder: str) -> list[Tensor]:
        """What one of the model's recorders saw in the calls that the model was trained on."""
        inputs, used = (self._recorded(name, recorder) for name in ("inputs", "trained_on"))
        calls = zip(inputs, used, strict=False)
        return [x for x, trained_on in calls if trained_on is True and _is_batch(x)]

    def training_modes(self) -> list[bool]:
        """For each call that the model was trained on, whether it was in training mode."""
        calls = zip(self._recorded("was_training"), self._recorded("trained_on"), strict=False)
        return [mode is True for mode, trained_on in calls if trained_on is True]

    def modes_with_gradients(self) -> list[bool]:
        """The same for each call that gradients could have been computed through."""
        calls = zip(self._recorded("was_training"), self._recorded("with_gradients"), strict=False)
        return [mode is True for mode, with_gradients in calls if with_gradients is True]

    def _recorded(self, name: str, recorder: str = "recorder") -> list[Any]:
        """What a recorder has kept, which is asked for once after each epoch."""
        path = f"{recorder}.{name}"
        if path not in self._known:
            self._known[path] = recorded(self.model, path)
        return self._known[path]

    def rates(self) -> list[float]:
        """The learning rate of each step so far: students may change it as they go."""
        rates = recorded(self.optimizer, "rates")
        return [rate for rate in rates if isinstance(rate, float) and 0 < rate < 1e6]

    def batch_losses(
        self, loss: BatchLoss | None = None, *, target_is_shown: bool = False
    ) -> Tensor:
        """The loss that is reported (or another) of each batch, before any update, (3,)."""
        loss = loss or self._reported
        model = self._restarted()
        with torch.no_grad():
            losses = [
                loss(model, x, x if target_is_shown else images, labels)
                for x, images, labels in self._batches()[: len(self.counts)]
            ]
        return torch.stack(losses)

    def expected(
        self, n_epochs: int, mistake: str = "", minimised: BatchLoss | None = None
    ) -> dict[str, Tensor]:
        """The parameters after ``n_epochs``, trained here, if wanted with a mistake.

        ``minimised`` is the loss, if it is another one.
        """
        minimised = minimised or self._loss
        model = self._restarted()
        sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
        rates = iter(self.rates())
        batches = self._batches()
        per_epoch = 1 if mistake == "one batch" else len(self.counts)
        for epoch in range(0 if mistake == "no step" else n_epochs):
            if mistake == "new optimizer":
                sgd = torch.optim.SGD(model.parameters(), lr=self.lr, momentum=0.9)
            if mistake == "cleared once an epoch":
                sgd.zero_grad()
            for number in range(per_epoch):
                if mistake not in ("never cleared", "cleared once an epoch"):
                    sgd.zero_grad()
                position = epoch * per_epoch + number if self.records else number
                loss = minimised(model, *batches[position % len(batches)])
                loss.backward()
                sgd.param_groups[0]["lr"] = next(rates, self.lr)
                sgd.step()
        return model.state_dict()

    def scaled(self, factor: float) -> dict[str, Tensor]:
        """The parameters after two epochs with a multiple of the loss."""
        loss = self._loss
        return self.expected(2, minimised=lambda *given: factor * loss(*given))

    def _restarted(self) -> nn.Module:
        model = self._new()
        model.load_state_dict(self.start)
        return model

    def _batches(self) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each batch, what the model is shown, the images and the labels."""
        images, labels = self.images.split(self.batch_size), self.labels.split(self.batch_size)
        inputs = (self.shown() if self.records else []) or images
        return [(x, images[n % len(images)], labels[n % len(images)]) for n, x in enumerate(inputs)]


def _is_batch(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


#: Creates a trial from a submission and a learning rate.
MakeTrial = Callable[[Submission, float], Trial]


def mse_trial(
    submission: Submission,
    lr: float,
    *,
    model: str = "TinyAutoencoder",
    view: Callable[[Tensor], Tensor] = lambda images: images,
    records: bool = False,
    function: str = "train_epoch",
    condition: Condition | None = None,
    condition_text: str = "the condition",
    replaced: Mapping[str, str] | None = None,
    gives: str = "",
    lopsided: bool = False,
) -> Trial:
    """A trial with the mean squared error, on a tiny model that takes ``view`` of the images.

    See :class:`Trial` for the other arguments. The norm of the gradient stays below 0.5. If
    ``lopsided``, the error is one whose arguments cannot be exchanged.
    """

    def loss(network: nn.Module, shown: Tensor, images: Tensor, _: Tensor) -> Tensor:
        x_hat = network(view(shown))
        return (
            tiny.LopsidedLoss()(x_hat, images) if lopsided else functional.mse_loss(x_hat, images)
        )

    def swapped(network: nn.Module, shown: Tensor, images: Tensor, _: Tensor) -> Tensor:
        return tiny.LopsidedLoss()(images, network(view(shown)))

    return Trial(
        submission,
        lr,
        model=model,
        criterion=f"{tiny.__name__}.{'LopsidedLoss' if lopsided else 'RecordingMSELoss'}",
        loss=loss,
        wrong={EXCHANGED: (swapped, swapped)} if lopsided else {},
        records=records,
        function=function,
        condition=condition,
        condition_text=condition_text,
        recorder="recorder",
        replaced=replaced,
        gives=gives,
    )


def tiny_vae_loss(
    network: nn.Module,
    _: Tensor,
    images: Tensor,
    labels: Tensor,
    condition: Condition | None = None,
    swapped: bool = False,
) -> Tensor:
    """:class:`tiny.TinyLoss` of a tiny variational autoencoder; a :data:`BatchLoss`.

    If ``swapped``, the images are where the reconstructions belong.
    """
    conditions = () if condition is None else (condition(images, labels),)
    x_hat, mu, logvar, *_more = network(images, *conditions)
    first, second = (images, x_hat) if swapped else (x_hat, images)
    return tiny.TinyLoss()(first, second, mu, logvar)


def vae_trial(
    submission: Submission,
    lr: float,
    *,
    sizes: Sequence[int] = (),
    condition: Condition | None = None,
    condition_text: str = "the condition",
    summed: str = "",
    replaced: Mapping[str, str] | None = None,
) -> Trial:
    """A trial of a tiny variational autoencoder with :class:`tiny.TinyLoss`.

    Args:
        sizes: the arguments of the model.
        condition, condition_text, replaced: for a conditional model; see :class:`Trial`.
        summed: the loss of :mod:`helpers.checks.common.tiny` to use instead, which sums over the
            images. What is reported is a mean nevertheless.
    """

    mean = partial(tiny_vae_loss, condition=condition)

    def total(
        network: nn.Module, _: Tensor, images: Tensor, labels: Tensor, swapped: bool = False
    ) -> Tensor:
        return len(images) * mean(network, _, images, labels, swapped=swapped)

    loss = total if summed else mean
    wrong: dict[str, tuple[BatchLoss, BatchLoss]] = {
        EXCHANGED: (
            partial(loss, swapped=True),
            partial(mean, swapped=True),
        )
    }
    if summed:
        known = (
            "The given loss is a sum over the images already: do not multiply it by their number."
        )
        wrong[known] = loss, total

    return Trial(
        submission,
        lr,
        model="TinyVAE",
        sizes=sizes,
        criterion=f"helpers.checks.common.tiny.{summed or 'TinyLoss'}",
        loss=loss,
        reported=mean,
        wrong=wrong,
        condition=condition,
        condition_text=condition_text,
        replaced=replaced,
    )
