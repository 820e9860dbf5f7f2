"""Items that take different ways: switches, and nodes that run in the place of failed ones."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import anyio
import pytest

from batchrun.core.items import ItemResult
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure, NodeOptions, Run, Workflow
from batchrun.core.policies import Match, Retry, RetryRule
from batchrun.nodes.switch import SwitchNode
from batchrun.testing.rows import RowRun
from tests.unit.engine.small_nodes import ONCE, SOON, node, outputs


class Nodes:
    """Makes nodes that count their calls. Which of them wait on the event loop goes by the number they are made with."""

    def __init__(self, waits: Callable[[int], bool]) -> None:
        self.made: Counter[str] = Counter()
        self._waits = waits
        self._count = 0

    def node(self, id: str, *sources: str, fails: Callable[[Any], bool] = lambda _n: False, **options: Any) -> NodeOptions:
        """A node that gives its id and what it was given; `fails` says for which items it fails."""

        def call(item: Any, **given: Any) -> Any:
            self.made[id] += 1
            if fails(item):
                raise ConnectionError(id)
            return f"{id}({','.join(str(each) for each in given.values())})"

        async def call_waiting(item: Any, **given: Any) -> Any:
            await anyio.lowlevel.checkpoint()
            return call(item, **given)

        self._count += 1
        inputs = {"item": "{{ item.n }}", **{source: f"{{{{ nodes.{source}.output }}}}" for source in sources}}
        return node(id, call_waiting if self._waits(self._count) else call, inputs=inputs, **options)


@pytest.fixture(params=["lanes", "loop", "odd", "even"])
def nodes(request: pytest.FixtureRequest) -> Nodes:
    """Nodes in one stretch, nodes that all wait, and both in turn."""
    return Nodes(
        {"lanes": lambda _: False, "loop": lambda _: True, "odd": lambda n: n % 2 == 1, "even": lambda n: n % 2 == 0}[request.param]
    )


def to(fallback: str) -> FallbackOnFailure:
    return FallbackOnFailure(fallback=fallback)


def switch(id: str, on: str = "{{ item.n }}", *, default: str | None = None, **cases: str) -> SwitchNode:
    return SwitchNode(id=id, on=on, cases={case.removeprefix("_"): chosen for case, chosen in cases.items()}, default=default)


def ways(result: ItemResult, *made: NodeOptions) -> dict[str, str]:
    """How each node ended."""
    return {made[record[0]].id: record[1][0] for record in result.nodes}


async def run(*made: NodeOptions, n: Sequence[Any] = (0,), output: Any = None, policy: Run = ONCE) -> list[ItemResult]:
    return await RowRun(workflow=Workflow(nodes=made, output=output), run=policy).results([{"n": each} for each in n])


async def test_a_fallback_runs_where_its_node_failed_and_gives_its_output(nodes: Nodes) -> None:
    """Readers get the output of whichever of the two worked, after both are settled; items that need no fallback make no call of it."""
    made = (nodes.node("r", "n"), nodes.node("f"), nodes.node("n", fails=lambda n: n % 2, on_failure=to("f")), nodes.node("last", "r"))
    results = await run(*made, n=range(40))
    assert outputs(results) == ["last(r(n()))", "last(r(f()))"] * 20
    assert nodes.made == {"n": 40, "f": 20, "r": 40, "last": 40}
    assert [ways(result, *made) for result in results[:2]] == [
        {"n": "c", "f": "s", "r": "c", "last": "c"},
        {"n": "f", "f": "c", "r": "c", "last": "c"},
    ]


@pytest.mark.parametrize(
    ("failing", "output", "ends"),
    [
        ("", "r(n())", "c s s"),
        ("n", "r(f())", "f c s"),
        ("nf", "r(g())", "f f c"),
        ("nfg", None, "f f f"),
    ],
)
@pytest.mark.parametrize("order", ["nfgr", "rgfn"])
async def test_a_chain_goes_on_until_one_of_it_works(nodes: Nodes, failing: str, output: str | None, ends: str, order: str) -> None:
    """The first that works stands in for all before it; where none does, the item fails with the last error, and all of them are told."""
    links = {"n": to("f"), "f": to("g"), "g": "stop"}
    by_id = {id: nodes.node(id, fails=lambda _n, id=id: id in failing, on_failure=links[id]) for id in "nfg"}
    by_id["r"] = nodes.node("r", "n")
    made = [by_id[id] for id in order]
    (result,) = await run(*made)
    assert outputs([result]) == [output]
    found = ways(result, *made)
    assert " ".join(found[id] for id in "nfg") == ends
    assert nodes.made == Counter(["n", *("f" if "n" in failing else ""), *("g" if "nf" in failing else ""), *("r" if output else "")])
    if output is None:
        assert result.error is not None
        assert (result.status, result.error.node_id, result.error.message) == ("failed", "g", "g")
        errors = {made[record[0]].id: record[7].message for record in result.nodes if record[7] is not None}
        assert errors == {"n": "n", "f": "f", "g": "g"}


@pytest.mark.parametrize(("on_failure", "output"), [("continue", "r(None)"), (DefaultOnFailure(default=7), "r(7)")])
async def test_a_fallback_that_fails_can_go_on_with_null_or_a_default(nodes: Nodes, on_failure: Any, output: str) -> None:
    """What its own on_failure says stands in the place of the node it ran for."""
    made = (nodes.node("n", fails=lambda n: True, on_failure=to("f")), nodes.node("f", fails=lambda n: True, on_failure=on_failure))
    (result,) = await run(*made, nodes.node("r", "n"))
    assert (outputs([result]), ways(result, *made, made[0])["f"]) == ([output], "f")


async def test_a_fallback_sees_what_its_node_saw_and_that_it_gave_nothing(nodes: Nodes) -> None:
    """It can work from the same sources; the node that failed is null to it, and still no other node's source."""
    made = (
        nodes.node("src"),
        nodes.node("n", "src", fails=lambda n: n, on_failure=to("f")),
        nodes.node("f", "src", "n"),
        nodes.node("r", "n", "f"),
    )
    assert outputs(await run(*made, n=(0, 1))) == ["r(n(src()),None)", "r(f(src(),None),f(src(),None))"]


