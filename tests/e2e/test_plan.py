"""Planning a job: what it would read and do, and a sample of real items."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import batchrun
from batchrun.testing.faulty_service import Chat, Faults, FaultyService
from tests.e2e.conftest import PATIENCE_SECONDS, Project, default_home

JOB = """\
name: many
dataset: {path: data.parquet, id: id, filter: "size >= 100"}
workflow:
  nodes:
    - {id: tidy, type: python, call: "steps:tidy", inputs: {text: "{{ item.text }}"}}
run: {retry: {max_attempts: 1}, parallelism: 4}
output: {path: runs}
"""
STEPS = """\
def tidy(text: str) -> str:
    with open("called", "a") as log:
        log.write(text + "\\n")
    if text.endswith("7"):
        raise ValueError("nothing can be made of this")
    return text.upper()
"""
CHAT = """\
name: triage
dataset: {path: data.parquet, id: id, filter: "size >= 160"}
prices: {small: {input_per_million: 2.0, output_per_million: 8.0}}
resources: {llm: {base_url: "%s/v1", OPTIONS}}
workflow:
  nodes:
    - {id: ask, type: chat, resource: llm, model: small, max_output_tokens: 100, messages: [{role: user, content: "{{ item.text }}"}],
       retry: {max_attempts: 3, backoff: {initial_seconds: 0.01, max_seconds: 0.02}}}
run: {parallelism: 8, RUN}
output: {path: runs}
"""


@pytest.fixture
def job(project: Project) -> Project:
    project.table("data.parquet", {"id": range(200), "text": [f"t{n}" for n in range(200)], "size": range(200)}, row_group_size=50)
    project.write("job.yaml", JOB)
    project.write("steps.py", STEPS)
    return project


def called(project: Project) -> list[str]:
    path = project.folder / "called"
    return path.read_text().split() if path.exists() else []


def chat(project: Project, url: str, *, options: str = "max_concurrency: 8", run: str = "") -> None:
    project.write("job.yaml", (CHAT % url).replace("OPTIONS", options).replace(", RUN", f", {run}" if run else ""))


def plan_of(project: Project, *arguments: str, code: int = 0) -> dict[str, Any]:
    ended = project.batchrun("plan", "job.yaml", "--json", "-q", *arguments)
    assert ended.code == code, ended.err
    plan: dict[str, Any] = json.loads(ended.out)
    return plan


def in_a_terminal(project: Project, answer: str, *arguments: str) -> tuple[int, str]:
    """Run the program at a terminal of its own and answer what it asks."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "batchrun", "plan", "job.yaml", "-q", *arguments]
    process = subprocess.Popen(command, cwd=project.folder, stdin=theirs, stdout=theirs, stderr=theirs, env=default_home())
    os.close(theirs)
    seen = b""
    try:
        while b"[y/N]" not in seen:
            seen += os.read(ours, 65_536)
        os.write(ours, answer.encode())
        while chunk := _read(ours):
            seen += chunk
        return process.wait(PATIENCE_SECONDS), seen.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # nobody has it open any more
        return b""


def test_without_a_sample_items_are_counted_and_nothing_is_written(job: Project) -> None:
    """What a job would read is known before anything is run; the folder is as it was."""
    before = {path.name for path in job.folder.iterdir()}
    ended = job.batchrun("plan", "job.yaml")
    assert ended.code == 0, ended.err
    for line in ("items     100", 'col("size") >= 100: pushed down into the scan', "2 of 4 row groups are read, by their statistics"):
        assert line in ended.out
    assert "sample" not in ended.out
    plan = plan_of(job, "--limit", "7")
    assert (plan["total_items"], plan["sample"], plan["rest"]) == (7, None, None)
    assert {path.name for path in job.folder.iterdir()} - {"__pycache__", ".batchrun"} == before
    assert called(job) == []


def test_a_sample_is_kept_and_the_rest_goes_on_from_it(job: Project) -> None:
    """Nobody pays twice: after the resume each item was called once, and the result is that of an ordinary run."""
    plan = plan_of(job, "--sample", "20", "--seed", "3")
    sample, rest = plan["sample"], plan["rest"]
    assert len(called(job)) == sample["calls"] == 20
    assert sample["completed_items"] + sample["failed_items"] == 20
    assert sample["status"] == job.record["status"] == "paused"
    assert "only a sample was run" in job.record["error"]
    assert (rest["items"], rest["calls"]["expected"]) == (80, 80.0)
    assert 0 <= rest["seconds"]["low"] <= rest["seconds"]["expected"] <= rest["seconds"]["high"] < 60
    resumed = job.batchrun("resume", "latest")
    assert resumed.code == 3, resumed.err
    assert Counter(called(job)) == Counter(f"t{n}" for n in range(100, 200))
    assert job.counters["total_items"] == 100 and job.counters["failed_items"] == 10


