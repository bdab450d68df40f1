"""Training learns, stops at any moment, and goes on as if it had not."""

from __future__ import annotations

import csv
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from napari_sam.core.errors import CheckpointError, ConfigError, InputError, NapariSamError
from napari_sam.model import load_model
from napari_sam.training import (
    Started,
    StepDone,
    Stopped,
    TrainConfig,
    Validated,
    export_model,
    train,
)
from napari_sam.training import loop as loop_module
from napari_sam.training.batches import BatchSource, load_training_images
from napari_sam.training.checkpoint import load_checkpoint
from napari_sam.training.log import TrainingLog
from napari_sam.training.loop import TrainEvent
from napari_sam.training.start import Start
from napari_sam.training.step import _correct, _draw_rounds, _Prompted, training_losses
from napari_sam.training.validation import GroupScores
from tiny_models import tiny_sam
from training_data import write_images

pytestmark = pytest.mark.usefixtures("one_thread")


def _start_tiny(
    monkeypatch: pytest.MonkeyPatch, weights: dict[str, torch.Tensor] | None = None
) -> None:
    def start(name: str) -> Start:
        return Start(tiny_sam("compact").train(), weights or {})

    monkeypatch.setattr(loop_module, "build_start_model", start)


@pytest.fixture(autouse=True)
def _tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a tiny model, and draw no curves, which takes longer than a step."""
    _start_tiny(monkeypatch)
    monkeypatch.setattr(TrainingLog, "draw_curves", lambda self, best_iteration: None)


def _config(folder: Path) -> TrainConfig:
    """Write images into a folder, and choose a short run on them."""
    data = write_images(folder / "data", "012")
    rows = ["file,label_file,set,use,split,modality"]
    for index, split in enumerate(("train", "train", "val")):
        rows.append(f"images/{index}.png,labels/{index}.png,nuclei,train,{split},fluorescence")
    (data / "index.csv").write_text("\n".join(rows) + "\n")
    return TrainConfig(
        data=str(data),
        output=str(folder / "run"),
        iterations=4,
        crop_size=64,
        images_per_batch=2,
        objects_per_image=2,
        max_rounds=3,
        extra_round_probability=0.6,
        decay_from=0.5,
        checkpoint_every=100,
        validate_every=2,
        validation_objects=3,
        sampling={"synthetic": 0.5},
        device="cpu",
    )


@pytest.fixture
def config(tmp_path: Path) -> TrainConfig:
    return _config(tmp_path)


class FinishedRun(NamedTuple):
    config: TrainConfig
    events: list[TrainEvent]


@pytest.fixture(scope="module")
def finished(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A run to its end, with curves; tests leave its folder as it is."""
    config = _config(tmp_path_factory.mktemp("finished"))
    with pytest.MonkeyPatch.context() as patch:
        _start_tiny(patch)
        return FinishedRun(config, list(train(config)))


def _weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_checkpoint(Path(config.output) / "checkpoint.pt")["model"]


def test_events_log_and_export(finished: FinishedRun, tmp_path: Path) -> None:
    config, events = finished
    assert isinstance(events[0], Started)
    assert events[0].images == 2
    assert [event.iteration for event in events if isinstance(event, StepDone)] == [1, 2, 3, 4]
    (first, last) = [event for event in events if isinstance(event, Validated)]
    assert (first.iteration, last.iteration) == (2, 4)
    score = last.scores["nuclei fluorescence"]
    assert 0 <= score.click <= score.click_best <= 1
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    folder = Path(config.output)
    rows = list(csv.DictReader((folder / "steps.csv").read_text().splitlines()))
    assert [row["iteration"] for row in rows] == ["1", "2", "3", "4"]
    with Image.open(folder / "curves.png") as curves:
        assert curves.size[0] > 500
    assert [type(event) for event in train(config)] == [Started, Stopped]  # nothing left to do

    path = export_model(stopped.checkpoint, tmp_path / "model.safetensors")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        assert file.metadata()["iterations"] == "4"
        assert file.get_tensor("mask_decoder.iou_token.weight").dtype == torch.float16
        assert file.get_tensor("image_encoder.stem.norm.running_var").dtype == torch.float32


def test_a_stopped_run_goes_on_to_the_same_weights(finished: FinishedRun, tmp_path: Path) -> None:
    config = finished.config
    resumed = dataclasses.replace(config, output=str(tmp_path / "resumed"))
    events = train(resumed)
    for event in events:
        if isinstance(event, StepDone) and event.iteration == 2:
            break
    events.close()
    continued = list(train(resumed))
    assert continued[0] == Started(2, 4, 2, "cpu")
    straight, again = _weights(config), _weights(resumed)
    assert all(torch.equal(straight[name], again[name]) for name in straight)
    rows = (tmp_path / "resumed" / "steps.csv").read_text().splitlines()
    assert len(rows) == 5


