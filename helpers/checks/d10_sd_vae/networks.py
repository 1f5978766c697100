"""The checks of the encoder and the decoder: their layers, and their size at full width."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import torch

from helpers.checking import Object, Step, StudentError, Submission, check, expect, fail
from helpers.checks.common.architecture import computed, layer_name
from helpers.checks.d10_sd_vae.probing import BASE, D10, new

#: The student's classes that have checks of their own.
BLOCKS = ("ResidualBlock", "AttentionBlock", "Downsample", "Upsample")
#: Shapes of a small input of each network.
INPUTS = {"Encoder": (1, 3, 8, 16), "Decoder": (1, 4, 1, 2)}


@dataclass(frozen=True)
class Row:
    """One layer that a network applies: its class, and its numbers of channels in and out."""

    kind: str
    n_in: int = 0
    n_out: int = 0

    def __str__(self) -> str:
        if not self.n_out:
            return self.kind
        width = f"{self.n_in} to {self.n_out}" if self.n_in != self.n_out else f"{self.n_in}"
        return f"{self.kind}({width})"

    @property
    def known(self) -> bool:
        """Whether layers of its class stand in the tables."""
        return self.kind in (*BLOCKS, "Conv2d", "GroupNorm", "SiLU")


def residuals(*widths: int) -> list[Row]:
    """Rows of residual blocks, each from one of the widths to the next."""
    return [Row("ResidualBlock", a, b) for a, b in pairwise(widths)]


def one(kind: str, width: int) -> Row:
    """A row that keeps the number of channels."""
    return Row(kind, width, width)


def table(name: str, b: int) -> list[Row]:
    """The rows of a network's table."""
    if name == "Encoder":
        return [
            *[Row("Conv2d", 3, b), *residuals(b, b, b), one("Downsample", b)],
            *[*residuals(b, 2 * b, 2 * b), one("Downsample", 2 * b)],
            *[*residuals(2 * b, 4 * b, 4 * b), one("Downsample", 4 * b)],
            *[*residuals(*[4 * b] * 4), one("AttentionBlock", 4 * b), *residuals(4 * b, 4 * b)],
            *[one("GroupNorm", 4 * b), Row("SiLU"), Row("Conv2d", 4 * b, 8)],
        ]
    return [
        *[Row("Conv2d", 4, 4 * b), *residuals(4 * b, 4 * b), one("AttentionBlock", 4 * b)],
        *[*residuals(*[4 * b] * 5), one("Upsample", 4 * b)],
        *[*residuals(*[4 * b] * 4), one("Upsample", 4 * b)],
        *[*residuals(4 * b, 2 * b, 2 * b, 2 * b), one("Upsample", 2 * b)],
        *[*residuals(2 * b, b, b, b), one("GroupNorm", b), Row("SiLU"), Row("Conv2d", b, 3)],
    ]


@dataclass(frozen=True)
class Layers:
    """What a network of the student's applies, with stand-ins for the blocks."""

    network: Object
    rows: list[Row]
    #: The step that each row is.
    steps: list[Step]

    def __iter__(self) -> Iterator[tuple[Row, Step]]:
        return zip(self.rows, self.steps, strict=True)


def applied(submission: Submission, name: str, b: int = BASE) -> Layers:
    """The layers that a network applies to its input, in their order."""
    network = new(submission, name, b, instead=BLOCKS)
    kinds = {layer.path: layer.type_name for layer in network.layers()}
    rows, kept = list[Row](), list[Step]()
    try:
        # In training mode, where dropout is a layer, too: the text allows nothing between the rows.
        steps = computed(network, "", torch.randn(INPUTS[name]), training=True)
    except StudentError:
        # Layers that do not fit together: what is registered tells which one is the first.
        expect_same(registered(network), table(name, b), name)
        raise
    for before, step in pairwise([None, *steps]):
        assert step is not None
        kind = kinds.get(step.module, "")
        row = row_of(kind if kind in BLOCKS else layer_name(step), step)
        if before and (before.function, step.function) == ("sigmoid", "mul"):
            rows.pop()  # x * sigmoid(x)
            kept.pop()
            row = Row("SiLU")
        rows.append(row)
        kept.append(step)
    expect(bool(rows), f"{name} computes nothing from its input.")
    return Layers(network, rows, kept)


