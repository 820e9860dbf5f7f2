"""How many items a worker process is given at once."""

from __future__ import annotations

from batchrun.flow.slices import LARGEST_SLICE, fair_slice, next_slice


def test_slices_come_to_a_tenth_of_a_second() -> None:
    """A pause, the progress and the end of all workers wait for no long slice, and a fast one is no message per item."""
    items = 8
    for _ in range(20):
        items = next_slice(items, items * 0.001)
    assert 90 <= items <= 110
    for _ in range(20):
        items = next_slice(items, items * 0.00001)
    assert items == LARGEST_SLICE
    for _ in range(20):
        items = next_slice(items, items * 60.0)
    assert items == 1


def test_the_last_items_are_shared() -> None:
    """No worker has items queued while another one has nothing to do."""
    left, given = 1_000, []
    while left:
        given.append(min(left, fair_slice(500, left, 4)))
        left -= given[-1]
    assert given[0] == 125 and given[-1] == 1 and given == sorted(given, reverse=True)
