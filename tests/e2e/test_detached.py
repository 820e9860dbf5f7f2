"""Processes of executions: they outlive those who started them, and when they die early, that is noticed and said."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import batchrun
from batchrun import Execution, ExecutionError, Job, JobError
from batchrun.store import ExecutionQuery, Store
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.submitting import Held, is_there, submitting, until, wait

BLOCKED = """\
print("loading the model")
    Path("started").write_text(str(os.getpid()))
    while not Path("go_on").exists():
        time.sleep(0.01)
"""
"""An import that takes its time, in the process of the execution."""


@pytest.fixture
def held(project: Project, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    with submitting(project, calls, monkeypatch) as held:
        yield held


class Methods:
    """Functions of a class, and objects that can be called."""

    def one(self, item: dict[str, str]) -> str:
        return item["text"]

    @classmethod
    def two(cls, item: dict[str, str]) -> str:
        return f"{cls.__name__} {item['text']}"

    def __call__(self, item: dict[str, str]) -> str:
        return item["text"]


def length(item: dict[str, str]) -> int:
    return len(item["text"])


def local() -> Callable[..., int]:
    def inner(item: dict[str, str]) -> int:
        return len(item["text"])

    return inner


def replaced(item: dict[str, str]) -> int:
    return len(item["text"])


first_version = replaced


def replaced(item: dict[str, str]) -> int:  # type: ignore[no-redef]  # as in a notebook whose cell was run twice
    return 0


made = types.ModuleType("made_on_the_way")
exec("def length(item): return 1", vars(made))  # noqa: S102 - a module without a file
sys.modules["made_on_the_way"] = made


def blocked(held: Held, module: str = "steps.py") -> tuple[Execution, int]:
    """An execution whose process has started and does not get past the import of a module, and that process."""
    held.elsewhere(BLOCKED, module)
    execution = held.client.submit("job.yaml")
    started = held.folder / "started"
    until(lambda: started.exists() and started.read_text())
    return execution, int(started.read_text())


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda item: 1, r"<lambda> \(test_detached\.py:\d+\) is a lambda"),
        (local(), r"local\.<locals>\.inner \(test_detached\.py:\d+\) is defined inside a function"),
        (functools.partial(length), r"a partial of length \(test_detached\.py:\d+\) was made while the program ran"),
        (Methods(), "an object of Methods was made while the program ran"),
        (Methods().one, r"Methods\.one \(.*\) is not what \S+:Methods\.one leads to"),
        (first_version, r"replaced \(.*\) is not what \S+:replaced leads to"),
        (made.length, r"length \(.*\) is of the module 'made_on_the_way', which is in no file"),
        ("__main__:length", "__main__:length is defined in the script or notebook"),
    ],
    ids=["lambda", "local", "partial", "object", "method", "replaced", "module", "main"],
)
def test_functions_that_no_other_process_has_are_refused(held: Held, function: Callable[..., object], reason: str) -> None:
    """A job that only this process could run is refused before anything is started, with the name of the function and what to do."""
    frame = pl.DataFrame({"text": ["one"]})
    sys.modules["__main__"].length = length  # type: ignore[attr-defined]
    with pytest.raises(JobError, match=f"^workflow\\.nodes\\[0\\]\\.call: {reason}") as refused:
        held.client.submit(Job(dataset=frame, workflow=function))
    assert "move it to a module, such as steps.py" in str(refused.value)
    assert held.project.executions == []
    assert held.client.executions.list() == []


@pytest.mark.parametrize(
    ("function", "expected"), [(length, [3, 5]), (Methods.two, ["Methods one", "Methods three"])], ids=["function", "class"]
)
def test_a_frame_is_submitted_with_its_execution(held: Held, function: Callable[..., object], expected: list[object]) -> None:
    """A data frame and a function of a module go to another process; the copy of the frame is in the folder, and moves with it."""
    frame = pl.DataFrame({"text": ["one", "three"]})
    execution = held.client.submit(Job(dataset=frame.lazy(), workflow=function), {"output.path": "there"})
    assert execution.folder.parent == held.folder / "there"
    assert pl.read_parquet(execution.folder / "dataset.parquet").equals(frame)
    assert wait(execution) == "completed"
    assert execution.results["output"].to_pylist() == expected
    again = execution.rerun()
    execution.folder.rename(held.folder / "moved")
    assert wait(again) == "completed"
    assert again.results["output"].to_pylist() == expected


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="needs the counters of the kernel")
def test_a_dataset_is_not_read_by_who_submits_it(held: Held) -> None:
    """Submitting costs what checking the job costs, however large the dataset is."""
    data = held.project.table("big.parquet", {"id": [1, 2], "text": [os.urandom(20_000_000).hex(), "two"]}, compression="uncompressed")
    script = (
        "import batchrun\n"
        "read = lambda: int(open('/proc/self/io').read().split()[1])\n"
        "before = read()\n"
        "execution = batchrun.submit('job.yaml', {'dataset.path': 'big.parquet', 'dataset.limit': 0})\n"
        "print(execution.id, read() - before)\n"
    )
    id, read = subprocess.check_output([sys.executable, "-c", script], cwd=held.folder, text=True).split()
    assert int(read) < data.stat().st_size
    execution = held.client.executions.get(id)
    assert wait(execution) == "completed"
    assert execution.record["dataset_fingerprint"]


@pytest.mark.parametrize("end", ["returns", "is killed"])
def test_an_execution_goes_on_without_the_program_that_submitted_it(held: Held, end: str) -> None:
    """A script may end, or be killed, as soon as it has submitted its job; nothing it started bothers it or is lost."""
    held.hold()
    (held.folder / "scripts").mkdir()
    held.project.write("json.py", "raise RuntimeError('a file of the working directory took the place of a module')\n")
    held.project.write("scripts/helpers.py", "from steps import work\n")
    held.project.write(
        "scripts/script.py",
        "import sys, time, batchrun\n"
        "with batchrun.Client() as client:\n"
        "    print(client.submit('job.yaml', {'workflow.nodes.work.call': 'helpers:work'}).id, flush=True)\n"
        f"time.sleep({0 if end == 'returns' else 1000})\n",
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path[:3])}
    command = [sys.executable, "-X", "dev", "-W", "error", "scripts/script.py"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    script = subprocess.Popen(command, cwd=held.folder, env=environment, text=True, **streams)
    assert script.stdout is not None
    id = script.stdout.readline().strip()
    held.calls.wait_for(2)
    if end == "is killed":
        os.killpg(script.pid, signal.SIGKILL)  # as when its terminal is closed
    said = ended(script)
    assert said.err == ""
    execution = held.client.executions.get(id)
    assert execution.status == "running"
    held.let_go()
    assert wait(execution) == "completed"
    assert execution.progress.completed_items == 3


def test_a_script_with_its_own_functions_is_told_where_to_put_them(held: Held) -> None:
    """The first thing a newcomer tries, a function beside the call, ends with advice and not with an execution that never begins."""
    held.project.write(
        "script.py", "import batchrun\ndef mine(item): return 1\nbatchrun.submit(batchrun.Job(dataset='data.csv', workflow=mine))\n"
    )
    script = subprocess.Popen([sys.executable, "script.py"], cwd=held.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = ended(script)
    assert "mine (script.py:2) is defined in the script or notebook that runs" in said.err
    assert "move it to a module, such as steps.py" in said.err
    assert held.project.executions == []


def test_a_job_that_is_refused_elsewhere_says_why(held: Held) -> None:
    """What only shows in the other process, such as a failing import or a duplicate id, is on the execution, for whoever looks."""
    held.elsewhere("raise RuntimeError('no graphics card')")
    execution = held.client.submit("job.yaml")
    assert wait(execution) == "rejected"
    assert execution.error is not None
    assert "importing 'steps' failed: RuntimeError: no graphics card" in execution.error
    held.project.write("data.csv", "id,text\na,one\na,two\n")
    held.elsewhere("pass")
    duplicate = held.client.submit("job.yaml")
    assert wait(duplicate) == "rejected"
    assert '"id" is not unique' in str(duplicate.error)
    assert [found.id for found in held.client.executions.list(status="rejected")] == [duplicate.id, execution.id]
    before = (execution.folder / "execution.json").read_bytes()
    with pytest.raises(ExecutionError, match="no graphics card"):
        execution.resume()
    assert execution.cancel() == "nothing"
    assert (execution.folder / "execution.json").read_bytes() == before


def test_a_process_that_dies_before_its_first_item_ends_the_waiting(held: Held) -> None:
    """A killed process is noticed by the one that started it: who waits is told how it ended, and the execution can be resumed."""
    execution, pid = blocked(held)
    assert execution.refresh_status() == "pending"
    os.kill(pid, signal.SIGKILL)
    assert wait(execution) == "failed"
    assert execution.error is not None
    assert "was ended by SIGKILL, as happens when memory runs out, before it began" in execution.error
    assert execution.error.endswith("loading the model")
    assert [found.id for found in held.client.executions.list(status="failed")] == [execution.id]

    started = held.folder / "started"
    started.unlink()

    def kill() -> None:
        until(lambda: started.exists() and started.read_text())
        os.kill(int(started.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(ExecutionError, match=r"(?s)does not go on: its process was ended by SIGKILL.*loading the model"):
        execution.resume()
    killer.join()
    assert execution.refresh_status() == "failed"
    (held.folder / "go_on").touch()
    execution.resume()
    assert wait(execution) == "completed"


def test_a_death_that_cannot_be_written_down_is_still_told(held: Held) -> None:
    """Waiting ends even when the folder of the execution takes nothing any more."""
    execution, pid = blocked(held)
    (execution.folder / "journal").write_text("in the way")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ExecutionError, match=r"(?s)did not begin: its process was ended by SIGKILL.*journal"):
        wait(execution)
    assert execution.status == "pending"


def test_a_stop_before_the_first_item_can_be_resumed(held: Held) -> None:
    """A supervisor that stops a process while it starts leaves a paused execution."""
    execution, pid = blocked(held)
    os.kill(pid, signal.SIGINT)
    assert wait(execution) == "paused"
    assert (execution.stop_reason, execution.error) == ("signal", "stopped by SIGINT before the first item")
    (held.folder / "go_on").touch()
    execution.resume()
    assert wait(execution) == "completed"


@pytest.mark.parametrize("at", ["its start", "an import"])
def test_a_cancel_before_the_first_item_is_final(held: Held, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Who cancels what was just submitted gets no call any more, though its process is on its way."""
    monkeypatch.setenv("PYTHONPATH", str(held.folder))
    execution, pid = blocked(held, "sitecustomize.py" if at == "its start" else "steps.py")
    assert execution.cancel() == "done"
    (held.folder / "go_on").touch()
    until(lambda: not is_there(pid))
    assert execution.refresh_status() == "cancelled"
    assert [state["status"] for state in execution.record["states"]] == ["pending", "cancelled"]
    assert not (execution.folder / "results.parquet").exists()


def test_processes_that_have_ended_are_gone(held: Held) -> None:
    """A program that submits many executions collects no dead processes."""
    executions = [held.client.submit("job.yaml") for _ in range(3)]
    assert {wait(execution) for execution in executions} == {"completed"}
    for execution in executions:
        pid = execution.record["pid"]
        until(functools.partial(lambda pid: not is_there(pid), pid))


def test_a_process_that_cannot_be_started_leaves_nothing(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the system gives no process, the call says so, and no execution is pending for ever."""
    monkeypatch.setattr(sys, "executable", str(held.folder / "python"))
    for job in ("job.yaml", Job(dataset=pl.DataFrame({"text": ["one"]}), workflow=length)):
        with pytest.raises(ExecutionError, match=r"cannot start a process for .*: No such file or directory"):
            batchrun.submit(job)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ExecutionError, match=r"sys\.executable"):
        batchrun.submit("job.yaml")
    assert held.project.executions == []
    with Store.open() as store:
        assert store.executions(ExecutionQuery()) == []
