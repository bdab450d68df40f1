"""The diameter of objects as an option, and in words."""

from __future__ import annotations

import pytest

from napari_sam.cli.diameter import DiameterType, diameter_text
from napari_sam.core.errors import ConfigError


def test_numbers_and_words_are_read() -> None:
    read = DiameterType()
    texts = ("30", "7.5", "auto", "native")
    assert [read.convert(text, None, None) for text in texts] == [30, 7.5, "auto", "native"]
    with pytest.raises(ConfigError, match="--diameter 30"):
        read.convert("-2", None, None)


@pytest.mark.parametrize(
    ("diameter", "scale", "words"),
    [
        (None, 1.0, "fewer than three"),
        (30.0, 1.0, "about 30.0 pixels; the image is left"),
        (6.0, 4.0, "magnified to 4.00 times"),
        (160.0, 0.5, "shrunk to 0.50 times"),
    ],
)
def test_the_estimate_is_told(diameter: float | None, scale: float, words: str) -> None:
    assert words in diameter_text(diameter, scale)
