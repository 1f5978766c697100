"""The checks of prompt_to_emb: from texts to vectors."""

import torch
from torch import Tensor

from helpers.checking import (
    Submission,
    check,
    close,
    expect,
    expect_close,
    expect_tensor,
    fail,
    likely_cause,
)
from helpers.checks.common.tiny_diffusion import (
    DIM,
    N_TOKENS,
    TinyTextEncoder,
    TinyTokenizer,
    lend,
)


def embeddings(
    submission: Submission, texts: list[str], *negative: str, whole: bool = True
) -> Tensor:
    """What the student's prompt_to_emb makes of texts.

    Args:
        negative: the second argument, if any.
        whole: if False, any number of tokens will do, and only the vectors of the first two are
            returned: they do not depend on those after them.

    Returns:
        (2N, 77, D), or (2N, 2, D).
    """
    value = lend(submission, "prompt_to_emb", texts, *negative).get("value")
    n_texts, what = len(texts), "What prompt_to_emb returns"
    got = tuple(value.shape) if isinstance(value, Tensor) else ()
    if not whole and len(got) == 3 and got[1] > 1 and (got[0], got[2]) == (2 * n_texts, DIM):
        return expect_tensor(value, what=what)[:, :2]
    hints = {
        (n_texts, N_TOKENS, DIM): "Only one kind is there: unconditional and conditional.",
        (2, n_texts, N_TOKENS, DIM): "torch.stack adds an axis; use torch.cat.",
        (n_texts, 2 * N_TOKENS, DIM): "They are joined along the tokens; join them along axis 0.",
        (n_texts, N_TOKENS, 2 * DIM): "They are joined along the vectors; join them along axis 0.",
        (2 * n_texts, DIM): "This is the pooled output: take last_hidden_state.",
    }
    hint = hints.get(got, "")
    if len(got) == 3 and N_TOKENS not in (got[1], got[1] / 2):
        hint = f'Pad to {N_TOKENS} tokens with padding="max_length".'
    return expect_tensor(value, (2 * n_texts, N_TOKENS, DIM), what=what, hint=hint)


@check("embeddings", points=4)
def embeddings_have_their_shape(submission: Submission) -> None:
    """prompt_to_emb gives (2N, 77, D) for N texts, short and long ones, one and several."""
    embeddings(submission, ["a dog"])
    embeddings(submission, ["a dog", "a red cat on a mat", "two"])


@check("embeddings", points=6)
def texts_are_embedded_token_by_token(submission: Submission) -> None:
    """The vectors are the text encoder's last hidden state for the padded tokens."""
    texts = ["a green bird", "one"]
    found = embeddings(submission, texts)
    tokens = TinyTokenizer()(texts, padding="max_length", return_tensors="pt")
    numbers, mask, encode = tokens.input_ids, tokens.attention_mask, TinyTextEncoder()
    right = encode(numbers)[0]
    # The order of the halves is another check's concern.
    halves = (found[2:], found[:2], found[1::2], found[::2])
    if any(close(half, right) for half in halves):
        return
    pooled = right[torch.arange(len(texts)), mask.sum(dim=1) - 1]
    mistakes = {
        "The attention mask went into the text encoder; the U-Net was trained without it.": encode(
            numbers, attention_mask=mask
        )[0],
        "The tokens are padded with zeros: let the tokenizer pad.": encode(numbers * mask)[0],
        "The vectors are padded with zeros: pad the tokens before they are embedded.": right
        * mask[..., None],
        "This is the pooled output at each place.": pooled[:, None].expand_as(right),
    }
    hints = [hint for half in halves if (hint := likely_cause(half, mistakes))]
    fail("The vectors are not those of the text encoder for these texts.", *hints[:1])


@check("embeddings", points=5)
def unconditional_comes_first(submission: Submission) -> None:
    """First come all unconditional embeddings, then all conditional ones in the texts' order."""
    texts = ["a green bird", "one", "house by the sea"]
    found = embeddings(submission, texts, whole=False)
    # What the student's own function makes of one text, (2, D): wrong vectors are another check's
    # concern. The half that is not the empty text's is the text's.
    nothing = max(embeddings(submission, [""], whole=False), key=lambda half: float(half.norm()))

    def own(text: str) -> Tensor:
        halves: list[Tensor] = list(embeddings(submission, [text], whole=False))[::-1]
        return next((half for half in halves if not close(half, nothing)), nothing)

    alone = torch.stack([own(text) for text in texts])
    empty = nothing.expand_as(alone)
    mistakes = {
        "The conditional ones come first.": torch.cat([alone, empty]),
        "They alternate: torch.cat([unconditional, conditional]).": torch.stack(
            [empty, alone], dim=1
        ).flatten(0, 1),
        "Both halves are conditional.": torch.cat([alone, alone]),
        "The unconditional half is zero: embed the empty text.": torch.cat([0 * empty, alone]),
        "The texts come in the reverse order.": torch.cat([empty, alone.flip(0)]),
        "All conditional embeddings are those of the first text.": torch.cat(
            [empty, alone[:1].expand_as(alone)]
        ),
    }
    message = "The halves are not those of the empty text and of the texts."
    expect_close(found, torch.cat([empty, alone]), message, mistakes)


@check("embeddings", points=5)
def negative_text_takes_the_place_of_the_empty_one(submission: Submission) -> None:
    """A negative text is embedded in the unconditional half, and nowhere else."""
    # One text: the order of several is another check's concern, as is which half is conditional.
    text, negative = ["a green bird"], "blue and old"
    found = embeddings(submission, text, negative, whole=False)
    plain = embeddings(submission, text, whole=False)
    other = embeddings(submission, [negative], whole=False)
    same = [close(found[half], plain[half]) for half in (0, 1)]
    expect(
        not all(same),
        "Neither half becomes another one with a negative text.",
        "Embed it in place of the empty text.",
    )
    expect(
        any(same),
        "With a negative text the embedding of the text itself changes too.",
        "It takes the place of the empty text, and leaves the prompts alone.",
    )
    expect(
        close(found[same.index(False)], other[same.index(True)]),
        "The half that changed with the negative text is not that text's embedding.",
    )
