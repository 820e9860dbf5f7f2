"""Functions in worker processes: whatever they do to their process, it is their item that fails, alone."""

from __future__ import annotations

import os
import signal

from tests.e2e.conftest import Calls, Project, ended

STEPS = """\
import asyncio, ctypes, os, re, signal, subprocess, sys
from pathlib import Path

def fate(kind: str) -> str:
    print("at work on", kind)
    if kind == "segfault":
        ctypes.string_at(0)
    if kind == "exit":
        os._exit(7)
    if kind == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "leaves":
        sys.exit("enough")
    if kind == "recursion":
        return fate(kind)
    if kind == "pattern":
        return str(re.match(r"(a+)+$", "a" * 50 + "b"))
    if kind == "closes":
        os.closerange(3, 256)
    return kind

def lengths(kind: list[str]) -> list[int]:
    if "segfault" in kind:
        ctypes.string_at(0)
    return [len(each) for each in kind]

def held(kind: str) -> str:
    os.write(os.open("alive", os.O_WRONLY), b"at work\\n")
    while True:
        pass

def started(kind: str) -> str:
    program = "import signal; print(signal.getsignal(signal.SIGHUP) == signal.SIG_IGN)"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()

class Model:
    def setup(self):
        self.words = Path("model").read_text()

    def __call__(self, kind):
        return self.words

async def waits(kind: str) -> str:
    with open("calls", "w") as pipe:
        pipe.write("at work\\n")
    while not os.path.exists("release"):
        await asyncio.sleep(0.01)
    return kind
"""
JOB = """\
name: fates
dataset: {path: data.csv, id: kind}
workflow:
  nodes:
    - {id: fate, type: python, call: "steps:fate", inputs: {kind: "{{ item.kind }}"}, in: process, timeout_seconds: 5}
run: {retry: {max_attempts: 1}, parallelism: 4}
output: {path: runs}
"""
FATES = ("segfault", "exit", "killed", "leaves", "recursion", "pattern", "closes")
GOOD = tuple(f"good {number}" for number in range(40))


def prepared(project: Project, kinds: tuple[str, ...], job: str = JOB) -> None:
    project.write("job.yaml", job)
    project.write("steps.py", STEPS)
    project.write("data.csv", "kind\n" + "".join(f"{kind}\n" for kind in kinds))


def test_each_bad_item_fails_alone_with_its_reason(project: Project) -> None:
    """Crashes, exits, endless patterns and recursion cost one item each; the reason is in its row, and stdout stays clean."""
    mixed = [kind for fate, good in zip(FATES, GOOD, strict=False) for kind in (good, fate)]
    prepared(project, (*mixed, *GOOD[len(FATES) :]))
    run = project.batchrun("run", "job.yaml")
    assert run.code == 3, run.err
    rows = {row["source_item_id"]: row for row in project.result.to_pylist()}
    errors = {kind: row["error"] for kind, row in rows.items() if row["error"]}
    assert {kind: error["type"] for kind, error in errors.items()} == {
        "segfault": "WorkerCrashed",
        "exit": "WorkerCrashed",
        "killed": "WorkerCrashed",
        "leaves": "SystemExit",
        "recursion": "RecursionError",
        "pattern": "Timeout",
        "closes": "WorkerCrashed",
    }
    assert "SIGSEGV (signal 11)" in errors["segfault"]["message"]
    assert "in fate" in errors["segfault"]["traceback"]
    assert "exit code 7" in errors["exit"]["message"]
    assert "SIGKILL (signal 9)" in errors["killed"]["message"]
    assert {rows[kind]["status"] for kind in GOOD} == {"completed"}
    assert "at work on" in run.err
    assert "at work on" not in run.out


def test_a_crash_in_a_batch_fails_one_item_of_it(project: Project) -> None:
    """The batch is halved until the item is alone with its segmentation fault."""
    job = JOB.replace("steps:fate", "steps:lengths").replace("in: process", "in: process, batch: {max_items: 8}")
    prepared(project, (*GOOD[:5], "segfault", *GOOD[5:]), job)
    run = project.batchrun("run", "job.yaml")
    assert run.code == 3, run.err
    assert project.counters["completed_items"] == len(GOOD)
    assert project.counters["failed_items"] == 1


def test_no_worker_outlives_the_process_that_started_it(project: Project) -> None:
    """After kill -9 of a run, its workers are gone, however busy they are: nothing burns a core for nobody."""
    prepared(project, GOOD, JOB.replace("steps:fate", "steps:held").replace("timeout_seconds: 5", "workers: 2"))
    os.mkfifo(project.folder / "alive")
    process = project.start("run", "job.yaml")
    try:
        alive = os.open(project.folder / "alive", os.O_RDONLY)
        seen = b""
        while seen.count(b"\n") < 2:
            seen += os.read(alive, 100)
    finally:
        process.kill()
    assert os.read(alive, 100) == b""  # the end: nobody has it open for writing any more
    os.close(alive)
    ended(process)


def test_the_first_interrupt_lets_calls_in_workers_end(project: Project, calls: Calls) -> None:
    """Ctrl-C goes to all processes of a terminal; the workers leave it to their parent when to end."""
    prepared(project, GOOD, JOB.replace("steps:fate", "steps:waits").replace("timeout_seconds: 5", "workers: 2"))
    process = project.start("run", "job.yaml", start_new_session=True)
    try:
        calls.wait_for(2)
        os.killpg(process.pid, signal.SIGINT)
        assert process.stderr is not None
        while "calls in flight" not in process.stderr.readline():
            pass
        project.write("release", "")
        stopped = ended(process)
    finally:
        process.kill()
    assert stopped.code == 130, stopped.err
    assert project.counters["failed_items"] == 0
    assert project.counters["completed_items"] >= 2


def test_a_model_that_cannot_be_loaded_fails_the_run_and_no_item(project: Project) -> None:
    """The reason is told once, every item has a row, and the run goes on from there when the model is in its place."""
    prepared(project, GOOD, JOB.replace("steps:fate", "steps:Model").replace("in: process, ", ""))
    run = project.batchrun("run", "job.yaml")
    assert run.code == 1
    assert "node fate: setting up Model failed: FileNotFoundError: [Errno 2] No such file or directory: 'model'" in run.err
    assert "steps.py:" in run.err
    assert project.counters["cancelled_items"] == len(GOOD)
    project.write("model", "ready")
    resumed = project.batchrun("resume")
    assert resumed.code == 0, resumed.err
    assert project.counters["completed_items"] == len(GOOD)


def test_what_functions_start_below_nohup_outlives_the_terminal_too(project: Project) -> None:
    """Who starts a job with `nohup` and logs out wants it done, and with it the programs that its functions start."""
    prepared(project, GOOD[:2], JOB.replace("steps:fate", "steps:started"))
    run = project.batchrun("run", "job.yaml", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert run.code == 0, run.err
    assert set(project.result.column("output").to_pylist()) == {"True"}
