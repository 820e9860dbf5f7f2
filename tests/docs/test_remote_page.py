"""What docs/remote.md shows is what happens."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from batchrun.nodes.remote_parts import Result, Status
from batchrun.nodes.remote_presets import preset, preset_names
from batchrun.testing.faulty_service import FaultyService
from batchrun.testing.loopback import Answer, LoopbackServer, Received, json_answer
from tests.docs.test_docs import ROOT, blocks, run

PAGE = ROOT / "docs/remote.md"
JOBS = [block.text for block in blocks(PAGE) if block.language == "yaml"]


def outputs(folder: Path, job: str) -> list[str | None]:
    """The outputs of a job of the page."""
    (folder / "job.yaml").write_text(job)
    (folder / "letters.csv").write_text("id,text\n1,Where is my parcel?\n2,Thanks\n")
    run([sys.executable, "-m", "batchrun", "run", "job.yaml"], folder)
    (result,) = folder.glob("runs/*/results.parquet")
    found: list[str | None] = pq.read_table(result).column("output").to_pylist()
    return found


def test_the_first_job_runs_each_letter_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who copies it sees the key, the version and the payload arrive, and the outputs come back."""
    monkeypatch.setenv("NOXUS_KEY", "key-of-noxus")
    with FaultyService(api_key="key-of-noxus") as service:
        job = JOBS[0].replace("http://127.0.0.1:8080", service.url_of("noxus")).replace("initial_seconds: 1,", "initial_seconds: 0.05,")
        assert outputs(tmp_path, job) == ['{"echo":{"letter":"Where is my parcel?"}}', '{"echo":{"letter":"Thanks"}}']
        runs = service.runs("noxus")
    assert [(each.workflow, each.version, each.submits) for each in runs] == [("wf_letters", "v7", 1)] * 2


def test_the_spelled_out_job_asks_as_the_page_says(tmp_path: Path) -> None:
    """Ids, states and outputs are found where it says, and the events are followed."""

    def answer(received: Received) -> Answer:
        match received.method, received.path.rpartition("/")[2]:
            case "POST", "label":
                assert (json.loads(received.body).keys(), received.headers["x-team"]) == ({"data"}, "support")
                return json_answer({"job": {"id": 7}})
            case "GET", "7":
                return json_answer({"job": {"state": "done"}})
            case "GET", "0":
                return json_answer({"labels": ["delivery"]})
            case "GET", "events":
                return Answer(headers={"Content-Type": "text/event-stream"}, body=b'data: {"state": "done"}\n\n')
        return Answer(status=404)

    with LoopbackServer(answer) as server:
        assert outputs(tmp_path, JOBS[1].replace("http://127.0.0.1:8080", server.url)) == ['["delivery"]'] * 2
        paths = {(each.method, each.path) for each in server.requests}
    assert paths == {("POST", "/jobs/label"), *(("GET", f"/jobs/7{end}") for end in ("", "/files/0", "/events"))}


def test_the_table_has_all_presets() -> None:
    """A preset that is not on the page is found by nobody, and its paths are those of the page."""
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    table = {name.strip(" `"): [cell.strip(" `") for cell in cells] for name, *cells in rows if name.strip(" `") in preset_names()}
    assert tuple(sorted(table)) == preset_names()
    for name, cells in table.items():
        result, status = (preset(name)[part] for part in ("result", "status"))
        assert isinstance(result, Result)
        assert isinstance(status, Status)
        assert (cells[3], cells[4]) == (", ".join(map(str, status.waiting or ())), result.output), name
