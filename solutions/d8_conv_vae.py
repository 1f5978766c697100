# %% [markdown]
# # {{ title }}
#
# A code of two numbers can be drawn on paper. In this notebook you build a variational autoencoder
# out of convolutions, squeeze every digit into a point of the plane, and then look at the whole
# plane at once: where each digit lives, what stands between a 7 and a 1, and where two digits
# cannot be told apart.
#
# You will write the encoder and the decoder, the random step, the loss, training and evaluation,
# and the functions that walk through the plane.
#
# **Goal:** a test loss of at most **{{ max_loss }} nats per image** within {{ max_epochs }} epochs,
# and at most {{ max_gap }} nats above the training loss. {{ small_epochs }} epochs are enough for
# that (minutes on a CPU); {{ max_epochs }} end near 149. In the plane, up to {{ reach }} from the
# origin in each direction, a classifier should find at least {{ min_kinds }} of the ten digits.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.notebook import check, handin
from helpers.plotting import (
    draw_vae,
    explore,
    plot_image_rows,
    plot_latent_space,
    plot_latent_space_images,
    plot_losses,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# A fully connected layer does not know that two pixels are neighbours. A convolution does: it looks
# at a small patch, and looks for the same thing everywhere. With **stride 2** it moves in steps of
# two pixels, so that the image that comes out is half as wide and half as high; what is lost in
# places is won in channels. A *transposed* convolution with stride 2 goes the other way.

# %% figure="diagram"
draw_vae(MNIST(train=False, transform=transforms.ToTensor())[0][0])

# %% [markdown]
# ## Task 1: encoder and decoder
#
# With capacity $c$, all kernels of size 4, stride 2 and padding 1:
#
# | encoder | gives | | decoder | gives |
# |---|---|---|---|---|
# | image | 1 x 28 x 28 | | code | $Z$ |
# | `conv1`, ReLU | c x 14 x 14 | | `fc`, brought into shape | 2c x 7 x 7 |
# | `conv2`, ReLU | 2c x 7 x 7 | | `conv2` (transposed), ReLU | c x 14 x 14 |
# | flattened, `fc_mu` and `fc_logvar` | $Z$ each | | `conv1` (transposed), sigmoid | 1 x 28 x 28 |
#
# Check the sizes by hand once: a convolution of kernel $k$, stride $s$ and padding $p$ makes
# $\lfloor (28 + 2p - k) / s \rfloor + 1$ of 28 pixels. There is no activation after `fc_mu` and
# `fc_logvar`, nor after the decoder's `fc`. The table is complete: use only these layers, without
# dropout or normalisation. What counts is what is computed: the layers may have other names, stand
# in an `nn.Sequential`, and do without a bias. With $c$ = {{ capacity }} and
# $Z$ = {{ latent_dims }} there are at most {{ max_parameters }} parameters.


# %% solution="encoder_class"
class Encoder(nn.Module):
    """Images (N, 1, 28, 28) -> mu and logvar, (N, Z) each.

    Args:
        capacity: channels after the first convolution, c.
        latent_dims: numbers in a code, Z.
    """

    def __init__(self, capacity, latent_dims):
        super().__init__()
        # TODO: self.conv1, self.conv2, self.fc_mu, self.fc_logvar
        ### BEGIN SOLUTION
        self.conv1 = nn.Conv2d(1, capacity, kernel_size=4, stride=2, padding=1)
        self.conv2 = nn.Conv2d(capacity, 2 * capacity, kernel_size=4, stride=2, padding=1)
        self.fc_mu = nn.Linear(2 * capacity * 7 * 7, latent_dims)
        self.fc_logvar = nn.Linear(2 * capacity * 7 * 7, latent_dims)
        ### END SOLUTION

    def forward(self, x):
        # TODO: the two convolutions, flatten, mu and logvar.
        ### BEGIN SOLUTION
        x = torch.relu(self.conv1(x))
        x = torch.relu(self.conv2(x)).flatten(1)
        return self.fc_mu(x), self.fc_logvar(x)
        ### END SOLUTION


# %% solution="decoder_class"
class Decoder(nn.Module):
    """Codes (N, Z) -> images (N, 1, 28, 28) in [0, 1].

    Args:
        capacity: channels before the last convolution, c.
        latent_dims: numbers in a code, Z.
    """

    def __init__(self, capacity, latent_dims):
        super().__init__()
        self.capacity = capacity
        # TODO: self.fc, self.conv2, self.conv1
        ### BEGIN SOLUTION
        self.fc = nn.Linear(latent_dims, 2 * capacity * 7 * 7)
        self.conv2 = nn.ConvTranspose2d(2 * capacity, capacity, 4, stride=2, padding=1)
        self.conv1 = nn.ConvTranspose2d(capacity, 1, 4, stride=2, padding=1)
        ### END SOLUTION

    def forward(self, z):
        # TODO: fc, the shape (2c, 7, 7), the two transposed convolutions, the sigmoid.
        ### BEGIN SOLUTION
        x = self.fc(z).view(-1, 2 * self.capacity, 7, 7)
        x = torch.relu(self.conv2(x))
        return torch.sigmoid(self.conv1(x))
        ### END SOLUTION


# %% check="architecture"
check("d8_conv_vae.architecture")

# %% [markdown]
# ## Task 2: the model
#
# In training the code is drawn, $z = \mu + \sigma \odot \varepsilon$ with $\sigma = e^{\log
# \sigma^2 / 2}$. In evaluation nothing is drawn: the code is $\mu$, the middle of where it may lie.
# `self.training` says which of the two it is. In training, each call draws new noise for each image
# and each dimension, without setting a seed. `mu` and `logvar` stay as they are.


# %% solution="model_class"
class VariationalAutoencoder(nn.Module):
    """Encoder, random step and decoder.

    Args:
        capacity: see Encoder.
        latent_dims: numbers in a code, Z.
    """

    def __init__(self, capacity, latent_dims):
        super().__init__()
        self.encoder = Encoder(capacity, latent_dims)
        self.decoder = Decoder(capacity, latent_dims)

    def latent_sample(self, mu, logvar):
        """Codes (N, Z): drawn from N(mu, exp(logvar)) in training, mu itself in evaluation."""
        # TODO: both cases.
        ### BEGIN SOLUTION
        if not self.training:
            return mu
        return mu + torch.exp(0.5 * logvar) * torch.randn_like(mu)
        ### END SOLUTION

    def forward(self, x):
        """Images (N, 1, 28, 28) -> images like them, mu (N, Z) and logvar (N, Z).

        In both modes, mu and logvar are what the encoder gives.
        """
        # TODO: encode, draw, decode.
        ### BEGIN SOLUTION
        mu, logvar = self.encoder(x)
        return self.decoder(self.latent_sample(mu, logvar)), mu, logvar
        ### END SOLUTION


# %% check="sampling"
check("d8_conv_vae.sampling")

# %% check="forward"
check("d8_conv_vae.forward")

# %% [markdown]
# ## Task 3: the loss
#
# The cross-entropy and $\beta$ times the KL divergence, both **summed** over everything: pixels,
# dimensions and images.
#
# $$L = -\sum \left[ x \log \hat{x} + (1 - x) \log (1 - \hat{x}) \right] - \frac{\beta}{2} \sum
# \left( 1 + \log \sigma^2 - \mu^2 - \sigma^2 \right)$$
#
# With $\beta = 1$ it is the negative ELBO. A larger one buys order in the plane with blur. The loss
# leaves its arguments as they are.


# %% solution="vae_loss"
def vae_loss(recon_x, x, mu, logvar, beta=1.0):
    """Binary cross-entropy plus beta times the KL divergence, summed over the batch.

    Args:
        recon_x: reconstructed images (N, 1, 28, 28) in [0, 1].
        x: original images (N, 1, 28, 28).
        mu: means of the codes (N, Z).
        logvar: logarithms of their variances (N, Z).
        beta: weight of the KL divergence.

    Returns:
        The sum, a tensor with one number, in nats.
    """
    # TODO: both terms, and beta.
    ### BEGIN SOLUTION
    bce = nn.functional.binary_cross_entropy(recon_x, x, reduction="sum")
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp())
    return bce + beta * kl
    ### END SOLUTION


