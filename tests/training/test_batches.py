"""Where crops come from, and with which weights."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.training.augment import TrainingImage, make_training_image
from napari_sam.training.batches import BatchSource
from napari_sam.training.config import TrainConfig


def source(sampling: dict[str, float], *groups: str) -> BatchSource:
    images = [own_image(group) for group in groups]
    config = TrainConfig(
        "data", "out", crop_size=64, images_per_batch=2, objects_per_image=2, sampling=sampling
    )
    return BatchSource(images, config)


def own_image(group: str) -> TrainingImage:
    labels = np.zeros((80, 80), np.int32)
    labels[20:60, 20:60] = 1
    return make_training_image(group, (labels * 200).astype(np.uint8), labels)


@pytest.mark.parametrize("kind", ["nuclei", "histology"])
def test_a_single_kind_can_be_sampled_gray_or_in_colour(kind: str) -> None:
    drawn = source({f"synthetic {kind}": 1.0})
    assert drawn.groups == [f"synthetic {kind}"]
    batches = [drawn.batch(index) for index in range(3)]
    images = np.concatenate([batch.images for batch in batches])
    assert images.shape == (6, 64, 64, 3)
    assert images.dtype == np.uint8
    coloured = [not np.array_equal(image[..., 0], image[..., 1]) for image in images]
    assert all(coloured) if kind == "histology" else not any(coloured)


def test_a_batch_depends_on_its_number_alone() -> None:
    sampling = {"synthetic": 1.0, "own": 1.0}
    one, other = source(sampling, "own cells").batch(5), source(sampling, "own cells").batch(5)
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.masks, other.masks)
    assert not np.array_equal(one.images, source(sampling, "own cells").batch(6).images)


def test_weights_of_all_kinds_of_one_kind_and_of_own_images() -> None:
    drawn = source(
        {"synthetic": 1.0, "synthetic yeast": 2.0, "synthetic nuclei": 0, "own": 5}, "own"
    )
    assert dict(zip(drawn.groups, drawn.probabilities, strict=True)) == {
        "own": 5 / 8,
        "synthetic": 1 / 8,
        "synthetic yeast": 2 / 8,
    }


def test_without_a_weight_nothing_synthetic_is_drawn() -> None:
    assert source({}, "own").groups == ["own"]


def test_own_images_may_be_called_synthetic() -> None:
    drawn = source({"synthetic beads": 2.0}, "synthetic beads 3D", "own")
    assert drawn.groups == ["own", "synthetic beads 3D"]
    assert drawn.probabilities.tolist() == pytest.approx([1 / 3, 2 / 3])


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    with pytest.raises(InputError, match="phase_contrast"):
        source({"synthetic phase contrast": 1.0}, "own")
