"""Where boxes and lines of a drawing go."""

from __future__ import annotations

from itertools import combinations, pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.workflows.layout import Layout, Line, Point, Size, layered

ROUNDING = 0.01


class Area(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def area(at: Point, size: Size) -> Area:
    return Area(at.x - size.width / 2, at.y - size.height / 2, at.x + size.width / 2, at.y + size.height / 2)


def meet(one: Area, other: Area) -> bool:
    return (
        min(one.right, other.right) - max(one.left, other.left) > ROUNDING
        and min(one.bottom, other.bottom) - max(one.top, other.top) > ROUNDING
    )


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[str, Size], list[Line]]:
    """Boxes of any size, and lines from earlier ones to later ones, some with labels."""
    count = draw(st.integers(1, 12))
    sides = st.integers(20, 300)
    boxes = {f"n{number}": Size(draw(sides), draw(st.sampled_from([40, 58, 76]))) for number in range(count)}
    lines = [
        Line(f"n{source}", f"n{target}", Size(draw(sides), 20) if draw(st.booleans()) else None)
        for target in range(1, count)
        for source in sorted(draw(st.sets(st.integers(0, target - 1), max_size=3)))
    ]
    return boxes, lines


@given(graphs())
@settings(deadline=None, max_examples=200)
def test_nothing_lies_on_anything_else(graph: tuple[dict[str, Size], list[Line]]) -> None:
    """Boxes and labels have room of their own, inside the drawing; lines lead down, between their ends, past all other boxes."""
    boxes, lines = graph
    layout = layered(boxes, lines)
    areas = {id: area(layout.boxes[id], size) for id, size in boxes.items()}
    labels = [area(route.label, line.label) for line, route in zip(lines, layout.routes, strict=True) if route.label and line.label]
    assert len(labels) == sum(line.label is not None for line in lines)
    everything = [*areas.values(), *labels]
    assert not any(meet(one, other) for one, other in combinations(everything, 2))
    whole = Area(-ROUNDING, -ROUNDING, layout.size.width + ROUNDING, layout.size.height + ROUNDING)
    assert all(whole.left <= a.left and a.right <= whole.right and whole.top <= a.top and a.bottom <= whole.bottom for a in everything)
    for line, route in zip(lines, layout.routes, strict=True):
        first, *_, last = route.points
        source, target = areas[line.source], areas[line.target]
        assert source.left < first.x < source.right and abs(first.y - source.bottom) < ROUNDING
        assert target.left < last.x < target.right and abs(last.y - target.top) < ROUNDING
        for upper, lower in pairwise(route.points):
            assert upper.y <= lower.y + ROUNDING
            crossed = Area(min(upper.x, lower.x), upper.y, max(upper.x, lower.x), lower.y)
            if upper.x == lower.x:
                crossed = crossed._replace(left=upper.x - 2 * ROUNDING, right=upper.x + 2 * ROUNDING)
            assert not any(meet(crossed, other) for other in areas.values())


def levels(layout: Layout) -> list[list[str]]:
    rows: dict[float, list[str]] = {}
    for id, at in sorted(layout.boxes.items(), key=lambda entry: (entry[1].y, entry[1].x)):
        rows.setdefault(at.y, []).append(id)
    return list(rows.values())


def boxes_of(names: str) -> dict[str, Size]:
    return dict.fromkeys(names, Size(100, 40))


def lines_of(*pairs: str) -> list[Line]:
    return [Line(pair[0], pair[1]) for pair in pairs]


def test_boxes_are_as_high_up_as_what_they_need_lets_them() -> None:
    """The longest way to a box gives its level; one that needs nothing stands right above what needs it."""
    layout = layered(boxes_of("abcdef"), lines_of("ab", "bc", "ac", "dc", "ce"))
    assert levels(layout) == [["a", "f"], ["b", "d"], ["c"], ["e"]]


def test_a_chain_is_a_straight_line_and_a_fan_is_even() -> None:
    """What is regular looks so."""
    chain = layered(boxes_of("abc"), lines_of("ab", "bc"))
    assert {at.x for at in chain.boxes.values()} == {50.0}
    assert all(point.x == 50.0 for route in chain.routes for point in route.points)
    fan = layered(boxes_of("sabcj"), lines_of("sa", "sb", "sc", "aj", "bj", "cj"))
    assert levels(fan) == [["s"], ["a", "b", "c"], ["j"]]
    middles = [round(fan.boxes[id].x, 1) for id in "sbj"]
    assert middles == [middles[0]] * 3
    assert round(fan.boxes["b"].x - fan.boxes["a"].x, 1) == round(fan.boxes["c"].x - fan.boxes["b"].x, 1)


def test_boxes_are_sorted_so_that_lines_do_not_cross() -> None:
    """The order of the job only decides where nothing else does."""
    layout = layered(boxes_of("abcdef"), lines_of("af", "be", "cd"))
    top, bottom = levels(layout)
    assert ["fed"["abc".index(id)] for id in top] == bottom


def test_a_long_line_goes_straight_past_what_is_between() -> None:
    """It bends at its ends only, where it has room."""
    layout = layered(boxes_of("abcde"), lines_of("ab", "bc", "cd", "de", "ae"))
    long = layout.routes[-1].points
    assert len({round(point.x, 6) for point in long[1:-1]}) == 1
