"""Bodies of requests: JSON, text, forms, files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from batchrun.core.errors import InvalidValue
from batchrun.core.files import File
from batchrun.net.parts import form_body, json_body, text_of

_BINARY = "application/octet-stream"
_ESCAPED = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})  # as browsers do, and the HTML standard says


class Body(NamedTuple):
    """The body of a request, and its type where the job gives none."""

    content: bytes
    media_type: str


WriteBody: TypeAlias = Callable[[Any], Body]
"""Makes a body of a value. Raises `InvalidValue`."""


def raw_body(value: Any) -> Body:
    """Bytes, text or a file as they are; the output of a `file` node counts as one. Null: an empty body.

    Raises:
        InvalidValue: the value is something else.
    """
    if value is None:
        return Body(b"", _BINARY)
    file = _file_of(value)
    if file is not None:
        return Body(file.content, file.media_type)
    if isinstance(value, str):
        return Body(text_of(value, "bytes").encode(), _BINARY)
    raise InvalidValue(f"bytes must be bytes, text or a file, got {type(value).__qualname__}")


def multipart_body(values: Mapping[str, Any]) -> Body:
    """The body of a form with files. Nulls are left out, a list repeats its key; bytes and files are sent as files.

    The same values give the same bytes.

    Raises:
        InvalidValue: there is a value in it that is neither a single value, bytes nor a file.
    """
    parts = [part for name, value in values.items() for part in _parts(name, value)]
    boundary = hashlib.blake2b(b"\0".join(parts), digest_size=16).hexdigest().encode()
    content = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    return Body(content, f"multipart/form-data; boundary={boundary.decode()}")


WRITERS: Mapping[str, WriteBody] = {
    "json": lambda value: Body(json_body(value), "application/json"),
    "text": lambda value: Body(text_of(value, "text").encode(), "text/plain; charset=utf-8"),
    "form": lambda value: Body(form_body(value, "form"), "application/x-www-form-urlencoded"),
    "multipart": multipart_body,
    "bytes": raw_body,
}
"""What makes a body of what a request says, by its key."""


def _parts(name: str, value: Any) -> Iterator[bytes]:
    for one in value if isinstance(value, list | tuple) else (value,):
        if one is None:
            continue
        file = _file_of(one)
        head = f'Content-Disposition: form-data; name="{name.translate(_ESCAPED)}"'
        if file is None:
            yield f"{head}\r\n\r\n".encode() + text_of(one, f"multipart {name!r}").encode()
        else:
            shown = (file.name or name).translate(_ESCAPED)
            kind = file.media_type.replace("\r", "").replace("\n", "")
            yield f'{head}; filename="{shown}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + file.content


def _file_of(value: Any) -> File | None:
    """The file that a value is: one, the bytes of one, or what a `file` node gives."""
    if isinstance(value, File):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return File(content=bytes(value))
    if isinstance(value, Mapping) and isinstance(content := value.get("content"), bytes | str) and "media_type" in value:
        return File(
            name=value.get("name"), media_type=value["media_type"], content=content.encode() if isinstance(content, str) else content
        )
    return None
