"""Each proposed object is decoded in one crop: a close one where it fits, else a wide one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_sam.masks import PackedMask
from napari_sam.model import load_model
from napari_sam.model.instance_head import InstanceHead, InstanceMaps
from napari_sam.model.sam import InputSpec
from napari_sam.predict import AutomaticMaskGenerator, SamPredictor, segment_everything
from napari_sam.predict.crops import window_crops
from napari_sam.predict.prompted_crops import prompted_crops
from napari_sam.predict.proposed_objects import ProposedObjects
from napari_sam.predict.records import AutomaticOptions
from napari_sam.predict.sharing import PromptedCrop, close_crops, share_out
from napari_sam.predict.transforms import ImageTransform
from tiny_models import EMBED_DIM, tiny_sam

SPEC = InputSpec(
    size=512, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32, decode_size=256
)
ROOM = 30


def squares(*places: tuple[int, int, int]) -> ProposedObjects:
    """Squares (x, y, side), with their centres as points."""
    points = np.array([(x + side / 2, y + side / 2) for x, y, side in places]).reshape(-1, 2)
    masks = tuple(
        PackedMask.from_array(np.ones((side, side), np.bool_), (y, x)) for x, y, side in places
    )
    return ProposedObjects(points, masks)


def shared(
    proposed: ProposedObjects, shape: tuple[int, int], spec: InputSpec = SPEC, scale: float = 1.0
) -> list[PromptedCrop]:
    transform = ImageTransform.for_image(shape, spec, scale)
    return share_out(
        proposed, close_crops(transform, spec), window_crops(transform, spec, 0, 512 / 1500)
    )


def window_sides(prompted: list[PromptedCrop]) -> list[int]:
    return [each.crop.window.height for each in prompted if each.crop.window is not None]


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_a_small_object_gets_a_close_crop_with_room_around_it(scale: float) -> None:
    rng = np.random.default_rng(0)
    places = [(int(x), int(y), 12) for x, y in rng.integers(0, 888, (60, 2))]
    prompted = shared(squares(*places), (900, 900), scale=scale)
    assert max(window_sides(prompted)) <= 256
    found = []
    for each in prompted:
        x0, y0, x1, y1 = each.crop.box_xyxy
        assert each.masks is not None
        for (x, y), mask in zip(each.points_xy, each.masks, strict=True):
            left, top, right, bottom = mask.box_xyxy
            room = ROOM / scale
            assert left - x0 >= room or x0 == 0
            assert top - y0 >= room or y0 == 0
            assert x1 - right >= room or x1 == 900
            assert y1 - bottom >= room or y1 == 900
            assert (x + x0, y + y0) == (left + 6, top + 6)
            found.append((left, top, 12))
    assert sorted(found) == sorted(places)


def test_an_object_that_no_close_crop_holds_gets_a_wide_one() -> None:
    prompted = shared(squares((200, 210, 250), (240, 300, 10)), (900, 900))
    (wide,) = (each for each in prompted if min(each.crop.size_yx) > 256)
    assert len(prompted) == 2
    assert wide.masks is not None
    assert [mask.area for mask in wide.masks] == [250 * 250]


def test_the_edge_of_the_image_cuts_nothing_off() -> None:
    prompted = shared(squares((0, 0, 60), (840, 840, 60)), (900, 900))
    assert len(prompted) == 2
    assert max(window_sides(prompted)) <= 256
    whole = shared(squares((0, 0, 100)), (100, 100))  # one close crop is all of it
    assert [each.crop.size_yx for each in whole] == [(100, 100)]


def test_without_close_windows_all_crops_are_wide() -> None:
    for spec in (replace(SPEC, decode_size=None), replace(SPEC, decode_size=512)):
        prompted = shared(squares((10, 10, 12), (400, 390, 12)), (900, 900), spec)
        assert min(window_sides(prompted)) > 256
        assert sum(len(each.points_xy) for each in prompted) == 2


def test_nothing_proposed_is_nothing_to_decode() -> None:
    assert shared(squares(), (900, 900)) == []


def test_objects_are_those_of_wide_crops() -> None:
    """The bundled model, on discs of two sizes: the label images agree but for edges."""
    sam = load_model("compact", device="cpu")
    rows, cols = np.indices((400, 420))
    image = np.random.default_rng(1).normal(30, 4, rows.shape)
    for y, x, radius in ((60, 70, 14), (90, 300, 20), (260, 120, 30), (330, 360, 16)):
        image[np.hypot(rows - y, cols - x) < radius] += 120
    pixels = image.clip(0, 255).astype(np.uint8)
    embedding = SamPredictor(sam).encode(pixels)
    close = segment_everything(embedding, sam, mode="proposals") > 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sam, "input_spec", replace(sam.input_spec, decode_size=None))
        wide = segment_everything(embedding, sam, mode="proposals") > 0
    assert wide.sum() > 3000  # most of the discs are found
    assert (close & wide).sum() / (close | wide).sum() > 0.93


def test_a_model_that_resizes_proposes_through_its_head() -> None:
    sam = tiny_sam("vit")
    sam.instance_head = InstanceHead(EMBED_DIM, 0, 8, 1).eval()
    image = np.random.default_rng(0).integers(0, 255, (90, 120), dtype=np.uint8)
    embedding = SamPredictor(sam).encode(image)
    rows, cols = (2 * side for side in embedding.features.shape[-2:])
    scale = embedding.transform.input_size_yx[1] / 120
    y, x = (np.indices((rows, cols)) + 0.5) * (embedding.transform.padded_size_yx[0] / rows) / scale
    near = torch.from_numpy(18 - np.hypot(y - 45, x - 60))[None].float()
    with pytest.MonkeyPatch.context() as patch:
        maps = InstanceMaps(near, near - 12, torch.full_like(near, -9.0))
        patch.setattr(sam.instance_head, "forward", lambda features: maps)
        (prompted,) = prompted_crops(sam, embedding, AutomaticOptions(mode="proposals"))
        options = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0}
        generator = AutomaticMaskGenerator(sam, mode="proposals", **options)
        records = generator.generate(embedding)
    assert prompted.crop.window is None
    assert prompted.points_xy[0] == pytest.approx((60, 45), abs=5)
    assert prompted.masks is not None
    assert prompted.masks[0].area == pytest.approx(np.pi * 18**2, rel=0.15)
    assert len(records) <= 1
