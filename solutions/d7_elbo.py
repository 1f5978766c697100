# %% [markdown]
# # {{ title }}
#
# You have trained on the ELBO for three deliverables; here you learn what it is. You derive it,
# write a variational autoencoder straight from its probabilities, and then measure how far below
# the truth the bound lies: with many codes for each image instead of one, the estimate of $\log
# p(x)$ can only rise.
#
# You will write the random step, the loss, two lines of the training loop, the codes of the test
# set, and the importance-weighted estimate.
#
# **Goal:** below **{{ max_loss }} nats per image** in training within {{ max_epochs }} epochs, and
# below {{ max_test_loss }} on test images, with the {{ max_parameters }} parameters that are given.

# %% common="setup"

# %% given="imports"
import math

import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.deliverables import get
from helpers.notebook import check, handin
from helpers.plotting import (
    draw_vae,
    explore,
    plot_aggregate,
    plot_image_rows,
    plot_losses,
    plot_sweep,
    visualize_img_batch,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The model
#
# Everything here follows from one assumption about how image $x_n$, a row of 784 zeros and ones,
# came about:
#
# $$z_n \sim \mathcal{N}(0, I), \qquad \theta_n = g(z_n), \qquad
# x_n \sim \operatorname{Bernoulli}(\theta_n) .$$
#
# A code of {{ latent_dim }} numbers is drawn; the **decoder** $g$ turns it into 784 probabilities
# $\theta_n$; and each pixel is a coin that shows white with its own probability. So our images have
# to be zeros and ones too: the pixels of MNIST are rounded.
#
# The probability of an image is that of all codes which could have made it, $p(x) = \int p(x \mid
# z)\, p(z)\, dz$: an integral over {{ latent_dim }} dimensions that nobody can compute. The
# **encoder** makes it possible to say something about it all the same. For an image it gives the
# mean and the logarithm of the variance of
#
# $$q(z \mid x) = \mathcal{N}\!\left(\mu(x), \operatorname{diag} \sigma^2(x)\right) ,$$
#
# a guess at which codes they were.

# %% figure="diagram"
draw_vae(
    MNIST(train=False, transform=transforms.ToTensor())[0][0].round(),
    output=r"probabilities $\theta$",
)

# %% [markdown]
# Encoder and decoder are given: three linear layers each, {{ hidden_dim }} numbers wide.


# %% given="networks"
class Encoder(nn.Module):
    """Images (N, input_dim) -> the mean and the log variance of their codes, (N, latent_dim)."""

    def __init__(self, input_dim, hidden_dim, latent_dim):
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
        )
        self.mean = nn.Linear(hidden_dim, latent_dim)
        self.log_var = nn.Linear(hidden_dim, latent_dim)

    def forward(self, x):
        hidden = self.hidden(x)
        return self.mean(hidden), self.log_var(hidden)


class Decoder(nn.Sequential):
    """Codes (N, latent_dim) -> the probability of each pixel to be white, (N, output_dim)."""

    def __init__(self, latent_dim, hidden_dim, output_dim):
        super().__init__(
            nn.Linear(latent_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden_dim, output_dim),
            nn.Sigmoid(),
        )


# %% [markdown]
# ## Task 1: the random step
#
# `reparameterization` gets a mean and a **standard deviation** (not its logarithm, not the
# variance) and draws a code with $\varepsilon \sim \mathcal{N}(0, I)$, so that gradients reach
# both. It draws in training and in evaluation alike, sets no seed, and leaves `mean` and `std` as
# they are. `forward` draws with it in both modes; mind that the encoder speaks of $\log \sigma^2$.


