"""Prompt encoders: points, boxes and mask prompts to sparse and dense prompt embeddings."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from napari_sam.model.layers import LayerNorm2d
from napari_sam.model.recent import Recent, weights_version

__all__ = [
    "MapPromptEncoder",
    "PositionEmbeddingRandom",
    "PromptEmbeddings",
    "PromptEncoder",
]

Points = tuple[Tensor, Tensor]
"""(x, y) coordinates (N, K, 2) in pixels of the encoder's input; labels (N, K): 1, 0 or -1."""


class PromptEmbeddings(NamedTuple):
    """Prompts as the mask decoder takes them.

    Attributes
    ----------
    sparse : Tensor
        A token for each point and box corner, (N, T, C).
    dense : Tensor
        A map to add to the image embedding, (N, C, h, w); (1, C, h, w) where it is the same for
        all prompts, as it is in SAM without a mask prompt.
    dense_fine : Tensor or None
        A map to add at twice the resolution of the embedding, (N, c4, 2h, 2w); None in SAM.
    is_dense_fixed : bool
        `dense` belongs to the model, not to these prompts: it is the same in every call.
    """

    sparse: Tensor
    dense: Tensor
    dense_fine: Tensor | None = None
    is_dense_fixed: bool = False

    def of_prompt(self, index: int) -> PromptEmbeddings:
        """Return the embeddings of one prompt."""
        own = slice(index, index + 1)
        return PromptEmbeddings(
            self.sparse[own],
            self.dense if len(self.dense) == 1 else self.dense[own],
            None if self.dense_fine is None else self.dense_fine[own],
            self.is_dense_fixed,
        )


