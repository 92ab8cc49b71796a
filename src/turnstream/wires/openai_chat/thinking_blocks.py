"""Reads and writes `thinking_blocks` (LiteLLM in front of Anthropic): thinking with the signature that must
go back with it.

They come in a delta or in its `provider_specific_fields`, along with the plain reasoning text or without it,
in fragments, whole, or both. The text of a thinking block is shown once. Its signature is kept in the block's
`provider_metadata.thinking_blocks`, without the text. An entry that comes after its block has ended is kept
whole in a block without text.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from turnstream.core.blocks import Block, Content
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.thoughts import read_thought

THINKING_BLOCKS = "thinking_blocks"
SIGNED_PART = "signed_part"
THINKING_FIELDS = (THINKING_BLOCKS, "reasoning_content", "reasoning", "thinking")
"""Fields of `provider_specific_fields` that hold thinking."""


class Entry(NamedTuple):
    """An entry of `thinking_blocks`. `seal` is its signature or redacted data, or empty if it has come
    before."""

    raw: JsonObject
    text: str
    seal: str

    @property
    def is_redacted(self) -> bool:
        return isinstance(self.raw.get("data"), str)


class ThinkingEntries:
    """Reads the entries of one message. Each signature is read once."""

    def __init__(self) -> None:
        self._seals: set[int] = set()
        self._shown: list[str] = []
        self._ended: set[int] = set()

    def read(self, given: Any) -> list[Entry]:
        """Return the entries of a delta that have new content."""
        if is_object(given):
            given = [given]
        entries = [self._entry(item) for item in given if is_object(item)] if is_list(given) else []
        return [entry for entry in entries if entry.text or entry.seal]

    def is_repetition(self, entry: Entry) -> bool:
        """Return True if an entry repeats a whole thought that was shown in fragments."""
        if not entry.raw.get("signature"):
            return False
        return hash(entry.text) in self._ended or entry.text == "".join(self._shown)

    def is_new(self, seal: str) -> bool:
        """Return True if this signature or redacted data has not come before."""
        is_new = bool(seal) and hash(seal) not in self._seals
        self._seals.add(hash(seal))
        return is_new

    def show(self, text: str) -> None:
        self._shown.append(text)

    def end(self) -> None:
        """End the block that showed the last entries."""
        if self._shown:
            self._ended.add(hash("".join(self._shown)))
            self._shown = []

    def _entry(self, raw: JsonObject) -> Entry:
        text, seal = read_thought(raw)
        data = raw.get("data")
        seal = seal or (data if isinstance(data, str) else "")
        return Entry(raw, text, seal if self.is_new(seal) else "")


def without_text(entry: Entry) -> Content:
    """Return the content of a block that shows the entry's text: the entry without its text."""
    kept = {key: value for key, value in entry.raw.items() if key not in ("thinking", "text")}
    return {"provider_metadata": {THINKING_BLOCKS: [kept]}}


def whole(entry: Entry) -> Content:
    """Return the content of a block without text: the whole entry."""
    return {"provider_metadata": {THINKING_BLOCKS: [entry.raw]}}


def signed_part(part: JsonObject) -> Content:
    """Return the content of a thinking block whose signature came in a content part (Databricks).

    The content is that part without its text.
    """
    summary = [{k: v for k, v in item.items() if k != "text"} for item in part["summary"] if is_object(item)]
    return {"provider_metadata": {SIGNED_PART: {**part, "summary": summary[-1:]}}}


def dump_signed_parts(blocks: Iterable[Block]) -> list[JsonObject]:
    """Return the content parts in which the thinking of a message goes back."""
    dumped: list[JsonObject] = []
    for block in blocks:
        metadata = (block.content or {}).get("provider_metadata") if block.block_type == "thinking" else None
        part = metadata.get(SIGNED_PART) if is_object(metadata) and not block.partial else None
        if is_object(part) and is_list(summary := part.get("summary")) and summary and is_object(summary[0]):
            dumped.append({**part, "summary": [{**summary[0], "text": block.text_content or ""}]})
    return dumped


def dump_thinking_blocks(blocks: Iterable[Block]) -> list[JsonObject]:
    """Return the `thinking_blocks` of a message. An entry without text gets the text of its block, or of the
    block before."""
    dumped: list[JsonObject] = []
    text = ""
    for block in blocks:
        if block.block_type != "thinking" or block.partial:
            continue
        text = block.text_content or text
        metadata = (block.content or {}).get("provider_metadata")
        entries = metadata.get(THINKING_BLOCKS) if is_object(metadata) else None
        for entry in entries if is_list(entries) else ():
            if is_object(entry):
                has_text = "data" in entry or entry.get("thinking")
                dumped.append(entry if has_text else {**entry, "thinking": text})
    return dumped


def parse_thinking_blocks(value: Any) -> list[Block]:
    """Return the thinking blocks for the `thinking_blocks` of a request's message."""
    entries = [item for item in value if is_object(item)] if is_list(value) else []
    return [_parse_entry(Entry(entry, *read_thought(entry))) for entry in entries]


def _parse_entry(entry: Entry) -> Block:
    content = without_text(entry)
    if entry.is_redacted:
        return Block(0, "thinking", "", {"redacted": entry.raw["data"], **content})
    return Block(0, "thinking", entry.text, {**content, "signature": entry.seal} if entry.seal else content)
