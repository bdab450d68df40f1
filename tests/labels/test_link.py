import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_sam.core.errors import ConfigError, InputError
from napari_sam.labels.link import (
    LinkRule,
    SliceLinker,
    link_slices,
    number_chains,
    relabel_slice,
)


def boxes(*per_slice, shape=(20, 30)):
    """A stack in which each slice has boxes (id, top, left, bottom, right)."""
    stack = np.zeros((len(per_slice), *shape), dtype=np.int32)
    for plane, objects in zip(stack, per_slice, strict=True):
        for label, top, left, bottom, right in objects:
            plane[top:bottom, left:right] = label
    return stack


def ids_at(linked, row, column):
    return linked[:, row, column].tolist()


def same_partition(a, b):
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return all(len(np.unique(side)) == len(side) for side in pairs)


def test_an_object_through_all_slices_is_one_whatever_its_ids():
    stack = boxes([(7, 2, 2, 8, 8)], [(3, 2, 3, 8, 9)], [(900, 2, 4, 8, 10)])
    linked = link_slices(stack)
    assert linked.dtype == np.uint32
    np.testing.assert_array_equal(linked, stack > 0)


def test_equal_ids_in_other_places_are_not_linked():
    linked = link_slices(boxes([(1, 0, 0, 5, 5)], [(1, 10, 10, 15, 15)]))
    assert np.unique(linked[0]).tolist() == [0, 1]
    assert np.unique(linked[1]).tolist() == [0, 2]


def test_touching_is_not_enough_and_half_is_not_over_half():
    half = boxes([(1, 0, 0, 4, 4)], [(1, 0, 0, 4, 8)])  # IoU 16 / 32
    assert link_slices(half).max() == 2
    assert link_slices(half, LinkRule(min_iou=0.49)).max() == 1
    touching = boxes([(1, 0, 0, 4, 4)], [(1, 0, 4, 4, 9)])
    assert link_slices(touching, LinkRule(min_iou=0.0)).max() == 2


def test_a_split_goes_on_with_the_larger_part_and_a_merge_with_the_larger_object():
    apart = [(1, 0, 0, 6, 6), (2, 0, 6, 6, 10)]
    together = [(9, 0, 0, 6, 10)]
    rule = LinkRule(min_iou=0.2)
    split = link_slices(boxes(together, apart), rule)
    assert ids_at(split, 0, 0) == [1, 1]
    assert ids_at(split, 0, 9) == [1, 2]
    merge = link_slices(boxes(apart, together), rule)
    assert ids_at(merge, 0, 0) == [1, 1]
    assert ids_at(merge, 0, 9) == [2, 1]


def test_the_best_pair_comes_first_and_leaves_the_next_best_to_others():
    # Each new object overlaps both old ones; the best pair decides, and the rest follows.
    stack = boxes(
        [(1, 0, 0, 4, 10), (2, 0, 10, 4, 20)],
        [(1, 0, 3, 4, 13), (2, 0, 13, 4, 23)],
    )
    linked = link_slices(stack, LinkRule(min_iou=0.0))
    assert ids_at(linked, 0, 5) == [1, 1]
    assert ids_at(linked, 0, 15) == [2, 2]


def test_a_tie_is_decided_by_the_smaller_id():
    even = boxes([(4, 0, 0, 4, 8)], [(8, 0, 0, 4, 4), (5, 0, 4, 4, 8)])
    linked = link_slices(even, LinkRule(min_iou=0.3))
    assert ids_at(linked, 0, 6) == [1, 1]
    assert ids_at(linked, 0, 1) == [1, 2]


@pytest.mark.parametrize(
    ("missing", "max_gap", "count"), [(1, 0, 2), (1, 1, 1), (2, 1, 2), (2, 2, 1)]
)
def test_missing_slices_are_bridged_up_to_the_gap(missing, max_gap, count):
    there = [(5, 2, 2, 9, 9)]
    stack = boxes(there, *[[]] * missing, there, there)
    linked = link_slices(stack, LinkRule(max_gap=max_gap))
    assert linked.max() == count
    np.testing.assert_array_equal(linked > 0, stack > 0)  # nothing is painted into the gap


def test_a_nearer_slice_wins_over_one_behind_a_gap():
    # In slice 1 the object has shrunk; the full object of slice 2 still belongs to it.
    stack = boxes([(1, 0, 0, 10, 10)], [(1, 0, 0, 10, 7)], [(1, 0, 0, 10, 10)])
    assert link_slices(stack, LinkRule(max_gap=1)).max() == 1


