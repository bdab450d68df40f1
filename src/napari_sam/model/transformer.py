"""The two-way transformer of the mask decoder (Kirillov et al. 2023, Segment Anything, fig. 14)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_sam.model.layers import MLPBlock

__all__ = ["Attention", "TwoWayAttentionBlock", "TwoWayTransformer"]


class TwoWayTransformer(nn.Module):
    """Lets prompt tokens and image tokens attend to each other.

    Parameters
    ----------
    depth : int
        Number of two-way blocks.
    embedding_dim : int
        Channels of tokens and image embedding.
    num_heads : int
        Attention heads; divides ``embedding_dim``.
    mlp_dim : int
        Hidden width of each block's MLP.
    attention_downsample_rate : int
        By how much cross attention narrows the channels.
    """

    def __init__(
        self,
        depth: int,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        attention_downsample_rate: int = 2,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TwoWayAttentionBlock(
                embedding_dim,
                num_heads,
                mlp_dim,
                attention_downsample_rate,
                skip_first_layer_pe=(index == 0),
            )
            for index in range(depth)
        )
        self.final_attn_token_to_image = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )
        self.norm_final_attn = nn.LayerNorm(embedding_dim)
        self.few_tokens = embedding_dim // attention_downsample_rate // num_heads
        """Up to so many prompt tokens, folding a projection of the image tokens into them pays."""

    def forward(self, image: Tensor, image_pe: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Run all blocks.

        Parameters
        ----------
        image : Tensor
            Image embedding with the dense prompt embedding added, (N, C, h, w); (1, C, h, w)
            where all prompts share it.
        image_pe : Tensor
            Its positional encoding, (1, C, h, w).
        tokens : Tensor
            Output tokens and sparse prompt embeddings, (N, T, C).

        Returns
        -------
        tuple of Tensor
            The tokens (N, T, C) and the image tokens (N, h * w, C).
        """
        keys = image.flatten(2).transpose(1, 2)  # (N, h*w, C)
        key_pe = image_pe.flatten(2).transpose(1, 2)  # (1, h*w, C)
        queries = tokens
        for block in self.layers:
            queries, keys = block(queries, keys, query_pe=tokens, key_pe=key_pe)
        attended = self.final_attn_token_to_image(queries + tokens, keys + key_pe, keys)
        return self.norm_final_attn(queries + attended), keys


