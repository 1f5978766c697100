# %% [markdown]
# # {{ title }}
#
# Take a digit, and spoil it: add noise until you can hardly read it. Then train a network to give
# the clean digit back. To succeed it must know what digits look like, since the noisy pixels alone
# do not say enough. That knowledge, learned without a single label, is what we are after.
#
# You will write four things: the noise, the model, its settings, and one epoch of training. After
# each there is a check.
#
# **Goal:** a mean squared error below **{{ max_loss }}** between denoised and clean training
# images, and below {{ max_test_loss }} for test images, within {{ max_epochs }} epochs and with no
# more than **{{ max_parameters }} parameters**: about a hundredth of what the fully connected model
# was allowed. Convolutions make it possible.

# %% common="setup"

# %% given="imports"
import torch
from torch import nn, optim
from torchvision import transforms

from helpers.budget import count_parameters, summary
from helpers.data import MNIST, Loader
from helpers.deliverables import get
from helpers.notebook import check, handin
from helpers.plotting import draw_denoiser, explore, plot_image_rows, plot_losses, plot_sweep
from helpers.training import pick_device, same_randomness, set_seed, train_or_restore

device = pick_device()

# %% [markdown]
# ## The idea
#
# An autoencoder with a wide bottleneck has an easy way out: it copies its input. Noise closes it. A
# **denoising autoencoder** (Vincent et al., 2008) sees a spoiled image $\tilde{x}$ and is compared
# with the clean image $x$:
#
# $$L = \frac{1}{N D} \sum_{n=1}^{N} \left\lVert x_n - g(f(\tilde{x}_n)) \right\rVert^2 ,
# \qquad \tilde{x} = \operatorname{clip}(x + \sigma \varepsilon, 0, 1), \quad
# \varepsilon \sim \mathcal{N}(0, I) .$$
#
# Copying the input would now copy the noise, and the noise is never in the target.

# %% figure="diagram"
draw_denoiser(MNIST(train=False, transform=transforms.ToTensor())[0][0])

# %% [markdown]
# What would a perfect network answer? One noisy image may come from several clean digits, and the
# squared error is smallest for their *mean*, weighted by how likely each is: $g(f(\tilde{x})) =
# \mathbb{E}[x \mid \tilde{x}]$. Remember this when you look at the results: where the noise leaves
# doubt, the answer is a blur.
#
# ## Task 1: the noise
#
# Add Gaussian noise of standard deviation `std` to each pixel, afresh for each image and at each
# call. Then clip to [0, 1], since no pixel is darker than black or brighter than white. Leave the
# images that you were given as they are (no `+=`, no `clamp_`): they are the target.


# %% solution="noise"
def add_noise(images, std=0.5):
    """Spoil images with Gaussian noise, and clip them to [0, 1].

    Args:
        images: (N, 1, 28, 28) in [0, 1].
        std: standard deviation of the noise, before clipping.

    Returns:
        A new tensor of the same shape and dtype, in [0, 1].
    """
    # TODO: the noisy images.
    ### BEGIN SOLUTION
    return (images + std * torch.randn_like(images)).clamp(0, 1)
    ### END SOLUTION


# %% check="add_noise"
check("d2_denoising.add_noise")

# %% figure="noisy"
training_digits = MNIST(train=True, transform=transforms.ToTensor())
some = torch.stack([training_digits[n][0] for n in range(10)])
plot_image_rows({"clean": some, "noisy": add_noise(some), "half the noise": add_noise(some, 0.25)})

# %% [markdown]
# ## Task 2: the model
#
# A convolution looks at a small window and uses the same weights everywhere: a $k \times k$ kernel
# from $a$ to $b$ channels has $abk^2 + b$ parameters, however large the image.
#
# Both halves are an `nn.Sequential`, and all that the model learns is in these two. In each half,
# use only the layers that are named for it, and `Dropout` if you like: no `Linear`, no `Upsample`,
# no other activations.
#
# **The encoder** has at least three blocks of `Conv2d`, `BatchNorm2d`, `LeakyReLU` and
# `MaxPool2d(2)`. If its convolutions keep the size, three blocks halve height and width like this,
# rounding down: 28, 14, 7, 3.
#
# **The decoder** has at least three stages of `ConvTranspose2d`, with `BatchNorm2d` and `LeakyReLU`
# between and a `Sigmoid` at the end, without a `LeakyReLU` before it. It must come back to exactly
# 28. From $h$ pixels, a transposed convolution with kernel $k$, stride $s$ and padding $p$ makes
#
# $$h' = (h - 1)\,s - 2p + k \quad (+\ \text{output padding}) .$$
#
# Work out on paper how to get from 3 to 7, to 14, to 28 before you run anything. Ending at 29 or 32
# is the usual slip.
#
# The code, channels times height times width, must hold fewer numbers than the image has pixels.
# `forward` decodes the code of the images that it is given, which it leaves as they are, and
# returns the decoded images alone.


