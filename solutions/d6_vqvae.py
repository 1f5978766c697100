# %% [markdown]
# # {{ title }}
#
# So far a code was a vector of real numbers. Language is not like that: a text is a row of *words*
# from a dictionary. In this notebook an image becomes a row of 64 words, too. The dictionary,
# called the **codebook**, is learned along with the rest, and the network has to paint small colour
# photographs with it. Models that generate images or sound word by word build on this idea.
#
# You will write the quantiser: distances, nearest neighbours, a gradient where there is none, its
# loss, and a measure of how much of the codebook is used. Then you train twice, once without one of
# the terms of the loss, and see why it is there.
#
# **Goal:** a normalised error below **{{ max_loss }}** and a perplexity of at least
# {{ min_perplexity }} with the small setting (minutes on a CPU), or below {{ full_max_loss }} and
# at least {{ full_min_perplexity }} with the full one (a GPU). On test images the error may be
# {{ test_allowance }}% above that limit.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import CIFAR10, Loader
from helpers.deliverables import VQVAE_SIZES
from helpers.notebook import check, handin
from helpers.plotting import (
    draw_quantiser,
    explore,
    plot_codebook,
    plot_image_rows,
    plot_losses,
    plot_spread,
    visualize_img_batch,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# The encoder turns an image $x$ of 32 by 32 pixels into an array of 8 by 8 vectors $z_e(x)$, each
# of $D$ numbers. The **quantiser** replaces each of them by the nearest of the $K$ vectors $e_0,
# \dots, e_{K-1}$ of the codebook (van den Oord, Vinyals & Kavukcuoglu, 2017):
#
# $$z_q = e_k, \qquad k = \arg\min_j \lVert z_e - e_j \rVert^2 .$$
#
# The decoder paints the image from the 64 vectors $z_q$. Since they are all from the codebook,
# their numbers $k$ are enough to know them: 64 whole numbers from 0 to $K - 1$.

# %% figure="diagram"
draw_quantiser(CIFAR10(train=False, transform=transforms.ToTensor())[700][0])

# %% [markdown]
# **The gradient.** The arg min is a staircase: its derivative is zero wherever there is one. So the
# error cannot tell the encoder what to change. The *straight-through* trick pretends, backwards
# only, that the quantiser did nothing: the gradient that arrives at $z_q$ is handed to $z_e$ as it
# is.
#
# **The loss** has three terms. With $\operatorname{sg}$ for "stop the gradient here",
#
# $$L = \underbrace{\frac{\lVert x - \hat{x} \rVert^2}{\text{variance of the data}}}_{\text{trains
# encoder and decoder}} + \underbrace{\lVert \operatorname{sg}(z_e) - e
# \rVert^2}_{\text{moves codes to the outputs}} + \beta \underbrace{\lVert z_e -
# \operatorname{sg}(e) \rVert^2}_{\text{keeps outputs near their codes}} .$$
#
# In each term $\lVert \cdot \rVert^2$ is the *mean* of the squares over all numbers of the batch.
# The last one is called the **commitment** term, with $\beta$ = {{ commitment_cost }}.
#
# ## Task 1: the quantiser
#
# `nn.Embedding` holds the codebook in `self.embedding.weight`, $(K, D)$. Four things to write:
#
# - `distances`: squared distances of $M$ vectors to the $K$ codes. If you expand
#   $\lVert z - e \rVert^2 = \lVert z \rVert^2 + \lVert e \rVert^2 - 2 z^\top e$, you need no array
#   of $M \times K \times D$ numbers.
# - In `forward`, the nearest code of each vector. The array is $(N, D, h, w)$, with the channels in
#   front: move them to the *end* before you make $N h w$ rows of $D$ numbers, and back afterwards.
#   Without that, a row mixes numbers of different places.
# - The two terms of the loss that belong to the quantiser, then the straight-through step. With
#   `detach()` for $\operatorname{sg}$: what is $z + \operatorname{sg}(q - z)$ forwards, and what
#   backwards?
# - The **perplexity** of the codes in the batch. If code $k$ takes the share $p_k$ of all places,
#   it is $\exp\!\left(-\sum_k p_k \log p_k\right)$: 1 if only one code is used, $K$ if all are used
#   alike. Take the shares over all images of the batch together, and mind $p_k = 0$.
#
# The quantiser does the same in training and in evaluation mode, and leaves what it is given as it
# is.


# %% solution="quantizer_class"
class VectorQuantizer(nn.Module):
    """Replaces vectors by their nearest neighbours in a codebook.

    Args:
        num_embeddings: vectors in the codebook, K.
        embedding_dim: numbers in a vector, D.
        commitment_cost: weight of the commitment term, beta.
    """

    def __init__(self, num_embeddings, embedding_dim, commitment_cost):
        super().__init__()
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.commitment_cost = commitment_cost
        self.embedding = nn.Embedding(num_embeddings, embedding_dim)
        self.embedding.weight.data.uniform_(-1 / num_embeddings, 1 / num_embeddings)

    def distances(self, vectors):
        """Squared Euclidean distances to all codes: (M, D) -> (M, K)."""
        # TODO: the distances.
        ### BEGIN SOLUTION
        codes = self.embedding.weight
        squares = vectors.pow(2).sum(dim=1, keepdim=True) + codes.pow(2).sum(dim=1)
        return squares - 2 * vectors @ codes.T
        ### END SOLUTION

    def forward(self, z):
        """Quantise the encoder's output.

        Args:
            z: (N, D, h, w).

        Returns:
            The loss (codebook term plus beta times commitment term), a tensor with one number; the
            quantised array (N, D, h, w), which passes gradients straight through to z and none to
            the codebook; the perplexity, a number; and the encodings (N * h * w, K), one-hot, place
            after place and image after image.
        """
        # TODO: rows of D numbers, their nearest codes, the encodings, the quantised array.
        # TODO: the loss, then the straight-through step, then the perplexity.
        ### BEGIN SOLUTION
        rows = z.permute(0, 2, 3, 1)
        nearest = self.distances(rows.reshape(-1, self.embedding_dim)).argmin(dim=1)
        encodings = nn.functional.one_hot(nearest, self.num_embeddings).float()
        quantized = self.embedding(nearest).view(rows.shape).permute(0, 3, 1, 2)

        codebook_term = nn.functional.mse_loss(quantized, z.detach())
        commitment_term = nn.functional.mse_loss(z, quantized.detach())
        loss = codebook_term + self.commitment_cost * commitment_term

        quantized = z + (quantized - z).detach()
        shares = encodings.mean(dim=0)
        perplexity = torch.exp(-torch.sum(shares * torch.log(shares + 1e-10)))
        return loss, quantized, perplexity, encodings
        ### END SOLUTION


# %% check="nearest"
check("d6_vqvae.nearest")

# %% check="straight_through"
check("d6_vqvae.straight_through")

# %% check="quantizer_loss"
check("d6_vqvae.quantizer_loss")

# %% check="perplexity"
check("d6_vqvae.perplexity")

# %% [markdown]
# ## Task 2: the model
#
# Encoder and decoder are given. Two strided convolutions take 32 pixels to 16 and 8; then comes a
# stack of **residual blocks**, each of which adds a correction to what it is given. The decoder is
# the way back.


# %% given="networks"
class ResidualBlock(nn.Module):
    """x + correction(x), with a narrow middle: (N, channels, h, w) -> the same."""

    def __init__(self, channels, residual_channels):
        super().__init__()
        self.correction = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, residual_channels, kernel_size=3, padding=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(residual_channels, channels, kernel_size=1, bias=False),
        )

    def forward(self, x):
        return x + self.correction(x)


