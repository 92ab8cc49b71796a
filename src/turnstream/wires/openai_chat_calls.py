"""Tool calls out of chat.completions fragments.

The wire says where a call begins, badly: by a new index, by a new id at an old index, by an id where there is no
index, or only by a name; ids and names are repeated, empty or null in what follows. It never says where one ends: a call
is stopped as soon as another block begins, if its arguments are whole by then, else it stays open (some vendors
interleave) until the message ends.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    StreamEvent,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.lenient_json import decode_json
from turnstream.wires.made_up_ids import made_up_id
from turnstream.wires.openai_chat_chunks import ToolCallDelta
from turnstream.wires.openai_chat_template import Growing

LEGACY_POSITION = -1
"""The place of the one call of a legacy `function_call`."""


class _Call:
    """A tool call. `given_id` is the provider's id, empty where it gave none."""

    __slots__ = ("arguments", "given_id", "index", "name", "open")

    def __init__(self, index: int, given_id: str, name: str) -> None:
        self.index = index
        self.given_id = given_id
        self.name = name
        self.arguments: list[str] = []
        self.open = True

    def is_whole(self) -> bool:
        """Whether the arguments so far are one JSON object."""
        text = "".join(self.arguments)
        self.arguments = [text]
        if not text.rstrip().endswith("}"):
            return False
        try:
            return isinstance(decode_json(text.encode("utf-8", "surrogatepass")), dict)
        except ValueError:
            return False


class ToolCalls:
    """The tool calls of one message. `indexes` hands out the message's block indexes."""

    def __init__(self, indexes: Iterator[int]) -> None:
        self._indexes = indexes
        self._at: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}
        self._all: list[_Call] = []
        self._open: list[_Call] = []
        self._last_taken: _Call | None = None

    def __bool__(self) -> bool:
        """Whether the model has called any tool."""
        return bool(self._all)

    @property
    def any_open(self) -> bool:
        return bool(self._open)

    @property
    def growing(self) -> Growing | None:
        """The call that the last fragment was for, where more of it may come."""
        call = self._last_taken
        return Growing(call.index, call.arguments) if call is not None and call.open else None

    def take(self, delta: ToolCallDelta, message_id: str, events: list[StreamEvent]) -> None:
        """Add what a fragment of a call means. Raises MalformedEvent for arguments of a call that has ended."""
        function = delta.function
        given_id = delta.id if delta.id and delta.id != "null" else ""
        name = (function.name or "") if function is not None else ""
        arguments = (function.arguments or "") if function is not None else ""
        call = self._find(delta.index, given_id)
        if call is None or _is_another(call, given_id, name, arguments):
            call = self._begin(delta.index, given_id, name, events, message_id)
        elif given_id != call.given_id or name != call.name:
            self._amend(call, given_id, name, events)
        self._last_taken = call
        if delta.extras and call.open:
            events.append(ContentDelta(call.index, {"provider_metadata": delta.extras}))
        if not arguments:
            return
        if call.open:
            call.arguments.append(arguments)
            events.append(ToolInputDelta(call.index, arguments))
        elif not arguments.isspace():
            raise MalformedEvent("arguments for a tool call that had ended")

    def stop_whole(self, events: list[StreamEvent]) -> None:
        """Another block begins: stop the calls whose arguments are whole."""
        for call in list(self._open):
            if call.is_whole():
                self._stop(call, events)

    def stop_all(self, events: list[StreamEvent]) -> None:
        for call in list(self._open):
            self._stop(call, events)

    def _find(self, position: int | None, given_id: str) -> _Call | None:
        if position is not None:
            return self._at.get(position)
        if given_id:
            return self._by_id.get(given_id)
        return self._all[-1] if self._all else None

    def _begin(
        self, position: int | None, given_id: str, name: str, events: list[StreamEvent], message_id: str
    ) -> _Call:
        self.stop_whole(events)
        call = _Call(next(self._indexes), given_id, name)
        identity = given_id or made_up_id(message_id, len(self._all))
        self._all.append(call)
        self._open.append(call)
        if position is not None:
            self._at[position] = call
        if given_id:
            self._by_id[given_id] = call
        events.append(ContentBlockStart(call.index, "tool_use", {"tool_use_id": identity, "tool_name": name}))
        return call

    def _amend(self, call: _Call, given_id: str, name: str, events: list[StreamEvent]) -> None:
        """An id or a name that came after the call's first fragment; a name may come in pieces."""
        if not call.open:
            return
        if given_id and not call.given_id:
            call.given_id = given_id
            self._by_id[given_id] = call
            events.append(ContentDelta(call.index, {"tool_use_id": given_id}))
        if name and name != call.name and not call.arguments:
            call.name = name if name.startswith(call.name) else call.name + name
            events.append(ContentDelta(call.index, {"tool_name": call.name}))

    def _stop(self, call: _Call, events: list[StreamEvent]) -> None:
        self._open.remove(call)
        call.open = False
        call.arguments = []
        events.append(ContentBlockStop(call.index))


def _is_another(call: _Call, given_id: str, name: str, arguments: str) -> bool:
    """Whether a fragment found at a call's place begins another call."""
    if given_id and call.given_id:
        return given_id != call.given_id
    if given_id:
        return not call.open or call.is_whole()
    if name and not call.given_id and arguments:
        return not call.open or call.is_whole()
    return False
