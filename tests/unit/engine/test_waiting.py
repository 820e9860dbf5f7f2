"""Items that wait for a person."""

from __future__ import annotations

from typing import Any

import anyio
import orjson
import pytest

from batchrun.core.executions import Stop
from batchrun.core.items import ItemResult, KeptNode, RestoredItem
from batchrun.core.job import DefaultOnFailure, FallbackOnFailure, NodeOptions, Run
from batchrun.core.policies import Backoff, Budget, Match, Retry, RetryRule
from batchrun.flow.budget import Spending, Spent
from batchrun.nodes.approval import ApprovalNode
from batchrun.nodes.switch import SwitchNode
from batchrun.nodes.template import TemplateNode
from batchrun.testing.rows import ListJournal, RowRun
from batchrun.workflows.decisions import Decision, digest
from tests.unit.engine.small_nodes import ONCE, node

N = {"n": "{{ item.n }}"}
DRAFT = TemplateNode(id="draft", template="draft {{ item.n }}")
SEND = TemplateNode(id="send", template="sent {{ nodes.ok.output }}")
NO = Decision(is_approved=False, reason="no")
YES = Decision(is_approved=True)


def ask(id: str = "ok", output: str = "{{ nodes.draft.output }}", **options: Any) -> ApprovalNode:
    return ApprovalNode(id=id, output=output, **options)


def after(decision: Decision, *entries: KeptNode, about: bytes = b'"draft 1"', node_id: str = "ok") -> dict[int, RestoredItem]:
    """Where the first row goes on once a person has decided."""
    checkpoint = orjson.dumps(decision._replace(about=digest(about))._asdict())
    decided = KeptNode(0, 0, 1, node_id, checkpoint=checkpoint, epoch=2)
    return {0: RestoredItem(1, 0, (*(entry._replace(epoch=1) for entry in entries if entry.node_id != node_id), decided), {})}


def one(nodes: list[NodeOptions], **options: Any) -> ItemResult:
    (result,) = RowRun(nodes=nodes, **({"run": ONCE} | options)).results_virtually([{"n": 1}])
    return result


def statuses(result: ItemResult) -> dict[int, str]:
    return {record[0]: record[1] for record in result.nodes}


def test_an_item_waits_while_others_go_on() -> None:
    """What was done so far and what the person is shown are in the journal; no row is held up."""
    journal = ListJournal()
    rows = [{"n": n} for n in range(3)]
    run = RowRun(nodes=[DRAFT, ask(when="{{ item.n == 1 }}"), SEND], run=ONCE, journal=journal)
    results = anyio.run(run.results, rows)
    assert [result.status for result in results] == ["skipped", "waiting", "skipped"]
    assert results[1].output is None and results[1].error is None
    kept = {entry.node_id: entry for entry in journal.entries if entry.ordinal == 1}
    assert (kept["draft"].output, kept["ok"].output) == (b'"draft 1"', b'"draft 1"')
    assert kept["ok"].record is not None and kept["ok"].record[1] == "waiting"


@pytest.mark.parametrize(
    ("decision", "options", "status", "output"),
    [
        (YES, {}, "completed", "sent draft 1"),
        (YES._replace(has_output=True, output="better"), {}, "completed", "sent better"),
        (NO, {}, "failed", None),
        (NO, {"on_failure": "continue"}, "completed", "sent "),
        (NO, {"on_failure": DefaultOnFailure(default="a default")}, "completed", "sent a default"),
        (NO, {"on_failure": FallbackOnFailure(fallback="instead")}, "completed", "sent instead"),
    ],
)
def test_a_decided_item_goes_on_as_the_job_says(decision: Decision, options: dict[str, Any], status: str, output: str | None) -> None:
    """A rejection is a failure like others: what the job says under on_failure holds for it."""
    instead = [TemplateNode(id="instead", template="instead")] if "fallback" in str(options) else []
    result = one([DRAFT, ask(**options), *instead, SEND], restored=after(decision), journal=ListJournal())
    assert (result.status, result.output) == (status, output)
    if status == "failed":
        assert result.error is not None
        assert result.error[:4] == ("Rejected", "rejected: no", "ok", False)
        assert result.error.traceback is None


@pytest.mark.parametrize("action", ["retry", "throttle", "fail"])
def test_no_retry_rule_asks_a_person_again(action: Any) -> None:
    """A rule for all errors would otherwise make the node fail over and over, with a backoff each time."""
    retry = Retry(
        max_attempts=5, backoff=Backoff(initial_seconds=1), rules=(RetryRule(match=Match(error_type="NodeError"), action=action),)
    )
    result = one([DRAFT, ask(), SEND], run=Run(retry=retry), restored=after(NO), journal=ListJournal())
    assert (result.status, result.attempts) == ("failed", 1)
    assert result.nodes[1][2] == 1


