"""Output items that a decoder of Responses reads, and their parts, which are our blocks."""

from __future__ import annotations

from turnstream.core.blocks import Content
from turnstream.wires.openai_responses.events import DELTA_OF, PartKind, TypedDelta
from turnstream.wires.openai_responses.items import KEY
from turnstream.wires.shared.json_values import JsonObject, as_text

NO_INDEX = -1
"""In place of an `output_index` that does not tell by itself which item an event is for."""


class Part:
    """A block that grows. `position`: its `content_index` or `summary_index`. `output_index`: NO_INDEX unless it tells the item.
    `expected`: the typed delta with which more of it comes, as an `event`; None once its whole text was told. `paused`: its
    block was stopped before its item ended, because another item began."""

    __slots__ = (
        "cited", "content", "event", "expected", "index", "kind", "open", "output_index", "paused", "position",
        "texts",
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
    """An output item. `number`: its place among all that began; `spare`: the thinking block that was opened before its first
    part came; `latest`: the thinking block that was opened last; `announced`: the provider gave the item itself, not only a piece of it; `addressed`: a piece named it by its id,
    so that other ids mean other items; `shares_index`: another item of its kind has the same `output_index`."""

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
        """Take what the provider says of the item, and the names that it gives it."""
        self.raw = raw
        self.announced = announced
        self.identity = as_text(raw.get("id")) or self.identity
        self.call_id = as_text(raw.get("call_id")) or self.call_id
        self.name = as_text(raw.get("name")) or self.name

    @property
    def telling_index(self) -> int:
        """The `output_index`, or NO_INDEX where it does not tell this item from others."""
        return NO_INDEX if self.shares_index or self.output_index is None else self.output_index


def group(kind: PartKind) -> str:
    """Texts and refusals of a message are counted together, summaries and full texts of reasoning apart."""
    return "" if kind.item_type == "message" else kind.name


def own_of(content: Content) -> JsonObject:
    return content.get("provider_metadata", {}).get(KEY, {})


def refusing(content: Content) -> Content:
    return {**content, "provider_metadata": {"refusal": True, **content.get("provider_metadata", {})}}
