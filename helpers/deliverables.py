"""The facts of the course. Texts, checks, grader and documentation read them from here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The zip from ``autograder release`` with which a notebook on Colab or Kaggle installs the kit.
#: Set it for your course here, or for one release with ``autograder release --kit-url``.
KIT_URL = "https://latent-lab.example/latent-lab-kit.zip"

#: Largest size of a hand-in in bytes, both zipped and unpacked.
MAX_HANDIN_BYTES = 100 * 2**20

#: A student's id. It has no spaces, slashes or brackets, as nbgrader uses it as a file pattern.
STUDENT_ID = re.compile(r"[\w@][\w.@+-]{0,99}")

#: Imports that every deliverable allows, in addition to the standard library. Others are reported.
ALLOWED_IMPORTS = frozenset(
    {"numpy", "torch", "torchvision", "scipy", "PIL", "matplotlib", "torchsummary", "tqdm"}
    | {"helpers", "IPython", "ipywidgets"}
)


@dataclass(frozen=True)
class Deliverable:
    """One piece of homework.

    Facts that only some deliverables have, such as the size of a code, are in ``facts``;
    ``deliverable["latent_dim"]`` reads one of them.
    """

    id: str
    title: str
    #: Largest number of trainable parameters in one model.
    max_parameters: int
    #: The final training loss must be below this. Its unit is that of the deliverable's loss.
    max_loss: float
    #: Largest number of passes over the training set.
    max_epochs: int
    #: Names of the trained models, which are handed in as ``checkpoints/<name>.safetensors``.
    checkpoints: tuple[str, ...]
    #: Further limits and pass marks, by name.
    facts: Mapping[str, float] = field(default_factory=dict)
    #: Imports allowed here beyond :data:`ALLOWED_IMPORTS`.
    extra_imports: frozenset[str] = field(default_factory=frozenset)

    def __getitem__(self, fact: str) -> float:
        """One of the ``facts``."""
        return self.facts[fact]


@dataclass(frozen=True)
class VQVAESize:
    """The settings of one size of the vector-quantised autoencoder."""

    num_embeddings: int
    num_hiddens: int
    num_residual_hiddens: int
    batch_size: int
    n_epochs: int
    learning_rate: float
    #: The final normalised error must be below this, and the final perplexity above the next.
    max_loss: float
    min_perplexity: float
    embedding_dim: int = 64
    num_residual_layers: int = 2
    commitment_cost: float = 0.25


VQVAE_SIZES = {
    # Takes minutes on a CPU, with the sample of CIFAR-10 in this kit.
    "small": VQVAESize(
        num_embeddings=128,
        num_hiddens=64,
        num_residual_hiddens=32,
        batch_size=32,
        n_epochs=30,
        learning_rate=5e-4,
        max_loss=0.23,
        min_perplexity=15,
    ),
    # For a GPU, with all of CIFAR-10: 15,000 updates.
    "full": VQVAESize(
        num_embeddings=512,
        num_hiddens=128,
        num_residual_hiddens=32,
        batch_size=256,
        n_epochs=77,
        learning_rate=1e-3,
        max_loss=0.09,
        min_perplexity=100,
    ),
}


@dataclass(frozen=True)
class FaceSize:
    """The settings of one size of the variational autoencoder of faces."""

    n_train: int
    n_valid: int
    hidden_dims: tuple[int, ...]
    batch_size: int
    n_epochs: int
    learning_rate: float
    image_size: int = 150
    latent_dim: int = 128


FACE_SIZES = {
    # Takes minutes on a CPU, with faces that the kit draws. This size is handed in.
    "small": FaceSize(
        n_train=1_500,
        n_valid=200,
        hidden_dims=(16, 32, 64, 128, 256),
        batch_size=20,
        n_epochs=20,
        learning_rate=1e-3,
    ),
    # For a GPU, with all of CelebA.
    "full": FaceSize(
        n_train=162_770,
        n_valid=19_867,
        hidden_dims=(32, 64, 128, 256, 512),
        batch_size=128,
        n_epochs=20,
        learning_rate=5e-4,
    ),
}

#: Bounds on the size of the latent vector of the variational autoencoders.
_LATENT = {"min_latent_dim": 12, "max_latent_dim": 18}

_ALL = (
    Deliverable(
        id="d1_autoencoder",
        title="A fully connected autoencoder",
        max_parameters=1_500_000,
        max_loss=0.04,
        max_epochs=15,
        checkpoints=("autoencoder",),
        facts={"latent_dim": 2, "max_test_loss": 0.046},
    ),
    Deliverable(
        id="d2_denoising",
        title="A denoising convolutional autoencoder",
        max_parameters=15_000,
        max_loss=0.025,
        max_epochs=20,
        checkpoints=("denoiser",),
        facts={"noise_std": 0.5, "n_pixels": 784, "max_test_loss": 0.0275},
    ),
    Deliverable(
        id="d3_vae",
        title="A variational autoencoder",
        max_parameters=1_500_000,
        max_loss=120.0,
        max_epochs=10,
        checkpoints=("vae",),
        facts={**_LATENT, "max_test_loss": 126},
    ),
    Deliverable(
        id="d4_cvae",
        title="A conditional variational autoencoder",
        max_parameters=1_500_000,
        max_loss=115.0,
        max_epochs=10,
        checkpoints=("cvae",),
        # Smallest share of the samples for each label that a classifier must recognise.
        facts={**_LATENT, "n_classes": 10, "min_recognised": 0.7, "max_test_loss": 121},
    ),
    Deliverable(
        id="d5_structured_prediction",
        title="Structured prediction: the rest of the image",
        max_parameters=1_500_000,
        max_loss=95.0,
        max_epochs=10,
        checkpoints=("cvae", "baseline"),
        facts={
            **_LATENT,
            "quarter_dim": 196,
            # The parameters of the baseline, in those of the decoder.
            "min_capacity": 0.75,
            "max_capacity": 1.33,
            "max_test_loss": 102.0,
            # In nats per image on the three hidden quarters: the smallest log-likelihood of the
            # baseline, and by how much the conditional VAE must be better.
            "min_baseline": -115.0,
            "min_gain": 3.0,
        },
    ),
    Deliverable(
        id="d6_vqvae",
        title="A vector-quantised autoencoder",
        max_parameters=1_500_000,
        max_loss=VQVAE_SIZES["small"].max_loss,
        max_epochs=VQVAE_SIZES["full"].n_epochs,
        checkpoints=("vqvae", "vqvae_no_commitment"),
        facts={
            "data_variance": 0.06327,  # of CIFAR-10's training pixels, from 0 to 1
            "commitment_cost": VQVAE_SIZES["small"].commitment_cost,
            "full_max_loss": VQVAE_SIZES["full"].max_loss,
            "min_perplexity": VQVAE_SIZES["small"].min_perplexity,
            "full_min_perplexity": VQVAE_SIZES["full"].min_perplexity,
            # By how many percent the error on test images may be above the limit in training.
            "test_allowance": 15,
            # Smallest ratio of the spread of the encoder's outputs without the commitment term to
            # that with it.
            "min_spread_ratio": 3,
        },
        extra_imports=frozenset({"umap"}),
    ),
    Deliverable(
        id="d7_elbo",
        title="A Bernoulli VAE and the ELBO",
        max_parameters=407_224,
        max_loss=90.0,
        max_epochs=20,
        checkpoints=("bernoulli_vae",),
        facts={
            "hidden_dim": 200,
            "latent_dim": 20,
            # Nats: Burda, Grosse & Salakhutdinov (2016), table 1, VAE with one stochastic layer.
            "published_nll": 86.76,
            "max_test_loss": 94.5,
            # By how much 100 samples must raise the bound, in nats.
            "min_rise": 0.5,
        },
    ),
    Deliverable(
        id="d8_conv_vae",
        title="A convolutional VAE with a latent plane",
        max_parameters=308_357,
        # Enough after any number of epochs: more training never fails.
        max_loss=160.0,
        max_epochs=30,
        checkpoints=("conv_vae",),
        facts={
            "capacity": 64,
            "latent_dims": 2,
            "batch_size": 128,
            # So many epochs are enough for that (minutes on a CPU).
            "small_epochs": 5,
            # Largest difference between training and test loss, in nats.
            "max_gap": 5.0,
            # The plane is shown, and judged, up to this distance from the origin.
            "reach": 1.5,
            # Number of different digits that a classifier must find in it.
            "min_kinds": 7,
        },
    ),
    Deliverable(
        id="d9_image_variations",
        title="Variations of a face",
        max_parameters=5_000_000,
        max_loss=800.0,
        max_epochs=FACE_SIZES["small"].n_epochs,
        checkpoints=("vae",),
        facts={
            "image_size": FACE_SIZES["small"].image_size,
            # Smallest share of variations that are closer to their own image than to any other.
            "min_closest": 0.9,
        },
    ),
    Deliverable(
        id="d10_sd_vae",
        title="The autoencoder of Stable Diffusion",
        max_parameters=5_500_000,
        # Mean squared error of pixels in [-1, 1], plus kl_weight times the KL divergence.
        max_loss=0.11,
        max_epochs=20,
        checkpoints=("sd_vae",),
        facts={
            # The mean image has a loss of 0.21 on the training images and more on these.
            "max_test_loss": 0.15,
            "base_channels": 32,
            "scale": 0.18215,
            "kl_weight": 0.00025,
            # Log variances are clamped to these limits.
            "min_logvar": -30,
            "max_logvar": 20,
            # Parameters at the full width of 128.
            "n_encoder": 34_163_592,
            "n_decoder": 49_490_179,
        },
    ),
    Deliverable(
        id="d11_text_to_image",
        title="Stable Diffusion from its parts",
        # Nothing is trained: the parts are pretrained.
        max_parameters=0,
        max_loss=0.0,
        max_epochs=0,
        checkpoints=(),
        facts={
            "latent_scale": 0.18215,  # of the autoencoder's latents
            "n_tokens": 77,
            "guidance_scale": 8,
            "n_steps": 50,
            # Smallest share of the small model's images in which a classifier sees the right digit.
            "min_recognised": 0.7,
        },
        extra_imports=frozenset({"diffusers", "transformers"}),
    ),
)

DELIVERABLES: dict[str, Deliverable] = {deliverable.id: deliverable for deliverable in _ALL}


def get(name: str) -> Deliverable:
    """The deliverable called ``name``: its id, or the id's first part (``d1``).

    Raises:
        KeyError: with one sentence, if there is none.
    """
    for deliverable in _ALL:
        if name in (deliverable.id, deliverable.id.partition("_")[0]):
            return deliverable
    raise KeyError(f"There is no deliverable {name!r}; there are {', '.join(DELIVERABLES)}.")


def is_student_id(text: str) -> bool:
    """Whether ``text`` can be a student's id: letters, digits and ``. _ - @ +``."""
    return STUDENT_ID.fullmatch(text) is not None
