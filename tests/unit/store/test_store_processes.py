from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchrun.store import Store

Record = Callable[..., dict[str, Any]]

_WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from batchrun.store import Store

home, number = Path(sys.argv[1]), int(sys.argv[2])
created = (datetime(2026, 11, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat()
record = {
    "execution_id": f"id-{number}", "job_name": "j", "status": "running", "folder": "/f", "created_at": created,
    "states": [], "job": {"text": "x" * 5000},
}
sys.stdin.readline()
store = Store.open(home)
for update in range(100):
    store.save({**record, "step": update})
    assert store.beat(record["execution_id"], {"processed_items": update})
    assert store.find(record["execution_id"]).record["step"] == update
store.close()
print("done")
"""


def _start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_many_processes_write_at_once(home: Path) -> None:
    """Several runners of one machine share the list: each makes, reads and writes it at the same time, and none is turned away."""
    writers = [_start(_WRITER, home, number) for number in range(4)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    ended = [writer.communicate() for writer in writers]
    assert [(out.strip(), err) for out, err in ended] == [("done", "")] * 4
    with Store.open(home) as store:
        listed = store.executions()
    assert [(execution.id, execution.record["step"], execution.progress) for execution in listed] == [
        (f"id-{number}", 99, {"processed_items": 99}) for number in (3, 2, 1, 0)
    ]


_KILLED = """
import os, signal, sys
from pathlib import Path
from batchrun.store import Store

def records():
    for number in range(1000):
        yield {"execution_id": f"id-{number}", "job_name": "j", "status": "running", "folder": "/f",
               "created_at": "2026-11-01", "job": "x" * 9000}
    os.kill(os.getpid(), signal.SIGKILL)

store = Store.open(Path(sys.argv[1]))
store.beat(sys.argv[2], {"processed_items": 19})
store.rebuild(records(), print)
"""


def test_a_killed_process_leaves_a_sound_list(store: Store, record: Record) -> None:
    """A process killed in the middle of a large write leaves the list as it was before, and not locked."""
    store.save(record())
    execution_id = record()["execution_id"]
    killed = _start(_KILLED, store.path.parent, execution_id)
    assert killed.communicate() == ("", "")
    assert killed.returncode == -9
    assert [(execution.id, execution.progress) for execution in store.executions()] == [(execution_id, {"processed_items": 19})]
    assert store.beat(execution_id, {"processed_items": 20}) is True
