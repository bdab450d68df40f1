"""Reports are compared image by image, with intervals that say how sure a difference is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.evaluation import ImageScores, compare_reports, write_report


def _report(folder: Path, box: dict[str, float], group: str = "nuclei") -> Path:
    results = [ImageScores(name, group, {"box": value, "SA50": 0.5}) for name, value in box.items()]
    write_report(folder, results)
    return folder


def test_what_differs_in_every_image_is_sure(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    quality = {f"{index}.png": value for index, value in enumerate(rng.uniform(0.2, 0.8, 40))}
    before = _report(tmp_path / "before", quality)
    better = _report(tmp_path / "better", {n: q + 0.02 for n, q in quality.items()})
    (difference,) = compare_reports(before, better).differences.values()
    assert difference["box"] == pytest.approx((0.02, 0.02, 0.02), abs=1e-4)
    assert difference["SA50"] == (0, 0, 0)

    noise = dict(zip(quality, rng.normal(0, 0.1, 40), strict=True))
    other = _report(tmp_path / "other", {name: quality[name] + noise[name] for name in quality})
    mean, low, high = compare_reports(before, other).differences["nuclei"]["box"]
    assert mean == pytest.approx(np.mean(list(noise.values())), abs=1e-4)
    width = 2 * 1.96 * np.std(list(noise.values())) / 40**0.5
    assert high - low == pytest.approx(width, rel=0.15)
    assert low < mean < high


def test_groups_weigh_the_same_and_images_of_one_report_are_left_out(tmp_path: Path) -> None:
    for name, change in (("before", 0.0), ("after", 0.1)):
        write_report(
            tmp_path / name,
            [
                ImageScores("a", "one", {"box": 0.5 + change}),
                ImageScores("b", "one", {"box": 0.5 + change}),
                ImageScores("a", "two", {"box": 0.5 - change, "click": 0.3}),
                ImageScores(name, "two", {"box": 0.9}),
            ],
        )
    comparison = compare_reports(tmp_path / "before", tmp_path / "after")
    assert (comparison.images, comparison.left_out) == (3, 2)
    assert comparison.differences["mean"]["box"].mean == pytest.approx(0, abs=1e-6)
    assert comparison.differences["two"]["box"].mean == pytest.approx(-0.1)
    assert "click" not in comparison.differences["one"]


def test_reports_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    one = _report(tmp_path / "one", {"a.png": 0.5})
    with pytest.raises(InputError, match="no report"):
        compare_reports(one, tmp_path / "absent")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "images.csv").write_text("name,box\na.png,0.5\n")
    with pytest.raises(InputError, match="no report"):
        compare_reports(one, tmp_path / "odd")
    with pytest.raises(InputError, match="share no image"):
        compare_reports(one, _report(tmp_path / "two", {"b.png": 0.5}))
