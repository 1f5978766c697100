# %% [markdown]
# # {{ title }}
#
# Your variational autoencoder can make new digits, but it chooses which. Ask it for a seven, and it
# has no way to listen. In this notebook you tell it the label while it learns, and it learns to
# obey: the label says *which* digit, and the code is left with *how* it is written.
#
# You will write the one-hot encoding of the labels, extend your model by a condition, adapt the
# training, and draw digits on demand.
#
# **Goal:** a training loss below **{{ max_loss }} nats per image**, and a test loss below
# {{ max_test_loss }}, within {{ max_epochs }} epochs and {{ max_parameters }} parameters; and
# digits on demand, in varied handwriting, of which a classifier recognises a share of at least
# **{{ min_recognised }}**.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.deliverables import get
from helpers.models import recognise
from helpers.notebook import check, handin
from helpers.plotting import draw_vae, explore, plot_image_rows, plot_losses
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# Change the story that you told in the last deliverable by one word. First a code is drawn,
# $z \sim \mathcal{N}(0, I)$; then an image is drawn given the code *and a condition* $c$,
# $x \sim p_\theta(x \mid z, c)$. The encoder may look at the condition too:
#
# $$q_\phi(z \mid x, c) =
# \mathcal{N}\!\left(\mu(x, c), \operatorname{diag} \sigma^2(x, c)\right) .$$
#
# The loss is the same sum of cross-entropy and KL divergence (Sohn, Lee & Yan, 2015). Here the
# condition is the digit's label.

# %% figure="diagram"
draw_vae(MNIST(train=False, transform=transforms.ToTensor())[0][0], condition="label $c$")

# %% [markdown]
# Why should the model use the label at all, if the code can hold everything? Because the code
# costs. Every nat that it carries about the image is paid for in the KL divergence. The label is
# free. So the model takes from the label what the label knows, and spends its code on slant, stroke
# and size.
#
# ## Task 1: labels as vectors
#
# A label is a number from 0 to 9, but 7 is not "more" than 3, and no digit lies between two others.
# So give each label an axis of its own: the **one-hot** vector of $k$ is 1 at position $k$ and 0
# elsewhere. Leave the labels that you are given as they are.


# %% solution="one_hot_labels"
def one_hot(labels, num_classes):
    """Labels as one-hot vectors.

    Args:
        labels: (N,), int64, from 0 to num_classes - 1.
        num_classes: how many labels there are, C.

    Returns:
        (N, C), float32, on the device of the labels.
    """
    # TODO: the vectors.
    ### BEGIN SOLUTION
    return nn.functional.one_hot(labels, num_classes).float()
    ### END SOLUTION


# %% check="one_hot"
check("d4_cvae.one_hot")

# %% [markdown]
# ## Task 2: the model
#
# Start from your `myVAE` and let it take a condition of `conditional_vec_dim` numbers:
#
# - the encoder reads the flattened image **followed by** the condition, $(N, 784 + C)$;
# - the decoder reads the code **followed by** the condition, $(N, Z + C)$.
#
# Keep this order everywhere, and leave images and conditions as they are. Every layer must have a
# part in the image, and as before `forward` sets no seed. With `conditional_vec_dim=0` and no
# condition the class must do exactly what it did before. And mind the difference between *no*
# condition and a condition that happens to be all zeros: the second is a condition like any other.


# %% solution="model_class" common="cvae"

# %% check="architecture"
check("d4_cvae.architecture")

# %% [markdown]
# ## Task 3: the loss
#
# Nothing new: bring yours from the last deliverable.


# %% solution="loss_function" common="vae_loss"

# %% check="loss"
check("d4_cvae.loss")

# %% [markdown]
# ## Task 4: the settings, and one epoch of training
#
# `latent_dim` is between {{ min_latent_dim }} and {{ max_latent_dim }}, `n_epochs` at most
# {{ max_epochs }}.

# %% solution="choices" common="vae_choices"

# %% given="model"
n_classes = 10
train_loader = Loader(MNIST(train=True, transform=transforms.ToTensor()), batch_size, shuffle=True)
test_loader = Loader(MNIST(train=False, transform=transforms.ToTensor()), batch_size)

set_seed(0)
model = myVAE(28 * 28, hidden_dim, latent_dim, conditional_vec_dim=n_classes).to(device)
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% check="settings"
check("d4_cvae.settings")

# %% [markdown]
# Now the labels are needed: make them one-hot vectors, and give them to the model along with the
# images. The loss and the optimizer are those that `train_epoch` is given.


