"""Runs workflows of the service at argv[1] with eigenpal 0.5 and prints what its client saw, as JSON."""

from __future__ import annotations

import json
import sys

from eigenpal import EigenpalClient


def main(base_url: str) -> dict[str, object]:
    with EigenpalClient(api_key="key", base_url=base_url) as client:
        completed = client.workflows.executions.run_and_wait("w", {"text": "hello"}, poll_interval_seconds=0)
        failed = client.workflows.executions.run_and_wait("w", {"script": "failed"}, poll_interval_seconds=0)
        rejected = client.workflows.executions.run_and_wait("w", {"script": "rejected"}, poll_interval_seconds=0)
        started = client.workflows.run("w", {"script": "never"}, version="v2")
        cancelled = client.workflows.executions.cancel(started.execution_id)
        file = {"content": b"content", "filename": "input.txt", "mime_type": "text/plain"}
        with_file = client.workflows.executions.run_and_wait("w", {"document": file, "n": 1}, poll_interval_seconds=0)
        held = client.workflows.run("w", {"n": 2}, wait_for_completion=5)
        return {
            "completed": [completed["status"], completed["result"]],
            "failed": [failed["status"], failed["error"]],
            "rejected": rejected["status"],
            "cancelled": cancelled.status.value,
            "held": held.result,
            "file": with_file["status"],
            "listed": len(client.workflows.executions.list("w", status=["completed", "failed"]).data),
        }


json.dump(main(sys.argv[1]), sys.stdout)
