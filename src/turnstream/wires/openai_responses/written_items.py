"""State of the output items that an encoder of Responses writes. turnstream's blocks are their parts."""

from __future__ import annotations

from typing import TypeAlias

from turnstream.core.blocks import Content
from turnstream.core.open_block import merge_content
from turnstream.core.stream_events import ContentBlockStart
from turnstream.wires.openai_responses.events import (
    INPUTS,
    REASONING,
    REFUSAL,
    SUMMARY,
    TEXT,
    PartKind,
)
from turnstream.wires.openai_responses.items import (
    call_item,
    citations_of,
    is_raw_item,
    is_refusal,
    own_metadata,
)
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import encode_json

WrittenEvents: TypeAlias = list[tuple[str, JsonObject]]
"""Events as pairs of a type and fields, without the sequence number."""

DELTA_TAIL = b',"sequence_number":'
"""Bytes of a delta between its text and its number."""

_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_CALL_OF_SERVER = "mcp_call"
_PROVIDER_RUN = frozenset({"mcp_call", "code_interpreter_call", "file_search_call"})


class WrittenItem:
    """An output item.

    Attributes:
        raw: The item in its current state. Its dictionary is never changed in place.
        indexes: Indexes of its blocks.
        may_continue: True if the next block may be a part of the item too.
        awaits_result: True for a call of a server, whose result may come after other blocks.
        is_cut: True if one of its blocks was cut off.
    """

    __slots__ = (
        "awaits_result", "ended", "indexes", "is_cut", "may_continue", "open_parts", "output_index", "parts",
        "raw",
    )  # fmt: skip

    def __init__(self, output_index: int, raw: JsonObject, *, may_continue: bool) -> None:
        self.output_index = output_index
        self.raw = raw
        self.may_continue = may_continue
        self.open_parts = 0
        self.parts: dict[str, int] = {}
        self.awaits_result = raw["type"] == _CALL_OF_SERVER
        self.ended = False
        self.is_cut = False
        self.indexes: tuple[int, ...] = ()

    def copy(self) -> WrittenItem:
        """Return an independent item in the same state."""
        other = WrittenItem(self.output_index, self.raw, may_continue=self.may_continue)
        other.open_parts, other.parts = self.open_parts, dict(self.parts)
        other.awaits_result, other.is_cut, other.indexes = self.awaits_result, self.is_cut, self.indexes
        return other

    def cut(self) -> None:
        """Mark the item as cut off."""
        self.is_cut = True
        if "status" in self.raw:
            self.raw = {**self.raw, "status": "incomplete"}

    def answer(self, content: Content) -> None:
        """Add the result of the call."""
        said, failed = content.get("content"), bool(content.get("is_error"))
        match self.raw["type"]:
            case "mcp_call":
                outcome = {"output": None, "error": said} if failed else {"output": said, "error": None}
                self.raw = {**self.raw, **outcome}
            case "code_interpreter_call":
                self.raw = {**self.raw, "outputs": said}
            case _:
                self.raw = {**self.raw, "results": said}

    def in_progress(self) -> WrittenEvents:
        """Return the events that follow the item's start."""
        return [self._of_call("in_progress")] if self.raw["type"] == _CALL_OF_SERVER else []

    def outcome(self) -> WrittenEvents:
        """Return the events that come before the item's end."""
        if self.raw["type"] != _CALL_OF_SERVER:
            return []
        has_output = self.raw.get("output") is not None and self.raw.get("error") is None
        return [self._of_call("completed" if has_output else "failed")]

    def _of_call(self, state: str) -> tuple[str, JsonObject]:
        return f"response.mcp_call.{state}", self.place({"item_id": self.raw.get("id")})

    def begun(self) -> JsonObject:
        """Return the item in its state at the beginning."""
        kind = self.raw["type"]
        if kind == "reasoning":
            return {key: value for key, value in self.raw.items() if key != "encrypted_content"}
        if kind == "message":
            return {**self.raw, "status": "in_progress", "content": []}
        if kind in INPUTS:
            empty: JsonObject = {"outputs": []} if kind == "code_interpreter_call" else {}
            return {**self.raw, "status": "in_progress", INPUTS[kind].field: "", **empty}
        return {**self.raw, "status": "in_progress", "result": None} if "result" in self.raw else self.raw

    def place(self, fields: JsonObject) -> JsonObject:
        return {"output_index": self.output_index, **fields}


