"""Fields that come with the deltas of some vendors, and that are neither text, reasoning nor calls.

Fields that bring more of the answer (`CONTENT`) are kept whole: they become one raw block at the message's end. Of all
others the first value is metadata of the message (`kept_fields`): what comes with every delta neither grows nor becomes
a block.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import Metadata, StreamEvent
from turnstream.errors import EventTooLarge
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.kept_fields import KeptFields

CONTENT = frozenset({"audio", "content", "executed_tools", "images"})


class Extras:
    """The extra fields of one message. `raw_limit`: bytes of events that may be kept for them."""

    def __init__(self, *, raw_limit: int) -> None:
        self.fields = KeptFields()
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
        others = {key: value for key, value in extras.items() if key not in CONTENT}
        if new := self.fields.keep(others, events):
            self.pay(size)
            events.append(Metadata(provider_metadata=new))
