"""Clients: executions in processes of their own, steered and found from a program."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import batchrun
from batchrun import Client, Execution, ExecutionError, JobError, Retry, Run
from batchrun.store import NoSuchExecution
from tests.e2e.conftest import PATIENCE_SECONDS, Calls, Project
from tests.e2e.submitting import Held, submitting, wait


@pytest.fixture
def held(project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with submitting(project, calls, monkeypatch) as held:
        yield held


def files(execution: Execution) -> dict[str, bytes]:
    """What is kept of an execution; who has the lock and what processes say is not."""
    kept = (path for path in execution.folder.rglob("*") if path.is_file() and path.name not in {"lock", "process.log"})
    return {str(path.relative_to(execution.folder)): path.read_bytes() for path in kept}


def test_submit_runs_a_job_in_a_process_of_its_own(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process has the job, the overrides, the working directory and the environment; the result is one call away."""
    monkeypatch.setenv("COLOUR", "green")
    execution = held.client.submit(Path("job.yaml"), {"workflow.nodes.work.call": "steps:place", "dataset.limit": 2})
    assert execution.folder.parent == held.folder / "runs"
    assert execution.is_in_progress
    assert wait(execution) == "completed"
    assert (execution.job_name, execution.has_succeeded, execution.progress.total_items) == ("held", True, 2)
    pid = execution.record["pid"]
    assert pid != os.getpid()
    assert execution.record["store"] == str(held.folder / ".batchrun")
    expected = [f'["{text}","{held.folder}","green",{pid}]' for text in ("one", "two")]
    assert execution.results["output"].to_pylist() == expected
    assert [state["status"] for state in execution.record["states"]] == ["pending", "running", "finalizing", "completed"]


def test_an_execution_is_steered_from_outside(held: Held) -> None:
    """A program changes limits, pauses, resumes and cancels what another process runs, and sees what became of it."""
    execution = held.submitted(calls=2)
    assert execution.refresh_status() == "running"
    with pytest.raises(JobError, match=r"only run\.parallelism"):
        execution.tune({"dataset.limit": 3})
    execution.tune({"run.parallelism": 3})
    held.calls.wait_for(3)
    assert execution.pause() == "requested"
    assert wait(execution) == "paused"
    assert (execution.is_paused, execution.stop_reason) == (True, "user")
    assert execution.record["job"]["run"]["parallelism"] == 3
    assert execution.pause() == "nothing"
    with pytest.raises(ExecutionError, match="is paused: only a running execution can be tuned"):
        execution.tune(["run.parallelism=1"])

    execution.resume({"run.parallelism": 4})
    assert execution.status == "running"
    held.calls.wait_for(3 + 4)
    assert execution.cancel() == "requested"
    assert wait(execution) == "cancelled"
    before = files(execution)
    assert execution.cancel() == "nothing"
    assert files(execution) == before

    held.let_go()
    execution.resume()
    assert wait(execution) == "completed"
    assert execution.progress.completed_items == 3


def test_waiting_can_be_given_up(held: Held) -> None:
    """A time limit ends the waiting and nothing else, in whatever process waits."""
    execution = held.submitted()
    for waiting in (execution, held.client.executions.get(execution.id)):
        with pytest.raises(TimeoutError, match=f"execution {execution.id} is still running after 0.05 s; it goes on"):
            waiting.wait(interval_seconds=0.01, timeout_seconds=0.05, adaptive=True)
    with pytest.raises(TimeoutError):
        execution.wait(timeout_seconds=0)
    for interval in (0, -1):
        with pytest.raises(ValueError, match="interval_seconds: must be > 0"):
            execution.wait(interval_seconds=interval)
    held.let_go()
    assert execution.wait(interval_seconds=0.01, adaptive=True) == "completed"


