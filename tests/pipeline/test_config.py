import json

import pytest

from napari_sam.core.errors import ConfigError
from napari_sam.pipeline import SegmentConfig, SliceRange, parse_slices
from napari_sam.pipeline.config import chosen_channels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2:5", [2, 3, 4]),
        ("::3", [0, 3, 6, 9]),
        (":2", [0, 1]),
        ("-2:", [8, 9]),
        ("4", [4]),
        ("-1", [9]),
        ("7:99", [7, 8, 9]),
    ],
)
def test_slices_are_read(text, expected):
    assert list(parse_slices(text).indices(10)) == expected


@pytest.mark.parametrize("text", ["", "a:b", "1:2:3:4", "1-3"])
def test_unreadable_slices_are_refused(text):
    with pytest.raises(ConfigError, match="--slices"):
        parse_slices(text)


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        ({"channels": (0, 1, 2, 3)}, "--channel"),
        ({"channels": (-1,)}, "--channel"),
        ({"tile": 0}, "--tile"),
        ({"halo": -1}, "--halo"),
        ({"min_size": 0}, "--min-size"),
        ({"contrast_limits": (5.0, 5.0)}, "--contrast-limits"),
        ({"contrast_limits": ((0.0, 5.0), (7.0, 2.0))}, "--contrast-limits"),
        ({"contrast_limits": (0.0, float("inf"))}, "--contrast-limits"),
        ({"contrast_limits": (1.0, 2.0, 3.0)}, "--contrast-limits"),
        ({"contrast_limits": ()}, "--contrast-limits"),
        ({"contrast_limits": (0.0, 5.0), "contrast_percentiles": (1.0, 99.0)}, "only one"),
        ({"contrast_percentiles": (99.0, 1.0)}, "99.8"),
        ({"overwrite": True, "resume": True}, "only one"),
        ({"slices": SliceRange(0, 5, -1)}, "--slices"),
        ({"times": SliceRange(0, 5, 0)}, "step"),
    ],
)
def test_impossible_options_are_refused(options, cure):
    with pytest.raises(ConfigError) as caught:
        SegmentConfig(**options)
    assert cure in caught.value.cure


def test_contrast_limits_are_one_pair_or_one_for_each_channel():
    assert SegmentConfig().limit_pairs == ()
    assert SegmentConfig(contrast_limits=(0, 5)).limit_pairs == ((0.0, 5.0),)
    several = SegmentConfig(contrast_limits=[[0, 5], [2, 9]])
    assert several.limit_pairs == several.contrast_limits == ((0.0, 5.0), (2.0, 9.0))
    one = SegmentConfig(contrast_limits=((0, 5),))
    assert one == SegmentConfig(contrast_limits=(0.0, 5.0))
    assert one.fingerprint() == SegmentConfig(contrast_limits=(0.0, 5.0)).fingerprint()


def test_the_fingerprint_leaves_out_what_does_not_change_the_labels():
    first = SegmentConfig(device="cpu", overwrite=True).fingerprint()
    assert first == SegmentConfig(device="cuda", resume=True).fingerprint()
    assert first != SegmentConfig(halo=32).fingerprint()
    json.dumps(first)


def test_channels_are_chosen():
    assert chosen_channels((), 1) == (0,)
    assert chosen_channels((2, 0), 3) == (2, 0)
    with pytest.raises(ConfigError, match="--channel 0"):
        chosen_channels((), 2)
    with pytest.raises(ConfigError, match="Channel 5"):
        chosen_channels((0, 5), 3)