def row_of(kind: str, step: Step) -> Row:
    """A row of the table from what was executed."""
    weight, shape = step.shapes.get("weight", ()), step.shape
    if kind in ("GroupNorm", "Upsample") and len(shape) > 1:
        return one(kind, shape[1])
    if len(weight) == 4 and len(shape) > 1:
        groups = step.settings.get("groups")
        return Row(kind, weight[1] * (groups if isinstance(groups, int) else 1), shape[1])
    return Row(kind)


def registered(network: Object) -> list[Row]:
    """The layers in a network in the order in which they were made."""
    weights = network.state()
    rows = []
    for layer in network.layers()[1:]:
        weight = weights.get(f"{layer.path}.weight", torch.empty(0))
        if layer.container or layer.type_name in ("Identity", "Dropout"):
            continue
        transposed = layer.type_name == "Upsample"
        widths = weight.shape[:2] if transposed else weight.shape[:2][::-1]
        rows.append(Row(layer.type_name, *([*widths, *widths][:2] if weight.numel() else ())))
    return rows


def expect_same(found: Sequence[Row], right: Sequence[Row], name: str) -> None:
    """Fail unless a network's layers are those of its table, and name the first that is not."""
    counts = f"{name} has {len(found)} layers; the table has {len(right)}."
    for n, (row, wanted) in enumerate(zip(found, right, strict=False)):
        if row == wanted:
            continue
        if not row.known:
            fail(f"{name} applies {row} after {n} layers; the table has {wanted} there.")
        hint = counts if len(found) != len(right) else ""
        if found[n:] == right[n + 1 :]:
            hint = f"{wanted} is missing there."
        elif found[n + 1 :] == right[n:]:
            hint = f"{row} is one layer too many."
        fail(f"Layer {n + 1} of {name} is {row}; the table has {wanted}.", hint)
    if len(found) > len(right):
        fail(f"{name} applies {found[len(right)]} after the last layer of the table.", counts)
    expect(len(found) == len(right), counts, f"The next one would be {[*right, ''][len(found)]}.")


