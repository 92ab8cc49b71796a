"""Encodes StreamEvents as Gemini's stream, as server-sent events or as one JSON array.

Each piece of text is one event. Every other block is one part, and is written as an event when it is
complete. The encoder omits events that the wire cannot express: redacted thinking, other providers' server
tools, other vendors' raw blocks, notices. Blocks have no boundaries here: two consecutive text blocks merge.
`close` writes the last event, because counts may arrive after the message's stop.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from turnstream.core.blocks import Block, BlockType, Content
from turnstream.core.open_block import merge_content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    SignatureDelta,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.tool_input import finish_tool_use
from turnstream.wires.gemini.errors import dump_error
from turnstream.wires.gemini.messages import dump_parts
from turnstream.wires.gemini.stop_reasons import dump_stop_reason
from turnstream.wires.gemini.usage import write_usage
from turnstream.wires.shared.answer_writer import AnswerWriter
from turnstream.wires.shared.json_values import JsonObject, is_list, is_object
from turnstream.wires.shared.lenient_json import encode_json, encode_text

_TEXT = b'{"candidates":[{"content":{"parts":[{"text":'
_PART = b'{"candidates":[{"content":{"parts":['
_AFTER_TEXT = b'}],"role":"model"},"index":0}]'
_AFTER_THOUGHT = b',"thought":true' + _AFTER_TEXT
_AFTER_PART = b'],"role":"model"},"index":0'
_CITED = ("title", "license", "startIndex", "endIndex", "publicationDate")


class GeminiEncoder(AnswerWriter):
    """Encodes one response.

    Args:
        model: Name of the model if the message's start has none.
        message_id: Id of the message if the message's start has none.
        as_array: True for one JSON array, False for server-sent events.
    """

    def __init__(self, *, model: str, message_id: str, as_array: bool = False) -> None:
        super().__init__(model=model, message_id=message_id)
        self._as_array = as_array
        self._before = b"[" if as_array else b"data: "
        self._whole: dict[int, _OpenPart] = {}
        self._tail = b""
        self._withdraws = False
        self._frame()

    def feed(self, events: Iterable[StreamEvent]) -> bytes:
        """Return the bytes of `events`."""
        frames: list[bytes] = []
        for event in events:
            match event:
                case TextDelta():
                    self._write(frames, b"%b%b%b" % (_TEXT, encode_text(event.text), _AFTER_TEXT))
                case ThinkingDelta():
                    self._write(frames, b"%b%b%b" % (_TEXT, encode_text(event.text), _AFTER_THOUGHT))
                case _:
                    self._encode_rare(event, frames)
        return b"".join(frames)

    def close(self) -> bytes:
        """Return the last event of a message that was stopped, and the end of the array."""
        frames: list[bytes] = []
        if self._stop is not None and not self._failed:
            reason = encode_json(self._ending(self._stop))[1:-1]
            self._write(frames, b'%b{"text":""}%b,%b}]' % (_PART, _AFTER_PART, reason))
        if self._as_array:
            frames.append(b"[]" if self._before == b"[" else b"\n]\n")
        return b"".join(frames)

    def _ending(self, stop: MessageStop) -> JsonObject:
        if not self._withdraws:
            return {"finishReason": dump_stop_reason(stop)}
        rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
        return {"finishReason": "SAFETY", "safetyRatings": [rating]}

    def _encode_rare(self, event: StreamEvent, frames: list[bytes]) -> None:
        match event:
            case MessageStart():
                self._take_names(event)
                self._frame()
            case ContentBlockStart() if event.block_type not in ("text", "thinking"):
                self._whole[event.index] = _OpenPart(event)
            case ToolInputDelta() if event.index in self._whole:
                self._whole[event.index].fragments.append(event.partial_json)
            case ContentDelta() if event.index in self._whole:
                self._whole[event.index].merge(event.content)
            case ContentDelta():
                self._write_text_extras(event.content, frames)
            case SignatureDelta():
                part = {"text": "", "thought": True, "thoughtSignature": event.signature}
                self._write_part(encode_json(part), frames)
            case ContentBlockStop() if event.index in self._whole:
                self._write_whole(event.index, frames)
            case MessageStop():
                self._stop = event
                for index in list(self._whole):
                    self._write_whole(index, frames)
            case RedactContent():
                self._withdraws = self._withdraws or event.side == "assistant"
            case Metadata():
                self._count(event)
                self._frame()
            case StreamError():
                self._failed = True
                frames.append(self._framed(encode_json(dump_error(event))))
            case _:
                pass

    def _write_text_extras(self, content: Content, frames: list[bytes]) -> None:
        """Write a signature and citations for text that is already written.

        A signature needs an empty part. Citations do not.
        """
        metadata = content.get("provider_metadata")
        if is_object(metadata) and (signature := metadata.get("thoughtSignature")):
            self._write_part(encode_json({"text": "", "thoughtSignature": signature}), frames)
        citations = content.get("citations")
        if is_list(citations) and (found := [cited for item in citations if (cited := _citation(item))]):
            cited = encode_json({"citationMetadata": {"citations": found}})[1:-1]
            self._write(frames, b"%b%b,%b}]" % (_PART, _AFTER_PART, cited))

    def _write_whole(self, index: int, frames: list[bytes]) -> None:
        for part in self._whole.pop(index).encoded():
            self._write_part(part, frames)

    def _write_part(self, part: bytes, frames: list[bytes]) -> None:
        self._write(frames, b"%b%b%b}]" % (_PART, part, _AFTER_PART))

    def _write(self, frames: list[bytes], candidates: bytes) -> None:
        frames.append(self._framed(candidates + self._tail))

    def _framed(self, data: bytes) -> bytes:
        if not self._as_array:
            return b"data: %b\n\n" % data
        framed = self._before + data
        self._before = b"\n,\n"
        return framed

    def _frame(self) -> None:
        """Encode the end of every event once."""
        usage = write_usage(self._usage, self._raw_usage)
        counted = {} if usage is None else {"usageMetadata": usage}
        tail = {**counted, "modelVersion": self._model, "responseId": self._message_id}
        self._tail = b"," + encode_json(tail)[1:]


class _OpenPart:
    """A block that is written when it is complete."""

    __slots__ = ("block_type", "content", "fragments", "own_lists")

    def __init__(self, start: ContentBlockStart) -> None:
        self.block_type: BlockType = start.block_type
        self.content: Content = dict(start.content or {})
        self.fragments: list[str] = []
        self.own_lists: set[str] = set()

    def merge(self, content: Content) -> None:
        merge_content(self.content, content, self.own_lists)

    def encoded(self) -> list[bytes]:
        text = "".join(self.fragments)
        content = self.content
        if self.block_type == "tool_use":
            content = finish_tool_use(content, text)
            if not content.get("provider_executed"):
                return [self._call(content, text)]
        return [encode_json(part) for part in dump_parts(Block(0, self.block_type, None, content))]

    def _call(self, content: Content, text: str) -> bytes:
        """Return a call whose arguments are unchanged if they fit on a line.

        Arguments that are not an object become a string.
        """
        (part,) = dump_parts(Block(0, "tool_use", None, content))
        call = part["functionCall"]
        if not text.strip():
            if not call["args"]:
                del call["args"]
        elif content["input"] is None:
            call["args"] = text
        elif "\n" not in text and "\r" not in text:
            call["args"] = msgspec.Raw(text.encode())
        return encode_json(part)


def _citation(citation: object) -> JsonObject | None:
    """Return a citation with this API's fields. Another vendor's keeps its address and title."""
    if not is_object(citation):
        return None
    url = citation.get("uri") or citation.get("url")
    known = {key: citation[key] for key in _CITED if citation.get(key) is not None}
    return {"uri": url, **known} if isinstance(url, str) else None
