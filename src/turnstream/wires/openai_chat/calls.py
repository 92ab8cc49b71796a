"""Assembles tool calls from chat.completions fragments.

A fragment names its call by an index, an id, both, or neither. Vendors repeat ids and names, leave them
empty, or send them late. The first rule that matches decides:

    The call of a fragment:
      1. the call at its index, if that call has the fragment's id, or the fragment has no id
      2. the call with its id, if the fragment has no name, no index, or the index of another call
      3. the call at its index
      4. without an index: the last call, if the fragment has no id, or if it has a new id and no name while
         the last call has a name and incomplete arguments
      5. otherwise, a new call
    The fragment begins another call than the one found:
      6. if it has another id and a name
      7. if the call found is full (it has ended, or its arguments are one whole object), and the fragment
         brings arguments with a name or another id, or brings another name than the call began with
    The fragment is a repetition:
      8. if it has an id, the name and all the arguments of its call
      9. if it is a legacy `function_call` along with `tool_calls`, unless no call has its name

So a fragment with another id and without a name continues the call at its index, which keeps its first id. An
empty id and "null" count as no id. Two calls never share an id: a second call with a known id gets a
generated id, as do calls without an id.

A name may come before, within or after the arguments, in one piece or several. A name that begins with the
name so far replaces it. The official Python client joins all fragments at one index, ids included. If the
joined call has the name of one fragment and complete arguments, these rules give the same call.

The protocol does not mark the end of a call. A call with a name is stopped when another block begins, if its
arguments are complete. Otherwise it stays open until the message ends, because some vendors interleave calls,
and a name may come last. A call without a name ends with an empty name. The tool runner answers it with an
error.
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
from turnstream.wires.openai_chat.chunks import FunctionDelta, ToolCallDelta
from turnstream.wires.openai_chat.template import OpenTarget
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.json_values import JsonObject
from turnstream.wires.shared.lenient_json import decode_json, decode_strictly


class _OpenCall:
    """A tool call. `given_id` is the provider's id, or an empty string."""

    __slots__ = (
        "_counted", "_depth", "_ended_with", "_failed_parses", "_length", "arguments", "extras", "given_id",
        "index", "name", "named_late", "open",
    )  # fmt: skip

    def __init__(self, index: int, given_id: str, name: str) -> None:
        self.index = index
        self.given_id = given_id
        self.name = name
        self.named_late = False
        """True if arguments came before the name. More pieces of the name may then follow whole arguments."""
        self.arguments: list[str] = []
        self.extras: JsonObject = {}
        """Vendor-specific fields of the call: the first value of each field."""
        self.open = True
        self._ended_with = 0
        self._counted = 0
        self._length = 0
        self._depth = 0
        self._failed_parses = 0

    def is_full(self) -> bool:
        """Return True if the call accepts no more arguments: it has ended, or they are one JSON object."""
        return not self.open or self.is_whole()

    def is_whole(self) -> bool:
        """Return True if the arguments so far are one JSON object.

        Some vendors repeat a call's name with each fragment, which calls this each time. To limit the cost,
        the arguments are parsed only if their brackets match, or if their length has doubled since the last
        failed parse.
        """
        for piece in self.arguments[self._counted :]:
            self._length += len(piece)
            self._depth += piece.count("{") - piece.count("}")
        self._counted = len(self.arguments)
        last = self.arguments[-1].rstrip() if self.arguments else ""
        if (last and not last.endswith("}")) or (self._depth and self._length < 2 * self._failed_parses):
            return False
        text = "".join(self.arguments)
        self.arguments = [text]
        self._counted = 1
        decode = decode_strictly if self._depth else decode_json
        try:
            is_whole = text.rstrip().endswith("}") and isinstance(
                decode(text.encode("utf-8", "surrogatepass")), dict
            )
        except (ValueError, RecursionError):
            is_whole = False
        self._failed_parses = 0 if is_whole else self._length
        return is_whole

    def has_exactly(self, arguments: str) -> bool:
        """Return True if `arguments` are all the arguments of the call."""
        if self.open:
            return arguments == "".join(self.arguments)
        return hash(arguments) == self._ended_with

    def end(self) -> None:
        """Close the call. Only a hash of its arguments is kept."""
        self.open = False
        self._ended_with = hash("".join(self.arguments))
        self.arguments = []


