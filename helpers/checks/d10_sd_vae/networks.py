"""The checks of the encoder and the decoder: their layers, and their size at full width."""

from collections.abc import Iterator
from contextlib import contextmanager

from helpers.checking import Submission, check, expect
from helpers.checks.common.sd_blocks import ending, expect_rows, residuals
from helpers.deliverables import get

D10 = get("d10_sd_vae")
BASE = int(D10["base_channels"])


@check("networks", points=3)
def encoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Encoder holds the layers of the table, in their order."""
    b = BASE
    right = [
        *[("Conv2d", 3, b), *residuals(b, b, b), ("Downsample", b, b)],
        *[*residuals(b, 2 * b, 2 * b), ("Downsample", 2 * b, 2 * b)],
        *[*residuals(2 * b, 4 * b, 4 * b), ("Downsample", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 4), ("AttentionBlock", 4 * b, 4 * b)],
        *[*residuals(4 * b, 4 * b), *ending(4 * b, 8)],
    ]
    expect_rows(submission.new("Encoder", b), "Encoder", right)


@check("networks", points=3)
def decoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Decoder holds the layers of the table, in their order."""
    b = BASE
    right = [
        *[("Conv2d", 4, 4 * b), *residuals(4 * b, 4 * b), ("AttentionBlock", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 5), ("Upsample", 4 * b, 4 * b)],
        *[*residuals(*[4 * b] * 4), ("Upsample", 4 * b, 4 * b)],
        *[*residuals(4 * b, 2 * b, 2 * b, 2 * b), ("Upsample", 2 * b, 2 * b)],
        *[*residuals(2 * b, b, b, b), *ending(b, 3)],
    ]
    expect_rows(submission.new("Decoder", b), "Decoder", right)


@contextmanager
def meta_device(submission: Submission) -> Iterator[None]:
    """Within this context, the student's tensors have shapes, but no numbers and no memory."""
    device = submission.build("torch.device", "meta")
    device.call("__enter__")
    try:
        yield
    finally:
        device.call("__exit__", None, None, None)


@check("networks", points=2)
def full_width_counts(submission: Submission) -> str:
    """At full width the encoder has 34,163,592 parameters and the decoder 49,490,179."""
    counts = {}
    for name, right in (("Encoder", D10["n_encoder"]), ("Decoder", D10["n_decoder"])):
        with meta_device(submission):
            network = submission.new(name, 128)
        counts[name] = sum(layer.n_parameters for layer in network.layers())
        expect(
            counts[name] == right,
            f"{name}(128) has {counts[name]:,} parameters; it should have {right:,}.",
            "Convolutions, linear layers and normalisations all have a bias.",
        )
    return f"{counts['Encoder']:,} and {counts['Decoder']:,} parameters."
