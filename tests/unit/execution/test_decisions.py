"""Decisions about items that wait for a person: found in the journal, and written there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

import batchrun
from batchrun.client import Execution
from batchrun.core.errors import ExecutionError, InvalidValue
from batchrun.core.items import KeptNode
from batchrun.execution.decisions import decide, decided_nodes, waiting_items
from batchrun.results import Journal, Recovered
from batchrun.results.journal import NODES
from batchrun.results.kept import nodes_frame
from batchrun.workflows.decisions import Decision, digest

YES, NO = Decision(is_approved=True), Decision(is_approved=False, reason="no", by="Ada")
JOB = """\
name: letters
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: draft, type: template, template: "Dear {{ item.name }}"}
    - {id: ok, type: approval, output: "{{ nodes.draft.output }}", when: "{{ item.name != 'Dan' }}"}
    - {id: send, type: template, template: "sent {{ nodes.ok.output }}"}
  output: "{{ nodes.send.output }}"
output: {path: runs}
"""


@pytest.fixture
def waiting(tmp_path: Path) -> Execution:
    """An execution of four items, three of which wait."""
    (tmp_path / "data.csv").write_text("id,name\n1,Ada\n2,Bob\n3,Cleo\n4,Dan\n")
    (tmp_path / "job.yaml").write_text(JOB)
    execution = batchrun.execute(tmp_path / "job.yaml", quiet=True)
    assert (execution.status, execution.progress.waiting_items) == ("waiting", 3)
    return execution


def ids(folder: Path) -> list[Any]:
    return [item.id for item in waiting_items(folder)]


def rows(execution: Execution | None) -> dict[Any, tuple[str, Any]]:
    assert execution is not None
    columns = ["source_item_id", "status", "output"]
    return {id: (status, output) for id, status, output in zip(*execution.results.select(columns).to_pydict().values(), strict=True)}


def test_what_waits_is_told_with_what_is_to_be_decided(waiting: Execution) -> None:
    """Whoever decides sees the item, the node and what it would go on with."""
    first = next(waiting_items(waiting.folder))
    assert (first.id, first.node_id, first.shown) == (1, "ok", "Dear Ada")
    assert ids(waiting.folder) == [1, 2, 3]
    assert rows(waiting)[1] == ("waiting", None)


def test_decided_items_go_on_and_the_others_wait(waiting: Execution) -> None:
    """One row per item all along, and the counters tell which of them still wait."""
    decide(waiting.folder, YES, ["1"])
    decide(waiting.folder, NO, ["2"])
    assert ids(waiting.folder) == [3]
    resumed = batchrun.resume(waiting.folder, quiet=True)
    assert resumed is not None and resumed.status == "waiting"
    assert rows(resumed) == {1: ("completed", "sent Dear Ada"), 2: ("failed", None), 3: ("waiting", None), 4: ("skipped", None)}
    error = resumed.failures["error"].to_pylist()[0]
    assert (error["type"], error["message"], error["node_id"], error["traceback"]) == ("Rejected", "rejected by Ada: no", "ok", None)
    decide(waiting.folder, YES._replace(has_output=True, output="Hello"), None)
    last = batchrun.resume(waiting.folder, quiet=True)
    assert last is not None and last.status == "completed"
    assert rows(last)[3] == ("completed", "sent Hello")


@pytest.mark.parametrize(
    ("chosen", "node", "message"),
    [
        (["7"], None, "item 7 of .* does not wait for a person, .*; 1 does. Nothing was decided"),
        (["4"], None, "item 4 of "),
        (["1", "7"], None, "item 7 of "),
        (["1"], "send", "no node 'send' of item 1 waits; nodes that wait: ok"),
    ],
)
def test_what_does_not_wait_cannot_be_decided(waiting: Execution, chosen: list[str], node: str | None, message: str) -> None:
    """A typing error must not decide about half of the items."""
    with pytest.raises(ExecutionError, match=message):
        decide(waiting.folder, YES, chosen, node)
    assert ids(waiting.folder) == [1, 2, 3]


def test_the_first_decision_counts(waiting: Execution) -> None:
    """Two people who look at the same page cannot overrule one another without noticing."""
    assert [item.id for item in decide(waiting.folder, NO, ["1", "1"])] == [1]
    with pytest.raises(ExecutionError, match="or somebody has decided about it"):
        decide(waiting.folder, YES, ["1"])
    resumed = batchrun.resume(waiting.folder, quiet=True)
    assert rows(resumed)[1] == ("failed", None)


def test_a_copy_of_the_folder_takes_decisions_of_its_own(waiting: Execution, tmp_path: Path) -> None:
    """What is decided in a copy goes on in the copy, wherever it is, and nowhere else."""
    copy = tmp_path / "elsewhere" / waiting.id
    shutil.copytree(waiting.folder, copy)
    decide(copy, YES, None)
    assert (ids(copy), ids(waiting.folder)) == ([], [1, 2, 3])
    resumed = batchrun.resume(copy, quiet=True)
    assert resumed is not None and resumed.status == "completed"


def test_a_rejected_item_that_is_retried_is_asked_about_again(waiting: Execution) -> None:
    """A retry may bring another text; those who wait keep waiting meanwhile, and those decided about are not said to wait."""
    decide(waiting.folder, NO, ["1"])
    batchrun.resume(waiting.folder, quiet=True)
    decide(waiting.folder, YES, ["2"])
    retried = batchrun.retry(waiting.folder, quiet=True)
    assert retried is not None
    assert {id: status for id, (status, _) in rows(retried).items()} == {1: "waiting", 2: "cancelled", 3: "waiting", 4: "skipped"}
    assert sorted(ids(waiting.folder)) == [1, 3]
    decide(waiting.folder, YES, None)
    last = batchrun.resume(waiting.folder, quiet=True)
    assert last is not None and last.status == "completed"
    assert rows(last)[1] == ("completed", "sent Dear Ada")


def test_who_waits_does_so_since_he_was_first_asked(waiting: Execution) -> None:
    """Going on with others must not make a question look new."""
    since = [item.since for item in waiting_items(waiting.folder)]
    batchrun.resume(waiting.folder, quiet=True)
    assert [item.since for item in waiting_items(waiting.folder)] == since


def test_a_resume_that_is_stopped_early_keeps_the_others_waiting(waiting: Execution) -> None:
    """The rows of items that were not reached say what they are: they wait, or they have been decided about."""
    decide(waiting.folder, YES, ["2"])
    stopped = batchrun.resume(waiting.folder, {"run.timeout_seconds": 1e-9}, quiet=True)
    assert stopped is not None and stopped.status == "paused"
    assert {status for id, (status, _) in rows(stopped).items() if id in (1, 3)} == {"waiting"}
    assert rows(stopped)[2][0] in ("cancelled", "completed")
    assert ids(waiting.folder) == [1, 3]


def append(folder: Path, *nodes: KeptNode) -> None:
    """Write something to the journal, as a process that runs the execution does."""
    journal = Journal(folder)
    journal.begin({})
    for node in nodes:
        journal.append(NODES, nodes_frame([node]))
    journal.sync()
    journal.close()


def test_a_decision_holds_though_the_process_asked_again_meanwhile(waiting: Execution) -> None:
    """A resume that is told a decision before it comes to the item writes down after it that the item waits."""
    asked = next(waiting_items(waiting.folder)).node
    told = asked._replace(record=None, output=None, checkpoint=orjson.dumps(YES._replace(about=digest(b'"Dear Ada"'))._asdict()))
    append(waiting.folder, told, asked)
    assert ids(waiting.folder) == [2, 3]
    append(waiting.folder, asked)  # a process that knew it, and asked all the same
    assert ids(waiting.folder) == [1, 2, 3]


def test_what_a_damaged_journal_has_lost_is_asked_again(waiting: Execution) -> None:
    """Half a decision is none, and costs nothing but that one."""
    decide(waiting.folder, YES, ["1"])
    path = max((waiting.folder / "journal").glob("*.journal"))
    content = path.read_bytes()
    for end in (len(content) - 1, len(content) - 30, 3, 0):
        path.write_bytes(content[:end])
        assert ids(waiting.folder) == [1, 2, 3]
    path.write_bytes(content)
    assert ids(waiting.folder) == [2, 3]


FIELDS = YES._replace(about="")._asdict()


@pytest.mark.parametrize(
    ("settings", "count"),
    [
        ({"decision": FIELDS, "nodes": [[0, 0, 1, "ok", "x"], [2, 2, 1, "ok", "x"]]}, 2),
        ({"decision": FIELDS, "nodes": [[-1, 0, 1, "ok", "x"], [3, 0, 1, "ok", "x"], [10**12, 0, 1, "ok", "x"]]}, 0),
        ({"decision": FIELDS, "nodes": [[True, 0, 1, "ok", "x"], ["0", 0, 1, "ok", "x"], [0, 0, 1, "ok"], None, [0] * 5]}, 0),
        ({"decision": {**FIELDS, "is_approved": 1}, "nodes": [[0, 0, 1, "ok", "x"]]}, 0),
        ({"decision": {}, "nodes": [[0, 0, 1, "ok", "x"]]}, 0),
        ({"nodes": [[0, 0, 1, "ok", "x"]]}, 0),
        ({"decision": FIELDS, "nodes": {}}, 0),
        (["run.parallelism=3"], 0),
        ({}, 0),
    ],
)
def test_a_request_that_is_none_writes_nothing(settings: Any, count: int) -> None:
    """A broken control file must neither stop the run nor put anything into the journal that nobody could read back."""
    nodes = decided_nodes(settings, total_items=3)
    assert len(nodes) == count
    assert all(json.loads(line)[0] in (0, 2) for line in nodes_frame(nodes).splitlines())


def test_many_items_are_decided_at_once(tmp_path: Path) -> None:
    """`--all` is one write, whatever the number of items."""
    (tmp_path / "data.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(5_000)))
    (tmp_path / "job.yaml").write_text("""\
