"""Crops reach every kind of model, and a frozen encoder sees each only once."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from napari_sam.core.errors import ConfigError
from napari_sam.model.instance_head import InstanceHead
from napari_sam.model.sam import Sam
from napari_sam.training import TrainConfig, synthetic_image
from napari_sam.training.augment import TrainingImage, make_training_image
from napari_sam.training.batches import BatchSource
from napari_sam.training.crop_frame import CropEncoder, CropFrame
from napari_sam.training.start import freeze_parts
from napari_sam.training.step import training_losses
from tiny_models import EMBED_DIM, tiny_sam


@pytest.fixture
def images() -> list[TrainingImage]:
    image, labels = synthetic_image((96, 96), np.random.default_rng(0), "nuclei")
    return [make_training_image("nuclei", (image // 16).astype(np.uint8), labels)]


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        data="",
        output="",
        train_parts="decoder",
        crop_pool=3,
        crop_size=64,
        images_per_batch=2,
        objects_per_image=3,
        max_rounds=2,
    )


def _with_head() -> Sam:
    sam = tiny_sam("vit")
    torch.manual_seed(0)
    sam.instance_head = InstanceHead(EMBED_DIM, skip_dim=0, hidden_dim=16)
    return sam


def test_a_crop_fills_the_input_of_a_model_without_native_pixels() -> None:
    frame = CropFrame(tiny_sam("vit"), 64)
    assert (frame.scale, frame.low_res_size) == (2.0, 32)
    image = np.zeros((1, 64, 64, 3), np.uint8)
    image[:, :32] = 200
    pixels = frame.pixels(image)
    assert pixels.shape == (1, 3, 128, 128)
    assert pixels[0, 0, 20, 20] == 200
    assert pixels[0, 0, 100, 100] == 0
    mask = np.zeros((1, 64, 64), bool)
    mask[:, 10:20, 30:40] = True
    assert frame.shrink(mask)[0, 5:10, 15:20].min() == 1
    assert frame.shrink(mask).sum() == 25
    native = CropFrame(tiny_sam("compact"), 64)
    assert (native.scale, native.low_res_size) == (1.0, 32)
    assert torch.equal(native.pixels(image)[0, 0, ::63, 0], torch.tensor([200.0, 0.0]))


def test_a_crop_smaller_than_the_masks_is_refused() -> None:
    with pytest.raises(ConfigError, match="crop_size = 48") as error:
        CropFrame(tiny_sam("vit"), 48)
    assert "crop_size = 64" in error.value.cure


def test_a_frozen_encoder_sees_each_crop_of_the_pool_once(
    images: list[TrainingImage], config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = _with_head().train()
    counts: list[int] = []
    real = sam.encode
    monkeypatch.setattr(sam, "encode", lambda pixels: counts.append(len(pixels)) or real(pixels))
    encode = CropEncoder(sam, config.crop_size, is_frozen=True)
    source = BatchSource(images, config)
    for index in range(12):
        batch = source.batch(index)
        features = encode(batch.images, batch.pool_numbers)
        alone = real(encode.frame.pixels(batch.images))
        torch.testing.assert_close(features.embedding, alone.embedding, rtol=1e-4, atol=1e-5)
        assert not features.embedding.requires_grad
    assert sum(counts) == config.crop_pool
    assert sam.image_encoder.training


@pytest.mark.parametrize("parts", ["decoder", "head"])
def test_only_the_chosen_parts_learn(
    images: list[TrainingImage], config: TrainConfig, parts: str
) -> None:
    config = dataclasses.replace(config, train_parts=parts)
    sam = _with_head().train()
    before = {name: value.clone() for name, value in sam.state_dict().items()}
    freeze_parts(sam, parts)
    encode = CropEncoder(sam, config.crop_size, is_frozen=True)
    source = BatchSource(images, config)
    optimizer = torch.optim.AdamW([p for p in sam.parameters() if p.requires_grad], lr=4e-3)
    losses = []
    for step in range(24):
        rng = np.random.default_rng(step % 4)
        result = training_losses(sam, source.batch(step % 4), config, rng, encode)
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        losses.append(float(result.total.detach()))
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:8])
    changed = {
        name.split(".")[0]
        for name, value in sam.state_dict().items()
        if (value != before[name]).any()
    }
    expected = {"instance_head"} | (
        {"mask_decoder", "prompt_encoder"} if parts == "decoder" else set()
    )
    assert changed == expected
    assert (result.mask == 0) == (parts == "head")
