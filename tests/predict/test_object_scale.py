"""Objects much smaller or larger than the model learned: the scale of an image, and what lands."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from map_model import draw_discs, map_sam, true_labels
from napari_sam.core.errors import ConfigError
from napari_sam.core.object_scale import scale_for
from napari_sam.core.steps import result_of
from napari_sam.model.sam import InputSpec, Sam
from napari_sam.predict import (
    AutomaticMaskGenerator,
    ImageTransform,
    SamPredictor,
    WatershedSegmenter,
    estimate_diameter,
    object_diameter,
    records_to_labels,
    segment_everything,
    segment_everything_objects,
)
from napari_sam.predict.crops import window_crops
from napari_sam.predict.embedding import embed_steps
from napari_sam.predict.object_diameter import choose_diameter
from napari_sam.predict.pixels import to_model_pixels
from napari_sam.predict.upsampling import MaskUpsampler
from napari_sam.predict.windows import Window
from tiny_models import tiny_sam

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
OFFICIAL = InputSpec()
SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
SCALES = st.floats(0.25, 4)
HALF, TWICE = 90.0, 15.0
"""Diameters that give scales of 1/2 and, nearly, 2."""
LOOSE = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}


def test_comfortable_diameters_change_nothing() -> None:
    assert [scale_for(diameter) for diameter in (None, 20, 30.0, 60)] == [1.0] * 4


def test_other_diameters_come_to_the_middle() -> None:
    assert scale_for(8) * 8 == 30
    assert scale_for(150) * 150 == pytest.approx(45)
    assert scale_for(2) == 4
    assert scale_for(2000) == 0.25


@given(SIZES, SCALES, st.lists(st.floats(0, 1), min_size=2))
def test_coordinates_come_back(size: tuple[int, int], scale: float, fractions: list[float]) -> None:
    transform = ImageTransform.for_image(size, NATIVE, scale)
    points = np.array(fractions[: len(fractions) // 2 * 2]).reshape(-1, 2) * size[::-1]
    there = transform.points_to_input(points)
    np.testing.assert_allclose(transform.points_to_original(there), points, atol=1e-9)
    for edge, frame in ((-0.5, -0.5), (size[1] - 0.5, transform.input_size_yx[1] - 0.5)):
        assert transform.points_to_input([[edge, 0]])[0, 0] == pytest.approx(frame)
    for padded, length in zip(transform.padded_size_yx, transform.input_size_yx, strict=True):
        assert 0 <= padded - length < 32


@given(SIZES, st.lists(st.floats(0, 400), min_size=2))
def test_a_scale_of_one_changes_no_bit(size: tuple[int, int], numbers: list[float]) -> None:
    points = np.array(numbers[: len(numbers) // 2 * 2]).reshape(-1, 2)
    transform = ImageTransform.for_image(size, NATIVE, 1.0)
    assert transform == ImageTransform.for_image(size, NATIVE)
    assert transform.input_size_yx == size
    np.testing.assert_array_equal(transform.points_to_input(points), points)
    np.testing.assert_array_equal(transform.points_to_original(points), points)


@given(SIZES, SCALES)
def test_windows_share_no_pixel_and_leave_none_out(size: tuple[int, int], scale: float) -> None:
    transform = ImageTransform.for_image(size, NATIVE, scale)
    for axis in (0, 1):
        spans = [
            transform.image_span(axis, start, 32)
            for start in range(0, transform.padded_size_yx[axis], 32)
        ]
        pixels = [pixel for first, stop in spans for pixel in range(first, stop)]
        assert pixels == list(range(size[axis]))


@pytest.mark.parametrize("scale", [0.3, 0.5, 2.0, 3.7])
def test_crops_cover_a_resized_image(scale: float) -> None:
    transform = ImageTransform.for_image((150, 205), NATIVE, scale)
    for layer in (0, 1):
        covered = np.zeros((150, 205), dtype=int)
        for crop in window_crops(transform, NATIVE, 1, 512 / 1500):
            if crop.layer == layer:
                x0, y0, x1, y1 = crop.box_xyxy
                covered[y0:y1, x0:x1] += 1
                assert crop.window is not None
                assert (y1 - y0) * scale == pytest.approx(crop.window.height, abs=40)
        assert covered.min() >= 1 or (layer and max(transform.padded_size_yx) <= 64)


@pytest.mark.parametrize("scale", [0.5, 2.0, 2.7])
def test_masks_of_a_window_lie_where_those_of_the_whole_do(scale: float) -> None:
    """The same logits, drawn as part of the frame and as all of it, away from the window's edge."""
    import torch

    transform = ImageTransform.for_image((150, 205), NATIVE, scale)
    rows, cols = transform.low_res_size_yx
    y, x = np.indices((rows, cols)) * 2 + 0.5
    centre_x, centre_y = transform.points_to_input([[100.0, 70.0]])[0]
    logits = torch.from_numpy(30 * scale - np.hypot(y - centre_y, x - centre_x)).float()
    whole = MaskUpsampler.for_window(transform, Window(0, 0, rows * 2, cols * 2), 0.0)
    window = Window(8, 16, transform.padded_size_yx[0] - 8, transform.padded_size_yx[1] - 16)
    part = MaskUpsampler.for_window(transform, window, 0.0)
    drawn = []
    for upsampler, own in ((whole, logits), (part, logits[window.cells(2)])):
        (region,) = upsampler.upsample(own[None])
        image = np.zeros((150, 205), dtype=bool)
        (top, left), (height, width) = region.origin_yx, region.pixels.shape
        image[top : top + height, left : left + width] = region.pixels
        drawn.append(image)
    np.testing.assert_array_equal(*drawn)
    rows, cols = np.indices((150, 205))
    disc = np.hypot(rows - 70, cols - 100) < 30
    assert (drawn[0] ^ disc).sum() < 0.02 * disc.sum()