dataset: {path: data.csv, id: id}
workflow: {nodes: [{id: ok, type: approval, output: "{{ item.id }}"}]}
output: {path: runs}
""")
    execution = batchrun.execute(tmp_path / "job.yaml", quiet=True)
    before = len(list((execution.folder / "journal").glob("*.journal")))
    assert len(decide(execution.folder, YES, None)) == 5_000
    assert len(list((execution.folder / "journal").glob("*.journal"))) == before + 1
    assert decide(execution.folder, YES, None) == []
    assert Recovered(execution.folder).dropped == []


def test_python_users_give_ids_as_they_are(waiting: Execution) -> None:
    """An id is what stands in the result: a number here. A text in place of a list would be one item per character."""
    assert [item.id for item in waiting.approve([1], output={"a": 1})] == [1]
    with pytest.raises(InvalidValue, match="items must be a list of ids"):
        waiting.reject("2")
    with pytest.raises(InvalidValue):
        waiting.approve([2], output=object())
    assert [item.id for item in waiting.reject(reason="no")] == [2, 3]
    assert waiting.waiting_items() == []


def test_an_item_that_waits_for_several_elements_is_decided_about_as_one(tmp_path: Path) -> None:
    """A mapped workflow asks once for each element; each answer is about its own."""
    (tmp_path / "data.csv").write_text("id\n1\n2\n")
    (tmp_path / "job.yaml").write_text("""\
dataset: {path: data.csv, id: id}
workflow:
  nodes:
    - {id: list, type: template, template: ["{{ item.id }}", "x"]}
    - id: each
      type: workflow
      map: "{{ nodes.list.output }}"
      workflow: {nodes: [{id: ok, type: approval, output: "{{ item.input }}"}]}
output: {path: runs}
""")
    execution = batchrun.execute(tmp_path / "job.yaml", quiet=True)
    assert [(item.id, item.node_id, item.shown) for item in waiting_items(execution.folder)] == [
        *((1, "each.ok", shown) for shown in (1, "x")),
        *((2, "each.ok", shown) for shown in (2, "x")),
    ]
    assert len(decide(execution.folder, YES, ["1"])) == 2
    assert ids(execution.folder) == [2, 2]
    resumed = batchrun.resume(execution.folder, quiet=True)
    assert {id: status for id, (status, _) in rows(resumed).items()} == {1: "completed", 2: "waiting"}
