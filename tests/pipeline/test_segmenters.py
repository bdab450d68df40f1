import dataclasses

import numpy as np
import pytest
import torch

from map_model import draw_discs, map_sam
from napari_sam.core.errors import (
    ConfigError,
    DeviceError,
    NapariSamError,
    NapariSamWarning,
    OutOfMemoryError,
)
from napari_sam.core.steps import result_of
from napari_sam.pipeline import (
    AutomaticOptions,
    FunctionSegmenter,
    ModelSegmenter,
    SegmentConfig,
    SteppingSegmenter,
)
from napari_sam.pipeline.segmenters import load_segmenter, segmentation_steps
from tiny_models import tiny_sam

LOOSE = AutomaticOptions(points_per_side=4, pred_iou_thresh=0.0, stability_score_thresh=0.0)


@pytest.fixture(scope="module")
def tile():
    rows, columns = np.ogrid[:96, :80]
    disc = (rows - 40) ** 2 + (columns - 35) ** 2 <= 400
    return np.repeat(np.where(disc, 200, 20).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("encoder", ["vit", "compact"])
def test_a_model_gives_labels_with_a_score_each(tile, encoder):
    model = tiny_sam(encoder)
    segmenter = ModelSegmenter(model, LOOSE)
    assert segmenter.window == model.input_spec.size
    assert segmenter.keeps_8bit == (model.input_spec.contrast == "as_is")
    objects = segmenter(tile)
    assert objects.labels.shape == tile.shape[:2]
    assert objects.labels.dtype == np.int32
    assert objects.scores.dtype == np.float32
    assert objects.labels.max() == len(objects.scores)
    np.testing.assert_array_equal(segmenter(tile).labels, objects.labels)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(torch.OutOfMemoryError("no memory"), OutOfMemoryError), (RuntimeError("cuDNN"), DeviceError)],
)
def test_errors_of_torch_are_no_runtime_errors(tile, monkeypatch, error, kind):
    model = tiny_sam("vit")

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(model, "encode", fail)
    with pytest.raises(kind) as caught:
        ModelSegmenter(model, LOOSE)(tile)
    assert not isinstance(caught.value, RuntimeError)


def test_a_batch_that_does_not_fit_is_halved_and_said(tile, monkeypatch):
    model = tiny_sam("vit")
    options = dataclasses.replace(LOOSE, points_per_batch=16)
    expected = ModelSegmenter(model, options)(tile)
    decode, sizes = model.decode_above, []

    def decode_few(features, *, points, **kwargs):
        sizes.append(len(points[0]))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("no memory")
        return decode(features, points=points, **kwargs)

    monkeypatch.setattr(model, "decode_above", decode_few)
    segmenter = ModelSegmenter(model, options)
    with pytest.warns(NapariSamWarning, match="points are decoded at once") as said:
        found = segmenter(tile)
    assert [str(warning.message).split(" points")[0][-1] for warning in said] == ["8", "4"]
    np.testing.assert_array_equal(found.labels, expected.labels)
    sizes.clear()
    segmenter(tile)  # it keeps to what fits
    assert max(sizes) == 4


def test_an_unknown_model_is_refused():
    with pytest.raises(NapariSamError, match="no_such_model"):
        load_segmenter(SegmentConfig(model="no_such_model"))


def test_an_unknown_device_is_refused():
    with pytest.raises(ConfigError, match="toaster"):
        load_segmenter(SegmentConfig(device="toaster"))


def test_cuda_that_is_absent_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(DeviceError, match="cuda"):
        load_segmenter(SegmentConfig(device="cuda"))


def test_a_function_is_a_segmenter(tile):
    segmenter = FunctionSegmenter(lambda pixels: (pixels[..., 0] > 100) * 1, digest="bright")
    labels, scores, *_ = segmenter(tile)
    assert labels.max() == len(scores) == 1