# %% check="loss"
check("d8_conv_vae.loss")

# %% [markdown]
# ## Task 4: training and evaluation
#
# Both functions return nats **per image**: the loss is a sum, so add it up over the batches and
# divide by the number of images. `train_epoch` trains in training mode. `evaluate` changes nothing:
# evaluation mode, no gradients, no seed.


# %% solution="train_epoch"
def train_epoch(model, loader, loss_function, optimizer, device):
    """Train for one epoch.

    Args:
        model: returns reconstructions, mu and logvar for images.
        loader: gives images (N, 1, 28, 28) and labels (N,); the labels are not needed.
        loss_function: the loss of (recon_x, x, mu, logvar), summed over the batch.
        optimizer: updates the model's parameters.
        device: where the model is; move the images there.

    Returns:
        The mean loss per image, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for images, _ in loader:
        images = images.to(device)
        # TODO: one step of training; add to total and n_images.
        ### BEGIN SOLUTION
        optimizer.zero_grad()
        recon, mu, logvar = model(images)
        loss = loss_function(recon, images, mu, logvar)
        loss.backward()
        optimizer.step()
        total += loss.item()
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% solution="evaluate"
def evaluate(model, loader, loss_function, device):
    """The mean loss per image, a float, in evaluation mode and without gradients.

    The arguments are those of train_epoch.
    """
    # TODO: the same sum, without any step.
    ### BEGIN SOLUTION
    model.eval()
    total, n_images = 0.0, 0
    with torch.no_grad():
        for images, _ in loader:
            images = images.to(device)
            recon, mu, logvar = model(images)
            total += loss_function(recon, images, mu, logvar).item()
            n_images += len(images)
    return total / n_images
    ### END SOLUTION


# %% check="training"
check("d8_conv_vae.training")

# %% check="evaluation"
check("d8_conv_vae.evaluation")

# %% [markdown]
# How many epochs? {{ small_epochs }} are enough on a CPU (about a minute each); with a GPU take up
# to {{ max_epochs }}.

# %% solution="choices"
# TODO: set n_epochs.
### BEGIN SOLUTION
n_epochs = 5
### END SOLUTION

# %% given="model"
train_loader = Loader(MNIST(train=True, transform=transforms.ToTensor()), 128, shuffle=True)
test_loader = Loader(MNIST(train=False, transform=transforms.ToTensor()), 128)

set_seed(0)
model = VariationalAutoencoder(capacity=64, latent_dims=2).to(device)
optimizer = optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% check="settings"
check("d8_conv_vae.settings")

# %% [markdown] common="training"

# %% train="conv_vae"
history = train_or_restore(
    "conv_vae",
    model,
    lambda batches: train_epoch(model, batches, vae_loss, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d8_conv_vae.result")

# %% figure="losses"
test_loss = evaluate(model, test_loader, vae_loss, device)
print(f"Training, last epoch: {history.losses[-1]:.1f} nats per image. Test: {test_loss:.1f}.")
plot_losses(history, title="Training loss", ylabel="cross-entropy + KL, nats per image")

# %% [markdown]
# ## Task 5: pictures
#
# `to_img` brings a decoder's output into [0, 1], whatever it is. `show_image` and
# `visualise_output` are given and use it.


# %% solution="to_img"
def to_img(x):
    """New pixels: what is below 0 is set to 0 and what is above 1 to 1; x itself stays as it is."""
    # TODO: one line.
    ### BEGIN SOLUTION
    return x.clamp(0, 1)
    ### END SOLUTION


# %% check="pixels"
check("d8_conv_vae.pixels")


# %% given="pictures"
def show_image(images, columns):
    """Images (N, 1, 28, 28) in rows of some length."""
    rows = to_img(images).cpu().split(columns)
    return plot_image_rows({str(number): row for number, row in enumerate(rows, 1)}, n=columns)


@torch.no_grad()
def visualise_output(images, model):
    """Images above what the model makes of them."""
    model.eval()
    recon, _, _ = model(images.to(device))
    return plot_image_rows({"original": images, "reconstruction": to_img(recon).cpu()})


# %% figure="reconstructions"
test_images, test_labels = next(iter(test_loader))
visualise_output(test_images[:10], model)

# %% [markdown]
# Two numbers are not much. Which digits survive, which come back as another one? Compare with the
# map of all test digits: each dot is the mean code of one.

# %% figure="latent_space"
plot_latent_space(lambda images: model.encoder(images)[0], test_loader, device)

# %% [markdown]
# ## Task 6: from a 7 to a 1
#
# Take the **mean** codes of two images, mix them, and decode the mixture:
#
# $$z = \lambda \, \mu(x_1) + (1 - \lambda) \, \mu(x_2) .$$


# %% solution="interpolation"
def interpolation(lambda_, model, img1, img2):
    """The image that lies between two others.

    Args:
        lambda_: share of the first image, from 0 to 1.
        model: a VariationalAutoencoder; put it into evaluation mode.
        img1: an image (1, 1, 28, 28), which stays as it is.
        img2: another one.

    Returns:
        The decoded mixture of their mean codes (1, 1, 28, 28), in [0, 1], without gradients. It is
        the same in each call; no seed is set.
    """
    # TODO: both means, the mixture, the decoder, to_img.
    ### BEGIN SOLUTION
    model.eval()
    with torch.no_grad():
        mu1, _ = model.encoder(img1)
        mu2, _ = model.encoder(img2)
        return to_img(model.decoder(lambda_ * mu1 + (1 - lambda_) * mu2))
    ### END SOLUTION


# %% check="mixing"
check("d8_conv_vae.mixing")

# %% figure="interpolations"
sevens, ones = test_images[test_labels == 7], test_images[test_labels == 1]
walks = {}
for number in range(3):
    pair = (ones[number : number + 1].to(device), sevens[number : number + 1].to(device))
    steps = [interpolation(share, model, *pair) for share in torch.linspace(0, 1, 10)]
    walks[f"pair {number + 1}"] = torch.cat(steps).cpu()
plot_image_rows(walks, title="From a 7 (left) to a 1 (right)")

# %% [markdown]
# ## Task 7: the whole plane
#
# Decode the points of a grid, from -{{ reach }} to {{ reach }} in both directions, and lay them out
# as on a map: $z_1$ grows to the right, and $z_2$ grows **upwards**, so the first row of images has
# the largest $z_2$.


# %% solution="latent_grid"
def latent_grid(model, n, reach, device):
    """The images of n x n points of the plane, row by row from the top left.

    Args:
        model: a VariationalAutoencoder with two latent dimensions; put it into evaluation mode.
        n: points in each direction.
        reach: the grid goes from -reach to reach.
        device: where the model is.

    Returns:
        Images (n * n, 1, 28, 28) in [0, 1], without gradients. No seed is set.
    """
    # TODO: the codes (n * n, 2), then the images.
    ### BEGIN SOLUTION
    model.eval()
    axis = torch.linspace(-reach, reach, n, device=device)
    codes = torch.stack([axis.repeat(n), axis.flip(0).repeat_interleave(n)], dim=1)
    with torch.no_grad():
        return to_img(model.decoder(codes))
    ### END SOLUTION


# %% check="grid"
check("d8_conv_vae.grid")

# %% figure="plane"
show_image(latent_grid(model, 15, 1.5, device), columns=15)

# %% [markdown]
# The same, as a chart with its axes, and further out. Beyond about 3 the prior has next to nothing:
# what does the decoder make of places that it hardly ever saw?

# %% figure="wide_plane"
plot_latent_space_images(model.decoder, device, span=(-4, 4))

# %% [markdown]
# Walk over the plane yourself.


# %% figure="explorer"
@torch.no_grad()
def decode(across, up):
    return model.decoder(torch.tensor([[across, up]], device=device)).cpu()


explore(decode, across=(-3.0, 3.0), up=(-3.0, 3.0))

# %% [markdown]
# The layers and parameters, for your report:

# %% figure="summary"
print(summary(model, (1, 28, 28)))

# %% [markdown] written="blurry" points=4
# **Question 1 (4 points).** Why are the outputs blurry? Think of what the best image $\hat{x}$ is
# when several originals share one code, and of how many originals share a code here.
#
# ### BEGIN SOLUTION
# The decoder gives one image for a code. If a code may stand for several originals $x$, the
# cross-entropy of $\hat{x}$, averaged over them, is smallest where each pixel of $\hat{x}$ is the
# mean of that pixel in the originals (its derivative $\mathbb{E}[\hat{x} - x] / (\hat{x}(1 -
# \hat{x}))$ vanishes there). A mean of strokes in slightly different places is a grey, soft stroke.
# And many originals share a code: two numbers, known only up to the spread $\sigma$ that the KL
# divergence asks for, carry few nats (the KL divergence itself, about 6 or 7), while the digits
# differ in many more ways, such as slant, thickness and the length of each stroke. Pixels are also
# taken as independent given the code, so the loss has no reason to prefer one sharp version to the
# mean of all.
#
# **Marking:** 1 for one code standing for many originals; 2 for the mean being the best answer,
# with the reason (loss, derivative or an example); 1 for two dimensions or the spread limiting what
# a code can tell.
# ### END SOLUTION

# %% [markdown] written="confused" points=4
# **Question 2 (4 points).** Which digits does your model confuse? Name two pairs, show where they
# lie in the latent plane, and say what the images between them look like. Would more latent
# dimensions help?
#
# ### BEGIN SOLUTION
# Typically 4 and 9, which share most of their strokes, lie on top of each other in the plane, and
# so, to a lesser degree, do 3, 5 and 8. In the reconstructions a 4 comes back as something between
# a 4 and a 9, with the gap at the top half closed; between 3 and 8 the left halves of the loops are
# grey. Where two clouds overlap, one code stands for both, and the decoder can only give their
# mean. With more dimensions the clouds can part in a direction that the plane does not have: the
# loss falls by tens of nats with ten to twenty dimensions, and the confusion all but ends.
#
# **Marking:** 1 for each of two pairs with its place in the plane; 1 for what lies between them; 1
# for more dimensions with a reason.
# ### END SOLUTION

# %% [markdown] written="test_loss" points=2
# **Question 3 (2 points).** Your test loss may be *below* your training loss. Does the model know
# new digits better than old ones? Look at what `latent_sample` does in the two modes.
#
# ### BEGIN SOLUTION
# No. The training loss is measured with drawn codes, and the noise costs cross-entropy; the test
# loss is measured with the means, without noise, so its first term is smaller (and it is no longer
# a bound on $\log p(x)$). Besides, the training loss is a mean over the epoch, while the model
# still got better. With drawn codes for both, the test loss is a little above the training loss.
#
# **Marking:** 1 for the noise in one mode and not in the other; 1 for the conclusion that they
# cannot be compared directly, or for the mean over the epoch.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Train with `beta=4` and with `beta=0.25`. What happens to the clouds and to the reconstructions?
# - Ask for 10 latent dimensions. How far does the loss fall, and how would you draw the map now?
# - Walk on a circle around the origin instead of a straight line. Which digits do you meet?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d8_conv_vae", student="your-id")
