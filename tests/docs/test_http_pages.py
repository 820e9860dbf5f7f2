"""What docs/http.md and docs/secrets.md show is what happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.config import load_job
from batchrun.core.auth import Auth
from batchrun.core.checks import InvalidFields
from batchrun.testing.loopback import LoopbackServer, json_answer
from tests.docs.test_docs import ROOT, blocks

HTTP = [block.text for block in blocks(ROOT / "docs/http.md") if block.language == "yaml"]
SECRETS = list(blocks(ROOT / "docs/secrets.md"))
LETTERS = "id,text\n1,Where is my parcel?\n"


def batchrun(folder: Path, job: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "job.yaml").write_text(job)
    (folder / "letters.csv").write_text(LETTERS)
    command = [sys.executable, "-m", "batchrun", *arguments, "job.yaml"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=250, check=False)


@pytest.mark.parametrize("job", HTTP, ids=range(len(HTTP)))
def test_the_jobs_of_the_page_are_valid(tmp_path: Path, job: str) -> None:
    """Who copies a job from the page can start from it."""
    checked = batchrun(tmp_path, job, "validate", PROXY_PASSWORD="s3cret-of-proxy")  # noqa: S106 - not one
    assert checked.returncode == 0, checked.stderr


def test_the_first_job_does_what_the_page_says(tmp_path: Path) -> None:
    """Path, query, headers and body are sent as shown, and the path in the answer is the output."""
    answer = {"status": "ok", "labels": [{"name": "delivery"}]}
    with LoopbackServer({"/v1/letters/1/label": json_answer(answer)}) as server:
        done = batchrun(tmp_path, HTTP[0].replace("http://127.0.0.1:8080", server.url), "run")
        assert done.returncode == 0, done.stderr
        assert server.requests[0].path == "/v1/letters/1/label?language=en"
        assert server.requests[0].headers["x-team"] == "support"
        assert json.loads(server.requests[0].body) == {"text": "Where is my parcel?"}
    (result,) = tmp_path.glob("runs/*/results.parquet")
    assert pq.read_table(result).column("output").to_pylist() == ['"delivery"']


def test_the_secret_of_the_page_is_sent_and_a_missing_one_refused(tmp_path: Path) -> None:
    """The message is the one that is shown."""
    job, shown = (block.text for block in SECRETS)
    missing = batchrun(tmp_path, job, "run")
    assert missing.returncode == 2
    assert shown in missing.stderr
    with LoopbackServer({"/send": json_answer(None)}) as server:
        done = batchrun(tmp_path, job.replace("http://127.0.0.1:8080", server.url), "run", MAIL_KEY="k3y-of-mail")
        assert done.returncode == 0, done.stderr
        assert server.requests[0].headers["authorization"] == "Bearer k3y-of-mail"


def test_the_tables_show_options_that_are_taken(tmp_path: Path) -> None:
    """Every way to page and every way to authenticate is written as the job file wants it."""
    text = (ROOT / "docs/http.md").read_text()
    cells = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `{")]
    assert len(cells) == 8
    node = "{id: a, type: http, request: {url: 'http://a/'}, KEY: CELL}"
    for cell in cells:
        key = "pages" if "items" in cell else "auth"
        file = tmp_path / "job.yaml"
        file.write_text(f"dataset: x.csv\nworkflow: {{nodes: [{node.replace('KEY', key).replace('CELL', cell)}]}}\n")
        loaded = load_job(file)
        assert getattr(loaded.workflow.nodes[0], key) is not None
    with pytest.raises((InvalidFields, ValueError)):
        Auth()
