"""Trains the digit classifier of the kit: ``python scripts/train_digit_classifier.py``.

Writes the weights and a JSON file with the accuracy on MNIST's test images. Takes about four
minutes on two cores.
"""

import json

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.data import mnist_tensors
from helpers.models import DigitClassifier
from helpers.models.digit_classifier import WEIGHTS
from helpers.training import set_seed

N_EPOCHS, BATCH_SIZE = 8, 128
#: The largest shift of training images, in pixels.
SHIFT = 2


def main() -> None:
    """Train and test the model, and write its weights."""
    set_seed(0)
    images, labels = mnist_tensors(train=True)
    model = DigitClassifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    n_steps = N_EPOCHS * -(-len(images) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=n_steps)
    for epoch in range(N_EPOCHS):
        model.train()
        for chosen in torch.randperm(len(images)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(shifted(images[chosen])), labels[chosen])
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{N_EPOCHS}: loss {loss.item():.4f}, test {accuracy(model):.4f}")
    WEIGHTS.parent.mkdir(exist_ok=True)
    WEIGHTS.write_bytes(safetensors.torch.save(model.state_dict()))
    about = {"test_accuracy": accuracy(model), "epochs": N_EPOCHS, "seed": 0}
    WEIGHTS.with_suffix(".json").write_text(json.dumps(about, indent=2) + "\n")


def shifted(images: Tensor) -> Tensor:
    """Shift all images of a batch by the same few pixels."""
    down, right = torch.randint(2 * SHIFT + 1, (2,)).tolist()
    padded = functional.pad(images, [SHIFT] * 4)
    return padded[:, :, down : down + 28, right : right + 28]


@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """The fraction of MNIST's test images that the model recognises."""
    model.eval()
    images, labels = mnist_tensors(train=False)
    found = torch.cat([model(batch).argmax(dim=1) for batch in images.split(1000)])
    return float((found == labels).float().mean())


if __name__ == "__main__":
    main()
