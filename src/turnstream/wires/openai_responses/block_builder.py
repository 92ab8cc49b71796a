"""Builds blocks from the output items of one response.

The protocol marks the start and the end of each part, item and response. Items may interleave, and each end
repeats the whole content. Content that never came as a delta is taken from these repetitions. `matching`
finds the item of an event: ids alone are not enough, because GitHub Copilot gives one item a new id in every
event.
"""

from __future__ import annotations

from typing import Any

from turnstream.core.stream_events import (
    ContentDelta,
    StreamNotice,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.openai_responses.events import (
    INPUTS,
    PARTS,
    REASONING,
    REFUSAL,
    SUMMARY,
    TEXT,
    PartKind,
)
from turnstream.wires.openai_responses.items import (
    call_content,
    image_of,
    metadata_of,
    result_content,
)
from turnstream.wires.openai_responses.matching import ItemMention, Items
from turnstream.wires.openai_responses.part_blocks import PartBlocks
from turnstream.wires.openai_responses.parts import Item, Part, own_of
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.json_values import JsonObject, as_text, is_blank, is_list, is_object

_PART_FIELDS = frozenset({"type", "text", "refusal", "annotations"})
_REPEATED = "the provider repeats an output item that has ended: the first one is kept"


class OutputBuilder(PartBlocks):
    """Builds the blocks of one response from its output items."""

    def __init__(self) -> None:
        super().__init__()
        self.called = False
        self._items = Items()
        self._has_repeated = False

    def add_item(self, place: ItemMention, raw: JsonObject) -> None:
        """Begin an item, unless it has begun already."""
        item = self._items.of_added(place, raw)
        if item is None:
            self._begin_item(place, raw)
        elif item.open and not item.announced:
            self._announce(item, raw)
        elif not item.open:
            self._report_repetition()

    def belongs_to_a_raw_item(self, place: ItemMention) -> bool:
        """Return True if the item becomes a block only at its end, with all its content."""
        item = self._items.at(place)
        return item is not None and item.kind not in ("message", "reasoning") and item.kind not in INPUTS

    def grow(self, place: ItemMention, kind: PartKind, position: int, text: str) -> None:
        """Take a delta that is not for the `current` part.

        Args:
            place: Index and id by which the event names its item.
            kind: Kind of the part.
            position: `content_index` or `summary_index` of the part.
            text: Text of the delta.

        Raises MalformedEvent if the item has ended and the event does not give its id: the text may be new.
        """
        if self._is_in_raw_item(place, kind):
            return
        item = self._item_of(place, kind, is_whole=False)
        if not item.open:
            if place.item_id:
                self._report_repetition()
                return
            raise MalformedEvent("more of an output item that had ended")
        part = self._part(item, kind, position, repeated=kind.item_type not in INPUTS)
        self.current = part
        part.texts.append(text)
        self.events.append(part.event(part.index, text))

    def begin_part(self, place: ItemMention, kind: PartKind, position: int, text: str) -> None:
        """Begin a part of an item, or continue it.

        Args:
            place: Index and id by which the event names its item.
            kind: Kind of the part.
            position: `content_index` or `summary_index` of the part.
            text: Initial text of the part, or an empty string.
        """
        if kind is SUMMARY or kind.item_type == "message":
            item = self._item_of(place, kind, is_whole=False)
            if item.open:
                self._part(item, kind, position)
        if text:
            self.grow(place, kind, position, text)

    def complete(self, place: ItemMention, kind: PartKind, position: int, text: str) -> None:
        """Take the whole text of a part, and append the text that no delta had.

        Args:
            place: Index and id by which the event names its item.
            kind: Kind of the part.
            position: `content_index` or `summary_index` of the part.
            text: Whole text of the part.
        """
        if self._is_in_raw_item(place, kind):
            return
        item = self._item_of(place, kind)
        if item.open:
            self._complete(item, self._part(item, kind, position), text)

    def cite(self, place: ItemMention, position: int, annotation: Any) -> None:
        item = self._item_of(place, TEXT)
        part = self._part(item, TEXT, position) if item.open else None
        if part is not None and part.open:
            part.cited += 1
            self.events.append(ContentDelta(part.index, {"citations": [annotation]}))

    def end_part(self, place: ItemMention, position: int, raw: JsonObject) -> None:
        """End a part. The block of a reasoning item stays open: its metadata comes with the end of the item.

        Args:
            place: Index and id by which the event names its item.
            position: `content_index` or `summary_index` of the part.
            raw: The whole part.
        """
        kind = PARTS.get(str(raw.get("type")))
        if kind is None or not (item := self._item_of(place, kind)).open:
            return
        part = self._part(item, kind, position)
        if kind.item_type == "message":
            self._end_part(item, part, raw)
        else:
            self._complete(item, part, as_text(raw.get("text")) or "")

    def end_item(self, place: ItemMention, raw: JsonObject) -> None:
        """End an item. An item that has not begun is taken as a whole."""
        item = self._items.of_done(place, raw) or self._begin_item(place, raw)
        if item.open:
            self._items.name(item, as_text(raw.get("id")) or "", as_text(raw.get("call_id")) or "")
            self._end_item(item, raw)

    def end(self, output: list[Any]) -> None:
        """End the response. `output` is its repeated list of items, or empty.

        Open items end with their content in `output`, and items that never came are taken from it.
        """
        pairs = self._items.pair(item for item in output if is_object(item))
        whole = {item.number: raw for item, raw in pairs if item is not None}
        for item in self._items.all:
            if item.open:
                self._end_item(item, whole.get(item.number, item.raw))
        for item, raw in pairs:
            if item is None:
                self._end_item(self._begin_item(ItemMention(), raw), raw)

    def _item_of(self, place: ItemMention, kind: PartKind, *, is_whole: bool = True) -> Item:
        """Return the item that a piece belongs to. Begins the item if necessary."""
        found = self._items.of_piece(place, kind.item_type, is_whole=is_whole)
        return found or self._begin_item(place, {"type": kind.item_type}, announced=False)

    def _is_in_raw_item(self, place: ItemMention, kind: PartKind) -> bool:
        """Return True if a piece of a call belongs to an item of another kind, which repeats the piece at its
        end."""
        item = self._items.at(place) if kind.item_type in INPUTS else None
        return item is not None and item.open and item.kind not in (kind.item_type, "message", "reasoning")

    def _begin_item(self, place: ItemMention, raw: JsonObject, *, announced: bool = True) -> Item:
        before = (
            self._items.all[-1] if place.output_index is None and self._items.all else self._items.at(place)
        )
        if before is not None and before.open and before.output_index == place.output_index:
            self._pause(before)
        item = self._items.begin(place, raw, announced=announced)
        if item.kind == "reasoning":
            content = metadata_of({**raw, "encrypted_content": None})
            item.spare = self._begin(item, SUMMARY, 0, "thinking", content)
        elif (kind := INPUTS.get(item.kind)) is not None:
            content = self._call_content(item, raw, "")
            item.parts[kind.name, 0] = self._begin(item, kind, 0, "tool_use", content)
            self.called = self.called or not content.get("provider_executed")
        return item

    def _announce(self, item: Item, raw: JsonObject) -> None:
        """Take the fields of an item whose first piece came before them."""
        item.take(raw)
        self._items.name(item)
        if item.kind in INPUTS:
            self._amend_call(item, next(iter(item.parts.values())), raw)
        elif kept := own_of(metadata_of({**raw, "encrypted_content": None})):
            for part in item.parts.values():
                if part.open:
                    self._keep(part, {**kept, **own_of(part.content)})

    def _pause(self, item: Item) -> None:
        """Stop the blocks of an open message or reasoning item, because another item begins.

        Watchers would not see the new item otherwise. If the first item continues, it gets another block.
        """
        if item.kind not in ("message", "reasoning"):
            return
        for part in (*item.parts.values(), *((item.spare,) if item.spare else ())):
            if part.open:
                texts = part.texts
                self._stop(part)
                part.paused, part.texts = True, texts
        item.spare = None

    def _report_repetition(self) -> None:
        if not self._has_repeated:
            self._has_repeated = True
            self.events.append(StreamNotice("item_repeated", _REPEATED))

    def _end_item(self, item: Item, raw: JsonObject) -> None:
        item.take(raw)
        if item.kind == "message":
            self._end_message(item, raw)
        elif item.kind == "reasoning":
            self._end_reasoning(item, raw)
        elif item.kind in INPUTS:
            self._end_call(item, raw)
        else:
            self._end_raw(item, raw)
        self._close(item)

    def _end_part(self, item: Item, part: Part, raw: JsonObject) -> None:
        """End a part of a message."""
        self._complete(item, part, as_text(raw.get("refusal" if part.kind is REFUSAL else "text")) or "")
        if not part.open:
            return
        annotations = raw.get("annotations")
        if is_list(annotations) and (new := annotations[part.cited :]):
            self.events.append(ContentDelta(part.index, {"citations": new}))
        rest = {key: value for key, value in raw.items() if key not in _PART_FIELDS and not is_blank(value)}
        if rest:
            self._keep(part, {"type": "message", **own_of(part.content), **rest})
        self._stop(part)

    def _end_message(self, item: Item, raw: JsonObject) -> None:
        """End a message. Parts are matched by their order, because one vendor counts them from 1."""
        content = raw.get("content")
        if phase := raw.get("phase"):
            for part in item.parts.values():
                if part.open and own_of(part.content).get("phase") != phase:
                    self._keep(part, {"type": "message", **own_of(part.content), "phase": phase})
        streamed = sorted(item.parts.values(), key=lambda part: part.position)
        for place, said in enumerate(content if is_list(content) else []):
            if not is_object(said):
                continue
            kind = PARTS.get(str(said.get("type")))
            if place < len(streamed):
                self._end_part(item, streamed[place], said)
            elif kind is not None and kind.item_type == "message":
                self._end_part(item, self._part(item, kind, place), said)
            else:
                self._add_whole("provider", said)

    def _end_reasoning(self, item: Item, raw: JsonObject) -> None:
        for kind, field in ((SUMMARY, "summary"), (REASONING, "content")):
            parts = raw.get(field)
            streamed = sorted(
                (part for (name, _), part in item.parts.items() if name == kind.name),
                key=lambda part: part.position,
            )
            for place, said in enumerate(parts if is_list(parts) else []):
                text = as_text(said.get("text")) if is_object(said) else as_text(said)
                part = streamed[place] if place < len(streamed) else None
                if part is None:
                    part = self._part(item, kind, place)
                self._complete(item, part, text or "")
        last = next((part for part in reversed(item.parts.values()) if part.open), item.spare)
        kept = own_of(metadata_of(raw))
        if last is not None and kept.get("encrypted_content"):
            marks = {"part": REASONING.name} if last.kind is REASONING else {}
            self._keep(last, {**kept, **marks})

    def _end_call(self, item: Item, raw: JsonObject) -> None:
        part = next(iter(item.parts.values()))
        given = raw.get(part.kind.field)
        if given is not None and not isinstance(given, str):
            self.events.append(ContentDelta(part.index, {"input": given}))
        else:
            self._complete(item, part, given or "")
        self._amend_call(item, part, raw)
        self._stop(part)
        if (result := result_content(raw, part.content["tool_use_id"])) is not None:
            self._add_whole("tool_result", result)

    def _end_raw(self, item: Item, raw: JsonObject) -> None:
        identity = as_text(raw.get("id")) or generated_id(self.message_id, item.number)
        if (image := image_of(raw)) is not None:
            self._add_whole("image", image)
        elif (result := result_content(raw, identity)) is not None:
            self._add_whole("tool_use", call_content(raw, identity))
            self._add_whole("tool_result", result)
        else:
            self._add_whole("provider", raw)