@pytest.mark.parametrize(
    ("rules", "made", "attempts"),
    [
        ((), {"n": 3, "f": 1}, (3, 3)),
        ((RetryRule(match=Match(error_type="ConnectionError"), action="fail"),), {"n": 1, "f": 1}, (1, 1)),
        ((RetryRule(match=Match(error_type="ConnectionError"), action="stop"),), {"n": 1}, (1, 1)),
    ],
    ids=["retry", "fail", "stop"],
)
async def test_retry_rules_come_before_the_fallback(nodes: Nodes, rules: Any, made: dict[str, int], attempts: tuple[int, int]) -> None:
    """A fallback is for a node that has failed for good: neither for a call that is tried again, nor for an execution that stops."""
    tried = nodes.node("n", fails=lambda n: True, on_failure=to("f"))
    policy = Run(retry=Retry(max_attempts=3, backoff=SOON.backoff, rules=rules))
    (result,) = await run(tried, nodes.node("f"), policy=policy)
    assert (nodes.made, result.attempts, result.nodes[0][2]) == (made, *attempts)
    assert result.status == ("cancelled" if "f" not in made else "completed")


async def test_a_fallback_has_attempts_of_its_own(nodes: Nodes) -> None:
    """The calls its node used up are not taken from it."""
    tried = nodes.node("n", fails=lambda n: True, on_failure=to("f"), retry=Retry(max_attempts=2, backoff=SOON.backoff))
    (result,) = await run(tried, nodes.node("f", fails=lambda n: True), policy=Run(retry=SOON))
    assert (nodes.made, result.attempts, [record[2] for record in result.nodes]) == ({"n": 2, "f": 3}, 4, [2, 3])


async def test_a_when_that_fails_and_a_call_that_hangs_lead_to_the_fallback(nodes: Nodes) -> None:
    """However a node fails. One whose condition is false has not failed."""
    odd = nodes.node("n", on_failure=to("f"), when="{{ item.n.x > 1 }}")
    results = await run(odd, nodes.node("f"), n=(0, {"x": 1}, {"x": 2}))
    assert [result.status for result in results] == ["completed", "skipped", "completed"]
    assert outputs(results) == ["f()", None, "n()"]
    forever = threading.Event()
    hangs = node("n", forever.wait, on_failure=to("f"), timeout_seconds=0.05)
    try:
        results = await run(hangs, nodes.node("f"), nodes.node("r", "n"))
    finally:
        forever.set()
    assert outputs(results) == ["r(f())"]


async def test_branches_meet_again(nodes: Nodes) -> None:
    """A join reads whichever branch ran; what was not chosen is null to it."""
    made = (
        nodes.node("join", "b", "a2"),
        nodes.node("a"),
        switch("s", _0="a", _1="b"),
        nodes.node("a2", "a"),
        nodes.node("b"),
        nodes.node("end", "join"),
    )
    results = await run(*made, n=(0, 1, 2) * 9)
    assert outputs(results) == ["end(join(None,a2(a())))", "end(join(b(),None))", None] * 9
    assert [result.status for result in results[:3]] == ["completed", "completed", "skipped"]
    assert nodes.made == {"a": 9, "a2": 9, "b": 9, "join": 18, "end": 18}
    assert ways(results[1], *made) == {"s": "c", "a": "s", "a2": "s", "b": "c", "join": "c", "end": "c"}


