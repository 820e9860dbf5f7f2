from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest

from batchrun.testing.faulty_service import Chat, Faults, FaultyService
from batchrun.testing.faulty_service.fitting import fitting_value

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["bug", "idea"]}, "score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["label", "score"],
    "additionalProperties": False,
}


def asked(service: FaultyService, content: Any, **more: Any) -> Any:
    body = {"model": "echo", "messages": [{"role": "system", "content": "Be kind."}, {"role": "user", "content": content}], **more}
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def wanted(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def test_the_same_question_has_the_same_answer_and_usage() -> None:
    """A result can be compared with what is known beforehand, tokens included."""
    with FaultyService() as service:
        first, second = (asked(service, "hello world") for _ in range(2))
    assert first["choices"] == second["choices"] and first["id"] == second["id"]
    assert first["choices"][0]["message"]["content"] == "echo: hello world"
    assert first["choices"][0]["finish_reason"] == "stop"
    assert first["usage"] == {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10}


def test_images_and_limits_of_tokens_are_understood() -> None:
    """Content in parts is taken with its images, and an answer ends where its tokens do."""
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with FaultyService() as service:
        told = asked(service, parts, max_completion_tokens=2)
    assert told["choices"][0]["message"]["content"] == "echo: wh"
    assert told["choices"][0]["finish_reason"] == "length"
    assert told["usage"]["prompt_tokens"] == 2 + 3 + 85


def test_structured_answers_fit_and_break_as_told() -> None:
    """One repair is tried: the first answer to a question breaks its schema, the one after it fits, for each question anew."""
    with FaultyService(chat=Chat(broken_answers=1)) as service:
        answers = [asked(service, text, response_format=wanted(LABEL)) for text in ("one", "one", "two", "one")]
        plain = asked(service, "one")
    contents = [json.loads(answer["choices"][0]["message"]["content"]) for answer in answers]
    assert contents == [{"broken": True}, {"label": "bug", "score": 1}, {"broken": True}, {"label": "bug", "score": 1}]
    assert plain["choices"][0]["message"]["content"] == "echo: one"


def test_models_refuse_and_say_what_they_are_told() -> None:
    """A refusal is no content, and a fixed answer replaces the echo."""
    with FaultyService(chat=Chat(refuses=True)) as service:
        message = asked(service, "hello")["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, "I cannot help with that.")
    with FaultyService(chat=Chat(answer="yes")) as service:
        assert asked(service, "hello")["choices"][0]["message"]["content"] == "yes"


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 2}, [0.5, 0.5]),
        ({"type": ["string", "null"], "minLength": 4}, "hi.."),
        ({"type": "string", "format": "date"}, "2024-01-31"),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, True),
        ({"type": "integer", "exclusiveMinimum": 3}, 4),
        ({"allOf": [{"$ref": "#/$defs/a"}, {"properties": {"b": {"const": 2}}}], "$defs": {"a": {"properties": {"a": {"const": 1}}}}},
            {"a": 1, "b": 2}),
        ({"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"n": {"type": "null"}}, "type": "object"}}}, {"n": None}),
    ],
)  # fmt: skip
def test_values_fit_their_schema(schema: dict[str, Any], value: Any) -> None:
    """Whatever schema a job asks for, the service has an answer to it."""
    assert fitting_value(schema, "hi") == value


def test_a_schema_that_holds_itself_comes_to_an_end() -> None:
    """A tree of nodes does not hang the service."""
    tree = {"type": "object", "properties": {"children": {"type": "array", "items": {"$ref": "#"}}}, "required": ["children"]}
    assert "children" in fitting_value(tree, "hi")


def test_embeddings_are_the_same_for_the_same_text() -> None:
    """Vectors have length 1, the size that was asked for, and both encodings hold the same."""
    with FaultyService() as service:
        url = f"{service.url}/v1/embeddings"
        floats = httpx.post(url, json={"model": "e", "input": ["one", "two", "one"], "dimensions": 4}).json()
        packed = httpx.post(url, json={"model": "e", "input": "one", "dimensions": 4, "encoding_format": "base64"}).json()
    one, two, again = (entry["embedding"] for entry in floats["data"])
    assert one == again != two
    assert sum(number * number for number in one) == pytest.approx(1)
    assert struct.unpack("<4f", base64.b64decode(packed["data"][0]["embedding"])) == pytest.approx(one)
    assert floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_tokens_are_limited_and_told() -> None:
    """Tokens per minute are refused like requests, and the headers of providers say what is left."""
    body = {"model": "echo", "messages": [{"role": "user", "content": "x" * 40}]}
    with FaultyService(Faults(tokens_per_minute=25, requests_per_minute=100)) as service:
        answers = [httpx.post(f"{service.url}/v1/chat/completions", json=body) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-tokens"] for answer in answers] == ["15", "5", "5"]
    assert answers[0].headers["x-ratelimit-limit-tokens"] == "25"
    assert answers[0].headers["x-ratelimit-remaining-requests"] == "99"
    assert answers[0].headers["x-ratelimit-reset-requests"].endswith("s")


@pytest.mark.parametrize("body", [{}, {"model": "m", "messages": []}, {"model": "m", "messages": [{"role": "user"}], "stream": True}])
def test_requests_that_are_wrong_are_refused(body: dict[str, Any]) -> None:
    """A request that a provider would not take is not taken here."""
    with FaultyService() as service:
        answer = httpx.post(f"{service.url}/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
