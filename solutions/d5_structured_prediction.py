# %% [markdown]
# # {{ title }}
#
# Cover three quarters of a handwritten digit. What was on them? Often there is no single right
# answer: the lower left corner of a 4 could belong to a 9 or a 7 as well. A network with one answer
# must hedge, and its answer is a blur. A conditional variational autoencoder gives *several*
# answers, and each of them is a digit.
#
# You will cut out the quarter, write a baseline with one answer, use your `myVAE` once more, train
# both, and compare them with the right yardstick.
#
# **Goal:** a training loss below **{{ max_loss }} nats per image** within {{ max_epochs }} epochs,
# and below {{ max_test_loss }} on test digits, with at most {{ max_parameters }} parameters in each
# of the two models. The log likelihood of the hidden quarters should be above {{ min_baseline }}
# nats per image for the baseline, and higher by more than {{ min_gain }} for the conditional VAE.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.deliverables import get
from helpers.notebook import check, handin
from helpers.plotting import draw_completion, explore, plot_image_rows, plot_losses, plot_sweep
from helpers.training import pick_device, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# *Structured prediction* means that the answer has many parts which depend on each other, here
# $3 \cdot 196 = 588$ hidden pixels. Given the visible quarter $c$, we want the distribution
# $p(x \mid c)$ of whole images, and not one image.
#
# The **baseline** is a network $x = h(c)$ with one answer. It treats the pixels as independent,
# given $c$, so where a stroke may or may not pass it can only answer grey.
#
# The **conditional VAE** (Sohn, Lee & Yan, 2015) draws a code first: $z \sim \mathcal{N}(0, I)$,
# then $x \sim p_\theta(x \mid z, c)$. The code decides between the possible answers, and given the
# code the pixels agree with each other. It is the model of the last deliverable; only the condition
# is another.

# %% figure="diagram"
draw_completion(MNIST(train=False, transform=transforms.ToTensor())[4][0])

# %% [markdown]
# ## Task 1: the visible quarter
#
# Images are arrays of rows: row 0 is at the top, column 0 at the left. The visible part is the
# lower left quarter, rows 14 to 27 and columns 0 to 13, flattened row after row to
# {{ quarter_dim }} numbers. Leave the images themselves as they are.


# %% solution="quarter_function"
def lower_left_quarter(images):
    """The visible part of images.

    Args:
        images: (N, 1, 28, 28).

    Returns:
        The lower left quarters, flattened: (N, 196).
    """
    # TODO: cut it out and flatten it.
    ### BEGIN SOLUTION
    return images[:, :, 14:, :14].flatten(1)
    ### END SOLUTION


# %% check="quarter"
check("d5_structured_prediction.quarter")


# %% figure="quarters"
def uncovered(quarters):
    """Quarters (N, 196) in their place, and grey where the image is hidden: (N, 1, 28, 28)."""
    images = torch.full((len(quarters), 1, 28, 28), 0.5)
    images[:, 0, 14:, :14] = quarters.view(-1, 14, 14)
    return images


digits = MNIST(train=True, transform=transforms.ToTensor())
some = torch.stack([digits[number][0] for number in range(10)])
plot_image_rows({"image": some, "visible": uncovered(lower_left_quarter(some))})

# %% [markdown]
# ## Task 2: the baseline
#
# Give it the capacity of the decoder, so that what you compare later is the idea and not the size:
# between {{ min_capacity }} and {{ max_capacity }} times the decoder's parameters. With the same
# number of layers, of the same width, you get there. It uses all of its layers and ends in one
# Sigmoid. It draws nothing at random and gives one answer to one quarter; Dropout, which is idle in
# eval mode, is fine. It leaves the quarters as they are.