def expect_table(submission: Submission, name: str) -> None:
    """Fail unless a network applies the layers of its table."""
    layers = applied(submission, name)
    expect_same(layers.rows, table(name, BASE), name)
    seen = dict[str, int]()
    for n, (row, step) in enumerate(layers, start=1):
        where = f"Layer {n} of {name}, {row},"
        weight = step.parameters.get("weight", "")
        if "weight" in step.parameters:
            expect(
                bool(weight),
                f"{where} has weights that the network does not know.",
                "Are its layers kept in a plain list? Use nn.Sequential or nn.ModuleList.",
            )
            if weight in seen:
                fail(
                    f"Layers {seen[weight]} and {n} of {name} are one and the same {row.kind}.",
                    "Make a new one for each row: [block] * 2 repeats one object.",
                )
            seen[weight] = n
        if row.kind == "Conv2d":
            size = " x ".join(map(str, step.shapes.get("weight", ())[2:]))
            expect(size == "3 x 3", f"{where} is a convolution of {size}; it should be 3 x 3.")
    given, found = layers.steps[-1].shape[2:], INPUTS[name][2:]
    right = tuple(side // 8 if name == "Encoder" else 8 * side for side in found)
    expect(
        given == right,
        f"{name} makes {' x '.join(map(str, given))} of {' x '.join(map(str, found))} pixels.",
        "Plain convolutions have padding 1 and stride 1.",
    )


@check("networks", points=3)
def encoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Encoder applies the layers of the table, in their order."""
    expect_table(submission, "Encoder")


@check("networks", points=3)
def decoder_has_the_layers_of_the_table(submission: Submission) -> None:
    """Decoder applies the layers of the table, in their order."""
    expect_table(submission, "Decoder")


def expect_settings(submission: Submission, name: str) -> None:
    """Fail unless a network's plain layers have the settings of the text, wherever they stand."""
    layers = applied(submission, name)
    plain = [row for row in layers.rows if row.kind in ("Conv2d", "GroupNorm")]
    expect(bool(plain), f"{name} applies no convolution and no normalisation of its own.")
    for n, (row, step) in enumerate(layers, start=1):
        where = f"Layer {n} of {name}, {row},"
        if row.kind not in ("Conv2d", "GroupNorm"):
            continue
        for part in ("weight", "bias"):
            expect(bool(step.parameters.get(part)), f"{where} has no {part} of its own.")
        if row.kind == "GroupNorm":
            groups, eps = step.settings.get("num_groups"), step.settings.get("eps")
            expect(groups == 32, f"{where} has {groups} groups; it should have 32.")
            small = isinstance(eps, float) and abs(eps - 1e-6) < 1e-9
            expect(small, f"{where} has an eps of {eps}; it should be 1e-6.")
        else:
            try:
                mode = layers.network.get(f"{step.module}.padding_mode")
            except StudentError:  # a function, and not a layer
                mode = "zeros"
            expect(mode == "zeros", f"{where} pads with {mode!r}; it should be zeros.")


@contextmanager
def meta_device(submission: Submission) -> Iterator[None]:
    """Within this context, the student's tensors have shapes, but no numbers and no memory."""
    device = submission.build("torch.device", "meta")
    device.call("__enter__")
    try:
        yield
    finally:
        device.call("__exit__", None, None, None)


def expect_scaled(submission: Submission, name: str) -> Layers:
    """The layers at four times the width; fail unless each is four times as wide."""
    narrow, wide = (applied(submission, name, b) for b in (BASE, 4 * BASE))
    for n, (row, wider) in enumerate(zip(narrow.rows, wide.rows, strict=False), start=1):
        right = [w if w in (0, 3, 4, 8) else 4 * w for w in (row.n_in, row.n_out)]
        expect(
            row.kind == wider.kind and [wider.n_in, wider.n_out] == right,
            f"With base_channels={4 * BASE}, layer {n} of {name} is {wider}; "
            f"with {BASE} it is {row}.",
            "Each width is a multiple of base_channels.",
        )
    return wide


@check("networks", points=2)
def full_width_counts(submission: Submission) -> str:
    """At full width the encoder has 34,163,592 parameters and the decoder 49,490,179."""
    counts = {}
    for name, right in (("Encoder", D10["n_encoder"]), ("Decoder", D10["n_decoder"])):
        layers = expect_scaled(submission, name)
        counts[name] = n_parameters(submission, name, 4 * BASE)
        # Blocks and rows have their own checks: what is left is a layer that nobody uses.
        blocks = {row: of_block(submission, row) for row in set(layers.rows) if row.kind in BLOCKS}
        used = sum(blocks.get(row, of_step(step)) for row, step in layers)
        expect(
            counts[name] in (used, right),
            f"{name}({4 * BASE}) has {counts[name]:,} parameters; its rows have {used:,} of them.",
            "Is there a layer that is never used?",
        )
    return f"{counts['Encoder']:,} and {counts['Decoder']:,} parameters."


def n_parameters(submission: Submission, name: str, *args: int) -> int:
    """The number of parameters of an object of the student's."""
    with meta_device(submission):
        made = submission.new(name, *args)
    return sum(layer.n_parameters for layer in made.layers())


def of_block(submission: Submission, row: Row) -> int:
    """The number of parameters of a row that is a block, in the student's own."""
    both = row.kind == "ResidualBlock"
    return n_parameters(submission, row.kind, *((row.n_in, row.n_out) if both else (row.n_in,)))


def of_step(step: Step) -> int:
    """The number of parameters of a row that is a layer of torch's."""
    return sum(prod(step.shapes.get(part, (0,))) for part, name in step.parameters.items() if name)