class ChatCompletionCalls:
    """The tool calls of one message. `indexes` yields the block indexes of the message."""

    def __init__(self, indexes: Iterator[int]) -> None:
        self._indexes = indexes
        self._at: dict[int, _OpenCall] = {}
        self._by_id: dict[str, _OpenCall] = {}
        self._legacy: _OpenCall | None = None
        self._all: list[_OpenCall] = []
        self._open: dict[_OpenCall, None] = {}
        self._grown: dict[_OpenCall, None] = {}
        """Calls that have grown since the last `stop_whole`, and may be whole."""
        self._last_taken: _OpenCall | None = None

    def __bool__(self) -> bool:
        """Return True if the model has called a tool."""
        return bool(self._all)

    @property
    def any_open(self) -> bool:
        return bool(self._open)

    @property
    def growing(self) -> OpenTarget | None:
        """Target of the last fragment, if its call is open; else None."""
        call = self._last_taken
        return OpenTarget(call.index, call.arguments) if call is not None and call.open else None

    def take(self, delta: ToolCallDelta, message_id: str, events: list[StreamEvent]) -> None:
        """Append the events of a fragment. Raises MalformedEvent for arguments of a call that has ended."""
        function = delta.function
        given_id = delta.id if delta.id and delta.id != "null" else ""
        name = (function.name or "") if function is not None else ""
        arguments = (function.arguments or "") if function is not None else ""
        call = None if given_id or name or delta.index is None else self._at.get(delta.index)
        if call is None:
            call, arguments = self._call_of(delta.index, given_id, name, arguments)
            if call is None:
                call = self._begin(given_id, name, events, message_id)
            elif given_id != call.given_id or name != call.name:
                self._amend(call, given_id, name, events)
            if delta.index is not None:
                self._at[delta.index] = call
        self._turn_to(call)
        if delta.extras and call.open and delta.extras.keys() - call.extras.keys():
            call.extras = {**delta.extras, **call.extras}
            events.append(ContentDelta(call.index, {"provider_metadata": call.extras}))
        if arguments:
            _grow(call, arguments, events)

    def take_legacy(self, function: FunctionDelta, message_id: str, events: list[StreamEvent]) -> None:
        """Append the events of a `function_call` in a delta without `tool_calls`. Raises as `take` does."""
        name, arguments = function.name or "", function.arguments or ""
        call = self._legacy
        if call is None and self._all and (not name or any(other.name == name for other in self._all)):
            return
        if call is None or _is_another(call, "", name, arguments):
            self._legacy = call = self._begin("", name, events, message_id)
        elif name != call.name:
            self._amend(call, "", name, events)
        self._turn_to(call)
        if arguments:
            _grow(call, arguments, events)

    def _turn_to(self, call: _OpenCall) -> None:
        """Make `call` the call that grows. Its arguments may grow without `take` until another call takes its
        place."""
        if self._last_taken is not None:
            self._grown[self._last_taken] = None
        self._last_taken = call
        self._grown[call] = None

    def stop_whole(self, events: list[StreamEvent]) -> None:
        """Stop the calls that have a name and whole arguments, because another block begins."""
        if self._last_taken is not None:
            self._turn_to(self._last_taken)
        grown, self._grown = self._grown, {}
        for call in sorted(grown, key=lambda call: call.index):
            if call.open and call.name and call.is_whole():
                self._stop(call, events)

    def stop_all(self, events: list[StreamEvent]) -> None:
        for call in list(self._open):
            self._stop(call, events)

    def _call_of(
        self, position: int | None, given_id: str, name: str, arguments: str
    ) -> tuple[_OpenCall | None, str]:
        """Return the call that a fragment continues, or None for a new call, and the arguments to add."""
        joined = self._join_legacy(name)
        call = joined or self._find(position, given_id, name)
        if call is None:
            return None, arguments
        if _is_repeated(call, given_id, name, arguments, is_named_again=joined is not None):
            return call, ""
        return (None if _is_another(call, given_id, name, arguments) else call), arguments

    def _find(self, position: int | None, given_id: str, name: str) -> _OpenCall | None:
        """Return the call of a fragment by rules 1 to 5, or None."""
        known = self._by_id.get(given_id) if given_id else None
        if position is None:
            if known is not None or not self._all:
                return known
            last = self._all[-1]
            continues = not given_id or (last.name and not name and not last.is_full())
            return last if continues else None
        at = self._at.get(position)
        if known is None or (at is not None and given_id == at.given_id):
            return at
        continues = not name or (at is not None and name == known.name and not known.is_full())
        return known if continues else at

    def _join_legacy(self, name: str) -> _OpenCall | None:
        """Return the call that came as `function_call`, if this fragment of `tool_calls` is the first to
        repeat it."""
        legacy = self._legacy
        if legacy is None or len(self._all) > 1 or name not in ("", legacy.name):
            return None
        self._legacy = None
        return legacy

    def _begin(self, given_id: str, name: str, events: list[StreamEvent], message_id: str) -> _OpenCall:
        self.stop_whole(events)
        call = _OpenCall(next(self._indexes), given_id, name)
        is_new = bool(given_id) and given_id not in self._by_id
        identity = given_id if is_new else generated_id(message_id, len(self._all))
        self._all.append(call)
        self._open[call] = None
        if given_id:
            self._by_id[given_id] = call
        events.append(ContentBlockStart(call.index, "tool_use", {"tool_use_id": identity, "tool_name": name}))
        return call

    def _amend(self, call: _OpenCall, given_id: str, name: str, events: list[StreamEvent]) -> None:
        """Add an id or a name that came after the call's first fragment. A name may come in pieces."""
        if not call.open:
            return
        if given_id and not call.given_id:
            call.given_id = given_id
            if given_id not in self._by_id:
                events.append(ContentDelta(call.index, {"tool_use_id": given_id}))
            self._by_id[given_id] = call
        if name and name != call.name:
            call.named_late = call.named_late or (not call.name and bool(call.arguments))
            call.name = name if name.startswith(call.name) else call.name + name
            events.append(ContentDelta(call.index, {"tool_name": call.name}))

    def _stop(self, call: _OpenCall, events: list[StreamEvent]) -> None:
        del self._open[call]
        call.end()
        events.append(ContentBlockStop(call.index))


def _grow(call: _OpenCall, arguments: str, events: list[StreamEvent]) -> None:
    if call.open:
        call.arguments.append(arguments)
        events.append(ToolInputDelta(call.index, arguments))
    elif not arguments.isspace():
        raise MalformedEvent("arguments for a tool call that had ended")


def _is_repeated(call: _OpenCall, given_id: str, name: str, arguments: str, *, is_named_again: bool) -> bool:
    """Return True if rule 8 applies. `is_named_again`: the call came as a `function_call`, without an id."""
    if not name or name != call.name or not arguments.strip() or not call.is_full():
        return False
    is_same = given_id == call.given_id if call.given_id else is_named_again
    return is_same and call.has_exactly(arguments)


def _is_another(call: _OpenCall, given_id: str, name: str, arguments: str) -> bool:
    """Return True if a fragment begins another call than the call found (rules 6 and 7)."""
    if not given_id and not name:
        return False
    has_other_id = bool(given_id) and given_id != call.given_id
    if has_other_id and call.given_id and name:
        return True
    if not call.is_full():
        return False
    if arguments.strip():
        return bool(name) or has_other_id
    return bool(name and call.name) and name != call.name and not call.named_late
