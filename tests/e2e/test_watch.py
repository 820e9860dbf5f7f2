"""What `batchrun watch` shows until an execution ends, and what ends the watching."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from itertools import pairwise

import pytest

from batchrun.execution import Record, submitted
from batchrun.execution.prepare import prepare
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.holding import held, kill, release, shown, write


@pytest.fixture
def work(project: Project) -> Project:
    """A project with the job that holds items."""
    write(project)
    return project


@pytest.fixture
def pending(work: Project, monkeypatch: pytest.MonkeyPatch) -> str:
    """An execution that was submitted and not begun."""
    monkeypatch.chdir(work.folder)
    name = "20261101T093000-0a1b2c3d4e"
    submitted(prepare("job.yaml"), name, work.folder / "runs" / name)
    return name


def first_line(watching: subprocess.Popen[str]) -> str:
    """The first thing it says, when it has said it."""
    assert watching.stderr is not None
    return watching.stderr.readline()


def test_an_execution_is_watched_to_its_end(work: Project, calls: Calls) -> None:
    """Then there is the summary of a run, and the exit code a script needs: some items failed."""
    with held(work, calls):
        watching = work.start("watch", "--interval", "0.1")
        assert first_line(watching) == f"{work.executions[0].name} is running\n"
        release(work)
        last = ended(watching)
    assert (last.code, last.out) == (3, ""), last.err
    assert f"\n{work.executions[0].name} completed in " in last.err
    assert "\n12 items: 11 completed, 1 failed\n" in last.err
    assert "item 1: nothing can be made of \\u001b[2J this\n" in last.err
    assert last.err.endswith(f"to run the failed items again: batchrun retry runs/{work.executions[0].name}\n")
    again = work.batchrun("watch")
    assert (again.code, again.out) == (3, "") and "12 items: 11 completed, 1 failed\n" in again.err


def test_a_process_that_is_gone_ends_the_watching(work: Project, calls: Calls) -> None:
    """Nobody waits for an execution that nothing runs any more: what was done is told, and how to go on."""
    with held(work, calls) as process:
        watching = work.start("watch", "--interval", "0.1")
        first_line(watching)
        kill(process)
        last = ended(watching)
    assert (last.code, last.out) == (1, ""), last.err
    name = work.executions[0].name
    assert f"\n{name} interrupted: its process is gone; to go on: batchrun resume runs/{name}\n" in last.err
    assert "5 completed, 1 failed" in last.err and "\nno result was written\n" in last.err


def test_ctrl_c_ends_the_watching_and_not_the_execution(work: Project, calls: Calls) -> None:
    """Who stops looking stops nothing else."""
    with held(work, calls) as process:
        watching = work.start("watch", "--interval", "0.1")
        first_line(watching)
        watching.send_signal(signal.SIGINT)
        last = ended(watching)
        assert (last.code, last.out) == (130, ""), last.err
        name = work.executions[0].name
        assert last.err.endswith(f"no longer watched; {name} goes on: batchrun watch {name}\n")
        assert (process.poll(), shown(work)["status"]) == (None, "running")
        release(work)
        assert ended(process).code == 3


def test_programs_get_a_line_for_each_change(work: Project, calls: Calls) -> None:
    """Lines of JSON, none of which repeats what the last one said, up to the end; and nothing on stderr."""
    with held(work, calls):
        watching = work.start("watch", "--json", "--interval", "0.1")
        assert watching.stdout is not None
        lines = [watching.stdout.readline()]
        release(work)
        last = ended(watching)
    assert (last.code, last.err) == (3, "")
    told = [json.loads(line) for line in [*lines, *last.out.splitlines()]]
    assert {line["execution_id"] for line in told} == {work.executions[0].name}
    assert (told[0]["status"], told[0]["progress"]["processed_items"]) == ("running", 6)
    assert (told[-1]["status"], told[-1]["progress"]["processed_items"], told[-1]["progress"]["failed_items"]) == ("completed", 12, 1)
    counts = [line["progress"]["processed_items"] for line in told]
    assert counts == sorted(counts)
    seen = [
        (line["status"], {**line["progress"], **dict.fromkeys(("elapsed_seconds", "items_per_second", "remaining_seconds"))})
        for line in told
    ]
    assert all(one != other for one, other in pairwise(seen))


def test_a_terminal_gets_a_bar(work: Project, calls: Calls) -> None:
    """Where a person watches there is a bar, which begins where the execution is, and after it the summary."""
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    seen = b""
    with held(work, calls):
        watching = work.start("watch", "--interval", "0.1", stderr=inside)
        os.close(inside)
        try:
            while b"6/12" not in seen:
                seen += os.read(terminal, 65536)
            release(work)
            while chunk := os.read(terminal, 65536):
                seen += chunk
        except OSError:  # how Linux says that the other side has closed the terminal
            pass
        finally:
            os.close(terminal)
        assert ended(watching).code == 3
    bar, _, summary = seen.decode().partition("\r\n\r\n")
    assert "held:  50%|" in bar and "12/12" in bar and "failed=1" in bar
    assert "12 items: 11 completed, 1 failed" in summary


@pytest.mark.parametrize(
    ("settings", "code", "status"),
    [(("run.budget.max_calls=4",), 4, "paused"), (("run.failure_policy.max_failures=0", "run.parallelism=1"), 1, "failed")],
)
def test_an_execution_that_was_stopped_has_its_exit_code(work: Project, settings: tuple[str, ...], code: int, status: str) -> None:
    """A script that watches learns the same as one that runs the job."""
    release(work)
    (work.folder / "calls").touch()  # nobody listens
    assert work.batchrun("run", "job.yaml", "-q", *(part for setting in settings for part in ("--set", setting))).code == code
    last = work.batchrun("watch")
    assert last.code == code and f" {status} in " in last.err and work.record["error"] in last.err


def test_watching_waits_for_an_execution_to_begin(work: Project, pending: str) -> None:
    """What was submitted can be watched at once; the watching goes on when a process takes it."""
    (work.folder / "calls").touch()  # nobody listens
    release(work)
    watching = work.start("watch", "--interval", "0.1")
    assert first_line(watching) == f"{pending} is pending: no process has taken it on yet\n"
    assert work.batchrun("resume", "-q").code == 3
    last = ended(watching)
    assert last.code == 3 and "12 items: 11 completed, 1 failed" in last.err


def test_an_execution_that_was_refused_is_told_from_one_that_failed(work: Project, pending: str) -> None:
    """The job is at fault, which no resume changes: none is advised."""
    Record.read(work.folder / "runs" / pending).enter("rejected", error="there is no module 'steps'")
    last = work.batchrun("watch")
    assert last.code == 2 and f"{pending} rejected: there is no module 'steps'\n" in last.err
    assert "resume" not in last.err
