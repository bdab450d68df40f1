"""What objects paint, decided for all at once, is what a plain loop over objects decides."""

from itertools import pairwise

import numpy as np
import pytest

from napari_sam.core.errors import InputError
from napari_sam.core.region import Region
from napari_sam.labels import PIECE, BlockParts, paintings, plan_paintings
from napari_sam.tiling import tile_grid

GRID = tile_grid((90, 100), 20, 4)


def chain(links, start):
    """All ids that are linked to one, over any number of links."""
    found, new = {start}, {start}
    while new:
        new = {b for pair in links for a, b in (pair, pair[::-1]) if a in new} - found
        found |= new
    return sorted(found)


def random_pieces(seed):
    """Pieces with boxes, scores and flags at random, some scores equal; and links among them."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, len(GRID))
    pieces = np.zeros(counts.sum(), dtype=PIECE)
    tile = np.repeat(np.arange(len(GRID)), counts)
    label = np.concatenate([np.arange(1, count + 1) for count in counts])
    pieces["gid"] = tile << 32 | label
    pieces["score"] = rng.choice([0.5, 0.7, 0.9], len(pieces))
    pieces["predicted_iou"], pieces["stability"] = rng.random((2, len(pieces)))
    start = rng.integers(0, [89, 99], (len(pieces), 2))
    pieces["box"][:, :2] = start
    pieces["box"][:, 2:] = np.minimum(start + rng.integers(1, 40, start.shape), GRID.shape_yx)
    pieces["is_truncated"], pieces["owns_centroid"] = rng.random((2, len(pieces))) < 0.5
    return pieces, rng.choice(pieces["gid"], (len(pieces) // 2, 2))


def plain(pieces, matches):
    """Objects as dicts, ordered by smallest id, with their parts as (tile, label, box)."""
    by_gid = {int(piece["gid"]): piece for piece in pieces}
    links = matches.tolist()
    objects = {}
    for gid in by_gid:
        members = [by_gid[other] for other in chain(links, gid)]
        best = min(members, key=lambda m: (-m["score"], m["gid"]))
        source = min(
            members,
            key=lambda m: (m["is_truncated"], not m["owns_centroid"], -m["score"], m["gid"]),
        )
        parts = []
        if source["is_truncated"] and len(members) > 1:
            for member in members:
                owned = Region(*(tuple(x) for x in np.split(GRID.owned[member["gid"] >> 32], 2)))
                box = Region(tuple(member["box"][:2]), tuple(member["box"][2:])).intersect(owned)
                if not box.is_empty:
                    parts.append((member["gid"], (*box.start, *box.stop)))
        elif len(members) > 1 or source["owns_centroid"]:
            parts.append((source["gid"], tuple(source["box"])))
        objects[int(members[0]["gid"])] = (best, source, len(members), parts)
    return dict(sorted(objects.items()))


@pytest.mark.parametrize("seed", range(8))
def test_paintings_are_those_of_a_plain_loop(seed):
    pieces, matches = random_pieces(seed)
    everything = plain(pieces, matches)
    turns = sorted(everything, key=lambda gid: (-everything[gid][0]["score"], gid))
    expected = {gid: found for gid, found in everything.items() if found[3]}
    planned = plan_paintings(pieces, matches, GRID.owned)
    assert planned.gid.tolist() == list(expected)
    for number, (gid, (best, source, n_tiles, parts)) in enumerate(expected.items()):
        assert planned.score[number] == best["score"]
        assert planned.predicted_iou[number] == best["predicted_iou"]
        assert planned.stability[number] == best["stability"]
        assert planned.n_tiles[number] == n_tiles
        assert planned.is_cut[number] == source["is_truncated"]
        mine = planned.parts[planned.parts["painting"] == number]
        assert set(mine["rank"]) == {turns.index(gid)}
        found = [
            (int(tile) << 32 | int(label), tuple(box.tolist()))
            for tile, label, box in zip(mine["tile"], mine["label"], mine["box"], strict=True)
        ]
        assert found == parts
    assert planned.tile.tolist() == [int(found[3][0][0]) >> 32 for found in expected.values()]


def test_the_order_of_matches_decides_nothing():
    pieces, matches = random_pieces(1)
    planned = plan_paintings(pieces, matches, GRID.owned)
    turned = plan_paintings(pieces, matches[::-1, ::-1], GRID.owned)
    np.testing.assert_array_equal(planned.parts, turned.parts)
    np.testing.assert_array_equal(planned.gid, turned.gid)


@pytest.mark.parametrize("block_yx", [(7, 100), (16, 16), (90, 100)])
def test_blocks_hold_the_parts_that_reach_into_them(block_yx):
    parts = plan_paintings(*random_pieces(2), GRID.owned).parts
    blocks = BlockParts(parts, GRID.shape_yx, block_yx)
    area = 0
    for region, found in blocks:
        reaches = [
            not region.intersect(Region(tuple(box[:2]), tuple(box[2:]))).is_empty
            for box in parts["box"].tolist()
        ]
        np.testing.assert_array_equal(found, parts[reaches])
        area += region.shape[0] * region.shape[1]
    assert area == 90 * 100
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_paintings_left_out_are_numbered_anew_and_keep_their_turns():
    planned = plan_paintings(*random_pieces(3), GRID.owned)
    kept = np.arange(len(planned)) % 3 > 0
    chosen = planned.select(kept)
    stays = kept[planned.parts["painting"]]
    assert chosen.gid.tolist() == planned.gid[kept].tolist()
    assert chosen.parts["rank"].tolist() == planned.parts["rank"][stays].tolist()
    numbers = np.unique(chosen.parts["painting"]).tolist()
    assert all(b == a + 1 for a, b in pairwise(numbers))
    assert numbers[0] == 0
    np.testing.assert_array_equal(
        chosen.gid[chosen.parts["painting"]], planned.gid[planned.parts["painting"][stays]]
    )


def test_a_slice_with_more_objects_than_ids_is_refused(monkeypatch):
    pieces, matches = random_pieces(4)
    monkeypatch.setattr(paintings, "MAX_OBJECTS", 3)
    with pytest.raises(InputError, match="at most 3 objects"):
        plan_paintings(pieces, matches, GRID.owned)
