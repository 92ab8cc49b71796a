"""Builds blocks from the parts of a Gemini stream, with the metadata that must return with each part.

A text or thinking block begins when the kind of content changes, and the next block stops it. Every other
part is a block. A thought signature stays with its part. It is the `signature` of a thinking block, and
`provider_metadata.thoughtSignature` of any other. A text block also has `provider_metadata.signed`: start and
end of the signed part in the block's text. A part of a kind that only Gemini has or knows becomes a raw
`provider` block.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from turnstream.core.blocks import BlockType, Content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.gemini.calls import FunctionCalls
from turnstream.wires.gemini.chunks import named, text_in
from turnstream.wires.gemini.messages import THOUGHT, ServerTools, parse_image
from turnstream.wires.shared.histories import as_metadata
from turnstream.wires.shared.json_values import JsonObject, is_object, without
from turnstream.wires.shared.kept_fields import KeptFields
from turnstream.wires.shared.lenient_json import encode_json, replace_surrogates

_OF_A_TEXT = frozenset({"mediaResolution", "partMetadata", "videoMetadata"})
"""Fields that belong to a part and return with its text. Such text gets a separate block."""
_BLOCKS = (
    "inlineData", "fileData", "executableCode", "codeExecutionResult", "toolCall", "toolResponse",
)  # fmt: skip
"""Fields of the parts that become separate blocks."""


class PartBuilder:
    """The blocks of one message."""

    def __init__(self) -> None:
        self._indexes = count()
        self.calls = FunctionCalls(self._indexes)
        self.open_type: BlockType | None = None
        """`text` or `thinking` while such a block is open, else None."""
        self.index = 0
        self.length = 0
        """Characters of the open text block."""
        self.signed = False
        self._has_output = False
        self._server_tools = ServerTools(self.calls.new_id)
        self._citations: list[Any] = []
        self._cited: set[bytes] = set()
        self._kept = KeptFields()
        self._own: tuple[BlockType, JsonObject] | None = None
        """Type and metadata of the open block if its text parts have metadata, else None."""

    @property
    def has_output(self) -> bool:
        """True once content other than thinking has arrived."""
        return self._has_output or bool(self.calls)

    @property
    def has_begun(self) -> bool:
        """True once text, thinking or a call has arrived."""
        return self.open_type is not None or self.index > 0 or bool(self.calls)

    def take(self, part: JsonObject, events: list[StreamEvent]) -> None:
        """Add the events of a part. Raises MalformedEvent if a call in it is malformed."""
        rest = dict(named(part))
        if is_object(call := rest.pop("functionCall", None)):
            call = named(call)
            if not self.calls.continues(call):
                self._leave(events)
            self.calls.take(call, rest, events)
        elif isinstance(text := rest.pop("text", None), str) or (
            text is None and rest.keys() == {"thoughtSignature"}
        ):
            block_type: BlockType = "thinking" if rest.pop("thought", None) is True else "text"
            signature = replace_surrogates(text_in(rest.pop("thoughtSignature", None)))
            self._keep_extras(rest, events)
            self._take_text(text or "", block_type, signature, rest, events)
        elif (block := self._whole_block(rest)) is not None:
            self._has_output = True
            self.leave(events)
            self._add(*block, events)
        elif part:
            self._has_output = True
            self.leave(events)
            self._add("provider", dict(part), "", events)

    def take_text(self, text: str, block_type: BlockType, events: list[StreamEvent]) -> None:
        """Add text or thinking to the open block, or to a new one."""
        if not text:
            return
        self._enter(block_type, events)
        self.length += len(text)
        events.append(
            TextDelta(self.index, text) if block_type == "text" else ThinkingDelta(self.index, text)
        )

    def cite(self, citations: list[Any], events: list[StreamEvent]) -> None:
        """Add each new citation to the open text block, or to the next."""
        for citation in citations:
            written = encode_json(citation)
            if written not in self._cited:
                self._cited.add(written)
                self._citations.append(citation)
        if self._citations and self.open_type == "text":
            events.append(ContentDelta(self.index, {"citations": self._citations}))
            self._citations = []

    def leave(self, events: list[StreamEvent]) -> None:
        """Stop every open block."""
        self._leave(events)
        self.calls.stop(events)

    def _leave(self, events: list[StreamEvent]) -> None:
        """Stop the open text or thinking block."""
        if self.open_type is not None or self._own is not None:
            events.append(ContentBlockStop(self.index))
            self.open_type = None
            self._own = None

    def _enter(self, block_type: BlockType, events: list[StreamEvent]) -> None:
        if self.open_type == block_type and not (block_type == "thinking" and self.signed):
            return
        self.leave(events)
        self.open_type = block_type
        self.index = next(self._indexes)
        self.length = 0
        self.signed = False
        events.append(ContentBlockStart(self.index, block_type))
        if block_type == "text":
            self._has_output = True
            self.cite([], events)

    def _take_text(
        self, text: str, block_type: BlockType, signature: str, rest: JsonObject, events: list[StreamEvent]
    ) -> None:
        if rest and not signature and self._own == (block_type, rest):
            self._grow(block_type, text, events)
        elif rest:
            self.leave(events)
            self._add_text_of_its_own(text, block_type, signature, rest, events)
        elif not signature:
            self.take_text(text, block_type, events)
        elif block_type == "thinking":
            self._enter("thinking", events)
            self.take_text(text, "thinking", events)
            self.signed = True
            events.append(SignatureDelta(self.index, signature))
            events.append(ContentDelta(self.index, {"provider_metadata": {"part": THOUGHT}}))
        elif not text and (self.open_type != "text" or self.signed):
            self.leave(events)
            self._add("provider", {"text": "", "thoughtSignature": signature}, "", events)
        else:
            if self.signed:
                self.leave(events)
            self.take_text(text, "text", events)
            self._sign(len(text), signature, events)

    def _sign(self, length: int, signature: str, events: list[StreamEvent]) -> None:
        """Add the signature of a part: the last `length` characters of the open text."""
        self.signed = True
        signed = [self.length - length, self.length]
        metadata = {"thoughtSignature": signature, "signed": signed}
        events.append(ContentDelta(self.index, {"provider_metadata": metadata}))

    def _add_text_of_its_own(
        self, text: str, block_type: BlockType, signature: str, rest: JsonObject, events: list[StreamEvent]
    ) -> None:
        """Add a text part that has metadata."""
        self._has_output = self._has_output or block_type == "text"
        metadata = replace_surrogates(rest)
        if signature and block_type == "text":
            metadata |= {"thoughtSignature": signature, "signed": [0, len(text)]}
        elif signature:
            metadata["part"] = THOUGHT
        self.index = next(self._indexes)
        self._own = block_type, rest
        events.append(ContentBlockStart(self.index, block_type, {"provider_metadata": metadata}))
        self._grow(block_type, text, events)
        if signature and block_type == "thinking":
            events.append(SignatureDelta(self.index, signature))
        if signature:
            self._leave(events)

    def _grow(self, block_type: BlockType, text: str, events: list[StreamEvent]) -> None:
        if text:
            kind = TextDelta if block_type == "text" else ThinkingDelta
            events.append(kind(self.index, text))

    def _keep_extras(self, rest: JsonObject, events: list[StreamEvent]) -> None:
        """Move fields that only some proxies send from `rest` to the message's metadata.

        The first value counts.
        """
        extras = {key: rest.pop(key) for key in rest.keys() - _OF_A_TEXT}
        if new := self._kept.keep(extras, events):
            events.append(Metadata(provider_metadata=replace_surrogates(new)))

    def _whole_block(self, part: JsonObject) -> tuple[BlockType, Content, str] | None:
        """Return type, content and tool input of a part that is a separate block, or None for others."""
        for name in _BLOCKS:
            value = part.get(name)
            parsed = parse_image(name, value) or self._server_tools.parse(name, value)
            if parsed is not None:
                block_type, content, text = parsed
                metadata = without(part, name)
                if block_type != "image":
                    metadata["part"] = name
                return block_type, content | as_metadata(metadata), text
        return None

    def _add(self, block_type: BlockType, content: Content, text: str, events: list[StreamEvent]) -> None:
        index = next(self._indexes)
        events.append(ContentBlockStart(index, block_type, replace_surrogates(content)))
        if text:
            events.append(ToolInputDelta(index, text))
        events.append(ContentBlockStop(index))