# %% solution="baseline_class"
class BaselineNN(nn.Module):
    """One answer: quarters (N, 196) -> images (N, 1, 28, 28).

    Args:
        input_dim: numbers in a quarter, 196.
        hidden_dim: width of the hidden layers.
        output_dim: pixels in an image, 784.
    """

    def __init__(self, input_dim, hidden_dim, output_dim):
        super().__init__()
        # TODO: the layers.
        ### BEGIN SOLUTION
        self.layers = nn.Sequential(
            nn.Linear(input_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.LeakyReLU(),
            nn.Linear(hidden_dim, output_dim),
            nn.Sigmoid(),
            nn.Unflatten(1, (1, 28, 28)),
        )
        ### END SOLUTION

    def forward(self, quarters):
        """Predict images: (N, 196) -> (N, 1, 28, 28)."""
        # TODO: the images.
        ### BEGIN SOLUTION
        return self.layers(quarters)
        ### END SOLUTION


# %% check="baseline_network"
check("d5_structured_prediction.baseline_network")

# %% [markdown]
# ## Task 3: the conditional VAE and its loss
#
# Bring your `myVAE` and your `loss_function` from the last deliverable. If they are general enough,
# nothing changes: the condition has 196 numbers in place of 10. The class should still take
# conditions of any length, from `conditional_vec_dim`, and a quarter that is all black is a
# condition like any other. In this notebook there is always a condition, so what the class does
# without one does not matter.
#
# As before, the decoder ends in one Sigmoid, and all layers are used. Each call of the model draws
# new noise for each image and each dimension, in training and in evaluation mode alike, and sets no
# seed. The model and the loss leave the tensors that they are given as they are.


# %% solution="model_class" common="cvae"

# %% check="architecture"
check("d5_structured_prediction.architecture")


# %% solution="loss_function" common="vae_loss"

# %% check="loss"
check("d5_structured_prediction.loss")

# %% [markdown]
# ## Task 4: the settings
#
# `latent_dim` is between {{ min_latent_dim }} and {{ max_latent_dim }}, `n_epochs` at most
# {{ max_epochs }}, for both models. Each may have at most {{ max_parameters }} parameters.

# %% solution="choices" common="vae_choices"

# %% given="model"
train_loader = Loader(MNIST(train=True, transform=transforms.ToTensor()), batch_size, shuffle=True)
test_set = MNIST(train=False, transform=transforms.ToTensor())


def cross_entropy(x_hat, x):
    """Binary cross-entropy, summed over the pixels: nats per image."""
    return nn.functional.binary_cross_entropy(x_hat, x, reduction="sum") / len(x)


set_seed(0)
baseline = BaselineNN(14 * 14, hidden_dim, 28 * 28).to(device)
baseline_optimizer = optim.Adam(baseline.parameters(), lr=learning_rate)

set_seed(0)
model = myVAE(28 * 28, hidden_dim, latent_dim, conditional_vec_dim=14 * 14).to(device)
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"baseline: {count_parameters(baseline):,} parameters, on {device}")
print(f"decoder:  {count_parameters(model.decoder):,} of the VAE's {count_parameters(model):,}")

# %% check="settings"
check("d5_structured_prediction.settings")

# %% [markdown]
# ## Task 5: one epoch of training
#
# For the VAE the images are given, and their quarters are the condition. For the baseline the
# quarters are all that is given, and the whole images are the target. Both functions train in
# training mode, with the loss and the optimizer that they are given.


# %% solution="train_both"
def train_epoch(model, loader, loss_function, optimizer, device):
    """Train the conditional VAE for one epoch.

    Args:
        model: returns x_hat, mu and logvar for images and quarters.
        loader: gives images (N, 1, 28, 28) and labels (N,); the labels are not needed.
        loss_function: the loss of (x_hat, x, mu, logvar).
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
        x_hat, mu, logvar = model(images, lower_left_quarter(images))
        loss = loss_function(x_hat, images, mu, logvar)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


def train_baseline(model, loader, criterion, optimizer, device):
    """Train the baseline for one epoch.

    Args:
        model: returns images for quarters.
        loader: as above.
        criterion: the loss of (predicted images, images).
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
        loss = criterion(model(lower_left_quarter(images)), images)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% check="training"
check("d5_structured_prediction.training")

