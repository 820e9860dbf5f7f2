"""Charts as SVG elements that follow the style of the page around them. They hold numbers and times, never texts of items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple
from xml.etree.ElementTree import Element, SubElement, tostring

from batchrun.core.figures import Bin, Throughput

if TYPE_CHECKING:
    from decimal import Decimal

_NUMBERS = ("x", "y", "x1", "x2", "y1", "y2", "width", "height")
_LOOKS = ("fill", "stroke", "font-family", "font-size")
_MARGIN = 0.05  # of the width, on all four sides, by the library
_LEGEND = 18  # what the library leaves for a legend above two series; the page has its own
_PER_DECADE = ((1, "ms"), (1_000, "s"), (60_000, "min"), (3_600_000, "h"))


class _Series(NamedTuple):
    """Columns of one colour.

    Attributes:
        name: the CSS class that colours them.
        heights: one for each column.
    """

    name: str
    heights: Sequence[float]


class _Form(NamedTuple):
    """How large a chart is, and what it says.

    Attributes:
        label: for those who do not see it.
        labels: what the columns are, told when pointed at.
        ticks: what is written under some of the columns, by their number.
    """

    width: int
    height: int
    label: str
    labels: Sequence[str]
    ticks: Mapping[int, str]


def throughput_chart(throughput: Throughput) -> str:
    """Items that ended, over time; those that failed in front of the others."""
    count = len(throughput.ended_items)
    each = timedelta(seconds=throughput.interval_seconds)
    times = [throughput.began_at + at * each for at in range(count + 1)]
    said = zip(times, throughput.ended_items, throughput.failed_items, strict=False)
    labels = [f"from {clock(at, each)}: {ended:,} ended, {failed:,} of them failed" for at, ended, failed in said]
    ticks = {at: clock(times[at], each * 10) for at in range(0, count, 12)}
    form = _Form(900, 240, "Items that ended, over time; the table below has the numbers", labels, ticks)
    return _columns(form, [_Series("ended", throughput.ended_items), _Series("failed", throughput.failed_items)])


def histogram_chart(bins: Sequence[Bin], label: str) -> str:
    """How long the executions of a node took: on a logarithmic scale of time."""
    labels = [f"{shown_ms(each.from_ms)} to {shown_ms(each.to_ms)}: {each.calls:,}" for each in bins]
    step = max(-(-len(bins) // 4), 1)
    ticks = {at: shown_ms(bins[at].from_ms) for at in range(0, len(bins), step)}
    return _columns(_Form(340, 180, label, labels, ticks), [_Series("ended", [each.calls for each in bins])])


def clock(at: datetime, precision: timedelta) -> str:
    """A time of day in UTC, as exact as is needed."""
    at = at.astimezone(UTC)
    if precision >= timedelta(hours=6):
        return f"{at:%m-%d %H:%M}"
    if precision >= timedelta(minutes=1):
        return f"{at:%H:%M}"
    return f"{at:%H:%M:%S}" if precision >= timedelta(seconds=1) else f"{at:%H:%M:%S}.{at.microsecond // 1000:03}"


def shown_ms(milliseconds: float) -> str:
    """A duration in a unit that fits it.

    Example:
        >>> shown_ms(0.0123), shown_ms(46.4), shown_ms(2154.0), shown_ms(7_200_000.0)
        ('0.012 ms', '46 ms', '2.2 s', '2 h')
    """
    size, unit = next(pair for pair in reversed(_PER_DECADE) if milliseconds >= pair[0] or pair[0] == 1)
    return f"{float(f'{milliseconds / size:.2g}'):,.10g} {unit}"


def _columns(form: _Form, series: Sequence[_Series]) -> str:
    numbers = [str(at) for at in range(len(form.labels))]
    import leather  # noqa: PLC0415 - 30 ms that only a report pays for

    chart = leather.Chart()
    for each in series:
        chart.add_columns([*zip(numbers, each.heights, strict=True)], name=each.name)
    chart.add_y_scale(0, max(4, *(max(each.heights) for each in series)))
    chart.add_y_axis(tick_formatter=_amount)
    chart.add_x_axis(tick_formatter=lambda _value, at, _count: form.ticks.get(at, ""))
    group = chart.to_svg_group(form.width, form.height)
    _restyle(group, form.labels, [each.name for each in series])
    edge = _MARGIN * form.width - 8
    top = edge + (_LEGEND if len(series) > 1 else 0)
    box = f"{edge:g} {top:g} {form.width - 2 * edge:g} {form.height - edge - top:g}"
    svg = Element("svg", {"viewBox": box, "role": "img", "class": "chart"})
    SubElement(svg, "title").text = form.label
    svg.append(group)
    return tostring(svg, encoding="unicode")


def _restyle(group: Element, labels: Sequence[str], names: Sequence[str]) -> None:
    """Let the page decide about colours and fonts, round what was computed to 28 digits, and tell each column by its title."""
    group.remove(group[0])  # the background
    for header in group[0][:1]:
        header.clear()  # the legend
    for element in group.iter():
        for name in _LOOKS:
            element.attrib.pop(name, None)
        for name in _NUMBERS:
            if (value := element.get(name)) is not None:
                element.set(name, f"{float(value):.4g}")
    drawn = [element for element in group.iter() if "columns" in element.get("class", "")]
    for columns, name in zip(drawn, names, strict=True):
        columns.set("class", name)
        for column, label in zip(list(columns), labels, strict=True):
            if column.get("height") == "0":
                columns.remove(column)
            else:
                SubElement(column, "title").text = label


def _amount(value: Decimal, _at: int, _count: int) -> str:
    return f"{value:,.10g}" if value < 1_000_000 else f"{value / 1_000_000:,.4g} M"