class PositionEmbeddingRandom(nn.Module):
    """Positional encoding by random spatial frequencies (Tancik et al. 2020, eq. 5)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, num_pos_feats: int = 64) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, num_pos_feats))

    def encode(self, coords_xy: Tensor) -> Tensor:
        """Encode coordinates (..., 2), (x, y) with 0 to 1 across the frame, as (..., C)."""
        frequencies = (2.0 * coords_xy - 1.0) @ self.positional_encoding_gaussian_matrix
        angles = 2.0 * math.pi * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    def encode_grid(self, grid_hw: tuple[int, int], extent_hw: Tensor, origin: Tensor) -> Tensor:
        """Encode cell centres of a grid that spans ``extent_hw`` of the frame, (1, C, h, w)."""
        h, w = grid_hw
        like = self.positional_encoding_gaussian_matrix
        rows = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) / h * extent_hw[0]
        cols = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) / w * extent_hw[1]
        y, x = torch.meshgrid(rows, cols, indexing="ij")
        encoded = self.encode(torch.stack([x, y], dim=-1) + origin)  # (h, w, C)
        return encoded.permute(2, 0, 1)[None]


class _TokenPromptEncoder(nn.Module):
    """Sparse prompt embeddings, which SAM and the compact model share."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.pe_layer = PositionEmbeddingRandom(embed_dim // 2)
        # background click, foreground click, first and second corner of a box
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, embed_dim) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, embed_dim)
        self._grid_encodings: Recent[tuple[Tensor, Tensor]] = Recent(4)

    def _grid_pe(
        self,
        grid_hw: tuple[int, int],
        extent_hw: Tensor,
        origin_xy: tuple[float, float],
        frame: float,
    ) -> Tensor:
        """Encode a grid, once for all prompts; but anew in training, where none comes again."""
        matrix = self.pe_layer.positional_encoding_gaussian_matrix

        def encode() -> Tensor:
            origin = matrix.new_tensor(origin_xy) / frame
            return self.pe_layer.encode_grid(grid_hw, extent_hw, origin)

        if torch.is_grad_enabled():
            return encode()
        key = (grid_hw, origin_xy, matrix.dtype, weights_version([matrix]))
        _, encoding = self._grid_encodings.get(key, lambda: (matrix, encode()))
        return encoding

    def _sparse(self, points: Points | None, boxes: Tensor | None, frame_wh: Tensor) -> Tensor:
        tokens = []
        if points is not None:
            tokens.append(self._embed_points(*points, frame_wh, pad=boxes is None))
        if boxes is not None:
            tokens.append(self._embed_boxes(boxes, frame_wh))
        return torch.cat(tokens, dim=1)

    def _embed_points(
        self, coords_xy: Tensor, labels: Tensor, frame_wh: Tensor, pad: bool
    ) -> Tensor:
        centres = coords_xy + 0.5
        if pad:  # stands in for the box that is absent
            centres = torch.cat([centres, centres.new_zeros(len(centres), 1, 2)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        encoded = self.pe_layer.encode(centres / frame_wh)  # (N, K, C)
        kind = labels[..., None]
        encoded = torch.where(kind == -1, self.not_a_point_embed.weight, encoded)
        for value in (0, 1):
            encoded = torch.where(kind == value, encoded + self._kind_embedding(value), encoded)
        return encoded

    def _embed_boxes(self, boxes_xyxy: Tensor, frame_wh: Tensor) -> Tensor:
        corners = (boxes_xyxy + 0.5).reshape(-1, 2, 2)
        encoded = self.pe_layer.encode(corners / frame_wh)  # (N, 2, C)
        return encoded + torch.cat([self._kind_embedding(2), self._kind_embedding(3)])

    def _kind_embedding(self, kind: int) -> Tensor:
        """Weight (1, C) of one kind of point; torch types the members of a list as modules."""
        weight: Tensor = self.point_embeddings[kind].get_parameter("weight")
        return weight


class PromptEncoder(_TokenPromptEncoder):
    """The prompt encoder of Segment Anything (Kirillov et al. 2023, appendix A).

    Parameters
    ----------
    embed_dim : int
        Channels of the prompt embeddings.
    input_size : int
        Side of the image encoder's square input, in pixels.
    mask_in_chans : int
        Hidden channels of the mask prompt's convolutions.
    """

    def __init__(
        self, embed_dim: int = 256, input_size: int = 1024, mask_in_chans: int = 16
    ) -> None:
        super().__init__(embed_dim)
        self.input_size = input_size
        self.mask_downscaling = nn.Sequential(
            nn.Conv2d(1, mask_in_chans // 4, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans // 4),
            nn.GELU(),
            nn.Conv2d(mask_in_chans // 4, mask_in_chans, kernel_size=2, stride=2),
            LayerNorm2d(mask_in_chans),
            nn.GELU(),
            nn.Conv2d(mask_in_chans, embed_dim, kernel_size=1),
        )
        self.no_mask_embed = nn.Embedding(1, embed_dim)

    def dense_pe(self, grid_hw: tuple[int, int], origin_xy: tuple[float, float] = (0, 0)) -> Tensor:
        """Positional encoding of the image embedding, (1, C, h, w)."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        return self._grid_pe(grid_hw, like.new_ones(2), origin_xy, self.input_size)

    def forward(
        self,
        points: Points | None,
        boxes: Tensor | None,
        mask_logits: Tensor | None,
        grid_hw: tuple[int, int],
        origin_xy: tuple[float, float] = (0, 0),
    ) -> PromptEmbeddings:
        """Embed the prompts of N objects.

        Parameters
        ----------
        points : tuple of Tensor or None
            (x, y) coordinates (N, K, 2) in input pixels and labels (N, K): 1 foreground,
            0 background, -1 padding.
        boxes : Tensor or None
            Boxes (N, 4) as (x0, y0, x1, y1) in input pixels.
        mask_logits : Tensor or None
            Low-res logits (N, 1, 4h, 4w) of an earlier mask.
        grid_hw : tuple of int
            Rows and columns of the image embedding.
        origin_xy : tuple of float
            Shift of the positional encoding in pixels.

        Returns
        -------
        PromptEmbeddings
        """
        frame = self.pe_layer.positional_encoding_gaussian_matrix.new_full((2,), self.input_size)
        shift = frame.new_tensor(origin_xy)
        if points is not None:
            points = (points[0] + shift, points[1])
        if boxes is not None:
            boxes = boxes + shift.repeat(2)
        count = _prompt_count(points, boxes, mask_logits)
        if points is None and boxes is None:
            sparse = frame.new_zeros(count, 0, self.embed_dim)
        else:
            sparse = self._sparse(points, boxes, frame)
        if mask_logits is None:
            dense = self.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(-1, -1, *grid_hw)
        else:
            dense = self.mask_downscaling(mask_logits)
        return PromptEmbeddings(sparse, dense, is_dense_fixed=mask_logits is None)


class MapPromptEncoder(_TokenPromptEncoder):
    """Prompt encoder of the compact model: prompts as tokens and, drawn, as maps.

    A token alone learns slowly where it points. Here clicks are also drawn as Gaussians
    (foreground and background apart), boxes as filled rectangles and the mask prompt as
    probabilities, at a quarter of the input's resolution; convolutions take these maps to the
    dense prompt embeddings.

    Parameters
    ----------
    embed_dim : int
        Channels of the prompt embeddings.
    fine_dim : int
        Channels of the dense embedding at a quarter of the input's resolution.
    frame_size : int
        Pixels that span 0 to 1 in the positional encoding.
    map_chans : int
        Hidden channels of the map convolutions.
    click_sigma : float
        Standard deviation of a drawn click, in pixels.
    """

    map_stride = 4

    def __init__(
        self,
        embed_dim: int = 128,
        fine_dim: int = 64,
        frame_size: int = 512,
        map_chans: int = 32,
        click_sigma: float = 6.0,
    ) -> None:
        super().__init__(embed_dim)
        self.frame_size = frame_size
        self.click_sigma = click_sigma
        self.map_stem = nn.Sequential(nn.Conv2d(4, map_chans, 3, padding=1), nn.GELU())
        self.map_fine = nn.Conv2d(map_chans, fine_dim, 1)
        self.map_coarse = nn.Sequential(
            nn.Conv2d(map_chans, 2 * map_chans, 2, stride=2),
            LayerNorm2d(2 * map_chans),
            nn.GELU(),
            nn.Conv2d(2 * map_chans, embed_dim, 1),
        )

    def dense_pe(self, grid_hw: tuple[int, int], origin_xy: tuple[float, float] = (0, 0)) -> Tensor:
        """Positional encoding of the image embedding, (1, C, h, w)."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        frame = self._frame(grid_hw)
        extent = like.new_tensor(grid_hw) * (2 * self.map_stride) / frame
        return self._grid_pe(grid_hw, extent, origin_xy, frame)

    def forward(
        self,
        points: Points | None,
        boxes: Tensor | None,
        mask_logits: Tensor | None,
        grid_hw: tuple[int, int],
        origin_xy: tuple[float, float] = (0, 0),
    ) -> PromptEmbeddings:
        """Embed the prompts of N objects; parameters as in :meth:`PromptEncoder.forward`."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        count = _prompt_count(points, boxes, mask_logits)
        if points is None and boxes is None:  # a mask prompt alone still needs the padding token
            points = (like.new_zeros(count, 0, 2), like.new_zeros(count, 0))
        shift = like.new_tensor(origin_xy)
        frame = like.new_full((2,), self._frame(grid_hw))
        sparse = self._sparse(
            None if points is None else (points[0] + shift, points[1]),
            None if boxes is None else boxes + shift.repeat(2),
            frame,
        )
        maps = self._draw(count, points, boxes, mask_logits, grid_hw)
        hidden = self.map_stem(maps)
        return PromptEmbeddings(sparse, self.map_coarse(hidden), self.map_fine(hidden))

    def _frame(self, grid_hw: tuple[int, int]) -> float:
        """Pixels that span 0 to 1: the frame of training, or more where a window is larger."""
        return float(max(self.frame_size, 2 * self.map_stride * max(grid_hw)))

    def _draw(
        self,
        count: int,
        points: Points | None,
        boxes: Tensor | None,
        mask_logits: Tensor | None,
        grid_hw: tuple[int, int],
    ) -> Tensor:
        """Draw the prompts at a quarter of the input's resolution, (N, 4, 2h, 2w)."""
        like = self.pe_layer.positional_encoding_gaussian_matrix
        h, w = 2 * grid_hw[0], 2 * grid_hw[1]
        y = (torch.arange(h, device=like.device, dtype=like.dtype) + 0.5) * self.map_stride
        x = (torch.arange(w, device=like.device, dtype=like.dtype) + 0.5) * self.map_stride
        maps = like.new_zeros(count, 4, h, w)
        if points is not None and points[0].shape[1] > 0:
            centres, labels = points[0] + 0.5, points[1]
            # a Gaussian is separable: (N, K, h, 1) * (N, K, 1, w)
            falloff = -0.5 / self.click_sigma**2
            along_y = torch.exp(falloff * (y - centres[..., 1:2]) ** 2)
            along_x = torch.exp(falloff * (x - centres[..., 0:1]) ** 2)
            clicks = along_y[..., :, None] * along_x[..., None, :]
            for channel, value in ((0, 1), (1, 0)):
                drawn = clicks * (labels == value)[..., None, None]
                maps[:, channel] = drawn.amax(dim=1)
        if boxes is not None:
            maps[:, 2] = (
                _coverage(y, boxes[:, 1], boxes[:, 3], self.map_stride)[:, :, None]
                * _coverage(x, boxes[:, 0], boxes[:, 2], self.map_stride)[:, None, :]
            )
        if mask_logits is not None:
            signed = torch.tanh(0.5 * mask_logits.to(like.dtype))  # 2 * probability - 1
            maps[:, 3] = nn.functional.adaptive_avg_pool2d(signed, (h, w))[:, 0]
        return maps


def _coverage(centres: Tensor, start: Tensor, stop: Tensor, cell: int) -> Tensor:
    """Fraction of each cell (n,) that lies between ``start`` and ``stop`` (N,), as (N, n)."""
    low = torch.maximum(centres - cell / 2, start[:, None])
    high = torch.minimum(centres + cell / 2, stop[:, None] + 1.0)
    return ((high - low) / cell).clamp(0.0, 1.0)


def _prompt_count(points: Points | None, boxes: Tensor | None, mask_logits: Tensor | None) -> int:
    for given in (points[0] if points is not None else None, boxes, mask_logits):
        if given is not None:
            return len(given)
    return 1
