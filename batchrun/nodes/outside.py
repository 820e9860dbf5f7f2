"""Workflows of other libraries, run in this process: what their nodes have in common."""

from __future__ import annotations

import copy
import importlib
import re
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import orjson

from batchrun.core.errors import InvalidValue, NodeError, known_values
from batchrun.core.job import Workflow
from batchrun.nodes.approval import ApprovalNode
from batchrun.nodes.crossing import error_of, fault_of
from batchrun.nodes.guarded import attempted
from batchrun.nodes.placement import Called, Placed, placed
from batchrun.workflows.encoding import encode
from batchrun.workflows.node import NodeCompiler
from batchrun.workflows.plan import Plan
from batchrun.workflows.scope import Scope

Placement: TypeAlias = Literal["auto", "loop", "thread", "process"]

ALL = "input"
"""The only input of a node without `inputs`."""


class StepFailed(NodeError):
    """A node of another library's workflow says that it has failed; it does not say with which exception."""


class CannotWait(NodeError):
    """The workflow asks a person where nobody can be asked."""

    retryable = False


def library(package: str, extra: str, needs: str, compiler: NodeCompiler, least_python: tuple[int, int] = (3, 11)) -> Any:
    """The module of a library; null, and a problem reported, when it cannot be had.

    Args:
        package: the name of the module.
        extra: of this package, that installs it.
        needs: the name of the library's distribution.
        compiler: takes the problem.
        least_python: what the library needs.
    """
    found, error = attempted(lambda: importlib.import_module(package))
    if error is None:
        return found
    wanted, present = ".".join(map(str, least_python)), ".".join(map(str, sys.version_info[:2]))
    if sys.version_info < least_python:
        compiler.problem(f"needs {needs}, for Python {wanted} or newer; this is {present}: install batchrun[{extra}] there", "type")
    elif isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package:
        compiler.problem(f"needs {needs}, which is not installed: pip install 'batchrun[{extra}]'", "type")
    else:
        compiler.problem(f"needs {needs}, which cannot be imported: {type(error).__name__}: {error}", "type")
    return None


def found(target: Any, compiler: NodeCompiler, key: str) -> Any:
    """What `module:name` names; null, and a problem reported, when there is nothing of that name. Anything but text is itself."""
    if not isinstance(target, str):
        return target
    value, error = attempted(partial(_imported, target))
    if error is not None:
        compiler.problem(str(error) if isinstance(error, InvalidValue) else f"importing it failed: {type(error).__name__}: {error}", key)
    return value


def _imported(target: str) -> Any:
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise InvalidValue(f"must be module:name, got {target!r}")
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        where = "on the Python path, in the job's folder or in the working directory"
        raise InvalidValue(f"there is no module {module_name!r} {where}") from None
    for name in path.split("."):
        if not hasattr(value, name):
            public = [known for known in dir(value) if not known.startswith("_")]
            raise InvalidValue(f"{module_name} has no {name!r}; {known_values(name, public, kind='names')}")
        value = getattr(value, name)
    return value


def plain(value: Any) -> Any:
    """A value as JSON gives it back: the same for an item that goes on later as for one that does not.

    Raises:
        InvalidValue: it has no JSON form.
    """
    return orjson.loads(encode(value))


def own(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs that a workflow may change: those of the item are read by other nodes, too."""
    copied, _ = attempted(lambda: copy.deepcopy(dict(inputs)))
    return dict(inputs) if copied is None else copied


def node_name(name: str, position: int) -> str:
    """The id of something within a workflow, as ids are here.

    Example:
        >>> node_name("start-node", 1), node_name("2nd", 2), node_name("é?", 3)
        ('start_node', 'n2nd', 'node_3')
    """
    text = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if not text.strip("_"):
        return f"node_{position}"
    return f"n{text}" if text[0].isdigit() else text


def named(error: BaseException, where: str) -> BaseException:
    """An exception that says where it was raised: of the same class names, so that retry rules and the result tell it as it was."""
    fault = fault_of(error)
    return error_of(fault._replace(pickled=None, message=f"{where}: {fault.message}"))


class Pauses:
    """The plans of questions to a person, each made once, when it is first asked; from any thread.

    Args:
        compiler: of the node that asks.
    """

    def __init__(self, compiler: NodeCompiler) -> None:
        self._compiler = compiler
        self._plans: dict[str, Plan] = {}
        self._making = threading.Lock()

    def of(self, name: str) -> Plan:
        """The plan of a question; its item is `{"output": what is shown}`."""
        with self._making:  # several lanes may ask it first
            if name not in self._plans:
                node = ApprovalNode(id=name, output="{{ item.output }}")
                self._plans[name] = self._compiler.part(Workflow(nodes=(node,)), ["output"])
            return self._plans[name]


def in_processes(
    run: Callable[..., Any], node_id: str, workers: int | None, has_inputs: Sequence[str], compiler: NodeCompiler
) -> tuple[Callable[[Scope], Any], Placed] | None:
    """The call of a whole workflow in worker processes; null, and a problem reported, when they cannot have it.

    Args:
        run: what a worker calls with the inputs; a coroutine function, importable there.
        node_id: of the node.
        workers: the most processes.
        has_inputs: the names of the inputs; none: the only one stands for itself.
        compiler: takes the problem.
    """
    called = Called(node_id=node_id, target=run, name=None, is_async=True, init={})
    try:
        place = placed(called, "process", workers)
    except InvalidValue as mistake:
        compiler.problem(str(mistake), "in")
        return None
    return place.made(lambda scope: place.function(scope.inputs if has_inputs else scope.inputs[ALL])), place
