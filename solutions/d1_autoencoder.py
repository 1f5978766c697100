# %% [markdown]
# # {{ title }}
#
# An autoencoder learns to describe an image in very few numbers, and to draw the image again from
# that description. Nobody tells it what the numbers should mean. In this notebook you build one
# for handwritten digits, squeeze each of them into **{{ latent_dim }} numbers**, and then look at
# the map of digits that the model has drawn for itself.
#
# You will write four things: the model, its settings, its loss and optimiser, and one epoch of
# training. After each there is a check, which answers within seconds. Run it as often as you like.
#
# **Goal:** a mean squared error below **{{ max_loss }}** on the training images, and below
# {{ max_test_loss }} on the test images, within {{ max_epochs }} epochs and {{ max_parameters }}
# parameters. Training takes well under two minutes on a laptop without a GPU.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.deliverables import get
from helpers.notebook import check, handin
from helpers.plotting import (
    draw_autoencoder,
    explore,
    latent_span,
    plot_latent_space,
    plot_latent_space_images,
    plot_losses,
    plot_reconstructions,
    plot_sweep,
    visualize_img_batch,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# An autoencoder is two functions, one after the other. The **encoder** $f$ turns an image $x$ into
# a short vector, the **code** $z = f(x)$. The **decoder** $g$ turns a code into an image,
# $\hat{x} = g(z)$.
#
# Both are neural networks, and they are trained together on one task: give back what came in. For
# $N$ images of $D$ pixels, the loss is the mean squared error
#
# $$L = \frac{1}{N D} \sum_{n=1}^{N} \left\lVert x_n - g(f(x_n)) \right\rVert^2 .$$
#
# No labels appear in it. The image is its own target.
#
# If the code could be as long as the image, the task would be trivial: copy. The **bottleneck**
# makes it interesting. A digit has $28 \times 28 = 784$ pixels, and the code has
# {{ latent_dim }} numbers, so the encoder must keep what tells digits apart and drop the rest.

# %% figure="diagram"
draw_autoencoder(MNIST(train=False, transform=transforms.ToTensor())[0][0])

# %% [markdown]
# You have met a relative of this before. If $f$ and $g$ are both *linear*, the best that they can
# do is to project each image onto the directions in which the data varies most: the subspace that
# principal component analysis finds (Baldi & Hornik, 1989). The nonlinear layers below let the
# model bend that flat subspace into a curved one.
#
# ## The data
#
# MNIST: 60,000 digits to train on and 10,000 to test with, grey values, 28 by 28 pixels. The images
# come with this kit, so nothing has to be downloaded.

# %% figure="digits"
digits = Loader(MNIST(train=True, transform=transforms.ToTensor()), batch_size=32, shuffle=True)
visualize_img_batch(next(iter(digits))[0], title="Some training digits")

# %% [markdown]
# ## Task 1: the model
#
# Build `self.encoder` and `self.decoder`, each an `nn.Sequential`. All that the model learns is in
# these two.
#
# - Use only `nn.Linear`, at least two on each side, with `nn.LeakyReLU` between: no other layers,
#   and so no dropout or normalisation either. Three linear layers of one width, `hidden_dim`, are a
#   good start.
# - `nn.Flatten()` makes a vector of each image, at the beginning of the encoder;
#   `nn.Unflatten(1, (1, 28, 28))` makes an image of each vector, at the end of the decoder.
# - **No activation after the encoder's last layer,** nor before the decoder's first: a code may lie
#   anywhere in the plane.
# - **A Sigmoid after the decoder's last layer,** and no other activation there: a pixel lies
#   between 0 and 1.
# - `forward` decodes the code of the images that it is given, which it leaves as they are, and
#   returns the decoded images alone.
#
# Why *leaky* ReLU? A ReLU gives zero, and a zero gradient, for every negative input. LeakyReLU
# lets a little through, so that no unit can fall asleep for good.


# %% solution="model_class"
class Autoencoder(nn.Module):
    """A fully connected autoencoder: (N, 1, 28, 28) -> (N, latent_dim) -> (N, 1, 28, 28).

    Args:
        latent_dim: numbers in a code.
        hidden_dim: width of the hidden layers.
        input_dim: pixels in an image, 784.
    """

    def __init__(self, latent_dim, hidden_dim, input_dim):
        super().__init__()
        # TODO: self.encoder, an nn.Sequential from (N, 1, 28, 28) to (N, latent_dim),
        #       and self.decoder, an nn.Sequential from (N, latent_dim) to (N, 1, 28, 28).
        ### BEGIN SOLUTION
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(input_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, latent_dim),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, input_dim),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )
        ### END SOLUTION

    def forward(self, x):
        """Reconstruct images: (N, 1, 28, 28) -> (N, 1, 28, 28)."""
        # TODO: encode x, decode the code, return the images.
        ### BEGIN SOLUTION
        return self.decoder(self.encoder(x))
        ### END SOLUTION


