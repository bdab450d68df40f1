"""A student comes near to its teacher; a run can be stopped; its model loads like any other."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from napari_sam.core.errors import ConfigError
from napari_sam.model import builders, load_model
from napari_sam.model.sam import Sam
from napari_sam.predict import SamPredictor
from napari_sam.training import (
    DistillConfig,
    DistillStepDone,
    Started,
    Stopped,
    TeacherEncoded,
    distill,
    distillation,
    export_model,
)
from napari_sam.training.checkpoint import load_checkpoint
from napari_sam.training.distill_data import DistillBatch, DistillSource, load_distill_images
from napari_sam.training.distillation import decode_all_masks, distillation_losses
from napari_sam.training.teacher import Teacher, build_student, join_to_teacher
from tiny_models import build_small, tiny_sam
from training_data import write_images

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _tiny_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build vit_t small; the teacher is a small ViT with random weights."""
    build_small(monkeypatch)
    monkeypatch.setattr(distillation, "load_model", lambda name, device: tiny_sam("vit"))


@pytest.fixture
def config(tmp_path: Path) -> DistillConfig:
    data = write_images(tmp_path / "data", "012", (96, 80))
    return DistillConfig(
        data=str(data),
        output=str(tmp_path / "run"),
        teacher="a tiny one",
        iterations=4,
        images_per_batch=2,
        objects_per_image=2,
        learning_rate=3e-3,
        warmup=2,
        checkpoint_every=100,
        device="cpu",
    )


def _source(config: DistillConfig, *, with_labels: bool) -> DistillSource:
    spec = tiny_sam("vit").input_spec
    images = load_distill_images(Path(config.data), spec, with_labels=with_labels)
    return DistillSource(images, config)


def _stop_after(events: Iterator[object], step: int) -> None:
    for event in events:
        if isinstance(event, DistillStepDone) and event.iteration == step:
            break
    events.close()


def test_events_and_log(config: DistillConfig) -> None:
    events = list(distill(config))
    assert events[0] == Started(0, 4, 3, "cpu")
    assert events[1:4] == [TeacherEncoded(done, 3) for done in (1, 2, 3)]
    assert [event.iteration for event in events[4:-1]] == [1, 2, 3, 4]
    assert all(event.mask_loss == 0 for event in events[4:-1])
    assert isinstance(events[-1], Stopped)
    rows = list(csv.DictReader((Path(config.output) / "steps.csv").read_text().splitlines()))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[0]["embedding"]) == pytest.approx(events[4].embedding_loss, rel=1e-3)
    assert [type(event) for event in distill(config)] == [Started, Stopped]  # nothing left to do


def test_the_embedding_comes_near_to_the_teachers(config: DistillConfig) -> None:
    events = distill(dataclasses.replace(config, iterations=40))
    errors = [event.embedding_loss for event in events if isinstance(event, DistillStepDone)]
    assert np.mean(errors[-3:]) < 0.25 * np.mean(errors[:3])


