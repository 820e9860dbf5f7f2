"""The `python` node: a function, sync or async, called with the node's inputs as keyword arguments."""

from __future__ import annotations

import base64
import importlib
import inspect
import sys
import traceback
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from batchrun.core.checks import KEY, NO_MEANING, at_least, refuse
from batchrun.core.errors import InvalidValue, known_values
from batchrun.core.job import NodeOptions
from batchrun.nodes.annotations import UNIONS, hints_of, is_context
from batchrun.nodes.callers import caller
from batchrun.nodes.classes import is_node_class
from batchrun.nodes.flows import as_flow, check_named
from batchrun.nodes.identity import identity_of
from batchrun.nodes.lists import check_lists, item_type, list_caller
from batchrun.nodes.placement import Called, Placed, placed
from batchrun.nodes.turns import ResourceTurn
from batchrun.workflows.functions import NodeFunction, PythonWorkflow
from batchrun.workflows.node import NodeCall, NodeCompiler

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonNode(NodeOptions):
    """Calls a Python function, or an instance of a class.

    Without `inputs`, a function that needs one argument gets `{{ input }}`. A parameter annotated `batchrun.Context` is no
    input: it gets the context of the call.

    With `batch`, every parameter gets a list with one value for each item, and the function returns a list of outputs in
    the same order.

    A class whose instances can be called is a function with a life: an instance is made once in each process that calls it,
    its `setup()` runs before the first call and its `teardown()` after the last, where it has them.
    """

    type: Literal["python"] = "python"
    """Calls a Python function."""
    call: str | Callable[..., Any]
    """`module:function` or `module:Class`; modules are searched on the Python path, in the job's folder, in the working directory."""
    init: dict[str, Any] = field(default_factory=dict)
    """What an instance of the class is made with, by name; templates may refer to `vars`."""
    placement: Literal["auto", "loop", "thread", "process"] = field(default="auto", metadata={KEY: "in"})
    """Where it is called. auto: async functions on the event loop, others in threads; loop: a promise that it never blocks;
    process: in worker processes, for what computes in Python, holds the interpreter or may crash."""
    resource: str | None = field(default=None, metadata={NO_MEANING: True})
    """The named service that the function calls: its concurrency, its rate and its breaker hold for the calls of the function. What the
    service said is read from `http_status` and `retry_after_seconds` of the exception."""
    secrets: tuple[str, ...] = ()
    """Names of secrets of the job: the parameter `secrets` gets them, by name."""
    workers: int | None = None
    """The most worker processes; null: as many as there are cores, and never more than `run.parallelism`."""

    def __post_init__(self) -> None:
        NodeOptions.__post_init__(self)  # a class with slots is made twice, which breaks super()
        refuse(at_least(1, workers=self.workers))

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Import the function and check its parameters against the inputs."""
        target = self._function(compiler)
        if target is None:
            return None
        identity, decorated, secrets = identity_of(target), target, self.secrets
        if isinstance(decorated, NodeFunction | PythonWorkflow):
            target, secrets = decorated.function, secrets or decorated.options.secrets
        shape: Callable[..., Any] = partial(target.__call__, None) if is_node_class(target) else target
        parameters = _parameters(shape, has_inputs=bool(compiler.input_names))
        worker = _worker(shape)
        hints = hints_of(worker)
        contexts = tuple(name for name in parameters if is_context(hints.get(name)))
        constants = _secrets(secrets, parameters, compiler)
        self._check(parameters, (*contexts, *constants), compiler)
        returns = hints.get("return")
        if self.batch is not None:
            check_lists(hints, contexts, compiler)
            returns = item_type(returns)
        is_flow = isinstance(decorated, PythonWorkflow)
        if isinstance(decorated, PythonWorkflow):
            check_named(decorated, compiler)
        place = self._placed(target, contexts, compiler, is_async=inspect.iscoroutinefunction(worker), is_flow=is_flow)
        if place is None:
            return None
        resource = compiler.resource(self.resource, "resource") if self.resource is not None else None
        if resource is not None and is_flow and not place.waits:
            compiler.problem("a workflow that is no async function cannot wait for its turn: write async def, or remove it", "resource")
        call = place.made(caller(place.function, parameters, compiler.input_names, contexts, constants))
        node_call = NodeCall(
            call=call,
            call_many=list_caller(call) if self.batch is not None else None,
            waits=place.waits,
            queues=place.queues,
            turn=partial(ResourceTurn, resource) if resource is not None else None,
            lifespan=place.lifespan,
            returns=returns,
            key=lambda scope: scope.inputs,
            sends_call_key=bool(contexts),
            wants_context=bool(contexts),
            restore=_restorer(returns),
            identity=identity,
        )
        return as_flow(node_call, compiler, PythonNode) if is_flow else node_call

    def _placed(
        self, target: Callable[..., Any], contexts: tuple[str, ...], compiler: NodeCompiler, *, is_async: bool, is_flow: bool
    ) -> Placed | None:
        init = compiler.constants(self.init, "init") if self.init else {}
        if self.init and not is_node_class(target):
            compiler.problem("is for a class whose instances can be called; give a function its values under inputs", "init")
        if self.workers is not None and self.placement != "process":
            compiler.problem("is the number of worker processes: say in: process, or remove it", "workers")
        if contexts and self.placement == "process":
            compiler.problem(f"a call in another process has no context: remove the parameter {contexts[0]!r}, or in: process", "call")
        name = self.call if isinstance(self.call, str) else _name(self.call)
        stays = "it is a workflow" if is_flow else f"its parameter {contexts[0]!r} is the context of the call" if contexts else None
        called = Called(node_id=self.id, target=target, name=name, is_async=is_async, init=init or {}, stays=stays)
        try:
            return placed(called, self.placement, self.workers)
        except InvalidValue as mistake:
            compiler.problem(str(mistake), "call")
            return None

    def _function(self, compiler: NodeCompiler) -> Callable[..., Any] | None:
        if callable(self.call):
            return self.call
        module_name, colon, attribute = self.call.partition(":")
        if not (module_name and colon and attribute):
            compiler.problem(f"must be module:function, got {self.call!r}", "call")
            return None
        found: Any = _import(module_name, compiler)
        if found is None:
            return None
        where = module_name
        for name in attribute.split("."):
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                compiler.problem(f"{where} has no {name!r}; {known_values(name, public, kind='names')}", "call")
                return None
            found, where = getattr(found, name), f"{where}.{name}"
        if not callable(found):
            compiler.problem(f"{self.call} is not a function but {type(found).__qualname__}", "call")
            return None
        return typing.cast("Callable[..., Any]", found)

    def _check(self, parameters: typing.Mapping[str, inspect.Parameter], given: tuple[str, ...], compiler: NodeCompiler) -> None:
        required = [name for name, parameter in parameters.items() if _is_required(parameter) and name not in given]
        if not compiler.input_names:
            if len(required) == 1:
                compiler.default_inputs({required[0]: "{{ input }}"})
            elif required:
                compiler.problem(f"the function needs {', '.join(required)}: give each under inputs", "call")
            elif self.batch is not None:
                compiler.problem(
                    "with batch, the function needs a parameter: without one it cannot know the items it is called for", "call"
                )
            return
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        known = [name for name, parameter in parameters.items() if parameter.kind not in _VARIADIC and name not in given]
        for name in compiler.input_names:
            if name in given:
                what = "is the context of the call" if name != "secrets" else "gets the secrets of the node"
                compiler.problem(f"{what}, which is no input: leave it out", "inputs", name)
            elif name not in known and not takes_any:
                compiler.problem(f"the function has no parameter {name!r}; {known_values(name, known, kind='parameters')}", "inputs", name)
        for name in required:
            if name not in compiler.input_names:
                compiler.problem(f"the function's parameter {name!r} is missing", "inputs")


def _name(call: Callable[..., Any]) -> str | None:
    """`module:name` of a decorated function: by that name its module has what the decorator made of it, and not the function itself."""
    if not isinstance(call, NodeFunction):
        return None
    module, name = call.function.__module__, call.function.__qualname__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if isinstance(found, NodeFunction) and found.function is call.function and module != "__main__" else None


def _import(module_name: str, compiler: NodeCompiler) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or module_name
        if module_name == missing or module_name.startswith(f"{missing}."):
            compiler.problem(
                f"there is no module {module_name!r} on the Python path, in the job's folder or in the working directory", "call"
            )
        else:
            compiler.problem(f"module {module_name!r} needs {missing!r}, which is not installed", "call")
    except (Exception, SystemExit) as error:  # whatever the user's module raises while it is imported
        compiler.problem(f"importing {module_name!r} failed: {type(error).__name__}: {_reason(error)}", "call")
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.msg} ({error.filename}:{error.lineno})"
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error} ({place.filename}:{place.lineno})"


def _secrets(names: tuple[str, ...], parameters: typing.Mapping[str, inspect.Parameter], compiler: NodeCompiler) -> dict[str, Any]:
    """What the parameter `secrets` gets; empty where no secret is asked for."""
    if names and "secrets" not in parameters:
        compiler.problem("the function has no parameter 'secrets', which is to get them: add it, or remove this", "secrets")
    return {"secrets": compiler.secrets(names, "secrets")} if names else {}


def _parameters(function: Callable[..., Any], *, has_inputs: bool) -> typing.Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # some built-in functions do not tell
        kind = inspect.Parameter.VAR_KEYWORD if has_inputs else inspect.Parameter.POSITIONAL_ONLY
        return {"value": inspect.Parameter("value", kind)}


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty and parameter.kind not in _VARIADIC


def _worker(function: Callable[..., Any]) -> Callable[..., Any]:
    """What does the work: the function of a partial, the `__call__` of an object."""
    if isinstance(function, partial):
        return _worker(function.func)
    is_object = not (isinstance(function, type) or inspect.isroutine(function) or hasattr(function, "__wrapped__"))
    return type(function).__call__ if is_object else function


def _restorer(annotation: Any) -> Callable[[Any], Any]:
    """What makes a value of the annotated type from what its JSON text says."""
    if annotation is bytes:
        return base64.b64decode
    if annotation is not None and not _is_plain(annotation):
        try:
            # Loaded here: most functions return plain values and need none of it.
            return typing.cast("Callable[[Any], Any]", importlib.import_module("pydantic").TypeAdapter(annotation).validate_python)
        except Exception:  # classes that pydantic knows nothing of; what hooks of users raise
            return _unchanged
    return _unchanged


def _is_plain(annotation: Any) -> bool:
    """Whether values of this type are what JSON gives back."""
    if annotation in (Any, type(None), bool, int, float, str, dict, list):
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is dict:
        return not arguments or (arguments[0] in (str, Any) and _is_plain(arguments[1]))
    return (origin is list or origin in UNIONS) and all(map(_is_plain, arguments))


def _unchanged(value: Any) -> Any:
    return value
