"""Outputs that later executions of a job take from the cache."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from batchrun.testing.loopback import LoopbackServer, json_answer
from tests.e2e.conftest import PATIENCE_SECONDS, Calls, Ended, Project, ended

ITEMS = 60
JOB = """\
name: labels
dataset: {path: data.parquet, id: id}
vars: {model: small}
workflow:
  nodes:
    - {id: clean, type: python, call: "steps:clean", inputs: {text: "{{ item.text }}"}, cache: true}
    - id: label
      type: python
      call: steps:label
      inputs: {text: "{{ nodes.clean.output }}", model: "{{ vars.model }}"}
      cache: true
      dedupe: true
run: {parallelism: 4, retry: {max_attempts: 1}}
"""
HOLD = """\
    if int(text[5:]) >= 40:
        with open("calls", "w") as pipe:
            pipe.write("\\n")
        while not Path("release").exists():
            await asyncio.sleep(0.01)
"""
STEPS = """\
import asyncio
from pathlib import Path


def note(*what):
    with open("log", "a") as log:
        log.write(" ".join(map(str, what)) + "\\n")


def clean(text: str) -> str:
    note("clean", text)
    return text.strip()


async def label(text: str, model: str) -> dict:
    note("label", text, model)
    if text == "text 7" and Path("broken").exists():
        raise ConnectionError("the service is broken")
    return {"text": text, "model": model, "length": len(text)}
