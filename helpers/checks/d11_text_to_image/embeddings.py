"""The checks of prompt_to_emb: from texts to vectors."""

from typing import Any

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
    lend,
    tokens_and_vectors,
    vectors_of,
)

WHAT = "What prompt_to_emb returns"


def embeddings(submission: Submission, texts: Any, *negative: Any) -> Tensor:
    """What the student's prompt_to_emb makes of texts, (2N, 77, D), or fail.

    ``texts`` and the second argument, if there is one, are as the function takes them.
    """
    value = lend(submission, "prompt_to_emb", texts, *negative).get("value")
    if isinstance(value, dict):
        fail(f"{WHAT} is all that the text encoder gives.", "Take its last_hidden_state.")
    n_texts = 1 if isinstance(texts, str) else len(texts)
    got = tuple(value.shape) if isinstance(value, Tensor) else ()
    hints = {
        (n_texts, N_TOKENS, DIM): "Only one kind is there: unconditional and conditional.",
        (2, n_texts, N_TOKENS, DIM): "torch.stack adds an axis; use torch.cat.",
        (n_texts, 2 * N_TOKENS, DIM): "They are joined along the tokens; join them along axis 0.",
        (n_texts, N_TOKENS, 2 * DIM): "They are joined along the vectors; join them along axis 0.",
        (2 * n_texts, DIM): "This is the pooled output: take last_hidden_state.",
        (n_texts, DIM): "This is the pooled output: take last_hidden_state.",
    }
    hint = hints.get(got, "")
    if len(got) == 3 and got[0] == 2 * n_texts and got[1] != N_TOKENS:
        hint = f'Pad to {N_TOKENS} tokens with padding="max_length".'
    return expect_tensor(value, (2 * n_texts, N_TOKENS, DIM), what=WHAT, hint=hint)


def vectors(submission: Submission, texts: list[str], *negative: Any) -> Tensor:
    """The same in whatever shape, (2N, ...), or (N, ...) if there is only one kind.

    The shape is another check's concern. What is joined along a wrong axis is taken apart.
    """
    value = lend(submission, "prompt_to_emb", texts, *negative).get("value")
    if isinstance(value, dict):
        value = value.get("last_hidden_state", value.get("pooler_output"))
    found, n_texts = expect_tensor(value, what=WHAT), len(texts)
    if found.ndim == 4 and found.shape[:2] == (2, n_texts):
        return found.flatten(0, 1)
    for axis, length in ((1, N_TOKENS), (2, DIM)):
        if found.ndim == 3 and len(found) == n_texts and found.shape[axis] == 2 * length:
            return torch.cat(found.chunk(2, dim=axis))
    expect(
        found.ndim > 1 and len(found) in (n_texts, 2 * n_texts),
        f"For {n_texts} texts {WHAT[0].lower()}{WHAT[1:]} should have {2 * n_texts} rows; its "
        f"shape is {tuple(found.shape)}.",
        "Each text needs an unconditional one of its own." if len(found) == n_texts + 1 else "",
    )
    return found


def starts(submission: Submission, texts: list[str], *negative: Any) -> Tensor:
    """The vectors of the first two tokens, which do not depend on those after them."""
    found = vectors(submission, texts, *negative)
    return found[:, :2] if found.ndim == 3 and found.shape[1] > 1 else found


@check("embeddings", points=4)
def embeddings_have_their_shape(submission: Submission) -> None:
    """prompt_to_emb gives (2, 77, D) for a text, long or short, alone or in a list."""
    for texts in (["a dog"], "a dog", ["a red cat on a mat"], [""]):
        embeddings(submission, texts)


@check("embeddings", points=5)
def texts_are_embedded_token_by_token(submission: Submission) -> None:
    """The vectors are the text encoder's last hidden state for the padded tokens."""
    for text in ("a green bird", "one"):
        found = vectors(submission, [text])
        tokens, right = tokens_and_vectors([text])
        n_tokens = found.shape[1] if found.ndim == 3 else N_TOKENS
        # The order of the halves is another check's concern, and so is the number of tokens: each
        # vector depends only on the tokens before it.
        if any(close(half, right[0, :n_tokens]) for half in found):
            continue
        numbers, mask = tokens.input_ids, tokens.attention_mask
        masked, pooled = vectors_of(numbers, mask), right[:, int(mask.sum()) - 1]
        mistakes = {
            "The attention mask went into the text encoder; the U-Net was trained without it.": (
                masked
            ),
            "The tokens are padded with zeros: let the tokenizer pad.": vectors_of(numbers * mask),
            "The vectors are padded with zeros: pad the tokens before they are embedded.": right
            * mask[..., None],
            "This is the pooled output: take last_hidden_state.": pooled,
            "These are the vectors of the empty text.": tokens_and_vectors([""])[1],
            "This is the pooled output at each place.": pooled[:, None].expand_as(right),
        }
        hints = [hint for half in found if (hint := likely_cause(half[None], mistakes))]
        fail(f'The vectors are not those of the text encoder for "{text}".', *hints[:1])