def test_an_end_is_never_taken_for_a_lost_process(held: Held) -> None:
    """Who looks at the moment at which a process ends sees it run or completed, not interrupted."""
    for _ in range(3):
        execution = held.client.submit("job.yaml")
        seen = {execution.status}
        while execution.is_in_progress:
            seen.add(execution.refresh_status())
        assert seen <= {"pending", "running", "finalizing", "completed"}
        assert execution.status == "completed"


def test_of_two_resumes_one_is_refused(held: Held) -> None:
    """Two programs that resume the same execution at the same moment never both run it; the second is told who does."""
    execution = held.submitted(calls=2)
    execution.pause()
    assert wait(execution) == "paused"
    both = threading.Barrier(2)

    def resume(_: int) -> str:
        mine = held.client.executions.get(execution.folder)
        both.wait(PATIENCE_SECONDS)
        try:
            mine.resume()
        except ExecutionError as error:
            return str(error)
        return mine.status

    with ThreadPoolExecutor(2) as threads:
        refused, begun = sorted(threads.map(resume, range(2)), key=lambda said: said == "running")
    assert begun == "running"
    assert "another process" in refused or "is being run by process" in refused or "is running now" in refused, refused
    held.calls.wait_for(4)
    with pytest.raises(ExecutionError, match="is being run by process"):
        execution.resume()
    held.let_go()
    assert wait(execution) == "completed"
    assert [state["status"] for state in execution.record["states"]].count("running") == 2


def test_a_resume_that_fails_changes_nothing(held: Held) -> None:
    """A refused resume says why, as the same call in this process does, and the execution stays as it is and resumable."""
    execution = held.submitted(calls=2)
    execution.pause()
    assert wait(execution) == "paused"
    before = files(execution)
    with pytest.raises(JobError, match=r"dataset\.limit changed") as refused:
        execution.resume({"dataset.limit": 3})
    assert len(refused.value.problems) == 3
    with pytest.raises(JobError) as refused:
        execution.resume(["run.parallelism=-1", "run.retyr=3"])
    assert {problem.path for problem in refused.value.problems} == {("run", "parallelism"), ("run", "retyr")}
    for overrides in ({"vars.at": datetime.now(UTC)}, {"vars.function": lambda: 1}):
        with pytest.raises(JobError):
            execution.resume(overrides)
    assert files(execution) == before
    assert execution.refresh_status() == "paused"
    held.let_go()
    execution.resume()
    assert wait(execution) == "completed"

    before = files(execution)
    execution.resume()
    assert execution.status == "completed"
    assert files(execution) == before


def test_retry_runs_failed_items_again(held: Held) -> None:
    """What failed is run again into the same result; where nothing matches, that is said and nothing changes."""
    execution = held.ended()
    before = files(execution)
    with pytest.raises(ExecutionError, match=r"no failed item matches error\.type = 'Timeout'"):
        execution.retry(where="error.type = 'Timeout'")
    with pytest.raises(JobError, match="colour"):
        execution.retry(where="colour = 1")
    assert files(execution) == before

    (held.folder / "repaired").touch()
    execution.retry(where="error.type = 'ValueError'", overrides={"run.parallelism": 1})
    assert wait(execution) == "completed"
    assert execution.has_succeeded
    assert execution.results["attempts"].to_pylist() == [1, 1, 2, 1]
    with pytest.raises(ExecutionError, match="no item has failed"):
        execution.retry()


def test_an_execution_of_a_local_function_goes_on_with_one_of_a_module(held: Held) -> None:
    """What was run with a function of a notebook is no dead end: the message says so, and a function that can be imported takes over."""
    execution = batchrun.map(lambda item: item["none"], "data.csv", run=Run(retry=Retry(max_attempts=1)), quiet=True)
    assert execution.progress.failed_items == 4
    for go_on in (execution.retry, execution.rerun):
        with pytest.raises(JobError, match=r"is a lambda; a process of its own cannot import it: put it into a module"):
            go_on()
    execution.retry(overrides={"workflow.nodes.lambda.call": "steps:whole"}, accept_changes=True)
    assert wait(execution) == "completed"
    assert execution.results["output"].to_pylist() == ["3", "3", "3", "4"]


