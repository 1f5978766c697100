# %% [markdown]
# # {{ title }}
#
# Your first autoencoder drew a map of the digits, but a patchy one: decode a point from a gap, and
# you get a smear. In this notebook you build a model whose map has no gaps. Draw a random point,
# decode it, and a new digit appears that nobody ever wrote.
#
# You will write the model with its random step, the loss, the settings and one epoch of training.
#
# **Goal:** a training loss below **{{ max_loss }} nats per image**, and a test loss below
# {{ max_test_loss }}, within {{ max_epochs }} epochs, {{ max_parameters }} parameters and
# {{ min_latent_dim }} to {{ max_latent_dim }} latent dimensions.

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
    draw_vae,
    explore,
    plot_image_rows,
    plot_latent_space,
    plot_losses,
    visualize_img_batch,
)
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# Tell a story of how an image comes about: first a code is drawn, $z \sim \mathcal{N}(0, I)$, then
# an image is drawn given the code, $x \sim p_\theta(x \mid z)$. The second step is the **decoder**:
# it gives, for each pixel, the probability $\hat{x}$ of being white. To make new digits we would
# only have to follow the story.
#
# For training we need the way back: which codes could have made this image? The **encoder** answers
# not with one code but with a distribution of them, a normal one with a mean and a variance for
# each of the $Z$ dimensions (Kingma & Welling, 2014):
#
# $$q_\phi(z \mid x) = \mathcal{N}\!\left(\mu(x), \operatorname{diag} \sigma^2(x)\right) .$$
#
# Networks like to give any number, and a variance is positive. So the network gives its logarithm,
# $\log \sigma^2$, called `logvar` in the code.

# %% figure="diagram"
draw_vae(MNIST(train=False, transform=transforms.ToTensor())[0][0])

# %% [markdown]
# **The loss** is what the story costs, in nats. For one image,
#
# $$L = \underbrace{-\sum_{i=1}^{784} \left[ x_i \log \hat{x}_i + (1 - x_i) \log (1 - \hat{x}_i)
# \right]}_{\text{reconstruction: binary cross-entropy}}
# \;+\; \underbrace{\operatorname{KL}\!\left( q_\phi(z \mid x) \,\|\, \mathcal{N}(0, I)
# \right)}_{\text{how far the codes are from the prior}} .$$
#
# The first term wants codes that say as much as possible about the image; the second wants them to
# look like draws from $\mathcal{N}(0, I)$. The balance makes the map: close to the origin, and
# without gaps. For pixels that are black or white, 0 or 1, $-L$ is a lower bound of $\log
# p_\theta(x)$, the **evidence lower bound** or ELBO; a later deliverable derives it. MNIST has some
# grey pixels too. For them the first term is still a sensible cost, but no longer the logarithm of
# a probability.
#
# ## Task 1: the model
#
# **The random step.** We must draw $z$ from $q_\phi(z \mid x)$ and still send gradients to $\mu$
# and $\sigma$. A draw has no derivative. The *reparameterisation trick* moves the chance outside:
# draw $\varepsilon \sim \mathcal{N}(0, I)$, which depends on nothing, and compute
#
# $$z = \mu + \sigma \odot \varepsilon, \qquad
# \sigma = \exp\!\left(\tfrac{1}{2} \log \sigma^2\right) .$$
#
# Now $z$ is an ordinary function of $\mu$ and $\sigma$. Each call draws new noise for each image
# and each dimension, in training and in evaluation mode alike. Set no seed in `reparameterize` or
# `forward`: that would also fix all other random numbers of the notebook.
#
# **The layers.** `encoder` takes the images to a hidden vector; the linear layers `mu_layer` and
# `logvar_layer` read $\mu$ and $\log \sigma^2$ off it, with no activation after them; `decoder`
# takes a code back to an image, with one Sigmoid at the end, so that each pixel can have any value
# from 0 to 1. Three linear layers of one width in encoder and decoder are a good start; other
# layers, Dropout and BatchNorm are welcome, as long as in evaluation mode each image is encoded
# independently of the others. Every layer must have a part in the image that comes out. The methods
# of the model, and the loss below, leave the tensors that they are given as they are. The argument
# `conditional_vec_dim` can wait: the next deliverable needs it.


