"""Named services with their templates filled in."""

from __future__ import annotations

from batchrun.core.auth import Auth, OAuth2
from batchrun.core.errors import Problem
from batchrun.core.job import Resource
from batchrun.workflows.services import filled_resources


def test_headers_and_credentials_are_filled_in_once() -> None:
    """Templates in the settings of a service are constants; the job itself keeps the templates."""
    secret, parameters = "{{ secrets.KEY }}", {"x": "{{ vars.id }}"}
    oauth2 = OAuth2(token_url="http://a/", client_id="{{ vars.id }}", client_secret=secret, parameters=parameters)  # noqa: S106
    resource = Resource(base_url="http://a/", headers={"X-Key": "<{{ secrets.KEY }}>", "X-N": "{{ vars.n }}"}, auth=Auth(oauth2=oauth2))
    problems: list[Problem] = []
    filled = filled_resources({"api": resource}, {"id": "me", "n": 3}, {"KEY": "s3cr3t"}, problems.append)["api"]
    assert problems == []
    assert filled.headers == {"X-Key": "<s3cr3t>", "X-N": "3"}
    assert filled.auth is not None
    assert filled.auth.oauth2 == OAuth2(token_url="http://a/", client_id="me", client_secret="s3cr3t", parameters={"x": "me"})  # noqa: S106
    assert resource.headers["X-Key"] == "<{{ secrets.KEY }}>"


def test_a_service_without_templates_stays_the_same_object() -> None:
    """Limits are kept by the identity of a resource."""
    resource = Resource(base_url="http://a/", headers={"X": "y"}, auth=Auth(bearer="plain"))
    assert filled_resources({"api": resource}, {}, {}, print)["api"] is resource


def test_mistakes_are_told_with_their_places() -> None:
    """A misspelt secret in the settings of a service is found before the first item."""
    resource = Resource(base_url="http://a/", headers={"X": "{{ secrets.KYE }}"}, auth=Auth(bearer="{{ item.token }}"))
    problems: list[Problem] = []
    filled_resources({"api": resource}, {}, {"KEY": "s3cr3t"}, problems.append)
    assert [str(problem) for problem in problems] == [
        'resources.api.headers.X: unknown secret "KYE"; did you mean "KEY"?',
        "resources.api.auth.bearer: item is not known here; refer to vars or secrets",
    ]