# %% solution="model_class"
class Model(nn.Module):
    """A variational autoencoder.

    Args:
        encoder: images (N, D) -> mean and log variance, (N, Z) each.
        decoder: codes (N, Z) -> probabilities (N, D).
    """

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def reparameterization(self, mean, std):
        """Draw codes (N, Z) from N(mean, std^2), so that gradients reach mean and std."""
        # TODO: draw epsilon, return the code.
        ### BEGIN SOLUTION
        return mean + std * torch.randn_like(std)
        ### END SOLUTION

    def forward(self, x):
        """Images (N, D) -> theta (N, D), mean (N, Z), log_var (N, Z) and the code z (N, Z)."""
        # TODO: encode, draw, decode.
        ### BEGIN SOLUTION
        mean, log_var = self.encoder(x)
        z = self.reparameterization(mean, torch.exp(0.5 * log_var))
        return self.decoder(z), mean, log_var, z
        ### END SOLUTION


# %% check="reparameterization"
check("d7_elbo.reparameterization")

# %% check="forward"
check("d7_elbo.forward")

# %% [markdown]
# ## Task 2: the bound
#
# For any $q$ at all, $\log p(x)$ is at least
#
# $$\operatorname{ELBO}(x) = \mathbb{E}_{q(z \mid x)}\!\left[ \log \frac{p(x, z)}{q(z \mid x)}
# \right] ,$$
#
# and what is missing is exactly $\operatorname{KL}\!\left(q(z \mid x) \,\|\, p(z \mid x)\right)$:
# how wrong the guess is. First bring it into the form that can be computed.

# %% [markdown] written="elbo" points=1
# **Question 1 (1 point).** Show that $\operatorname{ELBO}(x) = \mathbb{E}_{q(z \mid x)}[\log p(x
# \mid z)] - \operatorname{KL}(q(z \mid x) \,\|\, p(z))$.
#
# ### BEGIN SOLUTION
# The logarithm of the fraction is, with $p(x, z) = p(x \mid z)\, p(z)$,
# $\log p(x \mid z) + \log p(z) - \log q(z \mid x)$. The expectation is linear:
# $\mathbb{E}_q[\log p(x \mid z)] - \mathbb{E}_q\!\left[\log \frac{q(z \mid x)}{p(z)}\right]$,
# and the second expectation is $\operatorname{KL}(q(z \mid x) \,\|\, p(z))$ by definition.
#
# **Marking:** 1 for factorising the joint density and naming the KL divergence with the right sign.
# ### END SOLUTION

# %% [markdown] written="kl" points=2
# **Question 2 (2 points).** For $q = \mathcal{N}(\mu, \operatorname{diag} \sigma^2)$ and $p =
# \mathcal{N}(0, I)$ in $K$ dimensions, derive
#
# $$\operatorname{KL}(q \,\|\, p) = \frac{1}{2} \sum_{k=1}^{K} \left( \mu_k^2 + \sigma_k^2 - 1 -
# \log \sigma_k^2 \right) .$$
#
# Check the sign: what is it for $\mu = 0$, $\sigma = 1$, and can it be negative?
#
# ### BEGIN SOLUTION
# Both densities are products over the dimensions, so the divergence is a sum of one-dimensional
# ones. In one dimension $\log q(z) - \log p(z) = -\frac{1}{2}\log\sigma^2 -
# \frac{(z-\mu)^2}{2\sigma^2} + \frac{z^2}{2}$; the terms $\frac{1}{2}\log 2\pi$ cancel. Under $q$,
# $\mathbb{E}(z-\mu)^2 = \sigma^2$ and $\mathbb{E}z^2 = \mu^2 + \sigma^2$, so the expectation is
# $-\frac{1}{2}\log\sigma^2 - \frac{1}{2} + \frac{1}{2}(\mu^2 + \sigma^2)$. For $\mu = 0$, $\sigma =
# 1$ it is 0. It is never negative: $\mu^2 \ge 0$, and $s - 1 - \log s \ge 0$ for every $s =
# \sigma^2 > 0$, since $\log s \le s - 1$.
#
# **Marking:** 1 for the derivation (log densities and both expectations); 1 for the sum over
# dimensions together with the sign, 0 at the prior and never negative.
# ### END SOLUTION

