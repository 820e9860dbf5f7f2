"""How a request says who sends it. Every text may refer to `{{ secrets.NAME }}` and `{{ vars.name }}`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from batchrun.core.checks import problem, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Basic:
    """A user and a password."""

    user: str
    """The user."""
    password: str
    """The password."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key in a header or in the query."""

    value: str
    """The key."""
    header: str | None = None
    """The header it is sent in. Give either this or query."""
    query: str | None = None
    """The query parameter it is sent in."""

    def __post_init__(self) -> None:
        both = (self.header is None) == (self.query is None)
        refuse(problem("header", "give either header or query: where the key is sent" if both else None))


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuth2:
    """A token from an OAuth2 server, by client credentials. It is fetched once for all items, and renewed before it expires."""

    token_url: str
    """Where tokens are fetched."""
    client_id: str
    """The client."""
    client_secret: str
    """Its secret."""
    scope: str | None = None
    """The scopes that are asked for, with blanks between them."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What else is sent with the request for a token, such as `audience`."""
    send_in: Literal["header", "body"] = "header"
    """Where client and secret are sent to the token server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Who sends the requests. Give one of them."""

    bearer: str | None = None
    """A token, sent as `Authorization: Bearer …`."""
    basic: Basic | None = None
    """A user and a password."""
    api_key: ApiKey | None = None
    """A key in a header or in the query."""
    oauth2: OAuth2 | None = None
    """A token that is fetched with client credentials."""

    def __post_init__(self) -> None:
        given = [name for name in ("bearer", "basic", "api_key", "oauth2") if getattr(self, name) is not None]
        if len(given) != 1:
            got = f"got {' and '.join(given)}" if given else "got nothing"
            raise ValueError(f"give one of bearer, basic, api_key and oauth2; {got}")
