"""The OpenAI-compatible routes: chat completions with structured output, and embeddings. Answers depend on the request alone."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import struct
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from batchrun.testing.faulty_service.answers import Refused, read_object
from batchrun.testing.faulty_service.fitting import fitting_value

_IMAGE_TOKENS = 85
_DIMENSIONS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """How chat completions are answered.

    Attributes:
        broken_answers: so many answers to the same first question break the schema that was asked for; repairing is answered well.
        answer: said instead of the echo of the question.
        refuses: the model refuses to answer (`message.refusal`).
    """

    broken_answers: int = 0
    answer: str | None = None
    refuses: bool = False


class ChatRoutes:
    """Answers as an OpenAI-compatible provider does."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat
        self._asked: Counter[str] = Counter()

    def routes(self) -> list[web.RouteDef]:
        """All of its routes."""
        return [
            web.post("/v1/chat/completions", self._complete),
            web.post("/v1/embeddings", self._embed),
            web.get("/v1/models", self._models),
        ]

    async def _complete(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        messages = body.get("messages")
        if not (isinstance(messages, list) and messages and all(isinstance(message, dict) for message in messages)):
            raise Refused(400, "messages: must be a list of objects that is not empty")
        if not isinstance(body.get("model"), str):
            raise Refused(400, "model: must be a name")
        if body.get("stream"):
            raise Refused(400, "stream: this service answers at once only")
        content = None if self._chat.refuses else self._content(body, messages)
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        reason = "stop"
        if content is not None and limit is not None and text_tokens(content) > limit:
            content, reason = content[: limit * 4], "length"
        message = {"role": "assistant", "content": content, "refusal": "I cannot help with that." if content is None else None}
        prompt_tokens, answer_tokens = request_tokens(body), text_tokens(content or "")
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": answer_tokens, "total_tokens": prompt_tokens + answer_tokens}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
        head = {"id": f"chatcmpl-{_digest(body)[:12]}", "object": "chat.completion", "created": int(time.time()), "model": body["model"]}
        return web.json_response({**head, "choices": [choice], "usage": usage})

    def _content(self, body: Mapping[str, Any], messages: list[Any]) -> str:
        said = self._chat.answer if self._chat.answer is not None else f"echo: {_question(messages)}"
        wanted = body.get("response_format") or {"type": "text"}
        kind = wanted.get("type")
        if kind == "text":
            return said
        # A repair repeats the first question and adds to it.
        first = next((place for place, message in enumerate(messages) if message.get("role") == "user"), 0)
        key = _digest(messages[: first + 1])
        self._asked[key] += 1
        if self._asked[key] <= self._chat.broken_answers:
            return '{"broken": true}'
        if self._chat.answer is not None:
            return said
        if kind == "json_object":
            return json.dumps({"echo": _question(messages)})
        if kind != "json_schema" or not isinstance(wanted.get("json_schema", {}).get("schema"), dict):
            raise Refused(400, "response_format: must be text, json_object, or json_schema with json_schema.schema")
        return json.dumps(fitting_value(wanted["json_schema"]["schema"], _question(messages)))

    async def _embed(self, request: web.Request) -> web.Response:
        body = await read_object(request)
        texts = body.get("input")
        if not texts or not isinstance(body.get("model"), str):
            raise Refused(400, "model and input are required: a name and a text or a list of texts")
        if isinstance(texts, str) or isinstance(texts[0], int):
            texts = [texts]
        size = body.get("dimensions") or _DIMENSIONS
        vectors = [_vector(text if isinstance(text, str) else json.dumps(text), size) for text in texts]
        if body.get("encoding_format") == "base64":
            data: list[Any] = [base64.b64encode(struct.pack(f"<{size}f", *vector)).decode() for vector in vectors]
        else:
            data = list(vectors)
        tokens = request_tokens(body)
        listed = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(data)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "data": listed, "model": body["model"], "usage": usage})

    async def _models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "echo", "object": "model", "created": 0, "owned_by": "batchrun"}]})


def text_tokens(text: str) -> int:
    """Tokens of a text: one for each four characters begun."""
    return -(-len(text) // 4)


def request_tokens(body: Any) -> int:
    """Tokens of a chat or embeddings request; an image counts as 85. Zero for anything else."""
    if not isinstance(body, Mapping):
        return 0
    if isinstance(texts := body.get("input"), str | list):
        many = [texts] if isinstance(texts, str) else texts
        return sum(text_tokens(text) if isinstance(text, str) else len(text) if isinstance(text, list) else 1 for text in many)
    parts = [part for message in body.get("messages") or [] if isinstance(message, Mapping) for part in _parts(message)]
    return sum(_IMAGE_TOKENS if part.get("type") == "image_url" else text_tokens(str(part.get("text", ""))) for part in parts)


def rate_headers(name: str, limit: float, used: float, reset_seconds: float) -> dict[str, str]:
    """The rate-limit headers of OpenAI for `requests` or `tokens`."""
    minutes, seconds = divmod(max(0.0, reset_seconds), 60)
    reset = (
        f"{round(seconds * 1000)}ms" if not minutes and seconds < 1 else f"{int(minutes)}m{seconds:g}s" if minutes else f"{seconds:.3f}s"
    )
    values = {"limit": f"{limit:.0f}", "remaining": f"{max(0, limit - used):.0f}", "reset": reset}
    return {f"x-ratelimit-{kind}-{name}": value for kind, value in values.items()}


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    if isinstance(content, list):
        return [part for part in content if isinstance(part, Mapping)]
    return [{"type": "text", "text": content or ""}]


def _question(messages: list[Any]) -> str:
    """The text of the last message of a user, with a note for each image and file."""
    asked = next((message for message in reversed(messages) if message.get("role") == "user"), messages[-1])
    return " ".join(str(part["text"]) if part.get("type") == "text" else f"[{part.get('type')}]" for part in _parts(asked))


def _vector(text: str, size: int) -> list[float]:
    numbers = [hashlib.sha256(f"{place}/{text}".encode()).digest()[0] - 127.5 for place in range(size)]
    length = math.sqrt(sum(number * number for number in numbers))
    return [number / length for number in numbers]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
