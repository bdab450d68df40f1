"""Segment everything: options, windows of native pixels, progress and cancelling."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_sam.core.errors import ConfigError, InputError, OutOfMemoryError
from napari_sam.masks import PackedMask, decode_rle
from napari_sam.model.instance_head import InstanceMaps
from napari_sam.model.sam import Sam
from napari_sam.predict import AutomaticMaskGenerator, SamPredictor
from napari_sam.predict.crop_view import CropView
from napari_sam.predict.crops import (
    crop_boxes,
    image_crops,
    layer_grids,
    point_grid,
    window_crops,
)
from napari_sam.predict.proposed_objects import propose_objects
from napari_sam.predict.transforms import ImageTransform
from napari_sam.predict.upsampling import MaskUpsampler
from tiny_models import tiny_sam

LOOSE = {
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.01,
    "stability_score_offset": 0.05,
    "points_per_side": 4,
}


@pytest.fixture(scope="module")
def compact() -> Sam:
    """Random weights draw masks as large as the window; a high threshold makes them small."""
    sam = tiny_sam("compact", seed=5)
    sam.mask_threshold = 0.8
    return sam


def image_of(shape: tuple[int, ...]) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 3)
    return (255 * (noise - noise.min()) / max(np.ptp(noise), 1e-9)).astype(np.uint8)


def test_points_stand_in_the_middle_of_their_cells() -> None:
    expected = [
        [1 / 6, 0.25],
        [0.5, 0.25],
        [5 / 6, 0.25],
        [1 / 6, 0.75],
        [0.5, 0.75],
        [5 / 6, 0.75],
    ]
    np.testing.assert_allclose(point_grid(3, 2), expected)
    assert [len(grid) for grid in layer_grids(8, 2, 2)] == [64, 16, 4]
    assert len(layer_grids(2, 2, 4)[2]) == 1  # never less than one point


def test_crops_of_each_layer_cover_the_image() -> None:
    for layer in (0, 1, 2):
        covered = np.zeros((301, 203), dtype=int)
        boxes = [box for box, own in crop_boxes((301, 203), 2, 512 / 1500) if own == layer]
        assert len(boxes) == 4**layer
        for x0, y0, x1, y1 in boxes:
            covered[y0:y1, x0:x1] += 1
        assert covered.min() == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 2)])
def test_tiny_images_have_no_empty_crops(size: tuple[int, int]) -> None:
    for crop, points in image_crops(size, 3, 0.9, layer_grids(2, 3, 1)):
        assert min(crop.size_yx) > 0
        assert len(points) == 4


def test_windows_of_native_pixels_cover_the_image(compact: Sam) -> None:
    transform = ImageTransform.for_image((300, 205), compact.input_spec)
    for layer in (0, 1):
        covered = np.zeros((300, 205), dtype=int)
        for crop in window_crops(transform, compact.input_spec, 1, 512 / 1500):
            if crop.layer == layer:
                assert max(crop.size_yx) <= 128 // 2**layer
                x0, y0, x1, y1 = crop.box_xyxy
                covered[y0:y1, x0:x1] += 1
        assert covered.min() >= 1
    small = ImageTransform.for_image((40, 50), compact.input_spec)
    assert len(window_crops(small, compact.input_spec, 1, 0.3)) == 1


def test_points_keep_their_spacing_in_small_images(compact: Sam) -> None:
    """8 points per 128 pixels: one every 16, whatever the size of the image."""
    prompted: list[np.ndarray] = []
    decode = compact.decode_above

    def watching(features: Any, *, points: Any, **kwargs: Any) -> Any:
        prompted.append(points[0][:, 0].numpy())
        return decode(features, points=points, **kwargs)

    generator = AutomaticMaskGenerator(compact, points_per_side=8, pred_iou_thresh=1.0)
    for size, count in (((128, 128), 64), ((64, 32), 8), ((5, 5), 1)):
        prompted.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(compact, "decode_above", watching)
            generator.generate(image_of(size))
        points = np.concatenate(prompted)
        assert len(points) == count
        assert (points < size[::-1]).all()


@pytest.mark.parametrize("shape", [(100, 120), (260, 300), (9, 300), (1, 1)])
@pytest.mark.parametrize("crop_n_layers", [0, 1])
def test_records_of_native_pixels_are_consistent(
    compact: Sam, shape: tuple[int, int], crop_n_layers: int
) -> None:
    options = LOOSE | {"crop_n_layers": crop_n_layers}
    records = AutomaticMaskGenerator(compact, **options).generate(image_of(shape))
    for record in records:
        mask = record.segmentation
        assert mask.shape == shape
        assert mask.sum() == record.area
        x, y, w, h = record.bbox_xywh
        cx, cy, cw, ch = record.crop_box_xywh
        if record.area:
            ys, xs = np.nonzero(mask)
            assert (xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)) == (x, y, w, h)
            assert cx <= x
            assert cy <= y
            assert x + w < cx + cw
            assert y + h < cy + ch
        px, py = record.point_xy
        assert cx <= px <= cx + cw
        assert cy <= py <= cy + ch
    if min(shape) >= 260:
        assert len({record.crop_box_xywh for record in records}) > 1


def test_an_embedding_gives_the_records_of_its_image(compact: Sam) -> None:
    image = image_of((150, 200))
    generator = AutomaticMaskGenerator(compact, **LOOSE)
    from_image = generator.generate(image)
    from_embedding = generator.generate(SamPredictor(compact).encode(image))
    assert len(from_image) == len(from_embedding) > 0
    for one, other in zip(from_image, from_embedding, strict=True):
        assert one.bbox_xywh == other.bbox_xywh
        np.testing.assert_array_equal(one.segmentation, other.segmentation)


def test_crop_layers_of_official_models_need_the_image() -> None:
    sam = tiny_sam("vit")
    embedding = SamPredictor(sam).encode(image_of((60, 80)))
    assert AutomaticMaskGenerator(sam, **LOOSE).generate(embedding)
    with pytest.raises(ConfigError, match="image itself"):
        AutomaticMaskGenerator(sam, **LOOSE, crop_n_layers=1).generate(embedding)
    with pytest.raises(InputError, match="model that made it"):
        AutomaticMaskGenerator(tiny_sam("vit", seed=2)).generate(embedding)


def test_steps_tell_progress_and_can_be_stopped(compact: Sam) -> None:
    generator = AutomaticMaskGenerator(compact, **LOOSE, points_per_batch=4)
    image = image_of((100, 100))
    steps = list(generator.generate_steps(image))
    assert [step.done for step in steps] == list(range(len(steps)))
    assert {step.total for step in steps} == {len(steps) - 1}
    assert steps[-1].n_masks >= steps[1].n_masks > 0

    calls = []
    decode = compact.decode_above

    def counting(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return decode(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact, "decode_above", counting)
        running = generator.generate_steps(image)
        next(running)
        next(running)
        running.close()
    assert len(calls) == 1
    assert not torch.is_inference_mode_enabled()


def test_a_large_image_can_be_stopped_between_the_windows_of_its_encoder(
    compact: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []
    encode = compact.encode

    def counting(pixels: Any) -> Any:
        encoded.append(1)
        return encode(pixels)

    monkeypatch.setattr(compact, "encode", counting)
    generator = AutomaticMaskGenerator(compact, **LOOSE, points_per_batch=4)
    running = generator.generate_steps(image_of((300, 100)))
    assert next(running) == (0, 0, 0)
    running.close()
    assert len(encoded) == 1
    steps = list(generator.generate_steps(image_of((300, 100))))
    n_windows = len(encoded) - 1
    assert n_windows > 2
    assert [step.total for step in steps[:n_windows]] == [0] * (n_windows - 1) + [steps[-1].total]
    assert [step.done for step in steps[n_windows - 1 :]] == list(range(steps[-1].total + 1))


def test_crops_that_are_encoded_by_themselves_give_control_back() -> None:
    generator = AutomaticMaskGenerator(tiny_sam("vit"), **LOOSE, crop_n_layers=1)
    steps = list(generator.generate_steps(image_of((60, 80))))
    done = [step.done for step in steps]
    assert done == sorted(done)
    assert len(done) == 1 + steps[-1].total + 4


def test_thresholds_are_the_models_own_unless_given(compact: Sam) -> None:
    official = AutomaticMaskGenerator(tiny_sam("vit"))
    assert official.options.thresholds(official.sam.input_spec) == (0.88, 0.95)
    native = AutomaticMaskGenerator(compact).options.thresholds(compact.input_spec)
    assert native < (0.88, 0.95)
    given = AutomaticMaskGenerator(compact, pred_iou_thresh=0.3, stability_score_thresh=0.0)
    assert given.options.thresholds(compact.input_spec) == (0.3, 0.0)


def test_filters_keep_what_they_promise() -> None:
    compact = tiny_sam("compact")
    last = compact.mask_decoder.iou_prediction_head.layers[-1]
    with torch.no_grad():  # predicted IoU of random weights, brought into the range of thresholds
        last.weight *= 0.1
        last.bias.fill_(0.5)
    image = image_of((128, 128))
    loose = LOOSE | {"box_nms_thresh": 1.0}
    every = AutomaticMaskGenerator(compact, **loose).generate(image)
    ious = np.array([record.predicted_iou for record in every])
    threshold = float(np.median(ious[(ious > 0) & (ious < 1)]))
    strict = AutomaticMaskGenerator(compact, **(loose | {"pred_iou_thresh": threshold}))
    kept = [record.predicted_iou for record in strict.generate(image)]
    assert len(kept) == (ious > np.float32(threshold)).sum()
    stability = np.array([record.stability_score for record in every])
    threshold = float(np.nanmedian(stability))
    strict = AutomaticMaskGenerator(compact, **(loose | {"stability_score_thresh": threshold}))
    kept = [record.stability_score for record in strict.generate(image)]
    assert 0 < len(kept) == (stability >= np.float32(threshold)).sum() < len(every)


def test_output_modes_hold_the_same_masks(compact: Sam) -> None:
    image = image_of((100, 120))
    plain = AutomaticMaskGenerator(compact, **LOOSE).generate(image)
    for mode in ("uncompressed_rle", "coco_rle"):
        coded = AutomaticMaskGenerator(compact, **LOOSE, output_mode=mode).generate(image)
        for one, other in zip(plain, coded, strict=True):
            np.testing.assert_array_equal(decode_rle(other.segmentation), one.segmentation)
            assert one.as_dict()["area"] == other.as_dict()["area"]


def test_explicit_grids_are_used(compact: Sam) -> None:
    options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "box_nms_thresh": 1.0}
    generator = AutomaticMaskGenerator(compact, point_grids=[np.array([[0.5, 0.25]])], **options)
    records = generator.generate(image_of((100, 80)))
    assert {record.point_xy for record in records} == {(40.0, 25.0)}
    assert len(records) == 3


def seeing(compact: Sam, patch: pytest.MonkeyPatch, discs: list[tuple[int, int, int]]) -> None:
    """Let the head see discs (x, y, radius), in cells of 4 pixels."""
    rows, cols = np.mgrid[: 288 // 4, : 320 // 4]
    centre, foreground = (torch.full((1, 288 // 4, 320 // 4), -9.0) for _ in range(2))
    for x, y, radius in discs:
        distance = torch.from_numpy(np.hypot(cols * 4 + 1.5 - x, rows * 4 + 1.5 - y))
        foreground[0, distance <= radius] = 9.0
        centre[0, distance <= 5] = 9.0
    seen = InstanceMaps(foreground, centre, torch.full_like(centre, -9.0))
    patch.setattr(compact.instance_head, "forward", lambda features: seen)


def test_each_object_of_the_head_is_one_prompt(compact: Sam) -> None:
    discs = [(42, 50, 22), (150, 130, 30), (282, 242, 12), (312, 200, 8)]  # the last: padding
    image = image_of((260, 300))
    with pytest.MonkeyPatch.context() as patch:
        seeing(compact, patch, discs)
        proposed = propose_objects(compact, SamPredictor(compact).encode(image))
        options = LOOSE | {"points_per_side": None, "stability_score_thresh": 0.0}
        generator = AutomaticMaskGenerator(compact, **options, mode="proposals")
        prompted = [record.point_xy for record in generator.generate(image)]
    assert len(proposed.points_xy) == len(proposed.masks) == 3
    order = np.argsort(proposed.points_xy[:, 0])
    for index, (x, y, radius) in zip(order.tolist(), discs[:3], strict=True):
        assert np.hypot(*(proposed.points_xy[index] - (x, y))) < 4
        assert proposed.masks[index].area == pytest.approx(np.pi * radius**2, rel=0.25)
    assert len(prompted) == len(set(prompted))  # one mask for each
    assert set(prompted) <= {tuple(point) for point in proposed.points_xy.tolist()}


def test_proposals_are_decoded_with_their_pixels_as_mask_prompts(compact: Sam) -> None:
    image = image_of((260, 300))
    given = []
    decode_above = compact.decode_above

    def listen(features: Any, **prompts: Any) -> Any:
        given.append(prompts)
        return decode_above(features, **prompts)

    with pytest.MonkeyPatch.context() as patch:
        seeing(compact, patch, [(42, 50, 22), (150, 130, 30)])
        patch.setattr(compact, "decode_above", listen)
        embedding = SamPredictor(compact).encode(image)
        proposed = propose_objects(compact, embedding)
        AutomaticMaskGenerator(compact, **LOOSE, mode="proposals").generate(embedding)
    decoded = [
        (point, logits)
        for prompts in given
        for point, logits in zip(prompts["points"][0], prompts["mask_logits"], strict=True)
    ]
    assert len(decoded) == 2
    assert not any(prompts["multimask"] for prompts in given)
    stride = embedding.transform.low_res_stride
    areas = sorted(mask.area for mask in proposed.masks)
    covered = sorted(int((logits > 0).sum()) * stride**2 for _, logits in decoded)
    assert covered == pytest.approx(areas, rel=0.1)
    for point, logits in decoded:
        x, y = (point[0] / stride).long().tolist()
        assert logits[0, y, x] == 10


def test_a_mask_prompt_is_cut_at_the_edge_of_its_crop(compact: Sam) -> None:
    transform = ImageTransform.for_image((300, 205), compact.input_spec)
    crop = window_crops(transform, compact.input_spec, 0, 512 / 1500)[-1]
    assert crop.window is not None
    left, top = crop.box_xyxy[:2]
    features = SamPredictor(compact).encode(image_of((300, 205))).as_features()
    upsampler = MaskUpsampler.for_window(transform, crop.window, 0.0)
    view = CropView(crop, features, transform, upsampler, (0, 0), False, np.zeros(2))
    block = np.ones((20, 20), np.bool_)
    mask = PackedMask.from_array(block, (max(top - 10, 0), left + 8))
    logits = view.mask_logits([mask])
    stride = transform.low_res_stride
    assert logits.shape[-2:] == tuple(side // stride for side in crop.window.size_yx)
    seen = int((logits > 0).sum()) * stride**2
    assert seen == (20 - min(top, 10)) * 20


BAD_OPTIONS: list[dict[str, Any]] = [
    {"points_per_side": 0},
    {"points_per_batch": 0},
    {"pred_iou_thresh": 1.5},
    {"stability_score_thresh": -0.1},
    {"crop_n_layers": -1},
    {"crop_overlap_ratio": 1.0},
    {"box_nms_thresh": float("nan")},
    {"output_mode": "png"},
    {"mode": "magic"},
    {"mode": "watershed"},
    {"points_per_side": 4, "point_grids": [np.zeros((1, 2))]},
    {"point_grids": [np.zeros((1, 3))]},
    {"point_grids": [np.zeros((1, 2))], "crop_n_layers": 1},
]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=lambda options: "-".join(options))
def test_bad_options_are_refused(options: dict[str, Any], compact: Sam) -> None:
    with pytest.raises(ConfigError, match=next(iter(options)).split("_thresh")[0]):
        AutomaticMaskGenerator(compact, **options)


def test_official_models_propose_no_points() -> None:
    with pytest.raises(ConfigError, match="instance head"):
        AutomaticMaskGenerator(tiny_sam("vit"), mode="proposals")


@pytest.mark.parametrize("encoder", ["vit", "compact"])
def test_torch_errors_reach_no_worker_as_runtime_errors(
    encoder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sam = tiny_sam(encoder)

    def fail(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(sam, "decode_above", fail)
    with pytest.raises(OutOfMemoryError):
        AutomaticMaskGenerator(sam, **LOOSE).generate(image_of((60, 80)))
    monkeypatch.setattr(sam, "encode", fail)
    with pytest.raises(OutOfMemoryError):
        next(AutomaticMaskGenerator(sam, **LOOSE).generate_steps(image_of((60, 80))))


def test_threads_share_a_generator(compact: Sam) -> None:
    generator = AutomaticMaskGenerator(compact, **LOOSE)
    images = [image_of((150, 100 + 30 * i)) for i in range(3)]
    expected = [generator.generate(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        for got, wanted in zip(pool.map(generator.generate, images), expected, strict=True):
            assert [r.bbox_xywh for r in got] == [r.bbox_xywh for r in wanted]
            assert [r.area for r in got] == [r.area for r in wanted]


def test_small_regions_are_removed_from_native_masks(
    compact: Sam, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of masks that come with regions: what is left of one that holds together are its holes."""
    monkeypatch.setattr(
        "napari_sam.predict.automatic.keep_prompted_parts", lambda logits, *_: logits
    )
    image = image_of((260, 300))
    options = LOOSE | {"box_nms_thresh": 0.9, "crop_nms_thresh": 0.9}
    plain = AutomaticMaskGenerator(compact, **options).generate(image)
    cleaned = AutomaticMaskGenerator(compact, **options, min_mask_region_area=25).generate(image)
    assert {r.area for r in cleaned} != {r.area for r in plain}
    for record in cleaned:
        regions, count = ndimage.label(record.segmentation, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())[1:]
        assert count == 1 or sizes.min() >= 25


def test_the_batch_size_suits_the_device_and_changes_no_mask(compact: Sam) -> None:
    assert AutomaticMaskGenerator(compact).options.batch_size(torch.device("cpu")) < 64
    assert AutomaticMaskGenerator(compact).options.batch_size(torch.device("cuda")) == 64
    assert (
        AutomaticMaskGenerator(compact, points_per_batch=3).options.batch_size(torch.device("cuda"))
        == 3
    )
    image = image_of((100, 120))
    one = AutomaticMaskGenerator(compact, **LOOSE).generate(image)
    other = AutomaticMaskGenerator(compact, **LOOSE, points_per_batch=64).generate(image)
    assert [record.point_xy for record in one] == [record.point_xy for record in other]
    for first, second in zip(one, other, strict=True):
        shared = first.mask.intersection(second.mask)
        assert shared >= 0.999 * (first.area + second.area - shared)  # but for rounding
