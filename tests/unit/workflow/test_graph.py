"""The order of nodes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batchrun.workflows.graph import Node, find_cycle, stages

names = [f"n{number}" for number in range(9)]


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Node]:
    """Acyclic graphs whose nodes are written down in any order."""
    order = draw(st.permutations(names[: draw(st.integers(1, len(names)))]))
    nodes = {
        name: Node(draw(st.frozensets(st.sampled_from(order[:index]))) if index else frozenset(), draw(st.booleans()))
        for index, name in enumerate(order)
    }
    return {name: nodes[name] for name in draw(st.permutations(order))}


@given(graphs())
def test_every_node_runs_once_after_everything_it_needs(nodes: dict[str, Node]) -> None:
    """Whatever the graph: no node is lost, none runs early, and nothing that could run together is taken apart."""
    done: set[str] = set()
    found = stages(nodes)
    for index, (waits, ids) in enumerate(found):
        assert ids
        assert all(nodes[id].waits == waits for id in ids)
        before = set(done)
        for id in ids:
            assert nodes[id].upstream <= (before if waits else done)
            assert id not in done
            done.add(id)
        if index:
            previous_waits, previous = found[index - 1]
            assert previous_waits or waits, "two stretches in a row are one"
            if previous_waits and waits:
                assert all(nodes[id].upstream & set(previous) for id in ids), "what could wait together does"
    assert done == set(nodes)


@given(st.dictionaries(st.sampled_from(names), st.frozensets(st.sampled_from(names), max_size=3)))
def test_cycles_are_found_and_real(upstream: dict[str, frozenset[str]]) -> None:
    """A cycle is named node by node; a graph without one is not refused."""
    upstream = {name: needs & upstream.keys() for name, needs in upstream.items()}
    cycle = find_cycle(upstream)
    if cycle is None:
        ids = [id for _, stage in stages({name: Node(needs, waits=False) for name, needs in upstream.items()}) for id in stage]
        assert sorted(ids) == sorted(upstream)
    else:
        assert cycle[0] == cycle[-1]
        assert all(first in upstream[second] for first, second in pairwise(cycle))


def test_stages_follow_the_order_of_the_job_file() -> None:
    """Where the graph leaves a choice, nodes run as they were written."""
    nodes = {
        "ask": Node(frozenset(), waits=True),
        "clean": Node(frozenset(), waits=False),
        "judge": Node(frozenset({"clean"}), waits=True),
        "count": Node(frozenset({"clean"}), waits=False),
        "merge": Node(frozenset({"ask", "judge"}), waits=False),
        "send": Node(frozenset({"judge"}), waits=True),
    }
    assert stages(nodes) == [(False, ["clean", "count"]), (True, ["ask", "judge"]), (False, ["merge"]), (True, ["send"])]


def test_a_person_is_asked_once_nothing_can_run_without_him() -> None:
    """An item that waits for a person is parked, so what runs beside the question comes first, however long its chain is."""
    nodes = {
        "ask": Node(frozenset(), waits=False, asks_person=True),
        "again": Node(frozenset({"ask"}), waits=False, asks_person=True),
        "then": Node(frozenset({"again"}), waits=False),
        "call": Node(frozenset(), waits=True),
        "plain": Node(frozenset({"call"}), waits=False),
        "last": Node(frozenset({"plain"}), waits=True),
    }
    assert stages(nodes) == [(True, ["call"]), (False, ["plain"]), (True, ["last"]), (False, ["ask", "again", "then"])]
    lanes_only = {id: node._replace(waits=False) for id, node in nodes.items()}
    assert stages(lanes_only) == [(False, ["call", "plain", "last", "ask", "again", "then"])]