# %% solution="model_class"
class myVAE(nn.Module):
    """A fully connected variational autoencoder.

    Args:
        input_dim: pixels in an image, 784.
        hidden_dim: width of the hidden layers, H_d.
        latent_dim: numbers in a code, Z.
        conditional_vec_dim: numbers in a condition; 0 in this deliverable.
    """

    def __init__(self, input_dim, hidden_dim, latent_dim, conditional_vec_dim=0):
        super().__init__()
        # TODO: self.encoder, an nn.Sequential: (N, 1, 28, 28) -> (N, H_d)
        #       self.mu_layer and self.logvar_layer, nn.Linear: (N, H_d) -> (N, Z)
        #       self.decoder, an nn.Sequential: (N, Z) -> (N, 1, 28, 28)
        ### BEGIN SOLUTION
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(input_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
        )
        self.mu_layer = nn.Linear(hidden_dim, latent_dim)
        self.logvar_layer = nn.Linear(hidden_dim, latent_dim)
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

    @staticmethod
    def reparameterize(mu, logvar):
        """Draw codes from N(mu, exp(logvar)), so that gradients reach mu and logvar.

        Args:
            mu: means (N, Z).
            logvar: logarithms of the variances (N, Z).

        Returns:
            Codes z (N, Z).
        """
        # TODO: draw eps, return z.
        ### BEGIN SOLUTION
        return mu + torch.exp(logvar / 2) * torch.randn_like(mu)
        ### END SOLUTION

    def forward(self, x, c=None):
        """Encode, draw a code, decode.

        Args:
            x: images (N, 1, 28, 28).
            c: a condition; None in this deliverable.

        Returns:
            x_hat (N, 1, 28, 28), mu (N, Z) and logvar (N, Z).
        """
        # TODO: the hidden vector, mu and logvar, the code, the image.
        ### BEGIN SOLUTION
        hidden = self.encoder(x)
        mu, logvar = self.mu_layer(hidden), self.logvar_layer(hidden)
        return self.decoder(self.reparameterize(mu, logvar)), mu, logvar
        ### END SOLUTION


# %% check="architecture"
check("d3_vae.architecture")

# %% check="reparameterize"
check("d3_vae.reparameterize")

# %% check="forward"
check("d3_vae.forward")

# %% [markdown]
# ## Task 2: the loss
#
# For two normal distributions the KL divergence has a closed form (the paper's appendix B; you will
# derive it below):
#
# $$\operatorname{KL} = -\frac{1}{2} \sum_{j=1}^{Z}
# \left( 1 + \log \sigma_j^2 - \mu_j^2 - \sigma_j^2 \right) .$$
#
# Both terms are **sums** over an image's pixels and a code's dimensions, and the loss is the
# **mean** over the $N$ images of the batch. Mind which is which: averaging the cross-entropy over
# 784 pixels would make the KL divergence 784 times as important, and the best code would then say
# nothing at all. That is known as posterior collapse. Return the tensor, so that gradients can be
# computed from it, and mind pixels that are exactly 0 or 1: $\log 0$ is infinite, and
# `nn.functional.binary_cross_entropy` takes care of that.


# %% solution="loss_function" common="vae_loss"

# %% check="loss"
check("d3_vae.loss")

# %% [markdown]
# ## Task 3: the settings
#
# `latent_dim` is between {{ min_latent_dim }} and {{ max_latent_dim }}, `n_epochs` at most
# {{ max_epochs }}. Hidden widths of a few hundred keep within {{ max_parameters }} parameters.

# %% solution="choices" common="vae_choices"

# %% given="model"
train_loader = Loader(MNIST(train=True, transform=transforms.ToTensor()), batch_size, shuffle=True)
test_set = MNIST(train=False, transform=transforms.ToTensor())
test_loader = Loader(test_set, batch_size)

set_seed(0)
model = myVAE(input_dim=28 * 28, hidden_dim=hidden_dim, latent_dim=latent_dim).to(device)
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% check="settings"
check("d3_vae.settings")

# %% [markdown]
# ## Task 4: one epoch of training
#
# As before, with the new loss: the one that `train_epoch` is given, as its optimizer is. One code
# is drawn for each image of a batch: a single draw is a noisy estimate of the expectation over all
# codes, and over thousands of images that is good enough.


# %% solution="train_epoch" common="vae_train_epoch"

# %% check="training"
check("d3_vae.training")

# %% [markdown] common="training"

