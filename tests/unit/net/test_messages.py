"""Requests and responses that are only taken apart when somebody looks."""

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.net.messages import ReceivedResponse, WrittenRequest, has_field, raw_headers, target_of, with_field

FIELDS = {"host": "service.test", "accept": "application/json", "x-name": "käse"}


def written(address: str = "http://service.test/items/7?id=a%20b", body: bytes | httpx.AsyncByteStream = b"") -> WrittenRequest:
    return WrittenRequest("POST", target_of(address), FIELDS, body, {"timeout": {"read": 1.0}})


@given(path=st.text(st.sampled_from("ab/.%25 é?&=@|`{}[]~"), max_size=12), query=st.text(st.sampled_from("ab/%20 é?&=+|'\""), max_size=12))
def test_an_address_is_sent_as_httpx_would_send_it(path: str, query: str) -> None:
    """The short way is only taken where it leads to the same place."""
    address = f"http://Service.test:80/{path}?{query}"
    url, (origin, sent_path, sent_query) = httpx.URL(address), target_of(address)
    assert f"{sent_path}?{sent_query}".rstrip("?") == url.raw_path.decode().rstrip("?")
    assert (origin.scheme, origin.host, origin.port, origin.netloc) == ("http", "service.test", None, "service.test")


@pytest.mark.parametrize("path", ["/items", "/items?", "/items?a=1", "/it ems?a=b c"])
@pytest.mark.parametrize("query", ["", "id=7&text=a%20b", "id=" + "7" * 66_000])
def test_a_query_that_is_appended_makes_the_same_address(path: str, query: str) -> None:
    """A node may give it apart, so that the address is looked at once for all items; what is too long is refused either way."""
    address = f"http://service.test{path}"
    whole = f"{address}{'&' if '?' in address else '?'}{query}".replace("?&", "?") if query else address
    if len(query) > 65_536:
        with pytest.raises(httpx.InvalidURL):
            target_of(address, query)
    else:
        assert target_of(address, query) == target_of(whole)


@pytest.mark.parametrize("path", ["/items", "/" + "a" * 300, "/items?a=1", f"/items?a={'1' * 300}"])
def test_a_query_is_appended_before_a_fragment(path: str) -> None:
    """A fragment is never sent, and what comes after its sign would be none of the query."""
    assert target_of(f"http://service.test{path}#part?", "id=7") == target_of(f"http://service.test{path}", "id=7")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "käse.test", "service.test:443"])
def test_hosts_are_those_of_httpx(host: str) -> None:
    """A request goes where its address says, whatever form the host has."""
    for address in (f"https://{host}/a", f"https://{host}/a b"):
        url, origin = httpx.URL(address), target_of(address).origin
        assert (origin.host, origin.port, origin.netloc) == (url.raw_host.decode(), url.port, url.netloc.decode())


def test_user_and_password_are_not_part_of_an_address() -> None:
    """They would become an Authorization header that nobody has asked for."""
    assert target_of("http://user:secret@service.test/a") == target_of("http://service.test/a")


@pytest.mark.parametrize("address", ["http://host:port/", "http://service.test/" + "a" * 70_000, "http://service.test/\n"])
def test_what_is_no_address_is_refused(address: str) -> None:
    """It is the same on the short way and on the long one."""
    with pytest.raises(httpx.InvalidURL):
        target_of(address)


def test_a_written_request_is_one_of_httpx_for_whoever_looks() -> None:
    """Signing, redirects and transports of users see what they would see of any request."""
    request, same = written(body=b"body"), httpx.Request("POST", "http://service.test/items/7?id=a%20b")
    assert request.is_untouched
    assert request.url == same.url
    assert not request.is_untouched
    assert [(name, value.decode()) for name, value in request.headers.raw] == [(name.encode(), value) for name, value in FIELDS.items()]
    assert request.read() == b"body"
    assert request.extensions == {"timeout": {"read": 1.0}}
    with pytest.raises(AttributeError):
        _ = request.something  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "fields", "body", "expected"),
    [
        ("GET", {"a": "1"}, b"", b"GET /x?q=%20 HTTP/1.1\r\na: 1\r\n\r\n"),
        ("GET", {"a": "k\u00e4se"}, b"", "GET /x?q=%20 HTTP/1.1\r\na: k\u00e4se\r\n\r\n".encode()),
        ("DELETE", {}, b"", b"DELETE /x?q=%20 HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
        ("POST", {"content-length": "0"}, b"", b"POST /x?q=%20 HTTP/1.1\r\ncontent-length: 0\r\n\r\n"),
        ("POST", {"content-length": "2"}, b"ab", b"POST /x?q=%20 HTTP/1.1\r\ncontent-length: 2\r\n\r\nab"),
        ("POST", {"content-length": "1"}, b"ab", None),
        ("POST", {}, b"ab", None),
        ("GET", {"content-length": "5"}, b"", None),
        ("POST", {"transfer-encoding": "chunked"}, b"", None),
        ("POST", {"expect": "100-continue", "content-length": "2"}, b"ab", None),
        ("GET", {"a": "1\r\nb: 2"}, b"", None),
        ("GET", {"a\n": "1"}, b"", None),
        ("GET", {"a": "1\0"}, b"", None),
        ("POST", {"content-length": str(2**20)}, b"x" * 2**20, None),
    ],
)
def test_a_request_is_written_down_only_where_nothing_in_it_needs_a_look(
    method: str, fields: dict[str, str], body: bytes, expected: bytes | None
) -> None:
    """What is written is what the service reads: a length that is wrong, or a line too many, would make two requests of one."""
    assert WrittenRequest(method, target_of("http://service.test/x?q=%20"), fields, body, {}).message == expected


def test_a_header_is_added_once_and_elsewhere() -> None:
    """The request that was given stays as it is, and what a node says about it goes before what is said about all."""
    for touched in (False, True):
        request = written()
        assert not touched or request.url
        signed = with_field(request, "authorization", "Bearer t")
        assert has_field(signed, "authorization")
        assert not has_field(request, "authorization")
        assert signed.headers["authorization"] == "Bearer t"
        assert signed.extensions == request.extensions
        assert with_field(signed, "authorization", "Bearer other") is signed


def test_a_received_response_is_one_of_httpx_for_whoever_looks() -> None:
    """What reads an answer can ask for anything that a response of httpx has."""
    response = ReceivedResponse(207, ((b"Content-Type", b"text/plain"), (b"X-A", b"1")), httpx.ByteStream(b"abc"), "Many")
    assert raw_headers(response) == ((b"Content-Type", b"text/plain"), (b"X-A", b"1"))
    assert response.status_code == 207
    assert response.headers["content-type"] == "text/plain"
    assert response.reason_phrase == "Many"
    assert response.is_success
    with pytest.raises(AttributeError):
        _ = response.something  # type: ignore[attr-defined]