class WrittenBlock:
    """A block as a part of an item, or as a whole item.

    `head` is the bytes of a delta before its text. It is None until the part begins.
    """

    __slots__ = ("_content", "_is_call", "_is_result", "_kind", "_position", "head", "item", "texts")

    def __init__(
        self, item: WrittenItem, kind: PartKind | None, content: Content, *, is_result: bool = False
    ) -> None:
        self.item = item
        self.head: bytes | None = None
        self.texts: list[str] = []
        self._kind = kind
        self._content = content
        self._position = 0
        self._is_result = is_result
        self._is_call = kind is not None and kind.item_type in INPUTS
        item.open_parts += 1

    def of_copy(self, item: WrittenItem) -> WrittenBlock:
        """Return an independent block in the same state, as a part of `item`, the copy of its item."""
        parts = item.open_parts
        other = WrittenBlock(item, self._kind, self._content, is_result=self._is_result)
        item.open_parts = parts
        other.head, other._position = self.head, self._position
        other.texts = ["".join(self.texts)]
        return other

    @property
    def starts_at_once(self) -> bool:
        """True if the part begins before its first text. Parts of reasoning do not, because there may be no
        text."""
        return self._kind is not None and self._kind.item_type == "message"

    def begin(self) -> WrittenEvents:
        """Return the events that begin the part."""
        kind = self._kind
        if kind is None:
            return []
        written: WrittenEvents = []
        place = self._place()
        if not self._is_call:
            group = "" if kind.item_type == "message" else kind.name
            self._position = self.item.parts.get(group, 0)
            self.item.parts[group] = self._position + 1
            place = self._place()
            written.append((f"{_part_stem(kind)}.added", {**place, "part": _part(kind, "", [])}))
        stem = kind.stem
        logprobs: JsonObject = {"logprobs": []} if kind is TEXT else {}
        head = encode_json({"type": f"{stem}.delta", **place, **logprobs})
        self.head = b'event: %b.delta\ndata: %b,"delta":' % (stem.encode(), head[:-1])
        return written

    def amend(self, content: Content) -> None:
        """Add content that the block gains. Its citations are written when its text ends."""
        gained = dict(self._content)
        merge_content(gained, content)
        self._content = gained
        kept = own_metadata(content)
        if kept:
            self.item.raw = {**self.item.raw, **{key: value for key, value in kept.items() if key != "part"}}
        if (
            self._kind is not None
            and self._kind.item_type == "reasoning"
            and kept.get("part") == REASONING.name
        ):
            self._kind = REASONING
        if self._kind is TEXT and is_refusal(content):
            self._kind = REFUSAL

    def end(self) -> WrittenEvents:
        """Return the events that end the part, and add the part to its item."""
        self.item.open_parts -= 1
        if self._is_result:
            self.item.answer(self._content)
        if self._kind is None:
            return []
        if self._is_call:
            return self._end_call(self._kind)
        if self.head is None:
            return []
        text = "".join(self.texts)
        kind, place = self._kind, self._place()
        citations = citations_of(self._content) if kind is TEXT else []
        written: WrittenEvents = [
            (
                "response.output_text.annotation.added",
                {**place, "annotation_index": number, "annotation": citation},
            )
            for number, citation in enumerate(citations)
        ]
        part = _part(kind, text, citations)
        field = "summary" if kind is SUMMARY else "content"
        self.item.raw = {**self.item.raw, field: [*self.item.raw.get(field, ()), part]}
        logprobs: JsonObject = {"logprobs": []} if kind is TEXT else {}
        written.append((f"{kind.stem}.done", {**place, kind.field: text, **logprobs}))
        written.append((f"{_part_stem(kind)}.done", {**place, "part": part}))
        return written

    def _end_call(self, kind: PartKind) -> WrittenEvents:
        given = self._content.get("input")
        text = "".join(self.texts)
        written: WrittenEvents = []
        if not text and is_object(given) and given and not self._content.get("free_text"):
            text = encode_json(given).decode()
            written = self.begin() if self.head is None else []
            written.append((f"{kind.stem}.delta", {**self._place(), "delta": text}))
        status = "incomplete" if self.item.is_cut else "completed"
        raw = {"id": None, **self.item.raw, **call_item(self._content, text, None), "status": status}
        self.item.raw = raw
        written.append((f"{kind.stem}.done", {**self._place(), kind.field: text}))
        return written

    def _place(self) -> JsonObject:
        place: JsonObject = {"item_id": self.item.raw.get("id"), "output_index": self.item.output_index}
        if self._kind is not None and not self._is_call:
            place["summary_index" if self._kind is SUMMARY else "content_index"] = self._position
        return place


