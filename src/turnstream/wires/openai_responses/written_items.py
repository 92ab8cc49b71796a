"""State of the output items that an encoder of Responses writes. Our blocks are their parts."""

from __future__ import annotations

from typing import TypeAlias

from turnstream.core.blocks import Content
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

_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}
_PROVIDER_RUN = frozenset({"mcp_call", "code_interpreter_call", "file_search_call"})


class WrittenItem:
    """An output item.

    Attributes:
        raw: The item in its current state.
        may_continue: True if the next block may be a part of the item too.
    """

    __slots__ = ("ended", "may_continue", "open_parts", "output_index", "parts", "raw")

    def __init__(self, output_index: int, raw: JsonObject, *, may_continue: bool) -> None:
        self.output_index = output_index
        self.raw = raw
        self.may_continue = may_continue
        self.open_parts = 0
        self.parts: dict[str, int] = {}
        self.ended = False

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

    `head` and `tail` are the bytes around a delta's text. `head` is None until the part begins.
    """

    __slots__ = (
        "_citations", "_content", "_is_call", "_kind", "_position", "_result", "head", "item", "tail",
        "texts",
    )  # fmt: skip

    def __init__(self, item: WrittenItem, kind: PartKind | None, content: Content) -> None:
        self.item = item
        self.head: bytes | None = None
        self.tail = b""
        self.texts: list[str] = []
        self._kind = kind
        self._content = content
        self._position = 0
        self._citations: list[object] = []
        self._result: Content | None = None
        self._is_call = kind is not None and kind.item_type in INPUTS
        item.open_parts += 1

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
        self.tail = b'"sequence_number":'
        return written

    def amend(self, content: Content) -> WrittenEvents:
        """Return the events for content that the block gains."""
        written: WrittenEvents = []
        for citation in citations_of(content):
            place = {**self._place(), "annotation_index": len(self._citations)}
            written.append(("response.output_text.annotation.added", {**place, "annotation": citation}))
            self._citations.append(citation)
        self._content = {**self._content, **content}
        kept = own_metadata(content)
        if kept:
            self.item.raw |= {key: value for key, value in kept.items() if key != "part"}
        if (
            self._kind is not None
            and self._kind.item_type == "reasoning"
            and kept.get("part") == REASONING.name
        ):
            self._kind = REASONING
        if self._kind is TEXT and is_refusal(content):
            self._kind = REFUSAL
        return written

    def end(self) -> WrittenEvents:
        """Return the events that end the part, and add the part to its item."""
        self.item.open_parts -= 1
        if self._kind is None:
            return []
        if self._is_call:
            return self._end_call(self._kind)
        if self.head is None:
            return []
        text = "".join(self.texts)
        kind, place = self._kind, self._place()
        part = _part(kind, text, self._citations)
        field = "summary" if kind is SUMMARY else "content"
        self.item.raw[field] = [*self.item.raw.get(field, ()), part]
        logprobs: JsonObject = {"logprobs": []} if kind is TEXT else {}
        return [
            (f"{kind.stem}.done", {**place, kind.field: text, **logprobs}),
            (f"{_part_stem(kind)}.done", {**place, "part": part}),
        ]

    def _end_call(self, kind: PartKind) -> WrittenEvents:
        given = self._content.get("input")
        text = "".join(self.texts)
        written: WrittenEvents = []
        if not text and is_object(given) and given and not self._content.get("free_text"):
            text = encode_json(given).decode()
            written = self.begin() if self.head is None else []
            written.append((f"{kind.stem}.delta", {**self._place(), "delta": text}))
        self.item.raw = {**self.item.raw, **call_item(self._content, text, None), "status": "completed"}
        self.item.raw.setdefault("id", None)
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
        held: Item that may continue, or None. The block becomes a part of it if it belongs to the same item.
        output_index: Index of a new item.
        message_id: Id of the response, from which ids of items are derived.
    """
    content = event.content or {}
    kept = own_metadata(content)
    fields = {key: value for key, value in kept.items() if key != "part"}
    match event.block_type:
        case "text" | "thinking":
            kind = REFUSAL if is_refusal(content) else TEXT
            if event.block_type == "thinking":
                kind = REASONING if kept.get("part") == REASONING.name else SUMMARY
            if held is not None and held.raw["type"] == kind.item_type and held.raw["id"] == fields.get("id"):
                held.raw |= fields
                return WrittenBlock(held, kind, content)
            shape: JsonObject = {"summary": []}
            if event.block_type == "text":
                shape = {"status": "completed", "role": "assistant", "content": []}
            item = _item(kind.item_type, {**shape, **fields}, output_index, message_id)
            item.may_continue = True
            return WrittenBlock(item, kind, content)
        case "tool_use" if not content.get("provider_executed") or fields:
            raw = call_item(content, "", None)
            if raw["type"] not in INPUTS:
                return WrittenBlock(WrittenItem(output_index, raw, may_continue=True), None, content)
            item = _item(raw["type"], raw, output_index, message_id)
            item.may_continue = raw["type"] in _PROVIDER_RUN
            return WrittenBlock(item, INPUTS[raw["type"]], content)
        case "tool_result" if held is not None and _is_result_of(held, content):
            return _result_block(held, content)
        case "image" if content.get("data"):
            raw = {"result": content["data"], **fields}
            return WrittenBlock(_item("image_generation_call", raw, output_index, message_id), None, {})
        case "provider" if is_raw_item(content):
            return WrittenBlock(WrittenItem(output_index, content, may_continue=False), None, {})
        case _:
            return None


def _is_result_of(held: WrittenItem, content: Content) -> bool:
    return held.raw["type"] in _PROVIDER_RUN and held.raw.get("id") == content.get("tool_use_id")


def _result_block(held: WrittenItem, content: Content) -> WrittenBlock:
    """Return the result of a call that the provider ran. The result is a field of the call's item."""
    said, failed = content.get("content"), bool(content.get("is_error"))
    match held.raw["type"]:
        case "mcp_call":
            held.raw |= {"output": None, "error": said} if failed else {"output": said, "error": None}
        case "code_interpreter_call":
            held.raw["outputs"] = said
        case _:
            held.raw["results"] = said
    held.may_continue = False
    return WrittenBlock(held, None, {})


def _item(kind: str, fields: JsonObject, output_index: int, message_id: str) -> WrittenItem:
    generated = f"{_PREFIXES.get(kind, 'item')}_{message_id.removeprefix('resp_')}_{output_index}"
    return WrittenItem(output_index, {"id": generated, "type": kind, **fields}, may_continue=False)


def _part(kind: PartKind, text: str, citations: list[object]) -> JsonObject:
    if kind is TEXT:
        return {"type": kind.name, "text": text, "annotations": citations, "logprobs": []}
    return {"type": kind.name, kind.field: text}


def _part_stem(kind: PartKind) -> str:
    if kind is SUMMARY:
        return "response.reasoning_summary_part"
    return "response.reasoning_part" if kind is REASONING else "response.content_part"
