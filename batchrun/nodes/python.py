"""The `python` node: a function, sync or async, called with the node's inputs as keyword arguments."""

from __future__ import annotations

import importlib
import inspect
import traceback
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from batchrun.core.errors import known_values
from batchrun.core.job import NodeOptions
from batchrun.workflow.node import NodeCall, NodeCompiler
from batchrun.workflow.scope import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonNode(NodeOptions):
    """Calls a Python function.

    Without `inputs`, a function that needs one argument gets `{{ input }}`.
    """

    type: Literal["python"] = "python"
    """Calls a Python function."""
    call: str | Callable[..., Any]
    """`module:function`; modules are searched on the Python path, then in the job's folder, then in the working directory."""

    def bind(self, compiler: NodeCompiler) -> NodeCall | None:
        """Import the function and check its parameters against the inputs."""
        function = self._function(compiler)
        if function is None:
            return None
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # some built-in functions do not tell
            parameters = None
        if parameters is not None:
            self._check(parameters, compiler)
        call = _positional(function) if parameters and _takes_positions(parameters) else _keywords(function)
        return NodeCall(
            call=call,
            waits=inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)),  # noqa: B004
            returns=_return_annotation(function),
            identity=_source(function),
        )

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
        for name in attribute.split("."):
            if not hasattr(found, name):
                public = [known for known in dir(found) if not known.startswith("_")]
                compiler.problem(f"{module_name} has no {name!r}; {known_values(name, public, kind='names')}", "call")
                return None
            found = getattr(found, name)
        if not callable(found):
            compiler.problem(f"{self.call} is not a function but {type(found).__qualname__}", "call")
            return None
        return typing.cast("Callable[..., Any]", found)

    def _check(self, parameters: typing.Mapping[str, inspect.Parameter], compiler: NodeCompiler) -> None:
        required = [name for name, parameter in parameters.items() if _is_required(parameter)]
        if not compiler.input_names:
            if len(required) == 1:
                compiler.default_inputs({required[0]: "{{ input }}"})
            elif required:
                compiler.problem(f"the function needs {', '.join(required)}: give each under inputs", "call")
            return
        takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in compiler.input_names:
            if name not in parameters and not takes_any:
                compiler.problem(
                    f"the function has no parameter {name!r}; {known_values(name, parameters, kind='parameters')}", "inputs", name
                )
        for name in required:
            if name not in compiler.input_names:
                compiler.problem(f"the function's parameter {name!r} is missing", "inputs")


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
        place = traceback.extract_tb(error.__traceback__)[-1]
        compiler.problem(f"importing {module_name!r} failed: {type(error).__name__}: {error} ({place.filename}:{place.lineno})", "call")
    return None


def _keywords(function: Callable[..., Any]) -> Callable[[Scope], Any]:
    return lambda scope: function(**scope.inputs)


def _positional(function: Callable[..., Any]) -> Callable[[Scope], Any]:
    return lambda scope: function(*scope.inputs.values())


def _takes_positions(parameters: typing.Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is inspect.Parameter.POSITIONAL_ONLY for parameter in parameters.values())


def _is_required(parameter: inspect.Parameter) -> bool:
    variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and not variadic


def _return_annotation(function: Callable[..., Any]) -> Any:
    try:
        return typing.get_type_hints(function).get("return")
    except (NameError, TypeError, AttributeError):  # annotations that only exist for type checkers
        return None


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):  # built-in, or typed into a prompt
        return getattr(function, "__qualname__", repr(type(function)))
