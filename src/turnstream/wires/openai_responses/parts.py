"""State of the output items that a decoder of Responses reads, and of their parts, which become blocks."""

from __future__ import annotations

from turnstream.core.blocks import Content
from turnstream.wires.openai_responses.events import DELTA_OF, PartKind, TypedDelta
from turnstream.wires.openai_responses.items import KEY
from turnstream.wires.shared.json_values import JsonObject, as_text

NO_INDEX = -1
"""Placeholder for an `output_index` that does not identify an item."""


class Part:
    """A growing block.

    Attributes:
        position: Its `content_index` or `summary_index`.
        output_index: Index of the item, or NO_INDEX if the index does not identify it.
        event: Class of the events for its deltas.
        expected: Class of its typed deltas. None once its whole text has come.
        paused: True if the block was stopped before its item ended, because another item began.
    """

    __slots__ = (
        "cited", "content", "event", "expected", "index", "kind", "open", "output_index", "paused",
        "position", "texts",
    )  # fmt: skip

    def __init__(self, index: int, output_index: int, position: int, kind: PartKind) -> None:
        self.index = index
        self.output_index = output_index
        self.position = position
        self.content: Content = {}
        self.texts: list[str] = []
        self.cited = 0
        self.open = True
        self.paused = False
        self.become(kind)

    def become(self, kind: PartKind) -> None:
        self.kind = kind
        self.event = kind.event
        self.expected: type[TypedDelta] | None = DELTA_OF[kind]


class Item:
    """An output item.

    Attributes:
        number: Number of items that began before it.
        spare: Thinking block that was opened before the first part came, or None.
        latest: Thinking block that was opened last, or None.
        announced: True if the provider sent the item itself, and not only a piece of it.
        addressed: True if a piece used the item's id. Other ids then mean other items.
        shares_index: True if another item of its kind has the same `output_index`.
    """

    __slots__ = (
        "addressed", "announced", "call_id", "identity", "kind", "latest", "name", "number", "open",
        "output_index", "parts", "raw", "shares_index", "spare",
    )  # fmt: skip

    def __init__(self, number: int, output_index: int | None, raw: JsonObject, *, announced: bool) -> None:
        self.number = number
        self.output_index = output_index
        self.kind = str(raw.get("type"))
        self.parts: dict[tuple[str, int], Part] = {}
        self.spare: Part | None = None
        self.latest: Part | None = None
        self.open = True
        self.addressed = False
        self.shares_index = False
        self.identity = self.call_id = self.name = ""
        self.take(raw, announced=announced)

    def take(self, raw: JsonObject, *, announced: bool = True) -> None:
        """Take the provider's version of the item, and its id, call_id and name."""
        self.raw = raw
        self.announced = announced
        self.identity = as_text(raw.get("id")) or self.identity
        self.call_id = as_text(raw.get("call_id")) or self.call_id
        self.name = as_text(raw.get("name")) or self.name

    @property
    def unique_index(self) -> int:
        """The `output_index`, or NO_INDEX if it does not identify this item."""
        return NO_INDEX if self.shares_index or self.output_index is None else self.output_index


def group(kind: PartKind) -> str:
    """Return the group in which a part is counted: one for all parts of a message, one for each kind of
    reasoning text."""
    return "" if kind.item_type == "message" else kind.name


def own_of(content: Content) -> JsonObject:
    return content.get("provider_metadata", {}).get(KEY, {})


def refusing(content: Content) -> Content:
    return {**content, "provider_metadata": {"refusal": True, **content.get("provider_metadata", {})}}
