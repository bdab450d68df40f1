"""Everything on a plane: re-filtered labels are those of a new run."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from map_model import draw_discs, map_sam
from napari_sam.core.errors import ConfigError, InputError, OutOfMemoryError
from napari_sam.core.steps import result_of
from napari_sam.pipeline import AutomaticOptions, PlaneBasins, segment_plane
from napari_sam.predict import SamPredictor, segment_everything_objects
from napari_sam.tiling import Contrast
from tiny_models import tiny_sam

AS_IT_IS = Contrast((0.0,), (255.0,))
GRID = AutomaticOptions(
    points_per_side=5,
    points_per_batch=6,
    pred_iou_thresh=0.0,
    stability_score_thresh=0.0,
    stability_score_offset=0.05,
)
ANY_SIZE = {"min_size": 1, "max_area_fraction": 1.0}


@pytest.fixture(scope="module", params=["vit", "compact"])
def model(request):
    sam = tiny_sam(request.param, seed=5 if request.param == "compact" else 0)
    sam.mask_threshold = 0.5
    last = sam.mask_decoder.iou_prediction_head.layers[-1]
    with torch.no_grad():
        last.weight *= 0.1
        last.bias.fill_(0.5)
    return sam


@pytest.fixture(scope="module")
def pixels():
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return np.kron(blocks, np.ones((14, 14, 1), np.uint8))  # (126, 154, 3)


def test_labels_are_those_of_a_new_run_at_every_threshold(model, pixels):
    found = result_of(segment_plane(pixels, model, GRID))
    assert found.shape_yx == pixels.shape[:2]
    assert found.thresholds == found.floors == (0.0, 0.0)
    counts = []
    for change in (
        {},
        {"pred_iou_thresh": 0.5},
        {"pred_iou_thresh": 0.48, "box_nms_thresh": 0.3},
        {"stability_score_thresh": 0.02, "min_mask_region_area": 30},
        {"pred_iou_thresh": 1.0},
    ):
        segmented = found.labels(**change, **ANY_SIZE)
        anew = segment_everything_objects(
            pixels, model, AS_IT_IS, **ANY_SIZE, **(GRID.given() | change)
        )
        np.testing.assert_array_equal(segmented.labels, anew.labels)
        assert segmented.objects == anew.objects
        counts.append(len(segmented.objects))
    assert counts[0] > counts[-1] == 0
    assert len(set(counts)) >= 3


def test_maps_are_kept_and_cut_as_a_new_run_would_cut_them():
    image = draw_discs((120, 180), [(60, 60, 30), (118, 62, 30), (20, 100, 9)])
    sam, options = map_sam(), AutomaticOptions(mode="watershed", foreground_thresh=0.4)
    found = result_of(segment_plane(image, sam, options))
    assert isinstance(found, PlaneBasins)
    assert found.shape_yx == (120, 180)
    assert found.floors == (0.0, 0.0)
    assert found.thresholds == (0.7, 0.3)
    calls = []
    sam.image_encoder.register_forward_pre_hook(lambda *_: calls.append(1))
    cuts = [{}, {"foreground_thresh": 0.8}, {"stability_score_thresh": 0.6, "min_size": 1}]
    again = [found.labels(**cut) for cut in cuts]
    assert not calls
    for cut, segmented in zip(cuts, again, strict=True):
        anew = segment_everything_objects(image, sam, AS_IT_IS, **options.given() | cut)
        np.testing.assert_array_equal(segmented.labels, anew.labels)
        assert segmented.objects == anew.objects
    assert len({segmented.labels.tobytes() for segmented in again}) == 3


def test_options_of_painting_are_passed_on(model, pixels):
    found = result_of(segment_plane(pixels, model, GRID))
    areas = [item.area for item in found.labels(**ANY_SIZE).objects]
    least = sorted(areas)[len(areas) // 2]
    large = [item.area for item in found.labels(min_size=least, max_area_fraction=1.0).objects]
    assert min(areas) < least <= min(large)
    with pytest.raises(ConfigError, match="max_area_fraction"):
        found.labels(max_area_fraction=0.0)


def test_an_embedding_gives_the_labels_of_its_pixels(model, pixels):
    embedding = SamPredictor(model).encode(pixels, AS_IT_IS)
    from_pixels = result_of(segment_plane(pixels, model, GRID)).labels(**ANY_SIZE)
    from_embedding = result_of(segment_plane(embedding, model, GRID)).labels(**ANY_SIZE)
    np.testing.assert_array_equal(from_pixels.labels, from_embedding.labels)
    assert from_pixels.labels.any()


def test_progress_is_told_and_closing_stops(model, pixels, monkeypatch):
    batches = []
    decode = model.decode_above

    def counting(*args, **kwargs):
        batches.append(1)
        return decode(*args, **kwargs)

    monkeypatch.setattr(model, "decode_above", counting)
    options = replace(GRID, diameter="native")
    steps = segment_plane(pixels[:112, :112], model, options)  # one window for any model
    first, second = next(steps), next(steps)
    assert (first.done, second.done) == (0, 1)
    assert first.total == second.total >= 3
    steps.close()
    assert len(batches) == 1


def test_thresholds_go_down_to_the_floors_only(model, pixels):
    options = AutomaticOptions(points_per_side=2)
    found = result_of(segment_plane(pixels, model, options, floor_iou=0.4, floor_stability=0.1))
    assert found.floors == (0.4, 0.1)
    found.labels(pred_iou_thresh=0.4, stability_score_thresh=0.1)
    with pytest.raises(ConfigError, match="not collected"):
        found.labels(pred_iou_thresh=0.39)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 3), np.uint16),
        np.zeros((0, 9, 3), np.uint8),
        [[1, 2], [3, 4]],
    ],
    ids=["gray", "16 bit", "empty", "list"],
)
def test_other_pixels_are_refused(model, image):
    with pytest.raises(InputError, match="uint8"):
        next(segment_plane(image, model))


@pytest.mark.parametrize("mode", ["proposals", "watershed"])
def test_options_that_do_not_fit_are_refused(pixels, mode):
    with pytest.raises(ConfigError, match="instance head"):
        next(segment_plane(pixels, tiny_sam("vit"), AutomaticOptions(mode=mode)))


def test_errors_of_torch_are_no_runtime_errors(pixels, monkeypatch):
    sam = tiny_sam("compact")

    def fail(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam, "decode_above", fail)
    with pytest.raises(OutOfMemoryError):
        result_of(segment_plane(pixels, sam, GRID))


def test_importing_the_pipeline_loads_no_torch():
    code = "import sys, napari_sam.pipeline; assert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