class TwoWayAttentionBlock(nn.Module):
    """Self attention of tokens, tokens to image, an MLP on tokens, image to tokens."""

    def __init__(
        self,
        embedding_dim: int,
        num_heads: int,
        mlp_dim: int,
        attention_downsample_rate: int = 2,
        skip_first_layer_pe: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = Attention(embedding_dim, num_heads)
        self.norm1 = nn.LayerNorm(embedding_dim)
        self.cross_attn_token_to_image = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )
        self.norm2 = nn.LayerNorm(embedding_dim)
        self.mlp = MLPBlock(embedding_dim, mlp_dim, nn.ReLU)
        self.norm3 = nn.LayerNorm(embedding_dim)
        self.norm4 = nn.LayerNorm(embedding_dim)
        self.cross_attn_image_to_token = Attention(
            embedding_dim, num_heads, attention_downsample_rate
        )
        self.skip_first_layer_pe = skip_first_layer_pe

    def forward(
        self, queries: Tensor, keys: Tensor, query_pe: Tensor, key_pe: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Update tokens ``queries`` (N, T, C) and image tokens ``keys`` (N, h*w, C)."""
        if self.skip_first_layer_pe:
            # the first tokens *are* their positional encoding, so nothing is added or kept
            queries = self.self_attn(queries, queries, queries)
        else:
            positioned = queries + query_pe
            queries = queries + self.self_attn(positioned, positioned, queries)
        queries = self.norm1(queries)

        positioned_keys = keys + key_pe
        attended = self.cross_attn_token_to_image(queries + query_pe, positioned_keys, keys)
        queries = self.norm2(queries + attended)
        queries = self.norm3(queries + self.mlp(queries))

        attended = self.cross_attn_image_to_token(positioned_keys, queries + query_pe, queries)
        return queries, self.norm4(keys + attended)


class Attention(nn.Module):
    """Multi-head attention that may work in fewer channels than it is given."""

    def __init__(self, embedding_dim: int, num_heads: int, downsample_rate: int = 1) -> None:
        super().__init__()
        internal_dim = embedding_dim // downsample_rate
        self.num_heads = num_heads
        self.q_proj = nn.Linear(embedding_dim, internal_dim)
        self.k_proj = nn.Linear(embedding_dim, internal_dim)
        self.v_proj = nn.Linear(embedding_dim, internal_dim)
        self.out_proj = nn.Linear(internal_dim, embedding_dim)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from ``q`` (N, Tq, C) to ``k`` and ``v`` (N, Tk, C).

        Between a few tokens and an image, the projections of the image are folded into the tokens
        where that takes fewer operations, unless gradients are wanted. The result is the same up to
        rounding.
        """
        few = self.q_proj.out_features // self.num_heads  # channels of a head
        if not torch.is_grad_enabled():
            if q.shape[1] <= few < k.shape[1]:
                return self._from_few(q, k, v)
            if k.shape[1] <= few < q.shape[1]:
                return self._to_few(q, k, v)
        attended = nn.functional.scaled_dot_product_attention(
            self._split(self.q_proj(q)), self._split(self.k_proj(k)), self._split(self.v_proj(v))
        )  # (N, heads, Tq, C / heads)
        return self._join(attended)

    def _from_few(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from a few tokens, without projecting keys and values.

        A head's score q . (W k + b) is (q W) . k, and a constant that softmax takes away; its
        values' mean is W times the mean of ``v``, and b.
        """
        queries = self._split(self.q_proj(q) * self._scale)
        folded = (queries @ self._by_head(self.k_proj.weight)).flatten(1, 2)  # (N, heads * Tq, C)
        shares = (folded @ k.transpose(1, 2)).softmax(dim=-1)
        means = torch.unflatten(shares @ v, 1, (self.num_heads, -1))  # (N, heads, Tq, C)
        bias = self.v_proj.bias.view(self.num_heads, 1, -1)
        return self._join(means @ self._by_head(self.v_proj.weight).transpose(1, 2) + bias)

    def _to_few(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to a few tokens, without projecting queries, nor the result by itself."""
        keys = self._split(self.k_proj(k) * self._scale)
        values = self._split(self.v_proj(v))
        folded = (keys @ self._by_head(self.q_proj.weight)).flatten(1, 2)  # (N, heads * Tk, C)
        bias = (keys @ self.q_proj.bias.view(self.num_heads, -1, 1)).flatten(1)  # (N, heads * Tk)
        scores = q @ folded.transpose(1, 2) + bias[:, None]  # (N, Tq, heads * Tk)
        shares = torch.unflatten(scores, 2, (self.num_heads, -1)).softmax(dim=-1).flatten(2)
        joined = values @ self._by_head(self.out_proj.weight.T)
        return torch.baddbmm(self.out_proj.bias, shares, joined.flatten(1, 2))

    @property
    def _scale(self) -> float:
        return float((self.q_proj.out_features // self.num_heads) ** -0.5)

    def _by_head(self, weight: Tensor) -> Tensor:
        """Rows of a projection by head, (heads, C / heads, C)."""
        return torch.unflatten(weight, 0, (self.num_heads, -1))

    def _split(self, x: Tensor) -> Tensor:
        count, length, channels = x.shape
        heads = x.view(count, length, self.num_heads, channels // self.num_heads)
        return heads.transpose(1, 2)  # (N, heads, T, C / heads)

    def _join(self, attended: Tensor) -> Tensor:
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected
