"""The image encoders against independent implementations, with the same random weights."""

from __future__ import annotations

import functools
import re

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT as ReferenceViT
from timm.models.tiny_vit import TinyVit as TimmTinyVit
from torch import Tensor, nn

from napari_sam.model.image_encoder import ImageEncoderViT
from napari_sam.model.tiny_vit import TinyViT
from tiny_models import TINY_VIT_CONFIG, randomise

# image size, width, depth, heads, global blocks, window: windows that divide the grid, that leave
# padding, and that are larger than the grid
VIT_CASES = [
    (128, 24, 3, 2, (2,), 4),
    (112, 32, 4, 4, (1, 3), 3),
    (160, 16, 2, 1, (0,), 14),
]


def _reference_vit(case: tuple) -> ReferenceViT:
    size, dim, depth, heads, global_blocks, window = case
    return ReferenceViT(
        img_size=size,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        global_attn_indexes=global_blocks,
        window_size=window,
        out_chans=32,
        use_rel_pos=True,
        norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
    )


def _our_vit(case: tuple) -> ImageEncoderViT:
    size, dim, depth, heads, global_blocks, window = case
    return ImageEncoderViT(
        image_size=size,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        global_attention_indexes=global_blocks,
        window_size=window,
        out_channels=32,
    )


@pytest.mark.parametrize("case", VIT_CASES, ids=lambda case: f"size{case[0]}-window{case[-1]}")
def test_vit_equals_segment_anything(case: tuple) -> None:
    torch.manual_seed(0)
    reference = _reference_vit(case).eval()
    randomise(reference, scale=2.0)
    ours = _our_vit(case).eval()
    ours.load_state_dict(reference.state_dict())
    images = torch.randn(2, 3, case[0], case[0])

    with torch.inference_mode():
        embedding = ours(images).embedding
        expected = reference(images)
        exact = (
            ours.double()(images.double()).embedding - reference.double()(images.double())
        ).abs()

    assert embedding.shape == (2, 32, case[0] // 16, case[0] // 16)
    assert expected.std() > 0.5  # the comparison is not of zeros
    assert (embedding - expected).abs().max() <= 1e-4
    assert exact.max() <= 1e-11


def test_vit_attends_beyond_its_window() -> None:
    """The global blocks are global: a far pixel changes the embedding, without them it cannot."""
    torch.manual_seed(0)
    image = torch.randn(1, 3, 128, 128)
    changed = image.clone()
    changed[..., -16:, -16:] += 1.0
    for global_blocks, reaches in (((1,), True), ((), False)):
        encoder = _our_vit((128, 16, 2, 2, global_blocks, 3)).eval()
        randomise(encoder)
        with torch.inference_mode():
            change = encoder(changed).embedding - encoder(image).embedding
        assert bool(change[..., 0, 0].abs().max() > 0) is reaches


def _hf_key(key: str) -> str:
    """Return the name in transformers' SamVisionEncoder of an official weight."""
    for pattern, replacement in (
        (r"^blocks\.", "layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"^patch_embed\.proj\.", "patch_embed.projection."),
        (r"^neck\.0\.", "neck.conv1."),
        (r"^neck\.1\.", "neck.layer_norm1."),
        (r"^neck\.2\.", "neck.conv2."),
        (r"^neck\.3\.", "neck.layer_norm2."),
    ):
        key = re.sub(pattern, replacement, key)
    return key


def test_vit_equals_transformers() -> None:
    from transformers.models.sam.configuration_sam import SamVisionConfig
    from transformers.models.sam.modeling_sam import SamVisionEncoder

    torch.manual_seed(0)
    size, dim, depth, heads, global_blocks, window = case = VIT_CASES[1]
    config = SamVisionConfig(
        image_size=size,
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        global_attn_indexes=list(global_blocks),
        window_size=window,
        output_channels=32,
        mlp_dim=4 * dim,
        attn_implementation="eager",
    )
    ours = _our_vit(case).eval()
    randomise(ours)
    other = SamVisionEncoder(config).eval()
    other.load_state_dict({_hf_key(key): value for key, value in ours.state_dict().items()})
    images = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        difference = ours(images).embedding - other(images).last_hidden_state
    assert difference.abs().max() <= 1e-4


def _timm_key(key: str) -> str:
    """Return timm's name of a weight of MobileSAM: it downsamples at the start of a stage."""
    key = re.sub(r"^layers\.(\d)\.downsample", lambda m: f"stages.{int(m[1]) + 1}.downsample", key)
    for pattern, replacement in (
        (r"^layers\.", "stages."),
        (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
        (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
        (r"\.c\.", ".conv."),
        (r"^norm_head\.", "head.norm."),
        (r"^head\.(weight|bias)$", r"head.fc.\1"),
    ):
        key = re.sub(pattern, replacement, key)
    return key


def _timm_tiny_vit(ours: TinyViT, config: dict) -> TimmTinyVit:
    other = TimmTinyVit(drop_path_rate=0.0, **config).eval()
    other.stages[3].downsample.conv2.conv.stride = (1, 1)  # MobileSAM stays at 1/16
    state = {k: v for k, v in ours.state_dict().items() if not k.startswith("neck.")}
    other.load_state_dict({_timm_key(key): value for key, value in state.items()})
    return other


def _neck(weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """Convolve and normalise over channels, in plain arithmetic."""
    for index, padding in ((0, 0), (2, 1)):
        x = nn.functional.conv2d(x, weights[f"neck.{index}.weight"], padding=padding)
        x = x - x.mean(dim=1, keepdim=True)
        x = x / (x.square().mean(dim=1, keepdim=True) + 1e-6).sqrt()
        gain, shift = weights[f"neck.{index + 1}.weight"], weights[f"neck.{index + 1}.bias"]
        x = x * gain[:, None, None] + shift[:, None, None]
    return x


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (TINY_VIT_CONFIG, 128),
        ({**TINY_VIT_CONFIG, "window_sizes": (7, 4, 4, 8)}, 128),  # no padding anywhere
        ({**TINY_VIT_CONFIG, "num_heads": (1, 1, 1, 1), "window_sizes": (7, 3, 14, 7)}, 96),
    ],
    ids=["padded", "unpadded", "window-larger-than-map"],
)
def test_tiny_vit_equals_timm(config: dict, size: int) -> None:
    torch.manual_seed(0)
    ours = TinyViT(**config, out_channels=32).eval()
    randomise(ours, scale=1.5)
    other = _timm_tiny_vit(ours, config)
    images = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        embedding = ours(images).embedding
        expected = _neck(ours.state_dict(), other.forward_features(images))
    assert embedding.shape == (2, 32, size // 16, size // 16)
    assert expected.std() > 0.5
    assert (embedding - expected).abs().max() <= 1e-4