@check("embeddings", points=5)
def unconditional_comes_first(submission: Submission) -> None:
    """First comes the embedding of the empty text, then that of the text."""
    for text in ("one", "a green bird"):
        found = starts(submission, [text])
        # What the student's own function makes of the empty text: wrong vectors are another
        # check's concern.
        nothing = max(starts(submission, [""]), key=lambda half: float(half.norm()))
        empty = [close(half, nothing) for half in found]
        if empty == [True, False]:
            continue
        hint = ""
        if len(empty) == 1:
            hint = "Only one kind is there: unconditional and conditional."
        elif empty == [False, True]:
            hint = "The conditional one comes first."
        elif not found[0].any():
            hint = "The unconditional half is zero: embed the empty text."
        elif empty == [False, False] and close(found[0], found[1]):
            hint = "Both halves are conditional."
        elif all(empty):
            hint = "Both halves are those of the empty text."
        fail("The halves are not those of the empty text and of the text.", hint)


@check("embeddings", points=4)
def negative_text_takes_the_place_of_the_empty_one(submission: Submission) -> None:
    """A negative text is embedded in the unconditional half, and nowhere else."""
    # Of one length in tokens: padding is another check's concern.
    text, negative, another = "six", "two", "one"
    first, second = (vectors(submission, [text], each) for each in (negative, another))
    own = vectors(submission, [negative], negative)
    expect(
        first.shape == second.shape and len(first) == 2,
        "With a negative text there should be two halves: its embedding, and that of the text.",
    )
    same = [close(one, other) for one, other in zip(first, second, strict=True)]
    expect(
        not all(same),
        "Neither half changes with the negative text.",
        "Embed it in place of the empty text.",
    )
    expect(
        any(same),
        "With a negative text the embedding of the text itself changes too.",
        "It takes the place of the empty text, and leaves the prompts alone.",
    )
    kept, changed = first[same.index(True)], first[same.index(False)]
    expect(
        not close(kept, vectors(submission, ["ten"], negative)[same.index(True)]),
        "With a negative text the text itself is not embedded.",
        "The negative text takes the place of the empty one.",
    )
    expect(
        any(close(changed, half) for half in own),
        "The half that changes with the negative text is not that text's embedding.",
    )


@check("embeddings", points=2)
def several_texts_keep_their_order(submission: Submission) -> None:
    """For N texts come all N unconditional embeddings, then all N conditional ones in order."""
    texts = ["a green bird", "one", "house by the sea"]

    def compare(found: Tensor, negatives: list[str]) -> None:
        alone = [
            starts(submission, [text], *([negative] if negative else []))
            for text, negative in zip(texts, negatives, strict=True)
        ]
        empty, conditional = (torch.stack([each[half] for each in alone]) for half in (0, -1))
        right = torch.cat([empty, conditional]) if len(alone[0]) > 1 else conditional
        mistakes = {
            "They alternate: put all unconditional ones first.": torch.stack(
                [empty, conditional], dim=1
            ).flatten(0, 1),
            "The texts come in the reverse order.": torch.cat([empty, conditional.flip(0)]),
            "All conditional embeddings are those of the first text.": torch.cat(
                [empty, conditional[:1].expand_as(conditional)]
            ),
            "All unconditional embeddings are those of the first text.": torch.cat(
                [empty[:1].expand_as(empty), conditional]
            ),
        }
        subject = "three texts"
        if negatives[0]:
            n_negative = "one negative one" if len(set(negatives)) == 1 else "three negative ones"
            subject += f" and {n_negative}"
        if found.shape != right.shape:
            fail(
                f"For {subject} there should be {len(right)} embeddings; there are {len(found)}.",
                "Embed the empty text for each of them." if not negatives[0] else "",
            )
        message = f"The embeddings of {subject} are not those of each alone."
        expect_close(found, right, message, mistakes)

    compare(starts(submission, texts), ["", "", ""])
    negatives = ["two", "blue and old", "six"]
    compare(starts(submission, texts, negatives), negatives)
    compare(starts(submission, texts, "two"), ["two", "two", "two"])
    equal, different = (len(starts(submission, pair)) for pair in (["one"] * 2, ["one", "two"]))
    expect(
        equal == different,
        f"For the same text twice there are {equal} embeddings, and for two texts {different}.",
        "Embed each text of the list, whether it comes once or twice.",
    )
    run = lend(submission, "prompt_to_emb", texts, negatives)
    expect(not run.get("overwrote"), "The list of texts that is passed in is changed.")
