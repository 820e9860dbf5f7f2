"""Files as values: what functions get for an input that names one."""

from __future__ import annotations

import base64
import codecs
import io
from dataclasses import dataclass, field
from email.message import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """The content of a file, in memory, with what is known about it.

    A function gets it for an input such as `{file: "{{ item.path }}"}`.

    Attributes:
        name: the last part of its path or address; null where it has none.
        media_type: such as `application/pdf`; as its server or data URI says, else guessed from the name, else
            `application/octet-stream`.
        content: the bytes.

    Example:
        >>> File(name="note.txt", media_type="text/plain", content="Grüße".encode()).text()
        'Grüße'
    """

    name: str | None = None
    media_type: str = "application/octet-stream"
    content: bytes = field(repr=False)

    @property
    def size_bytes(self) -> int:
        """How many bytes there are."""
        return len(self.content)

    def open(self) -> io.BytesIO:
        """A file object, for libraries that read from one."""
        return io.BytesIO(self.content)

    def text(self, encoding: str | None = None) -> str:
        """The content as text.

        Args:
            encoding: how it is written; null: as a byte order mark or the media type says, else UTF-8.

        Raises:
            UnicodeDecodeError: it is not text in this encoding.
            LookupError: there is no such encoding.
        """
        return self.content.decode(encoding or self._encoding())

    def base64(self) -> str:
        """The content as base64 text."""
        return base64.b64encode(self.content).decode()

    def data_uri(self) -> str:
        """The file as a `data:` URI, which models and browsers take in the place of an address."""
        return f"data:{self.media_type.replace(' ', '')};base64,{self.base64()}"

    def _encoding(self) -> str:
        for mark, encoding in ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")):
            if self.content.startswith(mark):
                return encoding
        message = Message()
        message["content-type"] = self.media_type
        return message.get_content_charset() or "utf-8"
