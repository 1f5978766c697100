# %% [markdown]
# # {{ title }}
#
# So far images were small. In this notebook they have {{ image_size }} by {{ image_size }} pixels
# in colour, 67,500 numbers each, and the model is to do something with them that people ask for:
# take one picture and make **variations** of it, as close to the original or as far from it as you
# like.
#
# You will write all of it: how pictures are prepared, a deep convolutional VAE, its loss, training
# with validation, keeping the best model, and the variations with their picture file. At the end
# your notebook becomes a program that runs from the command line.
#
# **Goal:** a loss below **{{ max_loss }}** on new faces, with at most {{ max_parameters }}
# parameters. {{ max_epochs }} epochs are enough for that.

# %% common="setup"

# %% given="imports"
import copy

import torch
from PIL import Image
from torch import nn, optim
from torch.utils.data import DataLoader
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import Faces, Loader
from helpers.deliverables import FACE_SIZES, get
from helpers.notebook import check, handin
from helpers.plotting import (
    draw_variations,
    explore,
    plot_image_rows,
    plot_losses,
    visualize_img_batch,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# A VAE answers an image not with one code but with a distribution of codes, $\mathcal{N}(\mu,
# \operatorname{diag} \sigma^2)$: those from which this image might have come. Draw from it, decode,
# and you get the image again, a little different each time. How different is up to you:
#
# $$z = \mu + \sqrt{s}\; \sigma \odot \varepsilon, \qquad \varepsilon \sim \mathcal{N}(0, I) .$$
#
# The number $s$ scales the *variance*: for $s = 0$ each draw is $\mu$ itself, for $s = 1$ it is
# what the model was trained on, and beyond that the draws leave the neighbourhood of the image.

# %% figure="diagram"
draw_variations(transforms.CenterCrop(150)(transforms.ToTensor()(Faces("valid")[15][0])))

# %% [markdown]
# ## Task 1: preparing pictures
#
# Pictures come in all shapes; the network wants squares of one size. Write a transform that
#
# 1. resizes a picture so that its *shorter* side has `image_size` pixels and its proportions stay,
# 2. cuts a square out of the middle,
# 3. makes a tensor $(3, h, w)$ of it, with values from 0 to 1.
#
# Nothing in it is random: a picture gives the same tensor each time.


# %% solution="preprocessing"
def preprocessing(image_size):
    """The transform from a PIL image to a tensor (3, image_size, image_size) in [0, 1]."""
    # TODO: return the transform: transforms.Compose joins the three steps.
    ### BEGIN SOLUTION
    return transforms.Compose(
        [
            transforms.Resize(image_size),
            transforms.CenterCrop(image_size),
            transforms.ToTensor(),
        ]
    )
    ### END SOLUTION


# %% check="preparation"
check("d9_image_variations.preparation")

# %% [markdown]
# Choose the pictures. `"small"` uses faces that the kit draws itself, and trains within minutes on
# a CPU: **hand in this one.** `"full"` fetches the photographs of CelebA, and is for a GPU and for
# your own pleasure.

# %% solution="choices"
# TODO: set size to "small" or "full".
### BEGIN SOLUTION
size = "small"
### END SOLUTION

# %% given="data"
settings = FACE_SIZES[size]
prepare = preprocessing(settings.image_size)
train_set = Faces("train", size, transform=prepare)
valid_set = Faces("valid", size, transform=prepare)
# All of CelebA does not fit into memory: it is read from disk, batch by batch.
BatchLoader = Loader if size == "small" else DataLoader
train_loader = BatchLoader(train_set, batch_size=settings.batch_size, shuffle=True)
valid_loader = BatchLoader(valid_set, batch_size=settings.batch_size)
print(f"{train_set}, {valid_set}")

# %% figure="faces"
faces = torch.stack([valid_set[number][0] for number in range(40)])
visualize_img_batch(faces, n=32, title="Some validation images")

# %% [markdown]
# ## Task 2: the model
#
# **The encoder** is a stack of blocks, one for each entry of `hidden_dims`, which is the number of
# its channels: a convolution with kernel 3, stride 2 and padding 1, then `BatchNorm2d`, then
# `LeakyReLU`, in this order. From a side of $n$ pixels such a convolution makes
#
# $$\left\lfloor \frac{n + 2 \cdot 1 - 3}{2} \right\rfloor + 1 = \left\lceil \frac{n}{2}
# \right\rceil, \qquad \text{so}\quad 150 \to 75 \to 38 \to 19 \to 10 \to 5 .$$
#
# After the last block everything is flattened, and that is all. `mu_layer` and `logvar_layer`, one
# linear layer each and nothing more, read the code's distribution off it.
#
# **The decoder** goes back: a linear layer, `nn.Unflatten`, then a transposed convolution with
# stride 2 for each step, with the encoder's channels in reverse, and with `BatchNorm2d` and
# `LeakyReLU` (in this order) after all but the last. The last has three channels, and only a
# Sigmoid after it.
#
# How you write this down is up to you, and dropout is allowed anywhere. Every parameter of the
# model must have a part in the image that comes out.
#
# **The catch.** Both 75 and 76 become 38, so a transposed convolution cannot know which of them it
# came from. With kernel 3, stride 2 and padding 1 it makes
#
# $$m \to 2m - 1 + p$$
#
# out of a side of $m$, where $p$, the `output_padding`, is 0 or 1 and yours to choose. With $p = 1$
# everywhere, 5 becomes 160. Note down the encoder's sizes on the way in, and choose $p$ on the way
# back so that *every* image size comes out as it went in, for `hidden_dims` of every length.
#
# One more rule, here and in all tasks below: a function leaves the tensors that it is given as they
# are. `x = x + 1` makes a new tensor, but `x += 1` changes the one of whoever called.


# %% solution="model_class"
class VAE(nn.Module):
    """A convolutional variational autoencoder for square colour images.

    Args:
        image_size: pixels on a side.
        latent_dim: numbers in a code, Z.
        hidden_dims: channels of the encoder's blocks, a tuple or a list; the decoder has them in
            reverse.
    """

    def __init__(self, image_size=150, latent_dim=128, hidden_dims=(32, 64, 128, 256, 512)):
        super().__init__()
        # TODO: self.encoder: (N, 3, image_size, image_size) -> (N, F), flattened
        #       self.mu_layer and self.logvar_layer, nn.Linear: (N, F) -> (N, Z)
        #       self.decoder: (N, Z) -> (N, 3, image_size, image_size)
        ### BEGIN SOLUTION
        sizes = [image_size]
        for _ in hidden_dims:
            sizes.append((sizes[-1] + 1) // 2)

        blocks, channels = [], 3
        for width in hidden_dims:
            blocks += [
                nn.Conv2d(channels, width, kernel_size=3, stride=2, padding=1),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(),
            ]
            channels = width
        self.encoder = nn.Sequential(*blocks, nn.Flatten())

        n_features = channels * sizes[-1] ** 2
        self.mu_layer = nn.Linear(n_features, latent_dim)
        self.logvar_layer = nn.Linear(n_features, latent_dim)

        blocks = [
            nn.Linear(latent_dim, n_features),
            nn.Unflatten(1, (channels, sizes[-1], sizes[-1])),
        ]
        for width, target in zip((*hidden_dims[-2::-1], 3), sizes[-2::-1], strict=True):
            padding = 1 if target % 2 == 0 else 0
            blocks += [
                nn.ConvTranspose2d(channels, width, 3, stride=2, padding=1, output_padding=padding),
                nn.BatchNorm2d(width),
                nn.LeakyReLU(),
            ]
            channels = width
        self.decoder = nn.Sequential(*blocks[:-2], nn.Sigmoid())
        ### END SOLUTION

    @staticmethod
    def reparameterize(mu, logvar):
        """Codes z (N, Z) drawn from N(mu, exp(logvar)), both (N, Z), as a function of both."""
        # TODO: draw eps, return z.
        ### BEGIN SOLUTION
        return mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        ### END SOLUTION

    def forward(self, x):
        """Images (N, 3, h, w) -> x_hat (N, 3, h, w), mu (N, Z), logvar (N, Z)."""
        # TODO: the encoder's output, mu and logvar, the code, the image.
        ### BEGIN SOLUTION
        hidden = self.encoder(x)
        mu, logvar = self.mu_layer(hidden), self.logvar_layer(hidden)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar
        ### END SOLUTION


# %% check="architecture"
check("d9_image_variations.architecture")

# %% check="forward"
check("d9_image_variations.forward")

# %% [markdown]
# ## Task 3: the loss
#
# Colours are no coin tosses. Take each number $x_i$ of an image as drawn from a normal distribution
# around $\hat{x}_i$ with variance $\frac{1}{2}$: its negative log-likelihood is $(x_i -
# \hat{x}_i)^2$ and a constant, which we leave out. So
#
# $$L = \underbrace{\sum_i (x_i - \hat{x}_i)^2}_{\text{reconstruction}} \;
# \underbrace{- \, \frac{1}{2} \sum_{j=1}^{Z} \left( 1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2
# \right)}_{\text{KL divergence}} ,$$
#
# *summed* over all 67,500 numbers of an image and all $Z$ of its code, and then the *mean* over the
# images of the batch.


# %% solution="loss_function"
def loss_function(x_hat, x, mu, logvar):
    """Squared error plus KL divergence.

    Args:
        x_hat: images that came out (N, 3, h, w).
        x: the images themselves (N, 3, h, w).
        mu, logvar: means and log variances of their codes (N, Z).

    Returns:
        The mean over the N images, a tensor with one number.
    """
    # TODO: both terms, their sum, the mean over the images.
    ### BEGIN SOLUTION
    reconstruction = ((x_hat - x) ** 2).sum()
    kl = -0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())
    return (reconstruction + kl) / len(x)
    ### END SOLUTION


# %% check="loss"
check("d9_image_variations.loss")

# %% [markdown]
# ## Task 4: training and validation
#
# `train_epoch` is as before. `evaluate` computes the same mean loss on images that are *not*
# trained on. Two things differ: it computes no gradients and takes no steps, and the whole model
# must be in evaluation mode. In training mode a BatchNorm layer works with the mean and variance of
# the batch at hand, and updates its running ones; in evaluation mode it uses the running ones and
# leaves them alone. What does not differ is the loss: codes are drawn in a validation, too, as
# `model(images)` does. Both functions return a number that keeps nothing of the batches in memory:
# add up `loss.item()`, and not `loss`.


# %% solution="train_epoch" common="vae_train_epoch"

# %% check="training"
check("d9_image_variations.training")


# %% solution="evaluate"
@torch.no_grad()
def evaluate(model, loader, loss_function, device):
    """The mean loss over all images of the loader, a number; no weight or buffer is changed.

    Args:
        model, loader, loss_function, device: as in train_epoch.
    """
    # TODO: evaluation mode, then the mean loss over all images.
    ### BEGIN SOLUTION
    model.eval()
    total, n_images = 0.0, 0
    for images, _ in loader:
        images = images.to(device)
        x_hat, mu, logvar = model(images)
        total += loss_function(x_hat, images, mu, logvar).item() * len(images)
        n_images += len(images)
    return total / n_images
    ### END SOLUTION


# %% check="validation"
check("d9_image_variations.validation")

# %% [markdown]
# ## Task 5: keeping the best
#
# The validation loss does not fall with every epoch, and one day it rises for good. The model worth
# keeping is that of the *best* epoch, not of the last. `KeepBest` holds a second model. After each
# epoch the trained one is offered to it, along with its validation loss; if that is lower than any
# before, the second model takes over its weights.
#
# Take care: `state_dict()` gives the tensors themselves, which the next step of training changes.
# `load_state_dict` copies out of them. And the running means of BatchNorm are part of the state,
# though they are no parameters.


# %% solution="keep_best"
class KeepBest:
    """Keeps the weights of the best epoch.

    Args:
        best_model: gets the weights; built like the model that is trained.
    """

    def __init__(self, best_model):
        self.best_model = best_model
        self.best_loss = float("inf")

    def offer(self, model, loss):
        """If ``loss`` is the lowest so far, copy the state of ``model`` into ``best_model``."""
        # TODO: compare; perhaps copy, and note down the loss.
        ### BEGIN SOLUTION
        if loss < self.best_loss:
            self.best_loss = loss
            self.best_model.load_state_dict(model.state_dict())
        ### END SOLUTION


# %% check="best"
check("d9_image_variations.best")

# %% [markdown]
# ## Train
#
# `learner` is trained; `model` holds the best so far, and is what the training line writes into the
# folder `checkpoints` after each epoch and what you hand in. The losses that it reports are those
# of the validation. Run again, the line restores the result and does not train. To train anew after
# a change, delete the folder, and run the next cell, which builds a new model, before the line.
#
# The checks of the result draw new faces and look at their variations, too. At a scale of 0.01, at
# least {{ min_closest }} of all variations must be closer to their own image than to any other. At
# a scale of 1 they must be at least three times as far from the decoded mean as at 0.01.

# %% given="model"
set_seed(0)
model = VAE(settings.image_size, settings.latent_dim, settings.hidden_dims).to(device)
learner = copy.deepcopy(model)
keeper = KeepBest(model)
optimizer = optim.Adam(learner.parameters(), lr=settings.learning_rate)
training_losses = []
print(f"{count_parameters(model):,} parameters, on {device}")


def train_and_validate(batches):
    """One epoch; the validation loss."""
    training_losses.append(train_epoch(learner, batches, loss_function, optimizer, device))
    loss = evaluate(learner, valid_loader, loss_function, device)
    keeper.offer(learner, loss)
    return loss


# %% train="vae"
history = train_or_restore("vae", model, train_and_validate, train_loader, settings.n_epochs)

# %% [markdown]
# ## Task 6: variations
#
# With the formula from the top of the page. The image comes alone, without a batch axis, and a
# BatchNorm layer in training mode would compare it with nothing but itself: `generate_variations`
# must see to the mode itself, whatever state the model is in. Each call draws new variations: set
# no seed in there.


# %% solution="generate_variations"
@torch.no_grad()
def generate_variations(model, image, n=10, variance_scale=0.01):
    """Variations of one image.

    Args:
        model: has encoder, mu_layer, logvar_layer and decoder.
        image: (3, h, w) in [0, 1], on the model's device.
        n: how many.
        variance_scale: what the variance of the code is multiplied by, at least 0.

    Returns:
        (n, 3, h, w), without gradients.
    """
    # TODO: evaluation mode; mu and logvar of the image; n codes; n images.
    ### BEGIN SOLUTION
    model.eval()
    hidden = model.encoder(image.unsqueeze(0))
    mu = model.mu_layer(hidden)
    logvar = model.logvar_layer(hidden)
    eps = torch.randn(n, mu.shape[1], device=mu.device)
    return model.decoder(mu + variance_scale**0.5 * torch.exp(logvar / 2) * eps)
    ### END SOLUTION


# %% check="variations"
check("d9_image_variations.variations")

# %% [markdown]
# Now put the image and all of its variations into *one* picture, the image first (top left), each
# upright and in its own colours, and save it as a JPEG file at the given path. Look up `make_grid`
# and `save_image` in `torchvision.utils`: they do most of it.


# %% solution="save_variations"
def save_variations(path, image, variations):
    """Save a grid with the image, then its variations, as a JPEG file.

    Args:
        path: of the file, such as "variations.jpg".
        image: (3, h, w) in [0, 1].
        variations: (n, 3, h, w) in [0, 1].
    """
    # TODO: one grid of n + 1 images, into the file.
    ### BEGIN SOLUTION
    from torchvision.utils import make_grid, save_image

    pictures = torch.cat([image.unsqueeze(0), variations])
    save_image(make_grid(pictures, nrow=6), path, format="jpeg")
    ### END SOLUTION


# %% check="saving"
check("d9_image_variations.saving")

# %% check="result"
check("d9_image_variations.result")

# %% [markdown]
# ## Results

# %% figure="losses"
curves = {"validation": history.losses}
if training_losses:  # they are not kept in the checkpoint
    curves["training"] = training_losses
plot_losses(
    curves, threshold=get("d9_image_variations").max_loss, title="Loss", ylabel="error + KL, nats"
)

# %% [markdown]
# Validation images, and what the model makes of them. What gets lost on the way?

# %% figure="reconstructions"
model.eval()
with torch.no_grad():
    hidden = model.encoder(faces[:10].to(device))
    reconstructions = model.decoder(model.mu_layer(hidden)).cpu()
plot_image_rows({"original": faces[:10], "decoded": reconstructions})

# %% [markdown]
# Variations of one face. In each row the variance of the code is multiplied by another number. At
# which one does it begin to be another person?

# %% figure="six_scales"
set_seed(1)
chosen = faces[8].to(device)
rows = {
    f"scale {scale:g}": generate_variations(model, chosen, n=10, variance_scale=scale).cpu()
    for scale in (0, 0.01, 0.25, 1, 4, 16)
}
plot_image_rows(rows, title="Ten variations at six scales")

# %% [markdown]
# The same for several faces, at four times the variance that the model was trained with.

# %% figure="more_variations"
rows = {}
for number in (2, 5, 13, 21):
    variations = generate_variations(model, faces[number].to(device), n=9, variance_scale=4.0)
    rows[f"face {number}"] = torch.cat([faces[number : number + 1], variations.cpu()])
plot_image_rows(rows, title="An image, then nine variations of it")

# %% [markdown]
# Between two people: codes on the straight line from one mean to another.


# %% figure="explorer"
@torch.no_grad()
def between(percent, first, second):
    codes = model.mu_layer(model.encoder(faces[[first, second]].to(device)))
    return model.decoder(torch.lerp(codes[:1], codes[1:], percent / 100)).cpu()


explore(between, percent=(0, 100), first=(0, 4, 39), second=(0, 21, 39))

# %% [markdown]
# The file that your program makes:

# %% figure="file"
variations = generate_variations(model, chosen, n=11, variance_scale=4.0)
save_variations("variations.jpg", faces[8], variations.cpu())
Image.open("variations.jpg")

# %% [markdown]
# **From the command line.** Save the notebook, open a terminal in its folder, and give any picture
# of a face to
#
#     genpic photo.jpg --scale 4
#
# (or `python -m helpers.genpic photo.jpg --scale 4` where the kit is not installed). The command
# takes your functions out of this notebook and the weights out of `checkpoints`. A model that has
# seen only drawn faces will make a drawing of you.
#
# The layers and parameters, for your report:

# %% figure="summary"
print(summary(model, (3, settings.image_size, settings.image_size)))

# %% [markdown] written="scale" points=4
# **Question 1 (4 points).** Describe what happens to your variations as the scale grows from 0 to
# 16, and explain it with the two terms of the loss: what do they make of $\sigma$, and why does the
# picture hold up to a scale of about 1 and not far beyond? Why the *root* of the scale?
#
# ### BEGIN SOLUTION
# At 0 all variations are the same picture, the decoded mean. At 0.01 and 0.25 the differences can
# hardly be seen; at 1 they are small (shading, the mouth, the outline of the hair) and the person
# stays; at 4 the tone of hair, skin and background changes, and at 16 it is somebody else, in
# patches that fit together badly. The reconstruction term makes $\sigma$ small in the dimensions
# that matter for the image, just as small as is needed for draws with scale 1 to decode to nearly
# the same image; the KL divergence makes it as large as that allows (1 in dimensions that the image
# does not need). So codes up to about one $\sigma$ away are what the decoder was trained on for
# this image; those farther away belong to other images, or to none. The scale multiplies the
# variance, and a standard deviation is the root of a variance:
# $\operatorname{Var}(\sqrt{s}\,\sigma\varepsilon) = s\,\sigma^2$.
#
# **Marking:** 1 for the observation at small and large scales; 1 for what the reconstruction term
# does to $\sigma$; 1 for what the KL divergence does; 1 for the root.
# ### END SOLUTION

# %% [markdown] written="batch_norm" points=3
# **Question 2 (3 points).** Suppose `generate_variations` left the model in training mode. What
# would BatchNorm compute from a single image, what would that do to its code, and what would
# happen to the model if you made variations of a hundred images one after the other?
#
# ### BEGIN SOLUTION
# Each BatchNorm layer of the encoder would use the mean and variance of each channel over the
# pixels of this one image. Every channel would then have mean 0 and variance 1 for *every* image,
# so what distinguishes images by their overall level (brightness, colour of the background) is
# normalised away, and the code is not the one that the image has in evaluation: the variations are
# not of this image. In the decoder the statistics are those of $n$ nearly equal codes, which is as
# wrong. Besides, each call moves the running means and variances towards those of single images:
# after a hundred calls the model is another one in evaluation mode, too, though no parameter has
# changed.
#
# **Marking:** 1 for the statistics of one image in place of the data's; 1 for the wrong code or
# picture; 1 for the running statistics that change for good.
# ### END SOLUTION

# %% [markdown] written="choosing" points=3
# **Question 3 (3 points).** Compare the curves of training and validation. Which epoch's model was
# kept, and what would have been handed in without `KeepBest`? The validation loss of the model that
# is kept is a little too good to be true as an estimate for new faces: why, and what would be an
# honest estimate?
#
# ### BEGIN SOLUTION
# The training loss falls steadily, and the validation loss jumps from one epoch to the next. In our
# run the training loss lies a little above: it is a mean over an epoch in which the model was still
# getting better. With longer training it would fall below, and the validation loss would rise
# again. The model kept is that of the lowest validation loss (in our run epoch 18 of 20); without
# `KeepBest` the last one would be handed in, which may be worse. Since the epoch was *chosen* by
# the validation loss, its lowest value is partly luck with these 200 faces and these draws of the
# code: the minimum of several noisy figures lies below their expectation. An honest estimate takes
# a third set of faces that was used neither for training nor for the choice (as the autograder
# does).
#
# **Marking:** 1 for reading both curves and the epoch; 1 for the bias of choosing by the smallest
# value; 1 for a third, untouched set.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Train on CelebA (`size = "full"`) with a GPU, and run `genpic` on a photograph of yourself.
# - Weight the KL divergence by a number $\beta$. How do $\sigma$ and the variations change?
# - Add a loss on *edges* (differences of neighbouring pixels) to the squared error. Do the faces
#   become sharper?
# - Take the mean code of faces with glasses, subtract that of faces without, and add the difference
#   to a face.

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d9_image_variations", student="your-id")
