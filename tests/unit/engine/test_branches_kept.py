"""Items with fallbacks and switches that go on where an earlier run left them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import anyio
import orjson
import pytest

from batchrun.core.items import Item, ItemResult, KeptNode, NodeStatus, RestoredItem
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure, NodeOptions, Workflow
from batchrun.engine.item_run import ItemRun
from batchrun.nodes.switch import SwitchNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.compiler import Surroundings, compile_workflow
from tests.unit.engine.small_nodes import ONCE, node, outputs

ENDED: dict[str, NodeStatus] = {"c": "completed", "f": "failed", "s": "skipped"}


def kept(id: str, status: str, output: Any = None) -> KeptNode:
    """What the journal has of a node: that it completed, failed or was skipped."""
    record = (0, ENDED[status], 1, 1_000, 2.5, None, None, None, None, None, False)
    return KeptNode(0, 0, 1, id, record=record, output=orjson.dumps(output))


def restored(*nodes: KeptNode) -> dict[int, RestoredItem]:
    return {0: RestoredItem(1, 0, nodes, {})}


@dataclass
class Chain:
    """n, its fallback f, and the fallback g of that; r reads n. Counts calls."""

    kind: Literal["lanes", "loop"]
    made: Counter[str]

    def nodes(self, failing: str = "", **options: Any) -> list[NodeOptions]:
        links = {"n": FallbackOnFailure(fallback="f"), "f": FallbackOnFailure(fallback="g")}
        return [
            *(self.one(id, failing, **({"on_failure": links[id]} if id in links else options)) for id in "nfg"),
            self.one("r", failing, inputs={"x": "{{ nodes.n.output }}"}),
        ]

    def one(self, id: str, failing: str, **options: Any) -> NodeOptions:
        def call(x: Any = None) -> str:
            self.made[id] += 1
            if id in failing:
                raise ConnectionError(id)
            return f"{id}({x})" if id == "r" else f"{id} now"

        async def call_waiting(x: Any = None) -> str:
            await anyio.lowlevel.checkpoint()
            return call(x)

        return node(id, call if self.kind == "lanes" else call_waiting, **options)


@pytest.fixture(params=["lanes", "loop"])
def chain(request: pytest.FixtureRequest) -> Chain:
    return Chain(request.param, Counter())


def ways(result: ItemResult) -> str:
    """How n, f, g and r ended."""
    found = {record[0]: record[1][0] for record in result.nodes}
    return "".join(found.get(position, "-") for position in range(4))


@pytest.mark.parametrize(
    ("nodes", "failing", "output", "made", "ended"),
    [
        ([kept("n", "c", "then")], "", "r(then)", "r", "cssc"),
        ([kept("n", "c", "then"), kept("f", "s")], "", "r(then)", "r", "cssc"),
        ([kept("n", "c", "then"), kept("f", "s"), kept("g", "s")], "", "r(then)", "r", "cssc"),
        ([kept("n", "f")], "", "r(f now)", "fr", "fcsc"),
        ([kept("n", "f")], "f", "r(g now)", "fgr", "ffcc"),
        ([kept("n", "f"), kept("f", "c", "then")], "", "r(then)", "r", "fcsc"),
        ([kept("f", "c", "then"), kept("n", "f"), kept("g", "s")], "", "r(then)", "r", "fcsc"),
        ([kept("n", "f"), kept("f", "f")], "", "r(g now)", "gr", "ffcc"),
        ([kept("n", "f"), kept("f", "f"), kept("g", "c", "then")], "", "r(then)", "r", "ffcc"),
        ([kept("n", "f"), kept("f", "f"), kept("g", "c", "then"), kept("r", "c", "over")], "", "over", "", "ffcc"),
        ([kept("f", "c", "then")], "", "r(n now)", "nr", "cssc"),
        ([kept("n", "f"), kept("g", "c", "then")], "", "r(f now)", "fr", "fcsc"),
    ],
)
async def test_a_chain_goes_on_where_it_was(chain: Chain, nodes: list[KeptNode], failing: str, output: str, made: str, ended: str) -> None:
    """What ended is not called again, and readers get what they would have got: also where a fallback was skipped."""
    (result,) = await RowRun(nodes=chain.nodes(failing), run=ONCE, restored=restored(*nodes)).results([{}])
    assert (outputs([result]), chain.made, ways(result)) == ([output], Counter(made), ended)


async def test_a_default_of_a_fallback_is_kept_in_both_places(chain: Chain) -> None:
    """A restored failure with a default stands in like a fresh one."""
    state = restored(kept("n", "f"), kept("f", "f"), kept("g", "f", [7]))
    (result,) = await RowRun(nodes=chain.nodes(on_failure=DefaultOnFailure(default=[7])), restored=state).results([{}])
    assert (outputs([result]), chain.made) == (["r([7])"], Counter("r"))


@pytest.mark.parametrize(
    ("stale", "was", "output", "made"),
    [
        ("f", "fcsc", "r(f now)", "fr"),
        ("f", "cssc", "r(then)", "r"),
        ("g", "fcsc", "r(then)", "r"),
        ("g", "ffcc", "r(g now)", "gr"),
        ("n", "fcsc", "r(n now)", "nr"),
        ("r", "fcsc", "r(then)", "r"),
    ],
)
async def test_an_edited_fallback_runs_again_where_it_ran(chain: Chain, stale: str, was: str, output: str, made: str) -> None:
    """What it stood in for is not called again; where it was not needed, it still is not. Readers never see its old output."""
    nodes = [kept(id, status, "then" if status == "c" else None) for id, status in zip("nfgr", was, strict=True)]
    (result,) = await RowRun(nodes=chain.nodes(), restored=restored(*nodes), stale=frozenset(stale)).results([{}])
    assert (outputs([result]), chain.made) == ([output], Counter(made))


@pytest.mark.parametrize(
    ("state", "stale", "output", "made"),
    [
        ([kept("s", "c", "a")], "", {"a": "a now", "b": None}, "a"),
        ([kept("s", "c", "a"), kept("a", "c", "then")], "", {"a": "then", "b": None}, ""),
        ([kept("s", "c", "a"), kept("b", "s")], "", {"a": "a now", "b": None}, "a"),
        ([kept("s", "c", "a"), kept("a", "c", "then"), kept("b", "s")], "s", {"a": None, "b": "b now"}, "b"),
        ([kept("a", "c", "then")], "", {"a": None, "b": "b now"}, "b"),
        ([kept("s", "c")], "", None, ""),
        ([kept("s", "f")], "", None, ""),
    ],
    ids=["chosen", "begun", "skipped", "edited", "switch not kept", "nothing chosen", "failed"],
)
async def test_a_choice_is_kept_until_its_switch_is_edited(chain: Chain, state: list[KeptNode], stale: str, output: Any, made: str) -> None:
    """The item goes on in the branch it took, although its switch might choose another one now."""
    switch = SwitchNode(id="s", on="{{ item.x }}", cases={"a": "a", "b": "b"}, on_failure="continue")
    a, b = (chain.one(id, "") for id in "ab")
    row_run = RowRun(nodes=[switch, a, b], restored=restored(*state), stale=frozenset(stale))
    (result,) = await row_run.results([{"x": "b"}])
    assert (outputs([result]), chain.made) == ([output], Counter(made))
    assert result.status == ("completed" if output else "skipped")


@dataclass
class Price:
    amount: Decimal


def priced(made: list[str], price: Any) -> list[NodeOptions]:
    """A node that fails, a fallback that gives a price, and two nodes after them, one of which takes its time."""

    async def fails() -> Price:
        made.append("n")
        raise ValueError("no")

    async def slow(price: Any) -> None:
        await anyio.sleep(1)

    async def use(price: Price) -> str:
        return str(price.amount)

    inputs = {"price": "{{ nodes.n.output }}"}
    return [
        node("n", fails, on_failure=FallbackOnFailure(fallback="f")),
        node("f", price),
        node("slow", slow, inputs=inputs),
        node("use", use, inputs=inputs, needs=("slow",)),
    ]


@pytest.mark.parametrize("recording", ["full", "summary", "none"])
def test_what_is_kept_of_a_failed_node_is_that_it_failed(recording: Any) -> None:
    """The output of its fallback is kept with the fallback, in its own type; the item goes on with that."""
    made: list[str] = []

    async def price() -> Price:
        made.append("f")
        return Price(Decimal("1.50"))

    journal, notes = ListJournal(), list[str]()
    run = RowRun(nodes=priced(made, price), run=ONCE, recording=recording, journal=journal, on_note=notes.append)
    first = run.results_virtually([{}])
    assert {entry.node_id: (entry.record and entry.record[1], entry.output) for entry in journal.entries} == {
        "n": ("failed", b"null"),
        "f": ("completed", b'{"amount":"1.50"}'),
    }
    second = RowRun(nodes=priced(made, price), restored=journal.restored()).results_virtually([{}])
    assert [outputs(results)[0] for results in (first, second)] == ["1.50", "1.50"]
    assert (made, notes) == (["n", "f"], [])


def test_an_output_that_cannot_be_kept_makes_only_the_fallback_run_again() -> None:
    """The node that failed before it has failed for good, and nothing is said of its outputs."""
    made: list[str] = []

    async def price() -> Any:
        made.append("f")
        return Price(Decimal(2))

    journal, notes = ListJournal(), list[str]()
    RowRun(nodes=priced(made, price), run=ONCE, journal=journal, on_note=notes.append).results_virtually([{}])
    second = RowRun(nodes=priced(made, price), restored=journal.restored()).results_virtually([{}])
    assert outputs(second)[0] == "2"
    assert made == ["n", "f", "f"]
    assert [note.partition(":")[0] for note in notes] == ["node f"]


async def test_a_failed_item_keeps_the_way_it_took(chain: Chain) -> None:
    """What a retry of it, or a resume with changed code, goes on from."""
    journal = ListJournal()
    await RowRun(nodes=chain.nodes("nr"), run=ONCE, journal=journal).results([{}])
    found = {entry.node_id: (entry.record and entry.record[1], entry.output) for entry in journal.entries}
    assert found == {"n": ("failed", b"null"), "f": ("completed", b'"f now"'), "g": ("skipped", b"null")}


def test_undoing_an_end_leaves_nothing_of_it() -> None:
    """A call that is abandoned just as it ends is settled anew: neither a failure nor a skip of it may show in what follows."""
    plan = compile_workflow(Workflow(nodes=(node("a", int), node("b", int))), Surroundings(columns=()))
    first, second = plan.steps
    for end in (lambda run: run.end_with(first, 1), lambda run: run.fail_with(first, 1), lambda run: run.skip(first)):
        run = ItemRun(Item(0, 0, 0, {}, None, 0), 2)  # type: ignore[arg-type]
        run.fail_with(second, None)
        end(run)
        run.kept |= first.bit | second.bit
        run.records += [(0, "completed"), (1, "failed")]  # type: ignore[list-item]
        run.undo(first)
        assert (run.done, run.failed, run.skipped, run.kept) == (second.bit, second.bit, 0, second.bit)
        assert [record[0] for record in run.records] == [1]
