"""The messages of a chat: compiled from a job, made for an item, written down for people."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from batchrun.core.errors import InvalidValue, known_values
from batchrun.core.files import File
from batchrun.net.parts import text_of
from batchrun.workflows.encoding import encode
from batchrun.workflows.node import NodeCompiler
from batchrun.workflows.scope import Scope

Role = Literal["system", "developer", "user", "assistant"]
"""Who says something. There are no tools, and so none that say anything."""

Messages: TypeAlias = Callable[[Scope], list[dict[str, Any]]]
"""Gives the messages for an item, as they are sent. Raises `NodeError`s."""

_TOKEN_BYTES = 4  # of text in UTF-8 make about one token
_MESSAGE_TOKENS = 4  # for what is around it
_MEDIA_TOKENS = 1_000  # of an image or a file, whose size says little
_MEDIA = ("image", "file", "audio")
_OPTIONS = {"image": ("detail",), "file": ("name",), "audio": ("format",), "text": ()}
_AUDIO_FORMATS = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message to a model."""

    role: Role
    """system, developer, user or assistant."""
    content: Any
    """A template of its text, or a list of parts: `{text: …}`, `{image: …}`, `{file: …}`, `{audio: …}`. A part that is null for an item is
    left out."""
    name: str | None = None
    """Who of several says it."""


def compile_messages(messages: Sequence[ChatMessage] | str, compiler: NodeCompiler) -> Messages:
    """Compile the messages of a job. One text is a template that gives the list of them."""
    if isinstance(messages, str):
        listed = compiler.template(messages, "messages")
        return lambda scope: _given(listed(scope))
    made = [_message(message, compiler, number) for number, message in enumerate(messages)]
    return lambda scope: [message(scope) for message in made]


def tokens_of(messages: Sequence[Mapping[str, Any]]) -> int:
    """About how many tokens messages have.

    Example:
        >>> tokens_of([{"role": "user", "content": "Where is my parcel?"}])
        9
    """
    tokens = 0
    for message in messages:
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        tokens += _MESSAGE_TOKENS + sum(text_tokens(part["text"]) if "text" in part else _MEDIA_TOKENS for part in parts)
    return tokens