def test_a_scale_of_a_model_that_resizes_is_refused() -> None:
    with pytest.raises(ConfigError, match="scale"):
        ImageTransform.for_image((30, 40), OFFICIAL, 2.0)


# what lands in the image


@pytest.mark.parametrize(("diameter", "scale"), [(HALF, 0.5), (TWICE, 2.0), (6.0, 4.0)])
def test_objects_of_a_watershed_land_where_they_are(diameter: float, scale: float) -> None:
    """Discs of many sizes: the model of drawn maps finds all of them at any scale."""
    discs = [(60.0, 60.0, 30.0), (130.0, 52.0, 24.0), (128.0, 100.0, 14.0)]
    image, truth = draw_discs((120, 180), discs), true_labels((120, 180), discs)
    embedding = SamPredictor(map_sam()).encode(image, diameter=diameter)
    assert embedding.transform.input_size_yx == (120 * scale, 180 * scale)
    found = segment_everything(image, map_sam(), mode="watershed", diameter=diameter, **LOOSE)
    for label in (1, 2, 3):
        disc = truth == label
        own = found == np.bincount(found[disc]).argmax()
        assert (disc & own).sum() / (disc | own).sum() > 0.9
        own_y, own_x = (index.mean() for index in np.nonzero(own))
        assert (own_x, own_y) == pytest.approx(discs[label - 1][:2], abs=0.6)


@pytest.fixture(scope="module")
def compact() -> Any:
    from napari_sam.model import load_model

    return load_model("compact", device="cpu")