# %% check="architecture"
check("d1_autoencoder.architecture")

# %% [markdown]
# ## Task 2: the settings
#
# Choose the size of your model and how it is trained. For the hand-in, `latent_dim` is
# {{ latent_dim }}, `n_epochs` is at most {{ max_epochs }}, and the model has at most
# {{ max_parameters }} parameters. A hidden width of a few hundred is about right.
#
# A linear layer from $a$ to $b$ numbers has $ab + b$ parameters. Which layers will hold most of
# yours?
#
# `transform` turns each stored image into a float32 tensor of shape (1, 28, 28). It divides the
# pixels, which are stored as whole numbers from 0 to 255, by 255. It changes nothing else, and
# gives the same at each call.

# %% solution="choices"
# TODO: set hidden_dim, latent_dim, batch_size, n_epochs (whole numbers) and transform.
### BEGIN SOLUTION
hidden_dim = 400
latent_dim = 2
batch_size = 128
n_epochs = 15
transform = transforms.ToTensor()
### END SOLUTION

# %% given="model"
train_loader = Loader(MNIST(train=True, transform=transform), batch_size, shuffle=True)
test_loader = Loader(MNIST(train=False, transform=transform), batch_size)

set_seed(0)
model = Autoencoder(latent_dim=latent_dim, hidden_dim=hidden_dim, input_dim=28 * 28).to(device)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% check="settings"
check("d1_autoencoder.settings")

# %% [markdown]
# ## Task 3: the loss and the optimiser
#
# `criterion(x_hat, x)` is the mean squared error $L$ from above, averaged over all pixels and all
# images. `optimizer` is Adam (Kingma & Ba, 2015) or one of its variants, such as AdamW, and it
# updates all parameters of `model`. A learning rate of $10^{-3}$ serves well here.

# %% solution="loss_and_optimizer"
# TODO: criterion and optimizer.
### BEGIN SOLUTION
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=1e-3)
### END SOLUTION

# %% check="loss"
check("d1_autoencoder.loss")

# %% [markdown]
# ## Task 4: one epoch of training
#
# An epoch is one pass over all training images, batch by batch. Each batch is one step downhill:
#
# 1. set the gradients to zero, since PyTorch *adds* new gradients to old ones;
# 2. reconstruct the images and compute the loss;
# 3. compute the gradients (`backward`);
# 4. let the optimiser take its step.
#
# Each step is taken in training mode, into which `model.train()` puts the model. Your layers do the
# same in both modes, but others, such as dropout, do not.
#
# Return the mean loss **over all images** of the epoch, a plain number. Mind the last batch: it may
# be smaller than the others, so a plain average of the batches' losses would count its images too
# much. It is best to add up `loss.item()`: a sum of tensors would keep the computation of every
# batch in memory.


