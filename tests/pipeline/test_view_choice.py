"""Views follow the prompts, and the object as far as it is seen."""

from __future__ import annotations

import numpy as np
import pytest

from napari_sam.core.prompts import BoxPrompt, MaskPrompt, PointPrompt, PromptSet
from napari_sam.core.region import Region
from napari_sam.model.sam import InputSpec
from napari_sam.pipeline.view_choice import PlaneViews, object_extent, union
from napari_sam.predict.frames import Frame

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)
RESIZED = InputSpec(size=128)
SMALL = PlaneViews((400, 600), NATIVE)
LARGE = PlaneViews((6000, 9000), NATIVE)


def test_small_planes_are_looked_at_in_their_own_embedding() -> None:
    view = SMALL.around((300, 200, 310, 210))
    assert view.frame == Frame.whole((400, 600))
    assert view.region_yx.shape == (128, 128)
    assert view.cells_per_pixel_yx == (0.5, 0.5)
    coarse = SMALL.around((300, 200, 310, 210), 2)
    assert coarse.frame.factor == 2
    assert coarse.region_yx.shape == (256, 256)


def test_large_planes_are_looked_at_in_windows() -> None:
    view = LARGE.around((4000, 3000, 4010, 3010))
    assert view.frame.extent_yx == (128, 128)
    assert view.region_yx == view.frame.region_yx
    far = LARGE.around((4000, 3000, 4700, 3010))
    assert far.frame.factor == 8
    assert far.region_yx.start[1] <= 4000 < 4700 < far.region_yx.stop[1]


def test_models_that_resize_see_small_planes_whole() -> None:
    views = PlaneViews((190, 100), RESIZED)
    assert views.is_whole
    for at_least in (1, 8):
        assert views.around((5, 5, 5, 5), at_least).region_yx == Region.whole((190, 100))
    large = PlaneViews((900, 900), RESIZED)
    assert not large.is_whole
    assert large.around((500, 500, 500, 500)).region_yx.shape == (128, 128)
    assert large.factor_for(PromptSet(box=BoxPrompt(0, 0, 600, 600))) == 1  # the room decides


@pytest.mark.parametrize(
    ("prompts", "factor"),
    [
        (PromptSet((PointPrompt(5, 5),)), 1),
        (PromptSet((PointPrompt(5, 5), PointPrompt(70, 5))), 4),
        (PromptSet((PointPrompt(5, 5), PointPrompt(70, 5, False))), 1),
        (PromptSet((PointPrompt(5, 5, False),)), 1),
        (PromptSet(box=BoxPrompt(0, 0, 32, 20)), 1),
        (PromptSet(box=BoxPrompt(0, 0, 33, 20)), 2),
        (PromptSet(box=BoxPrompt(-500, 0, 33, 20)), 2),
        (PromptSet(mask=MaskPrompt.from_array(np.ones((120, 4), bool))), 4),
    ],
)
def test_what_is_prompted_is_not_too_large_for_the_model(prompts: PromptSet, factor: int) -> None:
    assert SMALL.factor_for(prompts) == factor


def test_prompts_in_the_inner_half_are_shown_well() -> None:
    view = LARGE.around((4000, 3000, 4000, 3000))
    (y, x), (bottom, right) = view.region_yx.start, view.region_yx.stop
    assert LARGE.shows_well(view, (x + 32, y + 32, right - 33, bottom - 33))
    for extent in (
        (x + 31, y + 32, x + 40, y + 40),
        (x + 40, y + 31, x + 40, y + 40),
        (x + 40, y + 40, right - 32, y + 40),
        (x + 40, y + 40, x + 40, bottom - 32),
    ):
        assert not LARGE.shows_well(view, extent)
    corner = LARGE.around((0, 0, 3, 3))
    assert LARGE.shows_well(corner, (0, 0, 3, 3))
    end = LARGE.around((8999, 5999, 8999, 5999))
    assert LARGE.shows_well(end, (8999, 5999, 8999, 5999))


@pytest.mark.parametrize("place", [(3000, 4000), (0, 0), (5999, 8999)])
def test_masks_are_cut_by_inner_edges_only(place: tuple[int, int]) -> None:
    y, x = place
    view = LARGE.around((x, y, x, y))
    inside = np.zeros((64, 64), bool)
    inside[1:63, 1:63] = True
    assert not LARGE.is_cut(view, inside)
    at_start, at_end = inside.copy(), inside.copy()
    at_start[0, 5] = True
    at_end[5, 63] = True
    assert LARGE.is_cut(view, at_start) == (view.region_yx.start[0] > 0)
    assert LARGE.is_cut(view, at_end) == (view.region_yx.stop[1] < 9000)


def test_scraps_do_not_make_an_object_larger() -> None:
    view = LARGE.around((4000, 3000, 4000, 3000))
    y, x = view.region_yx.start
    inside = np.zeros((64, 64), bool)
    inside[20:30, 24:40] = True  # the object
    inside[50:64, 0:30] = True  # a larger scrap, cut by the view
    clicked = PromptSet((PointPrompt(x + 60, y + 50), PointPrompt(x + 2, y + 120, False)))
    extent = object_extent(view, inside, clicked)
    assert extent == (x + 48, y + 40, x + 79, y + 59)
    assert not LARGE.reaches_edge(view, extent)
    missed = PromptSet((PointPrompt(x + 100, y + 10),))
    scrap = object_extent(view, inside, missed)
    assert scrap == (x, y + 100, x + 59, y + 127)
    assert LARGE.reaches_edge(view, scrap)
    both = PromptSet((PointPrompt(x + 60, y + 50), PointPrompt(x + 10, y + 110)))
    assert object_extent(view, inside, both) == union(extent, scrap)
    assert object_extent(view, np.zeros((64, 64), bool), clicked) is None


def test_edges_count_on_each_side() -> None:
    view = LARGE.around((4000, 3000, 4000, 3000))
    (y, x), (bottom, right) = view.region_yx.start, view.region_yx.stop
    inner = (x + 2.0, y + 2.0, right - 3.0, bottom - 3.0)
    assert not LARGE.reaches_edge(view, inner)
    for i, value in enumerate((x, y, right - 1, bottom - 1)):
        assert LARGE.reaches_edge(view, (*inner[:i], float(value), *inner[i + 1 :]))


def test_small_objects_in_coarse_views_get_a_closer_look() -> None:
    view = LARGE.around((4000, 3000, 4000, 3000), 8)
    assert view.frame.factor == 8
    assert LARGE.finer_factor(view, (4000, 3000, 4100, 3010)) == 8
    assert LARGE.finer_factor(view, (4000, 3000, 4020, 3010)) == 2
    assert LARGE.finer_factor(view, (4000, 3000, 4005, 3005)) == 1


def test_a_plane_is_not_shrunk_to_nothing() -> None:
    factors = [f for f in (1, 2, 4, 8, 16, 32) if SMALL.can_be_coarser(SMALL.around((9,) * 4, f))]
    assert factors == [1, 2, 4, 8, 16]
    assert 600 / (2 * 16) >= 128 / 8
    assert not PlaneViews((100, 100), RESIZED).can_be_coarser(
        PlaneViews((100, 100), RESIZED).around((9,) * 4)
    )
