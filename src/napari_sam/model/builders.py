"""Build Segment Anything models of the known architectures, with random weights."""

from __future__ import annotations

from torch import nn

from napari_sam.core.errors import ConfigError
from napari_sam.model.compact_encoder import build_compact_sam
from napari_sam.model.image_encoder import ImageEncoderViT
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.mask_decoder import MaskDecoder
from napari_sam.model.prompt_encoder import PromptEncoder
from napari_sam.model.registry import ARCHITECTURES
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.model.tiny_vit import TinyViT
from napari_sam.model.transformer import TwoWayTransformer

__all__ = ["assemble_sam", "build_sam"]


def build_sam(architecture: str, *, instance_head: bool = False) -> Sam:
    """Build a model with random weights.

    Parameters
    ----------
    architecture : {"vit_b", "vit_l", "vit_h", "vit_t", "compact"}
        ``vit_b``, ``vit_l`` and ``vit_h`` are the models of Kirillov et al. 2023, ``vit_t`` is
        MobileSAM (Zhang et al. 2023), ``compact`` the microscopy model of this package.
    instance_head : bool
        Give an official architecture an instance head, which was trained for it; the compact
        model always has one.

    Returns
    -------
    Sam
        The model, in training mode as any new module.

    Raises
    ------
    ConfigError
        The architecture is unknown.
    """
    if architecture == "compact":
        return build_compact_sam()
    return assemble_sam(_build_image_encoder(architecture), instance_head=instance_head)


def assemble_sam(
    image_encoder: nn.Module,
    *,
    image_size: int = 1024,
    embed_dim: int = 256,
    transformer_mlp_dim: int = 2048,
    instance_head: bool = False,
) -> Sam:
    """Put the prompt encoder and the mask decoder of Segment Anything behind an image encoder.

    Parameters
    ----------
    image_encoder : torch.nn.Module
        An encoder with an embedding of `embed_dim` channels at 1/16 of its input.
    image_size : int
        Side of the encoder's square input, in pixels.
    embed_dim : int
        Channels of image and prompt embeddings; 256 in all official models.
    transformer_mlp_dim : int
        Hidden width of the two-way transformer; 2048 in all official models.
    instance_head : bool
        Add an instance head.

    Returns
    -------
    Sam
        The model.
    """
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=embed_dim, num_heads=8, mlp_dim=transformer_mlp_dim
    )
    return Sam(
        image_encoder=image_encoder,
        prompt_encoder=PromptEncoder(embed_dim=embed_dim, input_size=image_size),
        mask_decoder=MaskDecoder(embed_dim, transformer),
        instance_head=InstanceHead(embed_dim, skip_dim=0) if instance_head else None,
        input_spec=InputSpec(size=image_size),
    )


def _build_image_encoder(architecture: str) -> nn.Module:
    match architecture:
        case "vit_b":
            return ImageEncoderViT()
        case "vit_l":
            return ImageEncoderViT(
                embed_dim=1024,
                depth=24,
                num_heads=16,
                global_attention_indexes=(5, 11, 17, 23),
            )
        case "vit_h":
            return ImageEncoderViT(
                embed_dim=1280,
                depth=32,
                num_heads=16,
                global_attention_indexes=(7, 15, 23, 31),
            )
        case "vit_t":
            return TinyViT()
    raise ConfigError(
        f"The architecture {architecture!r} is unknown",
        rule=f"The architectures are {', '.join(ARCHITECTURES)}",
        cure="Choose one of these",
    )