def test_a_model_works_on_a_tile_in_steps(tile):
    segmenter = ModelSegmenter(tiny_sam("vit"), dataclasses.replace(LOOSE, points_per_batch=4))
    assert isinstance(segmenter, SteppingSegmenter)
    progress = [(step.done, step.total) for step in segmenter.steps(tile)]
    assert progress == [(i, 4) for i in range(5)]
    objects = result_of(segmentation_steps(segmenter, tile))
    np.testing.assert_array_equal(objects.labels, segmenter(tile).labels)
    np.testing.assert_array_equal(objects.scores, segmenter(tile).scores)


def test_a_model_skips_points_of_a_tile(tile, monkeypatch):
    model = tiny_sam("compact")
    head = model.instance_head.forward
    monkeypatch.setattr(
        model.instance_head,
        "forward",
        lambda features: head(features)._replace(
            foreground=head(features).foreground.new_full((1, 24, 20), -9.0)
        ),
    )
    options = dataclasses.replace(LOOSE, points_per_batch=1, diameter="native")
    assert len(list(ModelSegmenter(model, options).steps(tile))) == 1 + 6
    blind = ModelSegmenter(model, dataclasses.replace(options, foreground_only=True))
    assert [(step.done, step.total) for step in blind.steps(tile)] == [(0, 0)]
    assert blind(tile).labels.max() == 0
    skipping = ModelSegmenter(model, dataclasses.replace(options, skip_covered=True))
    steps = [(step.done, step.total) for step in skipping.with_batch(1).steps(tile)]
    assert steps[0] == (0, 6)
    assert steps[-1][0] == steps[-1][1] <= 6
    with pytest.raises(ConfigError, match="foreground_only"):
        ModelSegmenter(tiny_sam("vit"), AutomaticOptions(foreground_only=True))


def test_a_watershed_of_a_tile_has_scores_and_no_batches():
    discs = [(30.0, 40.0, 20.0), (66.0, 50.0, 18.0)]
    options = AutomaticOptions(mode="watershed", diameter="native")
    segmenter = ModelSegmenter(map_sam(), options)
    tile = draw_discs((96, 100), discs)
    assert segmenter.batch is None
    assert [(step.done, step.total) for step in segmenter.steps(tile)] == [(0, 1), (1, 1)]
    objects = segmenter(tile)
    assert objects.labels.max() == len(objects.scores) == 2
    np.testing.assert_array_equal(objects.scores, objects.predicted_ious * objects.stability_scores)
    assert (objects.scores > 0.5).all()


def test_a_watershed_without_memory_fails_at_once(monkeypatch):
    model = map_sam()

    def fail(features):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(model.instance_head, "forward", fail)
    with pytest.raises(OutOfMemoryError):
        ModelSegmenter(model, AutomaticOptions(mode="watershed"))(np.zeros((64, 64, 3), np.uint8))


def test_closing_the_steps_of_a_tile_stops_the_model(tile, monkeypatch):
    model = tiny_sam("vit")
    batches = []
    decode = model.decode_above

    def counting(*args, **kwargs):
        batches.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(model, "decode_above", counting)
    segmenter = ModelSegmenter(model, dataclasses.replace(LOOSE, points_per_batch=4))
    steps = segmentation_steps(segmenter, tile)
    next(steps)
    next(steps)
    steps.close()
    assert len(batches) == 1


def test_a_segmenter_without_steps_works_in_one_go(tile):
    segmenter = FunctionSegmenter(lambda pixels: (pixels[..., 0] > 100) * 1, digest="bright")
    assert not isinstance(segmenter, SteppingSegmenter)
    assert list(segmentation_steps(segmenter, tile)) == []
    assert result_of(segmentation_steps(segmenter, tile)).labels.max() == 1


@pytest.mark.parametrize("mode", ["proposals", "watershed"])
def test_options_that_do_not_fit_the_model_are_refused_at_once(mode):
    with pytest.raises(ConfigError, match="instance head"):
        ModelSegmenter(tiny_sam("vit"), AutomaticOptions(mode=mode))


def test_options_without_a_meaning_in_the_mode_are_refused_at_once():
    for options in (
        AutomaticOptions(mode="watershed", points_per_batch=4),
        AutomaticOptions(mode="grid", foreground_thresh=0.4),
    ):
        with pytest.raises(ConfigError, match="no meaning"):
            ModelSegmenter(tiny_sam("compact"), options)
