"""Secrets are told to services, and to nobody else: a canary is looked for in every file and stream of a run."""

from __future__ import annotations

import base64
import json
import os
import signal
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from batchrun.core.secrets import MASKED
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.e2e.conftest import Calls, Project, ended

CANARY = "cnry/9f+3a&71=kz"
FORMS = {
    CANARY,
    quote(CANARY, safe=""),
    quote(CANARY),
    json.dumps(CANARY)[1:-1],
    *(base64.b64encode(b"x" * shift + CANARY.encode()).decode()[shift and 4 : -4] for shift in range(3)),
    CANARY[:10],
}
JOB = """\
name: canary
dataset: {{path: data.csv, id: id}}
secrets: [API_KEY]
resources:
  api: {{base_url: "{url}", headers: {{X-Key: "{{{{ secrets.API_KEY }}}}"}}}}
workflow:
  nodes:
    - id: ask
      type: http
      resource: api
      inputs: {{key: "{{{{ secrets.API_KEY }}}}"}}
      request:
        {{method: PUT, path: "/{{{{ item.id }}}}", query: {{key: "{{{{ secrets.API_KEY }}}}"}}, json: {{key: "{{{{ inputs.key }}}}"}}}}
      cache: true
      idempotent: true
    - id: tell
      type: python
      call: "steps:tell"
      in: process
      inputs: {{key: "{{{{ secrets.API_KEY }}}}", answer: "{{{{ nodes.ask.output }}}}"}}
run: {{parallelism: 4, retry: {{max_attempts: 2, backoff: {{initial_seconds: 0.001}}}}}}
output: {{path: runs, export: [csv, ndjson], events: true}}
"""
STEPS = """\
def tell(key: str, answer: dict) -> dict:
    if answer["id"] == "b":
        raise ValueError(f"cannot use {key} for {answer}")
    return {"key": key, "answer": answer, key: "as a key"}
"""
KILLED_JOB = """\
dataset: {path: data.csv, id: id}
secrets: [API_KEY]
workflow:
  nodes:
    - {id: keyed, type: python, call: "steps:keyed", inputs: {id: "{{ item.id }}", key: "{{ secrets.API_KEY }}"}}
    - {id: held, type: python, call: "steps:held", inputs: {text: "{{ nodes.keyed.output }}"}}
output: {path: runs}
"""
KILLED_STEPS = """\
import asyncio
from pathlib import Path


async def keyed(id: str, key: str) -> str:
    with open("keyed", "a") as file:
        file.write(id + "\\n")
    return f"{id} {key}"


async def held(text: str) -> str:
    await asyncio.sleep(0.3)  # what has ended before gets to the disk
    with open("calls", "w") as pipe:
        pipe.write("\\n")
    while not Path("free").exists():
        await asyncio.sleep(0.01)
    return text
"""


def answer(request: Received) -> Answer:
    """What a service says that repeats what it was sent."""
    name = request.path.partition("?")[0].strip("/")
    told = {"id": name, "key": request.headers["x-key"], "basic": base64.b64encode(f"user:{CANARY}".encode()).decode(), "url": request.path}
    if name == "c":
        return json_answer({"error": told, "more": "-" * 100}, status=500)
    return json_answer(told)


def project_with(project: Project, url: str) -> Project:
    project.write("job.yaml", JOB.format(url=url))
    project.write("steps.py", STEPS)
    return project


def with_key(project: Project, **more: str) -> dict[str, str]:
    home = project.folder / "home"
    return {**os.environ, "API_KEY": CANARY, "BATCHRUN_HOME": str(home), "HOME": str(home), "XDG_CACHE_HOME": str(home), **more}