def spots(side: int, diameter: float, pitch: float) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Bright discs on a dark ground, and their labels."""
    rows, cols = np.indices((side, side))
    centres = np.arange(pitch / 2, side - diameter / 2, pitch)
    image = np.random.default_rng(0).normal(40, 5, (side, side))
    labels = np.zeros((side, side), dtype=np.int32)
    for label, (y, x) in enumerate(np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2), 1):
        inside = np.hypot(rows - y, cols - x) < diameter / 2
        image[inside] += 120
        labels[inside] = label
    return image.clip(0, 255).astype(np.uint8), labels


def n_found(labels: NDArray[np.int32], truth: NDArray[np.int32]) -> int:
    """Count the true objects that are found with an IoU above one half."""
    count = 0
    for label in range(1, int(truth.max()) + 1):
        disc = truth == label
        own = labels == np.bincount(labels[disc]).argmax()
        count += (disc & own).sum() > 0.5 * (disc | own).sum()
    return count


@pytest.mark.parametrize("mode", ["proposals", "watershed", "grid"])
def test_tiny_objects_are_found_when_their_diameter_is_known(compact: Any, mode: Any) -> None:
    image, truth = spots(60, 6, 12)
    options = {"points_per_side": 40} if mode == "grid" else {}
    as_it_is = segment_everything(image, compact, mode=mode, diameter="native", **options)
    assert n_found(as_it_is, truth) < 5
    labels = segment_everything(image, compact, mode=mode, diameter=6, **options)
    assert n_found(labels, truth) >= truth.max() - 1


def test_windows_of_a_magnified_image_are_put_together(compact: Any) -> None:
    image, truth = spots(90, 6, 12)  # 360 pixels of the input, in several windows
    small = replace(compact.input_spec, size=256)
    transform = ImageTransform.for_image((90, 90), small, 4.0)
    assert len(window_crops(transform, small, 0, 0.34)) == 4
    before, compact.input_spec = compact.input_spec, small
    try:
        records = AutomaticMaskGenerator(compact, mode="proposals", diameter=6).generate(image)
    finally:
        compact.input_spec = before
    found = records_to_labels(records, (90, 90)).labels
    assert n_found(found, truth) >= truth.max() - 1


def test_large_objects_are_found_when_their_diameter_is_known(compact: Any) -> None:
    image, truth = spots(400, 160, 200)
    assert n_found(segment_everything(image, compact, diameter="native"), truth) < 2
    assert n_found(segment_everything(image, compact, diameter=160), truth) == 4


def test_clicks_and_boxes_stay_in_image_pixels(compact: Any) -> None:
    image, truth = spots(60, 6, 12)
    predictor = SamPredictor(compact)
    embedding = predictor.encode(image, diameter=6)
    disc = truth == truth[30, 30] if truth[30, 30] else truth == truth.max()
    rows, cols = np.nonzero(disc)
    box = [cols.min(), rows.min(), cols.max(), rows.max()]
    for prompt in ({"box_xyxy": box}, {"mask": disc}):
        mask = predictor.predict(embedding, multimask=False, **prompt).masks[0]  # type: ignore[arg-type]
        assert mask.shape == image.shape
        assert (mask & disc).sum() > 0.6 * (mask | disc).sum()


@pytest.mark.parametrize("mode", ["proposals", "watershed", "grid"])
def test_comfortable_diameters_give_the_same_bits(mode: Any) -> None:
    sam = tiny_sam("compact")
    image = np.random.default_rng(0).integers(0, 256, (90, 140), dtype=np.uint8)
    options: dict[str, Any] = LOOSE | ({"points_per_side": 4} if mode == "grid" else {})
    plain = segment_everything_objects(image, sam, mode=mode, diameter="native", **options)
    given = segment_everything_objects(image, sam, mode=mode, diameter=30, **options)
    np.testing.assert_array_equal(plain.labels, given.labels)
    assert plain.objects == given.objects


# the estimate


@pytest.mark.parametrize(("side", "diameter"), [(80, 5.0), (80, 16.0), (520, 170.0)])
def test_the_diameter_is_estimated(compact: Any, side: int, diameter: float) -> None:
    image, _ = spots(side, diameter, 1.5 * diameter)
    assert estimate_diameter(compact, image) == pytest.approx(diameter, rel=0.25)


@pytest.mark.parametrize("mode", ["proposals", "watershed", "grid"])
def test_the_estimate_is_used_unless_another_is_said(compact: Any, mode: Any) -> None:
    image, truth = spots(60, 6, 12)
    options = {"points_per_side": 40} if mode == "grid" else {}
    labels = segment_everything(image, compact, mode=mode, **options)
    assert n_found(labels, truth) >= truth.max() - 1
    auto = segment_everything(image, compact, mode=mode, diameter="auto", **options)
    np.testing.assert_array_equal(labels, auto)


def test_models_that_cannot_estimate_leave_images_as_they_are() -> None:
    headless = map_sam()
    headless.instance_head = None
    for sam, chosen in ((map_sam(), "auto"), (headless, "native"), (tiny_sam("vit"), "native")):
        assert choose_diameter(sam, None) == chosen
        assert choose_diameter(sam, "native") == "native"
    assert choose_diameter(headless, 6) == 6


def test_clicks_see_an_image_as_it_is_unless_a_diameter_is_said(compact: Any) -> None:
    image, _ = spots(60, 6, 12)
    predictor = SamPredictor(compact)
    sizes = [
        predictor.encode(image, diameter=diameter).transform.input_size_yx[0]  # type: ignore[arg-type]
        for diameter in (None, "native", "auto")
    ]
    assert sizes[0] == sizes[1] == 60 < sizes[2]


def test_an_estimate_is_what_auto_uses(compact: Any) -> None:
    image, truth = spots(60, 6, 12)
    estimate = estimate_diameter(compact, image)
    auto = segment_everything(image, compact, diameter="auto")
    np.testing.assert_array_equal(auto, segment_everything(image, compact, diameter=estimate))
    assert n_found(auto, truth) >= truth.max() - 1


@pytest.mark.parametrize(("side", "diameter"), [(200, 32.0), (80, 9.0)])
def test_a_known_embedding_is_not_computed_again(
    compact: Any, side: int, diameter: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, _ = spots(side, diameter, 1.5 * diameter)
    predictor = SamPredictor(compact)
    pixels = to_model_pixels(image, compact.input_spec)
    known, scales = predictor.encode_pixels(pixels), list[float]()

    def embed(sam: Sam, pixels: NDArray[np.uint8], scale: float = 1.0) -> Any:
        scales.append(scale)
        return embed_steps(sam, pixels, scale)

    monkeypatch.setattr(object_diameter, "embed_steps", embed)
    scale, embedding = result_of(object_diameter.scale_steps(compact, pixels, "auto", known))
    assert scale == result_of(object_diameter.scale_steps(compact, pixels, "auto"))[0]
    assert scales.count(1.0) == 1  # of the second call
    assert (embedding is known) == (scale == 1) == (diameter == 32)


def test_too_few_objects_leave_the_image_as_it_is() -> None:
    image = draw_discs((120, 180), [(60, 60, 8), (120, 60, 8)])
    sam = map_sam()
    assert estimate_diameter(sam, image) is None
    assert SamPredictor(sam).encode(image, diameter="auto").transform.input_size_yx == (120, 180)


def test_objects_that_the_border_cuts_count_only_where_others_lack() -> None:
    cut = [(x, 0.0, 24.0) for x in (30.0, 90.0, 150.0)]
    whole = [(x, 80.0, 12.0) for x in (40.0, 90.0, 140.0)]
    sam = map_sam()
    assert estimate_diameter(sam, draw_discs((120, 180), cut + whole)) == pytest.approx(24, abs=2)
    halves = estimate_diameter(sam, draw_discs((120, 180), cut))
    assert halves == pytest.approx(48 / np.sqrt(2), rel=0.1)


def test_specks_do_not_decide() -> None:
    large = [(x, 40.0, 20.0) for x in (30.0, 90.0, 150.0)]
    specks = [(x, 100.0, 4.0) for x in range(10, 170, 20)]
    image = draw_discs((120, 180), large + specks)
    assert estimate_diameter(map_sam(), image) == pytest.approx(40, abs=3)


# what is refused


@pytest.mark.parametrize("value", [0, -3, float("nan"), float("inf"), "large", True])
def test_what_is_no_diameter_is_refused(value: Any) -> None:
    sam, image = map_sam(), draw_discs((64, 64), [(30, 30, 10), (50, 50, 8)])
    for refuse in (
        lambda: segment_everything(image, sam, diameter=value),
        lambda: WatershedSegmenter(sam, diameter=value),
        lambda: SamPredictor(sam).encode(image, diameter=value),
    ):
        with pytest.raises(ConfigError, match=r"diameter=.*--diameter 30"):
            refuse()


def test_models_that_resize_have_no_use_of_a_diameter() -> None:
    sam = tiny_sam("vit")
    for value in (30, "auto"):
        with pytest.raises(ConfigError, match="one size"):
            AutomaticMaskGenerator(sam, diameter=value)  # type: ignore[arg-type]


def test_a_diameter_is_not_estimated_without_an_instance_head() -> None:
    sam = map_sam()
    sam.instance_head = None
    with pytest.raises(ConfigError, match="instance head"):
        AutomaticMaskGenerator(sam, diameter="auto")
    assert AutomaticMaskGenerator(sam, mode="grid", diameter=300.0).options.diameter == 300


def test_embeddings_of_another_scale_are_refused() -> None:
    sam, image = map_sam(), draw_discs((64, 64), [(30, 30, 10), (50, 50, 8)])
    plain = SamPredictor(sam).encode(image)
    segmenter = WatershedSegmenter(sam, diameter=6)
    segmenter.find_basins(SamPredictor(sam).encode(image, diameter=6))
    for kept in (None, "native", 30):
        WatershedSegmenter(sam, diameter=kept).find_basins(plain)  # type: ignore[arg-type]
    for diameter in (6, "auto"):
        with pytest.raises(ConfigError, match="encode"):
            WatershedSegmenter(sam, diameter=diameter).find_basins(plain)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="native"):
        WatershedSegmenter(sam, diameter="native").find_basins(
            SamPredictor(sam).encode(image, diameter=6)
        )
