import numpy as np
import pytest
import torch

from napari_sam.core.errors import ConfigError, DeviceError, NapariSamError, OutOfMemoryError
from napari_sam.pipeline import AutomaticOptions, FunctionSegmenter, SegmentConfig
from napari_sam.pipeline.segmenters import ModelSegmenter, load_segmenter
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
    labels, scores = segmenter(tile)
    assert labels.max() == len(scores) == 1
