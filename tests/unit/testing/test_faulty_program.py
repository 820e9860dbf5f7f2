from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

PROGRAM = [sys.executable, "-m", "batchrun.testing.faulty_service"]


@contextmanager
def running(*options: str) -> Iterator[str]:
    """The address of a service that runs as a program."""
    with subprocess.Popen([*PROGRAM, "--port", "0", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        try:
            yield program.stdout.readline().strip()
        finally:
            program.send_signal(signal.SIGINT)
            assert (program.wait(), program.stdout.read(), program.stderr.read()) == (0, "", "")


def test_the_program_misbehaves_as_its_options_say(tmp_path: Path) -> None:
    """A user starts the service with one command, reads its address from one line, and ends it with Ctrl-C without a trace."""
    (tmp_path / "faults.json").write_text(json.dumps({"capacity": 20, "seed": 3}))
    options = ["--faults", str(tmp_path / "faults.json"), "--seed", "7", "--status", "429=0.5", "--status", "500=0.5"]
    with running(*options, "--retry-after-seconds", "3", "--outage", "3600-3700", "--outage-answer", "502") as url:
        assert url.startswith("http://127.0.0.1:")
        faults = httpx.get(f"{url}/_faults").json()
        assert httpx.get(url).status_code in {429, 500}
    told = {name: faults[name] for name in ("capacity", "seed", "statuses", "retry_after_seconds", "outages", "outage_answer", "hangs")}
    assert told.pop("statuses") == {"429": 0.5, "500": 0.5}
    assert told.pop("outages") == [[3600.0, 3700.0]]
    assert told == {"capacity": 20, "seed": 7, "retry_after_seconds": 3.0, "outage_answer": 502, "hangs": 0.0}


def test_the_program_plays_remote_systems() -> None:
    """The script of all runs is an option."""
    with running("--script", "failed", "--api-key", "secret") as url, httpx.Client(headers={"X-API-Key": "secret"}) as client:
        run = client.post(f"{url}/noxus/v1/workflows/w/runs", json={"input": {}}).json()
        for _ in range(2):
            status = client.get(f"{url}/noxus/v1/workflows/w/runs/{run['id']}").json()["status"]
    assert status == "failed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--status", "429"], "must be two numbers with = between them, got 429"),
        (["--hangs", "2"], "hangs: a share of the requests is 0 to 1, got 2"),
        (["--script", "whatever"], "'whatever' is not one of"),
        (["--outage-answer", "shout"], "outage_answer"),
    ],
)
def test_options_that_are_wrong_are_told(options: list[str], message: str) -> None:
    """A mistake in an option ends the program with what was wrong instead of a service that behaves well."""
    done = subprocess.run([*PROGRAM, *options], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
