"""The facts of the course, each in one place: prose, checks, grader and docs read them here."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Where a notebook on Colab or Kaggle fetches the kit from: a zip made by ``autograder release``.
#: Set it for your course here, or for one release with ``autograder release --kit-url``.
KIT_URL = "https://latent-lab.example/latent-lab-kit.zip"

#: Largest hand-in, in bytes, as a zip and unpacked.
MAX_HANDIN_BYTES = 100 * 2**20

#: Imports that every deliverable allows, besides the standard library. Others are reported.
ALLOWED_IMPORTS = frozenset(
    {"numpy", "torch", "torchvision", "scipy", "PIL", "matplotlib", "torchsummary", "tqdm"}
    | {"helpers", "IPython", "ipywidgets"}
)


@dataclass(frozen=True)
class Deliverable:
    """One piece of homework."""

    id: str
    title: str
    #: Trainable parameters, at most.
    max_parameters: int
    #: The training loss must end below this. Its unit is the deliverable's own loss.
    max_loss: float
    #: Passes over the training set, at most.
    max_epochs: int
    #: Size of the latent vector that is handed in.
    latent_dim: int
    #: Names of the trained models that are handed in, as ``checkpoints/<name>.safetensors``.
    checkpoints: tuple[str, ...]
    #: Imports allowed here beyond :data:`ALLOWED_IMPORTS`.
    extra_imports: frozenset[str] = field(default_factory=frozenset)


_ALL = (
    Deliverable(
        id="d1_autoencoder",
        title="A fully connected autoencoder",
        max_parameters=1_500_000,
        max_loss=0.04,
        max_epochs=15,
        latent_dim=2,
        checkpoints=("autoencoder",),
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
