"""The checks of self-attention."""

from itertools import permutations, product

import torch
from torch import Tensor, nn
from torch.nn import functional

from helpers.checking import Object, Submission, check, expect
from helpers.checks.common.architecture import expect_kept
from helpers.checks.d10_sd_vae.probing import State, explain, linear, loaded

PARTS = ("queries", "keys", "values")


def new_attention(
    submission: Submission, n_heads: int, dim: int, *, biased: bool = False
) -> tuple[Object, State]:
    """A SelfAttention of the student's with random weights, and these."""
    shapes = {"in_proj": (3 * dim, dim), "out_proj": (dim, dim)}
    return loaded(submission, "SelfAttention", n_heads, dim, shapes=shapes, biased=biased)


def unprojected(state: State) -> State:
    """The same weights, but with an out_proj that changes nothing."""
    weight = torch.eye(len(state["out_proj.weight"]))
    bias = {k: torch.zeros_like(v) for k, v in state.items() if k == "out_proj.bias"}
    return {**state, **bias, "out_proj.weight": weight}


def of_torch(x: Tensor, state: State, n_heads: int, mask: Tensor | None = None) -> Tensor:
    """What torch's own attention gives with these weights."""
    dim = x.shape[-1]
    right = nn.MultiheadAttention(dim, n_heads, batch_first=True)
    right.load_state_dict(
        {
            "in_proj_weight": state["in_proj.weight"],
            "in_proj_bias": state.get("in_proj.bias", torch.zeros(3 * dim)),
            "out_proj.weight": state["out_proj.weight"],
            "out_proj.bias": state.get("out_proj.bias", torch.zeros(dim)),
        }
    )
    with torch.no_grad():
        output: Tensor = right(x, x, x, need_weights=False, attn_mask=mask)[0]
        return output


def with_rows(state: State, rows: Tensor) -> State:
    """The same weights, with other rows of in_proj."""
    chosen = ("in_proj.weight", "in_proj.bias")
    return {k: v[rows] if k in chosen else v for k, v in state.items()}


