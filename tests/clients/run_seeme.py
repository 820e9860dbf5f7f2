"""Executes workflows of the service at argv[1] with seeme and prints what its client saw, as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from seeme import Client
from seeme.types import InputMode, WorkflowExecution, WorkflowExecutionRequest


def ended(client: Client, execution_id: str) -> WorkflowExecution:
    while (execution := client.get_workflow_execution("w", execution_id)).status in {"pending", "running"}:
        pass
    return execution


def executed(client: Client, text: str) -> WorkflowExecution:
    request = WorkflowExecutionRequest(input_mode=InputMode.SINGLE, single_input=text)
    return ended(client, client.execute_workflow_async("w", request).execution_id)


def main(base_url: str) -> dict[str, object]:
    client = Client(username="user", apikey="key", backend=base_url, env_file="")
    completed, failed = executed(client, "hello"), executed(client, "script:failed")
    never = WorkflowExecutionRequest(input_mode=InputMode.SINGLE, single_input="script:never")
    pinned = client.execute_workflow_version_async("w", "v2", never).execution_id
    client.cancel_workflow_execution("w", pinned)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "input.txt").write_text("from a file")
        with_file = ended(client, client.execute_workflow_async_with_file("w", folder, "input.txt").execution_id)
        client.download_workflow_execution_input_file("w", with_file.id, f"{folder}/back.txt")
        back = (Path(folder) / "back.txt").read_text()
    cancelled = ended(client, pinned)
    return {
        "completed": [completed.status, completed.results[0].output],
        "failed": [failed.status, failed.error],
        "cancelled": [cancelled.status, cancelled.workflow_version_id],
        "file": [with_file.status, with_file.input_file_name, back],
        "rerun": ended(client, client.rerun_workflow_execution("w", completed.id).execution_id).status,
        "listed": len(client.get_workflow_executions("w")),
    }


json.dump(main(sys.argv[1]), sys.stdout)
