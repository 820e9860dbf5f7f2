from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from batchrun.core.checks import InvalidFields
from batchrun.store import ExecutionQuery, NoSuchExecution, StateChange, Store, StoreError

Record = Callable[..., dict[str, Any]]
FIRST = datetime(2026, 11, 1, 9, 30, tzinfo=UTC)


def _minutes(store: Store, **query: Any) -> list[int]:
    """Which executions a query lists, by the minute they were created."""
    return [int((execution.created_at - FIRST).total_seconds() // 60) for execution in store.executions(ExecutionQuery(**query))]


def test_an_execution_comes_back_as_it_was_saved(store: Store, record: Record) -> None:
    """What `show` prints is what the execution wrote, with its times in UTC."""
    saved = record(
        status="failed",
        stop_reason="rule",
        error="the disk is full",
        started_at="2026-11-01T10:31:00.000001+01:00",
        completed_at="2026-11-01T09:32:00Z",
        states=[
            {"status": "pending", "at": "2026-11-01T09:30:00+00:00", "reason": None, "host": "a", "pid": 1},
            {"status": "failed", "at": "2026-11-01T10:32:00+01:00", "reason": "rule", "host": "b", "pid": 2},
        ],
    )
    store.save(saved)
    found = store.find(saved["execution_id"])
    assert (found.id, found.job_name, found.status, found.stop_reason) == (saved["execution_id"], "triage", "failed", "rule")
    assert (found.error, found.folder, found.host, found.pid) == ("the disk is full", Path(saved["folder"]), "machine", 4711)
    assert found.created_at == FIRST
    assert found.started_at == datetime(2026, 11, 1, 9, 31, 0, 1, tzinfo=UTC)
    assert found.completed_at == datetime(2026, 11, 1, 9, 32, tzinfo=UTC)
    assert {found.created_at.tzinfo, found.started_at.tzinfo, found.completed_at.tzinfo} == {UTC}
    assert (found.cancel_requested_at, found.heartbeat_at, found.progress) == (None, None, {})
    assert found.record == saved
    assert found.states == (
        StateChange("pending", FIRST, None, "a", 1),
        StateChange("failed", FIRST + timedelta(minutes=2), "rule", "b", 2),
    )


def test_a_list_leaves_out_the_job(store: Store, record: Record) -> None:
    """Thousands of executions are listed without reading thousands of jobs."""
    saved = record()
    store.save(saved)
    listed = store.executions()[0].record
    assert listed == {name: value for name, value in saved.items() if name != "job"}


def test_saving_again_replaces(store: Store, record: Record) -> None:
    """An execution is listed once, with its last state, and keeps its heartbeat."""
    store.save(record())
    store.beat(record()["execution_id"], {"processed_items": 3})
    store.save(record(status="completed", job={"other": 1}))
    (listed,) = store.executions()
    assert (listed.status, listed.progress) == ("completed", {"processed_items": 3})
    assert store.find(listed.id).record["job"] == {"other": 1}


def test_the_last_epoch_wins(store: Store, record: Record) -> None:
    """A process that lost its execution does not change what the list says of it; a copied folder does, whatever its epoch."""
    store.save(record(epoch=3, status="running"))
    store.save(record(epoch=2, status="paused", job=None))
    found = store.find("latest")
    assert (found.status, found.record["epoch"], "job" in found.record) == ("running", 3, True)

    store.save(record(epoch=2, status="paused", folder="/copy"))
    found = store.find("latest")
    assert (found.status, found.folder) == ("paused", Path("/copy"))


def test_beats_tell_time_and_progress(store: Store, record: Record) -> None:
    """A dead runner is noticed by the time of its last heartbeat, also when the clock was set back."""
    execution_id = record()["execution_id"]
    before = datetime.now(UTC)
    assert store.beat(execution_id, {}) is False
    store.save(record())

    assert store.beat(execution_id, {"processed_items": 7, "open_nodes": {"clean": 2}}) is True
    found = store.find(execution_id)
    assert before <= found.heartbeat_at <= datetime.now(UTC)
    assert found.progress == {"processed_items": 7, "open_nodes": {"clean": 2}}

    store.beat(execution_id, {"processed_items": 8}, FIRST - timedelta(hours=1))
    store.beat(execution_id, None, FIRST - timedelta(minutes=59))
    found = store.find(execution_id)
    assert (found.heartbeat_at, found.progress) == (FIRST - timedelta(minutes=59), {"processed_items": 8})


def test_states_keep_their_order_when_the_clock_is_set_back(store: Store, record: Record) -> None:
    """The story of an execution is told in the order it happened."""
    later, earlier = (FIRST + timedelta(hours=1)).isoformat(), FIRST.isoformat()
    store.save(record(states=[{"status": "pending", "at": later}, {"status": "running", "at": earlier}], started_at=earlier))
    assert [state.status for state in store.find("latest").states] == ["pending", "running"]


def test_the_first_request_to_cancel_stays(store: Store, record: Record) -> None:
    """A second cancel changes nothing, nor does a save of the process that does not know yet; a resume starts afresh."""
    execution_id = record()["execution_id"]
    store.request_cancel(execution_id, FIRST)
    assert store.executions() == []

    store.save(record())
    store.request_cancel(execution_id, FIRST + timedelta(minutes=1))
    store.request_cancel(execution_id, FIRST + timedelta(minutes=2))
    store.save(record(status="finalizing"))
    assert store.find(execution_id).cancel_requested_at == FIRST + timedelta(minutes=1)

    store.save(record(epoch=2))
    assert store.find(execution_id).cancel_requested_at is None


@pytest.fixture
def several(store: Store, record: Record) -> Store:
    for minute, (job, status) in enumerate([("triage", "completed"), ("triage-2", "failed"), ("label", "running"), ("triage", "failed")]):
        store.save(record(minute, job_name=job, status=status))
    return store


@pytest.mark.parametrize(
    ("query", "minutes"),
    [
        ({}, [3, 2, 1, 0]),
        ({"limit": 2}, [3, 2]),
        ({"limit": 0}, []),
        ({"job": "triage"}, [3, 0]),
        ({"job": "triage*"}, [3, 1, 0]),
        ({"job": "*"}, [3, 2, 1, 0]),
        ({"job": "TRIAGE"}, []),
        ({"job": "t?iage*"}, []),
        ({"status": ("failed",)}, [3, 1]),
        ({"status": ("failed", "running")}, [3, 2, 1]),
        ({"status": ("interrupted",)}, []),
        ({"job": "triage", "status": ("completed", "failed"), "limit": 1}, [3]),
        ({"created_after": FIRST + timedelta(minutes=1)}, [3, 2, 1]),
        ({"created_before": FIRST + timedelta(minutes=1)}, [0]),
        (
            {
                "created_after": datetime(2026, 11, 1, 11, 31, tzinfo=timezone(timedelta(hours=2))),
                "created_before": FIRST + timedelta(minutes=3),
            },
            [2, 1],
        ),
    ],
)
def test_queries(several: Store, query: dict[str, Any], minutes: list[int]) -> None:
    """`list` shows what was asked for, newest first."""
    assert _minutes(several, **query) == minutes


def test_a_negative_limit_is_refused() -> None:
    """A mistaken limit must not list everything."""
    with pytest.raises(InvalidFields, match="limit: must be ≥ 0, got -1"):
        ExecutionQuery(limit=-1)


def test_newest_is_by_time_of_creation(store: Store, record: Record) -> None:
    """`latest` is what was submitted last, whatever was saved last."""
    for minute in (5, 9, 7):
        store.save(record(minute))
    assert _minutes(store) == [9, 7, 5]
    assert store.find("latest").id == record(9)["execution_id"]


def test_find_by_beginning(store: Store, record: Record) -> None:
    """An id needs to be typed only as far as it is unique."""
    store.save(record(0))
    store.save(record(1))
    assert store.find("20261101T0931").id == record(1)["execution_id"]
    with pytest.raises(NoSuchExecution) as caught:
        store.find("20261101")
    assert record(0)["execution_id"] in str(caught.value)
    assert record(1)["execution_id"] in str(caught.value)


def test_a_whole_id_is_never_ambiguous(store: Store, record: Record) -> None:
    """An execution stays reachable when its id is the beginning of another's."""
    store.save(record(execution_id="20261101T093000-a"))
    store.save(record(execution_id="20261101T093000-ab"))
    assert store.find("20261101T093000-a").id == "20261101T093000-a"


@pytest.mark.parametrize("text", ["", "20251231", "%", "_0261101", "2026*", "\udcff", "a\x00b", "' OR 1=1 --"])
def test_find_names_candidates(store: Store, record: Record, text: str) -> None:
    """What names no execution never reaches the only one there is, and the message says which there are."""
    store.save(record())
    with pytest.raises(NoSuchExecution, match=record()["execution_id"]):
        store.find(text)


@pytest.mark.parametrize("text", ["latest", "2026"])
def test_find_without_executions_says_what_to_do(store: Store, text: str) -> None:
    """A new user, or one in another folder, learns where executions are looked for."""
    with pytest.raises(NoSuchExecution, match=r"no executions are listed in .*store\.db.*batchrun list --rebuild"):
        store.find(text)


@pytest.mark.parametrize("text", ["Übung 日本 🎉", "it's; DROP TABLE executions --", "a[b]?c", "line\nbreak", "nul\x00inside", ""])
def test_odd_characters_are_kept(store: Store, record: Record, text: str) -> None:
    """Names and messages are data: none is read as SQL or as a pattern, and none is cut off."""
    store.save(record(job_name=text, error=text, folder=f"/runs/{text}"))
    store.save(record(1, job_name="other"))
    for query in (ExecutionQuery(job=text), ExecutionQuery(job=f"{text}*", limit=10)):
        assert [execution.job_name for execution in store.executions(query)][-1] == text
    found = store.find("20261101T0930")
    assert (found.error, found.folder) == (text, Path(f"/runs/{text}"))


def test_a_name_that_is_no_text_matches_nothing(store: Store, record: Record) -> None:
    """A file name of unknown encoding, given as an argument, ends as an empty list and not as a traceback."""
    store.save(record())
    assert store.executions(ExecutionQuery(job="\udcff*", status=("\udcff",))) == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"created_at": None}, "TypeError"),
        ({"created_at": "yesterday"}, "Invalid isoformat string: 'yesterday'"),
        ({"states": [{"status": "running"}]}, "it has no 'at'"),
        ({"pid": "many"}, "ValueError"),
        ({"pid": 2**63}, "a number is too large"),
        ({"error": "\udcff"}, "surrogates"),
        ({"totals": {"path": Path("/")}}, "not JSON serializable"),
    ],
)
def test_records_that_are_not_complete_are_refused(store: Store, record: Record, wrong: dict[str, Any], said: str) -> None:
    """A record that could not be read back is never stored, whatever is wrong with it."""
    with pytest.raises(StoreError, match=said):
        store.save(record(**wrong))
    assert store.executions() == []


