"""Error messages that say the same of different items."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from batchrun.core.figures import SimilarFailures

_DIFFERING = re.compile(
    r"""(?P<quoted>"[^"\n]{0,200}"|'[^'\n]{0,200}'|`[^`\n]{0,200}`)"""
    r"""|(?P<token>\b(?=[\w-]{0,30}\d)[\w-]{6,64}\b|\b\d[\d.,:_]{0,40})""",
)
_MESSAGE_CHARS = 500
_PATTERN_CHARS = 160
_MOST_PATTERNS = 2_000
_MOST_EXAMPLES = 3


def pattern_of(message: str) -> str:
    """A message without what differs from item to item: numbers, ids, and quoted texts.

    Example:
        >>> pattern_of("no user 4711 in 'de-2' after 3.5 s")
        'no user … in … after … s'
    """
    return " ".join(_DIFFERING.sub("…", message[:_MESSAGE_CHARS]).split())[:_PATTERN_CHARS]


class Similar:
    """Groups failed items by error type, node and similar message, in bounded memory: of 2,000 groups at most."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str | None, str]] = Counter()
        self._examples: dict[tuple[str, str | None, str], list[tuple[str, str]]] = {}
        self.items = 0

    def add(self, failures: Iterable[tuple[object, str, str | None, str]]) -> None:
        """Count failed items: their id, error type, node and message."""
        for item_id, error_type, node_id, message in failures:
            self.items += 1
            group = (error_type, node_id, pattern_of(message))
            if group not in self._counts and len(self._counts) >= _MOST_PATTERNS:
                group = (error_type, node_id, "…")
            self._counts[group] += 1
            examples = self._examples.setdefault(group, [])
            if len(examples) < _MOST_EXAMPLES:
                examples.append((str(item_id), message))

    def largest(self, most: int) -> list[SimilarFailures]:
        """The largest groups."""
        return [
            SimilarFailures(error_type=kind, node_id=node_id, pattern=pattern, count=count, examples=self._examples[kind, node_id, pattern])
            for (kind, node_id, pattern), count in self._counts.most_common(most)
        ]
