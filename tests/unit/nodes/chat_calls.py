"""`chat` nodes, bound by the real compiler, and services that answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from batchrun.core.job import NodeOptions, Resource, Run, Workflow
from batchrun.core.prices import Price
from batchrun.nodes.chat import ChatNode
from batchrun.nodes.chat_messages import ChatMessage
from batchrun.testing.loopback import Answer, Received, json_answer
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

ASK = (ChatMessage(role="user", content="{{ item.text }}"),)


def planned(node: NodeOptions, *, url: str = "http://127.0.0.1:9/v1", run: Run | None = None, **prices: Price) -> Plan:
    around = Surroundings(
        columns=("id", "text", "chat"),
        vars={"model": "small"},
        resources={"llm": Resource(base_url=url), "bare": Resource()},
        run=run or Run(),
        prices=prices,
    )
    return compile_workflow(Workflow(nodes=(node,)), around)


@asynccontextmanager
async def opened(plan: Plan) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        for lifespan in plan.lifespans:
            await stack.enter_async_context(lifespan())
        yield


async def ask(node: ChatNode, url: str, inputs: Mapping[str, Any] | None = None, **item: Any) -> Any:
    """The node's output for one item, called as the engine would."""
    plan = planned(node, url=f"{url}/v1")
    scope = Scope(item, [None])
    step = plan.steps[0]
    async with opened(plan):
        scope.inputs = step.inputs(scope) if inputs is None else dict(inputs)
        scope.call_key = "key-1"
        return await step.call(scope)


def chat(**options: Any) -> ChatNode:
    return ChatNode(**{"id": "ask", "resource": "llm", "model": "{{ vars.model }}", "messages": ASK, **options})


def answering(*contents: Any, **choice: Any) -> Callable[[Received], Answer]:
    """A service that says these one after another."""
    left = list(contents)

    def handler(_received: Received) -> Answer:
        content = left.pop(0) if len(left) > 1 else left[0]
        message = content if isinstance(content, dict) else {"role": "assistant", "content": content}
        return json_answer(
            {"choices": [{"message": message, "finish_reason": "stop", **choice}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
        )

    return handler
