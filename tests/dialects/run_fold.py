"""A reader of AG-UI streams. Each event must be valid for the protocol's own models, in the order that the
official client demands. It folds messages and state like that client."""

from __future__ import annotations

import json
from typing import Any

from ag_ui.core import Event
from pydantic import BaseModel, TypeAdapter

EVENTS: TypeAdapter[Any] = TypeAdapter(Event)
REQUIRED_TEXTS = {
    "messageId",
    "toolCallId",
    "toolCallName",
    "threadId",
    "runId",
    "stepName",
    "name",
    "message",
}
MOST = 8 * 1024 * 1024


class RunFold:
    """Folds a stream into messages and a state. Any event that a client refuses fails the test."""

    def __init__(self, messages: list[dict[str, Any]] | None = None) -> None:
        self.messages = [dict(message) for message in messages or []]
        self.state: Any = {}
        self.custom: list[tuple[str, Any]] = []
        self.kinds: list[str] = []
        self.ending: dict[str, Any] | None = None
        self._open: dict[str, set[str]] = {"text": set(), "span": set(), "reasoning": set(), "call": set()}
        self._steps: set[str] = set()
        self._rest = b""

    @property
    def done(self) -> bool:
        return self.ending is not None

    @property
    def outcome(self) -> str:
        """One of success, interrupt, cancelled, error."""
        assert self.ending is not None
        return self.ending["outcome"]["type"] if "outcome" in self.ending else "error"

    def receive(self, data: bytes) -> None:
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for frame in frames:
            if frame.startswith(b":"):
                continue
            assert frame.startswith(b"data: "), frame
            assert b"\n" not in frame
            assert len(frame) < MOST + MOST // 4
            self._fold(json.loads(frame.removeprefix(b"data: ")))

    def texts(self, role: str = "assistant") -> list[str]:
        return [
            one["content"] for one in self.messages if one["role"] == role and one.get("content") is not None
        ]

    def _fold(self, event: dict[str, Any]) -> None:
        valid: BaseModel = EVENTS.validate_python(event)
        assert not valid.model_extra, f"unknown fields: {valid.model_extra}"
        kind = event["type"]
        assert not _nulls(event), f"null fields: {event}"
        assert all(event.get(name, "x") for name in REQUIRED_TEXTS), event
        assert self.ending is None, f"{event} after {self.ending}"
        assert (kind in ("RUN_STARTED", "RUN_ERROR")) == (not self.kinds or kind == "RUN_ERROR"), event
        self.kinds.append(kind)
        match kind.split("_"):
            case ["TEXT", "MESSAGE", verb]:
                self._message("text", "assistant", verb, event)
            case ["REASONING", "MESSAGE", verb]:
                self._message("reasoning", "reasoning", verb, event)
            case ["REASONING", ("START" | "END") as verb]:
                self._bracket("span", event["messageId"], verb)
            case ["REASONING", *_]:
                self._find(event["entityId"])["encryptedValue"] = event["encryptedValue"]
            case ["TOOL", "CALL", "RESULT"]:
                self._result(event)
            case ["TOOL", "CALL", verb]:
                self._call(verb, event)
            case ["STEP", verb]:
                assert (event["stepName"] in self._steps) == (verb == "FINISHED"), event
                self._steps ^= {event["stepName"]}
            case ["STATE", "SNAPSHOT"]:
                self.state = event["snapshot"]
            case ["STATE", "DELTA"]:
                self._patch(event["delta"])
            case ["MESSAGES", "SNAPSHOT"]:
                self._snapshot(event["messages"])
            case ["CUSTOM"]:
                self.custom.append((event["name"], event["value"]))
            case ["RUN", "STARTED"]:
                pass
            case _:
                assert kind == "RUN_ERROR" or not (self._steps or any(self._open.values())), self._open
                self.ending = event

    def _find(self, message_id: str) -> dict[str, Any]:
        return next(message for message in self.messages if message["id"] == message_id)

    def _bracket(self, entity: str, identity: str, verb: str) -> None:
        assert (identity in self._open[entity]) == (verb != "START"), (entity, identity, verb)
        if verb == "START":
            self._open[entity].add(identity)
        elif verb == "END":
            self._open[entity].remove(identity)

    def _message(self, entity: str, role: str, verb: str, event: dict[str, Any]) -> None:
        identity = event["messageId"]
        self._bracket(entity, identity, verb)
        if verb == "START":
            if all(message["id"] != identity for message in self.messages):
                self.messages.append({"id": identity, "role": role, "content": ""})
            assert self._find(identity)["role"] == role
        elif verb == "CONTENT":
            assert event["delta"]
            self._find(identity)["content"] += event["delta"]

    def _call(self, verb: str, event: dict[str, Any]) -> None:
        identity = event["toolCallId"]
        self._bracket("call", identity, verb)
        known = (call for one in self.messages for call in one.get("toolCalls", ()) if call["id"] == identity)
        call = next(known, None)
        if verb == "START" and call is None:
            parent_id = event["parentMessageId"]
            if all(message["id"] != parent_id for message in self.messages):
                self.messages.append({"id": parent_id, "role": "assistant"})
            parent = self._find(parent_id)
            assert parent["role"] == "assistant"
            function = {"name": event["toolCallName"], "arguments": ""}
            metadata = {"metadata": event["metadata"]} if "metadata" in event else {}
            call = {"id": identity, "type": "function", "function": function, **metadata}
            parent.setdefault("toolCalls", []).append(call)
        elif verb == "ARGS":
            assert call is not None
            call["function"]["arguments"] += event["delta"]

    def _result(self, event: dict[str, Any]) -> None:
        message = {name: value for name, value in event.items() if name not in ("type", "messageId")}
        message["id"] = event["messageId"]
        assert all(one["id"] != message["id"] for one in self.messages)
        place = len(self.messages)
        for number, one in enumerate(self.messages):
            if any(call["id"] == event["toolCallId"] for call in one.get("toolCalls", ())):
                place = number + 1
                break
        while place < len(self.messages) and self.messages[place]["role"] == "tool":
            place += 1
        self.messages.insert(place, message)

    def _snapshot(self, messages: list[dict[str, Any]]) -> None:
        by_id = {message["id"]: message for message in messages}
        assert len(by_id) == len(messages)
        has_reasoning = any(message["role"] == "reasoning" for message in messages)
        kept = [
            by_id.pop(one["id"], one)
            for one in self.messages
            if one["id"] in by_id or (one["role"] == "reasoning" and not has_reasoning)
        ]
        self.messages = [*kept, *by_id.values()]

    def _patch(self, delta: list[dict[str, Any]]) -> None:
        for change in delta:
            assert change["op"] in ("add", "replace")
            name = change["path"].removeprefix("/").replace("~1", "/").replace("~0", "~")
            self.state = {**self.state, name: change["value"]}


def _nulls(event: dict[str, Any]) -> bool:
    """Return True if an event has null in a field that belongs to the protocol."""
    free = {"value", "snapshot", "delta", "result", "metadata"}
    return any(value is None for name, value in event.items() if name not in free)
