"""Which mode is chosen, and what each refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.predict import choose_mode, everything_generator, segment_everything
from tiny_models import tiny_sam

PIXELS = np.zeros((40, 40), np.uint8)


def test_the_model_proposes_where_it_can() -> None:
    assert choose_mode(tiny_sam("compact"), None, {}) == "proposals"
    assert choose_mode(tiny_sam("vit"), None, {}) == "grid"


def test_who_describes_a_grid_gets_a_grid() -> None:
    sam = tiny_sam("compact")
    for options in ({"points_per_side": 4}, {"crop_n_layers": 1}, {"skip_covered": True}):
        assert choose_mode(sam, None, options) == "grid"
    assert choose_mode(sam, None, {"points_per_side": None, "skip_covered": False}) == "proposals"
    assert choose_mode(sam, "proposals", {"points_per_side": 4}) == "proposals"


@pytest.mark.parametrize("mode", ["proposals", "watershed"])
def test_a_model_without_head_refuses_what_needs_it(mode: Any) -> None:
    with pytest.raises(
        ConfigError, match=f"mode='{mode}' was given for the model tiny_vit"
    ) as said:
        segment_everything(PIXELS, tiny_sam("vit"), mode=mode)
    assert "instance head" in said.value.rule
    assert "--mode grid" in said.value.cure


@pytest.mark.parametrize(
    ("mode", "options", "cure"),
    [
        ("watershed", {"points_per_side": 8}, "--mode grid"),
        ("watershed", {"min_mask_region_area": 0}, "--mode grid"),
        ("grid", {"foreground_thresh": 0.5}, "--mode watershed"),
        (None, {"foreground_thresh": 0.5}, "--mode watershed"),
        ("magic", {}, "one of these"),
    ],
)
def test_what_has_no_meaning_is_refused(mode: Any, options: dict[str, Any], cure: str) -> None:
    with pytest.raises(ConfigError, match=next(iter(options), "magic")) as said:
        segment_everything(PIXELS, tiny_sam("compact"), mode=mode, **options)
    assert cure in said.value.cure


def test_options_that_are_off_have_every_meaning() -> None:
    off = {"points_per_side": None, "skip_covered": False, "pred_iou_thresh": 0.0}
    labels = segment_everything(PIXELS, tiny_sam("compact"), mode="watershed", **off)
    assert labels.shape == PIXELS.shape


def test_a_watershed_generates_no_masks() -> None:
    with pytest.raises(ConfigError, match="without overlapping masks"):
        everything_generator(tiny_sam("compact"), mode="watershed")
