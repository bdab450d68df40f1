"""A teacher answers the same from memory and from the disk; a student fits behind its encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from napari_sam.core.errors import ConfigError, NapariSamWarning
from napari_sam.training.distill_data import DistillImage
from napari_sam.training.teacher import Teacher, build_student, join_to_teacher
from tiny_models import tiny_sam


def _image(seed: int) -> DistillImage:
    rng = np.random.default_rng(seed)
    return DistillImage(rng.integers(0, 256, (128, 100, 1), np.uint8), None)


def test_stored_and_computed_embeddings_are_equal(tmp_path: Path) -> None:
    images = [_image(0), _image(1)]
    computed = Teacher(tiny_sam("compact"), tmp_path).batch(images)
    stored = Teacher(tiny_sam("compact"), tmp_path).batch(images)
    assert len(computed.skips) == 2
    for one, two in zip(
        (computed.embedding, *computed.skips), (stored.embedding, *stored.skips), strict=True
    ):
        assert one.dtype == torch.float32
        assert torch.equal(one, two)
    assert not torch.equal(computed.embedding[0], computed.embedding[1])


def test_embeddings_belong_to_one_teacher(tmp_path: Path) -> None:
    (first, *_) = Teacher(tiny_sam("vit"), tmp_path).maps(_image(0))
    (second, *_) = Teacher(tiny_sam("vit", seed=1), tmp_path).maps(_image(0))
    assert not np.array_equal(first, second)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    teacher = Teacher(tiny_sam("vit"), tmp_path / "file")
    with pytest.warns(NapariSamWarning, match="cannot be stored"):
        first = teacher.maps(_image(0))
    assert np.array_equal(first[0], teacher.maps(_image(0))[0])


def test_a_teacher_is_frozen(tmp_path: Path) -> None:
    teacher = Teacher(tiny_sam("vit").train(), tmp_path)
    assert not teacher.sam.training
    assert not any(weight.requires_grad for weight in teacher.sam.parameters())


def test_a_student_with_other_parts_behind_its_encoder_is_refused() -> None:
    student, teacher = tiny_sam("compact"), tiny_sam("compact")
    assert join_to_teacher(student, teacher).instance_head is teacher.instance_head
    teacher.instance_head = None
    with pytest.raises(ConfigError, match="instance_head"):
        join_to_teacher(student, teacher)


def test_an_unknown_student_is_refused() -> None:
    with pytest.raises(ConfigError, match="vit_x"):
        build_student("vit_x")