def test_the_seed_chooses_the_items(job: Project) -> None:
    """The same seed asks the same items again, another one asks others."""
    chosen = []
    for seed in ("3", "3", "4"):
        plan_of(job, "--sample", "5", "--seed", seed)
        chosen.append(set(called(job)))
        (job.folder / "called").unlink()
    assert chosen[0] == chosen[1] != chosen[2]
    assert all(int(text[1:]) >= 100 for text in chosen[0])


def test_failures_of_the_sample_are_shown_with_their_types(job: Project) -> None:
    """Whoever decides about the rest sees what goes wrong, and that the policy will not stand it."""
    policy = "run.failure_policy={max_failures: 5, max_failure_ratio: 0.01}"
    shown = job.batchrun("plan", "job.yaml", "--sample", "60", "--set", policy)
    assert "ValueError at tidy, such as 1" in shown.out and "nothing can be made of this" in shown.out
    assert "run.failure_policy.max_failure_ratio, 0.01" in shown.out
    assert "is paused; to run the rest: batchrun resume runs/" in shown.err


def test_yes_goes_on_at_once(job: Project) -> None:
    """A program says so beforehand; the exit code is that of the execution, and the plan stays readable for it."""
    ended = job.batchrun("plan", "job.yaml", "--sample", "10", "--yes", "--json")
    assert ended.code == 3, ended.err
    assert json.loads(ended.out)["sample"]["wanted_items"] == 10
    assert len(called(job)) == 100 == len(set(called(job)))
    assert job.record["status"] == "completed"


@pytest.mark.parametrize(
    ("answer", "code", "status", "calls"), [("y\n", 3, "completed", 100), ("\n", 0, "paused", 10), ("\x04", 130, "paused", 10)]
)
def test_in_a_terminal_it_is_asked(job: Project, answer: str, code: int, status: str, calls: int) -> None:
    """No is the answer of whoever just presses enter, or leaves; the sample is kept either way."""
    ended, seen = in_a_terminal(job, answer, "--sample", "10")
    assert "run the other 90 items?" in seen
    assert ("to run the rest: batchrun resume runs/" in seen) == (status == "paused")
    assert (ended, job.record["status"], len(called(job))) == (code, status, calls), seen


def test_a_sample_of_everything_is_an_execution(job: Project) -> None:
    """There is no rest to ask about."""
    ended = job.batchrun("plan", "job.yaml", "--sample", "1000")
    assert ended.code == 3, ended.err
    assert "the rest" not in ended.out and job.record["status"] == "completed"
    assert job.counters["total_items"] == 100


def test_an_interrupted_sample_says_why_and_does_not_ask(job: Project) -> None:
    """A budget that ends within the sample ends the plan, too."""
    ended = job.batchrun("plan", "job.yaml", "--sample", "50", "--yes", "--set", "run.budget.max_calls=10")
    assert ended.code == 4, ended.err
    assert "sample    10 of 50 items" in ended.out and "run.budget.max_calls" in ended.out
    assert len(called(job)) == 10
    assert job.batchrun("resume", "latest", "--set", "run.budget.max_calls=null").code == 3
    assert len(called(job)) == 100 == len(set(called(job)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--yes"], "--yes is about what comes after a sample"),
        (["--sample", "0"], "is not in the range"),
        (["--sample", "3", "--set", "run.durable=false"], "run.durable: must be true for a sample"),
        (["--sample", "3", "--filter", "siez > 3"], 'did you mean "size"?'),
    ],
)
def test_what_cannot_be_planned_is_refused_before_anything_runs(job: Project, arguments: list[str], message: str) -> None:
    """A mistake costs no call and leaves no execution."""
    ended = job.batchrun("plan", "job.yaml", *arguments)
    assert ended.code == 2 and message in ended.err, ended.err
    assert called(job) == [] and job.executions == []


def test_tokens_and_cost_are_extrapolated_and_the_budget_is_compared(job: Project) -> None:
    """Who pays for models knows beforehand what it comes to."""
    with FaultyService(chat=Chat()) as service:
        chat(job, service.url, run="budget: {max_cost: 0.0006, max_tokens: 100000}")
        plan = plan_of(job, "--sample", "10")
        assert service.seen("/v1/*").count == 10
        used, rest = plan["sample"]["usage"], plan["rest"]
        assert used["input_tokens"] > 0 and rest["items"] == 30
        for name in ("input_tokens", "output_tokens", "cost"):
            assert rest[name]["expected"] == pytest.approx(3 * used[name])
            assert rest[name]["low"] <= rest[name]["expected"] <= rest[name]["high"]
        assert rest["cost"]["expected"] == pytest.approx(rest["input_tokens"]["expected"] * 2e-6 + rest["output_tokens"]["expected"] * 8e-6)
        (warning,) = plan["warnings"]
        assert warning.startswith("run.budget.max_cost, 0.0006, does not suffice: it takes about")
        resumed = job.batchrun("resume", "latest", "--set", "run.budget.max_cost=null")
        assert resumed.code == 0, resumed.err
        assert service.seen("/v1/*").count == 40 and max(service.seen("/v1/*").by_item.values()) == 1


