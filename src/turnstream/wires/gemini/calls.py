"""Decodes the function calls of a Gemini stream. Most arrive complete, some in pieces (`arguments`).

Many calls lack an id. A call in pieces begins with its name and ends with the first piece without
`willContinue`. This last piece may be empty. If it is missing, the next call or block ends the call.
"""

from __future__ import annotations

from collections.abc import Iterator

from turnstream.core.blocks import Content
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    StreamEvent,
    ToolInputDelta,
)
from turnstream.errors import MalformedEvent
from turnstream.wires.gemini.arguments import PartialArguments
from turnstream.wires.gemini.chunks import objects_in, text_in
from turnstream.wires.gemini.messages import GENERATED_PREFIX
from turnstream.wires.shared.call_ids import generated_id
from turnstream.wires.shared.json_values import JsonObject, is_object
from turnstream.wires.shared.lenient_json import encode_json, replace_surrogates

_KNOWN = frozenset({"name", "id", "args", "partialArgs", "willContinue"})


class _OpenFunctionCall:
    """A call that continues in the next event."""

    __slots__ = ("arguments", "given_id", "index", "metadata", "name")

    def __init__(self, index: int, name: str, given_id: str, metadata: JsonObject) -> None:
        self.index = index
        self.name = name
        self.given_id = given_id
        self.metadata = metadata
        self.arguments = PartialArguments()


class FunctionCalls:
    """The calls of one message.

    `indexes` provides the block indexes of the message.
    """

    def __init__(self, indexes: Iterator[int]) -> None:
        self.seed = ""
        self._indexes = indexes
        self._count = 0
        self._ids: set[str] = set()
        self._open: _OpenFunctionCall | None = None

    def __bool__(self) -> bool:
        """Return True if the model has called any function."""
        return self._count > 0

    def new_id(self, given: str) -> str:
        """Return the id of a call: the provider's, or a generated one if it is missing or repeated."""
        identity = given
        if not given or given in self._ids:
            identity = generated_id(self.seed, len(self._ids), GENERATED_PREFIX)
        self._ids.add(identity)
        return identity

    def continues(self, call: JsonObject) -> bool:
        """Return True if a `functionCall` is a piece of the open call."""
        opened = self._open
        if opened is None:
            return False
        given_id, name = text_in(call.get("id")), text_in(call.get("name"))
        if given_id and opened.given_id:
            return given_id == opened.given_id
        if not name or not opened.name:
            return True
        return name == opened.name and "args" not in call and "partialArgs" in call

    def take(self, call: JsonObject, metadata: JsonObject, events: list[StreamEvent]) -> None:
        """Append the events of a `functionCall`. Raises MalformedEvent if its arguments are malformed.

        Args:
            call: A complete `functionCall`, or a piece of one.
            metadata: The other fields of the part that has the call.
            events: The list to append to.
        """
        will_continue = call.get("willContinue") is True
        if self.continues(call):
            self._take_piece(call, metadata, events)
            if not will_continue:
                self.stop(events)
            return
        self.stop(events)
        if not call.keys() - {"willContinue"}:
            return  # the end of a call that has already ended
        index, name, given_id = next(self._indexes), text_in(call.get("name")), text_in(call.get("id"))
        self._count += 1
        if rest := {key: value for key, value in call.items() if key not in _KNOWN}:
            metadata = {**metadata, "functionCall": rest}
        content: Content = {"tool_use_id": self.new_id(given_id), "tool_name": name}
        if metadata:
            content["provider_metadata"] = metadata
        events.append(ContentBlockStart(index, "tool_use", replace_surrogates(content)))
        if will_continue or "partialArgs" in call:
            self._open = _OpenFunctionCall(index, name, given_id, metadata)
            self._take_piece(call, {}, events)
            if not will_continue:
                self.stop(events)
            return
        if "args" in call:
            args = call["args"]
            events.append(ToolInputDelta(index, args if isinstance(args, str) else _json(args)))
        events.append(ContentBlockStop(index))

    def stop(self, events: list[StreamEvent]) -> None:
        """Stop the open call, and complete the JSON of its arguments."""
        if (opened := self._open) is not None:
            self._open = None
            events.append(ToolInputDelta(opened.index, opened.arguments.close()))
            events.append(ContentBlockStop(opened.index))

    def cut(self, events: list[StreamEvent]) -> None:
        """Stop the open call without completing its arguments, so that no reader takes them for complete."""
        if (opened := self._open) is not None:
            self._open = None
            events.append(ContentBlockStop(opened.index))

    def _take_piece(self, call: JsonObject, metadata: JsonObject, events: list[StreamEvent]) -> None:
        opened = self._open
        assert opened is not None
        if not opened.name and (name := replace_surrogates(text_in(call.get("name")))):
            opened.name = name
            events.append(ContentDelta(opened.index, {"tool_name": name}))
        if metadata:
            opened.metadata = {**opened.metadata, **metadata}
            events.append(
                ContentDelta(opened.index, {"provider_metadata": replace_surrogates(opened.metadata)})
            )
        gained = [opened.arguments.take(argument) for argument in objects_in(call.get("partialArgs"))]
        args = call.get("args")
        if is_object(args):
            gained += [opened.arguments.put([name], value) for name, value in args.items()]
        elif args is not None:
            raise MalformedEvent("the arguments of a call are not an object")
        if text := "".join(gained):
            events.append(ToolInputDelta(opened.index, text))


def _json(value: object) -> str:
    return encode_json(value).decode("utf-8", "replace")
