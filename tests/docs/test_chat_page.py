"""What docs/chat.md shows is what happens."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.core import errors
from batchrun.testing.faulty_service import FaultyService
from tests.docs.test_docs import ROOT, blocks
from tests.docs.test_http_pages import batchrun

PAGE = (ROOT / "docs/chat.md").read_text()
JOBS = [block.text for block in blocks(ROOT / "docs/chat.md") if block.language == "yaml"]


@pytest.mark.parametrize("job", JOBS, ids=range(len(JOBS)))
def test_the_jobs_of_the_page_run(tmp_path: Path, job: str) -> None:
    """Who copies a job from the page can start from it."""
    with FaultyService(api_key="k3y-of-llm") as service:
        job = job.replace("http://127.0.0.1:8080", service.url).replace("{llm: {", "{llm: {headers: {X-API-Key: k3y-of-llm}, ")
        done = batchrun(tmp_path, job, "run", LLM_KEY="k3y-of-llm")
        assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("runs/*/results.parquet")
    (row,) = pq.read_table(result).to_pylist()
    assert row["node_executions"][0]["usage"]["input_tokens"] > 0


def test_the_parts_of_the_table_are_taken(tmp_path: Path) -> None:
    """As they are written there."""
    cells = [line.split("`")[1] for line in PAGE.splitlines() if line.startswith("| `{") and "…" not in line]
    assert len(cells) == 4
    inputs = json.dumps(dict.fromkeys(("photo", "letter", "voice"), "data:audio/wav;base64,YWJj"))
    parts = ", ".join(cells).replace("item.question", "item.text")
    job = JOBS[1].replace(
        'embed: "{{ item.text }}", batch: {max_items: 64}', f"inputs: {inputs}, messages: [{{role: user, content: [{parts}]}}]"
    )
    with FaultyService() as service:
        done = batchrun(tmp_path, job.replace("http://127.0.0.1:8080", service.url), "run")
        assert done.returncode == 0, done.stderr
        content = json.loads(service.seen().calls[0].body)["messages"][0]["content"]
    assert [part["type"] for part in content] == ["text", "image_url", "file", "input_audio"]


def test_the_errors_of_the_table_are_errors() -> None:
    """Rules match them by these names."""
    for line in PAGE.split("## What can go wrong")[1].splitlines():
        if line.startswith("| `"):
            assert issubclass(getattr(errors, line.split("`")[1]), errors.NodeError)
