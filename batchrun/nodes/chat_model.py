"""Requests to a model, and the account that is kept of what they use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from batchrun.core.errors import HttpStatusError, InvalidValue
from batchrun.core.items import Usage
from batchrun.core.job import Resource
from batchrun.core.prices import Price
from batchrun.net.client import OUTAGE, SLOT, HttpAnswer, HttpClient, TokenCount
from batchrun.net.clients import client_of
from batchrun.net.parts import json_body, query_string
from batchrun.nodes.chat_answers import Used, json_of, meant, used_tokens
from batchrun.nodes.http_call import CALL_KEY
from batchrun.workflows.node import Render
from batchrun.workflows.scope import Held, Scope

_TYPICAL_OUTPUT_TOKENS = 256.0  # until calls have shown how many it is
_LEARNING = 0.1  # the weight of the last answer
_GIVEN_BACK = Held()  # items of a batch hold no slot while they wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Which model is called, and how.

    Attributes:
        resource: its service.
        path: of the address.
        query: of the address.
        name: gives the name of the model.
        parameters: gives what the request says besides.
        prices: what tokens cost, by the name of the model.
        needs_price: whether a call whose cost is not known must not be made.
        max_output_tokens: the longest answer; null: the job does not say.
        idempotent: whether a request may reach the service twice.
        max_response_bytes: the largest answer taken.
        records_prompt: whether what is sent is to be seen in the node's record.
    """

    resource: Resource
    path: str
    query: Mapping[str, Any]
    name: Render
    parameters: Render
    prices: Mapping[str, Price]
    needs_price: bool
    max_output_tokens: int | None
    idempotent: bool
    max_response_bytes: int
    records_prompt: bool


class ModelCall:
    """Sends requests to a model and keeps account of them.

    Args:
        model: which, and how.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._output_tokens = _TYPICAL_OUTPUT_TOKENS
        self._client: HttpClient

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Hold connections open."""
        async with client_of(self._model.resource) as self._client:
            yield

    def head(self, scope: Scope) -> dict[str, Any]:
        """The model and the parameters of a request.

        Raises:
            InvalidValue: no model is named, or its price is not known and must be.
        """
        model = self._model
        name = model.name(scope)
        if not isinstance(name, str) or not name:
            raise InvalidValue(f"model must be the name of one, got {name!r}")
        if model.needs_price and name not in model.prices:
            raise InvalidValue(
                f"the model {name!r} has no price, and there is a run.budget.max_cost: say under prices what its tokens cost"
            )
        return {"model": name, **model.parameters(scope)}

    def expecting(self, expected: tuple[int, int], model: str, scopes: Sequence[Scope]) -> AbstractAsyncContextManager[None]:
        """What a request is made in that will use about so much, and what it has used is reported in. As in `ask` and `count`."""
        price = self._model.prices.get(model)
        return scopes[0].expecting(Usage(*expected, price.cost(*expected) if price is not None else 0.0))

    def sent(self, body: Mapping[str, Any]) -> list[Any]:
        """All that is sent, the call key aside."""
        return [self._model.resource.base_url, self._model.path, dict(self._model.query), body]

    async def ask(
        self, body: Mapping[str, Any], expected: tuple[int, int], scopes: Sequence[Scope], *, key: str | None, on_send: Callable[[], None]
    ) -> tuple[httpx.Request, Mapping[str, Any], Used]:
        """Send a request.

        Args:
            body: of the request.
            expected: about how many tokens it sends, and how many may be answered.
            scopes: of the items it is made for.
            key: identifies the request; null: nothing does.
            on_send: called when it is sent.

        Returns:
            The request, what was answered, and what that has used, which is still to be counted.

        Raises:
            NodeError: no usable answer came.
        """
        model = self._model
        query = query_string(model.query, "query") if model.query else ""
        headers = {"accept": "application/json", "content-type": "application/json"} | ({} if key is None else {CALL_KEY: key})
        request = self._client.build("POST", model.path + (f"?{query}" if query else ""), headers=headers, content=json_body(body))
        request.extensions[SLOT] = scopes[0].slot if len(scopes) == 1 else _GIVEN_BACK
        read: list[Mapping[str, Any]] = []

        def used(answer: HttpAnswer) -> int | None:  # within the turn at the gate, which is told of errors in answers of 200, too
            read.append(json_of(request, answer))
            told = used_tokens(read[0])
            return None if told is None else told.input_tokens + told.output_tokens

        tokens = TokenCount(expected=sum(expected), used=used)
        try:
            await self._client.send(
                request, idempotent=model.idempotent, max_response_bytes=model.max_response_bytes, on_send=on_send, tokens=tokens
            )
        except asyncio.CancelledError:
            for scope in scopes:
                scope.outage = request.extensions.get(OUTAGE)
            raise
        except HttpStatusError as error:
            failure = meant(error)
            if failure is error:
                raise
            raise failure from error
        return request, read[0], used_tokens(read[0]) or Used(expected[0], 0)

    def count(self, used: Used, model: str, scopes: Sequence[Scope], weights: Sequence[int] = (1,)) -> None:
        """Report what a request has used, shared among those that it was made for."""
        price = self._model.prices.get(model)
        cost = price.cost(*used) if price is not None else 0.0
        self._output_tokens += _LEARNING * (used.output_tokens - self._output_tokens)
        shares = list(zip(_shared(used.input_tokens, weights), _shared(used.output_tokens, weights), weights, strict=True))
        for scope, (sent, answered, weight) in zip(scopes, shares, strict=True):
            if scope.context is not None:
                scope.context.add_usage(input_tokens=sent, output_tokens=answered, cost=cost * weight / (sum(weights) or 1))

    def output_tokens(self) -> int:
        """How many tokens an answer may have."""
        most = self._model.max_output_tokens
        return round(self._output_tokens) if most is None else most

    def record(self, prompt: Callable[[], str], scope: Scope) -> None:
        """Have what is sent seen in the node's record, if that is asked for."""
        if self._model.records_prompt and scope.context is not None:
            scope.context.record(prompt=prompt())

    def sending(self, scope: Scope) -> None:
        """A request is about to be sent."""
        scope.sending(in_doubt=not self._model.idempotent)


def _shared(total: int, weights: Sequence[int]) -> list[int]:
    """A whole number, shared by weight; the shares add up to it."""
    whole, given, shares, so_far = sum(weights) or 1, 0, [], 0
    for weight in weights:
        so_far += weight
        share = total * so_far // whole - given
        given += share
        shares.append(share)
    return shares
