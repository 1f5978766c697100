"""The checks of deliverable 6 that students see."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import (
    Object,
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_number,
    expect_several,
    expect_tensor,
    fail,
)
from helpers.checks.common.results import (
    check_budget,
    check_learned,
    check_reported,
    expect_low,
    once,
)
from helpers.checks.common.trial import Trial, check_training
from helpers.data import cifar10_tensors
from helpers.deliverables import VQVAE_SIZES, VQVAESize, get

D6 = get("d6_vqvae")
#: Sizes for trying a quantiser out: all different, so that no two axes can be confused.
K, D, N, HEIGHT, WIDTH = 11, 5, 3, 4, 6
CODEBOOK = "embedding.weight"


def new_quantizer(submission: Submission, codes: Tensor, commitment_cost: float = 0.25) -> Object:
    """A quantiser of the student's class with these codes (K, D)."""
    n_codes, dim = codes.shape
    quantizer = submission.new("VectorQuantizer", n_codes, dim, commitment_cost)
    state = quantizer.state()
    expect(
        CODEBOOK in state and state[CODEBOOK].shape == codes.shape,
        "The codebook should be self.embedding.weight, (num_embeddings, embedding_dim).",
    )
    quantizer.load({**state, CODEBOOK: codes})
    return quantizer


def random_case() -> tuple[Tensor, Tensor]:
    """Codes (K, D), and an encoder's output (N, D, h, w)."""
    return torch.randn(K, D), torch.randn(N, D, HEIGHT, WIDTH)


def quantise(z: Tensor, codes: Tensor, *, farthest: bool = False) -> tuple[Tensor, Tensor]:
    """By brute force: the quantised array (N, D, h, w), and the codes' numbers (N * h * w,)."""
    rows = z.permute(0, 2, 3, 1)
    distances = torch.cdist(rows.flatten(0, 2), codes, compute_mode="donot_use_mm_for_euclid_dist")
    numbers = (-distances if farthest else distances).argmin(dim=1)
    return codes[numbers].view(rows.shape).permute(0, 3, 1, 2).contiguous(), numbers


def run_quantizer(quantizer: Object, z: Tensor) -> tuple[object, Tensor, object, object]:
    """The loss, the quantized array (N, D, h, w), the perplexity and the encodings, or fail.

    Only the array is checked, since each mistake has its own check. So the loss is compared with
    that of the student's own quantized array, and the perplexity with that of the student's own
    encodings.
    """
    message = "forward should return four things, with the loss first; it returned {got}."
    loss, quantized, perplexity, encodings = expect_several(quantizer.call("", z), 4, message)
    array = expect_tensor(quantized, tuple(z.shape), what="The quantized array")
    return loss, array, perplexity, encodings


def own_numbers(encodings: object, z: Tensor, codes: Tensor) -> Tensor:
    """The numbers of the codes that the student's quantiser chose, or the right ones."""
    n_places = z.numel() // z.shape[1]
    if isinstance(encodings, Tensor) and encodings.shape == (n_places, len(codes)):
        return encodings.argmax(dim=1)
    return quantise(z, codes)[1]


# Nearest codes.


@check("nearest", points=5)
def distances_are_squared_euclidean(submission: Submission) -> None:
    """distances(vectors) gives the squared distance of each vector to each code, (M, K)."""
    codes, _ = random_case()
    quantizer = new_quantizer(submission, codes)
    for n_vectors in (7, 1):
        vectors = torch.randn(n_vectors, D)
        what = f"The distances of {n_vectors} vectors to {K} codes"
        found = quantizer.tensor("distances", vectors, shape=(n_vectors, K), what=what)
        differences = vectors[:, None] - codes[None]
        right, product = differences.square().sum(dim=2), vectors @ codes.T
        mistakes = {
            "These are distances, not their squares.": right.sqrt(),
            "The square of the codes is missing.": right - codes.square().sum(dim=1),
            "The square of the vectors is missing.": right - vectors.square().sum(1, keepdim=True),
            "The product is taken once: -2 z e.": right + product,
            "The product is added: its sign is minus.": right + 4 * product,
            "These are sums of absolute differences.": differences.abs().sum(dim=2),
            "These are means over the D numbers: take the sum.": right / D,
        }
        expect_close(found, right, "The distances are not those of brute force.", mistakes)


@check("nearest", points=7)
def quantized_are_the_nearest_codes(submission: Submission) -> None:
    """Each vector of D numbers along the channels is replaced by its nearest code."""
    codes, z = random_case()
    _, found, _, _ = run_quantizer(new_quantizer(submission, codes), z)
    right, _ = quantise(z, codes)
    mistakes = {
        "These are the farthest codes: argmin, not argmax.": quantise(z, codes, farthest=True)[0],
        "The array was cut into rows with the channels in front: .permute(0, 2, 3, 1) moves them "
        "to the end.": quantise(z.reshape(-1, D, 1, 1), codes)[0].reshape(z.shape),
        "The channels were not moved back: .permute(0, 3, 1, 2).": right.permute(
            0, 2, 3, 1
        ).reshape(z.shape),
        "This is z itself: nothing is quantised.": z,
    }
    expect_close(found, right, "The quantized array is not that of the nearest codes.", mistakes)


