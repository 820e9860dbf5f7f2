"""The page of a report, whatever it is about."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from batchrun.core.executions import Progress
from batchrun.core.figures import Bin, Figures, SimilarFailures, SlowItem, Throughput
from batchrun.reports import report_page, short_page
from batchrun.results import FailureGroup, NodeTotals, ResultTotals

HOSTILE = (
    "</script></style></title><script>alert(1)</script><img src=http://127.0.0.1:9/x onerror=alert(1)>"
    "\" onload='x' {{ 7*7 }} \x00\x1b[2J\u202e"
)


class Elements(HTMLParser):
    """The elements of a page, as a browser sees them, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def node(**more: Any) -> NodeTotals:
    plain = {"node_id": "ask", "node_type": "chat", "calls": 3, "attempts": 5, "completed": 2, "failed": 1, "skipped": 0}
    return NodeTotals(**{**plain, "total_ms": 4500.0, "max_ms": 3000.0, "p50_ms": 700.0, "p95_ms": 3000.0, "p99_ms": 3000.0, **more})


def totals(*nodes: NodeTotals, failures: tuple[FailureGroup, ...] = ()) -> dict[str, Any]:
    counts = {"total_items": 3, "processed_items": 3, "completed_items": 2, "failed_items": 1}
    none = dict.fromkeys(("skipped_items", "waiting_items", "cancelled_items"), 0)
    return asdict(ResultTotals(**counts, **none, nodes=nodes, failures=failures))


def figures(text: str = "", **more: Any) -> Figures:
    plain: dict[str, Any] = {
        "throughput": Throughput(
            began_at=datetime(2026, 11, 1, tzinfo=UTC), interval_seconds=1.0, ended_items=[1, 0, 2], failed_items=[0, 0, 1]
        ),
        "histograms": {"ask": [Bin(1.0, 10.0, 2), Bin(10.0, 100.0, 0), Bin(100.0, 1000.0, 1)]},
        "total_rows": 3,
        "histogram_rows": 3,
        "slowest": [SlowItem(text or "a", "completed", 1, 3000.0)],
        "similar_failures": [SimilarFailures(error_type="E" + text, node_id=text, pattern=text, count=1, examples=[(text, text)])],
        "grouped_failures": 1,
    }
    return Figures(**{**plain, **more})


def record(text: str = "job", **more: Any) -> dict[str, Any]:
    return {
        "execution_id": "20261101T093000-0a1b2c3d4e",
        "job_name": text,
        "status": "completed",
        "job": {"name": text},
        "states": [],
        **more,
    }


def test_no_text_becomes_an_element() -> None:
    """Rows, messages, names and the job come from anywhere; a report shows them and does nothing else with them."""
    group = FailureGroup(error_type=HOSTILE, node_id=HOSTILE, count=1, source_item_id=HOSTILE, message=HOSTILE)
    said = totals(node(node_id=HOSTILE, node_type=HOSTILE), failures=(group,))
    about = record(HOSTILE, totals=said, error=HOSTILE, dataset_name=HOSTILE, waited_seconds={HOSTILE: 1.0}, status=HOSTILE)
    about["resources"] = {HOSTILE: {"calls": 1, "throttled": 1, "opened": 0, "parked_seconds": 0.0}}
    about["states"] = [{"status": HOSTILE, "at": HOSTILE, "reason": HOSTILE, "pid": 1, "host": HOSTILE}]
    drawn = figures(HOSTILE, histograms={HOSTILE: [Bin(1.0, 10.0, 1)]})
    for page in (report_page(about, drawn), short_page(about, HOSTILE, HOSTILE, Progress(total_items=1), HOSTILE)):
        found = Elements(page)
        assert {"script", "img", "link", "iframe", "object", "form", "a"}.isdisjoint(found.names)
        assert [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "href", "action", "xlink:href")] == []
        assert "<script>alert(1)</script>" in found.text
        assert "{{ 7*7 }}" in found.text
        assert not {"\x00", "\x1b", "\u202e"} & set(page)


def test_the_page_asks_for_nothing() -> None:
    """It opens without a network, years later, and tells the browser to load nothing even if something got in."""
    page = report_page(record(totals=totals(node())), figures())
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page and "url(" not in page and "@import" not in page


def test_a_chart_has_its_numbers_beside_it() -> None:
    """Who cannot see a chart reads the same in a table, and is told what the chart is."""
    found = Elements(report_page(record(totals=totals(node())), figures()))
    assert found.names.count("svg") == 2
    assert [value for name, value in found.attributes if name == "role"].count("img") == 3  # and the bar of the counts
    assert "Items that ended, by time since the first" in found.text
    assert "1 ms to 10 ms: 2" in found.text


def test_tokens_and_cost_are_there_when_there_are_some() -> None:
    """Who pays sees for what, by node and in all; others see no empty table."""
    paid = report_page(record(totals=totals(node(input_tokens=1200, output_tokens=34, cost=0.5), node(node_id="b", cost=0.25))), figures())
    assert "Tokens and cost" in paid and "1,200" in paid and "0.75" in paid
    assert "Tokens and cost" not in report_page(record(totals=totals(node())), figures())


def test_what_was_sampled_is_said() -> None:
    """Nobody takes a picture of a part for one of the whole."""
    group = FailureGroup(error_type="Timeout", node_id="ask", count=1, source_item_id="b7", message="no answer")
    about = record(totals=totals(node(), failures=(group,)))
    page = report_page(about, figures(total_rows=10_000_000, histogram_rows=500_000, grouped_failures=0))
    assert "Drawn of 500,000 of 10,000,000 items, spread evenly" in page
    assert "Of 0 of 1 failed items" in page


def test_very_long_texts_are_cut() -> None:
    """A megabyte in a message, an id or the job does not make a page of megabytes."""
    text = "long " * 200_000
    about = record(text, totals=totals(node(node_id=text)), error=text, dataset_name=text)
    assert len(report_page(about, figures(text))) < 300_000


def test_many_nodes_and_states_make_no_endless_page() -> None:
    """A workflow of hundreds of nodes, resumed hundreds of times, has a report that opens."""
    nodes = [node(node_id=f"n{number}") for number in range(500)]
    states = [{"status": "running", "at": "2026-11-01T00:00:00+00:00", "pid": 1, "host": "h"}] * 500
    histograms = {each.node_id: [Bin(1.0, 2.0, 1)] for each in nodes}
    page = report_page(record(totals=totals(*nodes), states=states), figures(histograms=histograms))
    assert page.count("<svg") == 13
    assert "and 450 more" in page


@pytest.mark.parametrize("content", [{}, {"totals": None, "error": "the disk is full", "job": None}, {"totals": totals()}])
def test_an_execution_without_a_result_has_a_report(content: dict[str, Any]) -> None:
    """Also what was rejected or broke at once can be looked at."""
    page = report_page(record(**content), None)
    assert "20261101T093000-0a1b2c3d4e" in page
    assert "<svg" not in page


def test_a_notebook_shows_counts_and_failures() -> None:
    """The short form says at a glance how it went, also while it goes on."""
    group = FailureGroup(error_type="Timeout", node_id="ask", count=1, source_item_id="b7", message="no answer")
    progress = Progress(total_items=1_000, completed_items=400, failed_items=1, open_items=7)
    found = Elements(short_page(record(totals=totals(failures=(group,))), "running", None, progress, "runs/x"))
    assert "1,000 items: 400 completed, 1 failed, 599 not done" in found.text
    assert "b7: no answer" in found.text
