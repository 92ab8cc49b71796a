"""Decodes the tool calls in Ollama's lines. Any line, the final one included, may have complete calls."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import msgspec

from turnstream.core.stream_events import ContentBlockStart, ContentBlockStop, StreamEvent, ToolInputDelta
from turnstream.wires.ollama.lines import Call, FunctionCall
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.lenient_json import decode_json


class OllamaCalls:
    """The calls of one message.

    `indexes` provides the block indexes of the message.
    """

    def __init__(self, indexes: Iterator[int]) -> None:
        self._indexes = indexes
        self._seen: list[bytes] = []
        self._ids: set[str] = set()

    def __bool__(self) -> bool:
        """Return True if the model has called any tool."""
        return bool(self._seen)

    def new_in(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Return the new calls of a final line, which may repeat all earlier calls in their order."""
        known = len(self._seen)
        repeats = known <= len(calls) and all(
            _digest(call) == seen for call, seen in zip(calls, self._seen, strict=False)
        )
        return calls[known:] if repeats else calls

    def take(self, call: Call, seed: str, events: list[StreamEvent]) -> None:
        """Add the events of a call.

        Args:
            call: A complete call of a line.
            seed: Text that distinguishes this message from others, for generated ids.
            events: Receives the start, the input and the stop of the block.
        """
        function = call.function or FunctionCall(call.name, call.arguments)
        name = function.name or call.name or ""
        if not name and bytes(function.arguments) in (b"", b"null"):
            return
        identity = call.id if call.id and call.id not in self._ids else generated_id(seed, len(self._seen))
        self._ids.add(identity)
        self._seen.append(_digest(call))
        index = next(self._indexes)
        events.append(ContentBlockStart(index, "tool_use", {"tool_use_id": identity, "tool_name": name}))
        if arguments := _arguments(function.arguments):
            events.append(ToolInputDelta(index, arguments))
        events.append(ContentBlockStop(index))


def _arguments(raw: msgspec.Raw) -> str:
    """Return the JSON of the arguments. If the server sent it inside a string, take it out of the string."""
    data = bytes(raw)
    if data.startswith(b'"'):
        text = decode_json(data)
        return text if isinstance(text, str) else ""
    return "" if data == b"null" else data.decode("utf-8", "replace")


def _digest(call: Call) -> bytes:
    function = call.function or FunctionCall(call.name, call.arguments)
    digest = hashlib.blake2b(digest_size=16)
    for part in (call.id or "", str(function.index), function.name or call.name or ""):
        digest.update(part.encode("utf-8", "replace") + b"\0")
    digest.update(bytes(function.arguments))
    return digest.digest()