# %% solution="train_epoch"
def train_epoch(model, loader, criterion, optimizer, device):
    """Train for one epoch.

    Args:
        model: the autoencoder.
        loader: gives images (N, 1, 28, 28) and labels (N,); the labels are not needed.
        criterion: the loss of (reconstructions, images).
        optimizer: updates the model's parameters.
        device: where the model is; move the images there.

    Returns:
        The mean loss over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for images, _ in loader:
        images = images.to(device)
        # TODO: one step of training; add to total and n_images.
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        loss = criterion(model(images), images)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% check="training"
check("d1_autoencoder.training")

# %% [markdown] common="training"

# %% train="autoencoder"
history = train_or_restore(
    "autoencoder",
    model,
    lambda batches: train_epoch(model, batches, criterion, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d1_autoencoder.result")

# %% [markdown]
# ## Results
#
# First the loss. It falls steeply, then ever more slowly; if yours jumps, try a smaller learning
# rate.

# %% figure="losses"
plot_losses(
    history,
    threshold=get("d1_autoencoder").max_loss,
    title="Training loss",
    ylabel="mean squared error",
)

# %% [markdown]
# Digits from the *test* set, which the model has never seen, above what it makes of them. Two
# numbers hold a digit's kind and something of its slant, but not every hook and loop.

# %% figure="reconstructions"
model.eval()
test_digits = Loader(MNIST(train=False, transform=transform), batch_size=10)
test_images, _ = next(iter(test_digits))
with torch.no_grad():
    reconstructions = model(test_images.to(device)).cpu()
plot_reconstructions(test_images, reconstructions)

# %% [markdown]
# Now the map. Each dot is the code of one test digit, coloured by its label, which the model never
# saw. Digits that look alike are neighbours. Which ones overlap?

# %% figure="latent_space"
plot_latent_space(model.encoder, test_loader, device)

# %% [markdown]
# And the same plane the other way round: each picture is the decoder's answer to the code at its
# place. Some of these codes lie where no digit was ever encoded.

# %% figure="latent_images"
span_x, span_y = latent_span(model.encoder, test_loader, device)
plot_latent_space_images(model.decoder, device, span=span_x, span_y=span_y)

# %% [markdown]
# Walk over the map yourself.


# %% figure="explorer"
def decode(across, up):
    with torch.no_grad():
        return model.decoder(torch.tensor([[across, up]], device=device)).cpu()


explore(decode, across=span_x, up=span_y)

# %% [markdown]
# The model's layers and parameters, for your report:

# %% figure="summary"
print(summary(model, (1, 28, 28)))

# %% [markdown]
# ## Longer codes
#
# How much does a larger code help? This cell trains a fresh model for three epochs at each of five
# code sizes (about a minute on a laptop) and shows the error that each reaches. The models are kept
# in `checkpoints`, too, and restored when you run the cell again.


# %% figure="sweep"
def error_with(size):
    set_seed(0)
    other = Autoencoder(latent_dim=size, hidden_dim=hidden_dim, input_dim=28 * 28).to(device)
    adam = optim.Adam(other.parameters(), lr=1e-3)
    trained = train_or_restore(
        f"code_of_{size}",
        other,
        lambda batches: train_epoch(other, batches, criterion, adam, device),
        train_loader,
        3,
    )
    return trained.losses[-1]


sizes = [2, 4, 8, 16, 32]
errors = [error_with(size) for size in sizes]
plot_sweep(sizes, errors, xlabel="numbers in a code", ylabel="training MSE after 3 epochs")

# %% [markdown] written="bottleneck" points=4
# **Question 1 (4 points).** Describe how the error changes as the code grows from 2 to 32 numbers.
# Why does it fall, and why does each doubling help less than the one before? What would you expect
# for a code of 784 numbers, and why would such a model be of little use?
#
# ### BEGIN SOLUTION
# The error falls with every doubling, steeply at first and then less. A longer code lets the
# decoder reproduce more of what varies between digits. The first few numbers take up the largest
# sources of variation (which digit, slant, stroke width), later ones only finer detail, of which
# less is left: like the variance explained by successive principal components. With 784 numbers the
# model could learn to copy its input; the error would approach zero, but the code would be no
# shorter than the image, and nothing would force it to capture structure.
#
# **Marking:** 1 for describing the fall and its flattening with figures from the plot; 1 for why it
# falls (more information gets through); 1 for why gains shrink (large sources of variation first);
# 1 for copying, and why that is of little use. An answer that claims a minimum at some size,
# against the plot, loses the first point.
# ### END SOLUTION

# %% [markdown] written="linear" points=3
# **Question 2 (3 points).** Suppose that you take all LeakyReLU layers out of encoder and decoder,
# and the Sigmoid too. Show that the model is then equivalent to one with a single linear layer on
# each side. What is the relation of this model to principal component analysis?
#
# ### BEGIN SOLUTION
# A composition of affine maps is affine: $W_2(W_1 x + b_1) + b_2 = (W_2 W_1) x + (W_2 b_1 + b_2)$.
# By induction the encoder is $z = A x + a$ and the decoder $\hat{x} = B z + b$, with $A$ of at most
# {{ latent_dim }} rows. Minimising the squared error over all such maps gives a projection onto an
# affine subspace of that dimension; the best one passes through the mean and is spanned by the
# leading principal components. The code is determined up to an invertible linear map: its axes need
# not be the principal components themselves.
#
# **Marking:** 1 for the composition of affine maps, written out; 1 for the projection onto the
# principal subspace; 1 for saying that the subspace is found and not the individual components (or
# that the mean must be subtracted).
# ### END SOLUTION

# %% [markdown] written="sampling" points=3
# **Question 3 (3 points).** You want new digits, and decode codes drawn at random from the plane.
# Use your two pictures of the latent plane to explain why many of the results are poor. What is
# missing in the loss that would make random codes decode well?
#
# ### BEGIN SOLUTION
# The codes fill the plane unevenly: there are gaps between the clusters, long empty arms, and no
# fixed scale or centre. Nothing in training ever asked the decoder what to draw for a code that no
# image was encoded to, so codes from gaps give mixtures of neighbouring digits or smears. Which
# codes to draw is not known either, since their distribution is not prescribed. The loss only
# rewards reconstruction: a term is missing that shapes the distribution of codes, for instance
# towards a standard normal without holes, as the KL term of the variational autoencoder does.
#
# **Marking:** 1 for gaps or unknown distribution, with reference to the pictures; 1 for the decoder
# being untrained there; 1 for the missing term on the distribution of codes.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Walk along a straight line between the codes of a 1 and a 7, and decode the steps. Compare with
#   the mixture of the two images, pixel by pixel.
# - Train without the bottleneck but with noise on the input. That is the next deliverable.
# - Fit a classifier on the codes alone. How much of a digit's label do {{ latent_dim }} numbers
#   hold?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d1_autoencoder", student="your-id")