@check("nearest", points=3)
def encodings_are_one_hot(submission: Submission) -> None:
    """The encodings have a 1 at the number of each place's code, and 0 elsewhere."""
    codes, z = random_case()
    _, _, _, encodings = run_quantizer(new_quantizer(submission, codes), z)
    if isinstance(encodings, Tensor) and not encodings.is_floating_point():
        encodings = encodings.float()
    found = expect_tensor(encodings, (N * HEIGHT * WIDTH, K), what="The encodings")
    right = functional.one_hot(own_numbers(found, z, codes), K).float()
    expect(close(found, right), "The encodings are not one-hot vectors.")


# The gradient where there is none.


@check("straight_through", points=7)
def gradients_pass_straight_through(submission: Submission) -> None:
    """The gradient that arrives at the quantized array reaches the input as it is."""
    codes, z = random_case()
    weights = torch.randn_like(z)
    quantizer = new_quantizer(submission, codes)
    gradient = quantizer.differentiate("", z, weights=weights, wrt=(0,), pick=1).inputs[0]
    hint = "Return z + (quantized - z).detach()."
    if gradient is None or not gradient.any():
        fail("No gradient reaches the input through the quantized array.", hint)
    message = "The gradient that reaches the input is not the one that arrived at the output."
    expect_close(gradient, weights, message, otherwise=hint)


@check("straight_through", points=4)
def error_does_not_move_the_codebook(submission: Submission) -> None:
    """No gradient reaches the codebook through the quantized array."""
    codes, z = random_case()
    quantizer = new_quantizer(submission, codes)
    answer = quantizer.differentiate("", z, weights=torch.randn_like(z), wrt=(0,), pick=1)
    gradient = answer.parameters.get(CODEBOOK)
    expect(
        gradient is None or not gradient.any(),
        "The reconstruction error would move the codebook.",
        "Detach the difference: z + (quantized - z).detach().",
    )


# The loss.


@check("quantizer_loss", points=7)
def loss_is_codebook_plus_commitment(submission: Submission) -> None:
    """The loss is the codebook term plus beta times the commitment term, each a mean of squares."""
    for beta in (0.25, 0.7, 0.0):
        codes, z = random_case()
        value, quantized, _, _ = run_quantizer(new_quantizer(submission, codes, beta), z)
        found = expect_number(value, what="The loss")
        term = float(functional.mse_loss(quantized, z))
        right = (1 + beta) * term
        causes = {
            "The squares are summed: take their mean over all numbers.": right * z.numel(),
            "The squares are summed over the D numbers of a vector: take their mean.": right * D,
            "One of the two terms is missing.": term,
            "Only the commitment term is there.": beta * term,
            "The two terms weigh the same: use self.commitment_cost.": 2 * term,
            "beta is fixed at 0.25: use self.commitment_cost.": 1.25 * term,
            "Both terms are multiplied by beta.": 2 * beta * term,
        }
        message = f"For beta = {beta:g} and a mean square of {term:.4f} the loss is {found:.4f}; "
        expect_close(found, right, f"{message}it should be {right:.4f}.", causes)


@check("quantizer_loss", points=8)
def each_term_moves_its_own_side(submission: Submission) -> None:
    """The codebook term moves the codes only, the commitment term the encoder's outputs only."""
    wrong_term = "beta belongs to the commitment term, and not to the codebook term."
    for beta in (0.25, 0.7):
        codes, z = random_case()
        quantizer = new_quantizer(submission, codes, beta)
        _, quantized, _, encodings = run_quantizer(quantizer, z)
        for_input = 2 * (z - quantized) / z.numel()
        rows = for_input.permute(0, 2, 3, 1).reshape(-1, D)
        numbers = own_numbers(encodings, z, codes)
        for_codes = torch.zeros_like(codes).index_add_(0, numbers, -rows)
        answer = quantizer.differentiate("", z, wrt=(0,), pick=0)
        to_input, to_codes = answer.inputs[0], answer.parameters.get(CODEBOOK)
        if to_input is None or not to_input.any():
            fail(
                "The loss does not move the encoder's outputs.",
                "In the commitment term, detach the quantized array and not z.",
            )
        expect_close(
            to_input,
            beta * for_input,
            "The loss moves the encoder's outputs by a wrong amount.",
            {
                wrong_term: for_input,
                "The codebook term moves them too: detach z in it.": (1 + beta) * for_input,
            },
            "In the commitment term detach the quantized array, in the other one z.",
            tolerance=1e-5,
        )
        if to_codes is None or not to_codes.any():
            fail(
                "The loss does not move the codebook.",
                "Compute the codebook term before the straight-through step, and detach z in it.",
            )
        both = "The commitment term moves it too: detach the quantized array in it."
        expect_close(
            to_codes,
            for_codes,
            "The loss moves the codebook by a wrong amount.",
            {wrong_term: beta * for_codes, both: (1 + beta) * for_codes},
            "In the codebook term detach z, in the other one the quantized array.",
            tolerance=1e-5,
        )