def test_what_has_changed_since_is_asked_about_again() -> None:
    """A node before it may give something else when it is run again: an approval of the old text is none of the new one."""
    result = one([DRAFT, ask(), SEND], restored=after(YES, about=b'"draft 2"'), journal=ListJournal())
    assert result.status == "waiting"


def test_all_that_can_run_without_the_person_runs_first() -> None:
    """A person may take days: the branches beside the question should not begin only then."""
    made = []

    async def count(n: int) -> int:
        await anyio.lowlevel.checkpoint()
        made.append(n)
        return n + 1

    beside = [node("b", count, inputs=N), node("c", count, inputs={"n": "{{ nodes.b.output }}"})]
    result = one([ask(output="{{ item.n }}"), *beside, SEND])
    assert (result.status, made) == ("waiting", [1, 2])


def test_an_item_that_fails_beside_the_question_fails() -> None:
    """Nobody should be asked about an item that has failed: neither its status nor its nodes wait."""

    async def fail(n: int) -> int:
        raise ValueError(n)

    async def later(n: int) -> int:
        await anyio.sleep(1)
        raise ValueError(n)

    for call in (fail, later):
        result = one([ask(output="{{ item.n }}"), node("b", call, inputs=N)], journal=ListJournal())
        assert result.status == "failed"
        assert "waiting" not in statuses(result).values()


def test_a_node_beside_the_question_that_may_fail_does_not_end_it() -> None:
    """The item still waits; what failed beside it has failed."""

    def fail(n: int) -> int:
        raise ValueError(n)

    result = one([ask(output="{{ item.n }}"), node("b", fail, inputs=N, on_failure="continue")])
    assert (result.status, statuses(result)) == ("waiting", {0: "waiting", 1: "failed"})


def test_two_questions_are_asked_one_after_the_other() -> None:
    """The answer to the first one is kept while the item waits for the second."""
    nodes = [
        DRAFT,
        ask(),
        ask("again", output="{{ item.n }}"),
        TemplateNode(id="send", template="{{ nodes.ok.output }}!", needs=("again",)),
    ]
    journal = ListJournal()
    assert statuses(one(nodes, journal=journal)) == {0: "completed", 1: "waiting"}
    second = one(nodes, restored=after(YES), journal=(then := ListJournal()))
    assert statuses(second) == {0: "completed", 1: "completed", 2: "waiting"}
    ended = {entry.node_id: entry for entry in then.entries}
    last = one(nodes, restored=after(YES, ended["draft"], ended["ok"], about=b"1", node_id="again"), journal=ListJournal())
    assert (last.status, last.output) == ("completed", "draft 1!")


def test_a_switch_decides_who_is_asked_about() -> None:
    """Only items that it sends to the question wait."""
    pick = SwitchNode(id="pick", on="{{ item.n }}", cases={"1": "ok"}, default="go")
    run = RowRun(nodes=[DRAFT, pick, ask(), TemplateNode(id="go", template="gone")], run=ONCE)
    results = anyio.run(run.results, [{"n": 1}, {"n": 2}])
    assert [result.status for result in results] == ["waiting", "completed"]


def test_asking_a_person_counts_against_no_budget() -> None:
    """What is paid for are calls; asking again with each resume would use the budget up."""
    spending = Spending(Budget(max_calls=1), Spent())
    result = one([DRAFT, ask()], spending=spending)
    assert (result.status, spending.spent.calls) == ("waiting", 1)


def test_what_cannot_be_shown_is_a_failure() -> None:
    """A value that cannot be written down cannot be asked about, nor one that is larger than the job allows."""
    huge = ask(output="{{ nodes.draft.output }}", max_output_bytes=4)
    result = one([DRAFT, huge], journal=ListJournal())
    assert (result.status, result.error and result.error.type) == ("failed", "OutputTooLarge")


def test_an_item_that_is_stopped_on_its_way_back_still_waits() -> None:
    """A stopped resume must not hide from people what they are still asked, nor show as waiting what they have decided."""
    dispatchers: list[Any] = []

    async def hang(n: int) -> int:
        dispatchers[-1].stop(Stop("user", "paused"))
        await anyio.sleep(3600)
        return n

    journal = ListJournal()
    one([ask(output="{{ item.n }}")], journal=journal)
    nodes: list[NodeOptions] = [node("slow", hang, inputs=N), ask(output="{{ item.n }}")]
    for restored, status in (({0: RestoredItem(1, 0, tuple(journal.entries), {})}, "waiting"), (after(YES, about=b"1"), "cancelled")):
        result = one(nodes, run=Run(grace_seconds=1), restored=restored, journal=ListJournal(), on_start=dispatchers.append)
        assert result.status == status
