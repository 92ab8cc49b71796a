"""What a decoder of Responses is reading: output items, and their parts, which are our blocks."""

from __future__ import annotations

from turnstream.core.blocks import Content
from turnstream.wires.json_values import JsonObject
from turnstream.wires.openai_responses_events import DELTA_OF, PartKind, TypedDelta


class Part:
    """A block that grows. `position`: its `content_index` or `summary_index`. `expected`: the typed delta with which more of
    it comes, as an `event`; None once its whole text was told."""

    __slots__ = (
        "cited",
        "content",
        "event",
        "expected",
        "index",
        "kind",
        "open",
        "output_index",
        "position",
        "texts",
    )

    def __init__(self, index: int, output_index: int, position: int, kind: PartKind) -> None:
        self.index = index
        self.output_index = output_index
        self.position = position
        self.content: Content = {}
        self.texts: list[str] = []
        self.cited = 0
        self.open = True
        self.become(kind)

    def become(self, kind: PartKind) -> None:
        self.kind = kind
        self.event = kind.event
        self.expected: type[TypedDelta] | None = DELTA_OF[kind]


class Item:
    """An output item. `spare`: the thinking block that was opened before its first part came."""

    __slots__ = ("kind", "open", "output_index", "parts", "raw", "spare")

    def __init__(self, output_index: int, raw: JsonObject) -> None:
        self.output_index = output_index
        self.raw = raw
        self.kind = str(raw.get("type"))
        self.parts: dict[tuple[str, int], Part] = {}
        self.spare: Part | None = None
        self.open = True