# %% solution="model_class"
class DenoiseAE(nn.Module):
    """A convolutional autoencoder: (N, 1, 28, 28) -> (N, channels, h, w) -> (N, 1, 28, 28)."""

    def __init__(self):
        super().__init__()
        # TODO: self.encoder, an nn.Sequential from (N, 1, 28, 28) to (N, channels, h, w) with
        #       channels * h * w below 784, and self.decoder, an nn.Sequential all the way back.
        ### BEGIN SOLUTION
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, kernel_size=3, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 24, kernel_size=3, padding=1),
            nn.BatchNorm2d(24),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
        )
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(24, 16, kernel_size=3, stride=2),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(16, 16, kernel_size=4, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(),
            nn.ConvTranspose2d(16, 1, kernel_size=4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        ### END SOLUTION

    def forward(self, x):
        """Denoise images: (N, 1, 28, 28) -> (N, 1, 28, 28)."""
        # TODO: encode x, decode the code, return the images.
        ### BEGIN SOLUTION
        return self.decoder(self.encoder(x))
        ### END SOLUTION


# %% check="architecture"
check("d2_denoising.architecture")

# %% [markdown]
# ## Task 3: the settings
#
# At most {{ max_epochs }} epochs and {{ max_parameters }} parameters. A small convolutional model
# likes a larger learning rate than the one you used before: try some between $10^{-3}$ and
# $10^{-2}$. Small batches take more steps an epoch, and more time.

# %% solution="choices"
# TODO: set batch_size, n_epochs (whole numbers) and learning_rate.
### BEGIN SOLUTION
batch_size = 128
n_epochs = 12
learning_rate = 4e-3
### END SOLUTION

# %% given="model"
train_loader = Loader(MNIST(train=True, transform=transforms.ToTensor()), batch_size, shuffle=True)

set_seed(0)
model = DenoiseAE().to(device)
criterion = nn.MSELoss()
optimizer = optim.Adam(model.parameters(), lr=learning_rate)
print(f"{count_parameters(model):,} parameters, on {device}")

# %% check="settings"
check("d2_denoising.settings")

# %% [markdown]
# ## Task 4: one epoch of training
#
# For each batch: spoil the images as your `add_noise` does, denoise them, compare with the
# **clean** images, take a step. New noise for each batch, every time: with the same noise in each
# epoch the model could learn it by heart.
#
# Return the mean loss over all images, a plain number. `model.train()` tells BatchNorm to use the
# statistics of the batch; for the results we switch to `model.eval()`, which uses the averages
# gathered on the way.


# %% solution="train_epoch"
def train_epoch(model, loader, criterion, optimizer, device):
    """Train for one epoch.

    Args:
        model: the denoiser.
        loader: gives clean images (N, 1, 28, 28) and labels (N,); the labels are not needed.
        criterion: the loss of (denoised images, clean images).
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
        loss = criterion(model(add_noise(images)), images)
        loss.backward()
        optimizer.step()
        total += loss.item() * len(images)
        n_images += len(images)
        ### END SOLUTION
    return total / n_images


# %% check="training"
check("d2_denoising.training")

# %% [markdown] common="training"

# %% train="denoiser"
history = train_or_restore(
    "denoiser",
    model,
    lambda batches: train_epoch(model, batches, criterion, optimizer, device),
    train_loader,
    n_epochs,
)

# %% check="result"
check("d2_denoising.result")

# %% [markdown]
# ## Results

# %% figure="losses"
plot_losses(
    history,
    threshold=get("d2_denoising").max_loss,
    title="Training loss",
    ylabel="mean squared error",
)

# %% [markdown]
# Test digits that the model has never seen. Compare the rows: which strokes does it restore that
# you could not have guessed, and where does it blur because it cannot know?

# %% figure="denoised"
model.eval()
clean, _ = next(iter(Loader(MNIST(train=False, transform=transforms.ToTensor()), batch_size=100)))
noisy = add_noise(clean)
with torch.no_grad():
    denoised = model(noisy.to(device)).cpu()
plot_image_rows({"noisy": noisy, "denoised": denoised, "clean": clean})

# %% [markdown]
# The model was trained for one strength of noise. How does it do with others? Without any noise it
# has still to pass the bottleneck, so the error does not go to zero.

# %% figure="strengths"
hundredths, errors = [12, 25, 50, 100, 200], []
for hundredth in hundredths:
    with torch.no_grad():
        output = model(add_noise(clean, hundredth / 100).to(device)).cpu()
    errors.append(criterion(output, clean).item())
plot_sweep(
    hundredths, errors, xlabel="standard deviation of the noise, in hundredths", ylabel="test MSE"
)


# %% [markdown]
# Move the sliders: the spoiled digit is above, what the model makes of it below.


# %% figure="explorer"
def spoil_and_denoise(digit, noise):
    with same_randomness():
        torch.manual_seed(0)  # the same noise pattern, weaker or stronger
        spoiled = add_noise(clean[digit : digit + 1], noise)
    with torch.no_grad():
        return torch.cat([spoiled, model(spoiled.to(device)).cpu()], dim=2)


explore(spoil_and_denoise, noise=(0.05, 0.5, 1.55), digit=(0, len(clean) - 1))

# %% [markdown]
# The model's layers and parameters, for your report:

# %% figure="summary"
print(summary(model, (1, 28, 28)))

# %% [markdown] written="bottleneck" points=5
# **Question 1 (5 points).** Your code holds `channels * h * w` numbers. What happens to the
# denoised images if it is made much smaller? What if it is made as large as the image or larger:
# why is that less dangerous here than in an autoencoder without noise, and what still speaks
# against it?
#
# ### BEGIN SOLUTION
# Too small a code cannot hold what tells one image from another: strokes lose their individual
# shape, outputs drift towards a typical digit, and the error rises even without any noise. With a
# code as large as the image an ordinary autoencoder can learn to copy, and the code need not
# describe anything. Here copying the input reproduces the noise, which the clean target punishes,
# so even a wide model must learn what clean digits look like. What still speaks against it:
# capacity to pass noise through or to fit the training images, more parameters and computing, and a
# code that is no summary. The best size is the smallest at which the error stops falling.
#
# **Marking:** 1 for loss of individual detail with a small code; 1 for copying in the plain
# autoencoder; 2 for why noise prevents it (the target is not the input); 1 for a reason against a
# very large code.
# ### END SOLUTION

# %% [markdown] written="blur" points=5
# **Question 2 (5 points).** Show that among all functions $h$, the expected squared error
# $\mathbb{E}\,(x - h(\tilde{x}))^2$ of one pixel is smallest for
# $h(\tilde{x}) = \mathbb{E}[x \mid \tilde{x}]$. Use this to explain the blur in your pictures.
#
# ### BEGIN SOLUTION
# Write $m(\tilde{x}) = \mathbb{E}[x \mid \tilde{x}]$ and $x - h = (x - m) + (m - h)$. Squaring and
# taking the expectation given $\tilde{x}$, the mixed term is $2 (m - h)\,\mathbb{E}[x - m \mid
# \tilde{x}] = 0$, since $m$ and $h$ are fixed by $\tilde{x}$. So $\mathbb{E}(x - h)^2 =
# \mathbb{E}\operatorname{Var}(x \mid \tilde{x}) + \mathbb{E}(m - h)^2$, smallest for $h = m$. Where
# several clean images are compatible with a noisy one, $m$ is their average: edges whose position
# is uncertain become grey ramps, and an uncertain stroke becomes a pale one. The blur is the honest
# answer under this loss, and no sign of a badly trained model; it grows with the noise.
#
# **Marking:** 2 for the decomposition; 1 for the vanishing mixed term, with its reason; 1 for the
# conclusion; 1 for the average over compatible images as the cause of the blur.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Train with noise of a random strength for each image. Which of the errors above improve?
# - Replace the noise by missing patches: set a random 10 by 10 square to zero.
# - Subtract: let the network predict the noise instead of the image. That small change is at the
#   heart of diffusion models, the last deliverables of this course.

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d2_denoising", student="your-id")
