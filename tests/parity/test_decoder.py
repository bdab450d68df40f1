"""Prompt encoder and mask decoder against Segment Anything's, with the same random weights."""

from __future__ import annotations

import functools

import pytest
import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import Tensor, nn

from tiny_models import EMBED_DIM, IMAGE_SIZE, VIT_CONFIG, tiny_sam

GRID = IMAGE_SIZE // 16
RANDOM = torch.Generator().manual_seed(0)

POINT = (torch.tensor([[[40.0, 71.5]]]), torch.tensor([[1]]))
POINTS = (
    torch.tensor([[[40.0, 71.5], [3.0, 9.0], [120.0, 64.0], [64.0, 1.0], [0.0, 127.0]]]),
    torch.tensor([[1, 0, 1, 0, -1]]),
)
BOX = torch.tensor([[10.0, 20.0, 90.5, 101.0]])
BATCH = (
    torch.rand(4, 2, 2, generator=RANDOM) * IMAGE_SIZE,
    torch.tensor([[1, 0], [1, 1], [0, -1], [1, -1]]),
)
MASK = torch.randn(1, 1, 4 * GRID, 4 * GRID, generator=RANDOM) * 5

PROMPTS = {
    "1 point": (POINT, None, None),
    "5 points": (POINTS, None, None),
    "box": (None, BOX, None),
    "box and points": (POINTS, BOX, None),
    "mask": (None, None, MASK),
    "point and mask": (POINT, None, MASK),
    "box, points and mask": (POINTS, BOX, MASK),
    "4 prompts": (BATCH, None, None),
    "4 boxes": (None, BOX + torch.arange(4.0)[:, None], None),
}


def _reference() -> Sam:
    """Build the reference of `tiny_sam` and give it the same weights."""
    reference = Sam(
        image_encoder=ImageEncoderViT(
            img_size=IMAGE_SIZE,
            **VIT_CONFIG,
            global_attn_indexes=(2,),
            out_chans=EMBED_DIM,
            use_rel_pos=True,
            norm_layer=functools.partial(nn.LayerNorm, eps=1e-6),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=EMBED_DIM,
            image_embedding_size=(GRID, GRID),
            input_image_size=(IMAGE_SIZE, IMAGE_SIZE),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            transformer_dim=EMBED_DIM,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=EMBED_DIM, num_heads=8, mlp_dim=64
            ),
        ),
    )
    reference.load_state_dict(tiny_sam().state_dict())
    return reference.eval()


def _decode_reference(
    sam: Sam,
    embedding: Tensor,
    points: tuple[Tensor, Tensor] | None,
    boxes: Tensor | None,
    mask: Tensor | None,
    multimask: bool,
) -> tuple[Tensor, Tensor]:
    sparse, dense = sam.prompt_encoder(points=points, boxes=boxes, masks=mask)
    return sam.mask_decoder(
        image_embeddings=embedding,
        image_pe=sam.prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse,
        dense_prompt_embeddings=dense,
        multimask_output=multimask,
    )


@pytest.mark.parametrize("multimask", [True, False])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_masks_and_scores_equal_the_reference(prompt: str, multimask: bool) -> None:
    points, boxes, mask = PROMPTS[prompt]
    sam, reference = tiny_sam(), _reference()
    torch.manual_seed(1)
    pixels = torch.rand(1, 3, IMAGE_SIZE, IMAGE_SIZE) * 255
    with torch.inference_mode():
        features = sam.encode(pixels)
        expected_logits, expected_iou = _decode_reference(
            reference, features.embedding, points, boxes, mask, multimask
        )
        logits, iou = sam.decode(
            features, points=points, boxes=boxes, mask_logits=mask, multimask=multimask
        )
    assert logits.shape == expected_logits.shape
    assert expected_logits.std() > 0.05
    torch.testing.assert_close(logits, expected_logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(iou, expected_iou, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(128, 128), (96, 128), (128, 77)])
def test_embeddings_equal_the_reference(shape: tuple[int, int]) -> None:
    """Normalisation and padding of images of any shape, through the whole encoder."""
    sam, reference = tiny_sam(), _reference()
    torch.manual_seed(2)
    pixels = torch.rand(2, 3, *shape) * 255
    with torch.inference_mode():
        embedding = sam.encode(pixels).embedding
        expected = reference.image_encoder(reference.preprocess(pixels))
    assert (embedding - expected).abs().max() <= 1e-4
