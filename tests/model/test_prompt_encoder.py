"""Prompts drawn as maps, and the positional encoding that both prompt encoders share."""

from __future__ import annotations

import pytest
import torch

from napari_sam.model.prompt_encoder import MapPromptEncoder, PromptEncoder

GRID = (8, 12)  # of 64 x 96 pixels


@pytest.fixture
def encoder() -> MapPromptEncoder:
    torch.manual_seed(0)
    return MapPromptEncoder(embed_dim=32, fine_dim=16, frame_size=128).eval()


def _drawn(encoder: MapPromptEncoder, **prompts: object) -> torch.Tensor:
    given = {"points": None, "boxes": None, "mask_logits": None} | prompts
    return encoder._draw(1, given["points"], given["boxes"], given["mask_logits"], GRID)[0]


def test_clicks_are_drawn_where_they_are(encoder: MapPromptEncoder) -> None:
    points = (torch.tensor([[[41.5, 21.5], [9.5, 53.5], [0.0, 0.0]]]), torch.tensor([[1, 0, -1]]))
    foreground, background, box, mask = _drawn(encoder, points=points)
    assert foreground.shape == (16, 24)
    assert divmod(int(foreground.argmax()), 24) == (5, 10)  # pixel (42, 22) in cells of 4
    assert divmod(int(background.argmax()), 24) == (13, 2)
    assert foreground.max() == pytest.approx(1.0, abs=0.05)
    assert foreground[0, 0] < 1e-3  # padding draws nothing
    assert not box.any()
    assert not mask.any()


def test_boxes_are_filled(encoder: MapPromptEncoder) -> None:
    box = _drawn(encoder, boxes=torch.tensor([[8.0, 16.0, 39.0, 33.0]]))[2]
    assert (box[4:8, 2:10] == 1).all()
    assert box[8, 5] == pytest.approx(0.5)  # rows 32 and 33 of the cell 32..35
    assert box.sum() == pytest.approx((39 - 8 + 1) * (33 - 16 + 1) / 16)


def test_mask_prompts_become_signed_probabilities(encoder: MapPromptEncoder) -> None:
    logits = torch.full((1, 1, 32, 48), -20.0)
    logits[..., 8:16, 8:16] = 20.0
    mask = _drawn(encoder, mask_logits=logits)[3]
    assert (mask[4:8, 4:8] == 1).all()
    assert mask[0, 0] == -1


def test_a_mask_alone_still_has_its_padding_token(encoder: MapPromptEncoder) -> None:
    embeddings = encoder(None, None, torch.zeros(3, 1, 32, 48), GRID)
    assert embeddings.sparse.shape == (3, 1, 32)
    assert torch.equal(embeddings.sparse[0, 0], encoder.not_a_point_embed.weight[0])
    assert embeddings.dense.shape == (3, 32, *GRID)
    assert embeddings.dense_fine is not None
    assert embeddings.dense_fine.shape == (3, 16, 16, 24)


@pytest.mark.parametrize("kind", ["official", "compact"])
def test_a_click_has_the_encoding_of_the_cell_under_it(kind: str) -> None:
    torch.manual_seed(1)
    if kind == "official":
        model: PromptEncoder | MapPromptEncoder = PromptEncoder(embed_dim=32, input_size=128)
        grid, cell = (8, 8), 16
    else:
        model, grid, cell = MapPromptEncoder(embed_dim=32, frame_size=128), GRID, 8
    centre = torch.tensor([[[(3 + 0.5) * cell - 0.5, (5 + 0.5) * cell - 0.5]]])
    origin = (24.0, 8.0)
    sparse = model((centre, torch.ones(1, 1)), None, None, grid, origin).sparse[0, 0]
    dense = model.dense_pe(grid, origin)[0, :, 5, 3]
    assert torch.allclose(sparse - model.point_embeddings[1].weight[0], dense, atol=1e-5)


def test_windows_beyond_the_frame_widen_it(encoder: MapPromptEncoder) -> None:
    wide = encoder.dense_pe((40, 40))  # 320 pixels in a frame of 128
    assert torch.allclose(
        wide[0, :, 0, 0], encoder.pe_layer.encode(torch.full((2,), 0.5 / 40)), atol=1e-5
    )
