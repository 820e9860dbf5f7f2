"""Named services with the templates in their settings filled in: headers and credentials, which may hold secrets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeAlias

from batchrun.core.errors import NodeError, Problem
from batchrun.core.job import Resource
from batchrun.workflows.expressions import ExpressionCompiler, Names, Uses
from batchrun.workflows.scope import Scope
from batchrun.workflows.templates import TemplateEngine, is_template

ValuePath: TypeAlias = tuple[str | int, ...]

ROOTS = ("vars", "secrets")
"""What settings of services may refer to."""


def filled_resources(
    resources: Mapping[str, Resource], variables: Mapping[str, Any], secrets: Mapping[str, str], report: Callable[[Problem], None]
) -> dict[str, Resource]:
    """The resources of a job as they are used. One without templates is the same object as before.

    Args:
        resources: as the job says, by name.
        variables: the job's `vars`.
        secrets: the job's secrets, by name.
        report: takes mistakes.
    """

    def mistaken(path: ValuePath, message: str) -> None:
        report(Problem(("resources", *path), message))

    names = Names(columns=(), input_field=None, positions={}, vars=variables, secrets=secrets)
    compiler = ExpressionCompiler(engine=TemplateEngine(), names=names, uses=Uses(), input_names=None, report=mistaken, roots=ROOTS)
    return {name: _filled_resource(resource, compiler, name) for name, resource in resources.items()}


def filled(value: Any, compiler: ExpressionCompiler, path: ValuePath) -> Any:
    """A value, options included, with every template in it filled in. The value itself when there is none."""
    if is_dataclass(value) and not isinstance(value, type):
        new = {each.name: filled(getattr(value, each.name), compiler, (*path, each.name)) for each in fields(value)}
        changed = {name: inner for name, inner in new.items() if inner is not getattr(value, name)}
        return replace(value, **changed) if changed else value
    if isinstance(value, Mapping):
        inner = {key: filled(each, compiler, (*path, key)) for key, each in value.items()}
        return inner if any(inner[key] is not each for key, each in value.items()) else value
    if not isinstance(value, str) or not is_template(value):
        return value
    try:
        found = compiler.compile(value, path)(Scope({}, []))
    except NodeError as mistake:
        compiler.report(path, str(mistake))
        return value
    return "" if found is None else str(found)


def _filled_resource(resource: Resource, compiler: ExpressionCompiler, name: str) -> Resource:
    headers = filled(resource.headers, compiler, (name, "headers"))
    auth = filled(resource.auth, compiler, (name, "auth"))
    proxy, tls = filled(resource.proxy, compiler, (name, "proxy")), filled(resource.tls, compiler, (name, "tls"))
    new = {"headers": headers, "auth": auth, "proxy": proxy, "tls": tls}
    changed = {key: value for key, value in new.items() if value is not getattr(resource, key)}
    return replace(resource, **changed) if changed else resource
