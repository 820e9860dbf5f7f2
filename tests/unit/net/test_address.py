"""Addresses made from templates: what data may do in them, and what not."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchrun.core.errors import AddressRefused, InvalidValue, JobError
from batchrun.core.job import NodeOptions, Workflow
from batchrun.net.address import Address, address_problem, compile_path, compile_url
from batchrun.workflows.compiler import Surroundings, compile_workflow
from batchrun.workflows.node import NodeCall, NodeCompiler
from batchrun.workflows.scope import Scope

VARS = {"host": "service:8443", "base": "https://service/api", "version": "v1/beta", "none": None}


def compiled(text: str, *, whole: bool = False) -> Address:
    """The address as a node gets it: compiled by the real compiler of a one-node workflow."""
    found: list[Address] = []

    class Probe(NodeOptions):
        def bind(self, compiler: NodeCompiler) -> NodeCall:
            address = (compile_url if whole else compile_path)(text, compiler, "at")
            if address is not None:
                found.append(address)
            return NodeCall(call=lambda _scope: None)

    compile_workflow(Workflow(nodes=(Probe(type="probe", id="a"),)), Surroundings(columns=("x", "y"), vars=VARS))
    return found[0]


def filled(address: Address, **item: Any) -> str:
    return address(Scope(item, [None]))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/fixed/%2F?a=b", "/fixed/%2F?a=b"),
        ("/labels/{{ item.x }}", "/labels/a%2Fb%20%3F%23%25"),
        ("/{{ vars.version }}/{{ item.y }}.json", "/v1%2Fbeta/7.json"),
        ("""/{{ "}}" if item.y else 'no' }}/{{- item.y -}}/end""", "/%7D%7D/7/end"),
        ("?q={{ item.x }}&n={{ item.y }}", "?q=a%2Fb%20%3F%23%25&n=7"),
    ],
)
def test_text_stays_as_written_and_values_are_encoded(text: str, expected: str) -> None:
    """The author of a job decides the shape of an address, data only fills it in."""
    assert filled(compiled(text), x="a/b ?#%", y=7) == expected


@given(x=st.text(), y=st.text())
@example(x=".", y=".")
@example(x="..", y="")
@example(x="%2e%2e", y="")
@example(x="../../admin", y="?a=b#c")
@example(x="", y="@evil/")
def test_data_never_leaves_its_segment(x: str, y: str) -> None:
    """Whatever a row holds, the request goes to the place the job names."""
    address = compiled("/labels/{{ item.x }}{{ item.y }}/notes?q={{ item.y }}")
    if x + y in ("", ".", ".."):
        with pytest.raises(AddressRefused):
            filled(address, x=x, y=y)
        return
    url = httpx.URL("http://service/base" + filled(address, x=x, y=y))
    path, _, query = url.raw_path.decode("ascii").partition("?")
    before, base, labels, segment, notes = path.split("/")
    assert (url.host, before, base, labels, notes) == ("service", "", "base", "labels", "notes")
    assert (unquote(segment), unquote(query)) == (x + y, "q=" + y)


@pytest.mark.parametrize(("x", "y"), [("..", ""), (".", "."), ("", ""), ("", ".")])
def test_segments_that_name_another_place_are_refused(x: str, y: str) -> None:
    """An empty id would turn "delete this one" into "delete all of them"."""
    with pytest.raises(AddressRefused, match=r"it comes from \{\{ item.x \}\}"):
        filled(compiled("/labels/{{ item.x }}{{ item.y }}"), x=x, y=y)


@pytest.mark.parametrize(
    ("path", "x"), [("/labels/%2{{ item.x }}", "e"), ("/labels/%{{ item.x }}", "2E"), ("/labels/.%{{ item.x }}e", "2")]
)
def test_data_does_not_complete_what_stands_for_a_dot(path: str, x: str) -> None:
    """A character of the job that is left open must not let data make `..` of it."""
    with pytest.raises(AddressRefused):
        filled(compiled(path), x=x)


@pytest.mark.parametrize("x", [None, [1], {"a": 1}, float("nan"), "\ud800"])
def test_values_without_a_text_form_are_refused(x: Any) -> None:
    """`/labels/None` is an address, but not the one that was meant."""
    with pytest.raises(InvalidValue, match=r"\{\{ item.x \}\}"):
        filled(compiled("/labels/{{ item.x }}"), x=x)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://[::1]:8080/a?b={{ item.x }}", "http://[::1]:8080/a?b=1%2F2"),
        ("https://{{ vars.host }}/{{ item.x }}", "https://service:8443/1%2F2"),
        ("{{ vars.base }}/{{ vars.version }}/{{ item.x }}/{{ vars.version }}", "https://service/api/v1/beta/1%2F2/v1%2Fbeta"),
        ("HTTPS://Service", "HTTPS://Service"),
    ],
)
def test_hosts_may_come_from_the_job(text: str, expected: str) -> None:
    """The same job runs against a test service and the real one by changing a variable."""
    assert filled(compiled(text, whole=True), x="1/2") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ item.x }}", "the host must be literal or come from vars"),
        ("https://{{ item.x }}/a", "the host must be literal or come from vars"),
        ("https://service{{ item.x }}/a", "the host must be literal or come from vars"),
        ("https://{{ vars.host }}{{ item.x }}", "the host must be literal or come from vars"),
        ("https://service@{{ item.x }}/", "the host must be literal or come from vars"),
        ("{{ vars.base if item.x else 'b' }}/", "the host must be literal or come from vars"),
        ("ftp://service/{{ item.x }}", "must be http://host"),
        ("ftp://service/", "must be http://host"),
        ("/labels", "must be http://host"),
        ("https://user:password@service/{{ item.x }}", "must not hold a user or password"),
        ("https://service:port/", "is not an address"),
        ("https://service/#top", "must not have a #fragment"),
        ("https://service/{% if item.x %}a{% endif %}", "{{ a if b else c }}"),
        ("https://service/{{ item.x", "{{ a if b else c }}"),
        ("https://service/{{ item. }}", "syntax error"),
        ("https://service/{{ item.z }}", 'unknown column "z"'),
    ],
)
def test_addresses_that_data_could_lead_elsewhere_are_refused_before_the_first_item(text: str, message: str) -> None:
    """Config is trusted and data is not: this must be decided without looking at any row."""
    with pytest.raises(JobError) as refused:
        compiled(text, whole=True)
    (problem,) = refused.value.problems
    assert message in problem.message
    assert problem.path == ("workflow", "nodes", 0, "at")


@pytest.mark.parametrize(
    "address",
    [
        *("http://xn--a-/", "http://\u24d5host/", "http://127.0.0.1\n/", "http://127.0.0\t.1/", "http://0177.0.0.1/", "http://a:80:80/"),
        *("http:///a", "http:\\\\a", "//a/", "ftp://a/", "file:///etc/passwd", " http://a/", "http://u@a/", "http://a:1\\@b:1/", ""),
    ],
)
def test_what_is_no_address_says_so(address: str) -> None:
    """Whatever items hold, in a host above all: it is told as a problem of the address, not raised by whoever looks at it first."""
    problem = address_problem(address)
    assert problem is not None and problem.startswith(("is not an address", "must be http://", "must not hold a user"))
