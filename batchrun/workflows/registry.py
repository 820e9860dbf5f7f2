"""The node types by the name they have in job files. The module of a node type is imported when a job has it."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import entry_points

from batchrun.core.errors import JobError
from batchrun.core.job import NodeOptions

_BUILT_IN = {
    "chat": "batchrun.nodes.chat:ChatNode",
    "file": "batchrun.nodes.file:FileNode",
    "http": "batchrun.nodes.http:HttpNode",
    "approval": "batchrun.nodes.approval:ApprovalNode",
    "flux": "batchrun.nodes.flux:FluxNode",
    "nadoo": "batchrun.nodes.nadoo:NadooNode",
    "python": "batchrun.nodes.python:PythonNode",
    "remote": "batchrun.nodes.remote:RemoteNode",
    "switch": "batchrun.nodes.switch:SwitchNode",
    "template": "batchrun.nodes.template:TemplateNode",
    "workflow": "batchrun.nodes.workflow:WorkflowNode",
}


@cache
def node_places() -> dict[str, str]:
    """Where every node type is, `module:class` by name: the built-in ones and those of installed packages (`batchrun.nodes` entry points).

    Raises:
        JobError: a package's node type takes a name that is already in use.
    """
    found = dict(_BUILT_IN)
    for point in entry_points(group="batchrun.nodes"):
        if point.name in found:
            raise JobError([f"node type {point.name!r} of {point.value} is already in use; its package must name it differently"])
        found[point.name] = point.value
    return found


def node_types() -> dict[str, type[NodeOptions]]:
    """Every node type by name, all of them imported.

    Raises:
        JobError: a package's node type cannot be loaded, or takes a name that is already in use.
    """
    return {name: node_type(name) for name in node_places()}


def node_type(name: str) -> type[NodeOptions]:
    """One of the node types in `node_places`.

    Raises:
        JobError: it cannot be loaded, or a package's node type takes a name that is already in use.
    """
    target = node_places()[name]
    module, _, attribute = target.partition(":")
    try:
        options = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise JobError([f"node type {name!r} cannot be loaded from {target}: {error}"]) from error
    if not (isinstance(options, type) and issubclass(options, NodeOptions) and callable(getattr(options, "bind", None))):
        raise JobError([f"node type {name!r} at {target} must be a dataclass derived from NodeOptions with a bind method"])
    return options