async def test_skips_spread_as_far_as_nothing_else_is_read(nodes: Nodes) -> None:
    """A node all of whose sources were skipped is skipped, with its fallback, its switch and what that chooses."""
    made = (
        switch("s", _1="a"),
        nodes.node("a", fails=lambda n: False, on_failure=to("f")),
        nodes.node("f"),
        switch("t", "{{ nodes.a.output }}", x="free", default="c"),
        nodes.node("c"),
        nodes.node("free"),
        nodes.node("after", "c", "free"),
        nodes.node("told", needs=("s", "c")),
    )
    results = await run(*made, n=(0, 1), output="{{ nodes.c.output }}")
    assert [result.status for result in results] == ["skipped", "completed"]
    assert ways(results[0], *made) == {"s": "c", "a": "s", "f": "s", "t": "s", "c": "s", "free": "s", "after": "s", "told": "c"}
    assert ways(results[1], *made) == {"s": "c", "a": "c", "f": "s", "t": "c", "c": "c", "free": "s", "after": "c", "told": "c"}


async def test_a_node_that_two_switches_name_runs_when_either_chooses_it(nodes: Nodes) -> None:
    """And once when both do; its own when still counts."""
    made = (switch("s", _1="a", _3="a"), switch("t", _2="a", default="b", _3="a"), nodes.node("a"), nodes.node("b"))
    results = await run(*made, n=(0, 1, 2, 3))
    found = [ways(result, *made) for result in results]
    assert [(each["a"], each["b"]) for each in found] == [("s", "c"), ("c", "c"), ("c", "s"), ("c", "s")]
    assert nodes.made == {"a": 3, "b": 2}
    picky = (*made[:2], nodes.node("a", when="{{ item.n == 3 }}"), made[3])
    assert [ways(result, *picky)["a"] for result in await run(*picky, n=(1, 3))] == ["s", "c"]


class Touchy:
    """Can be compared with nothing."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("do not touch")

    __hash__ = None  # type: ignore[assignment]

    def model_dump(self) -> str:
        return "a"


class Id(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("on_failure", "given", "chosen"),
    [
        ("continue", None, ""),
        (DefaultOnFailure(default="b"), None, "b"),
        (DefaultOnFailure(default=["b"]), None, ""),
        (to("f"), "b", "b"),
        (to("f"), Id("a"), "a"),
        (to("f"), "nowhere", ""),
        (to("f"), None, ""),
        (to("f"), Touchy(), ""),
    ],
    ids=["continue", "default", "odd default", "fallback", "text of a kind", "other text", "null", "touchy"],
)
async def test_a_switch_that_fails_chooses_what_stands_in_its_place(nodes: Nodes, on_failure: Any, given: Any, chosen: str) -> None:
    """Null chooses nothing; a default and a fallback may name a node, and whatever else they give chooses nothing and breaks nothing."""
    failing = SwitchNode(id="s", on="{{ item.n.x }}", cases={"x": "a"}, default="b", on_failure=on_failure)
    made: tuple[NodeOptions, ...] = (nodes.node("a"), nodes.node("b"), failing)
    if isinstance(on_failure, FallbackOnFailure):
        made = (*made, node("f", lambda: given))
    (result,) = await run(*made, output={id: f"{{{{ nodes.{id}.output }}}}" for id in "ab"})
    assert outputs([result]) == [{id: f"{id}()" if id == chosen else None for id in "ab"} if chosen else None]
    assert nodes.made == Counter(chosen)


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
async def test_the_row_of_a_failed_item_does_not_mix_up_who_gave_what(nodes: Nodes, recording: Any) -> None:
    """The output of a fallback is that of the fallback; the node that failed had none."""
    made = (
        nodes.node("n", fails=lambda n: True, on_failure=to("f")),
        nodes.node("f"),
        nodes.node("bad", "n", fails=lambda n: True),
    )
    (result,) = await RowRun(nodes=made, run=ONCE, recording=recording).results([{"n": 0}])
    assert result.status == "failed"
    assert {made[record[0]].id: (record[1], record[6]) for record in result.nodes} | {"bad": ("failed", None)} == {
        "n": ("failed", None),
        "f": ("completed", b'"f()"'),
        "bad": ("failed", None),
    }