def test_what_a_nearer_slice_continues_is_not_continued_across_a_gap():
    stack = boxes(
        [(1, 0, 0, 10, 10)],
        [(1, 0, 0, 10, 6)],  # IoU 0.6 with the first
        [(1, 0, 0, 10, 6), (2, 0, 6, 10, 10)],
    )
    linked = link_slices(stack, LinkRule(min_iou=0.3, max_gap=1))
    assert ids_at(linked, 0, 0) == [1, 1, 1]
    assert ids_at(linked, 0, 8) == [1, 0, 2]


def test_short_objects_are_dropped_and_ids_stay_consecutive():
    stack = boxes(
        [(1, 0, 0, 5, 5)],
        [(2, 0, 0, 5, 5), (1, 10, 10, 15, 15)],
        [(1, 0, 10, 5, 15)],
        [(1, 0, 10, 5, 15)],
    )
    linked = link_slices(stack, min_extent=2)
    assert ids_at(linked, 0, 0) == [1, 1, 0, 0]
    assert ids_at(linked, 0, 12) == [0, 0, 2, 2]
    assert ids_at(linked, 12, 12) == [0, 0, 0, 0]
    assert link_slices(stack, min_extent=3).max() == 0


def test_a_bridged_slice_does_not_count_for_the_extent():
    stack = boxes([(1, 0, 0, 5, 5)], [], [(1, 0, 0, 5, 5)])
    rule = LinkRule(max_gap=1)
    assert link_slices(stack, rule, min_extent=2).max() == 1
    assert link_slices(stack, rule, min_extent=3).max() == 0


def test_ids_follow_first_appearance():
    stack = boxes([(8, 0, 0, 4, 4), (6, 10, 0, 14, 4)], [(1, 10, 0, 14, 4), (2, 0, 20, 4, 24)])
    linked = link_slices(stack)
    assert ids_at(linked, 10, 0) == [1, 1]
    assert ids_at(linked, 0, 0) == [2, 0]
    assert ids_at(linked, 0, 20) == [0, 3]


def test_a_shift_is_measured_in_physical_units_per_slice():
    def count(max_shift, gap=0, pixel_size_yx=(1.0, 1.0), rows=0, columns=0):
        first = [(1, 0, 0, 10, 10)]
        last = [(1, rows, columns, rows + 10, columns + 10)]
        rule = LinkRule(0.1, gap, max_shift, pixel_size_yx)
        return link_slices(boxes(first, *[[]] * gap, last), rule).max()

    assert count(None, columns=3) == 1
    assert count(3, columns=3) == 1
    assert count(2.9, columns=3) == 2
    assert count(2.9, columns=3, pixel_size_yx=(1, 0.5)) == 1
    assert count(2.9, rows=3, pixel_size_yx=(1, 0.5)) == 2
    assert count(2.9, gap=1, columns=3) == 1


def test_empty_slices_and_stacks():
    empty = np.zeros((3, 4, 5), dtype=np.uint8)
    assert link_slices(empty).max() == 0
    linked = link_slices(boxes([], [(1, 0, 0, 5, 5)], [], [(1, 0, 0, 5, 5)]))
    assert ids_at(linked, 0, 0) == [0, 1, 0, 2]
    with pytest.raises(InputError, match="At least one slice"):
        link_slices([])


@pytest.mark.parametrize("ids", [(2**64 - 1, 2**64 - 2), (1, 2**64 - 1), (2**53, 2**53 + 1)])
def test_ids_of_64_bits_stay_apart(ids):
    stack = np.zeros((2, 6, 12), dtype=np.uint64)
    stack[:, :4, :4], stack[:, :4, 6:10] = ids
    linked = link_slices(stack)
    assert sorted({*ids_at(linked, 0, 0), *ids_at(linked, 0, 7)}) == [1, 2]
    assert ids_at(linked, 0, 0) == [1 + (ids[0] > ids[1])] * 2


def test_ids_that_fill_a_slice_without_background():
    stack = np.full((2, 3, 4), 2**40, dtype=np.int64)
    stack[:, :, 2:] = 5
    assert ids_at(link_slices(stack), 0, 0) == [2, 2]
    assert ids_at(link_slices(stack.astype(">i8")), 0, 3) == [1, 1]


