"""Masks and their numbers: scores, filters, run-length coding. Knows no model."""

from napari_sam.masks.filters import (
    CROP_EDGE_TOLERANCE,
    is_box_near_crop_edge,
    mask_nms,
    nms,
    remove_small_regions,
    remove_small_regions_packed,
)
from napari_sam.masks.packed import PackedMask
from napari_sam.masks.rle import (
    CocoRLE,
    UncompressedRLE,
    compress_rle,
    decode_rle,
    decompress_rle,
    encode_rle,
    rle_area,
)
from napari_sam.masks.scores import (
    batched_mask_to_box,
    box_iou,
    boxes_meet,
    mask_iou,
    mask_to_box,
    stability_score,
)

__all__ = [
    "CROP_EDGE_TOLERANCE",
    "CocoRLE",
    "PackedMask",
    "UncompressedRLE",
    "batched_mask_to_box",
    "box_iou",
    "boxes_meet",
    "compress_rle",
    "decode_rle",
    "decompress_rle",
    "encode_rle",
    "is_box_near_crop_edge",
    "mask_iou",
    "mask_nms",
    "mask_to_box",
    "nms",
    "remove_small_regions",
    "remove_small_regions_packed",
    "rle_area",
    "stability_score",
]
