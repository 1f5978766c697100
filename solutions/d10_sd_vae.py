# %% [markdown]
# # {{ title }}
#
# Programs that paint a picture from a sentence do not work on pixels. They work on the codes of a
# variational autoencoder, which are 48 times fewer numbers, and the decoder paints the picture at
# the end. In this notebook you build that autoencoder, layer by layer, as Stable Diffusion has it:
# at full width yours has the same 83,653,863 parameters, and the real weights would fit.
#
# You will write the blocks, the two networks, the model around them, its loss, and a training loop
# that gathers gradients over several small batches. At the end you repair eight faults that are
# common in public code.
#
# **Goal:** a loss below **{{ max_loss }}** on the photographs of dogs that you train on, and below
# {{ max_test_loss }} on others, with a narrow version of the model that trains in minutes on a CPU:
# {{ base_channels }} channels in place of 128, and at most {{ max_parameters }} parameters.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import Dogs, Loader, split_dogs
from helpers.deliverables import get
from helpers.notebook import check, handin
from helpers.plotting import draw_stages, explore, plot_image_rows, plot_losses, visualize_img_batch
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# The **encoder** halves height and width three times, so an image of $h \times w$ pixels becomes an
# array of $\frac{h}{8} \times \frac{w}{8}$ places. Each place holds 4 means and 4 log variances:
# the **moments** of a normal distribution. A draw from it is the latent. The **decoder** is the way
# back (Rombach et al., 2022). In the drawing, the bars carry their numbers of channels, in
# multiples of a width $b$, with the height and width of their arrays below.

# %% figure="diagram"
draw_stages(Dogs(transform=transforms.ToTensor())[42][0])

# %% [markdown]
# **The loss** has the two terms that you know, a reconstruction error and a KL divergence. Here
# both are *means* over all their numbers, those of the images and those of the latents, so that the
# balance is the same for images of any size:
#
# $$L = \operatorname{mean}\,(x - \hat{x})^2 \;+\; \lambda \cdot \operatorname{mean}\, \tfrac{1}{2}
# \left( \mu^2 + \sigma^2 - 1 - \log \sigma^2 \right), \qquad \lambda = 0.00025 .$$
#
# With so small a weight this is more an autoencoder than a generative model: the KL term only keeps
# the latents in a sensible range. Generating is left to another network, in the next deliverable.
#
# **Names matter** in this notebook: a state dict fits only where names agree, so the attributes
# that the tasks name must be called so. All layers have a bias. And no function changes the tensor
# that it is given, since its caller may need it again.
#
# ## Task 1: attention
#
# A convolution sees its neighbourhood. **Self-attention** lets each place look at every other one.
# Each of $T$ vectors $x_t$ of $D$ numbers makes a query $q_t$, a key $k_t$ and a value $v_t$. The
# result at $t$ is a mean of all values, weighted by how well their keys fit the query:
#
# $$a_t = \sum_s w_{ts} v_s, \qquad w_{t \cdot} = \operatorname{softmax}_s \left( \frac{q_t^\top
# k_s}{\sqrt{d}} \right) .$$
#
# With $H$ **heads** the $D$ numbers are cut into $H$ pieces of $d = D / H$, each piece is attended
# to on its own, and the results are put side by side again. Two linear layers do the rest:
#
# - `in_proj`, $D \to 3D$, gives queries, keys and values, in this order;
# - `out_proj`, $D \to D$, follows at the end.


