import numpy as np
import pytest

from napari_sam.core.axes import canonical_order, guess_axes, normalize_axes, transpose_to
from napari_sam.core.errors import InputError


@pytest.mark.parametrize(
    ("given", "expected"), [("zyx", "ZYX"), ("Z,Y,X", "ZYX"), ("y x s", "YXS"), ("tczyx", "TCZYX")]
)
def test_axes_are_normalised(given, expected):
    assert normalize_axes(given, len(expected)) == expected


@pytest.mark.parametrize("given", ["ZZYX", "ZY", "QYX", "", "ZXQ"])
def test_wrong_axes_are_refused(given):
    with pytest.raises(InputError, match="--axes"):
        normalize_axes(given, len(given))


def test_the_number_of_axes_must_fit():
    with pytest.raises(InputError, match="has 3"):
        normalize_axes("YX", 3)


@pytest.mark.parametrize(
    ("shape", "hint", "is_color", "expected"),
    [
        ((5, 6), "", False, "YX"),
        ((5, 6, 3), "", True, "YXS"),
        ((5, 6, 3), "YXS", False, "YXS"),
        ((9, 5, 6), "ZYX", False, "ZYX"),
        ((1, 5, 6), "QYX", False, "ZYX"),
        ((2, 1, 5, 6), "TQYX", False, "TZYX"),
        ((2, 5, 6), "tyx", False, "TYX"),
    ],
)
def test_what_cannot_be_wrong_is_guessed(shape, hint, is_color, expected):
    assert guess_axes(shape, hint, is_color=is_color) == expected


@pytest.mark.parametrize(
    ("shape", "hint"),
    [((9, 5, 6), ""), ((3, 5, 6), "QYX"), ((5, 6, 3), ""), ((2, 9, 5, 6), "QQYX"), ((4,), "")],
)
def test_the_rest_is_asked_for(shape, hint):
    with pytest.raises(InputError, match="--axes") as caught:
        guess_axes(shape, hint)
    assert str(tuple(shape)) in caught.value.given


def test_the_question_offers_axes_that_fit():
    with pytest.raises(InputError) as caught:
        guess_axes((9, 5, 6))
    for example in ("--axes ZYX", "--axes TYX", "--axes CYX"):
        assert example in caught.value.cure


def test_canonical_order_and_transpose():
    assert canonical_order("XYZC") == "CZYX"
    array = np.zeros((6, 5, 4, 3))
    assert transpose_to(array, "XYZC", "CZYX").shape == (3, 4, 5, 6)
