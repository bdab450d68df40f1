"""From the pixels of a training crop to what a model takes, and its features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_sam.core.errors import ConfigError
from napari_sam.model.layers import ImageFeatures
from napari_sam.model.sam import Sam

__all__ = ["CropEncoder", "CropFrame"]


class CropFrame:
    """How a square crop lies in the input of a model.

    Models with native pixels take it as it is; for the others its side becomes that of the input,
    as a whole image of this size would.

    Parameters
    ----------
    sam : Sam
        The model.
    crop_size : int
        Side of the crop in pixels.

    Attributes
    ----------
    scale : float
        Input pixels a crop pixel.
    low_res_size : int
        Side of the low-res logits.

    Raises
    ------
    ConfigError
        If the crop has fewer pixels than the model's low-res logits.
    """

    def __init__(self, sam: Sam, crop_size: int) -> None:
        spec = sam.input_spec
        self._device = sam.device
        self._input_size = crop_size if spec.native_resolution else spec.size
        self.scale = self._input_size / crop_size
        self.low_res_size = self._input_size // spec.low_res_stride
        if crop_size % self.low_res_size:
            raise ConfigError(
                f"crop_size = {crop_size} was given",
                rule=f"The model's masks have {self.low_res_size} cells along a side, and a crop "
                "has a multiple of that in pixels",
                cure=f"Use crop_size = {2 * self.low_res_size}",
            )

    def pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """Bring crops (B, S, S, 3) to the input, (B, 3, S', S')."""
        pixels = torch.from_numpy(images).to(self._device).permute(0, 3, 1, 2).float()
        if self.scale != 1:
            size = (self._input_size, self._input_size)
            pixels = nn.functional.interpolate(pixels, size=size, mode="bilinear")
        return pixels.contiguous(memory_format=torch.channels_last)

    def shrink(self, masks: NDArray[np.bool_]) -> Tensor:
        """Average masks (N, S, S) over the cells of the low-res logits."""
        given = torch.from_numpy(masks).to(self._device)[:, None].float()
        size = (self.low_res_size, self.low_res_size)
        return nn.functional.adaptive_avg_pool2d(given, size)[:, 0]


class CropEncoder:
    """Encodes the crops of a batch; those of a pool only once, where the encoder is frozen.

    Parameters
    ----------
    sam : Sam
        The model.
    crop_size : int
        Side of a crop in pixels.
    is_frozen : bool
        The image encoder is not trained.
    """

    def __init__(self, sam: Sam, crop_size: int, *, is_frozen: bool) -> None:
        self.frame = CropFrame(sam, crop_size)
        self._sam = sam
        self._is_frozen = is_frozen
        self._known: dict[int, ImageFeatures] = {}

    def __call__(
        self, images: NDArray[np.uint8], pool_numbers: tuple[int, ...] | None = None
    ) -> ImageFeatures:
        """Encode crops.

        Parameters
        ----------
        images : ndarray of uint8
            (B, S, S, 3).
        pool_numbers : tuple of int, optional
            The number of each crop in the pool.

        Returns
        -------
        ImageFeatures
            Of B crops.
        """
        if not self._is_frozen:
            return self._sam.encode(self.frame.pixels(images))
        with _evaluating(self._sam.image_encoder), torch.no_grad():
            if pool_numbers is None:
                return self._sam.encode(self.frame.pixels(images))
            for image, number in zip(images, pool_numbers, strict=True):
                if number not in self._known:
                    self._known[number] = self._sam.encode(self.frame.pixels(image[None]))
        known = [self._known[number] for number in pool_numbers]
        skips = zip(*(features.skips for features in known), strict=True)
        return ImageFeatures(
            torch.cat([features.embedding for features in known]),
            tuple(torch.cat(levels) for levels in skips),
        )


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    was_training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(was_training)