# Perplexity.


def entropy(numbers: Tensor, n_codes: int) -> float:
    """Entropy of the codes' shares, in nats."""
    shares = torch.bincount(numbers, minlength=n_codes) / len(numbers)
    return float(-(shares * torch.log(shares + 1e-10)).sum())


@check("perplexity", points=6)
def perplexity_counts_the_codes_in_use(submission: Submission) -> None:
    """The perplexity is exp(entropy) of the codes' shares: 1 for one code, K for all alike."""
    codes, _ = random_case()
    quantizer = new_quantizer(submission, codes)
    for numbers in ([4] * 12, list(range(K)), [0, 0, 0, 0, 1, 1, 2, 5]):
        z = codes[numbers].T.reshape(1, D, 1, len(numbers)).contiguous()
        _, _, value, encodings = run_quantizer(quantizer, z)
        found = expect_number(value, what="The perplexity")
        chosen = own_numbers(encodings, z, codes)
        nats = entropy(chosen, K)
        right = math.exp(nats)
        causes = {
            "This is the entropy: take exp of it.": nats,
            "The logarithm has base 2, and exp has base e.": math.exp(nats / math.log(2)),
            "The entropy has a minus sign.": math.exp(-nats),
            "This is the number of codes in use; their shares count, too.": len(chosen.unique()),
        }
        expect_close(
            found,
            right,
            f"For the codes {chosen.tolist()} the perplexity is {found:.3f}; it should be "
            f"{right:.3f}.",
            causes,
            "exp(-sum p log p), with p the share of each code.",
            tolerance=1e-3,
        )


# The model.


@check("model_parts", points=4)
def model_joins_its_parts(submission: Submission) -> None:
    """forward(x) returns the quantiser's loss, the decoded quantized array, and the perplexity."""
    codes, _ = random_case()
    quantizer = new_quantizer(submission, codes)
    encoder, decoder = (
        submission.build("torch.nn.Conv2d", *channels, 1) for channels in ((3, D), (D, 3))
    )
    model = submission.new("Model", encoder, quantizer, decoder)
    images = torch.rand(N, 3, HEIGHT, WIDTH) - 0.5
    message = "forward should return three things: loss, x_hat, perplexity."
    found_loss, x_hat, found_perplexity = expect_several(model.call("", images), 3, message)
    x_hat = expect_tensor(x_hat, tuple(images.shape), what="The x_hat that forward returns")
    z = encoder.tensor("", images)
    loss, quantized, perplexity, _ = run_quantizer(quantizer, z)
    message = "x_hat is not the decoder's answer to the quantized array."
    skipped = {"The quantiser is skipped.": decoder.tensor("", z)}
    expect_close(x_hat, decoder.tensor("", quantized), message, skipped)
    for what, value, right in (
        ("The loss", found_loss, loss),
        ("The perplexity", found_perplexity, perplexity),
    ):
        # Compared without being checked: each has its own check.
        if isinstance(value, Tensor) and isinstance(right, Tensor):
            same = torch.allclose(value, right, rtol=1e-4, equal_nan=True)
        else:
            same = value == right
        expect(same, f"{what} that forward returns is not the quantiser's.")


@check("model_parts", points=3)
def error_is_in_units_of_the_variance(submission: Submission) -> None:
    """normalised_error is the mean squared error divided by the variance of the data."""
    for n_images in (4, 1):
        x_hat, x = torch.rand(n_images, 3, 8, 8), torch.rand(n_images, 3, 8, 8)
        answer = submission.call("normalised_error", x_hat, x)
        found = expect_number(answer, what="What normalised_error returns")
        squared = float(functional.mse_loss(x_hat, x))
        right = squared / D6["data_variance"]
        expect_close(
            found,
            right,
            f"For a mean squared error of {squared:.4f} it gave {found:.4f}, and should give "
            f"{right:.4f}.",
            otherwise=f"Divide by the variance, {D6['data_variance']}, not by its square root.",
            tolerance=2e-3,
        )


# Training.


