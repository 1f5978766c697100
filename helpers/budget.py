"""The size of a model: its number of trainable parameters, and a table for the report."""

import contextlib
import copy
import io
import re
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.parameter import UninitializedParameter


def count_parameters(model: nn.Module) -> int:
    """The number of trainable values in ``model``.

    A parameter that several layers share counts once. Frozen parameters and buffers (such as the
    running means of BatchNorm) do not count.

    Raises:
        ValueError: if a lazy layer does not have its size yet.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if any(isinstance(parameter, UninitializedParameter) for parameter in trainable):
        raise ValueError(
            "A lazy layer of the model does not know its size yet: send one batch through it first."
        )
    return sum(parameter.numel() for parameter in trainable)


def summary(model: nn.Module, input_size: Sequence[int]) -> str:
    """The text of ``torchsummary`` for ``model``, ready for ``print`` and for the report.

    The model itself does not change, whatever its device: a copy processes one random batch on
    the CPU. If torchsummary fails or counts wrongly, a sentence says so, and a table of the
    parameters by name follows.

    Args:
        model: any module whose ``forward`` accepts one batch.
        input_size: shape of one example without the batch axis, such as ``(1, 28, 28)``.
    """
    try:
        text = torchsummary_text(model, input_size)
    except Exception as error:  # whatever the model's own code raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return f"torchsummary could not describe this model ({reason}).\n\n{parameter_table(model)}"

    # torchsummary adds up the `weight` and `bias` of every layer that is called: it misses other
    # parameters and layers whose weights are used directly, and counts a layer called twice twice.
    found = re.search(r"^Trainable params: ([\d,]+)$", text, flags=re.MULTILINE)
    counted = int(found[1].replace(",", "")) if found else 0
    actual = count_parameters(model)
    if counted == actual:
        return text
    return (
        f"{text}\n\ntorchsummary counts {counted:,} trainable parameters here, but the model has "
        f"{actual:,}; this is where they are:\n\n{parameter_table(model)}"
    )


def torchsummary_text(model: nn.Module, input_size: Sequence[int]) -> str:
    """What torchsummary prints for a copy of ``model`` on the CPU."""
    import torchsummary  # here: without the package, only this text is missing

    # A copy, since torchsummary only supports "cpu" and "cuda", updates BatchNorm's running
    # means with its random batch, and leaves its hooks in place when the model raises.
    twin = copy.deepcopy(model).cpu().eval()
    printed = io.StringIO()
    # It draws its batch from torch's generator: without fork_rng, printing a summary would change
    # the training that follows.
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(printed):
        torchsummary.summary(twin, tuple(input_size), device="cpu")
    return printed.getvalue().rstrip()


def parameter_table(model: nn.Module) -> str:
    """A line for each parameter (name, shape, number of values, whether frozen), and the totals."""
    lines = []
    total = trainable = 0
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            lines.append(f"{name:<36}{'not known yet':>20}")
            continue
        total += parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
        frozen = "" if parameter.requires_grad else "  frozen"
        shape = str(tuple(parameter.shape))
        lines.append(f"{name:<36}{shape:>20}{parameter.numel():>14,}{frozen}")
    rule = "-" * 70
    return "\n".join(
        [
            f"{'Parameter':<36}{'Shape':>20}{'Numbers':>14}",
            rule,
            *lines,
            rule,
            f"Total params: {total:,}",
            f"Trainable params: {trainable:,}",
            f"Non-trainable params: {total - trainable:,}",
        ]
    )