# %% [markdown]
# Now the loss, the **negative** ELBO with one code for each image, summed over the batch:
#
# $$L = \sum_{n} \left[ -\sum_{i} \left( x_{ni} \log \theta_{ni} + (1 - x_{ni}) \log (1 -
# \theta_{ni}) \right) + \operatorname{KL}_n \right] .$$
#
# The function leaves its arguments as they are.


# %% solution="loss_function"
def loss_function(x, theta, mean, log_var):
    """The negative ELBO, in nats, summed over the images.

    Args:
        x: images (N, D) of zeros and ones.
        theta: probabilities (N, D).
        mean: means of the codes (N, Z).
        log_var: logarithms of their variances (N, Z).

    Returns:
        The sum over the batch, a tensor with one number.
    """
    # TODO: minus the log likelihood, plus the KL divergence.
    ### BEGIN SOLUTION
    reconstruction = nn.functional.binary_cross_entropy(theta, x, reduction="sum")
    kl = 0.5 * torch.sum(mean.pow(2) + log_var.exp() - 1 - log_var)
    return reconstruction + kl
    ### END SOLUTION


# %% check="loss"
check("d7_elbo.loss")

# %% given="model"
binary = transforms.Compose([transforms.ToTensor(), torch.round, torch.flatten])
train_loader = Loader(MNIST(train=True, transform=binary), batch_size=128, shuffle=True)
test_loader = Loader(MNIST(train=False, transform=binary), batch_size=128)

set_seed(0)
hidden_dim, latent_dim, learning_rate = 200, 20, 1e-3
model = Model(Encoder(784, hidden_dim, latent_dim), Decoder(latent_dim, hidden_dim, 784)).to(device)
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% [markdown]
# ## Task 3: the training loop
#
# Two lines are missing: what the model makes of the images, and the loss that the function is
# given. The model stays in training mode. Note the last line of the function. The loss is a sum
# over the batch, and what is reported is nats **per image**: a figure per batch would change with
# the size of the batch and could be compared with nobody's.


# %% solution="train_epoch"
def train_epoch(model, loader, loss_function, optimizer, device):
    """Train for one epoch.

    Args:
        model: returns theta, mean, log_var and z for images.
        loader: gives images (N, 784) and labels (N,); the labels are not needed.
        loss_function: the loss of (x, theta, mean, log_var), summed over the batch.
        optimizer: updates the model's parameters.
        device: where the model is.

    Returns:
        The mean loss over all images, a float.
    """
    model.train()
    total, n_images = 0.0, 0
    for x, _ in loader:
        x = x.to(device)
        optimizer.zero_grad()
        # TODO: the two missing lines.
        ### BEGIN SOLUTION
        theta, mean, log_var, _ = model(x)
        loss = loss_function(x, theta, mean, log_var)
        ### END SOLUTION
        loss.backward()
        optimizer.step()
        total += loss.item()
        n_images += len(x)
    return total / n_images


# %% check="training"
check("d7_elbo.training")

# %% [markdown] common="training"

# %% train="bernoulli_vae"
history = train_or_restore(
    "bernoulli_vae",
    model,
    lambda batches: train_epoch(model, batches, loss_function, optimizer, device),
    train_loader,
    get("d7_elbo").max_epochs,
)

# %% check="result"
check("d7_elbo.result")

# %% [markdown]
# The ELBO climbs, steeply first. Each epoch's value is the mean over 60,000 images.

# %% figure="climb"
plot_losses(
    [-loss for loss in history.losses],
    title="The bound rises",
    ylabel="ELBO, nats per image",
)

# %% [markdown]
# ## Task 4: the codes of the test set
#
# Send the whole test set through the trained model, without training it, and keep the codes $z$,
# and of the last batch the reconstruction $\theta$.


