"""Where the boxes and lines of a drawing go: in layers from top to bottom, with few crossings and mostly straight lines.

Boxes go on even levels, below all they depend on. A line goes through one spot on each level between its ends, so that
it has room of its own beside the boxes; its label is such a spot, as wide as its text.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from math import inf
from typing import NamedTuple

_GAP = 26.0  # between boxes that stand side by side
_LINE_GAP = 14.0  # between a line and what is beside it
_LEVEL_GAP = 21.0
_ROUNDS = 12
_MOST_STEPS = 60_000  # spots × rounds: large drawings get fewer rounds, so that none takes long
_STRAIGHT = 4.0  # how much more a long line wants to be straight than a box wants to be in the middle
_PORT_GAP = 16.0
_MOST_OF_SIDE = 0.6


class Point(NamedTuple):
    """A place; y grows downwards."""

    x: float
    y: float


class Size(NamedTuple):
    """Of a box or a label."""

    width: float
    height: float


class Line(NamedTuple):
    """A line to be laid out, from one box to another that is further down.

    Attributes:
        label: size of its label; null: it has none.
    """

    source: str
    target: str
    label: Size | None = None


class Route(NamedTuple):
    """Where a line goes.

    Attributes:
        points: it goes through each of them straight down.
        label: centre of its label.
    """

    points: tuple[Point, ...]
    label: Point | None


class Layout(NamedTuple):
    """A drawing that begins at 0, 0.

    Attributes:
        boxes: their centres.
        routes: one for each line, in their order.
        size: of the whole.
    """

    boxes: Mapping[str, Point]
    routes: tuple[Route, ...]
    size: Size


@dataclass(eq=False, slots=True)
class _Spot:
    """A box, or the place of a line on a level."""

    size: Size
    level: int
    is_box: bool = False
    x: float = 0.0
    above: list[_Spot] = field(default_factory=list)
    below: list[_Spot] = field(default_factory=list)

    @property
    def is_label(self) -> bool:
        return not self.is_box and self.size.width > 0


def layered(boxes: Mapping[str, Size], lines: Sequence[Line]) -> Layout:
    """Lay out a graph without cycles; where nothing else decides, in the order of `boxes`."""
    ranks = _ranks(boxes, lines)
    spots = {id: _Spot(size, 2 * ranks[id], is_box=True) for id, size in boxes.items()}
    levels: list[list[_Spot]] = [[] for _ in range(2 * max(ranks.values()) + 1)]
    for spot in spots.values():
        levels[spot.level].append(spot)
    ways = [_way(line, spots, levels) for line in lines]
    rounds = max(1, min(_ROUNDS, _MOST_STEPS // sum(map(len, levels))))
    _order(levels, rounds)
    _place(levels, rounds)
    _straighten(ways, levels)
    middles, height = _heights(levels)
    left = min((spot.x - spot.size.width / 2 for level in levels for spot in level), default=0.0)
    right = max((spot.x + spot.size.width / 2 for level in levels for spot in level), default=0.0)
    for level in levels:
        for spot in level:
            spot.x -= left
    ports = _ports(ways)
    routes = tuple(_route(way, ports[number], middles, levels) for number, way in enumerate(ways))
    return Layout({id: Point(spot.x, middles[spot.level]) for id, spot in spots.items()}, routes, Size(right - left, height))


def _ranks(boxes: Mapping[str, Size], lines: Sequence[Line]) -> dict[str, int]:
    """How far down each box is: one below the lowest of those above it; boxes with none go right above what needs them."""
    above: dict[str, set[str]] = {id: set() for id in boxes}
    below: dict[str, set[str]] = {id: set() for id in boxes}
    for line in lines:
        above[line.target].add(line.source)
        below[line.source].add(line.target)
    ranks: dict[str, int] = {}
    for id in TopologicalSorter(above).static_order():
        ranks[id] = max((ranks[each] + 1 for each in above[id]), default=0)
    return {id: rank if above[id] or not below[id] else min(ranks[each] for each in below[id]) - 1 for id, rank in ranks.items()}


def _way(line: Line, spots: Mapping[str, _Spot], levels: list[list[_Spot]]) -> list[_Spot]:
    """The spots a line goes through, its ends included."""
    first, last = spots[line.source], spots[line.target]
    way = [first]
    for level in range(first.level + 1, last.level):
        is_label = line.label is not None and level == first.level + 1
        spot = _Spot(line.label if is_label and line.label is not None else Size(0, 0), level)
        levels[level].append(spot)
        way.append(spot)
    way.append(last)
    for upper, lower in pairwise(way):
        upper.below.append(lower)
        lower.above.append(upper)
    return way


def _order(levels: list[list[_Spot]], rounds: int) -> None:
    """Sort each level so that few lines cross: by the middle of what is above, then of what is below, and so on."""
    best, fewest = [list(level) for level in levels], _crossings(levels)
    for turn in range(2 * rounds):
        is_down = turn % 2 == 0
        for before, level in pairwise(levels if is_down else levels[::-1]):
            place = {id(spot): (number + 0.5) / len(row) for row in (before, level) for number, spot in enumerate(row)}
            near = {id(spot): spot.above if is_down else spot.below for spot in level}
            middles = {id(spot): _mean([place[id(each)] for each in near[id(spot)] or [spot]]) for spot in level}
            level.sort(key=lambda spot: middles[id(spot)])
        crossings = _crossings(levels)
        if crossings < fewest:
            best, fewest = [list(level) for level in levels], crossings
    levels[:] = best


def _crossings(levels: list[list[_Spot]]) -> int:
    count = 0
    for upper, lower in pairwise(levels):
        place = {id(spot): number for number, spot in enumerate(lower)}
        seen: list[int] = []
        for spot in upper:
            ends = sorted(place[id(each)] for each in spot.below)
            count += sum(len(seen) - bisect_left(seen, end + 1) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _place(levels: list[list[_Spot]], rounds: int) -> None:
    """Give each spot its x: as near to the middle of what it is connected with as its neighbours allow."""
    for level in levels:
        x = 0.0
        for spot, gap in zip(level, [0.0, *_gaps(level)], strict=True):
            spot.x = x = x + gap
        for spot in level:
            spot.x -= x / 2
    for turn in range(4 * rounds):
        is_last = turn >= 3 * rounds
        for level in levels if turn % 2 == 0 else reversed(levels):
            wanted, weights = [], []
            for spot in level:
                near = spot.above + spot.below if is_last else spot.above if turn % 2 == 0 else spot.below
                pulls = [_STRAIGHT if not (spot.is_box or each.is_box) else 1.0 for each in near]
                total = sum(pulls)
                wanted.append(sum(each.x * pull for each, pull in zip(near, pulls, strict=True)) / total if near else spot.x)
                weights.append(total or 0.1)
            for spot, x in zip(level, _apart(wanted, weights, _gaps(level)), strict=True):
                spot.x = x


def _straighten(ways: Sequence[list[_Spot]], levels: list[list[_Spot]]) -> None:
    """Let each line go straight down as far as what is beside it allows, the longest ones first."""
    number_of = {id(spot): number for level in levels for number, spot in enumerate(level)}
    for way in sorted(ways, key=len, reverse=True):
        run: list[_Spot] = []
        least, most = -inf, inf
        for spot in [*way[1:-1], None]:
            lower, upper = (inf, -inf) if spot is None else _room(levels[spot.level], number_of[id(spot)])
            if max(least, lower) <= min(most, upper) and spot is not None:
                least, most = max(least, lower), min(most, upper)
                run.append(spot)
                continue
            ends = [end.x for end in (way[-1], way[0]) if least <= end.x <= most]
            middle = sum(each.x for each in run) / max(len(run), 1)
            for each in run:
                each.x = ends[0] if ends else min(max(middle, least), most)
            run, least, most = [] if spot is None else [spot], lower, upper


def _room(level: list[_Spot], number: int) -> tuple[float, float]:
    """Between which x a spot may be, as its neighbours are."""
    spot = level[number]
    least = level[number - 1].x + _gap(level[number - 1], spot) if number else -inf
    most = level[number + 1].x - _gap(spot, level[number + 1]) if number + 1 < len(level) else inf
    return least, most


def _gaps(level: list[_Spot]) -> list[float]:
    return [_gap(left, right) for left, right in pairwise(level)]


def _gap(left: _Spot, right: _Spot) -> float:
    """How far the middles of neighbours must be from one another."""
    return (left.size.width + right.size.width) / 2 + (_GAP if left.is_box and right.is_box else _LINE_GAP)


def _apart(wanted: Sequence[float], weights: Sequence[float], gaps: Sequence[float]) -> list[float]:
    """The places nearest to those that are wanted, by least squares, at which all gaps are kept.

    Without the gaps, the places must only not go down: those that would are joined in blocks at their mean.
    """
    offsets = [0.0]
    for gap in gaps:
        offsets.append(offsets[-1] + gap)
    blocks: list[tuple[float, float, int]] = []  # mean, weight, count
    for want, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, count = want - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, heavy, many = blocks.pop()
            mean = (before * heavy + mean * weight) / (heavy + weight)
            weight, count = heavy + weight, many + count  # noqa: PLW2901 - the block grows
        blocks.append((mean, weight, count))
    places = [mean for mean, _, count in blocks for _ in range(count)]
    return [place + offset for place, offset in zip(places, offsets, strict=True)]


def _heights(levels: list[list[_Spot]]) -> tuple[list[float], float]:
    """The middle of each level, and the height of all."""
    middles, y = [], 0.0
    for level in levels:
        height = max((spot.size.height for spot in level), default=0.0)
        middles.append(y + height / 2)
        y += height + _LEVEL_GAP
    return middles, y - _LEVEL_GAP


def _ports(ways: Sequence[list[_Spot]]) -> list[tuple[float, float]]:
    """Where each line leaves its box and reaches the next, from the middle of the side: beside one another, in order."""
    starts, ends = [0.0] * len(ways), [0.0] * len(ways)
    for shifts, end, next_to in ((starts, 0, 1), (ends, -1, -2)):
        by_box: dict[int, list[int]] = {}
        for number, way in enumerate(ways):
            by_box.setdefault(id(way[end]), []).append(number)
        for numbers in by_box.values():
            numbers.sort(key=lambda number: ways[number][next_to].x)
            gap = min(_PORT_GAP, ways[numbers[0]][end].size.width * _MOST_OF_SIDE / len(numbers))
            for place, number in enumerate(numbers):
                shifts[number] = (place - (len(numbers) - 1) / 2) * gap
    return list(zip(starts, ends, strict=True))


def _route(way: list[_Spot], ports: tuple[float, float], middles: Sequence[float], levels: list[list[_Spot]]) -> Route:
    """A line goes straight past whatever else is on a level, and bends between levels."""
    points: list[Point] = []
    for spot, shift in zip(way, (ports[0], *(0.0 for _ in way[1:-1]), ports[1]), strict=True):
        middle, x = middles[spot.level], spot.x + shift
        top, bottom = (middle + side * max(each.size.height for each in levels[spot.level]) / 2 for side in (-1, 1))
        if spot is way[0]:
            points.append(Point(x, middle + spot.size.height / 2))
        elif bottom > top:
            points.append(Point(x, top))
        if spot is way[-1]:
            points.append(Point(x, middle - spot.size.height / 2))
        elif bottom > top:
            points.append(Point(x, bottom))
    label = next((Point(spot.x, middles[spot.level]) for spot in way if spot.is_label), None)
    return Route(tuple(point for point, after in zip(points, [*points[1:], None], strict=True) if point != after), label)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