def test_a_limit_by_the_minute_bounds_the_time(job: Project) -> None:
    """However fast the service answers: 30 requests at 6,000 a minute take a third of a second, and 97 % of that rate is used."""
    with FaultyService(chat=Chat()) as service:
        chat(job, service.url, options="requests_per_minute: 600")
        rest = plan_of(job, "--sample", "10")["rest"]
    assert rest["bounded_by"] == "resources.llm.requests_per_minute: 600"
    assert rest["seconds"]["expected"] == pytest.approx(30 / 10 / 0.97)


BATCHED = """\
dataset: {path: data.parquet, id: id}
workflow: {nodes: [{id: many, type: python, call: "steps:many", inputs: {texts: "{{ item.text }}"}, batch: {max_items: 10}}]}
run: {parallelism: 16}
"""


def test_a_batch_is_one_call(job: Project) -> None:
    """As in the budget: twenty items in two calls, so the rest is eighteen, and what is open at once bounds the time."""
    job.write("job.yaml", BATCHED)
    job.write("steps.py", "import time\n\ndef many(texts: list[str]) -> list[str]:\n    time.sleep(0.05)\n    return texts\n")
    plan = plan_of(job, "--sample", "20")
    assert plan["sample"]["calls"] == 2
    assert plan["rest"]["calls"]["expected"] == pytest.approx(18)
    assert plan["rest"]["bounded_by"] == "run.max_open_items: 64"


def test_without_node_executions_only_the_time_is_known(job: Project) -> None:
    """What a job does not record is not made up."""
    rest = plan_of(job, "--sample", "10", "--set", "output.node_executions=none")["rest"]
    assert (rest["calls"], rest["cost"], rest["items"]) == (None, None, 90)
    assert rest["seconds"]["expected"] > 0


def test_repeated_calls_are_part_of_the_estimate(job: Project) -> None:
    """A service that breaks now and then is called more often than there are items."""
    with FaultyService(Faults(statuses={500: 0.5}, seed=5), chat=Chat()) as service:
        chat(job, service.url, options="breaker: null")  # which would have calls use up no attempt
        plan = plan_of(job, "--sample", "20")
        assert plan["sample"]["calls"] == service.seen("/v1/*").count > 20
        assert plan["rest"]["calls"]["expected"] == plan["sample"]["calls"]


def test_a_program_plans_and_goes_on(job: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same from Python: the plan reads like the page, and the folder of the sample is what a resume takes."""
    monkeypatch.chdir(job.folder)
    assert batchrun.plan("job.yaml").total_items == 100
    plan = batchrun.plan("job.yaml", {"run.parallelism": 2}, sample=10, seed=1, quiet=True)
    assert plan.sample is not None and plan.rest is not None
    assert repr(plan) == str(plan) and "the rest  90 items" in str(plan)
    assert "bounded by functions in threads" in str(plan) or "bounded by run.parallelism: 2" in str(plan)
    execution = batchrun.resume(plan.sample.folder, quiet=True)
    assert execution is not None and execution.status == "completed" and len(called(job)) == 100


def test_a_data_frame_leaves_a_copy_only_with_a_sample(job: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is no execution; a sample is the beginning of one, and goes on without the frame."""
    monkeypatch.chdir(job.folder)
    steps = batchrun.Job(dataset=pl.DataFrame({"text": ["a", "b", "c"]}), workflow="steps:upper")
    job.write("steps.py", "def upper(item: dict) -> str:\n    return item['text'].upper()\n")
    assert batchrun.plan(steps).total_items == 3
    assert job.executions == []
    plan = batchrun.plan(steps, sample=1, quiet=True)
    assert plan.sample is not None
    execution = batchrun.resume(plan.sample.folder, quiet=True)
    assert execution is not None and execution.results["output"].to_pylist() == ["A", "B", "C"]


def test_functions_that_cannot_be_found_again_are_not_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was paid for must be of use to whoever goes on."""
    monkeypatch.chdir(tmp_path)
    local = batchrun.Job(dataset=pl.DataFrame({"a": [1]}), workflow=lambda item: item)
    with pytest.raises(batchrun.JobError, match="or plan without a sample"):
        batchrun.plan(local, sample=1)
    assert batchrun.plan(local).total_items == 1
    assert not (tmp_path / "runs").exists() or not [*(tmp_path / "runs").iterdir()]