# %% train="vae"
history = train_or_restore(
    "vae",
    model,
    lambda batches: train_epoch(model, batches, loss_function, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d3_vae.result")

# %% [markdown]
# ## Results

# %% figure="losses"
plot_losses(
    history,
    threshold=get("d3_vae").max_loss,
    title="Training loss",
    ylabel="cross-entropy + KL, nats per image",
)

# %% [markdown]
# Ten test digits, each sent through the model ten times. Every time another code is drawn, so every
# time the image differs a little: this is how sure the model is of each digit.

# %% figure="variation"
model.eval()
test_images = torch.stack([test_set[number][0] for number in range(32)])
ten = test_images[:10]


@torch.no_grad()
def redraw(images, extra_logvar=0.0):
    """Each image once more, from a new code; `extra_logvar` widens the distribution."""
    hidden = model.encoder(images.to(device))
    mu, logvar = model.mu_layer(hidden), model.logvar_layer(hidden)
    return model.decoder(model.reparameterize(mu, logvar + extra_logvar)).cpu()


set_seed(1)
rows = {"original": ten} | {f"draw {number}": redraw(ten) for number in range(1, 11)}
plot_image_rows(rows, title="Ten draws for each digit")

# %% [markdown]
# Now with `logvar + 3`, about twenty times the variance. Some digits survive it and others turn
# into their neighbours. Which, and into what?

# %% figure="more_variation"
rows = {"original": ten} | {f"draw {number}": redraw(ten, 3.0) for number in range(1, 11)}
plot_image_rows(rows, title="Ten draws with 20 times the variance")

# %% [markdown]
# And the promise of the introduction: codes drawn from $\mathcal{N}(0, I)$, decoded. Nobody wrote
# these digits.

# %% figure="samples"
set_seed(2)
with torch.no_grad():
    samples = model.decoder(torch.randn(40, latent_dim, device=device)).cpu()
visualize_img_batch(samples, n=40, title="Decoded draws from N(0, I)")

# %% [markdown]
# The means of the test digits, projected on the plane in which they vary most. Compare with the map
# of the plain autoencoder: where is its centre, how long are its arms, and are there gaps?

# %% figure="latent_space"
plot_latent_space(lambda images: model.mu_layer(model.encoder(images)), test_loader, device)


# %% [markdown]
# Walk through the latent space yourself: choose a test digit, and move its code along one
# dimension.


# %% figure="explorer"
@torch.no_grad()
def move(digit, dimension, by):
    code = model.mu_layer(model.encoder(test_images[digit : digit + 1].to(device)))
    code[:, dimension] += by
    return model.decoder(code).cpu()


explore(move, by=(-4.0, 3.0, 4.0), dimension=(0, latent_dim - 1), digit=(0, 31))

# %% [markdown]
# The model's layers and parameters, for your report:

# %% figure="summary"
print(summary(model, (1, 28, 28)))

# %% [markdown] written="terms" points=4
# **Question 1 (4 points).** What would the model learn if the loss had only its first term? What if
# it had only the second? For each, say what $\mu$ and $\sigma$ become, and what decoded draws from
# $\mathcal{N}(0, I)$ look like.
#
# ### BEGIN SOLUTION
# Only the cross-entropy: noise in the code hurts reconstruction and nothing rewards it, so $\sigma
# \to 0$ and the means move apart, without bound. The model becomes a plain autoencoder: sharp
# reconstructions, codes spread unevenly far from the origin, and draws from $\mathcal{N}(0, I)$
# mostly fall where the decoder was never trained, giving smears. Only the KL divergence: it is zero
# for $\mu = 0$, $\sigma = 1$ whatever the image, so the codes say nothing about it; the decoder
# gets no gradient at all and keeps its random start, so decoded draws are grey noise. (If the
# decoder were trained on such codes, it would always give the mean image.)
#
# **Marking:** 1 for $\sigma \to 0$ and an ordinary autoencoder; 1 for poor samples, with the
# reason; 1 for $\mu = 0$, $\sigma = 1$; 1 for what is decoded then, untrained output or the mean
# image with a reason.
# ### END SOLUTION

# %% [markdown] written="kl" points=6
# **Question 2 (6 points).** Derive the formula of Task 2: for $q = \mathcal{N}(\mu, \sigma^2)$ and
# $p = \mathcal{N}(0, 1)$ in one dimension, compute $\operatorname{KL}(q \| p) = \mathbb{E}_q[\log
# q(z) - \log p(z)]$. Then say why the formula for $Z$ dimensions is the sum.
#
# ### BEGIN SOLUTION
# $\log q(z) = -\frac{1}{2}\log(2\pi\sigma^2) - \frac{(z - \mu)^2}{2\sigma^2}$ and $\log p(z) =
# -\frac{1}{2}\log(2\pi) - \frac{z^2}{2}$. Under $q$, $\mathbb{E}(z - \mu)^2 = \sigma^2$ and
# $\mathbb{E} z^2 = \mu^2 + \sigma^2$. Hence $\operatorname{KL} = -\frac{1}{2}\log\sigma^2 -
# \frac{1}{2} + \frac{1}{2}(\mu^2 + \sigma^2) = -\frac{1}{2}\left(1 + \log\sigma^2 - \mu^2 -
# \sigma^2\right)$. With a diagonal covariance both densities are products over the dimensions, so
# their logarithms are sums and so is the expectation of their difference.
#
# **Marking:** 1 for each of the two log densities; 1 for each of the two expectations; 1 for
# putting them together with the right sign; 1 for independence of the dimensions.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Multiply the KL divergence by a number $\beta$ from 0.1 to 10 and compare reconstructions with
#   samples.
# - How many of your latent dimensions does the model use? Plot the mean KL divergence of each.
# - Plot the loss that you would get with 1, 10 and 100 codes for each image. Does it change?

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d3_vae", student="your-id")