def trial(submission: Submission, lr: float) -> Trial:
    """The student's train_epoch on a tiny model that quantises nothing."""
    return Trial(
        submission,
        lr,
        model="TinyVQVAE",
        criterion="torch.nn.MSELoss",
        loss=lambda model, x, images, labels: model(images)[0] + _error(model, x, images, labels),
        reported=_error,
    )


def _error(model: nn.Module, _: Tensor, images: Tensor, __: Tensor) -> Tensor:
    return functional.mse_loss(model(images)[1], images)


check_training(
    __name__,
    trial,
    points=(4, 6),
    lr=0.5,
    hint="For each batch: zero_grad, the quantiser's loss plus the error, backward, step.",
    returns="the_mean_error",
    mean_title="train_epoch returns the mean reconstruction error over all images, without other "
    "terms.",
    steps_title="Two epochs of train_epoch move the parameters down the sum of all terms.",
)


# The trained models.


@dataclass(frozen=True)
class Findings:
    """Measurements of the trained models."""

    size: VQVAESize
    #: Normalised errors.
    training: float
    test: float
    #: Perplexity of the codes of training images.
    perplexity: float
    #: Root mean square of the encoder's outputs, with the commitment term and without.
    spread: float
    spread_uncommitted: float


@once
def findings(submission: Submission) -> Findings:
    """The trained models' errors and codes.

    The encoder's outputs are quantised here, by brute force, and enter another process, so that
    the decoder gets nothing but codes of the codebook.
    """
    splits = [cifar10_tensors(train=True)[::4], cifar10_tensors(train=False)]
    codes = submission.checkpoint("vqvae").get(f"quantizer.{CODEBOOK}")
    if codes is None or codes.ndim != 2:
        fail(f"The checkpoint has no codebook quantizer.{CODEBOOK}.")
    sizes = [size for size in VQVAE_SIZES.values() if size.num_embeddings == len(codes)]
    allowed = " or ".join(str(size.num_embeddings) for size in VQVAE_SIZES.values())
    expect(bool(sizes), f"The codebook has {len(codes)} codes; {allowed} are asked for.")
    model = submission.trained("vqvae")
    outputs = [model.apply("encoder", x, what="The encoder's output") for x in splits]
    for z, x in zip(outputs, splits, strict=True):
        expected = (len(x), codes.shape[1], 8, 8)
        expect(tuple(z.shape) == expected, f"The encoder's output should be {expected}.")
    other = submission.trained("vqvae_no_commitment", beside=model)
    uncommitted = other.apply("encoder", splits[1], what="The other encoder's output")
    model = submission.trained("vqvae")
    errors, entropies = [], []
    for z, x in zip(outputs, splits, strict=True):
        quantised, numbers = quantise(z, codes.float())
        entropies.append(entropy(numbers, len(codes)))
        x_hat = model.apply("decoder", quantised, what="The decoder's output")
        expect(x_hat.shape == x.shape, "Decoded images should be (N, 3, 32, 32).")
        errors.append(float(functional.mse_loss(x_hat, x)) / D6["data_variance"])
    spreads = [float(z.double().square().mean().sqrt()) for z in (outputs[1], uncommitted)]
    return Findings(sizes[0], errors[0], errors[1], math.exp(entropies[0]), spreads[0], spreads[1])


# A model that always answers with the mean image has a normalised error of 1.
check_learned(
    __name__,
    findings,
    points=3,
    below=0.5,
    figure="Normalised error {:.3f}",
    instead=": the mean alone would reach 1.",
)


@check("result", points=8)
def training_error_is_low(submission: Submission) -> str:
    """Training images, told in words of the codebook, are painted with a small error."""
    found = findings(submission)
    return expect_low(f"Normalised error {found.training:.3f}", found.training, found.size.max_loss)


@check("result", points=4)
def codebook_is_used(submission: Submission) -> str:
    """A good part of the codebook is in use."""
    found = findings(submission)
    least = found.size.min_perplexity
    note = f"Perplexity {found.perplexity:.0f} of {found.size.num_embeddings} codes"
    expect(found.perplexity >= least, f"{note}; it should be at least {least:g}.")
    return f"{note}."


@check("result", points=4)
def commitment_keeps_outputs_near(submission: Submission) -> str:
    """Without the commitment term, the encoder's outputs run away."""
    found = findings(submission)
    note = (
        f"The encoder's outputs have a root mean square of {found.spread:.2g} with the commitment "
        f"term and {found.spread_uncommitted:.2g} without"
    )
    least = D6["min_spread_ratio"]
    expect(
        found.spread_uncommitted / max(found.spread, 1e-12) >= least,
        f"{note}; expected is at least {least:g} times as much.",
        "Was the second model trained with a commitment cost of 0?",
    )
    return f"{note}."


check_budget(__name__, points=2)
# The mean over the last epoch lags behind its end, while the error still falls.
check_reported(__name__, findings, tolerance=0.15, word="error")
