"""The two-way transformer for one prompt, with what all prompts share computed once.

The same function as :class:`~napari_sam.model.transformer.TwoWayTransformer` up to rounding, for
a few prompt tokens and thousands of image tokens, without gradients:

- A projection of all image tokens, from or to heads, is applied to the few prompt tokens instead:
  ``q . (W k) = (q W) . k``.
- ``W (keys + position)`` is ``W keys + W position``: the second part belongs to the model.
- The first block meets the same image tokens for every prompt: they are projected once an image.
- Image tokens are rewritten and scored for the next attention strip by strip, in the cache.

The bias of a key is the same for all keys, so softmax takes it away; a bias of the output is spread
over the values, whose shares add up to one in each head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own name for it)

from napari_sam.model.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer

__all__ = ["SharedImage", "StreamedTransformer"]


class SharedImage(NamedTuple):
    """What the first block makes of an image, for all prompts without a mask prompt.

    Attributes
    ----------
    keys : Tensor
        Image tokens, (L, C).
    first_keys, first_values : Tensor
        Keys (heads, d, L) and values (heads, L, d) that the prompt tokens attend to.
    first_queries : Tensor
        Queries with which the image tokens attend, (heads, d, L).
    """

    keys: Tensor
    first_keys: Tensor
    first_values: Tensor
    first_queries: Tensor


class StreamedTransformer:
    """A two-way transformer prepared for the image tokens of one grid.

    Parameters
    ----------
    transformer : TwoWayTransformer
        Its weights are used as they are; prepare again after a change.
    position : Tensor
        Positional encoding of the image tokens, (L, C).
    strip_tokens : int
        Image tokens that are taken at a time.
    """

    def __init__(self, transformer: TwoWayTransformer, position: Tensor, strip_tokens: int) -> None:
        self._transformer = transformer
        self._position = position
        self._strip_tokens = strip_tokens
        self._blocks = [
            block for block in transformer.layers if isinstance(block, TwoWayAttentionBlock)
        ]
        self._to_image = [
            _TokensToImage(attention, position)
            for attention in (
                *(block.cross_attn_token_to_image for block in self._blocks),
                transformer.final_attn_token_to_image,
            )
        ]
        self._from_image = [
            _ImageToTokens(block.cross_attn_image_to_token, position) for block in self._blocks
        ]

    def share(self, keys: Tensor) -> SharedImage:
        """Compute what all prompts share of the image tokens `keys`, (L, C)."""
        to_image, from_image = self._to_image[0], self._from_image[0]
        return SharedImage(
            keys,
            torch.matmul(to_image.keys_by_head, keys.T) + to_image.positions,
            torch.matmul(keys, to_image.values_by_head.transpose(1, 2)),
            torch.matmul(from_image.queries_by_head, keys.T) + from_image.positions,
        )

    def __call__(self, tokens: Tensor, image: SharedImage | Tensor) -> tuple[Tensor, Tensor]:
        """Run all blocks for one prompt.

        Parameters
        ----------
        tokens : Tensor
            Output tokens and sparse prompt embeddings, (T, C).
        image : SharedImage or Tensor
            The image that all prompts share, or the image tokens of this prompt, (L, C).

        Returns
        -------
        tuple of Tensor
            The tokens (T, C) and the image tokens (L, C).
        """
        keys = image.keys if isinstance(image, SharedImage) else image
        queries = _attend_to_each_other(self._blocks[0], tokens, tokens)
        attended = self._attend_first(queries + tokens, image)
        for index, block in enumerate(self._blocks):
            queries = block.norm2(queries + attended)
            queries = block.norm3(queries + block.mlp(queries))
            from_image, to_image = self._from_image[index], self._to_image[index + 1]
            shared = image if index == 0 and isinstance(image, SharedImage) else None
            shares = from_image.shares(queries + tokens, keys, shared)
            written = from_image.written(queries)
            if index + 1 < len(self._blocks):
                queries = _attend_to_each_other(self._blocks[index + 1], queries, tokens)
            # the first block's keys are the caller's; later ones are written over
            target = torch.empty_like(keys) if index == 0 else keys
            keys, scores = self._rewrite(
                keys, target, shares, written, block.norm4, *to_image.fold(queries + tokens)
            )
            attended = to_image.gather(scores, keys)
        tokens = self._transformer.norm_final_attn(queries + attended)
        return tokens, keys

    def _attend_first(self, positioned: Tensor, image: SharedImage | Tensor) -> Tensor:
        to_image = self._to_image[0]
        if isinstance(image, SharedImage):
            scores = to_image.queries(positioned) @ image.first_keys  # (heads, T, L)
            return to_image.join(scores.softmax(dim=-1) @ image.first_values)
        folded, scores = to_image.fold(positioned)
        return to_image.gather(torch.addmm(scores, folded, image.T), image)

    def _rewrite(
        self,
        keys: Tensor,
        rewritten: Tensor,
        shares: Tensor,
        written: Tensor,
        norm: nn.LayerNorm,
        folded: Tensor,
        scores: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Let image tokens attend to the prompt tokens, and score them for the next attention.

        Writes to `rewritten`, which may be `keys`.

        Takes the scores of the positions alone and adds those of the tokens.
        """
        for start in range(0, len(keys), self._strip_tokens):
            strip = slice(start, start + self._strip_tokens)
            attended = torch.addmm(keys[strip], shares[:, strip].T, written)
            rewritten[strip] = F.layer_norm(
                attended, norm.normalized_shape, norm.weight, norm.bias, norm.eps
            )
            scores[:, strip].addmm_(folded, rewritten[strip].T)
        return rewritten, scores