def test_rerun_is_a_new_execution(held: Held) -> None:
    """The job is run again beside the first result, with other values, and outputs that are given."""
    execution = held.ended()
    again = execution.rerun({"dataset.limit": 2}, dataset_version="original", outputs={"work": "fixed"})
    assert wait(again) == "completed"
    assert again.results["output"].to_pylist() == ["fixed", "fixed"]
    assert (again.id > execution.id, again.record["rerun_of"]) == (True, execution.id)
    assert execution.results.num_rows == 4

    held.project.write("data.csv", "id,text\na,one\n")
    runs = held.project.executions
    with pytest.raises(JobError, match="its files have changed"):
        execution.rerun(dataset_version="original")
    with pytest.raises(JobError, match="unknown dataset_version 'newest'"):
        execution.rerun(dataset_version="newest")  # type: ignore[arg-type]
    assert held.project.executions == runs
    assert wait(execution.rerun()) == "completed"


def test_executions_are_found(held: Held) -> None:
    """Executions are listed newest first by job, status and time, and one is found by what people type."""
    first = held.ended()
    second = held.client.submit("job.yaml", {"name": "other"})
    assert wait(second) == "completed"
    executions = held.client.executions

    def listed(**chosen: object) -> list[str]:
        return [found.id for found in executions.list(**chosen)]  # type: ignore[arg-type]

    assert listed() == [second.id, first.id]
    assert listed(limit=1) == [second.id]
    assert listed(job="held") == listed(job="h*") == [first.id]
    assert listed(status="completed", created_after="now()-7d") == listed(status=["failed", "completed"]) == [second.id, first.id]
    assert listed(status=["failed", "cancelled"]) == listed(created_before="now()-1h") == []
    assert listed(created_before=datetime.now(UTC) - timedelta(hours=1)) == []
    (found,) = executions.list(job="other")
    assert (type(found), found.status, found.results.num_rows) == (Execution, "completed", 4)
    for wrong, reason in (({"status": "complete"}, 'did you mean "completed"'), ({"limit": -1}, "limit: must be ≥ 0")):
        with pytest.raises(ValueError, match=reason):
            listed(**wrong)

    assert executions.get("latest").id == second.id
    for text in (first.id, first.id[:-3], first.folder, f"runs/{first.id}"):
        assert executions.get(text).id == first.id
    with pytest.raises(NoSuchExecution, match=second.id):
        executions.get("20200101")


def test_a_client_has_a_store_of_its_own(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client starts is listed where it says, by both processes, and stays there when it is run again."""
    client = Client(home="lists", runs="elsewhere")
    (held.folder / "work").mkdir()
    monkeypatch.chdir(held.folder / "work")
    execution = client.submit(held.folder / "job.yaml", {"output.path": "elsewhere"})
    assert wait(execution) == "completed"
    again = execution.rerun()
    assert wait(again) == "completed"
    Path("repaired").touch()
    execution.retry()
    assert wait(execution) == "completed"
    assert {found.id: found.progress.completed_items for found in client.executions.list()} == {again.id: 3, execution.id: 4}
    assert (held.folder / "lists" / "store.db").exists()
    assert not (held.folder / ".batchrun").exists() and not Path(".batchrun").exists()
    assert held.client.executions.list() == []
    (held.folder / "lists" / "store.db").unlink()
    assert client.executions.get("latest").id == again.id


async def test_a_notebook_can_submit_from_its_running_loop(held: Held) -> None:
    """In a notebook an event loop is running already: blocking calls work there like any other."""
    execution = batchrun.submit("job.yaml")
    assert wait(execution) == "completed"
    execution.retry(from_start=True)
    assert wait(execution) == "completed"
