"""Ctrl-C while a service is out of order: nothing was sent that could be waited for."""

from __future__ import annotations

import signal
import time

import pytest

from batchrun.client import Execution
from batchrun.testing.faulty_service import Faults, FaultyService
from tests.e2e.conftest import Project, ended
from tests.e2e.held import until

ITEMS = 80
GRACE_SECONDS = 90
NODES = {
    "http": '{id: ask, type: http, resource: api, request: {path: "/ask/{{ item.id }}"}}',
    "chat": '{id: ask, type: chat, resource: api, model: m, messages: [{role: user, content: "{{ item.id }}"}]}',
    "embed": '{id: ask, type: chat, resource: api, model: m, embed: "item {{ item.id }}", batch: {max_items: 4}}',
    "remote": "{id: ask, type: remote, preset: noxus, resource: api, workflow: wf_1, on_lost_submit: resubmit, "
    'payload: {item: "{{ item.id }}"}, poll: {initial_seconds: 0.05, max_seconds: 0.2}}',
}
JOB = """\
name: stopped
dataset: {path: data.parquet, id: id}
resources: {api: {base_url: "%s", max_concurrency: 4, breaker: {failures: 3, probe_initial_seconds: 60, probe_max_seconds: 60}}}
workflow: {nodes: [%s]}
run: {parallelism: 16, grace_seconds: %d, retry: {backoff: {initial_seconds: 0.05, max_seconds: 0.2}}}
"""


@pytest.mark.parametrize("kind", NODES)
def test_a_stop_in_an_outage_ends_at_once_and_a_resume_completes_all(project: Project, kind: str) -> None:
    """Items that are parked are not done, whatever is asked of the service; none of them fails, and none is asked for twice."""
    path = {"http": "", "remote": "/noxus"}.get(kind, "/v1")
    with FaultyService(Faults(latency_seconds=0.05)) as service:
        project.write("job.yaml", JOB % (service.url + path, NODES[kind], GRACE_SECONDS))
        project.table("data.parquet", {"id": range(ITEMS)})
        process = project.start("run", "job.yaml")
        until(lambda: service.seen().count >= 8)
        service.set_faults(Faults(outages=((0, 10_000),)))
        until(lambda: bool(project.executions) and _is_parked(project))
        process.send_signal(signal.SIGINT)
        asked_at = time.monotonic()
        stopped = ended(process)
        assert time.monotonic() - asked_at < GRACE_SECONDS / 2
        assert stopped.code == 130, stopped.err
        assert (project.record["status"], project.counters["failed_items"]) == ("paused", 0)
        service.set_faults(Faults())
        resumed = project.batchrun("resume", "latest")
        assert resumed.code == 0, resumed.err
    assert project.counters["completed_items"] == ITEMS


def _is_parked(project: Project) -> bool:
    resources = Execution(project.executions[0]).progress.resources
    return bool(resources) and resources["api"]["parked_at"] is not None and resources["api"]["in_flight"] == 0