def test_the_order_of_ids_and_of_slices_does_not_matter():
    rng = np.random.default_rng(0)
    stack = np.stack([voronoi(rng, shift=(0, i)) for i in range(6)])
    linked = link_slices(stack)
    assert 1 < linked.max() < 6 * stack.max()
    shuffled = stack.copy()
    for plane in shuffled:
        names = rng.permutation(np.arange(1, 200)).astype(plane.dtype)
        plane[plane > 0] = names[plane[plane > 0]]
    assert same_partition(link_slices(shuffled), linked)
    assert same_partition(link_slices(stack[::-1])[::-1], linked)


def voronoi(rng, shift, shape=(60, 60)):
    """Cells that cover most of a slice, their borders a little different each time."""
    seeds = np.random.default_rng(5).uniform(0, 60, (25, 2)) + shift + rng.normal(0, 0.7, (25, 2))
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distance = np.hypot(rows[..., None] - seeds[:, 0], columns[..., None] - seeds[:, 1])
    labels = distance.argmin(axis=-1) + 1
    return np.where(distance.min(axis=-1) < 9, labels, 0)


def spheres(centers, radii, shape=(24, 40, 40)):
    grid = np.mgrid[tuple(slice(n) for n in shape)]
    labels = np.zeros(shape, dtype=np.int64)
    for label, (center, radius) in enumerate(zip(centers, radii, strict=True), start=1):
        # Cut above and below, where a sphere's sections shrink by more than half
        z = np.abs(grid[0] - center[0])
        inside = sum((g - c) ** 2 for g, c in zip(grid, center, strict=True)) <= radius**2
        labels[inside & (labels == 0) & (z <= 0.7 * radius)] = label
    return labels


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans())
def test_spheres_split_into_slices_come_back(seed, count, is_large):
    rng = np.random.default_rng(seed)
    centers = np.array([[12, 10, 10], [12, 10, 30], [12, 30, 10], [12, 30, 30]])[:count]
    truth = spheres(centers + rng.uniform(-2, 2, (count, 3)), rng.uniform(5, 7.5, count))
    per_slice = np.zeros(truth.shape, dtype=np.uint64)
    names = iter(rng.permutation(np.arange(1, 500)) + (2**60 if is_large else 0))
    for plane, true_plane in zip(per_slice, truth, strict=True):
        for label in np.unique(true_plane[true_plane > 0]):
            plane[true_plane == label] = next(names)
    linked = link_slices(per_slice)
    assert linked.max() == count
    assert same_partition(linked, truth)


def test_a_new_stack_has_no_slices_before_it():
    plane = boxes([(1, 0, 0, 5, 5)])[0]
    linker = SliceLinker()
    chains = [linker.add(plane), linker.add(plane)]
    linker.restart()
    chains.append(linker.add(plane))
    assert [chain.tolist() for chain in chains] == [[0], [0], [1]]
    assert number_chains(chains, linker.n_chains).tolist() == [1, 2]


def test_few_slices_are_held():
    linker = SliceLinker(LinkRule(max_gap=2))
    for _ in range(10):
        linker.add(np.ones((4, 4), dtype=np.uint8))
    assert len(linker._earlier) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"min_iou": -0.1},
        {"min_iou": 1},
        {"min_iou": float("nan")},
        {"max_gap": -1},
        {"max_shift": 0},
        {"max_shift": float("inf")},
    ],
)
def test_wrong_rules_are_refused(options):
    with pytest.raises(ConfigError, match="--"):
        LinkRule(**options)


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 4)),
        np.full((4, 4), -1),
        np.zeros((4, 4), dtype=bool),
        np.zeros((2, 4, 4), dtype=int),
    ],
)
def test_what_is_no_slice_of_labels_is_refused(labels):
    with pytest.raises(InputError):
        SliceLinker().add(labels)


def test_slices_of_other_shapes_and_changed_slices_are_refused():
    linker = SliceLinker()
    linker.add(np.ones((4, 4), dtype=np.uint8))
    with pytest.raises(InputError, match="rows and columns"):
        linker.add(np.ones((4, 5), dtype=np.uint8))
    with pytest.raises(InputError, match="held 2 before"):
        relabel_slice(np.ones((4, 4), dtype=np.uint8), np.array([1, 2]))
