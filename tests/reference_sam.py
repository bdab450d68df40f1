"""The reference implementation's model with the weights of one of ours."""

from __future__ import annotations

from typing import Any

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from napari_sam.model.sam import Sam as OurSam


class _BorrowedEncoder(nn.Module):
    """Our image encoder behind the reference's interface, where the reference has none."""

    def __init__(self, sam: OurSam) -> None:
        super().__init__()
        self.encoder = sam.image_encoder
        self.img_size = sam.input_spec.size

    def forward(self, pixels: Tensor) -> Tensor:
        return self.encoder(pixels).embedding


def reference_of(sam: OurSam) -> Any:
    """Build the reference model with `sam`'s prompt encoder and mask decoder weights.

    The image encoder is ours: encoders have parity tests of their own.
    """
    spec, dim = sam.input_spec, sam.prompt_encoder.embed_dim
    grid = spec.size // spec.stride
    blocks = sam.mask_decoder.transformer
    mlp_dim = next(p for n, p in blocks.named_parameters() if "mlp.lin1.weight" in n).shape[0]
    reference = Sam(
        image_encoder=_BorrowedEncoder(sam),
        prompt_encoder=PromptEncoder(dim, (grid, grid), (spec.size, spec.size), 16),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(2, dim, 8, mlp_dim),
            num_multimask_outputs=3,
        ),
    )
    with torch.no_grad():
        reference.prompt_encoder.load_state_dict(sam.prompt_encoder.state_dict())
        reference.mask_decoder.load_state_dict(sam.mask_decoder.state_dict())
    return reference.eval()
