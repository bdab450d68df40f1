"""How large the models and images are: as users have them, or as a test has them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from napari_sam.model import Sam, build_sam, load_model

_TEST_MODELS: dict[str, Literal["vit", "tiny_vit", "compact"]] = {
    "vit_b": "vit",
    "vit_t": "tiny_vit",
    "compact": "compact",
}


@dataclass(frozen=True)
class VitShape:
    """The shape of a ViT image encoder, by the names of `napari_sam.model.ImageEncoderViT`."""

    image_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    global_blocks: tuple[int, ...] = (2, 5, 8, 11)
    window_size: int = 14
    out_channels: int = 256

    @property
    def grid(self) -> int:
        return self.image_size // self.patch_size


FULL_TINY_VIT = {
    "embed_dims": (64, 128, 160, 320),
    "depths": (2, 2, 6, 2),
    "num_heads": (2, 4, 5, 10),
    "window_sizes": (7, 7, 14, 7),
    "num_classes": 1000,
}


@dataclass(frozen=True)
class Scale:
    """Sizes of everything that is measured.

    Parameters
    ----------
    name : str
        Its name.
    is_test : bool
        Models are those of the tests, of the same classes but small.
    vit : VitShape
        Shape of the ViT image encoder; its image size is that of all official models.
    decoder_mlp_dim : int
        Hidden width of the mask decoder's transformer.
    compact_side : int
        Side of the compact model's image, in pixels.
    points_per_side : int
        Points along a side when everything is segmented.
    boxes : int
        Boxes that are decoded at once.
    most_repeats : int
        No work is repeated more often, unless asked for.
    """

    name: str = "full"
    is_test: bool = False
    vit: VitShape = VitShape()
    decoder_mlp_dim: int = 2048
    compact_side: int = 512
    points_per_side: int = 32
    boxes: int = 64
    most_repeats: int = 100

    @property
    def image_side(self) -> int:
        return self.vit.image_size

    def build(self, architecture: str) -> Sam:
        """Build a model with random weights, in eval mode on the CPU.

        The weights are drawn from torch's generator at full size, and fixed in a test's models.
        """
        from tiny_models import randomise, tiny_sam

        if self.is_test:
            return tiny_sam(_TEST_MODELS[architecture])
        sam = build_sam(architecture).eval()
        randomise(sam)
        return sam

    def load(self, sam: Sam, device: torch.device) -> Sam:
        """Load a model's weights as users do, from a file, with all that loading prepares."""
        if self.is_test:
            return sam.to(device)
        with TemporaryDirectory() as folder:
            path = Path(folder) / "random_weights.pth"
            torch.save(sam.state_dict(), path)
            return load_model(path, device)

    def load_compact(self, device: torch.device) -> Sam:
        """Load the bundled model."""
        return self.build("compact").to(device) if self.is_test else load_model("compact", device)

    def tiny_vit(self) -> dict[str, Any]:
        """Return the shape of the TinyViT image encoder."""
        from tiny_models import TINY_VIT_CONFIG

        return dict(TINY_VIT_CONFIG if self.is_test else FULL_TINY_VIT)


FULL = Scale()
QUICK = Scale(name="quick", points_per_side=8, most_repeats=2)


@functools.cache
def tiny_scale() -> Scale:
    """Return the scale of the tests: seconds for all works."""
    from tiny_models import EMBED_DIM, IMAGE_SIZE, VIT_CONFIG

    vit = VitShape(IMAGE_SIZE, **VIT_CONFIG, global_blocks=(2,), out_channels=EMBED_DIM)
    return Scale(
        name="tiny",
        is_test=True,
        vit=vit,
        decoder_mlp_dim=64,
        compact_side=IMAGE_SIZE,
        points_per_side=6,
        boxes=4,
        most_repeats=1,
    )
