"""Encodes StreamEvents as chat.completion.chunk events in OpenAI's format.

Content without a field in this API is left out: signatures and redacted thinking (unless they are in
`reasoning_details` or `thinking_blocks`), calls and results of the provider's own tools (a client would try
to run them), raw blocks of other vendors, and notices. The format has no block boundaries: two adjacent text
blocks become one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from turnstream.core.blocks import BlockType
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    RedactContent,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.base import DeltaFrame
from turnstream.wires.openai_chat.content_filters import withdrawal
from turnstream.wires.openai_chat.stop_reasons import dump_stop_reason
from turnstream.wires.openai_chat.thinking_blocks import THINKING_BLOCKS
from turnstream.wires.openai_chat.usage import write_usage
from turnstream.wires.shared.answer_writer import AnswerWriter
from turnstream.wires.shared.histories import media_url, metadata_of
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import encode_json, encode_text
from turnstream.wires.shared.openai_errors import ERRORS

_Delta: TypeAlias = dict[str, Any]


class OpenAIChatEncoder(AnswerWriter):
    """Encodes one response.

    Args:
        model: Model of a message start without one.
        message_id: Id of a message start without one.
        created: Seconds since the epoch. None: now.
        includes_usage: True to send the usage in a separate chunk before the end.
    """

    def __init__(
        self, *, model: str, message_id: str, created: int | None = None, includes_usage: bool = True
    ) -> None:
        self._created = int(time.time()) if created is None else created
        self._includes_usage = includes_usage
        super().__init__(model=model, message_id=message_id)
        self._begun = False
        self._tools: Mapping[int, _Tool] = {}
        self._refusals: frozenset[int] = frozenset()
        self._refused = False
        self._head = b""
        self._text_head = b""
        self._thinking_head = b""
        self._frame_all()

    def feed(self, events: Iterable[StreamEvent]) -> bytes:
        """Return the bytes of `events`."""
        frames: list[bytes] = []
        for event in events:
            if isinstance(event, TextDelta) and self._begun and not self._refusals:
                frames.append(b"%b%b%b" % (self._text_head, encode_text(event.text), _TAIL))
            elif isinstance(event, ThinkingDelta) and self._begun:
                frames.append(b"%b%b%b" % (self._thinking_head, encode_text(event.text), _TAIL))
            else:
                self._encode_rare(event, frames)
        return b"".join(frames)

    def delta_frame(self, index: int, block_type: BlockType) -> DeltaFrame | None:
        """Return the bytes around the next deltas of an open block. See `ForkingEncoder`."""
        if not self._begun or index in self._refusals:
            return None
        if block_type == "tool_use":
            tool = self._tools.get(index)
            if tool is None or not tool.has_arguments:
                return None
            return DeltaFrame(self._head + tool.fragment_head, _FRAGMENT_TAIL)
        return DeltaFrame(self._thinking_head if block_type == "thinking" else self._text_head, _TAIL)

    def close(self) -> bytes:
        """Return usage and `[DONE]` after a stopped message, or nothing after an error or without a stop."""
        if self._stop is None or self._failed:
            return b""
        usage = write_usage(self._usage, self._raw_usage) if self._includes_usage else None
        last = b"" if usage is None else self._chunk(b'"choices":[],"usage":' + encode_json(usage))
        return last + b"data: [DONE]\n\n"

    def _encode_rare(self, event: StreamEvent, frames: list[bytes]) -> None:
        if isinstance(event, Metadata):
            self._count(event)
            return
        if isinstance(event, StreamError):
            self._failed = True
            frames.append(b"data: %b\n\n" % encode_json(ERRORS.dump_error(event)))
            return
        if isinstance(event, MessageStart):
            self._take_names(event)
            self._frame_all()
        if not self._begun:
            self._begun = True
            frames.append(self._delta({"role": "assistant", "content": ""}))
        if isinstance(event, MessageStop):
            self._stop = event
            frames.append(self._finish(event))
            return
        if isinstance(event, RedactContent):
            if event.side == "assistant":
                frames.append(self._chunk(b'"choices":[' + encode_json(withdrawal()) + b"]"))
            return
        delta = self._delta_of(event)
        if delta is not None:
            frames.append(self._delta(delta))

    def _delta_of(self, event: StreamEvent) -> _Delta | None:
        match event:
            case TextDelta():
                return {"refusal" if event.index in self._refusals else "content": event.text}
            case ThinkingDelta():
                return {"reasoning_content": event.text}
            case ContentBlockStart():
                return self._delta_of_start(event)
            case ToolInputDelta():
                return self._fragment(event)
            case ContentDelta():
                return self._delta_of_content(event)
            case ContentBlockStop():
                tool = self._tools.get(event.index)
                return tool.rest() if tool is not None else None
            case _:
                return None

    def _fragment(self, event: ToolInputDelta) -> _Delta | None:
        tool = self._tools.get(event.index)
        if tool is None:
            return None
        if not tool.has_arguments:
            tool = self._put(event.index, tool._replace(has_arguments=True))
        return tool.fragment(event.partial_json)

    def _put(self, index: int, tool: _Tool) -> _Tool:
        """Set the call of block `index`. Forks share the mapping, so it is replaced."""
        self._tools = {**self._tools, index: tool}
        return tool

    def _delta_of_start(self, event: ContentBlockStart) -> _Delta | None:
        content = event.content or {}
        self._refusals -= {event.index}
        match event.block_type:
            case "text" if metadata_of(content).get("refusal"):
                self._refusals |= {event.index}
                self._refused = True
                return None
            case "text" | "thinking":
                return self._delta_of_content(ContentDelta(event.index, content)) if content else None
            case "tool_use" if not content.get("provider_executed"):
                return self._put(event.index, _Tool(len(self._tools), content)).first()
            case "image":
                return {"images": [{"type": "image_url", "image_url": {"url": media_url(content)}}]}
            case _:
                return None

    def _delta_of_content(self, event: ContentDelta) -> _Delta | None:
        content = event.content
        delta: _Delta = {}
        if content.get("citations"):
            delta["annotations"] = content["citations"]
        metadata = metadata_of(content)
        fields = ("reasoning_details", THINKING_BLOCKS)
        delta |= {field: metadata[field] for field in fields if metadata.get(field)}
        if event.index in self._tools and (content.get("tool_use_id") or content.get("tool_name")):
            return self._tools[event.index].amended(content)
        return delta or None

    def _finish(self, stop: MessageStop) -> bytes:
        reason = dump_stop_reason(stop, refused=self._refused, called=bool(self._tools))
        choice: JsonObject = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}
        if stop.stop_sequence is not None:
            choice["stop_reason"] = stop.stop_sequence
        return self._chunk(b'"choices":[' + encode_json(choice) + b"]")

    def _delta(self, delta: _Delta) -> bytes:
        return self._chunk(_CHOICE_HEAD + encode_json(delta) + _CHOICE_TAIL)

    def _chunk(self, rest: bytes) -> bytes:
        return b"%b%b}\n\n" % (self._head, rest)

    def _frame_all(self) -> None:
        """Encode the common beginning of chunks once."""
        head = {
            "id": self._message_id,
            "object": "chat.completion.chunk",
            "created": self._created,
            "model": self._model,
        }
        self._head = b"data: " + encode_json(head)[:-1] + b","
        self._text_head = self._head + _CHOICE_HEAD + b'{"content":'
        self._thinking_head = self._head + _CHOICE_HEAD + b'{"reasoning_content":'


_CHOICE_HEAD = b'"choices":[{"index":0,"delta":'
_CHOICE_TAIL = b',"logprobs":null,"finish_reason":null}]'
_TAIL = b"}" + _CHOICE_TAIL + b"}\n\n"
_FRAGMENT_TAIL = b"}}]" + _TAIL


class _Tool(NamedTuple):
    """A tool call while it is written."""

    position: int
    content: JsonObject
    has_arguments: bool = False

    @property
    def fragment_head(self) -> bytes:
        """Bytes of a chunk from its choice to the next fragment of the arguments."""
        return b'%b{"tool_calls":[{"index":%d,"function":{"arguments":' % (_CHOICE_HEAD, self.position)

    def first(self) -> _Delta:
        function = {"name": self.content.get("tool_name", ""), "arguments": ""}
        return self._calls(
            {"id": self.content.get("tool_use_id", ""), "type": "function", "function": function}
        )

    def fragment(self, partial_json: str) -> _Delta:
        return self._calls({"function": {"arguments": partial_json}})

    def amended(self, content: JsonObject) -> _Delta:
        """Return the delta for an id or a name that came late."""
        found: JsonObject = {"function": {"name": content["tool_name"]}} if content.get("tool_name") else {}
        return self._calls({**found, "id": content["tool_use_id"]} if content.get("tool_use_id") else found)

    def rest(self) -> _Delta | None:
        """Return the arguments that came whole with the start of the block, or None."""
        given = self.content.get("input")
        if self.has_arguments or not given:
            return None
        return self.fragment(encode_json(given).decode())

    def _calls(self, call: JsonObject) -> _Delta:
        return {"tool_calls": [{"index": self.position, **call}]}