def test_the_mask_loss_brings_masks_nearer_to_the_teachers(
    config: DistillConfig, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(config, mask_weight=1.0)
    teacher = Teacher(tiny_sam("vit"), tmp_path / "teacher")
    student = join_to_teacher(build_student("vit_t"), teacher.sam)
    batch = _source(config, with_labels=True).batch(0)
    target = teacher.batch(batch.images)
    optimizer = torch.optim.AdamW(student.image_encoder.parameters(), lr=3e-3)
    student.image_encoder.train()
    before = _agreement(student, teacher, batch)
    losses = []
    for _ in range(20):
        result = distillation_losses(student, batch, target, config)
        mask_alone = result.mask  # so that nothing else brings them nearer
        optimizer.zero_grad()
        mask_alone.backward()
        optimizer.step()
        losses.append(float(mask_alone.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert _agreement(student, teacher, batch) > before + 0.15


def _agreement(student: Sam, teacher: Teacher, batch: DistillBatch) -> float:
    """Mean IoU of the student's masks with the teacher's, for the same prompts."""
    ious = []
    with torch.no_grad():
        features = student.encode(distillation.frame_pixels(batch.images, student))
        for index, prompts in enumerate(batch.prompts):
            own = decode_all_masks(student, features.of_prompt(index), prompts) > 0
            target = teacher.batch(batch.images[index : index + 1])
            true = decode_all_masks(teacher.sam, target, prompts) > 0
            union = (own | true).sum((2, 3)).clamp(min=1)
            ious.append((own & true).sum((2, 3)) / union)
    return float(torch.cat(ious).mean())


def test_a_stopped_run_goes_on_to_the_same_weights(config: DistillConfig, tmp_path: Path) -> None:
    config = dataclasses.replace(config, mask_weight=0.1)
    list(distill(config))
    resumed = dataclasses.replace(config, output=str(tmp_path / "resumed"))
    _stop_after(distill(resumed), 2)
    continued = list(distill(resumed))
    assert continued[0] == Started(2, 4, 3, "cpu")
    straight, again = (
        load_checkpoint(Path(options.output) / "checkpoint.pt") for options in (config, resumed)
    )
    for part in ("encoder", "average"):
        assert all(torch.equal(straight[part][key], again[part][key]) for key in straight[part])
    assert len((tmp_path / "resumed" / "steps.csv").read_text().splitlines()) == 5


def test_the_teacher_encodes_only_what_the_run_will_take(config: DistillConfig) -> None:
    events = list(distill(dataclasses.replace(config, iterations=1)))
    assert [event for event in events if isinstance(event, TeacherEncoded)] == [
        TeacherEncoded(1, 2),
        TeacherEncoded(2, 2),
    ]
    assert len(list((Path(config.output) / "teacher").iterdir())) == 2


def test_the_teacher_encodes_an_image_once(
    config: DistillConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = dataclasses.replace(config, embeddings=str(tmp_path / "shared"))
    list(distill(shared))

    def refuse(self: Teacher, image: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(Teacher, "_encode", refuse)
    list(distill(dataclasses.replace(shared, output=str(tmp_path / "another"))))
    assert not (tmp_path / "run" / "teacher").exists()


def test_the_teachers_parts_stay_as_they_are_and_the_student_learns_all_of_its_own(
    config: DistillConfig,
) -> None:
    torch.manual_seed(config.seed)
    start = builders.build_sam("vit_t").state_dict()
    list(distill(dataclasses.replace(config, mask_weight=0.1, ema_decay=0.0)))
    after = load_checkpoint(Path(config.output) / "checkpoint.pt")["average"]
    teacher = tiny_sam("vit").state_dict()
    unused = ("image_encoder.norm_head.", "image_encoder.head.")  # the classifier of pretraining
    for name, value in after.items():
        if name.startswith("image_encoder."):
            assert torch.equal(value, start[name]) == name.startswith(unused), name
        else:
            assert torch.equal(value, teacher[name]), name


def test_the_model_that_comes_out_loads_and_decodes(config: DistillConfig, tmp_path: Path) -> None:
    (*_, stopped) = distill(config)
    path = export_model(stopped.checkpoint, tmp_path / "student.safetensors", half=False)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["architecture"] == "vit_t"
    assert metadata["teacher"].endswith("sha256:" + tiny_sam("vit").digest)
    sam = load_model(path, device="cpu")
    average = load_checkpoint(stopped.checkpoint)["average"]
    assert all(torch.equal(value, average[name]) for name, value in sam.state_dict().items())
    predictor = SamPredictor(sam)
    with Image.open(Path(config.data) / "images" / "0.png") as image:
        embedding = predictor.encode(np.asarray(image))
    prediction = predictor.predict(embedding, points_xy=[[40, 40]], point_labels=[1])
    assert prediction.masks.shape == (3, 96, 80)
    assert np.isfinite(prediction.low_res_logits).all()

    again = build_student(str(path)).state_dict()  # a student may start from a file
    assert all(torch.equal(value, again[name]) for name, value in sam.state_dict().items())


def test_a_student_of_another_embedding_is_refused(
    config: DistillConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(distillation, "load_model", lambda name, device: tiny_sam("vit"))
    build_small(monkeypatch, embed_dim=16)
    with pytest.raises(ConfigError, match=r"\(16, 8, 8\).*\(32, 8, 8\)") as error:
        next(distill(config))
    assert "vit_t" in error.value.cure
    with pytest.raises(ConfigError, match="native pixels"):
        next(distill(dataclasses.replace(config, student="compact")))
    assert not Path(config.output).exists()


def test_a_compact_student_learns_the_finer_maps_too(config: DistillConfig, tmp_path: Path) -> None:
    teacher = Teacher(tiny_sam("compact"), tmp_path / "teacher")
    student = join_to_teacher(tiny_sam("compact", seed=1), teacher.sam)
    images = load_distill_images(Path(config.data), teacher.sam.input_spec, with_labels=False)
    batch = DistillBatch(images, [None] * len(images))
    target = teacher.batch(images)
    losses = distillation_losses(student, batch, target, config)
    own = student.encode(distillation.frame_pixels(images, student))
    errors = [
        (a - b).square().mean()
        for a, b in zip((own.embedding, *own.skips), (target.embedding, *target.skips), strict=True)
    ]
    assert len(errors) == 3
    assert float(losses.total.detach()) == pytest.approx(float(sum(errors).detach()), rel=1e-4)


def test_half_precision_changes_the_loss_little(config: DistillConfig, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(config, mask_weight=0.1)
    teacher = Teacher(tiny_sam("vit"), tmp_path / "teacher")
    student = join_to_teacher(build_student("vit_t"), teacher.sam)
    batch = _source(config, with_labels=True).batch(0)
    target = teacher.batch(batch.images)
    exact = distillation_losses(student, batch, target, config)
    half = dataclasses.replace(config, autocast=True)
    rounded = distillation_losses(student, batch, target, half)
    for one, two in zip(exact, rounded, strict=True):
        assert two.dtype == torch.float32
        assert float(two.detach()) == pytest.approx(float(one.detach()), rel=0.05)
    assert rounded.embedding != exact.embedding
    rounded.total.backward()


def test_another_run_in_the_folder_is_refused(
    config: DistillConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    list(distill(config))
    with pytest.raises(ConfigError, match="learning_rate"):
        next(distill(dataclasses.replace(config, learning_rate=0.5)))
    moved = dataclasses.replace(config, teacher="the same, elsewhere")
    assert [type(event) for event in distill(moved)] == [Started, Stopped]
    monkeypatch.setattr(distillation, "load_model", lambda name, device: tiny_sam("vit", seed=1))
    with pytest.raises(ConfigError, match="teacher_digest"):
        next(distill(config))
    path = Path(config.output) / "checkpoint.pt"
    torch.save({"iteration": 1, "config": "{}"}, path)
    with pytest.raises(ConfigError, match="napari-sam train"):
        next(distill(config))