def leaks(folder: Path) -> list[str]:
    """Files that hold the canary in one of its forms; results are read, since they are compressed."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in ("job.yaml", "key.txt")):
        content = file.read_bytes()
        if file.suffix == ".parquet":
            table = pq.read_table(file)
            content += repr(table.to_pylist()).encode() + repr(table.schema.metadata).encode()
        found += [f"{file.name}: {form}" for form in FORMS if form.encode() in content]
    return found


def test_no_file_and_no_stream_of_a_run_holds_a_secret(project: Project) -> None:
    """Services echo keys, functions put them into errors and outputs, and all of it is recorded."""
    with LoopbackServer(answer) as server:
        project_with(project, server.url)
        env = with_key(project)
        run = project.batchrun("run", "job.yaml", env=env)
        shown = [
            project.batchrun(*arguments, env=env)
            for arguments in (
                ["show", "latest"],
                ["show", "latest", "--id", "b"],
                ["results", "latest"],
                ["list", "--json"],
                ["plan", "job.yaml"],
            )
        ]
        tried = [project.batchrun("try", "job.yaml", "--id", id, env=env) for id in "abc"]
        assert all(request.headers["x-key"] == CANARY for request in server.requests)
        assert all(json.loads(request.body) == {"key": CANARY} for request in server.requests)
    assert run.code == 3, run.err
    for each in (run, *shown, *tried):
        assert [form for form in FORMS if form in each.out + each.err] == []
    assert leaks(project.folder) == []
    (execution,) = project.executions
    rows = {row["source_item_id"]: row for row in pq.read_table(execution / "results.parquet").to_pylist()}
    assert [rows[id]["status"] for id in "abc"] == ["completed", "failed", "failed"]
    assert json.loads(rows["a"]["output"])["key"] == MASKED
    assert f"cannot use {MASKED} for" in rows["b"]["error"]["message"]
    assert MASKED in rows["c"]["error"]["message"]
    assert MASKED in rows["a"]["node_executions"][0]["input"]
    assert "outputs with a secret in them are not kept" in run.err


def test_a_killed_run_leaves_no_secret_and_goes_on_without_outputs_that_hold_one(project: Project, calls: Calls) -> None:
    """The journal outlives the process: an output with a secret in it is not in there, so its node runs again."""
    project.write("job.yaml", KILLED_JOB)
    project.write("steps.py", KILLED_STEPS)
    running = project.start("run", "job.yaml", env=with_key(project))
    calls.wait_for(3)
    running.send_signal(signal.SIGKILL)
    ended(running)
    assert leaks(project.folder) == []
    project.write("free", "")
    resumed = project.batchrun("resume", "latest", env=with_key(project))
    assert resumed.code == 0, resumed.err
    assert leaks(project.folder) == []
    runs = (project.folder / "keyed").read_text().split()
    assert sorted(runs) == ["a", "a", "b", "b", "c", "c"]
    assert project.result.column("output").to_pylist() == [f"{id} {MASKED}" for id in "abc"]


def test_a_secret_may_come_from_a_file_and_is_never_in_the_job(project: Project) -> None:
    """Containers are given files; who writes a key into the job by mistake is told before it is stored."""
    project.write("key.txt", CANARY + "\n")
    with LoopbackServer(answer) as server:
        project_with(project, server.url)
        env = {name: value for name, value in with_key(project).items() if name != "API_KEY"}
        missing = project.batchrun("run", "job.yaml", env=env)
        from_file = project.batchrun("run", "job.yaml", env={**env, "API_KEY_FILE": "key.txt"})
        asked = len(server.requests)
        both = project.batchrun("run", "job.yaml", env={**env, "API_KEY": CANARY, "API_KEY_FILE": "key.txt"})
        project.write("job.yaml", JOB.format(url=server.url) + f"vars: {{k: '{CANARY}'}}\n")
        written = project.batchrun("run", "job.yaml", env={**env, "API_KEY": CANARY})
        assert len(server.requests) == asked
    assert missing.code == both.code == written.code == 2
    assert "job.yaml:3:11 secrets[0]: there is no secret API_KEY: set the environment variable API_KEY" in missing.err
    assert "or API_KEY_FILE to the path of a file that holds it" in missing.err
    assert "set only one of them" in both.err
    assert "vars.k: has the value of the secret API_KEY in it" in written.err
    assert CANARY not in written.err
    assert from_file.code == 3, from_file.err


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("workflow: {nodes: [{id: a, type: template, template: x}], output: '{{ secrets.API_KEY }}'}", "secrets are not known here"),
        ("workflow: {nodes: [{id: a, type: template, template: '{{ secrets.APIKEY }}'}]}", 'did you mean "API_KEY"?'),
        ("workflow: {nodes: [{id: a, type: template, template: '{{ secrets }}'}]}", "refer to a secret as secrets.NAME"),
        ("workflow: {nodes: [{id: a, type: approval, output: '{{ secrets.API_KEY }}'}]}", "secrets are not known here"),
    ],
    ids=["output", "misspelt", "all of them", "a person"],
)
def test_secrets_are_refused_where_they_would_be_seen(project: Project, line: str, problem: str) -> None:
    """The output is the result, and what a person approves is shown: neither is a place for a key."""
    project.write("job.yaml", f"dataset: data.csv\nsecrets: [API_KEY]\n{line}\n")
    refused = project.batchrun("validate", "job.yaml", env=with_key(project))
    assert refused.code == 2
    assert problem in refused.err


def test_a_filter_knows_no_secrets(project: Project) -> None:
    """Filters are SQL: what looks like a template in one is refused before the first item."""
    job = "dataset: {path: data.csv, filter: \"text = '{{ secrets.API_KEY }}'\"}\nsecrets: [API_KEY]\n"
    project.write("job.yaml", job + "workflow: steps:tidy\n")
    refused = project.batchrun("validate", "job.yaml", env=with_key(project))
    assert refused.code == 2
    assert "secrets" in refused.err


@pytest.mark.parametrize(("value", "problem"), [(b"\xff\xfe-binary", "is not UTF-8 text"), (b"short", "has fewer than 6 characters")])
def test_what_cannot_be_masked_is_no_secret(project: Project, value: bytes, problem: str) -> None:
    """A secret that could not be found again in what is written down must not be used at all."""
    project.write("job.yaml", "dataset: data.csv\nsecrets: [API_KEY]\nworkflow: steps:tidy\n")
    refused = project.batchrun("validate", "job.yaml", env={**os.environb, b"API_KEY": value})
    assert refused.code == 2
    assert problem in refused.err
