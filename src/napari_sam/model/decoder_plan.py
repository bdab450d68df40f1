"""What a mask decoder computes once: for a grid of image tokens, and for an image."""

from __future__ import annotations

from collections.abc import Callable
from weakref import ref

from torch import Tensor

from napari_sam.model.layers import ImageIdentity
from napari_sam.model.recent import Recent
from napari_sam.model.streamed_transformer import SharedImage, StreamedTransformer
from napari_sam.model.transformer import TwoWayTransformer

__all__ = ["DecoderPlan"]

_KEPT = 2
"""Grids, and images of each, that a plan remembers: two views of an image may take turns."""


class _Grid:
    """A transformer for one positional encoding, and the images that it met last."""

    def __init__(self, transformer: TwoWayTransformer, image_pe: Tensor, strip: int) -> None:
        position = image_pe[0].flatten(1).T.contiguous()
        self.image_pe = image_pe  # held, so that its id stays its own
        self.transformer = StreamedTransformer(transformer, position, strip)
        self.shared: Recent[SharedImage] = Recent(_KEPT)


class DecoderPlan:
    """Streams prompts through a two-way transformer, whose weights stay as they are.

    Parameters
    ----------
    transformer : TwoWayTransformer
        The decoder's.
    strip_tokens : int
        Image tokens that are taken at a time.
    """

    def __init__(self, transformer: TwoWayTransformer, strip_tokens: int) -> None:
        self._transformer = transformer
        self._strip_tokens = strip_tokens
        self._weights = [weight.detach() for weight in transformer.parameters()]  # held
        self._grids: Recent[_Grid] = Recent(_KEPT)

    def decode_shared(
        self, tokens: Tensor, keys: Callable[[], Tensor], image_pe: Tensor, image: ImageIdentity
    ) -> tuple[Tensor, Tensor]:
        """Run the transformer for one prompt on an image that other prompts share.

        Parameters
        ----------
        tokens : Tensor
            Output tokens and sparse prompt embeddings, (T, C).
        keys : callable
            Makes the image tokens, (L, C), where the image is new.
        image_pe : Tensor
            Their positional encoding, (1, C, h, w).
        image : ImageIdentity
            Whose tokens they are.

        Returns
        -------
        tuple of Tensor
            The tokens (T, C) and the image tokens (L, C).
        """
        grid = self._grid(image_pe)
        shared = grid.shared.get(ref(image), lambda: grid.transformer.share(keys()))
        return grid.transformer(tokens, shared)

    def decode_alone(self, tokens: Tensor, keys: Tensor, image_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer for one prompt with image tokens (L, C) of its own."""
        return self._grid(image_pe).transformer(tokens, keys)

    def _grid(self, image_pe: Tensor) -> _Grid:
        return self._grids.get(
            id(image_pe), lambda: _Grid(self._transformer, image_pe, self._strip_tokens)
        )