# %% solution="self_attention"
class SelfAttention(nn.Module):
    """Each of T vectors looks at all of them: (N, T, D) -> (N, T, D).

    Args:
        n_heads: number of heads, H.
        embed_dim: numbers in a vector, D, a multiple of H.
    """

    def __init__(self, n_heads, embed_dim):
        super().__init__()
        # TODO: self.in_proj and self.out_proj, nn.Linear with bias.
        ### BEGIN SOLUTION
        self.n_heads = n_heads
        self.in_proj = nn.Linear(embed_dim, 3 * embed_dim)
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        ### END SOLUTION

    def forward(self, x):
        # TODO: queries, keys, values; each (N, H, T, d); the weights; the mean; heads side by side.
        ### BEGIN SOLUTION
        n_images, length, embed_dim = x.shape
        heads = (n_images, length, self.n_heads, embed_dim // self.n_heads)
        q, k, v = (part.view(heads).transpose(1, 2) for part in self.in_proj(x).chunk(3, dim=-1))
        scores = q @ k.transpose(-1, -2) / (embed_dim // self.n_heads) ** 0.5
        attended = scores.softmax(dim=-1) @ v
        return self.out_proj(attended.transpose(1, 2).reshape(x.shape))
        ### END SOLUTION


# %% check="attention"
check("d10_sd_vae.attention")

# %% [markdown]
# ## Task 2: the blocks
#
# Both blocks add a correction to what they are given, and both normalise first. **Group
# normalisation** cuts the channels of one image into 32 groups and brings each group to mean 0 and
# variance 1; unlike batch normalisation it does not care how small the batch is. Everywhere in this
# model it is `nn.GroupNorm(32, channels, eps=1e-6)`, also at the end of the two networks.
#
# `AttentionBlock(channels)` has `norm` and `attention`, a `SelfAttention` with *one* head. The
# vectors are the pixels: $(N, C, h, w)$ has to become $(N, h w, C)$ and afterwards come back.
#
# $$x \;+\; \text{attention}(\text{norm}(x))$$
#
# `ResidualBlock(in_channels, out_channels)` has `norm1`, `conv1` (3 x 3, padding 1), `norm2`,
# `conv2` (the same) and, if the numbers of channels differ, a 1 x 1 convolution called `shortcut`.
# The activation is $\operatorname{SiLU}(x) = x \cdot \operatorname{sigmoid}(x)$.
#
# $$\text{shortcut}(x) \;+\; \text{conv2}(\text{SiLU}(\text{norm2}(\text{conv1}(\text{SiLU}(
# \text{norm1}(x))))))$$


# %% solution="attention_block_class"
class AttentionBlock(nn.Module):
    """x + attention over its pixels: (N, C, h, w) -> the same."""

    def __init__(self, channels):
        super().__init__()
        # TODO: self.norm and self.attention.
        ### BEGIN SOLUTION
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.attention = SelfAttention(1, channels)
        ### END SOLUTION

    def forward(self, x):
        # TODO: normalise, pixels as vectors, attend, back into an image, add.
        ### BEGIN SOLUTION
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        return x + self.attention(pixels).transpose(1, 2).reshape(x.shape)
        ### END SOLUTION


# %% check="attention_block"
check("d10_sd_vae.attention_block")


# %% solution="residual_block_class"
class ResidualBlock(nn.Module):
    """x + correction: (N, in_channels, h, w) -> (N, out_channels, h, w)."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        # TODO: self.norm1, self.conv1, self.norm2, self.conv2, and self.shortcut: nn.Identity() or
        #       a 1 x 1 convolution.
        ### BEGIN SOLUTION
        self.norm1 = nn.GroupNorm(32, in_channels, eps=1e-6)
        self.conv1 = nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)
        self.norm2 = nn.GroupNorm(32, out_channels, eps=1e-6)
        self.conv2 = nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1)
        self.shortcut = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, kernel_size=1)
        ### END SOLUTION

    def forward(self, x):
        # TODO: the equation.
        ### BEGIN SOLUTION
        hidden = self.conv1(nn.functional.silu(self.norm1(x)))
        hidden = self.conv2(nn.functional.silu(self.norm2(hidden)))
        return self.shortcut(x) + hidden
        ### END SOLUTION


# %% check="residual_block"
check("d10_sd_vae.residual_block")

# %% [markdown]
# **Half the size.** `Downsample(channels)` is a 3 x 3 convolution `conv` of stride 2 and *without*
# padding of its own. Instead, the input gets one column of zeros on the right and one row of zeros
# at the bottom: `nn.functional.pad` with (left, right, top, bottom) = (0, 1, 0, 1). Padding all
# four sides would give the same shape, and a picture that is shifted by a pixel.
#
# **Twice the size.** `Upsample(channels)` repeats each pixel in a square of four (nearest
# neighbour), and a 3 x 3 convolution `conv` with padding 1 smooths the steps.


# %% solution="resampling_classes"
class Downsample(nn.Module):
    """(N, C, h, w) -> (N, C, h / 2, w / 2)."""

    def __init__(self, channels):
        super().__init__()
        # TODO: self.conv.
        ### BEGIN SOLUTION
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)
        ### END SOLUTION

    def forward(self, x):
        # TODO: pad on the right and at the bottom, then self.conv.
        ### BEGIN SOLUTION
        return self.conv(nn.functional.pad(x, (0, 1, 0, 1)))
        ### END SOLUTION


class Upsample(nn.Module):
    """(N, C, h, w) -> (N, C, 2h, 2w)."""

    def __init__(self, channels):
        super().__init__()
        # TODO: self.conv.
        ### BEGIN SOLUTION
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        ### END SOLUTION

    def forward(self, x):
        # TODO: repeat the pixels, then self.conv.
        ### BEGIN SOLUTION
        return self.conv(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
        ### END SOLUTION


# %% check="resampling"
check("d10_sd_vae.resampling")

# %% [markdown]
# ## Task 3: encoder and decoder
#
# Both apply the blocks above one after the other, as an `nn.Sequential` does, each row with blocks
# of its own. With $b$ for `base_channels`, for images of 56 by 56 pixels, all plain convolutions
# 3 x 3 with padding 1, and nothing (no dropout either) between the rows or after the last one:
#
# | encoder | channels | pixels |
# |---|---|---|
# | `Conv2d` | 3 to $b$ | 56 |
# | `ResidualBlock`, twice | $b$ | 56 |
# | `Downsample` | $b$ | 28 |
# | `ResidualBlock`, twice | $b$ to $2b$, then $2b$ | 28 |
# | `Downsample` | $2b$ | 14 |
# | `ResidualBlock`, twice | $2b$ to $4b$, then $4b$ | 14 |
# | `Downsample` | $4b$ | 7 |
# | `ResidualBlock`, three times | $4b$ | 7 |
# | `AttentionBlock` | $4b$ | 7 |
# | `ResidualBlock` | $4b$ | 7 |
# | `GroupNorm`, `SiLU` | $4b$ | 7 |
# | `Conv2d` | $4b$ to 8 | 7 |
#
# | decoder | channels | pixels |
# |---|---|---|
# | `Conv2d` | 4 to $4b$ | 7 |
# | `ResidualBlock` | $4b$ | 7 |
# | `AttentionBlock` | $4b$ | 7 |
# | `ResidualBlock`, four times | $4b$ | 7 |
# | `Upsample` | $4b$ | 14 |
# | `ResidualBlock`, three times | $4b$ | 14 |
# | `Upsample` | $4b$ | 28 |
# | `ResidualBlock`, three times | $4b$ to $2b$, then $2b$ | 28 |
# | `Upsample` | $2b$ | 56 |
# | `ResidualBlock`, three times | $2b$ to $b$, then $b$ | 56 |
# | `GroupNorm`, `SiLU` | $b$ | 56 |
# | `Conv2d` | $b$ to 3 | 56 |


# %% solution="network_classes"
class Encoder(nn.Sequential):
    """Images (N, 3, h, w) -> (N, 8, h / 8, w / 8).

    Args:
        base_channels: width of the first layers, a multiple of 32.
    """

    def __init__(self, base_channels=128):
        # TODO: call super().__init__ with the rows of the table.
        ### BEGIN SOLUTION
        b = base_channels
        super().__init__(
            nn.Conv2d(3, b, kernel_size=3, padding=1),
            ResidualBlock(b, b),
            ResidualBlock(b, b),
            Downsample(b),
            ResidualBlock(b, 2 * b),
            ResidualBlock(2 * b, 2 * b),
            Downsample(2 * b),
            ResidualBlock(2 * b, 4 * b),
            ResidualBlock(4 * b, 4 * b),
            Downsample(4 * b),
            ResidualBlock(4 * b, 4 * b),
            ResidualBlock(4 * b, 4 * b),
            ResidualBlock(4 * b, 4 * b),
            AttentionBlock(4 * b),
            ResidualBlock(4 * b, 4 * b),
            nn.GroupNorm(32, 4 * b, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(4 * b, 8, kernel_size=3, padding=1),
        )
        ### END SOLUTION


class Decoder(nn.Sequential):
    """(N, 4, h / 8, w / 8) -> images (N, 3, h, w).

    Args:
        base_channels: width of the last layers, a multiple of 32.
    """

    def __init__(self, base_channels=128):
        # TODO: call super().__init__ with the rows of the table.
        ### BEGIN SOLUTION
        b = base_channels
        super().__init__(
            nn.Conv2d(4, 4 * b, kernel_size=3, padding=1),
            ResidualBlock(4 * b, 4 * b),
            AttentionBlock(4 * b),
            *[ResidualBlock(4 * b, 4 * b) for _ in range(4)],
            Upsample(4 * b),
            *[ResidualBlock(4 * b, 4 * b) for _ in range(3)],
            Upsample(4 * b),
            ResidualBlock(4 * b, 2 * b),
            ResidualBlock(2 * b, 2 * b),
            ResidualBlock(2 * b, 2 * b),
            Upsample(2 * b),
            ResidualBlock(2 * b, b),
            ResidualBlock(b, b),
            ResidualBlock(b, b),
            nn.GroupNorm(32, b, eps=1e-6),
            nn.SiLU(),
            nn.Conv2d(b, 3, kernel_size=3, padding=1),
        )
        ### END SOLUTION


# %% [markdown]
# The checks compare your rows with the table, and count the parameters at full width. That needs no
# memory: on torch's `meta` device tensors have a shape and no numbers.

# %% check="networks"
check("d10_sd_vae.networks")

# %% [markdown]
# ## Task 4: the model
#
# Around the two networks there are two 1 x 1 convolutions: `quant_conv`, $8 \to 8$, after the
# encoder, and `post_quant_conv`, $4 \to 4$, before the decoder.
#
# - `moments`: encoder, `quant_conv`; the first four channels are the means, the others the log
#   variances, which are clamped to $[{{ min_logvar }}, {{ max_logvar }}]$, so that no exponential
#   overflows.
# - `reparameterize`: a draw, $\mu + \sigma \varepsilon$ with
#   $\sigma = \exp(\frac{1}{2} \log \sigma^2)$ and $\varepsilon$ from the standard normal
#   distribution, new for each number and in each call.
# - `encode`: the **latents** are a draw times {{ scale }}. Measured on many images, that factor
#   gives them a standard deviation of about 1, as the diffusion model of the next deliverable
#   expects. The mean and the log variance are returned as they are, not scaled.
# - `decode`: undo the factor, `post_quant_conv`, decoder.
# - `forward`: encode the images, and decode the latents. It is the draw that is decoded, in
#   training and in evaluation.


# %% solution="model_class"
class VAE(nn.Module):
    """The autoencoder of Stable Diffusion.

    Args:
        base_channels: 128 for the real one.
    """

    def __init__(self, base_channels=128):
        super().__init__()
        # TODO: self.encoder, self.quant_conv, self.post_quant_conv, self.decoder.
        ### BEGIN SOLUTION
        self.encoder = Encoder(base_channels)
        self.quant_conv = nn.Conv2d(8, 8, kernel_size=1)
        self.post_quant_conv = nn.Conv2d(4, 4, kernel_size=1)
        self.decoder = Decoder(base_channels)
        ### END SOLUTION

    def moments(self, x):
        """Images (N, 3, h, w) -> means and clamped log variances, (N, 4, h / 8, w / 8) each."""
        # TODO
        ### BEGIN SOLUTION
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30, 20)
        ### END SOLUTION

    @staticmethod
    def reparameterize(mean, logvar):
        """A draw from N(mean, exp(logvar)), of their shape; gradients reach both."""
        # TODO
        ### BEGIN SOLUTION
        return mean + torch.exp(logvar / 2) * torch.randn_like(mean)
        ### END SOLUTION

    def encode(self, x):
        """Images (N, 3, h, w) -> latents, mean, logvar, (N, 4, h / 8, w / 8) each."""
        # TODO
        ### BEGIN SOLUTION
        mean, logvar = self.moments(x)
        return 0.18215 * self.reparameterize(mean, logvar), mean, logvar
        ### END SOLUTION

    def decode(self, latents):
        """Latents (N, 4, h / 8, w / 8) -> images (N, 3, h, w)."""
        # TODO
        ### BEGIN SOLUTION
        return self.decoder(self.post_quant_conv(latents / 0.18215))
        ### END SOLUTION

    def forward(self, x):
        """Images (N, 3, h, w) -> images like them, mean, logvar."""
        # TODO
        ### BEGIN SOLUTION
        latents, mean, logvar = self.encode(x)
        return self.decode(latents), mean, logvar
        ### END SOLUTION


# %% check="model"
check("d10_sd_vae.model")

# %% [markdown]
# The loss is the equation at the top of this notebook.


# %% solution="loss_function"
def vae_loss(x_hat, x, mean, logvar):
    """Mean squared error plus 0.00025 times the KL divergence.

    Args:
        x_hat: reconstructed images (N, 3, h, w).
        x: original images (N, 3, h, w).
        mean: (N, 4, h / 8, w / 8).
        logvar: the same shape.

    Returns:
        A tensor with one number.
    """
    # TODO: two means over everything.
    ### BEGIN SOLUTION
    kl = -0.5 * torch.mean(1 + logvar - mean.pow(2) - logvar.exp())
    return nn.functional.mse_loss(x_hat, x) + 0.00025 * kl
    ### END SOLUTION


# %% check="loss"
check("d10_sd_vae.loss")

# %% [markdown]
# ## Task 5: the data
#
# The images are photographs of dogs. With `"small"` they are the 500 of the CIFAR-10 sample that
# comes with this kit, 32 by 32 pixels: **hand in this one.** With `"full"` they are the almost
# 5,000 of the Oxford-IIIT Pet data set, of all sizes, which are fetched once (800 MB) and want a
# GPU. Four fifths are for training.
#
# The model wants 56 by 56 pixels with values from -1 to 1. Compose `preprocess` from three
# transforms and no others: `Resize((56, 56))`, `ToTensor()`, and a `Normalize` that takes $[0, 1]$
# to $[-1, 1]$. The test images go through it, too, so nothing in it may be random.

# %% solution="choices"
# TODO: set size to "small" or "full", and make preprocess with transforms.Compose.
### BEGIN SOLUTION
size = "small"
preprocess = transforms.Compose(
    [
        transforms.Resize((56, 56)),
        transforms.ToTensor(),
        transforms.Normalize([0.5] * 3, [0.5] * 3),
    ]
)
### END SOLUTION

# %% check="data"
check("d10_sd_vae.data")

# %% given="data_and_model"
# Many small steps where there are few images; the usual settings where there are many.
n_epochs, batch_size, accumulation_steps, learning_rate = {
    "small": (12, 4, 2, 1e-3),
    "full": (20, 4, 4, 1e-4),
}[size]

train_set, test_set = split_dogs(Dogs(size, transform=preprocess))
photographs, _ = next(iter(Loader(test_set, batch_size=8)))
set_seed(0)
train_loader = Loader(train_set, batch_size, shuffle=True)
model = VAE(base_channels=32).to(device)
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"{len(train_set):,} photographs, {count_parameters(model):,} parameters, on {device}")

# %% figure="photographs"
visualize_img_batch(photographs / 2 + 0.5, n=8, title="Some test images")

# %% [markdown]
# ## Task 6: gradients from several batches
#
# Large models leave room for a few images only, and the gradient of four images is noisy. The
# remedy is **accumulation**: `backward()` *adds* to the gradients that are there, so call it for
# `accumulation_steps` batches, and only then step and clear. Divide each batch's loss by
# `accumulation_steps`, and what has gathered is the gradient of a mean. If an epoch ends with a
# group that is not full, step with what there is.
#
# Return the mean of the loss, undivided, over all images. Add up `loss.item()`, a plain number: a
# `loss` that is added up as it is would keep all batches of the epoch in memory.


# %% solution="train_epoch"
def train_epoch(model, loader, criterion, optimizer, device, accumulation_steps):
    """Train for one epoch.

    Args:
        model: images -> reconstructions, mean, logvar.
        loader: gives images (N, 3, h, w) and labels (N,), which are not needed; it has a length.
        criterion: the loss of (x_hat, x, mean, logvar), a mean over the batch.
        optimizer: updates the model's parameters.
        device: where the model is; move the images there.
        accumulation_steps: batches to gather gradients from before each update.

    Returns:
        The mean loss over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    optimizer.zero_grad()
    # TODO: for each batch the loss and backward, and an update where one is due; add to total and
    #       n_images.
    ### BEGIN SOLUTION
    for number, (images, _) in enumerate(loader, start=1):
        images = images.to(device)
        x_hat, mean, logvar = model(images)
        loss = criterion(x_hat, images, mean, logvar)
        (loss / accumulation_steps).backward()
        if number % accumulation_steps == 0 or number == len(loader):
            optimizer.step()
            optimizer.zero_grad()
        total += loss.item() * len(images)
        n_images += len(images)
    ### END SOLUTION
    return total / n_images


# %% check="training"
check("d10_sd_vae.training")

# %% [markdown]
# After each epoch, what the model makes of eight test images is kept, to be shown below.

# %% given="progress"
progress = []


@torch.no_grad()
def reconstruct(images):
    """Images (N, 3, h, w) in [-1, 1] -> what the model makes of them, in [0, 1]."""
    model.eval()
    return (model(images.to(device))[0].cpu() / 2 + 0.5).clamp(0, 1)


def epoch_with_a_look(batches):
    """One epoch of training; its mean loss."""
    loss = train_epoch(model, batches, vae_loss, optimizer, device, accumulation_steps)
    progress.append(reconstruct(photographs))
    return loss


# %% [markdown] common="training"

# %% train="sd_vae"
history = train_or_restore("sd_vae", model, epoch_with_a_look, train_loader, n_epochs)

# %% check="result"
check("d10_sd_vae.result")

# %% [markdown]
# ## Results

# %% figure="losses"
plot_losses(history, threshold=get("d10_sd_vae").max_loss, ylabel="MSE + 0.00025 KL")

# %% [markdown]
# Test photographs after some of the epochs. (A model that was restored shows its end only.) With
# `"small"`, minutes of training are enough for light and shade, not for colours or fur: the real
# model saw millions of images, for days.
#
# Why this order? Cut our photographs into patches of 8 by 8 pixels: the best *linear* code of four
# numbers for a patch (its principal components) keeps the brightness, two slopes of it, and one
# colour. They make up 74%, 13% and 5% of the variance, and the squared error pays for them in
# proportion.

# %% figure="reconstructions"
looks = {f"epoch {n + 1}": look for n, look in enumerate(progress) if n + 1 in (1, 3, 6, n_epochs)}
looks = looks or {"reconstruction": reconstruct(photographs)}
plot_image_rows({"original": photographs / 2 + 0.5, **looks}, n=8)

# %% [markdown]
# What does a latent look like? The means of its four channels, 7 by 7 each, repeated here to the
# size of the photograph.


# %% figure="latents"
@torch.no_grad()
def means(images):
    """Images -> their means (N, 4, h / 8, w / 8)."""
    model.eval()
    return model.moments(images.to(device))[0].cpu()


latents = means(photographs)
channels = (latents / (4 * latents.std()) + 0.5).clamp(0, 1)
channels = channels.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
plot_image_rows(
    {
        "photograph": photographs / 2 + 0.5,
        **{f"channel {n + 1}": channels[:, [n]].expand(-1, 3, -1, -1) for n in range(4)},
    },
    n=8,
)

# %% [markdown]
# On the way from one latent to another: a mean of two latents is not a mean of two photographs.


# %% figure="explorer"
@torch.no_grad()
def between(first, second, share):
    """The picture of a mix of two photographs' latents."""
    start, end = means(photographs[[first]]), means(photographs[[second]])
    mixed = 0.18215 * ((1 - share) * start + share * end)
    return (model.decode(mixed.to(device)).cpu() / 2 + 0.5).clamp(0, 1)


explore(between, share=(0.0, 0.5, 1.0), first=(0, 0, 7), second=(0, 5, 7))

# %% [markdown]
# The layers and parameters, for your report:

# %% figure="summary"
print(summary(model.encoder, (3, 56, 56)))

# %% [markdown]
# ## Task 7: eight repairs
#
# Each function below comes with a line or two that really stood in somebody's code: they run, they
# raise nothing, and they are wrong. The lines are there as comments. Write the function so that it
# does what its docstring says, and keep what was right. Here, too, no tensor of the caller's is
# changed, and draws are new in each call.


# %% solution="repair_attention"
def attention_weights(scores, hidden):
    """Softmax over the last axis, with no weight where `hidden` is True.

    Args:
        scores: (..., T, T).
        hidden: (T, T), bool.
    """
    # scores.masked_fill(hidden, float("-inf"))
    # return scores.softmax(dim=-1)
    # TODO: repair.
    ### BEGIN SOLUTION
    return scores.masked_fill(hidden, float("-inf")).softmax(dim=-1)
    ### END SOLUTION


def causal_mask(length):
    """(length, length), bool: True where row t may not look, at the columns after t."""
    # return torch.ones(length, length, dtype=torch.bool).triu()
    # TODO: repair.
    ### BEGIN SOLUTION
    return torch.ones(length, length, dtype=torch.bool).triu(1)
    ### END SOLUTION


# %% solution="repair_sampling"
def spread(logvar):
    """The standard deviations that belong to log variances, of the same shape."""
    # return (0.5 * logvar).std()
    # TODO: repair.
    ### BEGIN SOLUTION
    return (0.5 * logvar).exp()
    ### END SOLUTION


def draw(mean, std):
    """A draw from the normal distribution with this mean and standard deviation."""
    # return mean + std * torch.rand_like(mean)
    # TODO: repair.
    ### BEGIN SOLUTION
    return mean + std * torch.randn_like(mean)
    ### END SOLUTION


# %% solution="repair_loss"
def activation(x):
    """SiLU, x * sigmoid(x)."""
    # return nn.functional.selu(x)
    # TODO: repair.
    ### BEGIN SOLUTION
    return nn.functional.silu(x)
    ### END SOLUTION


def kl_divergence(mean, logvar, latents):
    """KL divergence from N(mean, exp(logvar)) to N(0, 1), averaged over all numbers.

    Args:
        mean: (N, 4, h, w).
        logvar: the same shape.
        latents: a scaled draw, of the same shape.
    """
    # kl = 0.5 * (latents.pow(2) + logvar.exp() - 1 - logvar)
    # return kl.mean()
    # TODO: repair.
    ### BEGIN SOLUTION
    kl = 0.5 * (mean.pow(2) + logvar.exp() - 1 - logvar)
    return kl.mean()
    ### END SOLUTION


# %% solution="repair_housekeeping"
def unscaled(latents):
    """Latents divided by 0.18215; the caller's tensor stays as it is."""
    # latents /= 0.18215
    # return latents
    # TODO: repair.
    ### BEGIN SOLUTION
    return latents / 0.18215
    ### END SOLUTION


def checkpoint(network, epoch):
    """What has to be saved to go on later: a dict with "epoch" and the network's "state"."""
    # return {"epoch": epoch, "state": network.state_dict}
    # TODO: repair.
    ### BEGIN SOLUTION
    return {"epoch": epoch, "state": network.state_dict()}
    ### END SOLUTION


# %% check="repairs"
check("d10_sd_vae.repairs")

# %% [markdown] written="compression" points=3
# **Question 1 (3 points).** How many numbers does an image of 512 by 512 pixels hold, and how
# many does its latent? Why does a diffusion model that needs 50 passes for a picture gain from
# that? And why could it not work with a latent ten times smaller still?
#
# ### BEGIN SOLUTION
# The image has $512 \cdot 512 \cdot 3 = 786{,}432$ numbers, its latent $64 \cdot 64 \cdot 4 =
# 16{,}384$, which is 48 times fewer. Each of the 50 passes of the diffusion model then runs on 64
# times fewer places (and where it attends, on far fewer pairs of places), and the decoder runs only
# once, so the expensive part is made cheap. What the latent does not hold, no decoder can paint:
# with a tenth of the numbers fine detail such as faces and letters is lost at the encoder, and the
# pictures can be no better than the reconstructions, however good the diffusion model is.
#
# **Marking:** 1 for both numbers; 1 for many cheap passes and a single decoding; 1 for
# reconstruction being the limit of quality.
# ### END SOLUTION

# %% [markdown] written="weight" points=4
# **Question 2 (4 points).** The weight of the KL term is 0.00025. Take a latent number that says
# nothing: which mean and variance minimise its part of the loss? What happens to more and more of
# the latents as the weight grows? What would be missing with a weight of 0? And why may Stable
# Diffusion do with so small a weight, where a VAE that generates by itself cannot?
#
# ### BEGIN SOLUTION
# A number that does not help the reconstruction is moved by the KL term alone, which is smallest,
# at 0, for mean 0 and variance 1: the prior. A latent is kept only if it lowers the squared error
# by more than its share of the KL costs, so with a growing weight the less useful ones collapse to
# the prior, one after another, and the pictures get blurred. With a weight of 0 nothing holds the
# latents: the means drift far apart and the variances shrink towards 0, so the range is arbitrary,
# and places between the codes decode to nothing sensible. A VAE that generates draws from
# $\mathcal{N}(0, I)$, so all its codes together have to look like that. Here another network learns
# the distribution of the latents, whatever it is; they need only be smooth and of a known range.
#
# **Marking:** 1 for each of the four.
# ### END SOLUTION

# %% [markdown] written="accumulation" points=3
# **Question 3 (3 points).** When is a step after four batches of 4 images, each loss divided by 4,
# the same as a step with one batch of 16? Would it be so with batch normalisation in the model?
# What happens if the division is forgotten, with SGD and with Adam?
#
# ### BEGIN SOLUTION
# The gradient of a mean over 16 images is the mean of the gradients of four means over 4, so the
# step is the same if the loss is a mean over images that do not influence each other and the
# batches are of one size (up to rounding, and to the draws of $\varepsilon$). Group normalisation
# keeps to one image, so that holds here. Batch normalisation takes mean and variance over the
# batch, and those of 4 images are not those of 16: the steps would differ. Without the division the
# gradient is four times as large. For SGD that is a learning rate four times as large. Adam divides
# by the size of past gradients, so its steps stay all but the same (except for its small constant
# $\epsilon$, or where gradients are clipped).
#
# **Marking:** 1 for the mean of means; 1 for batch statistics of 4 images; 1 for SGD and Adam.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Print your state dict's names next to those of a published Stable Diffusion checkpoint, write
#   the few lines that translate one into the other, and load the real weights at full width.
# - Measure the standard deviation of your own latents before scaling. Which factor would *your*
#   model need, so that it is 1?
# - Encode a photograph, set one of the four channels to zero, decode. What does it hold?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d10_sd_vae", student="your-id")