# %% solution="train_epoch"
def train_epoch(model, loader, loss_function, optimizer, device):
    """Train for one epoch.

    Args:
        model: returns x_hat, mu and logvar for images and conditions.
        loader: gives images (N, 1, 28, 28) and labels (N,).
        loss_function: the loss of (x_hat, x, mu, logvar).
        optimizer: updates the model's parameters.
        device: where the model is; move images and labels there.

    Returns:
        The mean loss over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        # TODO: one step of training, with the labels as condition; add to total and n_images.
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        x_hat, mu, logvar = model(images, one_hot(labels, 10))
        loss = loss_function(x_hat, images, mu, logvar)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% check="training"
check("d4_cvae.training")

# %% [markdown]
# ## Task 5: digits on demand
#
# To make a digit you need no image and no encoder: draw $z \sim \mathcal{N}(0, I)$, one code for
# each image, put the wanted label's vector after it, decode. Set no seed in there, leave the labels
# as they are, and do not put the model into training mode.


# %% solution="sample"
def sample_digits(model, labels, latent_dim):
    """New images of the digits that are asked for.

    Args:
        model: a conditional VAE.
        labels: (N,), int64: which digits; on the model's device.
        latent_dim: numbers in a code, Z.

    Returns:
        Images (N, 1, 28, 28), a new draw at each call.
    """
    # TODO: draw codes, decode them with the labels as condition.
    ### BEGIN SOLUTION
    z = torch.randn(len(labels), latent_dim, device=labels.device)
    return model.decoder(torch.cat([z, one_hot(labels, 10)], dim=1))
    ### END SOLUTION


# %% check="sampling"
check("d4_cvae.sampling")

# %% [markdown] common="training"

# %% train="cvae"
history = train_or_restore(
    "cvae",
    model,
    lambda batches: train_epoch(model, batches, loss_function, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d4_cvae.result")

# %% [markdown]
# ## Results

# %% figure="losses"
plot_losses(
    history,
    threshold=get("d4_cvae").max_loss,
    title="Training loss",
    ylabel="cross-entropy + KL, nats per image",
)


# %% [markdown]
# One draw for each digit:


# %% figure="one_of_each"
@torch.no_grad()
def draw(labels):
    model.eval()
    return sample_digits(model, torch.as_tensor(labels, device=device), latent_dim).cpu()


set_seed(1)
plot_image_rows({"asked for 0 to 9": draw(range(10))})

# %% [markdown]
# Ten draws for each. Along a row the digit stays and the handwriting changes.

# %% figure="ten_of_each"
rows = {f"asked for {digit}": draw([digit] * 10) for digit in range(10)}
plot_image_rows(rows)

# %% [markdown]
# Is this control, or do we see what we want to see? A classifier that was trained on real digits
# (99.5% right on the test images) reads 500 draws of each:

# %% figure="recognised"
for digit in range(10):
    right = (recognise(draw([digit] * 500)) == digit).float().mean().item()
    print(f"asked for {digit}: {right:6.1%} read as {digit}  {'#' * round(40 * right)}")

# %% [markdown]
# The same code with each label: one handwriting, ten digits. The code knows nothing of the label,
# so what it holds must be the style.

# %% figure="same_style"
set_seed(3)
styles = torch.randn(8, latent_dim, device=device)
with torch.no_grad():
    rows = {
        f"style {number + 1}": model.decoder(
            torch.cat([style.expand(10, -1), torch.eye(10, device=device)], dim=1)
        ).cpu()
        for number, style in enumerate(styles)
    }
plot_image_rows(rows)


# %% [markdown]
# Choose a digit, and move its handwriting along two of the code's dimensions.


# %% figure="explorer"
@torch.no_grad()
def write(digit, first, second):
    z = styles[:1].clone()
    z[0, 0], z[0, 1] = first, second
    label = torch.eye(10, device=device)[digit : digit + 1]
    return model.decoder(torch.cat([z, label], dim=1)).cpu()


explore(write, first=(-3.0, 3.0), second=(-3.0, 3.0), digit=(0, 9))

# %% [markdown]
# The layers and parameters, for your report (of the decoder, which reads a code and a label):

# %% figure="summary"
print(summary(model.decoder, (latent_dim + n_classes,)))

# %% [markdown] written="free_label" points=5
# **Question 1 (5 points).** Compare the loss with that of your unconditional model. By how many
# nats can the label lower it at most, and why? (Think of what it costs to say which of ten digits
# an image shows.)
#
# ### BEGIN SOLUTION
# The bound on $-\log p(x)$ becomes one on $-\log p(x \mid c)$. Since
# $\log p(x \mid c) = \log p(x) + \log p(c \mid x) - \log p(c)$, for images whose label is all but
# certain the gain is $-\log p(c) = \log 10 \approx 2.3$ nats on average for equally frequent
# classes: what it costs to say which of ten digits it is. The unconditional code must pay those
# nats through its KL divergence, and the label is free. Measured differences can be somewhat
# larger, since what is compared are bounds: without a condition the ten classes must share one
# normal distribution, and a posterior of that form fits worse.
#
# **Marking:** 1 for comparing two measured figures; 2 for $\log 10 \approx 2.3$ nats with a reason;
# 1 for saying that the saving is in the KL divergence; 1 for noting that bounds are compared, or
# that the networks are not perfect.
# ### END SOLUTION

# %% [markdown] written="ignored" points=5
# **Question 2 (5 points).** Suppose that you give the label to the encoder only. Does the training
# loss tell you that something is wrong? What would ten draws for each digit look like, and why? And
# if you give it to the decoder only?
#
# ### BEGIN SOLUTION
# Encoder only: the loss still falls, to about that of the unconditional model, and nothing in it
# looks alarming. But the decoder never sees the label, so draws are those of an unconditional
# model: the label that is asked for has no effect, and a classifier agrees in about 10% of cases.
# Decoder only: the decoder learns $p(x \mid z, c)$, and draws obey in part. The encoder sees the
# digit in the image, but it does not know what the decoder is told: it goes on to code what also
# tells the label, and a code drawn from the prior then often contradicts the label that is asked
# for. Measured once with this model: a classifier agrees in 10% of the draws with the label in the
# encoder only (loss 104.0), in 55% with it in the decoder only (100.3), and in 88% with it in both
# (98.5).
#
# **Marking:** 1 for the unremarkable loss; 2 for draws without control, with the reason; 2 for the
# decoder-only case: some control, since the decoder is told the label, and 1 of these for saying
# why it is weaker or that the code still holds the label.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Give a condition that is half a 3 and half an 8. What does the model draw?
# - Transfer a style: encode a test digit, and decode its code with another label.
# - Train a classifier on digits that your model has drawn. How well does it read real ones?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d4_cvae", student="your-id")
