"""Parts that are made in threads while others are used."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from batchrun.core.errors import JobError, Problem
from batchrun.datasets.ahead import each_ahead

_FAR = 40


def refused_after(parts: int) -> Iterator[int]:
    """So many parts, then a refusal."""
    yield from range(parts)
    raise JobError([Problem(("dataset", "path"), "cut off")])


def test_what_is_made_comes_in_the_order_of_the_parts() -> None:
    """Positions of rows depend on it; a later part that is ready first has to wait."""
    second_is_made = threading.Event()

    def make(part: int) -> int:
        if part == _FAR:
            assert second_is_made.wait(60)
        elif part == _FAR + 1:
            second_is_made.set()
        return -part

    assert list(each_ahead(make, iter(range(2 * _FAR)))) == [-part for part in range(2 * _FAR)]


@pytest.mark.parametrize("parts", [0, 1, _FAR])
def test_what_came_before_an_error_comes_first(parts: int) -> None:
    """Rows before the place where a file is cut off may be refused for a reason of their own, which people want to read."""
    made = each_ahead(str, refused_after(parts))
    assert [next(made) for _ in range(parts)] == [str(part) for part in range(parts)]
    with pytest.raises(JobError, match="cut off"):
        next(made)


def test_an_error_of_one_part_comes_in_its_place() -> None:
    """Nothing that comes later may take its place, nor be handed out after it."""
    made = each_ahead(lambda part: 1 // (_FAR - part), refused_after(_FAR + 2))
    assert [next(made) for _ in range(_FAR)] == [1 // (_FAR - part) for part in range(_FAR)]
    with pytest.raises(ZeroDivisionError):
        next(made)
    assert list(made) == []


def test_first_parts_are_not_made_before_they_are_wanted() -> None:
    """Who tries a few rows of a large file neither waits for more of them nor fails on what comes later."""
    parts = iter(range(_FAR))
    made = each_ahead(str, parts)
    assert next(made) == "0" and next(parts) == 1
    made.close()
