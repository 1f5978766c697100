"""``make demo``: grades a class of six from start to end, then one hand-in per deliverable."""

import shutil
import time
from pathlib import Path

from rich.console import Console

from autograder.classroom import grade_class
from autograder.judging import judge, load_master
from autograder.release import released_notebook
from autograder.rubric import hand_in, reported_loss, save_notebook, solved
from autograder.terminal import follow, show_class
from helpers.deliverables import DELIVERABLES

#: Correct, but unlike the reference: narrowing layers, a view instead of Unflatten, AdamW.
_OTHER_SHAPE = {
    "model_class": """
class Reshape(nn.Module):
    def forward(self, x):
        return x.view(-1, 1, 28, 28)


class Autoencoder(nn.Module):
    def __init__(self, latent_dim, hidden_dim, input_dim):
        super().__init__()
        widths = [input_dim, 2 * hidden_dim, hidden_dim, hidden_dim // 2]
        down = [nn.Flatten()]
        for a, b in zip(widths, widths[1:]):
            down += [nn.Linear(a, b), nn.LeakyReLU(0.1)]
        up = [nn.Linear(latent_dim, widths[-1])]
        for a, b in zip(widths[:0:-1], widths[-2::-1]):
            up += [nn.LeakyReLU(0.1), nn.Linear(a, b)]
        self.encoder = nn.Sequential(*down, nn.Linear(widths[-1], latent_dim))
        self.decoder = nn.Sequential(*up, nn.Sigmoid(), Reshape())

    def forward(self, x):
        return self.decoder(self.encoder(x))
""",
    "choices": """
from torchvision.transforms import v2

latent_dim, hidden_dim, batch_size, n_epochs = 2, 256, 64, 8
transform = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
""",
    "loss_and_optimizer": """
criterion = nn.functional.mse_loss
optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
""",
}

#: Three common mistakes: no Sigmoid, gradients never cleared, a plain mean over the batches.
_BUGGY = {
    "model_class": """
class Autoencoder(nn.Module):
    def __init__(self, latent_dim, hidden_dim, input_dim):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Flatten(), nn.Linear(input_dim, hidden_dim), nn.LeakyReLU(),
            nn.Linear(hidden_dim, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim), nn.LeakyReLU(),
            nn.Linear(hidden_dim, input_dim), nn.Unflatten(1, (1, 28, 28)),
        )

    def forward(self, x):
        return self.decoder(self.encoder(x))
""",
    "choices": """
latent_dim, hidden_dim, batch_size, n_epochs = 2, 200, 128, 3
transform = transforms.ToTensor()
""",
    "train_epoch": """
def train_epoch(model, loader, criterion, optimizer, device):
    model.train()
    total = 0.0
    for images, _ in loader:
        images = images.to(device)
        loss = criterion(model(images), images)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader)
""",
}

#: Ends its process before the model is built, hoping that a missing answer counts as a right one.
_HOSTILE = {
    "choices": """
import os

os._exit(0)
""",
}


def run_demo(folder: Path, console: Console) -> None:
    """Create the hand-ins of a class in ``folder``, with training, and grade them."""
    master = load_master("d1_autoencoder")
    shutil.rmtree(folder, ignore_errors=True)
    handins = folder / "handins"
    handins.mkdir(parents=True)
    facts = master.deliverable

    console.print(f"\n[bold]1. Students at work[/]: {facts.title}, on MNIST", highlight=False)
    for student, changes, what in (
        ("reference", {}, "the model solution"),
        ("other_shape", _OTHER_SHAPE, "correct, with layers of other shapes"),
        ("buggy", _BUGGY, "three common mistakes"),
    ):
        console.print(f"   {student}: {what}; training...")
        begin = time.monotonic()
        work = hand_in(master, student, changes, folder / "work" / student, handins)
        loss, seconds = reported_loss(work, facts.checkpoints[0]), time.monotonic() - begin
        console.print(f"   {'':{len(student)}}  loss {loss:.4f} after {seconds:.0f} s in all")
    save_notebook(released_notebook(master), handins, f"{facts.id}-untouched")
    # Handed in with the reference's checkpoint.
    hostile = handins / f"{facts.id}-hostile"
    whole = save_notebook(solved(master, _HOSTILE), hostile, facts.id).read_bytes()
    shutil.copytree(folder / "work" / "reference" / "checkpoints", hostile / "checkpoints")
    (handins / f"{facts.id}-corrupt.ipynb").write_bytes(whole[: len(whole) // 2])
    console.print("   untouched, hostile, corrupt: handed in without training")

    console.print("\n[bold]2. Grading[/]: every notebook runs in the sandbox", highlight=False)
    steps = grade_class(facts, folder / "course", handins)
    show_class(console, follow(console, f"Judging {facts.id}", steps).summary())

    console.print("\n[bold]3. The other deliverables[/]: their model solutions, untrained")
    others = [name for name in DELIVERABLES if name != facts.id]
    for name in others:
        other = load_master(name)
        path = save_notebook(solved(other), folder / "work" / name, name)
        result = judge(path, name, "untrained")
        passed = sum(check.status == "passed" for check in result.checks)
        rest = "; the others need a trained model" if passed < len(result.checks) else ""
        console.print(
            f"   {other.deliverable.title}: {result.status.value}, {result.score or 0:g} of "
            f"{result.max_score:g} points, {passed} of {len(result.checks)} checks passed{rest} "
            f"({result.seconds:.0f} s)",
            highlight=False,
        )
    console.print("\nOpen the class page in a browser. `make lab` opens the notebooks.")