# %% solution="encode_all"
def encode_all(model, loader, device):
    """The codes of all images, and the last reconstruction.

    Args:
        model: returns theta, mean, log_var and z for images.
        loader: gives images (N, 784) and labels (N,).
        device: where the model is.

    Returns:
        The codes z of all images, in the loader's order (all, Z), and theta of the last batch. Both
        are computed in evaluation mode and under torch.no_grad(), and no seed is set.
    """
    # TODO: evaluation mode, no gradients; collect z batch by batch.
    ### BEGIN SOLUTION
    model.eval()
    codes = []
    with torch.no_grad():
        for x, _ in loader:
            theta, _, _, z = model(x.to(device))
            codes.append(z)
    return torch.cat(codes), theta
    ### END SOLUTION


# %% check="codes"
check("d7_elbo.codes")

# %% figure="reconstructions"
codes, last = encode_all(model, test_loader, device)
*_, (last_images, _) = test_loader
plot_image_rows(
    {
        "image": last_images.view(-1, 1, 28, 28),
        "theta": last.cpu().view(-1, 1, 28, 28),
        "coins": torch.bernoulli(last.cpu()).view(-1, 1, 28, 28),
    },
    title="Ten test digits, their probabilities, and a throw of the 784 coins",
)

# %% [markdown]
# Every code was drawn from its own $q(z \mid x)$. Taken all together they should look like draws
# from the prior, $\mathcal{N}(0, I)$: do they? Dimensions that the model does not use follow the
# dashed line exactly.

# %% figure="aggregate"
plot_aggregate(codes.cpu())

# %% [markdown]
# New digits, from codes drawn from the prior.

# %% figure="samples"
set_seed(2)
model.eval()
with torch.no_grad():
    samples = model.decoder(torch.randn(40, latent_dim, device=device)).cpu()
visualize_img_batch(samples.view(-1, 1, 28, 28), n=40, title="theta of draws from N(0, I)")

# %% [markdown]
# ## Task 5: closer to the truth
#
# How far below $\log p(x)$ is the bound? Draw $K$ codes $z_1, \dots, z_K$ from $q(z \mid x)$
# instead of one, and average the **weights** before taking the logarithm (Burda, Grosse &
# Salakhutdinov, 2016):
#
# $$\mathcal{L}_K(x) = \mathbb{E}\left[ \log \frac{1}{K} \sum_{k=1}^{K} w_k \right], \qquad w_k =
# \frac{p(x \mid z_k)\, p(z_k)}{q(z_k \mid x)} .$$
#
# The mean of the weights is an unbiased estimate of $p(x)$, and its logarithm is below $\log p(x)$
# on average, less and less as $K$ grows: $\mathcal{L}_1 = \operatorname{ELBO} \le \mathcal{L}_{10}
# \le \mathcal{L}_{100} \le \log p(x)$.
#
# The weights are like $e^{-90}$: no computer adds them up as they are. Work with $\log w_k$, and
# with `torch.logsumexp`. The logarithm of a normal density is
# $-\frac{1}{2}\left(\log 2\pi + \log \sigma^2 + (z - \mu)^2 / \sigma^2\right)$ in each dimension.


# %% solution="log_likelihood"
def log_likelihood(model, x, n_samples):
    """The importance-weighted estimate of log p(x), in nats.

    Args:
        model: with an encoder and a decoder.
        x: images (N, D) of zeros and ones, which stay as they are.
        n_samples: codes drawn for each image, K, anew in each call and without a seed.

    Returns:
        One estimate for each image, (N,).
    """
    # TODO: n_samples codes for each image, log w for each of them, the logarithm of the mean.
    ### BEGIN SOLUTION
    mean, log_var = model.encoder(x)
    noise = torch.randn(n_samples, *mean.shape, device=mean.device)
    z = mean + torch.exp(0.5 * log_var) * noise
    theta = model.decoder(z.flatten(0, 1)).view(n_samples, *x.shape)
    log_x = -nn.functional.binary_cross_entropy(theta, x.expand_as(theta), reduction="none")
    log_prior = -0.5 * (math.log(2 * math.pi) + z.pow(2))
    log_q = -0.5 * (math.log(2 * math.pi) + log_var + noise.pow(2))
    log_w = log_x.sum(dim=2) + (log_prior - log_q).sum(dim=2)
    return torch.logsumexp(log_w, dim=0) - math.log(n_samples)
    ### END SOLUTION