def with_queries(state: State, factor: float) -> State:
    """The same weights, with queries (and so with scores) ``factor`` times as large."""
    factors = torch.ones(len(state["in_proj.weight"]))
    factors[: len(factors) // 3] = factor
    by_row = {"in_proj.weight": factors[:, None], "in_proj.bias": factors}
    return {k: v * by_row.get(k, 1) for k, v in state.items()}


def over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention whose weights add up to 1 over the queries: with queries and keys exchanged, it is
    that of each key, and an image of the unit vectors shows its weights."""
    units = torch.eye(q.shape[-2]).expand(*q.shape[:-1], -1)
    return functional.scaled_dot_product_attention(k, q, units).mT @ v


@check("attention", points=3)
def attention_weighs_the_values(submission: Submission) -> None:
    """SelfAttention gives means of the values, weighted by how well keys fit queries."""
    dim, x = 8, torch.randn(3, 7, 8)
    block, state = new_attention(submission, 1, dim, biased=True)
    expect_kept(block, "", x)
    # Whether out_proj is applied is the concern of another check.
    state = unprojected(state)
    block.load(state)
    rows = torch.arange(3 * dim).view(3, dim)
    q, k, v = linear(x, state, "in_proj").chunk(3, -1)
    later = torch.ones(7, 7).triu(1).bool()
    right = of_torch(x, state, 1)
    mistakes = {
        "The scores are not divided by the root of d.": of_torch(
            x, with_queries(state, dim**0.5), 1
        ),
        "The scores are divided by d: take its root.": of_torch(
            x, with_queries(state, dim**-0.5), 1
        ),
        "The scores are multiplied by the root of d: divide by it.": of_torch(
            x, with_queries(state, dim), 1
        ),
        "The softmax runs over the queries: take the last axis.": over_queries(q, k, v),
        "The softmax runs over the heads: take the last axis.": v.sum(1, keepdim=True).expand_as(v),
        "The softmax is missing.": torch.einsum("ntd,nsd,nse->nte", q, k, v) / dim**0.5,
        "x is added: SelfAttention gives the attention alone.": x + right,
        "Each vector sees only those before it: no mask is asked for.": of_torch(
            x, state, 1, later
        ),
        "The values are x itself: they are the last third of in_proj's output.": (
            functional.scaled_dot_product_attention(q, k, x)
        ),
        "The parts of in_proj's output are taken in turn (every third number): each is a third in "
        "one piece.": of_torch(x, with_rows(state, rows.flatten().view(dim, 3).T.flatten()), 1),
    }
    for order in (*permutations(range(3)), *product(range(3), repeat=3)):
        names = f"{PARTS[order[0]]}, {PARTS[order[1]]} and {PARTS[order[2]]}"
        hint = f"{names.capitalize()} stand where queries, keys and values belong, in this order."
        mistakes.setdefault(hint, of_torch(x, with_rows(state, rows[list(order)].flatten()), 1))
    message = "With one head, SelfAttention does not give the weighted means of the values."
    explain(block.tensor("", x, shape=(3, 7, dim)), right, mistakes, message)


def cut_rows(x: Tensor, state: State, n_heads: int, *, back: bool) -> Tensor:
    """Attention whose heads are made by reshaping alone, which mixes vectors; perhaps undone so."""
    n_images, length, dim = x.shape
    parts = linear(x, state, "in_proj").chunk(3, -1)
    q, k, v = (part.reshape(n_images, n_heads, length, dim // n_heads) for part in parts)
    mixed = functional.scaled_dot_product_attention(q, k, v)
    return mixed.reshape(x.shape) if back else torch.cat(mixed.unbind(1), dim=-1)


@check("attention", points=2)
def attention_keeps_heads_apart(submission: Submission) -> None:
    """Each head attends to its own piece of queries, keys and values; the pieces stand in a row."""
    n_heads, size = 3, 4
    dim, x = n_heads * size, torch.randn(2, 5, n_heads * size)
    x[..., size:] = 0  # so that a head of this size can read it, too
    block, state = new_attention(submission, n_heads, dim)
    state = unprojected(state)
    block.load(state)
    # What each piece should be: that of an attention of the student's own with a single head.
    rows = torch.arange(3 * dim).view(3, n_heads, size)
    single, weights = new_attention(submission, 1, size)
    pieces = list[Tensor]()
    for head in range(n_heads):
        own = with_rows(state, rows[:, head].flatten())
        own["in_proj.weight"] = own["in_proj.weight"][:, :size]
        single.load(unprojected({**weights, **{k: own[k] for k in own if "in_" in k}}))
        pieces.append(single.tensor("", x[..., :size], shape=(2, 5, size)))

    whole, _ = new_attention(submission, 1, dim)

    def one_head(weights: State) -> Tensor:
        whole.load(weights)
        return whole.tensor("", x, shape=(2, 5, dim))

    right = torch.cat(pieces, dim=-1)
    in_heads = torch.arange(3 * dim).view(n_heads, 3, size)
    every_third = torch.arange(3 * dim).view(3, size, n_heads).mT
    every, back = every_third.flatten(), torch.argsort(every_third[0].flatten())
    narrow = of_torch(x, with_queries(state, n_heads**-0.5), n_heads)
    mistakes = {
        "d is the number of numbers in a head, not embed_dim.": narrow,
        "All heads are taken for one.": one_head(state),
        "The heads are not kept apart.": one_head(with_queries(state, n_heads**0.5)),
        "After the attention, (N, H, T, d) has to become (N, T, H, d) before the heads are put "
        "side by side: transpose first.": torch.stack(pieces, dim=1).reshape(x.shape),
        "Cut each vector into heads: .view(N, T, H, d), then .transpose(1, 2).": cut_rows(
            x, state, n_heads, back=False
        ),
        "Cut each vector into heads: .view(N, T, H, d), then .transpose(1, 2), and back.": cut_rows(
            x, state, n_heads, back=True
        ),
        "Cut in_proj's output into queries, keys and values first, and each of them into heads: "
        "here each head has its three in one piece.": of_torch(
            x, with_rows(state, in_heads.transpose(0, 1).flatten()), n_heads
        ),
        "A head is a piece of each vector, and not every H-th number of it.": of_torch(
            x, with_rows(state, every), n_heads
        ),
        "A head is a piece of each vector, and not every H-th number of it; neither are the "
        "results.": of_torch(x, with_rows(state, every), n_heads)[..., back],
    }
    message = f"With {n_heads} heads, SelfAttention is not {n_heads} attentions side by side."
    explain(block.tensor("", x, shape=(2, 5, dim)), right, mistakes, message)


@check("attention", points=2)
def attention_is_projected(submission: Submission) -> None:
    """out_proj follows at the end."""
    block, state = loaded(submission, "SelfAttention", 2, 8, shapes={"out_proj": (8, 8)})
    x = torch.randn(3, 5, 8)
    found = block.tensor("", x, shape=(3, 5, 8))
    block.load(unprojected(state))
    before = block.tensor("", x, shape=(3, 5, 8))
    right = linear(before, state, "out_proj")
    mistakes = {
        "out_proj is missing.": before,
        "out_proj is applied twice.": linear(right, state, "out_proj"),
        "What comes before it is added: the result is out_proj's output alone.": before + right,
    }
    explain(found, right, mistakes, "SelfAttention does not end in out_proj.")
    gradient = block.differentiate("", x, wrt=(0,)).inputs[0]
    expect(
        gradient is not None and bool(gradient.any()),
        "No gradient reaches x through SelfAttention.",
        "Leave .detach(), .data and torch.no_grad() out of it.",
    )
