"""Node types by name, those of other packages included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from batchrun.core.errors import JobError
from batchrun.workflows.registry import node_places, node_types

MODULE = """
from dataclasses import dataclass
from batchrun.core.job import NodeOptions

@dataclass(frozen=True, slots=True, kw_only=True)
class UpperNode(NodeOptions):
    type: str = "upper"

    def bind(self, compiler):
        return None

class Other:
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The entry points file of an installed package with a module `upper_nodes`."""
    (tmp_path / "upper_nodes.py").write_text(MODULE)
    info = tmp_path / "upper_nodes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: upper-nodes\nVersion: 1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    node_places.cache_clear()
    yield info / "entry_points.txt"
    node_places.cache_clear()


def test_installed_packages_add_node_types(package: Path) -> None:
    """A new node type needs no change of batchrun: installing its package is enough."""
    package.write_text("[batchrun.nodes]\nupper = upper_nodes:UpperNode\n")
    found = node_types()
    assert found["upper"].__name__ == "UpperNode"
    assert {"python", "template"} < set(found)


def test_node_types_have_the_names_they_are_listed_under() -> None:
    """A node type is looked up by name before its module is imported, and says its name again in the JSON Schema."""
    assert {name: options.__dataclass_fields__["type"].default for name, options in node_types().items()} == {
        name: name for name in node_places()
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("python = upper_nodes:UpperNode", "node type 'python' of upper_nodes:UpperNode is already in use"),
        (
            "upper = upper_nodes:LowerNode",
            "node type 'upper' cannot be loaded from upper_nodes:LowerNode: module 'upper_nodes' has no attribute",
        ),
        ("upper = no_such_module:Node", "node type 'upper' cannot be loaded from no_such_module:Node: No module named 'no_such_module'"),
        (
            "upper = upper_nodes:Other",
            "node type 'upper' at upper_nodes:Other must be a dataclass derived from NodeOptions with a bind method",
        ),
    ],
)
def test_node_types_that_cannot_be_used_are_named(package: Path, line: str, message: str) -> None:
    """A broken package is told by name instead of failing somewhere within a run."""
    package.write_text(f"[batchrun.nodes]\n{line}\n")
    with pytest.raises(JobError) as caught:
        node_types()
    assert str(caught.value).startswith(message)