def test_progress_that_is_not_json_is_refused(store: Store, record: Record) -> None:
    """A mistake in the caller's progress is named as such."""
    store.save(record())
    with pytest.raises(StoreError, match=f"progress of execution {record()['execution_id']}"):
        store.beat(record()["execution_id"], {"folder": Path("/")})


def test_remove(several: Store, record: Record) -> None:
    """A removed execution is gone with its job, and comes back as it is saved."""
    several.remove(record(3)["execution_id"])
    assert _minutes(several) == [2, 1, 0]
    several.save({name: value for name, value in record(3).items() if name != "job"})
    assert "job" not in several.find("latest").record


def test_rebuild_replaces_everything(several: Store, record: Record) -> None:
    """After a rebuild the list is what the folders say, and a folder that cannot be read is told instead of spoiling the rest."""
    notes: list[str] = []
    broken = {"format": 1, "folder": "/runs/broken"}
    assert several.rebuild(iter([record(8), broken, record(9, status="completed")]), notes.append) == 2
    assert _minutes(several) == [9, 8]
    assert several.find("latest").record == record(9, status="completed")
    assert notes == [
        "cannot list execution without id, look at execution.json in /runs/broken: it has no 'execution_id'",
    ]


def test_a_rebuild_that_fails_changes_nothing(several: Store, record: Record) -> None:
    """An unreadable runs folder does not cost the list there was."""

    def records() -> Any:
        yield record(8)
        raise OSError("the runs folder is gone")

    with pytest.raises(OSError, match="the runs folder is gone"):
        several.rebuild(records(), print)
    assert _minutes(several) == [3, 2, 1, 0]
    several.save(record(4))
    assert _minutes(several)[0] == 4
