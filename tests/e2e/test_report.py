"""report.html: there after every end, never in the way of a run."""

from __future__ import annotations

import html
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import batchrun
from batchrun.core.secrets import MASKED
from batchrun.testing.loopback import LoopbackServer
from tests.e2e.conftest import Calls, Project, ended
from tests.e2e.test_secrets import FORMS, answer, leaks, project_with, with_key

WAITING = """\
name: small
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: decide, type: approval, inputs: {text: "{{ item.text }}"}}
output: {path: runs}
"""
BLOCKING = """\
from pathlib import Path


def tidy(text: str) -> str:
    for execution in Path("runs").iterdir():
        (execution / "report.html").mkdir(exist_ok=True)
    return text
"""
HELD = """\
import time
from pathlib import Path


def tidy(text: str) -> str:
    with open("calls", "w") as pipe:
        pipe.write("\\n")
    while text == "three" and not Path("free").exists():
        time.sleep(0.01)
    return text
"""


def report(project: Project) -> str:
    """The text of the only report, as a reader sees it."""
    (execution,) = project.executions
    return html.unescape((execution / "report.html").read_text())


def test_a_run_leaves_a_report(project: Project) -> None:
    """Whoever ran a job opens one file and sees how it went; the summary says where it is."""
    project.write("data.csv", "id,text,size\na,one,1\nb,bad,2\nc,three,3\n")
    done = project.batchrun("run", "job.yaml")
    assert done.code == 3
    (execution,) = project.executions
    assert f"runs/{execution.name}/report.html   counts, charts and failures, for a browser\n" in done.err
    text = report(project)
    for said in ("small", "completed", "33.3%", "ValueError", "tidy", "nothing can be made of this", "<svg", execution.name):
        assert said in text
    assert len(text) < 100_000


def test_a_job_can_do_without(project: Project) -> None:
    """Who runs thousands of small jobs need not have thousands of reports."""
    assert project.batchrun("run", "job.yaml", "--set", "output.report=false").code == 0
    assert "report.html" not in project.files
    printed = project.batchrun("report")
    assert (printed.code, printed.out) == (0, f"runs/{project.executions[0].name}/report.html\n")
    assert "3 completed" in report(project)


@pytest.mark.parametrize(
    ("change", "code", "status"),
    [
        ("run.budget.max_calls=2", 4, "paused"),
        ("run.failure_policy.max_failures=0", 1, "failed"),
        ("run.timeout_seconds=3600", 3, "completed"),
    ],
)
def test_every_end_has_a_report(project: Project, change: str, code: int, status: str) -> None:
    """It tells the status the execution ended with, and why it ended early."""
    project.write("data.csv", "id,text,size\na,bad,1\n" + "".join(f"n{number},x,1\n" for number in range(200)))
    assert project.batchrun("run", "job.yaml", "--set", change, "--set", "run.parallelism=1").code == code
    text = report(project)
    assert f'class="status {status}"' in text
    assert (project.record["error"] or "") in text


def test_items_that_wait_for_a_person_are_told(project: Project) -> None:
    """Whoever is to decide sees how many wait."""
    project.write("job.yaml", WAITING)
    assert project.batchrun("run", "job.yaml").code == 4
    text = report(project)
    assert 'class="status waiting"' in text
    assert "3 items wait for a person" in text


def test_a_report_that_cannot_be_written_is_a_note(project: Project) -> None:
    """The result is what counts: nothing about a report fails a run or changes how it ended."""
    project.write("steps.py", BLOCKING)
    done = project.batchrun("run", "job.yaml")
    assert done.code == 0
    assert "report.html was not written: cannot write" in done.err and "Traceback" not in done.err
    assert project.record["status"] == "completed"
    told = project.batchrun("report")
    assert (told.code, told.out) == (1, "")
    assert "cannot write" in told.err and "Traceback" not in told.err
    next(project.executions[0].glob("report.html")).rmdir()
    assert project.batchrun("report").code == 0
    assert "3 completed" in report(project)


def test_a_retry_writes_it_anew(project: Project) -> None:
    """A report is never that of an earlier end."""
    project.write("data.csv", "id,text,size\na,one,1\nb,bad,2\nc,three,3\n")
    project.batchrun("run", "job.yaml")
    assert "nothing can be made of this" in report(project)
    project.write("steps.py", "def tidy(text: str) -> str:\n    return text\n")
    assert project.batchrun("retry", "--accept-changes").code == 0
    assert "nothing can be made of this" not in report(project)
    assert "100.0%" in report(project)


def test_a_killed_execution_has_a_report_when_asked(project: Project, calls: Calls) -> None:
    """What the journal holds of it is told, and that it is interrupted."""
    project.write("steps.py", HELD)
    process = project.start("run", "job.yaml", "--set", "run.parallelism=1")
    calls.wait_for(3)
    process.send_signal(signal.SIGKILL)
    ended(process)
    assert project.batchrun("report").code == 0
    text = report(project)
    assert 'class="status interrupted"' in text
    assert "<svg" not in text
    assert not {"results.parquet", "report.html.tmp"} & project.files


def test_a_report_holds_no_secret(project: Project) -> None:
    """Services echo keys into messages, and a report is sent around; HTML writes a secret in yet another form."""
    with LoopbackServer(answer) as server:
        project_with(project, server.url)
        assert project.batchrun("run", "job.yaml", env=with_key(project)).code == 3
    assert leaks(project.folder) == []
    text = report(project)
    assert [form for form in FORMS if form in text] == []
    assert f"cannot use {MASKED} for" in text


def test_the_libraries_of_charts_are_loaded_for_a_report_alone(tmp_path: Path) -> None:
    """A run without a report does not pay for charts."""
    program = (
        "import batchrun, sys\n"
        "batchrun.map(str, ['a'], quiet=True, output=batchrun.Output(report=False))\n"
        "assert 'leather' not in sys.modules\n"
        "batchrun.map(str, ['a'], quiet=True)\n"
        "assert 'leather' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_an_item_that_breaks_a_chart_breaks_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids, texts and times of every odd kind are in the result, and in a report."""
    odd = ["\x00", "\ud7ff", "🚀" * 1000, "", "</script>", "\u202e" * 50, "a\r\nb"]
    execution = batchrun.map(len, odd, output=batchrun.Output(path=str(tmp_path / "runs")))
    assert execution.has_succeeded
    assert "report.html was not written" not in capsys.readouterr().err
    assert (execution.folder / "report.html").stat().st_size < 100_000