# %% [markdown]
# ## Task 6: one answer of many
#
# At test time the image is not known, so the encoder has nothing to read: it was needed for
# training only. Draw a code for each quarter from the **prior**, put the quarter after it, in the
# order of training, and decode. Set no seed in there, leave the quarters as they are, and do not
# put the model into training mode.


# %% solution="completion"
def complete(model, quarters, latent_dim):
    """One possible image for each quarter.

    Args:
        model: a conditional VAE.
        quarters: (N, 196), on the model's device.
        latent_dim: numbers in a code, Z.

    Returns:
        Images (N, 1, 28, 28), another draw at each call.
    """
    # TODO: draw codes, decode them with the quarters as condition.
    ### BEGIN SOLUTION
    z = torch.randn(len(quarters), latent_dim, device=quarters.device)
    return model.decoder(torch.cat([z, quarters], dim=1))
    ### END SOLUTION


# %% check="prediction"
check("d5_structured_prediction.prediction")

# %% [markdown]
# ## Train
#
# Two trainings follow: the first cell calls your `train_baseline` once an epoch, the second your
# `train_epoch`. Each draws the progress and keeps its result in the folder `checkpoints`. Run
# again, they restore those results and do not train. To train anew after a change, delete the
# folder and run the cell that builds the two models again before these.

# %% train="baseline"
baseline_history = train_or_restore(
    "baseline",
    baseline,
    lambda batches: train_baseline(baseline, batches, cross_entropy, baseline_optimizer, device),
    train_loader,
    n_epochs,
)