def residual_stack(n_layers, channels, residual_channels):
    """Several residual blocks, and a ReLU after them."""
    blocks = [ResidualBlock(channels, residual_channels) for _ in range(n_layers)]
    return nn.Sequential(*blocks, nn.ReLU())


class Encoder(nn.Sequential):
    """Images (N, 3, 32, 32) -> (N, D, 8, 8)."""

    def __init__(self, num_hiddens, num_residual_layers, num_residual_hiddens, embedding_dim):
        super().__init__(
            nn.Conv2d(3, num_hiddens // 2, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_hiddens // 2, num_hiddens, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(num_hiddens, num_hiddens, kernel_size=3, padding=1),
            residual_stack(num_residual_layers, num_hiddens, num_residual_hiddens),
            nn.Conv2d(num_hiddens, embedding_dim, kernel_size=1),
        )


class Decoder(nn.Sequential):
    """(N, D, 8, 8) -> images (N, 3, 32, 32)."""

    def __init__(self, num_hiddens, num_residual_layers, num_residual_hiddens, embedding_dim):
        super().__init__(
            nn.Conv2d(embedding_dim, num_hiddens, kernel_size=3, padding=1),
            residual_stack(num_residual_layers, num_hiddens, num_residual_hiddens),
            nn.ConvTranspose2d(num_hiddens, num_hiddens // 2, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(num_hiddens // 2, 3, kernel_size=4, stride=2, padding=1),
        )


# %% [markdown]
# `Model` joins the three, in training and in evaluation mode alike, and returns what the decoder
# gives as it comes. The error is measured in units of the data's variance (for CIFAR-10, pixels
# from 0 to 1: {{ data_variance }}), so that 1 means: no better than always answering with the mean.
# Neither the model nor the error changes the images that it is given.


# %% solution="model_class"
class Model(nn.Module):
    """A VQ-VAE.

    Args:
        encoder: images (N, 3, 32, 32) -> (N, D, 8, 8).
        quantizer: a VectorQuantizer.
        decoder: (N, D, 8, 8) -> images (N, 3, 32, 32).
    """

    def __init__(self, encoder, quantizer, decoder):
        super().__init__()
        self.encoder = encoder
        self.quantizer = quantizer
        self.decoder = decoder

    def forward(self, x):
        """Images (N, 3, 32, 32) -> the quantiser's loss, images like them, the perplexity."""
        # TODO: encode, quantise, decode.
        ### BEGIN SOLUTION
        loss, quantized, perplexity, _ = self.quantizer(self.encoder(x))
        return loss, self.decoder(quantized), perplexity
        ### END SOLUTION


def normalised_error(x_hat, x):
    """Mean squared error over all pixels, divided by the variance of the data."""
    # TODO: the error, a tensor with one number.
    ### BEGIN SOLUTION
    return nn.functional.mse_loss(x_hat, x) / 0.06327
    ### END SOLUTION


# %% check="model_parts"
check("d6_vqvae.model_parts")

# %% [markdown]
# ## Task 3: the data and one epoch of training
#
# Choose the size: `"small"` uses 4,000 photographs that come with this kit and a smaller network,
# and trains in a few minutes on a CPU. `"full"` fetches all of CIFAR-10 and is for a GPU. The model
# may have at most {{ max_parameters }} parameters, which is enough for both.

# %% solution="choices"
# TODO: set size to "small" or "full".
### BEGIN SOLUTION
size = "small"
### END SOLUTION

# %% given="model"
settings = VQVAE_SIZES[size]
shifted = transforms.Compose([transforms.ToTensor(), transforms.Normalize([0.5] * 3, [1.0] * 3)])
train_set = CIFAR10(train=True, size=size, transform=shifted)
train_loader = Loader(train_set, settings.batch_size, shuffle=True)
test_set = CIFAR10(train=False, size=size, transform=shifted)


def new_model(commitment_cost):
    """A fresh model of the chosen size and its optimiser; the same start each time."""
    set_seed(0)
    widths = (
        settings.num_hiddens,
        settings.num_residual_layers,
        settings.num_residual_hiddens,
        settings.embedding_dim,
    )
    quantizer = VectorQuantizer(settings.num_embeddings, settings.embedding_dim, commitment_cost)
    fresh = Model(Encoder(*widths), quantizer, Decoder(*widths)).to(device)
    return fresh, optim.Adam(fresh.parameters(), lr=settings.learning_rate)


model, optimizer = new_model(commitment_cost=settings.commitment_cost)
print(f"{train_set}; {count_parameters(model):,} parameters, on {device}")

# %% figure="photographs"
photographs = torch.stack([test_set[number][0] for number in range(0, 1000, 10)])
visualize_img_batch(photographs[::6] + 0.5, n=16, title="Some test images")

# %% [markdown]
# Train in training mode, and in each step minimise the sum of all terms: the quantiser's loss and
# the error. *Return* the mean of the error alone, over all images of the epoch: it can be compared
# between settings, and the sum cannot.


# %% solution="train_epoch"
def train_epoch(model, loader, error, optimizer, device):
    """Train for one epoch.

    Args:
        model: returns the quantiser's loss, images and a perplexity.
        loader: gives images (N, 3, 32, 32) and labels (N,); the labels are not needed.
        error: the reconstruction error of (x_hat, x), a mean over the batch.
        optimizer: updates the model's parameters.
        device: where the model is; move the images there.

    Returns:
        The mean reconstruction error over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for images, _ in loader:
        images = images.to(device)
        # TODO: one step of training; add the error to total, and count the images.
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        quantizer_loss, x_hat, _ = model(images)
        reconstruction = error(x_hat, images)
        (quantizer_loss + reconstruction).backward()
        optimizer.step()
        total += reconstruction.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% check="training"
check("d6_vqvae.training")

# %% [markdown] common="training"

# %% train="vqvae"
history = train_or_restore(
    "vqvae",
    model,
    lambda batches: train_epoch(model, batches, normalised_error, optimizer, device),
    train_loader,
    settings.n_epochs,
)

# %% [markdown]
# Once more, with $\beta = 0$ and everything else the same. The root mean square of the encoder's
# outputs should become at least {{ min_spread_ratio }} times as large.

# %% given="uncommitted_model"
uncommitted, uncommitted_optimizer = new_model(commitment_cost=0.0)

# %% train="vqvae_no_commitment"
uncommitted_history = train_or_restore(
    "vqvae_no_commitment",
    uncommitted,
    lambda batches: train_epoch(
        uncommitted, batches, normalised_error, uncommitted_optimizer, device
    ),
    train_loader,
    settings.n_epochs,
)

# %% check="result"
check("d6_vqvae.result")

# %% [markdown]
# ## Results

# %% figure="losses"
plot_losses(
    {"with commitment": history.losses, "without": uncommitted_history.losses},
    threshold=settings.max_loss,
    title="Training error",
    ylabel="mean squared error / variance",
)

# %% [markdown]
# Test photographs, and what is left of them after they have been told in 64 words. Then the same
# without the commitment term.

# %% figure="reconstructions"
model.eval()
uncommitted.eval()
chosen = photographs[3::10]
with torch.no_grad():
    rows = {
        "original": chosen,
        "with commitment": model(chosen.to(device))[1].cpu(),
        "without": uncommitted(chosen.to(device))[1].cpu(),
    }
plot_image_rows({name: images + 0.5 for name, images in rows.items()})

# %% [markdown]
# How far do the encoder's outputs lie from zero, and how far the codes? Look at the scale of the
# axis: each step is a factor of ten.


# %% figure="spread"
@torch.no_grad()
def outputs(a_model):
    """The encoder's outputs for test images, as rows (M, D)."""
    z = a_model.encoder(photographs.to(device)).cpu()
    return z.permute(0, 2, 3, 1).flatten(0, 2)


plot_spread(
    {
        "with: outputs": outputs(model),
        "with: codes": model.quantizer.embedding.weight,
        "without: outputs": outputs(uncommitted),
        "without: codes": uncommitted.quantizer.embedding.weight,
    }
)

# %% [markdown]
# The codebook, drawn in the plane (by UMAP if it is installed, else by principal components), each
# code as large as it is used. A code that no image uses is dead: no gradient will ever reach it.


# %% figure="codebook"
@torch.no_grad()
def usage(a_model):
    """How often each code is used for the test images, (K,)."""
    return a_model.quantizer(a_model.encoder(photographs.to(device)))[3].sum(dim=0).cpu()


plot_codebook(model.quantizer.embedding.weight, usage(model), title="With commitment")

# %% figure="uncommitted_codebook"
plot_codebook(
    uncommitted.quantizer.embedding.weight, usage(uncommitted), title="Without commitment"
)

# %% [markdown]
# An image is 64 words. Replace one of them by another that is in use, and see which part of the
# picture listens.


# %% figure="explorer"
words = usage(model).nonzero()[:, 0]


@torch.no_grad()
def change_one_word(photograph, place, word):
    z = model.encoder(photographs[photograph : photograph + 1].to(device))
    codes = model.quantizer(z)[1]
    codes[0, :, place // 8, place % 8] = model.quantizer.embedding.weight[words[word]]
    return (model.decoder(codes) + 0.5).clamp(0, 1).cpu()


explore(change_one_word, word=(0, len(words) - 1), place=(0, 27, 63), photograph=(0, 99))

# %% [markdown]
# The layers and parameters, for your report:

# %% figure="summary"
print(summary(model.encoder, (3, 32, 32)))

# %% [markdown] written="discrete" points=3
# **Question 1 (3 points).** How does the quantiser make the latent space discrete? How many
# different images can your decoder paint at most, and how many bits does one of your codes take?
# Compare with the bits of the image.
#
# ### BEGIN SOLUTION
# Each of the 64 places holds one of $K$ vectors, so the latent space is the finite set of $K^{64}$
# combinations: the decoder is a function of 64 whole numbers and can give no more than $K^{64}$
# images. A code takes $64 \log_2 K$ bits: 448 bits for $K = 128$ (576 for $K = 512$), against $32
# \cdot 32 \cdot 3 \cdot 8 = 24{,}576$ bits of the image, about 55 (43) times fewer.
#
# **Marking:** 1 for the nearest of $K$ vectors at each place; 1 for $K^{64}$; 1 for the bits and
# their comparison.
# ### END SOLUTION

# %% [markdown] written="widths" points=3
# **Question 2 (3 points).** What do the numbers of hiddens, of residual hiddens and of residual
# layers set? For each, say what more of it can improve and what it costs.
#
# ### BEGIN SOLUTION
# The number of hiddens is the number of channels of the feature maps in encoder and decoder: more
# of them describe each place by more features; parameters and computing grow with its square.
# Residual hiddens are the channels in the narrow middle of a residual block: they set how rich a
# correction a block can compute; cost grows linearly. The number of residual layers is the depth of
# the stacks: each adds a correction and widens what a place can see by two pixels of the 8 by 8
# array; cost grows linearly, and the identity path keeps deeper stacks trainable. None of them
# changes what fits into a code: that is set by $K$ and the number of places.
#
# **Marking:** 1 for each of the three with both gain and cost.
# ### END SOLUTION

# %% [markdown] written="commitment" points=4
# **Question 3 (4 points).** Describe, with figures from your plots, what happened without the
# commitment term. Explain it by following the gradients: who moves the codes, who moves the
# encoder's outputs, and who keeps them together?
#
# ### BEGIN SOLUTION
# Without the term the encoder's outputs grow by orders of magnitude, only one or a few codes remain
# in use (a perplexity near 1), and the error stays far higher. The codes are moved by the codebook
# term only, towards the outputs assigned to them, at the pace of their learning rate. The encoder
# is moved only by the reconstruction error, straight through the quantiser, that is by a gradient
# computed at $z_q$ and not at $z_e$. Nothing tells it how far $z_e$ is from $z_q$: as long as the
# nearest code stays the same, its outputs can drift in the direction of the gradient without any
# change of the error, so they run away and the codes lag behind. Then most places share one far
# code, and the decoder can no longer tell them apart. The commitment term is the only force on the
# encoder that pulls its outputs back to the codes that they use.
#
# **Marking:** 1 for the observation with figures (range, perplexity or error); 1 for the codebook
# term moving only codes; 1 for the straight-through gradient not depending on the distance; 1 for
# the conclusion that nothing bounds the outputs.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Replace the codebook term by moving averages of the outputs that use each code (the paper's
#   appendix). Does more of the codebook come to life?
# - Draw 64 words at random and decode them. What is missing for generating images?
# - Halve $K$ several times. At which size does the error begin to rise?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d6_vqvae", student="your-id")
