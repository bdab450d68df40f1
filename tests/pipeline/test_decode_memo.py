"""What was decoded is remembered within bounds."""

from __future__ import annotations

import numpy as np

from napari_sam.model.sam import InputSpec
from napari_sam.pipeline.decode_memo import DecodedView, DecodeMemo
from napari_sam.predict.decoding import AllMasks
from napari_sam.predict.frames import Frame, view_of_frame

NATIVE = InputSpec(size=128, native_resolution=True, stride=8, low_res_stride=2, pad_multiple=32)


def test_the_least_recently_used_are_forgotten() -> None:
    memo: DecodeMemo[bytes] = DecodeMemo(10, len)
    for key in "abc":
        memo.put(key, b"1234")
    assert [memo.get(key) for key in "abc"] == [None, b"1234", b"1234"]
    memo.get("b")
    memo.put("d", b"12")
    memo.put("e", b"1")
    assert memo.get("c") is None
    assert memo.get("b") == b"1234"


def test_what_is_replaced_counts_once_and_the_newest_stays() -> None:
    memo: DecodeMemo[bytes] = DecodeMemo(10, len)
    for _ in range(5):
        memo.put("a", b"1234")
    memo.put("b", b"1234")
    assert memo.get("a") == b"1234"
    memo.put("c", b"x" * 99)
    assert (memo.get("a"), memo.get("b"), len(memo.get("c") or b"")) == (None, None, 99)
    memo.clear()
    assert memo.get("c") is None
    memo.put("a", b"1234")
    memo.put("b", b"1234")
    assert memo.get("a") == b"1234"


def test_masks_know_their_place_in_the_plane() -> None:
    view = view_of_frame(Frame((64, 128), (100, 128), 1), NATIVE)  # 28 rows of padding
    logits = np.full((4, 64, 64), -8, np.float32)
    logits[1, 10:20, 20:40] = 8
    logits[2, 50:] = 8  # only in the padding
    scores = np.linspace(0, 1, 4, dtype=np.float32)
    masks = AllMasks(logits, scores, np.ones(4, np.float32), scores)
    decoded = DecodedView(view, masks)
    assert decoded.n_bytes == logits.nbytes
    patch = decoded.candidates[1].at()
    assert patch.box_xyxy == (128 + 40, 64 + 20, 128 + 80, 64 + 40)
    assert decoded.candidates[2].at().is_empty
    assert decoded.candidates[3].predicted_iou == 1.0
    assert decoded.inside(1).sum() == 200
