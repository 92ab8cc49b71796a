"""Fields that some vendors add to every event: the first value of each is kept as metadata of the message.

Later values are dropped, so that nothing grows with the length of a stream. A notice says so, once for each field, if
later values hold other text. Of an object the first value of each of its fields is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from turnstream.core.blocks import Content
from turnstream.core.stream_events import StreamEvent, StreamNotice
from turnstream.wires.shared.json_values import JsonObject, is_blank, is_list, is_object

MOST_FIELDS = 64
NOISE = frozenset(
    {
        "created",
        "finish_reason",
        "id",
        "index",
        "logprobs",
        "model",
        "name",
        "object",
        "token_id",
        "token_ids",
        "type",
    }
)
"""Fields that say nothing of the message: they are dropped."""
METADATA = frozenset({"provider_metadata", "provider_specific_fields"})
"""Fields that are metadata by their name: no notice is due if their values change."""


class KeptFields:
    """The extra fields of one message. `values`: what is kept. `changed`: fields of which a notice has been given."""

    def __init__(self) -> None:
        self.values: JsonObject = {}
        self.changed: set[str] = set()

    def keep(self, fields: JsonObject, events: list[StreamEvent]) -> Content:
        """Keep what is new in the extra fields of an event, and return it with what was kept of the same objects."""
        new: Content = {}
        for key, value in fields.items():
            if key in NOISE or is_blank(value):
                continue
            known = self.values.get(key)
            if (gained := self._gained(known, value)) is not None:
                new[key] = self.values[key] = gained
            elif value != known and key not in METADATA and key not in self.changed and holds_text(value):
                self._note(key, events)
        return new

    def _gained(self, known: Any, value: Any) -> Any:
        """Return the value that is kept from now on, or None if nothing is new."""
        if known is None:
            return value if len(self.values) < MOST_FIELDS else None
        if not is_object(known) or not is_object(value) or len(known) >= MOST_FIELDS:
            return None
        fresh = [(name, item) for name, item in value.items() if name not in known and not is_blank(item)]
        return {**known, **dict(fresh[: MOST_FIELDS - len(known)])} if fresh else None

    def _note(self, key: str, events: list[StreamEvent]) -> None:
        if len(self.changed) < MOST_FIELDS:
            self.changed.add(key)
            words = f"the answer's field {key[:100]!r} is not read; its first value is kept as metadata"
            events.append(StreamNotice("unread_field", words))


def holds_text(value: Any) -> bool:
    """Return True if there is a string in `value`."""
    items: Iterable[Any] = value.values() if is_object(value) else value if is_list(value) else ()
    return isinstance(value, str) or any(holds_text(item) for item in items)


def holds_object(value: Any) -> bool:
    """Return True if `value` is an object, or a list with one in it."""
    return is_object(value) or (is_list(value) and any(holds_object(item) for item in value))
