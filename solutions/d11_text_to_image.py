# %% [markdown]
# # {{ title }}
#
# "A photograph of an astronaut riding a horse." Out comes an image that nobody took. The model
# behind it is made of parts that you know by now: an autoencoder, a network that removes noise, and
# a code that says what is wanted. They are not even trained together. What joins them is some forty
# lines of Python, and in this notebook you write them.
#
# Nothing is trained here: all parts come ready made. Two models are at hand. A *small* one came
# with this kit; it draws coloured handwritten digits within seconds on a CPU. The *full* one is
# Stable Diffusion 1.4, which wants a GPU and a download of 4 GB. Your code will drive both.
#
# **Goal:** you ask for a digit and get it, in at least {{ min_recognised }} of all cases by the
# judgement of a classifier, and image by image the same as the library's own pipeline draws.

# %% common="setup"

# %% given="imports"
import torch
from PIL import Image
from torchvision.transforms.functional import to_tensor

from helpers.models import DIGIT_COLOURS, DIGITS, grey_digits, load_parts, recognise
from helpers.notebook import check, handin
from helpers.plotting import draw_text_to_image, explore, plot_image_rows
from helpers.training import pick_device

device = pick_device()

# %% [markdown]
# ## The idea
#
# **Diffusion.** Take an image $x_0$ and mix it with more and more noise. With $\varepsilon$ drawn
# from $\mathcal{N}(0, I)$,
#
# $$x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon,$$
#
# where $\bar\alpha_t$ falls from 1 (at $t = 0$) to nearly 0 (at $t = 1000$). A U-Net
# $\varepsilon_\theta(x_t, t)$ has learned to tell the noise in such a mixture. To *draw*, begin
# with pure noise, ask the network what of it is noise, take a little of that away, and repeat (Ho,
# Jain & Abbeel, 2020). How much to take away at which time is known to the **scheduler**.
#
# **Latent** diffusion does all this with the codes of an autoencoder in place of pixels (Rombach et
# al., 2022). An image of 512 by 512 pixels becomes an array of 4 x 64 x 64 numbers, and the U-Net
# has 48 times less to work on. The decoder runs once, at the end.
#
# **Text.** A tokenizer cuts a text into pieces and looks up their numbers; a text encoder makes a
# vector for each of them. The U-Net gets these vectors $c$ as well as the latents, and looks at
# them by attention: $\varepsilon_\theta(x_t, t, c)$.

# %% figure="diagram"
draw_text_to_image()

# %% [markdown]
# ## The parts
#
# Choose the model. With `"full"` the parts of Stable Diffusion 1.4 are downloaded once it is chosen
# (see its licence, CreativeML Open RAIL-M, before you publish anything). In your functions, call
# the parts by the names that the cell after the choice gives them: the checks lend you parts of
# their own under these names.

# %% solution="choices"
# TODO: set size to "small" or "full".
### BEGIN SOLUTION
size = "small"
### END SOLUTION

# %% given="parts"
parts = load_parts(size, device)
tokenizer, text_encoder = parts.tokenizer, parts.text_encoder
unet, scheduler, vae = parts.unet, parts.scheduler, parts.vae
image_size = vae.config.sample_size
prompts = {
    "small": ["A handwritten seven.", "A photograph of a red 3."],
    "full": ["A photograph of an astronaut riding a horse.", "A campfire (oil on canvas)"],
}[size]

for part in ("text_encoder", "unet", "vae"):
    count = sum(p.numel() for p in getattr(parts, part).parameters())
    print(f"{part:13} {count:>13,} parameters")
print(f"images of {image_size} x {image_size} pixels, on {device}")

# %% [markdown]
# The tokenizer turns a text into numbers, one for each piece of a word, with a mark at the start
# and one at the end. Look at it:

# %% figure="tokens"
numbers = tokenizer(prompts[0]).input_ids
for number, piece in zip(numbers, tokenizer.convert_ids_to_tokens(numbers), strict=True):
    print(f"{number:>6}  {piece}")