# %% check="estimate"
check("d7_elbo.estimate")

# %% [markdown]
# The same 500 test images with ever more codes. The bound should rise from 1 to 10 and from 10 to
# 100 codes, by more than {{ min_rise }} nats in all. For comparison: a VAE with two hidden layers
# of 200 units and a code of 50 numbers is reported at a negative log-likelihood of
# {{ published_nll }} nats (Burda et al., 2016, table 1, estimated with 5,000 codes). Their zeros
# and ones were drawn at random from the grey pixels, anew in each epoch; ours are rounded once,
# which makes them easier to predict. So the two are neighbours, not rivals.

# %% figure="rise"
set_seed(3)
some = torch.cat([images for images, _ in test_loader])[:500].to(device)
n_samples = [1, 10, 100]
with torch.no_grad():
    bounds = [log_likelihood(model, some, k).mean().item() for k in n_samples]
plot_sweep(
    n_samples,
    bounds,
    xlabel="codes for each image, K",
    ylabel="estimate of log p(x), nats per image",
    title="The bound rises with the number of codes",
)

# %% [markdown]
# Take a walk in the latent space: choose a test digit, and move its mean along one dimension. Most
# dimensions change something; does any do nothing?


# %% figure="explorer"
@torch.no_grad()
def move(digit, dimension, by):
    code, _ = model.encoder(some[digit : digit + 1])
    code[:, dimension] += by
    return model.decoder(code).view(1, 1, 28, 28).cpu()


model.eval()
explore(move, by=(-4.0, 3.0, 4.0), dimension=(0, latent_dim - 1), digit=(0, 99))

# %% [markdown]
# The layers and parameters of the encoder, for your report:

# %% figure="summary"
print(summary(model.encoder, (784,)))

# %% [markdown] written="bounds" points=2
# **Question 3 (2 points).** Why does the estimate rise with $K$, although the weights' mean has the
# same expectation for every $K$? And what do $\mathcal{L}_1$ and $\mathcal{L}_{100}$ of your model
# tell about $\operatorname{KL}(q(z \mid x) \,\|\, p(z \mid x))$?
#
# ### BEGIN SOLUTION
# The logarithm is concave, so by Jensen's inequality $\mathbb{E} \log \hat{p} \le \log
# \mathbb{E}\hat{p} = \log p(x)$, where $\hat{p}$ is the mean of $K$ weights. How much is lost
# depends on how much $\hat{p}$ scatters: the mean of more weights scatters less, so less is lost,
# and the estimate rises towards $\log p(x)$. The gap of $\mathcal{L}_1$ is exactly $\log p(x) -
# \mathcal{L}_1 = \operatorname{KL}(q(z \mid x) \,\|\, p(z \mid x))$. Since $\mathcal{L}_{100} \le
# \log p(x)$, the difference $\mathcal{L}_{100} - \mathcal{L}_1$, a few nats, is a lower bound of
# it: so much, at least, is $q$ wrong.
#
# **Marking:** 1 for Jensen's inequality with the smaller scatter of larger means; 1 for the
# difference as a lower bound of the divergence, with the figure.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Train with $-\mathcal{L}_5$ as the loss. Which dimensions come to life, and what happens to the
#   ELBO?
# - Draw the zeros and ones anew in each epoch, as the paper did, and compare your figure again.
# - Estimate $\log p(x)$ with codes drawn from the prior instead of $q$. How many would you need?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d7_elbo", student="your-id")
