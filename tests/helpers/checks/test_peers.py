"""The references beside independent implementations of the same, on the same inputs.

Deliverables 10 and 11 have theirs, diffusers, in tests of their own.
"""

from functools import cache

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor
from torch.distributions import Bernoulli, Independent, Normal, kl_divergence
from vector_quantize_pytorch import VectorQuantize

from autograder.judging import load_master, place
from autograder.rubric import run_cells, solved
from helpers.checking import Submission
from helpers.checks.d6_vqvae.quantising import quantise

N, Z, BETA = 6, 5, 0.25


@cache
def reference(name: str) -> Submission:
    """The solved notebook of a deliverable, its cells run."""
    master = load_master(name)
    return Submission(run_cells(place(solved(master).cells, master)).execute)


@pytest.fixture
def case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Probabilities and images (N, 1, 28, 28), means and log variances (N, Z)."""
    torch.manual_seed(0)
    probabilities, images = torch.rand(N, 1, 28, 28), torch.rand(N, 1, 28, 28).round()
    return probabilities, images, torch.randn(N, Z), torch.randn(N, Z)


def negative_elbo(x_hat: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """Of each image, by torch.distributions, (N,)."""
    likelihood = Independent(Bernoulli(probs=x_hat.flatten(1)), 1)
    posterior = Independent(Normal(mu, torch.exp(logvar / 2)), 1)
    prior = Independent(Normal(torch.zeros(Z), torch.ones(Z)), 1)
    return kl_divergence(posterior, prior) - likelihood.log_prob(x.flatten(1))


class TestTorchDistributions:
    @pytest.mark.parametrize(
        ("name", "function", "averaged"),
        [("d3_vae", "loss_function", True), ("d8_conv_vae", "vae_loss", False)],
    )
    def test_loss(self, name: str, function: str, averaged: bool, case: tuple[Tensor, ...]) -> None:
        right = negative_elbo(*case)
        value = reference(name).call(function, *case)
        torch.testing.assert_close(value, right.mean() if averaged else right.sum())

    def test_elbo(self, case: tuple[Tensor, ...]) -> None:
        x_hat, x, mu, logvar = case
        theta, bits = x_hat.flatten(1), x.flatten(1)
        value = reference("d7_elbo").call("loss_function", bits, theta, mu, logvar)
        torch.testing.assert_close(value, negative_elbo(*case).sum())

    def test_importance_weights(self) -> None:
        """With the exact posterior as q, every weight is p(x): one code gives log p(x) itself."""
        # A decoder that ignores its code: p(x | z) = p(x), and the prior is the posterior.
        submission = reference("d7_elbo")
        encoder, decoder = submission.new("Encoder", 30, 4, 2), submission.new("Decoder", 2, 4, 30)
        for part in (encoder, decoder):
            part.load({key: torch.zeros_like(value) for key, value in part.state().items()})
        bias = {**decoder.state(), "4.bias": torch.linspace(-2, 2, 30)}
        decoder.load(bias)
        x = torch.randint(2, (3, 30)).float()
        right = Bernoulli(logits=bias["4.bias"]).log_prob(x).sum(dim=1)
        for n_samples in (1, 7):
            found = submission.call(
                "log_likelihood", submission.new("Model", encoder, decoder), x, n_samples
            )
            torch.testing.assert_close(found, right)


class TestQuantiser:
    """Deliverable 6's, beside vector-quantize-pytorch and scikit-learn."""

    codes = torch.randn(11, Z, generator=torch.Generator().manual_seed(0))
    z = torch.randn(3, Z, 4, 4, generator=torch.Generator().manual_seed(1))

    @pytest.fixture
    def peer(self) -> VectorQuantize:
        peer = VectorQuantize(
            dim=Z,
            codebook_size=11,
            accept_image_fmap=True,
            commitment_weight=BETA,
            rotation_trick=False,
            decay=1.0,
        )
        peer.codebook = self.codes
        return peer.train()

    def test_vector_quantize_pytorch(self, peer: VectorQuantize) -> None:
        ours = reference("d6_vqvae").new("VectorQuantizer", 11, Z, BETA)
        ours.load({"embedding.weight": self.codes})
        loss, quantized, _, encodings = ours.call("", self.z)
        z = self.z.clone().requires_grad_()
        theirs, numbers, commitment = peer(z)
        torch.testing.assert_close(quantized, theirs.detach())
        assert torch.equal(encodings.argmax(dim=1), numbers.flatten())
        # Theirs is beta times the commitment term; ours has the codebook term, as large, besides.
        torch.testing.assert_close(loss, commitment.detach().squeeze() * (1 + BETA) / BETA)

        weights = torch.randn_like(theirs)
        answer = ours.differentiate("", self.z, weights=weights, wrt=(0,), pick=1)
        (gradient,) = torch.autograd.grad((weights * theirs).sum(), z)
        torch.testing.assert_close(answer.inputs[0], gradient)

    def test_scikit_learn(self) -> None:
        """The judge's own quantiser, and the reference's distances."""
        rows = self.z.permute(0, 2, 3, 1).reshape(-1, Z)
        neighbours = NearestNeighbors(n_neighbors=11).fit(self.codes.numpy())
        distances, order = neighbours.kneighbors(rows.numpy())
        assert np.array_equal(quantise(self.z, self.codes)[1].flatten().numpy(), order[:, 0])
        ours = reference("d6_vqvae").new("VectorQuantizer", 11, Z, BETA)
        ours.load({"embedding.weight": self.codes})
        found = ours.tensor("distances", rows)
        theirs = torch.from_numpy(distances**2).float()
        torch.testing.assert_close(found.sort(dim=1).values, theirs, atol=1e-4, rtol=1e-4)
