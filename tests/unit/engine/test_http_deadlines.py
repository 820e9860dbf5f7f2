from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from batchrun.core.job import NodeOptions, Resource, Run
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.nodes.http import HttpNode, HttpRequest
from batchrun.testing.loopback import LoopbackServer, json_answer
from batchrun.testing.rows import RowRun
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope

SOON = Backoff(initial_seconds=0, max_seconds=0)
RETRY_TIMEOUTS = RetryRule(match=Match(error_type="Timeout"), action="retry")


@pytest.mark.parametrize(
    ("method", "idempotent", "node_rules", "run_rules", "sent"),
    [
        ("POST", None, (), (), 1),
        ("POST", None, (), (RETRY_TIMEOUTS,), 1),
        ("POST", None, (RETRY_TIMEOUTS,), (), 2),
        ("POST", True, (), (), 2),
        ("GET", None, (), (), 2),
    ],
)
async def test_a_request_in_doubt_is_only_sent_again_when_the_job_says_so(
    method: str, idempotent: bool | None, node_rules: tuple[RetryRule, ...], run_rules: tuple[RetryRule, ...], sent: int
) -> None:
    """A POST without an answer may have done its work: doing it twice is the author's decision, not ours."""
    with LoopbackServer(lambda _received: json_answer(1, held=True)) as server:
        call = HttpNode(
            id="call",
            resource="api",
            request=HttpRequest(method=method, path="/"),
            idempotent=idempotent,
            timeout_seconds=1,
            retry=Retry(max_attempts=2, backoff=SOON, rules=node_rules) if node_rules else None,
        )
        run = Run(retry=Retry(max_attempts=2, backoff=SOON, rules=run_rules))
        (result,) = await RowRun(nodes=[call], run=run, resources={"api": Resource(base_url=server.url)}).results([{"n": 1}])
        server.wait_until(lambda server: len(server.requests) >= sent)
        assert len(server.requests) == sent
        server.release(sent)
    assert result.error is not None
    assert (result.status, result.error.type, result.attempts) == ("failed", "Timeout", sent)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuingNode(NodeOptions):
    """Waits for its turn for 100 s, then works for 3 s."""

    type: str = "queuing"

    def bind(self, compiler: NodeCompiler) -> NodeCall:
        async def call(scope: Scope) -> str:
            await anyio.sleep(100)
            scope.sending(in_doubt=False)
            await anyio.sleep(3)
            return "done"

        return NodeCall(call=call, waits=True, queues=True)


def test_waiting_for_a_turn_is_part_of_neither_deadline() -> None:
    """Items at the end of a service's queue have the same time as those at its beginning."""
    node = QueuingNode(id="call", timeout_seconds=5)
    (result,) = RowRun(nodes=[node], run=Run(item_timeout_seconds=10)).results_virtually([{"n": 1}])
    assert (result.status, result.nodes[0][4]) == ("completed", pytest.approx(3_000))
    late = QueuingNode(id="call", timeout_seconds=2, retry=Retry(max_attempts=1))
    (result,) = RowRun(nodes=[late]).results_virtually([{"n": 1}])
    assert (result.status, result.nodes[0][4]) == ("failed", pytest.approx(2_000))
