"""Builds the blocks of output items' parts: begin, grow, amend, stop."""

from __future__ import annotations

from turnstream.core.admission import repair_text
from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    StreamEvent,
    StreamNotice,
)
from turnstream.wires.openai_responses.events import REASONING, REFUSAL, TEXT, PartKind
from turnstream.wires.openai_responses.items import KEY, call_content, metadata_of
from turnstream.wires.openai_responses.parts import Item, Part, group, own_of, refusing
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.json_values import JsonObject

_DIFFERS = "the provider's final text is not the text of its deltas: the text of the deltas is kept"


class PartBlocks:
    """Builds the blocks of one response. A subclass decides which item a part belongs to."""

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        """Events found so far. The decoder replaces the list."""
        self.current: Part | None = None
        """Part of the last delta. The next delta is nearly always for the same part."""
        self.refused = False
        self.begun: set[BlockType] = set()
        """Types of the blocks that have begun."""
        self.message_id = ""
        self._call_ids: set[str] = set()
        self._next_index = 0

    def _part(self, item: Item, kind: PartKind, position: int, *, repeated: bool = False) -> Part:
        """Return a part of an open item. Begins the part if necessary. `repeated` makes an ended part begin
        anew."""
        key = (group(kind), position)
        part = item.parts.get(key)
        if part is None or (not part.open and repeated):
            part = item.parts[key] = self._next_part(item, kind, position)
        elif kind is REFUSAL and part.kind is TEXT:
            self._mark_refusal(part)
        return part

    def _begin(
        self, item: Item, kind: PartKind, position: int, block_type: BlockType, content: Content
    ) -> Part:
        part = Part(self._next_index, item.unique_index, position, kind)
        part.content = content
        self.begun.add(block_type)
        self._next_index += 1
        self.events.append(ContentBlockStart(part.index, block_type, content or None))
        return part

    def _next_part(self, item: Item, kind: PartKind, position: int) -> Part:
        if kind.item_type != "reasoning":
            content = metadata_of(item.raw) if item.kind == "message" else {}
            if kind is not REFUSAL:
                return self._begin(item, kind, position, "text", content)
            self.refused = True
            return self._begin(item, kind, position, "text", refusing(content))
        if item.spare is not None:
            part, item.spare = item.spare, None
            part.position = position
            part.become(kind)
        else:
            if item.latest is not None:
                self._stop(item.latest)
            part = self._begin(
                item, kind, position, "thinking", metadata_of({**item.raw, "encrypted_content": None})
            )
        item.latest = part
        if kind is REASONING:
            self._keep(part, {**own_of(part.content), "part": kind.name})
        return part

    def _mark_refusal(self, part: Part) -> None:
        self.refused = True
        part.become(REFUSAL)
        part.content = refusing(part.content)
        self.events.append(ContentDelta(part.index, part.content))

    def _complete(self, item: Item, part: Part, text: str) -> None:
        if part.expected is None or not (part.open or part.paused) or not text:
            return
        part.expected = None
        streamed = repair_text("".join(part.texts))
        part.texts = []
        text = repair_text(text)
        if text == streamed:
            return
        if text.startswith(streamed):
            if part.paused:
                part = self._part(item, part.kind, part.position, repeated=True)
            self.events.append(part.event(part.index, text[len(streamed) :]))
        else:
            self.events.append(StreamNotice("text_differs", _DIFFERS))

    def _amend_call(self, item: Item, part: Part, raw: JsonObject) -> None:
        """Update a call with an id or a name that came late."""
        content = self._call_content(item, raw, part.content["tool_use_id"])
        changed = {key: value for key, value in content.items() if part.content.get(key) != value}
        if not content["tool_name"]:
            changed.pop("tool_name", None)
        if changed:
            self.events.append(ContentDelta(part.index, changed))
            part.content = {**part.content, **changed}  # a new dict: events already hold the old one

    def _call_content(self, item: Item, raw: JsonObject, identity: str) -> Content:
        """Return the content of a call, with an id that no other call has. `identity` is its id so far, or
        empty."""
        content = call_content(raw, identity or generated_id(self.message_id, item.number))
        if (found := content["tool_use_id"]) != identity and found in self._call_ids:
            content["tool_use_id"] = identity or generated_id(self.message_id, item.number)
        self._call_ids.add(content["tool_use_id"])
        return content

    def _add_whole(self, block_type: BlockType, content: Content) -> None:
        index = self._next_index
        self.begun.add(block_type)
        self._next_index += 1
        self.events.extend((ContentBlockStart(index, block_type, content), ContentBlockStop(index)))

    def _keep(self, part: Part, kept: JsonObject) -> None:
        """Keep these fields of a part, in place of the earlier ones."""
        metadata = {**part.content.get("provider_metadata", {}), KEY: kept}
        if part.content.get("provider_metadata") != metadata:
            part.content = {**part.content, "provider_metadata": metadata}
            self.events.append(ContentDelta(part.index, {"provider_metadata": metadata}))

    def _close(self, item: Item) -> None:
        item.open = False
        if item.spare is not None:
            self._stop(item.spare)
        for part in item.parts.values():
            self._stop(part)
        item.raw = {"id": item.raw.get("id")}

    def _stop(self, part: Part) -> None:
        if part.open:
            part.open = False
            part.texts = []
            self.events.append(ContentBlockStop(part.index))
        if self.current is part:
            self.current = None