"""


@pytest.fixture
def work(project: Project) -> Project:
    """A job of two cached nodes, the functions of which log their calls."""
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    project.table("data.parquet", {"id": range(ITEMS), "text": [f" text {row} " for row in range(ITEMS)]})
    return project


def run(project: Project, *arguments: str, code: int = 0) -> tuple[Ended, Counter[str]]:
    """Run the job, and say how often each function was called for it."""
    log = project.folder / "log"
    log.unlink(missing_ok=True)
    done = project.batchrun("run", "job.yaml", *arguments)
    assert done.code == code, done.err
    return done, Counter(line.split()[0] for line in log.read_text().splitlines()) if log.exists() else Counter()


def results(project: Project) -> list[Any]:
    """The outputs of the newest execution."""
    return [json.loads(output) for output in pq.read_table(project.executions[-1] / "results.parquet")["output"].to_pylist()]


def hits(project: Project) -> dict[str, int]:
    """The outputs of each node that came from the cache, as the record of the newest execution has them; the rows say the same."""
    execution = project.executions[-1]
    totals = {node["node_id"]: node["cached"] for node in json.loads((execution / "execution.json").read_text())["totals"]["nodes"]}
    rows = pq.read_table(execution / "results.parquet")["node_executions"].to_pylist()
    assert totals == {id: sum(node["cache_hit"] for nodes in rows for node in nodes if node["node_id"] == id) for id in totals}
    return totals


def test_the_second_execution_calls_nothing(work: Project) -> None:
    """Running a job again costs no call, gives the same result, and the summary says why."""
    first, calls = run(work)
    assert calls == {"clean": ITEMS, "label": ITEMS}
    before = results(work)
    second, calls = run(work)
    assert calls == {}
    assert results(work) == before == [{"text": f"text {row}", "model": "small", "length": len(f"text {row}")} for row in range(ITEMS)]
    assert hits(work) == {"clean": ITEMS, "label": ITEMS}
    assert "clean: 0 of 60 outputs from the cache" in first.err and " cached " not in first.err
    assert "label: 60 of 60 outputs from the cache" in second.err and " cached " in second.err
    shown = work.batchrun("show", "latest")
    assert "label: 60 of 60 outputs from the cache" in shown.out
    assert (work.folder / ".batchrun" / "cache.db").exists()


def test_more_items_cost_their_own_calls(work: Project) -> None:
    """A dataset that has grown is paid for by what is new in it."""
    _, calls = run(work, "--limit", "20")
    assert calls == {"clean": 20, "label": 20}
    done, calls = run(work)
    assert calls == {"clean": 40, "label": 40}
    assert "label: 20 of 60 outputs from the cache" in done.err


def test_an_edited_function_is_called_again(work: Project) -> None:
    """Code that gives something else is never hidden by what it gave before; nodes after it go by what they are given."""
    run(work)
    work.write("steps.py", STEPS.replace("text.strip()", "text.strip().replace('text 9', 'nine')"))
    done, calls = run(work)
    assert calls == {"clean": ITEMS, "label": 1}
    assert results(work)[9]["text"] == "nine"
    match = re.search(
        r"clean: none of 60 outputs from the cache: its options or its function changed since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)", done.err
    )
    assert match is not None, done.err
    assert "label: 59 of 60 outputs from the cache\n" in done.err
    work.write("steps.py", STEPS)
    _, calls = run(work)
    assert calls == {}


def test_a_resume_still_knows_why(work: Project) -> None:
    """An execution that was stopped and has gone on says of all its runs what came from the cache, and why the rest did not."""
    run(work)
    work.write("steps.py", STEPS.replace("text.strip()", "text.strip().upper()"))
    run(work, "--set", "run.budget.max_calls=20", code=4)
    resumed = work.batchrun("resume", "latest", "--set", "run.budget.max_calls=null")
    assert resumed.code == 0, resumed.err
    assert "clean: none of 60 outputs from the cache: its options or its function changed since 20" in resumed.err
    assert "label: 0 of 60 outputs from the cache\n" in resumed.err


def test_what_has_no_meaning_changes_nothing(work: Project) -> None:
    """Comments, labels, limits and patience cost no call."""
    run(work)
    work.write("steps.py", STEPS.replace("def clean", "# The first one.\ndef clean"))
    settings = ("workflow.nodes.clean.label=Clean", "workflow.nodes.label.timeout_seconds=9", "run.parallelism=2", "name=renamed")
    _, calls = run(work, *(part for setting in settings for part in ("--set", setting)))
    assert calls == {}


def test_an_edited_option_and_another_variable_are_called_again(work: Project) -> None:
    """Whatever the output depends on makes the call anew, and what it gave before is still there when it is as it was."""
    run(work)
    _, calls = run(work, "--set", "vars.model=large")
    assert calls == {"label": ITEMS}
    assert {result["model"] for result in results(work)} == {"large"}
    done, calls = run(work, "--set", "workflow.nodes.clean.inputs.text='{{ item.text }}.'")
    assert calls == {"clean": ITEMS, "label": ITEMS}
    assert "clean: none of 60 outputs from the cache: its options or its function changed since 20" in done.err
    _, calls = run(work, "--set", "vars.model=large")
    assert calls == {}


def test_without_the_option_every_call_is_made(work: Project) -> None:
    """Who wants new outputs says so, for one run, and leaves the cache as it is."""
    run(work)
    done, calls = run(work, "--set", "workflow.nodes.label.cache=false")
    assert calls == {"label": ITEMS}
    assert "label: " not in done.err.partition("max ms")[2]
    assert run(work)[1] == {}


def test_an_item_that_failed_is_called_again(work: Project) -> None:
    """Failures are not remembered: neither by the next execution nor by a retry of this one."""
    work.write("broken", "")
    _, calls = run(work, code=3)
    assert calls == {"clean": ITEMS, "label": ITEMS}
    _, calls = run(work, code=3)
    assert calls == {"label": 1}
    assert (work.folder / "log").read_text() == "label text 7 small\n"
    (work.folder / "broken").unlink()
    retried = work.batchrun("retry", "latest")
    assert retried.code == 0, retried.err
    assert hits(work) == {"clean": ITEMS, "label": ITEMS - 1}
    assert run(work)[1] == {}


def test_equal_items_are_called_once(work: Project) -> None:
    """With both, a dataset of repetitions costs as many calls as it has different items."""
    work.table("data.parquet", {"id": range(600), "text": [f"text {row % 5}" for row in range(600)]})
    _, calls = run(work)
    assert calls["label"] == 5
    assert results(work) == [{"text": f"text {row % 5}", "model": "small", "length": 6} for row in range(600)]


def test_a_kill_keeps_what_was_written(work: Project, calls: Calls) -> None:
    """What was given a moment before `kill -9` is there for the next execution, whether or not the killed one is resumed."""
    work.write("steps.py", STEPS.replace("    if text ==", HOLD + "    if text ==", 1))
    process = work.start("run", "job.yaml")
    try:
        calls.wait_for(4)  # four items hang, and the outputs of 40 are known
        end = time.monotonic() + PATIENCE_SECONDS
        while kept(work) < 40 + 44:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.send_signal(signal.SIGKILL)
    ended(process)
    (work.folder / "release").touch()
    done, made = run(work)
    assert made["label"] == ITEMS - 40 and made["clean"] <= ITEMS - 44
    assert len(results(work)) == ITEMS
    assert "label: 40 of 60 outputs from the cache" in done.err
    resumed = work.batchrun("resume", str(work.executions[0]))
    assert resumed.code == 0, resumed.err
    assert run(work)[1] == {}


def kept(project: Project) -> int:
    """How many outputs the cache has."""
    path = project.folder / ".batchrun" / "cache.db"
    if not path.exists():
        return 0
    file = sqlite3.connect(path)
    try:
        count: int = file.execute("SELECT count(*) FROM entries").fetchone()[0]
    finally:
        file.close()
    return count


def test_a_cache_that_cannot_be_used_costs_no_item(work: Project) -> None:
    """A damaged file is told once, with what to do, and the job runs as without it."""
    (work.folder / ".batchrun").mkdir()
    work.write(".batchrun/cache.db", "no cache\n" * 1_000)
    done, calls = run(work)
    assert calls == {"clean": ITEMS, "label": ITEMS}
    assert done.err.count("cache.db is damaged or no cache of this batchrun") == 1 and "delete it" in done.err
    assert len(results(work)) == ITEMS


def test_requests_are_not_sent_again(project: Project) -> None:
    """A service is asked for each answer once; a header or an address of the resource that changes asks it anew."""
    project.table("data.parquet", {"id": range(5), "text": [f"text {row}" for row in range(5)]})
    job = """\
