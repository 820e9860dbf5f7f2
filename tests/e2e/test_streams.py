"""Where commands print: to readers that have gone, to full disks, to streams that are closed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import Project, default_home


def test_a_reader_that_closes_the_pipe_is_no_error(project: Project) -> None:
    """`batchrun results | head -1` ends quietly."""
    project.batchrun("run", "job.yaml", "-q")
    command = project.start("results", "--json")
    assert command.stdout is not None
    command.stdout.close()
    assert command.stderr is not None
    assert (command.stderr.read(), command.wait()) == ("", 0)
    command.stderr.close()


def test_a_run_whose_output_nobody_reads_keeps_its_result_and_its_exit_code(project: Project) -> None:
    """A closed terminal or pipe must not cost the work that was done."""
    reading, writing = os.pipe()
    os.close(reading)
    ended = project.batchrun("run", "job.yaml", "--json", stdout=writing, stderr=writing)
    os.close(writing)
    assert ended.code == 0
    assert project.counters["completed_items"] == 3


@pytest.mark.parametrize("stderr", ["full", "closed"])
def test_a_run_whose_notes_go_nowhere_keeps_its_result_and_its_exit_code(project: Project, stderr: str) -> None:
    """A full disk below a log, or a supervisor that closes the streams, must not look like a failed run."""
    command = [sys.executable, "-m", "batchrun", "run", "job.yaml"]
    to = "2>/dev/full" if stderr == "full" else "0<&- 1>&- 2>&-"
    done = subprocess.run(["/bin/sh", "-c", f'exec "$@" {to}', "sh", *command], cwd=project.folder, env=default_home(), check=False)
    assert done.returncode == 0
    assert project.counters["completed_items"] == 3


@pytest.mark.parametrize("where", ["workflow.nodes.tidy.in=process", "run.backend=processes"])
def test_what_libraries_say_in_a_worker_goes_into_none_of_its_files(project: Project, where: str) -> None:
    """With closed streams the first file of a worker would take the number that libraries write their messages to."""
    steps = "import os\ndef tidy(text: str) -> str:\n    return ' '.join(os.readlink(f'/proc/self/fd/{n}') for n in (0, 1, 2))\n"
    project.write("steps.py", steps)
    command = [sys.executable, "-m", "batchrun", "run", "job.yaml", "--set", where]
    closed = ["/bin/sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", *command]
    assert subprocess.run(closed, cwd=project.folder, env=default_home(), check=False).returncode == 0
    assert set(project.result.column("output").to_pylist()) == {"/dev/null /dev/null /dev/null"}


@pytest.mark.parametrize("arguments", [["results"], ["list"], ["run", "job.yaml", "--json"], ["--help"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told_and_fails_the_command(project: Project, arguments: list[str]) -> None:
    """Half a table on a full disk must not pass for a whole one, and its owner is not interested in our source code."""
    project.batchrun("run", "job.yaml", "-q")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = project.batchrun(*arguments, stdout=full)
    assert ended.code == 1
    assert ended.err.endswith("Error: the output cannot be written: No space left on device\n")
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(("arguments", "code"), [(["run", "bad.yaml"], 2), (["no-such-command"], 2), (["show", "none"], 1)], ids=str)
def test_what_is_wrong_has_its_exit_code_also_when_it_cannot_be_said(project: Project, arguments: list[str], code: int) -> None:
    """A supervisor whose log is on a full disk must tell a job that is wrong from one that failed."""
    project.write("bad.yaml", "name: bad\n")
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        assert project.batchrun(*arguments, stderr=full).code == code
