"""What a service for models answers: the text, the vectors, what was used, and what went wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import httpx

from batchrun.core.errors import AnswerCutOff, AnswerRefused, HttpStatusError, NodeError, QuotaExhausted, ResponseError
from batchrun.net.answers import read_json
from batchrun.net.client import HttpAnswer
from batchrun.net.failures import describe, excerpt

_FILTERED = re.compile(rb'"(?:code|type)"\s*:\s*"(content_filter|content_policy_violation|ResponsibleAIPolicyViolation)"')
_PAYMENT_REQUIRED = 402


class Used(NamedTuple):
    """The tokens of a call.

    Attributes:
        cached_tokens: those of the input that the service had in its own cache.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


def json_of(request: httpx.Request, answer: HttpAnswer) -> Mapping[str, Any]:
    """The object that was answered.

    Raises:
        ResponseError: it is none.
        HttpStatusError: it says that the call failed, though its status does not.
    """
    body = read_json(request, answer)
    if not isinstance(body, Mapping):
        raise ResponseError(f"{describe(request)} answered something other than an object: {excerpt(answer.body)}")
    error = body.get("error")
    if error and not body.get("choices") and not body.get("data"):
        code = error.get("code") if isinstance(error, Mapping) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 502
        failure = HttpStatusError(f"{describe(request)} answered an error: {excerpt(answer.body)}", status)
        failure.response_body = answer.body
        raise failure
    return body


def used_tokens(body: Mapping[str, Any]) -> Used | None:
    """What an answer says its call has used; null when it does not say."""
    usage = body.get("usage")
    if not isinstance(usage, Mapping):
        return None
    sent = _count(usage, "prompt_tokens", "input_tokens")
    answered = _count(usage, "completion_tokens", "output_tokens")
    if sent is None and answered is None:
        return None
    details = usage.get("prompt_tokens_details") or usage.get("input_tokens_details")
    cached = _count(details, "cached_tokens") if isinstance(details, Mapping) else None
    return Used(sent or 0, answered or 0, cached or 0)


def text_of_answer(request: httpx.Request, body: Mapping[str, Any], *, keeps_cut_off: bool) -> str:
    """The text that a model has answered.

    Raises:
        AnswerRefused: the model, or a filter, refused.
        AnswerCutOff: it reached its largest length, and that is not to be kept.
        ResponseError: there is no text.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, Mapping) else None
    if not isinstance(choice, Mapping) or not isinstance(message, Mapping):
        raise ResponseError(f"{describe(request)} answered without choices[0].message: {excerpt(repr(dict(body)).encode())}")
    reason, text = choice.get("finish_reason"), _text(message.get("content"))
    if message.get("refusal"):
        raise AnswerRefused(f"the model refused to answer: {excerpt(str(message['refusal']).encode())}")
    if reason == "content_filter":
        raise AnswerRefused(f"{describe(request)}: a content filter of the service held the answer back")
    if reason == "length" and not (keeps_cut_off and text):
        raise AnswerCutOff(
            f"{describe(request)}: the answer was cut off at its largest length{_begins(text)}; raise max_output_tokens, ask for less, or "
            "say keep_cut_off: true to take what there is of a text"
        )
    if text is None:
        called = "; it wants to call a tool, and there are none" if message.get("tool_calls") or message.get("function_call") else ""
        raise ResponseError(f"{describe(request)} answered without a text (finish_reason {reason}){called}")
    return text


def vectors_of(request: httpx.Request, body: Mapping[str, Any], count: int) -> list[list[float]]:
    """The vectors that were answered for so many texts, in their order.

    Raises:
        ResponseError: there are more, or fewer, or they are none.
    """
    data = body.get("data")
    if not isinstance(data, list) or len(data) != count:
        found = f"{len(data):,} vectors" if isinstance(data, list) else "no list of vectors"
        raise ResponseError(f"{describe(request)} answered {found} for {count:,} texts")
    vectors: list[list[float] | None] = [None] * count
    for number, each in enumerate(data):
        index = each.get("index", number) if isinstance(each, Mapping) else number
        vector = each.get("embedding") if isinstance(each, Mapping) else None
        if not isinstance(vector, list) or not isinstance(index, int) or not 0 <= index < count:
            raise ResponseError(f"{describe(request)}: data[{number}] has no embedding that is a list of numbers")
        vectors[index] = [float(number) for number in vector]
    whole = [vector for vector in vectors if vector is not None]
    if len(whole) != count:
        raise ResponseError(f"{describe(request)} answered two vectors for the same text")
    return whole


def meant(error: HttpStatusError) -> NodeError:
    """What the error of a call means for a model: a filter that refused the question, a bill that is not paid, or just itself."""
    body = error.response_body or b""
    if error.http_status == _PAYMENT_REQUIRED and not isinstance(error, QuotaExhausted):
        found: NodeError = QuotaExhausted(str(error), _PAYMENT_REQUIRED, error.retry_after_seconds)
    elif error.http_status in (400, 403) and _FILTERED.search(body):
        found = AnswerRefused(f"a content filter of the service refused the messages: {error}")
        found.http_status = error.http_status
    else:
        return error
    found.response_body = error.response_body
    return found


def _text(content: Any) -> str | None:
    """The text of a message; some services answer it in parts."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(text for text in texts if isinstance(text, str)) if texts else None
    return content if isinstance(content, str) else None


def _begins(text: str | None) -> str:
    return f" (it begins: {excerpt(text.encode('utf-8', 'replace'))})" if text else ""


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    found: Sequence[Any] = [usage.get(name) for name in names]
    return next((int(value) for value in found if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0), None)