# %% [markdown]
# ## Task 1: from texts to vectors
#
# The U-Net was trained on texts of exactly {{ n_tokens }} tokens: shorter ones are *padded*, longer
# ones cut, and the result is wanted as a tensor and not as a list. The tokenizer does all that if
# you ask for it: `padding="max_length", truncation=True, return_tensors="pt"`. The padding counts
# like any other token, in training and here, so no attention mask goes into the text encoder. What
# you need of its answer is `last_hidden_state`, $(N, 77, D)$, a vector a token.
#
# For the guidance of Task 2 you need two embeddings a text: that of the text itself, called
# *conditional*, and that of the empty text `""`, called *unconditional*. Put the $N$ unconditional
# ones first and the $N$ conditional ones after them, in one tensor $(2N, 77, D)$.
#
# A **negative** prompt takes the place of the empty text. A list of texts that is passed in stays
# as it is.


# %% solution="prompt_to_emb"
@torch.no_grad()
def prompt_to_emb(prompts, negative=None):
    """Embed texts.

    Args:
        prompts: a text, or a list of N texts.
        negative: what should not be seen: None, a text for all, or a list of N texts.

    Returns:
        (2N, 77, D): the unconditional embeddings, then the conditional ones.
    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    if negative is None or isinstance(negative, str):
        negative = [negative or ""] * len(prompts)
    # TODO: the tokens of both lists, negative and prompts, on the device; then their embeddings.
    ### BEGIN SOLUTION
    tokens = tokenizer(
        [*negative, *prompts],
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    return text_encoder(tokens.input_ids.to(device)).last_hidden_state
    ### END SOLUTION


# %% check="embeddings"
check("d11_text_to_image.embeddings")

# %% [markdown]
# ## Task 2: from noise to latents
#
# **Guidance.** The network was trained with the text left out now and then, so that it can predict
# the noise with the text, $\varepsilon_c$, and without, $\varepsilon_u$. The difference of the two
# points to where the text matters. Go further in that direction than the network itself would (Ho &
# Salimans, 2022):
#
# $$\hat\varepsilon = \varepsilon_u + s\,(\varepsilon_c - \varepsilon_u).$$
#
# With $s = 0$ the text is ignored, with $s = 1$ this is the plain prediction $\varepsilon_c$; usual
# are values around 8. So 0 is a scale like any other, and it is a seed like any other, too.
#
# **The loop**, for $N$ images at once:
#
# 1. Draw the noise, $(N, 4, h, w)$, on the CPU from a generator of its own,
#    `torch.Generator().manual_seed(seed)`: then one seed means one image on every machine, and
#    other random numbers of the notebook stay as they are. Here $h$ and $w$ are the image's height
#    and width divided by the autoencoder's factor. It is 8 for Stable Diffusion and 4 for the small
#    model: each of the autoencoder's `vae.config.block_out_channels` but the last halves the image.
# 2. Tell the scheduler the number of steps: `scheduler.set_timesteps(...)`. Multiply the noise by
#    `scheduler.init_noise_sigma`, the standard deviation that this scheduler begins with.
# 3. For each time `t` of `scheduler.timesteps`: *double* the latents on the batch axis, since each
#    image needs both predictions; scale them by `scheduler.scale_model_input(..., t)`; ask
#    `unet(..., t, encoder_hidden_states=emb)` for the noise (`.sample`); cut it in two and combine
#    the halves by the formula; let `scheduler.step(noise, t, latents)` take one step. It wants the
#    latents as they were *before* doubling and scaling, and returns the next as `.prev_sample`.
#
# The embeddings that are passed in stay as they are.
#
# Do not count steps yourself. The scheduler of this model (PNDM; Liu et al., 2022) looks back at
# earlier steps, and visits one of its times twice until it has something to look back at: 50 steps
# make 51 calls of the U-Net. For PNDM the initial sigma is 1 and the scaling does nothing, but
# other schedulers need both, and the checks use one that does.


# %% solution="emb_to_latents"
@torch.no_grad()
def emb_to_latents(emb, height=512, width=512, num_inference_steps=50, guidance_scale=8, seed=64):
    """Draw latents by diffusion, guided by a text.

    Args:
        emb: (2N, 77, D), unconditional embeddings first.
        height: of the images, in pixels.
        width: of the images, in pixels.
        num_inference_steps: for the scheduler.
        guidance_scale: s.
        seed: of the noise.

    Returns:
        (N, 4, height / f, width / f), where f is the autoencoder's factor.
    """
    # TODO: the noise, the loop, the latents.
    ### BEGIN SOLUTION
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    shape = (len(emb) // 2, unet.config.in_channels, height // factor, width // factor)
    generator = torch.Generator().manual_seed(seed)
    scheduler.set_timesteps(num_inference_steps)
    latents = torch.randn(shape, generator=generator).to(device) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        inputs = scheduler.scale_model_input(torch.cat([latents, latents]), t)
        noise = unet(inputs, t, encoder_hidden_states=emb).sample
        unconditional, conditional = noise.chunk(2)
        guided = unconditional + guidance_scale * (conditional - unconditional)
        latents = scheduler.step(guided, t, latents).prev_sample
    return latents
    ### END SOLUTION


# %% check="latents"
check("d11_text_to_image.latents")

# %% [markdown]
# ## Task 3: from latents to images
#
# Latents were multiplied by {{ latent_scale }} before the U-Net was trained on them, which gives
# them a standard deviation of about 1. The decoder knows nothing of it: divide by that number
# first. `vae.decode(...).sample` then gives images $(N, 3, h, w)$ with pixels from -1 to 1, and now
# and then a bit beyond. Map [-1, 1] to [0, 255], clamp, round, and make whole numbers of 8 bits:
# these cannot hold 256 or -1, and *wrap around* in silence. `Image.fromarray` takes one image at a
# time as a NumPy array with the channels *last*. The latents that are passed in stay as they are:
# `latents /= ...` would change them for whoever still needs them.


# %% solution="latents_to_pil"
@torch.no_grad()
def latents_to_pil(latents):
    """Decode latents.

    Args:
        latents: (N, 4, h, w).

    Returns:
        A list of N PIL images in RGB.
    """
    # TODO: unscale, decode, map to bytes, convert.
    ### BEGIN SOLUTION
    images = vae.decode(latents / 0.18215).sample
    pixels = (127.5 * (images + 1)).clamp(0, 255).round().to(torch.uint8)
    return [Image.fromarray(image) for image in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    ### END SOLUTION


# %% check="images"
check("d11_text_to_image.images")

# %% [markdown]
# Now all three together. The small model has learned less and wants less guidance: from about 8 on
# its colours break. The figures use 3 for it, and 8 for the full one.


# %% given="draw"
usual_scale = 3 if size == "small" else 8


def draw(texts, negative=None, mixed=None, **settings):
    """Images (N, 3, height, width) in [0, 1] for texts, or for embeddings of your own making."""
    settings = {"guidance_scale": usual_scale, **settings}
    emb = prompt_to_emb(texts, negative) if mixed is None else mixed
    latents = emb_to_latents(emb, height=image_size, width=image_size, **settings)
    return torch.stack([to_tensor(image) for image in latents_to_pil(latents)])


# %% figure="first_image"
emb = prompt_to_emb(prompts[0])
latents = emb_to_latents(emb, image_size, image_size, guidance_scale=usual_scale)
(picture,) = latents_to_pil(latents)
picture.resize((256, 256), Image.Resampling.NEAREST if size == "small" else Image.Resampling.BOX)

# %% figure="more_images"
seeds = range(64, 74) if size == "small" else (64, 65)
plot_image_rows({text: torch.cat([draw(text, seed=seed) for seed in seeds]) for text in prompts})

# %% check="result"
check("d11_text_to_image.result")

# %% [markdown]
# ## Task 4: between two texts
#
# An embedding is a tensor, and tensors can be averaged. Write a straight line from one embedding to
# another: $(1 - a)\, e_1 + a\, e_2$. With the seed held fast, an image then turns into another.
# Both embeddings stay as they are.


# %% solution="mix"
def mix(first, second, share):
    """Embeddings on the straight line between two.

    Args:
        first: (2N, 77, D), what comes out at share 0.
        second: the same shape, what comes out at share 1.
        share: a number from 0 to 1.

    Returns:
        (2N, 77, D).
    """
    # TODO: one line.
    ### BEGIN SOLUTION
    return (1 - share) * first + share * second
    ### END SOLUTION


# %% check="mixing"
check("d11_text_to_image.mixing")

# %% figure="between"
pairs = {
    "small": [("a white three", "a white eight"), ("a red one", "a blue seven")],
    "full": [("a photograph of a cat", "a photograph of a dog")],
}[size]
n_columns = 9 if size == "small" else 4
between = {}
for first, second in pairs:
    ends = prompt_to_emb(first), prompt_to_emb(second)
    shares = torch.linspace(0, 1, n_columns).tolist()
    between[f"{first}\nto {second}"] = torch.cat(
        [draw(None, mixed=mix(*ends, share), seed=3, num_inference_steps=25) for share in shares]
    )
plot_image_rows(between)

# %% [markdown]
# ## Experiments
#
# The same noise for one text after the other (small model: the ten digits).

# %% figure="all_digits"
wanted = [f"a handwritten {word}" for word in DIGITS] if size == "small" else prompts
plot_image_rows(
    {
        f"seed {seed}": torch.cat(
            [draw(text, seed=seed, num_inference_steps=25) for text in wanted]
        )
        for seed in (1, 2, 3)
    }
)

# %% [markdown]
# **Guidance.** One text, the same noise, more and more guidance. What is gained, and what is lost?

# %% figure="guidance"
text = prompts[0].replace("handwritten", "blue") if size == "small" else prompts[0]
n_images = 10 if size == "small" else 2
scales = (0, 1, 2, 4, 8, 16)
guided_images = {
    f"s = {scale}": draw([text] * n_images, guidance_scale=scale, seed=5, num_inference_steps=25)
    for scale in scales
}
plot_image_rows(guided_images, title=text)

# %% [markdown]
# In figures: of five images of each digit, how many does a classifier take for what was asked
# for? (Always the small model: the classifier knows nothing but digits.)

# %% figure="recognised"
if size == "small":
    asked = torch.arange(10).repeat_interleave(5)
    emb = prompt_to_emb([f"a handwritten {DIGITS[digit]}" for digit in asked])
    shares = {}
    for scale in (0, 1, 2, 4, 8, 16):
        drawn = draw(None, mixed=emb, guidance_scale=scale, num_inference_steps=20, seed=0)
        shares[scale] = float((recognise(grey_digits(drawn)) == asked).float().mean())
    for scale, share in shares.items():
        print(f"s = {scale:>2}: {share:6.1%}  {'#' * round(40 * share)}")

# %% [markdown]
# **A negative prompt.** The text says nothing of a colour (or of a style), and the negative one
# rules one out.

# %% figure="negative"
text = "a handwritten five" if size == "small" else prompts[1]
ruled_out = ("", "white", "red", "green", "blue") if size == "small" else ("", "blue", "painting")
plot_image_rows(
    {
        f"not {word}" if word else "anything": draw(
            [text] * n_images,
            negative=word,
            seed=11,
            num_inference_steps=25,
            guidance_scale=2 if size == "small" else 8,
        )
        for word in ruled_out
    },
    title=text,
)

# %% [markdown]
# **Steps.** The same noise again, with fewer and more steps.

# %% figure="steps"
n_steps = (2, 3, 5, 10, 25, 50, 100)
rows = {n: draw([prompts[0]] * n_images, num_inference_steps=n, seed=7) for n in n_steps}
plot_image_rows({f"{n} steps": images for n, images in rows.items()}, title=prompts[0])

# %% [markdown]
# Your own (the controls need ipywidgets):

# %% figure="explorer"
digits = list(DIGITS) if size == "small" else ["cat", "dog", "horse", "ship"]


def draw_one(what, colour, guidance, seed):
    emb = prompt_to_emb(f"a {colour} {what}")
    return draw(None, mixed=emb, guidance_scale=guidance, num_inference_steps=20, seed=seed)


explore(
    draw_one,
    on_release=True,
    what=digits,
    colour=list(DIGIT_COLOURS),
    guidance=(0, 3, 8),
    seed=(0, 9),
)

# %% [markdown] written="why_guidance" points=4
# **Question 1 (4 points).** Look at your images for $s$ from 0 to 16. Describe what changes, with
# what you can count in them. Then explain: write $p(x \mid c) \propto p(x)\, p(c \mid x)$ and say
# which distribution a scale $s > 1$ favours. Why is more guidance not always better?
#
# ### BEGIN SOLUTION
# With $s = 0$ the text is ignored: the images are of any digit and colour, and the classifier is
# right about one time in ten. With $s = 1$ many, but not all, show what was asked for; from about 2
# on nearly all do. With larger scales the images of one text become more alike, their strokes and
# colours harder; then colours turn wrong, up to artefacts at 16.
#
# The noise prediction is, up to a factor, the gradient of the logarithm of the density of noisy
# images: $\varepsilon \propto -\nabla \log p$. So $\varepsilon_c - \varepsilon_u$ stands for
# $-\nabla \log p(x \mid c) + \nabla \log p(x) = -\nabla \log p(c \mid x)$, and the guided
# prediction belongs to $p(x)\, p(c \mid x)^s$: an image is favoured for how clearly it tells its
# text, as by a classifier raised to the power $s$. This sharpening costs variety, and the latents
# are driven to where the network has seen no training data, which shows as overdrawn contrast.
#
# **Marking:** 1 for a description of small, medium and large $s$ with a count or share; 1 for
# $\varepsilon_c - \varepsilon_u$ as the gradient of $\log p(c \mid x)$ (or Bayes' rule in words); 1
# for $p(x)\, p(c \mid x)^s$; 1 for the price: less variety or artefacts, with a reason.
# ### END SOLUTION

# %% [markdown] written="why_latents" points=3
# **Question 2 (3 points).** How many numbers does an image of 512 by 512 pixels hold, and how
# many do its latents? What does the U-Net gain by working on latents, and what is the price? What
# would go wrong if you forgot to divide by {{ latent_scale }}, and why is there such a number at
# all?
#
# ### BEGIN SOLUTION
# $512 \cdot 512 \cdot 3 = 786{,}432$ against $64 \cdot 64 \cdot 4 = 16{,}384$, 48 times fewer. Each
# of the 51 calls of the U-Net is cheaper by about that factor (attention by more), and the network
# need not spend itself on fine texture, which the decoder adds. The price: what the autoencoder
# cannot reproduce (small faces, letters) the whole model cannot draw, however good the U-Net is.
# The noise of diffusion has variance 1, so data should have about that size too: the number is 1
# over the standard deviation of the encoder's output. Without the division the decoder gets latents
# about 5.5 times too small: near the middle of all codes, which gives a pale, blurred image.
#
# **Marking:** 1 for both counts; 1 for gain and price; 1 for the standard deviation with what a
# missing division does.
# ### END SOLUTION

# %% [markdown] written="why_negative" points=3
# **Question 3 (3 points).** Explain from the guidance formula why it rules something out to put it
# where the empty text stood. What happens if the negative prompt is the prompt itself? Why does the
# same seed give the same image, and similar images for similar texts?
#
# ### BEGIN SOLUTION
# With a negative text $n$ the formula reads $\varepsilon_n + s\,(\varepsilon_c -
# \varepsilon_n)$: for $s > 1$ the step goes beyond $\varepsilon_c$ in the direction *away* from
# what the negative text would draw, by $(s - 1)(\varepsilon_c - \varepsilon_n)$. If both texts are
# the same, the difference is zero, and what is left is the plain prediction $\varepsilon_c$,
# whatever $s$ is. The noise at the start is the only thing that is drawn at random; the scheduler's
# steps and the network are functions. So the seed fixes everything, and as these functions are
# continuous, a small change of the embedding changes the image little; layout and slant come from
# the noise.
#
# **Marking:** 1 for the direction away from the negative text; 1 for the zero difference; 1 for the
# noise as the only random part.
# ### END SOLUTION

# %% [markdown]
# ## Go further (no points)
#
# - Swap the scheduler: `EulerDiscreteScheduler.from_config(scheduler.config)` of diffusers. Your
#   loop should not need a change. How many steps does it need?
# - Start from an image: encode it, add noise up to some middle time (`scheduler.add_noise`), and
#   run the loop from there on. How late can you start before the text has no say any more?
# - Change the text halfway: one embedding for the first steps, another for the rest.

# %% [markdown] common="handing_in"

# %% handin="handin"
handin("d11_text_to_image", student="your-id")