def _scored(monkeypatch: pytest.MonkeyPatch, *values: float) -> None:
    """Let the validations of a run give these scores, one after the other."""
    scores = iter(values)

    def validate(*_: object) -> dict[str, GroupScores]:
        value = next(scores)
        return {
            "nuclei": GroupScores(click=value - 0.1, click_best=1, click_single=1, box=value + 0.1),
            "axons": GroupScores(click=value, click_best=0, click_single=0, box=value),
        }

    monkeypatch.setattr(loop_module, "validate", validate)


def test_the_best_validation_is_what_is_exported(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open

    config = dataclasses.replace(config, validate_every=1, checkpoint_every=1)
    _scored(monkeypatch, 0.5, 0.7, 0.6, 0.7)
    events = []
    for event in (steps := train(config)):
        events.append(event)
        if isinstance(event, Validated) and event.iteration == 3:
            break
    steps.close()
    events += train(config)  # goes on, and still knows its best
    assert [e.is_best for e in events if isinstance(e, Validated)] == [True, True, False, False]
    stopped = events[-1]
    assert isinstance(stopped, Stopped)
    assert (stopped.iteration, stopped.best_iteration) == (4, 2)
    kept, last = load_checkpoint(stopped.best), load_checkpoint(stopped.checkpoint)
    assert kept["score"] == pytest.approx(0.7)
    assert any(not torch.equal(kept["average"][n], last["average"][n]) for n in kept["average"])
    path = export_model(stopped.best, tmp_path / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    with safe_open(path, "pt") as file:
        assert file.metadata()["iterations"] == "2"
        assert torch.equal(file.get_tensor(name), kept["average"][name].half())
    assert next(reversed(list(train(config)))) == stopped  # nothing left to do, the same best


def test_a_run_that_begins_anew_forgets_the_best_of_the_last(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(config, iterations=2, validate_every=1)
    _scored(monkeypatch, 0.9, 0.9, 0.2, 0.3)
    (*_, stopped) = train(config)
    assert stopped.best_iteration == 1
    stopped.checkpoint.unlink()
    (*_, stopped) = train(config)
    assert stopped.best_iteration == 2


def test_without_a_validation_split_the_last_weights_are_exported(config: TrainConfig) -> None:
    (Path(config.data) / "index.csv").unlink()
    (*_, validated, stopped) = train(dataclasses.replace(config, iterations=2))
    assert validated == Validated(2, {}, False)
    assert (stopped.best, stopped.best_iteration) == (stopped.checkpoint, 2)


def _last_step(events: Iterator[object]) -> int:
    return max(event.iteration for event in events if isinstance(event, StepDone))


def test_training_lowers_the_loss(config: TrainConfig) -> None:
    model = tiny_sam("compact").train()
    config = dataclasses.replace(config, images_per_batch=1)
    batch = BatchSource(load_training_images(Path(config.data)), config).batch(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        result = training_losses(model, batch, config, np.random.default_rng(0))
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
        losses.append(float(result.total.detach()))
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:3])


def test_batches_depend_on_seed_and_step_alone(config: TrainConfig) -> None:
    images = load_training_images(Path(config.data))
    first, again = BatchSource(images, config), BatchSource(images, config)
    first.batch(0)
    one, two = first.batch(5), again.batch(5)
    assert np.array_equal(one.images, two.images)
    assert np.array_equal(one.masks, two.masks)
    assert not np.array_equal(one.images, first.batch(6).images)
    assert one.masks[~one.background].any(axis=(1, 2)).all()
    assert not one.masks[one.background].any()


def test_background_clicks_are_drawn(config: TrainConfig) -> None:
    source = BatchSource(
        load_training_images(Path(config.data)),
        dataclasses.replace(config, background_fraction=1.0),
    )
    batch = source.batch(0)
    assert batch.background.all()
    assert batch.background_masks.any(axis=(1, 2)).all()
    losses = training_losses(tiny_sam("compact"), batch, config, np.random.default_rng(0))
    assert losses.mask == 0.0


def test_the_length_of_a_run_may_change_until_the_rate_falls(config: TrainConfig) -> None:
    # the rate falls from step 1 on
    config = dataclasses.replace(config, iterations=2, checkpoint_every=1)
    for step, event in enumerate(steps := train(config)):
        if step and isinstance(event, StepDone):
            break
    steps.close()
    longer = dataclasses.replace(config, iterations=3)
    assert _last_step(train(longer)) == 3
    with pytest.raises(ConfigError, match="iterations"):
        next(train(dataclasses.replace(config, iterations=4)))


def test_a_head_of_another_build_starts_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import save_file

    from napari_sam.training import start

    monkeypatch.undo()
    sam = start.build_start_model("compact").sam
    state = {name: value.clone() for name, value in sam.state_dict().items()}
    state["instance_head.maps.weight"] = state["instance_head.maps.weight"][:, :3].clone()
    state["image_encoder.stem.conv.weight"].fill_(0.25)
    save_file(state, tmp_path / "other.safetensors")
    begun_sam, weights = start.build_start_model(str(tmp_path / "other.safetensors"))
    begun = begun_sam.state_dict()
    assert weights.keys() == {name for name in state if not name.startswith("instance_head.")}
    assert (begun["image_encoder.stem.conv.weight"] == 0.25).all()
    assert (
        begun["instance_head.maps.weight"].shape
        == sam.state_dict()["instance_head.maps.weight"].shape
    )


def test_objects_go_through_rounds_of_their_own(config: TrainConfig) -> None:
    config = dataclasses.replace(config, objects_per_image=200, max_rounds=4)
    batch = BatchSource(load_training_images(Path(config.data)), config).batch(0)
    rounds = _draw_rounds(batch, config, np.random.default_rng(0))
    assert set(rounds[batch.background]) == {1}
    assert set(rounds) == {1, 2, 3, 4}
    assert 0.5 < (rounds[~batch.background] > 1).mean() < 0.7


def test_some_rounds_add_no_click_and_some_leave_the_mask_alone(config: TrainConfig) -> None:
    truth = np.zeros((300, 16, 16), bool)
    truth[:, 4:12, 4:12] = True
    before = _Prompted([[(8.0, 8.0)]] * 300, [[1]] * 300, [None] * 300)
    empty, rng = torch.full((300, 1, 8, 8), -5.0), np.random.default_rng(0)
    config = dataclasses.replace(config, mask_only_fraction=0.4)
    counts = np.array([len(own) for own in _correct(before, truth, empty, config, rng).points])
    shares = [(counts == number).mean() for number in (0, 1, 2)]
    np.testing.assert_allclose(shares, [0.2, 0.2, 0.6], atol=0.08)


def test_another_run_in_the_folder_is_refused(finished: FinishedRun, tmp_path: Path) -> None:
    config = dataclasses.replace(finished.config, output=str(tmp_path / "run"))
    shutil.copytree(finished.config.output, config.output)
    with pytest.raises(ConfigError, match="learning_rate"):
        next(train(dataclasses.replace(config, learning_rate=0.5)))
    (Path(config.output) / "checkpoint.pt").write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="cannot be read"):
        next(train(config))
    torch.save({"weights": torch.zeros(1)}, Path(config.output) / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a training checkpoint"):
        next(train(config))


def test_a_loss_that_is_not_finite_stops_the_run(
    config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop_module.training_losses

    def broken(*arguments: object) -> object:
        losses = real(*arguments)
        return losses._replace(total=losses.total * float("nan"))

    monkeypatch.setattr(loop_module, "training_losses", broken)
    with pytest.raises(NapariSamError, match="finite"):
        list(train(config))
    assert all(value.isfinite().all() for value in _weights(config).values())


def test_groups_without_weight_are_refused(config: TrainConfig) -> None:
    images = load_training_images(Path(config.data))
    with pytest.raises(InputError, match="weight"):
        BatchSource(images, dataclasses.replace(config, sampling={"nuclei": 0.0}))


def test_a_run_can_start_from_a_model_file(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    from napari_sam.model import weight_files
    from napari_sam.training.start import build_start_model

    full = dataclasses.replace(config, iterations=1, images_per_batch=1, objects_per_image=1)
    (*_, stopped) = train(full)
    path = export_model(stopped.checkpoint, tmp_path / "compact.safetensors")
    read, files = weight_files.read_state_dict, []
    monkeypatch.setattr(
        weight_files, "read_state_dict", lambda file: (files.append(file), read(file))[1]
    )
    start = build_start_model(str(path)).sam.state_dict()
    assert files == [path]  # it may be large
    saved = load_model(path, device="cpu").state_dict()
    assert all(torch.equal(value, start[name].to(value.dtype)) for name, value in saved.items())
    with pytest.raises(ConfigError, match="unknown"):
        build_start_model("vit_x")


def test_exported_weights_keep_a_share_of_the_start(
    finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (*_, first) = finished.events
    start = load_file(export_model(first.checkpoint, tmp_path / "start.safetensors", half=False))
    _start_tiny(monkeypatch, {k: v for k, v in start.items() if "instance_head" not in k})
    shared = dataclasses.replace(
        finished.config,
        output=str(tmp_path / "shared"),
        iterations=2,
        model="start.safetensors",
        start_share=0.75,
        seed=1,
    )
    (*_, stopped) = train(shared)
    average = load_checkpoint(stopped.checkpoint)["average"]
    written = load_file(export_model(stopped.checkpoint, tmp_path / "new.safetensors", half=False))
    for name, value in written.items():
        share = 0.75 if name in start and "instance_head" not in name else 0.0
        if value.is_floating_point():
            torch.testing.assert_close(value, average[name].lerp(start[name], share))
    assert any((average[name] != start[name]).any() for name in start)


def test_a_share_of_random_weights_is_refused(config: TrainConfig) -> None:
    with pytest.raises(ConfigError, match="start_share"):
        dataclasses.replace(config, start_share=0.5)