class _TokensToImage:
    """Attention from the prompt tokens to the image tokens."""

    def __init__(self, attention: Attention, position: Tensor) -> None:
        self._attention = attention
        self._heads = attention.num_heads
        self._scale = _scale(attention)
        self.keys_by_head = _by_head(attention.k_proj.weight, self._heads)  # (heads, d, C)
        self.values_by_head = _by_head(attention.v_proj.weight, self._heads)
        self.positions = torch.matmul(self.keys_by_head, position.T)  # (heads, d, L)

    def queries(self, positioned: Tensor) -> Tensor:
        """Scaled queries of tokens with their positions, (heads, T, d)."""
        return _split(self._attention.q_proj(positioned) * self._scale, self._heads)

    def fold(self, positioned: Tensor) -> tuple[Tensor, Tensor]:
        """Bring queries to image channels, (heads * T, C), and score the positions alone."""
        queries = self.queries(positioned)
        scores = (queries @ self.positions).flatten(0, 1)  # (heads * T, L)
        return (queries @ self.keys_by_head).flatten(0, 1), scores

    def gather(self, scores: Tensor, keys: Tensor) -> Tensor:
        """Attended tokens (T, C) from scores (heads * T, L) and image tokens (L, C)."""
        means = (scores.softmax(dim=-1) @ keys).view(self._heads, -1, keys.shape[1])
        return self.join(means @ self.values_by_head.transpose(1, 2))

    def join(self, attended: Tensor) -> Tensor:
        """Project what the heads attended to, (heads, T, d), to tokens (T, C)."""
        joined = attended.transpose(0, 1).flatten(1) + self._attention.v_proj.bias
        projected: Tensor = self._attention.out_proj(joined)
        return projected


class _ImageToTokens:
    """Attention from the image tokens to the prompt tokens."""

    def __init__(self, attention: Attention, position: Tensor) -> None:
        self._attention = attention
        self._heads = attention.num_heads
        self._scale = _scale(attention)
        self.queries_by_head = _by_head(attention.q_proj.weight, self._heads)  # (heads, d, C)
        self._outputs_by_head = _by_head(attention.out_proj.weight.T, self._heads)
        bias = _by_head(attention.q_proj.bias[:, None], self._heads)
        self.positions = torch.matmul(self.queries_by_head, position.T) + bias  # (heads, d, L)

    def shares(self, positioned: Tensor, keys: Tensor, shared: SharedImage | None) -> Tensor:
        """Weigh what each image token takes from each prompt token, (heads * T, L)."""
        tokens = _split(self._attention.k_proj(positioned) * self._scale, self._heads)
        if shared is not None:
            scores = tokens @ shared.first_queries  # (heads, T, L)
        else:
            folded = (tokens @ self.queries_by_head).flatten(0, 1)  # (heads * T, C)
            scores = (tokens @ self.positions).flatten(0, 1).addmm_(folded, keys.T)
        return scores.view(self._heads, -1, len(keys)).softmax(dim=1).flatten(0, 1)

    def written(self, queries: Tensor) -> Tensor:
        """Project what each prompt token gives through each head, (heads * T, C)."""
        values = _split(self._attention.v_proj(queries), self._heads)
        bias = self._attention.out_proj.bias / self._heads
        return (values @ self._outputs_by_head + bias).flatten(0, 1)


def _attend_to_each_other(block: TwoWayAttentionBlock, queries: Tensor, pe: Tensor) -> Tensor:
    """Self attention of the prompt tokens (T, C), as the block begins."""
    queries = queries[None]
    if block.skip_first_layer_pe:
        attended = block.self_attn(queries, queries, queries)
    else:
        positioned = queries + pe
        attended = queries + block.self_attn(positioned, positioned, queries)
    normed: Tensor = block.norm1(attended)
    return normed[0]


def _scale(attention: Attention) -> float:
    return 1.0 / math.sqrt(attention.q_proj.out_features // attention.num_heads)


def _by_head(weight: Tensor, heads: int) -> Tensor:
    """Rows of a projection by head, (heads, d, C)."""
    return torch.unflatten(weight.detach(), 0, (heads, -1)).contiguous()


def _split(x: Tensor, heads: int) -> Tensor:
    """Channels of tokens (T, heads * d) by head, (heads, T, d)."""
    return torch.unflatten(x, 1, (heads, -1)).transpose(0, 1)
