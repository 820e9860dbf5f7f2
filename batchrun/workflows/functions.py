"""Workflows in Python: `@node` and `@workflow`.

A workflow is a function that calls nodes; plain `if`, `for` and `try` say what is done. An async one awaits them, a plain
one calls plain functions only, which is faster. Each call of a node is a node execution of its own. When the item goes on
after a crash, a retry or an approval, the function runs again from its start, and calls that had ended give what they
gave then.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import update_wrapper
from typing import Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_args, overload

from batchrun.core.checks import InvalidFields, above, at_least, problem, refuse
from batchrun.core.errors import InvalidValue, known_values
from batchrun.core.policies import Backoff, Match, Retry, RetryRule
from batchrun.workflows.flow import current_flow

P = ParamSpec("P")
R = TypeVar("R")
Placement: TypeAlias = Literal["auto", "loop", "thread", "process"]

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """How calls of a function in a Python workflow are made: the options of a node of the same names.

    Attributes:
        name: the id of its node executions; null: the name of the function.
        retry: replaces `run.retry`.
        timeout_seconds: deadline of one attempt.
        fallback: the function that is called with the same arguments when this one has failed.
        cache: keep outputs on the disk, and take them from there.
        placement: where it is called: `auto`, `loop`, `thread` or `process`, as `in` of a node.
        dedupe: make one call for items that give the same arguments at the same time.
        max_output_bytes: the largest output, as JSON.
        resource: the named service of the job whose limits its calls keep.
        secrets: names of secrets of the job; the parameter `secrets` gets them, by name. They are not recorded.
    """

    name: str | None = None
    retry: Retry | None = None
    timeout_seconds: float | None = None
    fallback: Callable[..., Any] | None = None
    cache: bool = False
    dedupe: bool = False
    placement: Placement = "auto"
    max_output_bytes: int | None = None
    resource: str | None = None
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        places, chosen = get_args(Placement), self.placement
        wrong = None if chosen in places else f"must be one of {', '.join(places)}, got {chosen!r}"
        refuse(
            above(0, timeout_seconds=self.timeout_seconds), at_least(1, max_output_bytes=self.max_output_bytes), problem("placement", wrong)
        )


class NodeFunction(Generic[P, R]):
    """A function whose calls are node executions when a Python workflow makes them; elsewhere it is the function.

    Args:
        function: sync or async.
        options: how it is called.

    Raises:
        InvalidValue: it takes any number of arguments, which no record could name.
    """

    def __init__(self, function: Callable[P, R], options: FunctionOptions) -> None:
        update_wrapper(self, function)
        self.function = function
        self.options = options
        self.name = options.name or str(getattr(function, "__name__", "function"))
        parameters = inspect.signature(function).parameters.values()
        wrong = [
            parameter.name for parameter in parameters if parameter.kind in _VARIADIC or parameter.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        if wrong:
            raise InvalidValue(f"{self.name} has the parameter {wrong[0]!r}; a node takes arguments by their names")
        self.parameters = tuple(parameter.name for parameter in parameters)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it. In an async Python workflow, the call must be awaited, also when the function is not async."""
        flow = current_flow()
        if flow is None:
            return self.function(*args, **kwargs)
        made: R = flow.call(self, args, kwargs)
        return made

    def __eq__(self, other: object) -> bool:
        """Functions whose calls are made in the same way are one: `with_options` may be written where it is called."""
        return self is other or (isinstance(other, NodeFunction) and (other.function, other.options) == (self.function, self.options))

    def __hash__(self) -> int:
        return hash(self.name)

    def with_options(self, **options: Any) -> NodeFunction[P, R]:
        """The same function, called in another way.

        Args:
            options: fields of `FunctionOptions`.

        Example:
            >>> patient = node(lambda text: text.upper()).with_options(timeout_seconds=60)
            >>> patient.options.timeout_seconds
            60
        """
        return NodeFunction(self.function, _changed(self.options, options))