def open_block(
    event: ContentBlockStart, held: WrittenItem | None, output_index: int, message_id: str
) -> WrittenBlock | None:
    """Return the block that `event` starts, or None for a block without a place in this API.

    Args:
        event: Start of the block.
        held: Item that the last block left open, or None. The block continues it if it belongs to the item.
        output_index: Index of a new item.
        message_id: Id of the response, from which ids of items are derived.
    """
    content = event.content or {}
    identity = f"{message_id.removeprefix('resp_')}_{event.index}"
    kept = own_metadata(content)
    fields = {key: value for key, value in kept.items() if key != "part"}
    match event.block_type:
        case "text" | "thinking":
            kind = REFUSAL if is_refusal(content) else TEXT
            if event.block_type == "thinking":
                kind = REASONING if kept.get("part") == REASONING.name else SUMMARY
            if held is not None and held.raw["type"] == kind.item_type and held.raw["id"] == fields.get("id"):
                held.raw = {**held.raw, **fields}
                return WrittenBlock(held, kind, content)
            shape: JsonObject = {"summary": []}
            if event.block_type == "text":
                shape = {"status": "completed", "role": "assistant", "content": []}
            item = _item(kind.item_type, {**shape, **fields}, output_index, identity)
            item.may_continue = True
            return WrittenBlock(item, kind, content)
        case "tool_use" if not content.get("provider_executed") or fields:
            raw = call_item(content, "", None)
            if raw["type"] not in INPUTS:
                return WrittenBlock(WrittenItem(output_index, raw, may_continue=True), None, content)
            item = _item(raw["type"], raw, output_index, identity)
            item.may_continue = raw["type"] in _PROVIDER_RUN
            return WrittenBlock(item, INPUTS[raw["type"]], content)
        case "tool_result" if held is not None and _is_result_of(held, content):
            return result_block(held, content)
        case "image" if content.get("data"):
            raw = {"result": content["data"], **fields}
            return WrittenBlock(_item("image_generation_call", raw, output_index, identity), None, {})
        case "provider" if is_raw_item(content):
            return WrittenBlock(WrittenItem(output_index, content, may_continue=False), None, {})
        case _:
            return None


def _is_result_of(held: WrittenItem, content: Content) -> bool:
    return held.raw["type"] in _PROVIDER_RUN and held.raw.get("id") == content.get("tool_use_id")


def result_block(item: WrittenItem, content: Content) -> WrittenBlock:
    """Return the result of a call that the provider ran. The result is a field of the call's item."""
    item.may_continue = item.awaits_result = False
    return WrittenBlock(item, None, content, is_result=True)


def _item(kind: str, fields: JsonObject, output_index: int, identity: str) -> WrittenItem:
    """Return a new item. `identity`: its id without a prefix, unless `fields` has an id."""
    generated = f"{_PREFIXES.get(kind, 'item')}_{identity}"
    return WrittenItem(output_index, {"id": generated, "type": kind, **fields}, may_continue=False)


def _part(kind: PartKind, text: str, citations: list[object]) -> JsonObject:
    if kind is TEXT:
        return {"type": kind.name, "text": text, "annotations": citations, "logprobs": []}
    return {"type": kind.name, kind.field: text}


def _part_stem(kind: PartKind) -> str:
    if kind is SUMMARY:
        return "response.reasoning_summary_part"
    return "response.reasoning_part" if kind is REASONING else "response.content_part"