name: labels
dataset: {{path: data.parquet, id: id}}
resources:
  api: {{base_url: "{url}", headers: {{x-version: "1"}}}}
workflow:
  nodes:
    - id: label
      type: http
      resource: api
      request: {{method: POST, path: /label, json: {{text: "{{{{ item.text }}}}"}}}}
      idempotent: true
      cache: true
"""
    with LoopbackServer(lambda received: json_answer({"body": received.body.decode()})) as server:
        project.write("job.yaml", job.format(url=server.url))
        for sent in (5, 5):
            assert project.batchrun("run", "job.yaml").code == 0
            assert len(server.requests) == sent
        assert hits(project) == {"label": 5}
        node = pq.read_table(project.executions[-1] / "results.parquet")["node_executions"].to_pylist()[0][0]
        assert (node["attempts"], node["call_key"], node["output"]) == (0, None, '{"body":"{\\"text\\":\\"text 0\\"}"}')
        assert project.batchrun("run", "job.yaml", "--set", "resources.api.headers={x-version: '2'}").code == 0
        assert project.batchrun("run", "job.yaml", "--set", f"resources.api.base_url={server.url}/v2").code == 0
        assert len(server.requests) == 15
        refused = project.batchrun("run", "job.yaml", "--set", "workflow.nodes.label.idempotent=null")
        assert refused.code == 2 and "nodes[0].cache: a POST request may do something each time it is sent" in refused.err, refused.err


def test_the_page_about_it_is_true(project: Project) -> None:
    """Who copies the examples of docs/caching.md finds what it says."""
    page = (Path(__file__).parents[2] / "docs" / "caching.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    texts = {language: [text for kind, text in blocks if kind == language] for language, _ in blocks}
    project.write("labels.py", texts["python"][0])
    project.write("job.yaml", texts["yaml"][0])
    project.table("tickets.parquet", {"id": range(40), "body": [f"text {row % 10}" for row in range(40)]})
    first, second = (project.batchrun("run", "job.yaml") for _ in range(2))
    assert (first.code, second.code) == (0, 0), first.err
    assert kept(project) == 10
    assert texts["text"][0] in second.err and texts["text"][0] not in first.err