class PythonWorkflow(Generic[P, R]):
    """A function that is a workflow: its calls of nodes are recorded, and not repeated when an item goes on.

    Args:
        function: sync or async.
        options: how it is called.
    """

    def __init__(self, function: Callable[P, R], options: FunctionOptions) -> None:
        update_wrapper(self, function)
        self.function = function
        self.options = options
        self.name = options.name or str(getattr(function, "__name__", "workflow"))
        self.parameters = tuple(inspect.signature(function).parameters)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call it: in another Python workflow as a part of that, elsewhere as the plain function."""
        flow = current_flow()
        if flow is None:
            return self.function(*args, **kwargs)
        made: R = flow.call(self, args, kwargs)
        return made

    def __eq__(self, other: object) -> bool:
        """Functions whose calls are made in the same way are one: `with_options` may be written where it is called."""
        return self is other or (isinstance(other, PythonWorkflow) and (other.function, other.options) == (self.function, self.options))

    def __hash__(self) -> int:
        return hash(self.name)

    def with_options(self, **options: Any) -> PythonWorkflow[P, R]:
        """The same workflow, called in another way; see `NodeFunction.with_options`."""
        return PythonWorkflow(self.function, _changed(self.options, options))


@overload
def node(function: Callable[P, R]) -> NodeFunction[P, R]: ...
@overload
def node(**options: Any) -> Callable[[Callable[P, R]], NodeFunction[P, R]]: ...
def node(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make the calls of a function node executions of the Python workflows that make them.

    Args:
        function: sync or async; it takes its arguments by their names.
        options: fields of `FunctionOptions`; `retry` may be a mapping.

    Raises:
        InvalidValue: there is no such option, or it has no such value.

    Example:
        >>> import asyncio
        >>> @node(retry={"max_attempts": 3}, timeout_seconds=10)
        ... async def classify(text: str) -> str:
        ...     return "refund" if "money" in text else "other"
        >>> asyncio.run(classify("my money"))
        'refund'
    """
    if function is not None:
        return NodeFunction(function, FunctionOptions())
    chosen = _changed(FunctionOptions(), options)
    return lambda decorated: NodeFunction(decorated, chosen)


@overload
def workflow(function: Callable[P, R]) -> PythonWorkflow[P, R]: ...
@overload
def workflow(**options: Any) -> Callable[[Callable[P, R]], PythonWorkflow[P, R]]: ...
def workflow(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function a workflow. What it does must follow from its arguments and from what its nodes give.

    Args:
        function: async, and awaits its nodes; or not, and calls plain functions that nothing waits for. What it calls besides
            nodes is not recorded.
        options: fields of `FunctionOptions`; `retry` may be a mapping.

    Raises:
        InvalidValue: there is no such option, or it has no such value.

    Example:
        >>> @workflow
        ... async def triage(item: dict[str, str]) -> dict[str, str]:
        ...     return {"label": await classify(item["body"])}
    """
    if function is not None:
        return PythonWorkflow(function, FunctionOptions())
    chosen = _changed(FunctionOptions(), options)
    return lambda decorated: PythonWorkflow(decorated, chosen)


def _changed(options: FunctionOptions, changes: Mapping[str, Any]) -> FunctionOptions:
    known = FunctionOptions.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise InvalidValue(f"there is no option {name!r}; {known_values(name, known, kind='options')}")
    retry = changes.get("retry")
    given = {**changes, "retry": _retry(retry)} if isinstance(retry, Mapping) else dict(changes)
    if isinstance(given.get("secrets"), list):
        given["secrets"] = tuple(given["secrets"])
    try:
        return replace(options, **given)
    except InvalidFields as error:
        raise InvalidValue(str(error)) from None


def _retry(given: Mapping[str, Any]) -> Retry:
    fields = dict(given)
    if isinstance(fields.get("backoff"), Mapping):
        fields["backoff"] = Backoff(**fields["backoff"])
    if "rules" in fields:
        fields["rules"] = tuple(rule if isinstance(rule, RetryRule) else _rule(rule) for rule in fields["rules"])
    try:
        return Retry(**fields)
    except (TypeError, InvalidFields) as error:
        raise InvalidValue(f"retry: {error}") from None


def _rule(given: Mapping[str, Any]) -> RetryRule:
    match = given.get("match", {})
    if not isinstance(match, Match):
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in match.items()}
        match = Match(**fields)
    return RetryRule(**{**given, "match": match})