# %% train="cvae"
history = train_or_restore(
    "cvae",
    model,
    lambda batches: train_epoch(model, batches, loss_function, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d5_structured_prediction.result")

# %% [markdown]
# ## Results
#
# The two losses are not of the same kind (the VAE's encoder has seen the whole image, and its loss
# holds a KL divergence), so do not compare them with each other. Each should have settled.

# %% figure="losses"
plot_losses(
    {"conditional VAE": history.losses, "baseline": baseline_history.losses},
    threshold=get("d5_structured_prediction").max_loss,
    title="Training losses",
    ylabel="nats per image",
)

# %% [markdown]
# Ten test digits. Look at the baseline's grey veils, and at the draws: each is a clean digit, and
# where the quarter leaves a choice they choose differently. The visible quarter should be the same
# everywhere.

# %% figure="completions"
baseline.eval()
model.eval()
test_images = torch.stack([test_set[number][0] for number in range(100)])
ten = test_images[:10]
quarters = lower_left_quarter(ten).to(device)
set_seed(1)
with torch.no_grad():
    rows = {
        "ground truth": ten,
        "visible": uncovered(quarters.cpu()),
        "baseline": baseline(quarters).cpu(),
    }
    for number in range(1, 7):
        rows[f"draw {number}"] = complete(model, quarters, latent_dim).cpu()
plot_image_rows(rows)

# %% [markdown]
# Which model is better? Not the one with the smaller squared error: blur is good at that. Ask
# instead how probable each model thinks what was really there. For the VAE this is
#
# $$\log p(x \mid c) \approx \log \frac{1}{S} \sum_{s=1}^{S} p_\theta(x \mid z_s, c), \qquad
# z_s \sim \mathcal{N}(0, I) ,$$
#
# counted over the hidden pixels. With few draws the estimate is low, since none of them may come
# close to the truth; it rises with $S$ towards the model's real value.


# %% figure="likelihood"
@torch.no_grad()
def hidden_likelihood(x_hat, x):
    """Log likelihood of the hidden pixels of each image, (N,), in nats."""
    pixels = nn.functional.binary_cross_entropy(x_hat, x, reduction="none")[:, 0]
    pixels[:, 14:, :14] = 0
    return -pixels.flatten(1).sum(dim=1)


test_quarters = lower_left_quarter(test_images).to(device)
with torch.no_grad():
    terms = torch.stack(
        [
            hidden_likelihood(complete(model, test_quarters, latent_dim).cpu(), test_images)
            for _ in range(256)
        ]
    )
    one_answer = hidden_likelihood(baseline(test_quarters).cpu(), test_images).mean().item()
sizes = [1, 4, 16, 64, 256]
estimates = [
    (terms[:size].logsumexp(dim=0) - torch.tensor(size).log()).mean().item() for size in sizes
]
plot_sweep(
    sizes,
    estimates,
    xlabel="draws from the prior",
    ylabel="log likelihood, nats per image",
    title=f"Hidden quarters of test digits; the baseline reaches {one_answer:.0f}",
)


# %% [markdown]
# Draw again and again, for the quarter of your choice (above).


# %% figure="explorer"
def draw_again(digit, draw):
    torch.manual_seed(draw)
    visible = test_quarters[digit : digit + 1]
    with torch.no_grad():
        answer = complete(model, visible, latent_dim).cpu()
    return torch.cat([uncovered(visible.cpu()), answer], dim=2)


explore(draw_again, draw=(1, 40), digit=(0, 31))

# %% [markdown]
# The layers and parameters, for your report (of the decoder, which reads a code and a quarter):

# %% figure="summary"
print(summary(model.decoder, (latent_dim + 14 * 14,)))

# %% [markdown] written="prior" points=5
# **Question 1 (5 points).** Why must the code be drawn from the prior at test time, and not from
# the encoder's distribution, as in training? Suppose that somebody reports reconstructions
# $\hat{x}$ of `model(x, c)` on test images as "predictions from a quarter". What is wrong, and
# which way does it change the figures?
#
# ### BEGIN SOLUTION
# The encoder computes $q(z \mid x, c)$ from the whole image $x$, which is exactly what is to be
# predicted. At test time only $c$ is there, and the model's own distribution of codes is then the
# prior. Using the encoder lets the code carry the answer: the "predictions" are reconstructions,
# far too good, and hardly vary. The reported likelihood would lack what the code costs (the KL
# divergence), so it is too high; even with the KL it would be a bound computed with knowledge of
# the image, a valid figure for the model but no prediction.
#
# **Marking:** 2 for the encoder needing the image to be predicted; 1 for the prior being what the
# model prescribes; 1 for figures that are too good; 1 for the missing KL cost or the missing
# variation between draws.
# ### END SOLUTION

# %% [markdown] written="yardstick" points=5
# **Question 2 (5 points).** Imagine a quarter that fits two digits equally well, and two hidden
# pixels: in one digit both are white, in the other both are black. Give the best answer of the
# baseline and its log likelihood for these two pixels. Give the same for a model with a code that
# has two values. What does the squared error say about a single draw of the second model, compared
# with the baseline?
#
# ### BEGIN SOLUTION
# The baseline must give each pixel a probability; the best is $1/2$ each, and the likelihood of
# either truth is $\frac{1}{2} \cdot \frac{1}{2} = \frac{1}{4}$, so $\log \frac{1}{4} = -1.39$ nats.
# With a code that is one of two values with probability $1/2$, the pixels given the code are
# certain, and the likelihood is $\frac{1}{2} \cdot 1 + \frac{1}{2} \cdot 0 = \frac{1}{2}$, that is
# $-0.69$ nats: the dependence of the pixels is worth $\log 2$, and it grows with the number of
# pixels. The squared error of the baseline is $2 \cdot \frac{1}{4} = 0.5$, always. A draw of the
# second model has 0 in half of the cases and 2 in the others, 1 on average: the squared error
# prefers the blur.
#
# **Marking:** 1 for grey and $\log \frac14$; 2 for $\log \frac12$ with the sum over codes; 1 for
# naming the dependence between pixels as the reason; 1 for the squared errors, 0.5 against 1 on
# average.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Use two quarters as the condition, or one row. How does the variety of the draws change?
# - Learn the prior: let a network give the mean and variance of $p(z \mid c)$, as the paper does.
# - Search the test set for the quarter whose draws differ most.

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d5_structured_prediction", student="your-id")
