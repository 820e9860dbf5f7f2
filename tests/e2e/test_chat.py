"""Jobs that ask models, as a user runs them."""

from __future__ import annotations

import json
import os
from typing import Any

import pyarrow.parquet as pq
import pytest

import batchrun
from batchrun.nodes.chat import ChatNode
from batchrun.nodes.chat_messages import ChatMessage
from batchrun.testing.faulty_service import Chat, Faults, FaultyService
from tests.e2e.conftest import Project

JOB = """
name: triage
dataset: {path: letters.csv, id: id}
prices: {small: {input_per_million: 2.0, output_per_million: 8.0}}
resources: {llm: {base_url: "%s/v1", OPTIONS}}
workflow:
  nodes:
    - id: ask
      type: chat
      resource: llm
      model: small
      messages:
        - {role: system, content: "Which department is this for?"}
        - {role: user, content: "{{ item.text }}"}
      response_schema: {department: string}
      max_output_tokens: 100
      record_prompt: true
      retry: {max_attempts: 2, backoff: {initial_seconds: 0.01, max_seconds: 0.02}}
run: {parallelism: 8, RUN}
"""


def work(project: Project, url: str, *, count: int = 4, options: str = "", run: str = "") -> None:
    rows = "".join(f"{number},letter number {number}\n" for number in range(count))
    project.write("letters.csv", f"id,text\n{rows}")
    project.write("job.yaml", (JOB % url).replace("OPTIONS", options).replace(", RUN", f", {run}" if run else ""))


def nodes_of(project: Project) -> list[dict[str, Any]]:
    (file,) = project.folder.glob("runs/*/results.parquet")
    return [node for row in pq.read_table(file).to_pylist() for node in row["node_executions"]]


def test_tokens_and_cost_are_in_the_row_of_the_node_and_in_the_sums(project: Project) -> None:
    """Per item, per node and in all, whatever is looked at: who pays must be able to add it up."""
    with FaultyService(chat=Chat(broken_answers=1)) as service:
        work(project, service.url, options="tokens_per_minute: 1000000")
        done = project.batchrun("run", "job.yaml")
        assert done.code == 0, done.err
        sent = [json.loads(call.body) for call in service.seen().calls]
    assert len(sent) == 8  # each was repaired once
    nodes = nodes_of(project)
    total = {name: sum(node["usage"][name] for node in nodes) for name in ("input_tokens", "output_tokens", "cost")}
    assert total["cost"] == pytest.approx((total["input_tokens"] * 2 + total["output_tokens"] * 8) / 1e6)
    assert f"used: {total['input_tokens']:,} input and {total['output_tokens']:,} output tokens, cost" in done.out + done.err
    shown = project.batchrun("show", "latest", "--nodes", "--json")
    (node,) = json.loads(shown.out)["nodes"]
    assert (node["input_tokens"], node["output_tokens"]) == (total["input_tokens"], total["output_tokens"])
    assert "used" in project.batchrun("show", "latest").out
    assert nodes[0]["prompt"].startswith("[system]\nWhich department is this for?\n\n[user]\nletter number 0\n\n[assistant]")
    assert "letter number 2" in project.batchrun("show", "latest", "--item", "2").out
    tried = project.batchrun("try", "job.yaml", "--json")
    assert tried.code == 3  # the service is gone; what was asked is shown all the same
    assert "letter number 0" in json.loads(tried.out)["node_executions"][0]["prompt"]


def test_the_form_of_the_answer_is_the_type_of_the_column(project: Project) -> None:
    """Nobody should have to write the same schema twice."""
    with FaultyService() as service:
        work(project, service.url)
        assert project.batchrun("run", "job.yaml").code == 0
    (file,) = project.folder.glob("runs/*/results.parquet")
    assert str(pq.read_schema(file).field("output").type) == "struct<department: string>"


def test_dates_decimals_and_fields_that_may_be_missing_become_columns(project: Project) -> None:
    """As with output_schema: what JSON has no words for comes as text, and is a value of its type in the table."""
    with FaultyService() as service:
        work(project, service.url)
        form = "{due: date, at: time, since: timestamp, takes: duration, price: 'decimal(6, 2)', 'note?': string}"
        project.write("job.yaml", (project.folder / "job.yaml").read_text().replace("{department: string}", form))
        done = project.batchrun("run", "job.yaml")
        assert done.code == 0, done.err
    (file,) = project.folder.glob("runs/*/results.parquet")
    of = {field.name: str(field.type) for field in pq.read_schema(file).field("output").type}
    assert of == {
        "due": "date32[day]",
        "at": "time64[us]",
        "since": "timestamp[us, tz=UTC]",
        "takes": "duration[us]",
        "price": "decimal128(6, 2)",
        "note": "string",
    }


def test_throttling_burns_no_items_and_an_empty_account_pauses_the_execution(project: Project) -> None:
    """429 comes back until it goes well; `insufficient_quota` is not waited for, and a resume goes on when it is paid."""
    with FaultyService(Faults(statuses={429: 0.6}, seed=3, quota_after=40)) as service:
        work(project, service.url, count=60)
        stopped = project.batchrun("run", "job.yaml")
        assert stopped.code == 4, stopped.err
        assert "QuotaExhausted" in stopped.out + stopped.err
        service.set_faults(Faults(statuses={429: 0.6}, seed=3))
        resumed = project.batchrun("resume", "latest")
        assert resumed.code == 0, resumed.err
    assert len(nodes_of(project)) == 60
    assert {node["status"] for node in nodes_of(project)} == {"completed"}


