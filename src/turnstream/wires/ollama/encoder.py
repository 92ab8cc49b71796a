"""Encodes StreamEvents as Ollama's lines, those of `/api/chat` or of `/api/generate`.

The encoder omits events that the wire cannot express: message ids, signatures, redacted thinking, citations,
the provider's server tools, images without data, notices. Blocks have no boundaries here: two consecutive
text blocks merge. A tool call is written when it is complete. `close` writes the final line, because counts
may arrive after the message's stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple, Self

from turnstream.core.blocks import BlockType, Content
from turnstream.core.open_block import TextChain
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.base import DeltaFrame
from turnstream.wires.ollama.errors import dump_error
from turnstream.wires.ollama.usage import dump_stop_reason, durations, write_counts
from turnstream.wires.shared.answer_writer import AnswerWriter
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import decode_json, encode_json, encode_text, on_one_line


class LineForm(NamedTuple):
    """The form of a line: the bytes around the answer's text.

    Attributes:
        text: Bytes before the text. The text is empty in a line with other content.
        end: Bytes after the content.
    """

    text: bytes
    end: bytes


CHAT = LineForm(b'"message":{"role":"assistant","content":', b"}")
GENERATE = LineForm(b'"response":', b"")
_CONTINUES = b',"done":false}\n'


class OllamaEncoder(AnswerWriter):
    """Encodes one response.

    Args:
        model: Name of the model if the message's start has none.
        message_id: Not used: lines have no ids.
        form: `CHAT`, or `GENERATE`, which has no tool calls.
        clock: Returns nanoseconds that have passed since the request. None: durations are the provider's.
    """

    def __init__(
        self,
        *,
        model: str,
        message_id: str,
        form: LineForm = CHAT,
        clock: Callable[[], int] | None = None,
    ) -> None:
        self._form = form
        self._clock = clock
        self._first_output = 0
        self._thinking_head = form.text + b'"","thinking":'
        self._tail = form.end + _CONTINUES
        self._created_at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        super().__init__(model=model, message_id=message_id)
        self._head = b""
        self._calls: dict[int, OpenCall] = {}
        self._written = 0
        self._latency_ms: float | None = None
        self._frame()

    def fork(self) -> Self:
        """Return an independent encoder in the same state."""
        other = super().fork()
        vars(other)["_calls"] = dict(self._calls)
        return other

    def delta_frame(self, index: int, block_type: BlockType) -> DeltaFrame | None:
        """Return the bytes around the next deltas of an open block. See `ForkingEncoder`."""
        del index
        if block_type == "tool_use":
            return None  # a call is written whole
        head = self._thinking_head if block_type == "thinking" else self._form.text
        return DeltaFrame(self._head + head, self._tail)

    def feed(self, events: Iterable[StreamEvent]) -> bytes:
        """Return the lines of `events`."""
        lines: list[bytes] = []
        for event in events:
            match event:
                case TextDelta():
                    lines.append(self._line(self._form.text, encode_text(event.text)))
                case ThinkingDelta():
                    lines.append(self._line(self._thinking_head, encode_text(event.text)))
                case _:
                    self._encode_rare(event, lines)
        return on_one_line(b"".join(lines))

    def close(self) -> bytes:
        """Return the final line of a message that was stopped, or b"" after an error or without a stop."""
        if self._stop is None or self._failed:
            return b""
        final: JsonObject = {
            "done_reason": dump_stop_reason(self._stop),
            "done": True,
            **write_counts(self._usage, self._raw_usage, self._latency_ms),
        }
        if self._clock is not None:
            final |= durations(self._clock(), self._first_output)
        empty = b'%b""%b,' % self._form
        return on_one_line(b"%b%b%b\n" % (self._head, empty, encode_json(final)[1:]))

    def _encode_rare(self, event: StreamEvent, lines: list[bytes]) -> None:
        match event:
            case MessageStart():
                self._take_names(event)
                self._frame()
                lines.append(self._line(self._form.text, b'""'))
            case ContentBlockStart():
                if self._clock is not None and not self._first_output:
                    self._first_output = self._clock()
                self._start(event, lines)
            case ContentDelta() if event.index in self._calls:
                call = self._calls[event.index]
                self._calls[event.index] = call._replace(content={**call.content, **event.content})
            case ToolInputDelta() if event.index in self._calls:
                self._calls[event.index] = self._calls[event.index].plus(event.partial_json)
            case ContentBlockStop() if event.index in self._calls:
                self._write_call(event.index, lines)
            case MessageStop():
                self._stop = event
                for index in list(self._calls):
                    self._write_call(index, lines)
            case Metadata():
                self._count(event)
                self._latency_ms = self._latency_ms if event.latency_ms is None else event.latency_ms
            case StreamError():
                self._failed = True
                lines.append(encode_json(dump_error(event)) + b"\n")
            case _:
                pass

    def _start(self, event: ContentBlockStart, lines: list[bytes]) -> None:
        content = event.content or {}
        if event.block_type == "tool_use" and not content.get("provider_executed"):
            self._calls[event.index] = OpenCall(content)
        elif event.block_type == "image" and content.get("data"):
            lines.append(self._line(self._form.text, b'"","images":[%b]' % encode_text(content["data"])))

    def _write_call(self, index: int, lines: list[bytes]) -> None:
        call = self._calls.pop(index)
        lines.append(self._line(self._form.text, b'"","tool_calls":[%b]' % call.encoded(self._written)))
        self._written += 1

    def _line(self, begin: bytes, escaped: bytes) -> bytes:
        return b"%b%b%b%b" % (self._head, begin, escaped, self._tail)

    def _frame(self) -> None:
        """Encode the beginning of every line once."""
        self._head = encode_json({"model": self._model, "created_at": self._created_at})[:-1] + b","


class OpenCall(NamedTuple):
    """A tool call whose arguments are still incomplete.

    `arguments`: JSON text. None before its first piece.
    """

    content: Content
    arguments: TextChain | None = None

    def plus(self, piece: str) -> OpenCall:
        """Return the call with one more piece of its arguments."""
        return self._replace(arguments=TextChain(piece, self.arguments))

    def encoded(self, position: int) -> bytes:
        name = self.content.get("tool_name", "")
        function = b'{"index":%d,"name":%b,"arguments":%b}' % (
            position,
            encode_json(name),
            self._encoded_arguments(),
        )
        return b'{"id":%b,"function":%b}' % (encode_json(self.content.get("tool_use_id", "")), function)

    def _encoded_arguments(self) -> bytes:
        """Return the arguments as a JSON object, or as a string if they are not an object.

        Keep their text unchanged if it fits on one line. `on_one_line` may still escape characters.
        """
        text = "" if self.arguments is None else self.arguments.text()
        if not text.strip():
            given = self.content.get("input")
            return encode_json(given) if is_object(given) else b"{}"
        try:
            data = text.encode()
            value = decode_json(data)
        except ValueError:
            return encode_json(text)
        if not is_object(value):
            return encode_json(text)
        return encode_json(value) if "\n" in text or "\r" in text or text != text.strip() else data
