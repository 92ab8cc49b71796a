"""Fields that come with the deltas of some vendors, and that are neither text, reasoning nor calls.

Fields that repeat what the chunk says (`NOISE`) are dropped. Of any other field the first value is kept as metadata of
the message, of an object the first value of each of its fields. Later values are dropped, so that what comes with every
delta neither grows nor becomes a block; a notice says so, once for each field, if the values hold text. Fields that
bring more of the answer (`CONTENT`) are kept whole: they become one raw block at the message's end.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.blocks import Content
from turnstream.core.stream_events import Metadata, StreamEvent, StreamNotice
from turnstream.errors import EventTooLarge
from turnstream.wires.json_values import JsonObject, is_blank, is_list, is_object

NOISE = frozenset(
    {
        "index",
        "created",
        "token_ids",
        "token_id",
        "id",
        "object",
        "model",
        "type",
        "name",
        "logprobs",
        "finish_reason",
    }
)
CONTENT = frozenset({"audio", "content", "executed_tools", "images"})
METADATA = frozenset({"provider_metadata", "provider_specific_fields"})
"""Fields that are metadata by their name: no notice is due if their values change."""
MOST_FIELDS = 64


class Extras:
    """The extra fields of one message. `raw_limit`: bytes of events that may be kept for them."""

    def __init__(self, *, raw_limit: int) -> None:
        self.kept: JsonObject = {}
        self.changed: set[str] = set()
        """Fields of which later values were dropped, after a notice."""
        self.raw: dict[str, list[Any]] = {}
        self._raw_left = raw_limit

    def add_raw(self, key: str, value: Any) -> None:
        self.raw.setdefault(key, []).append(value)

    def pay(self, size: int) -> None:
        """Count an event of `size` bytes. Raises EventTooLarge if too much is kept."""
        self._raw_left -= size
        if self._raw_left < 0:
            raise EventTooLarge("fields that are kept raw grew past the limit of an event", retryable=False)

    def keep(self, extras: JsonObject, size: int, events: list[StreamEvent]) -> None:
        """Keep what is new in the extras of a delta that came in an event of `size` bytes. Raises EventTooLarge."""
        new: Content = {}
        for key, value in extras.items():
            if key in NOISE or key in CONTENT or is_blank(value):
                continue
            if (gained := self._gained(key, value)) is not None:
                new[key] = self.kept[key] = gained
            elif (
                key not in self.changed
                and key not in METADATA
                and _holds_other_text(value, self.kept.get(key))
            ):
                self._note(key, events)
        if new:
            self.pay(size)
            events.append(Metadata(provider_metadata=new))

    def _gained(self, key: str, value: Any) -> Any:
        """Return the value that is kept from now on, or None if nothing is new."""
        known = self.kept.get(key)
        if known is None:
            return value if len(self.kept) < MOST_FIELDS else None
        if not is_object(known) or not is_object(value) or len(known) >= MOST_FIELDS:
            return None
        more = {name: item for name, item in value.items() if name not in known and not is_blank(item)}
        return {**known, **more} if more else None

    def _note(self, key: str, events: list[StreamEvent]) -> None:
        if len(self.changed) < MOST_FIELDS:
            self.changed.add(key)
            words = f"the answer's field {key[:100]!r} is not read; its first value is kept as metadata"
            events.append(StreamNotice("unread_field", words))


def _holds_other_text(value: Any, known: Any) -> bool:
    return value != known and holds_text(value)


def holds_text(value: Any) -> bool:
    """Return True if there is a string in `value`."""
    if is_object(value):
        return any(holds_text(item) for item in value.values())
    if is_list(value):
        return any(holds_text(item) for item in value)
    return isinstance(value, str)