def test_a_rule_may_say_something_else_about_an_empty_account(project: Project) -> None:
    """What the job says goes before what is done anyway."""
    with FaultyService(Faults(quota=1.0)) as service:
        rule = "retry: {rules: [{match: {error_type: QuotaExhausted}, action: fail}]}"
        work(project, service.url, run=rule)
        assert project.batchrun("run", "job.yaml").code == 3
        assert service.seen().count == 4


def test_a_budget_of_cost_pauses_the_execution(project: Project) -> None:
    """Known while it runs, not at the end of the month."""
    with FaultyService() as service:
        work(project, service.url, count=200, run="budget: {max_cost: 0.002}")
        stopped = project.batchrun("run", "job.yaml")
        assert stopped.code == 4, stopped.err
        assert "the budget of cost 0.002 is used up" in stopped.out + stopped.err
        assert service.seen().count < 100


def test_a_limit_of_tokens_is_kept_and_shown(project: Project) -> None:
    """By a service that counts them itself, and refuses what is too much."""
    with FaultyService(Faults(tokens_per_minute=100_000)) as service:
        work(project, service.url, count=50, options="tokens_per_minute: 100000")
        done = project.batchrun("run", "job.yaml")
        assert done.code == 0, done.err
        assert service.seen().by_status == {200: 50}
    record = json.loads(next(project.folder.glob("runs/*/execution.json")).read_text())
    assert record["job"]["resources"]["llm"]["tokens_per_minute"] == 100_000


def test_all_mistakes_are_told_at_once(project: Project) -> None:
    """With their places, before anything is paid for."""
    work(project, "http://127.0.0.1:9", run="budget: {max_cost: 1}")
    job = (project.folder / "job.yaml").read_text()
    for old, new in (
        ("role: system", "role: tool"),
        ("department: string", "department: strin"),
        ("model: small", "model: smal"),
        ("max_output_tokens: 100", "max_output_tokens: 0"),
    ):
        job = job.replace(old, new)
    project.write("job.yaml", job)
    first = project.batchrun("validate", "job.yaml")
    assert first.code == 2
    assert "workflow.nodes[0].messages[0].role" in first.err
    assert "workflow.nodes[0].max_output_tokens: must be ≥ 1, got 0" in first.err
    project.write("job.yaml", job.replace("role: tool", "role: system").replace("max_output_tokens: 0", "max_output_tokens: 9"))
    second = project.batchrun("validate", "job.yaml")
    assert "workflow.nodes[0].model: 'smal' has no price" in second.err
    assert "workflow.nodes[0].response_schema.department: unknown type 'strin'" in second.err


def test_a_job_in_python_asks_a_model(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same options, as objects."""
    monkeypatch.chdir(project.folder)
    project.write("letters.csv", "id,text\n1,hello\n")
    with FaultyService() as service:
        node = ChatNode(id="ask", resource="llm", model="small", messages=(ChatMessage(role="user", content="{{ input }}"),))
        job = batchrun.Job(
            dataset=batchrun.Dataset(path="letters.csv", id="id", input_field="text"),
            workflow=batchrun.Workflow(nodes=(node,)),
            resources={"llm": batchrun.Resource(base_url=f"{service.url}/v1", headers={"x-a": "b"})},
        )
        execution = batchrun.execute(job)
    assert execution.results.column("output").to_pylist() == ["echo: hello"]
    assert execution.totals is not None
    assert execution.totals.usage.input_tokens == 2


def test_equal_questions_are_paid_for_once(project: Project) -> None:
    """With `cache: true`, an answer of before costs nothing."""
    with FaultyService() as service:
        work(project, service.url)
        job = (project.folder / "job.yaml").read_text().replace("max_output_tokens", "cache: true\n      max_output_tokens")
        project.write("job.yaml", job)
        assert project.batchrun("run", "job.yaml").code == 0
        assert project.batchrun("run", "job.yaml").code == 0
        assert service.seen().count == 4


def test_what_was_sent_survives_a_pause_and_shows_no_secret(project: Project) -> None:
    """Prompt and usage of a node that had ended are those of the row in the end."""
    with FaultyService(chat=Chat(answer='{"department": "sales"}')) as service:
        work(project, service.url, count=3, run="budget: {max_calls: 3}")
        job = (project.folder / "job.yaml").read_text().replace("parallelism: 8", "parallelism: 1")
        job = job.replace("{{ item.text }}", "{{ item.text }} {{ secrets.CODE }}").replace("workflow:", "secrets: [CODE]\nworkflow:")
        note = "    - {id: note, type: template, template: '{{ nodes.ask.output.department }}!'}\n  output: done\n"
        job = job.replace("run: {", f"{note}run: {{")
        project.write("job.yaml", job)
        environment = {**os.environ, "CODE": "s3cret-of-the-house"}
        assert project.batchrun("run", "job.yaml", env=environment).code == 4
        resumed = project.batchrun("resume", "latest", "--set", "run.budget.max_calls=null", env=environment)
        assert resumed.code == 0, resumed.err
        assert "s3cret-of-the-house" in service.seen().calls[0].body.decode()
        assert service.seen().count == 3
    asked = [node for node in nodes_of(project) if node["node_id"] == "ask"]
    assert [node["prompt"].splitlines()[-1] for node in asked] == [f"letter number {number} ***" for number in range(3)]
    assert all(node["usage"]["input_tokens"] > 0 for node in asked)