def text_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return -(-len(text.encode("utf-8", "replace")) // _TOKEN_BYTES)


def shown(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as people read them; images and files are named, not shown.

    Example:
        >>> print(shown([{"role": "user", "content": "Hello"}]))
        [user]
        Hello
    """
    return "\n\n".join(f"[{message['role']}]\n{_shown_content(message.get('content'))}" for message in messages)


def _shown_content(content: Any) -> str:
    if isinstance(content, str) or content is None:
        return content or ""
    return "\n".join(part["text"] if "text" in part else f"<{_shown_media(part)}>" for part in content)


def _shown_media(part: Mapping[str, Any]) -> str:
    texts = [text for value in part.values() if isinstance(value, Mapping) for text in value.values() if isinstance(text, str)]
    for text in texts:
        if text.startswith("data:"):
            head, _, data = text.partition(",")
            return f"{part.get('type')}: {head.removeprefix('data:').partition(';')[0]}, {len(data) * 3 // 4:,} bytes"
    return f"{part.get('type')}: {min(texts, key=len) if texts else '?'}"


def _message(message: ChatMessage, compiler: NodeCompiler, number: int) -> Callable[[Scope], dict[str, Any]]:
    path = ("messages", number, "content")
    where = f"messages[{number}].content"
    head = {"role": message.role} | ({"name": message.name} if message.name is not None else {})
    if isinstance(message.content, list | tuple):
        parts = [part for at, each in enumerate(message.content) if (part := _part(each, compiler, (*path, at))) is not None]
        return lambda scope: {**head, "content": _parts(parts, scope, where)}
    if not isinstance(message.content, str):
        compiler.problem(f"must be text or a list of parts, got {message.content!r}", *path)
    render = compiler.template(message.content, *path)
    return lambda scope: {**head, "content": _text(render(scope), where)}


Part: TypeAlias = Callable[[Scope], "dict[str, Any] | None"]


def _parts(parts: list[Part], scope: Scope, where: str) -> list[dict[str, Any]]:
    made = [part for each in parts if (part := each(scope)) is not None]
    if not made:
        raise InvalidValue(f"{where} has no part that is not null")
    return made


def _part(part: Any, compiler: NodeCompiler, path: tuple[str | int, ...]) -> Part | None:
    if isinstance(part, str):
        part = {"text": part}
    if not isinstance(part, Mapping):
        compiler.problem(f"a part is text or a mapping with one of text, image, file and audio; got {part!r}", *path)
        return None
    where = ".".join(map(str, path))
    if "type" in part:  # as it is sent
        given = compiler.template(dict(part), *path)
        return lambda scope: _plain_part(given(scope), where)
    kinds = [kind for kind in _OPTIONS if kind in part]
    if len(kinds) != 1:
        compiler.problem("a part has exactly one of text, image, file and audio, or the type it has in a request", *path)
        return None
    kind = kinds[0]
    for key in part.keys() - {kind, *_OPTIONS[kind]}:
        compiler.problem(f"unknown key {key}; {known_values(str(key), (kind, *_OPTIONS[kind]), kind='keys')}", *path, key)
    options = {key: part[key] for key in _OPTIONS[kind] if key in part}
    render = compiler.template(part[kind], *path, kind)
    if kind == "text":
        return lambda scope: None if (value := render(scope)) is None else {"type": "text", "text": _text(value, where)}
    more = compiler.template(options, *path)
    write = _WRITERS[kind]
    return lambda scope: None if (value := render(scope)) is None else write(value, more(scope), where)


def _image(value: Any, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    address = value if isinstance(value, str) and value.startswith(("http://", "https://")) else _file(value, where).data_uri()
    return {"type": "image_url", "image_url": {"url": address, **options}}


def _document(value: Any, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    file = _file(value, where)
    name = options.get("name") or file.name or "file"
    return {"type": "file", "file": {"filename": str(name), "file_data": file.data_uri()}}


def _audio(value: Any, options: Mapping[str, Any], where: str) -> dict[str, Any]:
    file = _file(value, where)
    known = options.get("format") or _AUDIO_FORMATS.get(file.media_type)
    if known is None:
        raise InvalidValue(f"{where} is of type {file.media_type}; say its format, such as wav or mp3")
    return {"type": "input_audio", "input_audio": {"data": file.base64(), "format": known}}


_WRITERS: dict[str, Callable[[Any, Mapping[str, Any], str], dict[str, Any]]] = {"image": _image, "file": _document, "audio": _audio}


def _file(value: Any, where: str) -> File:
    """A file as an input, as the output of a `file` node, or as a `data:` URI."""
    if isinstance(value, File):
        return value
    if isinstance(value, Mapping) and "content" in value and "media_type" in value:
        content = value["content"]
        if isinstance(content, bytes):
            return File(name=value.get("name"), media_type=value["media_type"], content=content)
        value = content
    if isinstance(value, str) and value.startswith("data:"):
        head, comma, data = value.partition(",")
        media_type, _, encoding = head.removeprefix("data:").rpartition(";")
        if comma and encoding == "base64":
            try:
                return File(media_type=media_type or "application/octet-stream", content=base64.b64decode(data, validate=True))
            except ValueError as error:
                raise InvalidValue(f"{where} is a data: URI that is not base64: {error}") from None
    shown_value = f"{value[:80]!r}" if isinstance(value, str) else type(value).__qualname__
    raise InvalidValue(
        f"{where} must be a file, got {shown_value}: name the file under inputs, such as inputs: {{photo: {{file: …}}}}, and refer to "
        "inputs.photo; or give the output of a file node that gives bytes"
    )


def _text(value: Any, where: str) -> str:
    """A text as it is; anything else that data can hold as JSON."""
    if isinstance(value, File):
        raise InvalidValue(f"{where} is a file, not text: give it as a part, such as {{image: …}} or {{file: …}}")
    return encode(value).decode() if isinstance(value, list | dict) else text_of(value, where)


def _plain_part(part: Any, where: str) -> dict[str, Any]:
    if not isinstance(part, Mapping) or not isinstance(part.get("type"), str):
        raise InvalidValue(f"{where} must be a part with a type, got {json.dumps(part, default=str)[:80]}")
    return dict(part)


def _given(value: Any) -> list[dict[str, Any]]:
    """Messages that item data holds, checked.

    Raises:
        InvalidValue: they are no messages, or those of a tool.
    """
    if not isinstance(value, list | tuple) or not value:
        raise InvalidValue(f"messages must be a list of at least one message, got {type(value).__qualname__}")
    return list(_checked(value))


def _checked(messages: Sequence[Any]) -> Iterator[dict[str, Any]]:
    roles = get_args(Role)
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise InvalidValue(f"{where} must be an object with role and content, got {type(message).__qualname__}")
        if message.get("role") not in roles:
            raise InvalidValue(f"{where}.role must be one of {', '.join(roles)}, got {message.get('role')!r}")
        content = message.get("content")
        parts = [_plain_part(part, f"{where}.content") for part in content] if isinstance(content, list | tuple) else None
        yield {"role": message["role"], "content": parts if parts is not None else _text(content, f"{where}.content")}
