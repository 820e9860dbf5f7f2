"""What docs/services.md shows is what happens."""

from __future__ import annotations

import sys
from pathlib import Path

from batchrun.core.policies import Breaker
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.docs.test_docs import ROOT, blocks, run

PAGE = ROOT / "docs/services.md"


def test_the_example_runs_and_says_what_the_page_shows(tmp_path: Path) -> None:
    """Who copies the job gets its rows from a service that throttles, and the line of the summary."""
    found = {block.language: block.text for block in blocks(PAGE)}
    calls = 0

    def answer(_received: Received) -> Answer:
        nonlocal calls
        calls += 1
        return Answer(status=429) if calls % 3 == 0 else json_answer("en")

    with LoopbackServer(answer) as server:
        assert '"http://127.0.0.1:8080"' in found["yaml"]
        (tmp_path / "job.yaml").write_text(found["yaml"].replace("http://127.0.0.1:8080", server.url))
        (tmp_path / "texts.csv").write_text("id,text\n" + "".join(f"{row},text {row}\n" for row in range(40)))
        printed = run([sys.executable, "-m", "batchrun", "run", "job.yaml"], tmp_path)
    assert found["text"].strip() in printed
    assert "40 completed" in printed


def test_the_table_has_the_defaults() -> None:
    """Who leaves the breaker out knows what holds."""
    text, breaker = PAGE.read_text(), Breaker()
    assert f"| `failures` | {breaker.failures} |" in text
    assert f"`probe_max_seconds` | {breaker.probe_initial_seconds:g}, {breaker.probe_max_seconds:g} |" in text
    assert "| `max_parked_seconds` | null |" in text and breaker.max_parked_seconds is None
