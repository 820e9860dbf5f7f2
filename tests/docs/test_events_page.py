"""What docs/events.md shows is what happens."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import fields
from pathlib import Path

from batchrun.core.events import EVENT_TYPES, Event, SentBack
from tests.docs.test_docs import ROOT, blocks, run

PAGE = (ROOT / "docs/events.md").read_text()
BLOCKS = list(blocks(ROOT / "docs/events.md"))


def test_the_functions_of_the_page_print_what_it_shows(tmp_path: Path) -> None:
    """Who copies the callbacks and the tracing sees the same lines; nothing warns."""
    program = "\n".join(block.text for block in BLOCKS if block.language == "python")
    printed = run([sys.executable, "-W", "error", "-c", program], tmp_path)
    assert printed == "".join(block.text for block in BLOCKS if block.language == "text")


def test_the_log_has_the_line_that_the_page_shows(tmp_path: Path) -> None:
    """Programs can be written against the example: the same fields, in the same order, of the same types."""
    job = next(block.text for block in BLOCKS if block.language == "yaml")
    (tmp_path / "job.yaml").write_text(job)
    (tmp_path / "flights.csv").write_text("flight,to\nLH1,Oslo\n")
    run([sys.executable, "-m", "batchrun", "run", "job.yaml"], tmp_path)
    (log,) = tmp_path.rglob("events.jsonl")
    written = {line["event"]: line for line in map(json.loads, log.read_text().splitlines())}
    shown = json.loads(next(block.text for block in BLOCKS if block.language == "json"))
    found = written[shown["event"]]
    assert list(found) == list(shown)
    assert {name: type(value) for name, value in found.items()} == {name: type(value) for name, value in shown.items()}
    same = ("item_index", "source_item_id", "status", "attempts", "error")
    assert [found[name] for name in same] == [shown[name] for name in same]


def test_the_table_names_every_field_of_every_event() -> None:
    """The page is complete: no event or field that is not in its table, and none in it that is not there."""
    rows = {row[1]: row for row in re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.*) \|$", PAGE, re.MULTILINE)}
    assert list(rows) == sorted(EVENT_TYPES.values(), key=list(rows).index)
    common = {field.name for field in fields(Event)}
    for kind, name in EVENT_TYPES.items():
        assert rows[name][0] == kind.__name__
        told = {field.name for field in fields(kind)} - common
        if not (issubclass(kind, SentBack) and "as `Retrying`" in rows[name][2]):
            assert told == set(re.findall(r"`(\w+)`", rows[name][2])), name
