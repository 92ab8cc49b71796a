"""Keeps vendor-specific fields of deltas.

Fields with more of the answer (`CONTENT`) are kept whole, in one raw block at the end of the message. For
each other field, the first value becomes metadata of the message (`kept_fields`). So a field that every delta
repeats does not add up.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.errors import EventTooLarge
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.kept_fields import KeptFields

CONTENT = frozenset({"audio", "content", "executed_tools", "images"})


class Extras:
    """The extra fields of one message. `raw_limit` limits the bytes of events that are kept for them."""

    def __init__(self, *, raw_limit: int) -> None:
        self.fields = KeptFields()
        self.raw: dict[str, list[Any]] = {}
        self._raw_left = raw_limit

    def add_raw(self, key: str, value: Any) -> None:
        self.raw.setdefault(key, []).append(value)

    def charge(self, size: int) -> None:
        """Count an event of `size` bytes. Raises EventTooLarge if the limit is exceeded."""
        self._raw_left -= size
        if self._raw_left < 0:
            raise EventTooLarge(
                "the unknown fields of the answer exceed the size limit of an event", retryable=False
            )

    def keep(self, extras: JsonObject, size: int, events: list[StreamEvent]) -> None:
        """Keep the new values of a delta's extras. `size` is the size of their event in bytes. Raises
        EventTooLarge."""
        others = {key: value for key, value in extras.items() if key not in CONTENT}
        if new := self.fields.keep(others, events):
            self.charge(size)
            events.append(Metadata(provider_metadata=new))
