"""Blocks out of the output items of one response (requirements B1, B3, B5).

The wire says where everything begins and ends, several items at a time, and says the whole again at each end: of a
part, of its item, of the response. What never came as a delta is taken from there. `output_index` names an item, and
not its id: GitHub Copilot gives one item a new id in every event.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from turnstream.core.admission import mended
from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    StreamEvent,
    StreamNotice,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.json_values import JsonObject, as_text, is_blank, is_list, is_object
from turnstream.wires.made_up_ids import made_up_id
from turnstream.wires.openai_responses_events import (
    INPUTS,
    PARTS,
    REASONING,
    REFUSAL,
    SUMMARY,
    TEXT,
    PartKind,
)
from turnstream.wires.openai_responses_items import (
    KEY,
    call_content,
    image_of,
    metadata_of,
    result_content,
)
from turnstream.wires.openai_responses_parts import Item, Part

_PART_FIELDS = frozenset({"type", "text", "refusal", "annotations"})
_DIFFERS = "the provider's final text is not what its deltas said; what was said first is kept"


class OutputBuilder:
    """The blocks of one response."""

    def __init__(self) -> None:
        self.events: list[StreamEvent] = []
        """Where what is found goes; its reader takes it and puts another there."""
        self.current: Part | None = None
        """The part that the last delta was for: the next is nearly always for the same."""
        self.refused = False
        self.called = False
        self.message_id = ""
        self._items: dict[int, Item] = {}
        self._kinds: Counter[str] = Counter()
        self._next_index = 0

    def add_item(self, output_index: int, item: JsonObject) -> Item:
        """An item begins."""
        old = self._items.get(output_index)
        if old is not None and old.open:
            self._close(old)
        found = self._items[output_index] = Item(output_index, item)
        self._kinds[found.kind] += 1
        if found.kind == "reasoning":
            content = metadata_of({**item, "encrypted_content": None})
            found.spare = self._begin(found, SUMMARY, 0, "thinking", content)
        elif (kind := INPUTS.get(found.kind)) is not None:
            content = call_content(item, self._made_up_id(output_index))
            found.parts[kind.name, 0] = self._begin(found, kind, 0, "tool_use", content)
            self.called = self.called or not content.get("provider_executed")
        return found

    def add_part(self, output_index: int, kind: PartKind, position: int, *, again: bool = False) -> Part:
        """A part of an item begins, or goes on where it has begun. `again`: one that has ended begins anew."""
        item = self._items.get(output_index)
        if item is None:
            item = self.add_item(output_index, {"type": kind.item_type})
        if not item.open:
            raise MalformedEvent("more of an output item that had ended")
        key = (_group(kind), position)
        part = item.parts.get(key)
        if part is None or (not part.open and again):
            part = item.parts[key] = self._next_part(item, kind, position)
        elif kind is REFUSAL and part.kind is TEXT:
            self._mark_refusal(part)
        return part

    def belongs_to_a_raw_item(self, output_index: int) -> bool:
        """Whether the item there is kept as it ends, so that what comes before is in it."""
        item = self._items.get(output_index)
        return item is not None and item.kind not in ("message", "reasoning") and item.kind not in INPUTS

    def grow(self, output_index: int, kind: PartKind, position: int, text: str) -> None:
        """A delta that is not for the `current` part. Raises MalformedEvent for one of an item that has ended."""
        item = self._items.get(output_index)
        if item is not None and item.kind != kind.item_type and kind.item_type in INPUTS:
            return  # of an item that is kept raw: it is in there
        part = self.add_part(output_index, kind, position, again=kind.item_type not in INPUTS)
        self.current = part
        part.texts.append(text)
        self.events.append(part.event(part.index, text))

    def complete(self, output_index: int, kind: PartKind, position: int, text: str) -> None:
        """The whole text of a part: what of it never came as a delta comes now."""
        item = self._items.get(output_index)
        if item is not None and (not item.open or (item.kind != kind.item_type and kind.item_type in INPUTS)):
            return
        self._complete(self.add_part(output_index, kind, position), text)

    def cite(self, output_index: int, position: int, annotation: Any) -> None:
        part = self.add_part(output_index, TEXT, position)
        if not part.open:
            return
        part.cited += 1
        self.events.append(ContentDelta(part.index, {"citations": [annotation]}))

    def end_part(self, output_index: int, position: int, raw: JsonObject) -> None:
        """A part has ended. A reasoning item's block stays open: what is to be kept comes with its item's end."""
        kind = PARTS.get(str(raw.get("type")))
        item = self._items.get(output_index)
        if kind is None or (item is not None and not item.open):
            return
        part = self.add_part(output_index, kind, position)
        if kind.item_type == "message":
            self._end_part(part, raw)
        else:
            self._complete(part, as_text(raw.get("text")) or "")

    def end_item(self, output_index: int, raw: JsonObject) -> None:
        """An item has ended; one that never began is taken as a whole."""
        item = self._items.get(output_index)
        if item is None:
            item = self.add_item(output_index, raw)
        if not item.open:
            return
        item.raw = raw
        if item.kind == "message":
            self._end_message(item, raw)
        elif item.kind == "reasoning":
            self._end_reasoning(item, raw)
        elif item.kind in INPUTS:
            self._end_call(item, raw)
        else:
            self._end_raw(item, raw)
        self._close(item)

    def end(self, output: list[Any]) -> None:
        """The response has ended; `output`: its items, where it says them again. What is still open ends as it is
        there, and what never came at all is taken from it."""
        said = [item for item in output if is_object(item)]
        by_id = {item["id"]: item for item in said if isinstance(item.get("id"), str)}
        for item in [item for item in self._items.values() if item.open]:
            whole = by_id.get(as_text(item.raw.get("id")) or "")
            if whole is None and item.output_index < len(said):
                there = said[item.output_index]
                whole = there if there.get("type") == item.kind else None
            self.end_item(item.output_index, whole or item.raw)
        begun = self._kinds.copy()
        for item in said:
            kind = str(item.get("type"))
            if begun[
                kind
            ]:  # told by their number: a vendor that renames items, or moves them, says them again here
                begun[kind] -= 1
            else:
                self.end_item(max(self._items, default=-1) + 1, item)

    def _begin(
        self, item: Item, kind: PartKind, position: int, block_type: BlockType, content: Content
    ) -> Part:
        part = Part(self._next_index, item.output_index, position, kind)
        part.content = content
        self._next_index += 1
        self.events.append(ContentBlockStart(part.index, block_type, content or None))
        return part

    def _next_part(self, item: Item, kind: PartKind, position: int) -> Part:
        if kind.item_type != "reasoning":
            content = metadata_of(item.raw) if item.kind == "message" else {}
            if kind is not REFUSAL:
                return self._begin(item, kind, position, "text", content)
            self.refused = True
            return self._begin(item, kind, position, "text", _refusing(content))
        if item.spare is not None:
            part, item.spare = item.spare, None
            part.position = position
            part.become(kind)
        else:
            for other in item.parts.values():
                self._stop(other)
            part = self._begin(
                item, kind, position, "thinking", metadata_of({**item.raw, "encrypted_content": None})
            )
        if kind is REASONING:
            self._keep(part, {**_own(part.content), "part": kind.name})
        return part

    def _mark_refusal(self, part: Part) -> None:
        self.refused = True
        part.become(REFUSAL)
        part.content = _refusing(part.content)
        self.events.append(ContentDelta(part.index, part.content))

    def _complete(self, part: Part, text: str) -> None:
        if part.expected is None or not part.open or not text:
            return
        part.expected = None
        said = mended("".join(part.texts))
        part.texts = []
        text = mended(text)
        if text == said:
            return
        if text.startswith(said):
            self.events.append(part.event(part.index, text[len(said) :]))
        else:
            self.events.append(StreamNotice("text_differs", _DIFFERS))

    def _end_part(self, part: Part, raw: JsonObject) -> None:
        """End a part of a message."""
        if not part.open:
            return
        self._complete(part, as_text(raw.get("refusal" if part.kind is REFUSAL else "text")) or "")
        annotations = raw.get("annotations")
        if is_list(annotations) and (new := annotations[part.cited :]):
            self.events.append(ContentDelta(part.index, {"citations": new}))
        rest = {key: value for key, value in raw.items() if key not in _PART_FIELDS and not is_blank(value)}
        if rest:
            self._keep(part, {"type": "message", **_own(part.content), **rest})
        self._stop(part)

    def _end_message(self, item: Item, raw: JsonObject) -> None:
        """Parts are told by their order: one vendor counts them from 1."""
        content = raw.get("content")
        streamed = sorted(item.parts.values(), key=lambda part: part.position)
        for place, said in enumerate(content if is_list(content) else []):
            if not is_object(said):
                continue
            kind = PARTS.get(str(said.get("type")))
            if place < len(streamed):
                self._end_part(streamed[place], said)
            elif kind is not None and kind.item_type == "message":
                self._end_part(self.add_part(item.output_index, kind, place), said)
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
                    part = self.add_part(item.output_index, kind, place)
                self._complete(part, text or "")
        last = next((part for part in reversed(item.parts.values()) if part.open), item.spare)
        kept = _own(metadata_of(raw))
        if last is not None and kept.get("encrypted_content"):
            marks = {"part": REASONING.name} if last.kind is REASONING else {}
            self._keep(last, {**kept, **marks})

    def _end_call(self, item: Item, raw: JsonObject) -> None:
        part = next(iter(item.parts.values()))
        given = raw.get(part.kind.field)
        if given is not None and not isinstance(given, str):
            self.events.append(ContentDelta(part.index, {"input": given}))
        else:
            self._complete(part, given or "")
        content = call_content(raw, part.content["tool_use_id"])
        changed = {key: value for key, value in content.items() if part.content.get(key) != value}
        if not content["tool_name"]:
            changed.pop("tool_name", None)
        if changed:
            self.events.append(ContentDelta(part.index, changed))
            part.content = {**part.content, **changed}  # what was given out stays as it was
        self._stop(part)
        if (result := result_content(raw, part.content["tool_use_id"])) is not None:
            self._add_whole("tool_result", result)

    def _end_raw(self, item: Item, raw: JsonObject) -> None:
        identity = as_text(raw.get("id")) or self._made_up_id(item.output_index)
        if (image := image_of(raw)) is not None:
            self._add_whole("image", image)
        elif (result := result_content(raw, identity)) is not None:
            self._add_whole("tool_use", call_content(raw, identity))
            self._add_whole("tool_result", result)
        else:
            self._add_whole("provider", raw)

    def _add_whole(self, block_type: BlockType, content: Content) -> None:
        index = self._next_index
        self._next_index += 1
        self.events.extend((ContentBlockStart(index, block_type, content), ContentBlockStop(index)))

    def _keep(self, part: Part, kept: JsonObject) -> None:
        """What is to be kept of a part, in place of what was said before."""
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

    def _made_up_id(self, output_index: int) -> str:
        """An id for a call that the provider gave none: the same at every decoding, another for every call."""
        return made_up_id(self.message_id, output_index)


def _group(kind: PartKind) -> str:
    """Texts and refusals of a message are counted together, summaries and full texts of reasoning apart."""
    return "" if kind.item_type == "message" else kind.name


def _own(content: Content) -> JsonObject:
    return content.get("provider_metadata", {}).get(KEY, {})


def _refusing(content: Content) -> Content:
    return {**content, "provider_metadata": {"refusal": True, **content.get("provider_metadata", {})}}
