"""A reader of the AI SDK's UI message stream that is as strict as the strictest major."""

from __future__ import annotations

import json
from typing import Any

DONE = "[DONE]"
FIELDS: dict[str, set[str]] = {
    "start": {"messageId"},
    "start-step": set(),
    "finish-step": set(),
    "text-start": {"id"},
    "text-delta": {"id", "delta"},
    "text-end": {"id"},
    "reasoning-start": {"id"},
    "reasoning-delta": {"id", "delta"},
    "reasoning-end": {"id"},
    "tool-input-start": {"toolCallId", "toolName"},
    "tool-input-delta": {"toolCallId", "inputTextDelta"},
    "tool-input-available": {"toolCallId", "toolName", "input"},
    "tool-input-error": {"toolCallId", "toolName", "input", "errorText"},
    "tool-output-available": {"toolCallId", "output"},
    "tool-output-error": {"toolCallId", "errorText"},
    "source-url": {"sourceId", "url"},
    "source-document": {"sourceId", "mediaType", "title"},
    "file": {"url", "mediaType"},
    "message-metadata": {"messageMetadata"},
    "finish": {"finishReason"},
    "abort": set(),
    "error": {"errorText"},
}
OF_SIX = {"tool-approval-request": {"approvalId", "toolCallId"}, "tool-output-denied": {"toolCallId"}}
OF_SEVEN = {"reset-step": set[str](), "tool-approval-response": {"approvalId", "approved"}}


class UiMessageFold:
    """Folds chunks into the parts of a UI message. A chunk that any client refuses fails the test."""

    def __init__(self, major: int = 5) -> None:
        self.fields = {**FIELDS, **(OF_SIX if major > 5 else {}), **(OF_SEVEN if major == 7 else {})}
        self.message_id: str | None = None
        self.metadata: dict[str, Any] = {}
        self.parts: list[dict[str, Any]] = []
        self.ending: str | None = None
        self.error: str | None = None
        self.done = False
        self._open: dict[tuple[str, str], dict[str, Any]] = {}
        self._calls: dict[str, dict[str, Any]] = {}
        self._step_at = 0

    def continue_from(self, before: UiMessageFold) -> None:
        """Begin with the message that `before` has: its turn continues in this stream."""
        self.parts, self._calls = before.parts, before._calls

    def receive(self, data: bytes) -> None:
        text = data.decode()
        assert text.endswith("\n\n") or not text
        for frame in text.split("\n\n")[:-1]:
            assert not self.done, f"{frame} after [DONE]"
            assert frame.startswith("data: ")
            payload = frame.removeprefix("data: ")
            if payload == DONE:
                self.done = True
            else:
                self._fold(json.loads(payload))

    def texts(self, kind: str) -> list[str]:
        return [part["text"] for part in self.parts if part["type"] == kind]

    def _fold(self, chunk: dict[str, Any]) -> None:
        kind = chunk["type"]
        assert None not in chunk.values() or kind == "tool-output-available", chunk
        assert self.ending is None, f"{chunk} after {self.ending}"
        if kind.startswith("data-"):
            if not chunk.get("transient"):
                self.parts.append(chunk)
            return
        assert self.fields[kind] <= chunk.keys(), chunk
        self.metadata.update(chunk.get("messageMetadata", {}))
        match kind.split("-"):
            case ["start"]:
                assert self.message_id is None
                self.message_id = chunk["messageId"]
            case ["start", "step"]:
                self._step_at = len(self.parts)
                self.parts.append({"type": "step-start"})
            case ["finish", "step"]:
                assert not self._open, "the step ends with open parts"
            case ["reset", "step"]:
                dropped = self.parts[self._step_at + 1 :]
                del self.parts[self._step_at + 1 :]
                self._calls = {
                    call_id: call
                    for call_id, call in self._calls.items()
                    if all(call is not part for part in dropped)
                }
                self._open.clear()
            case [("text" | "reasoning") as name, verb]:
                self._text(name, verb, chunk)
            case ["tool", *_]:
                self._tool(kind, chunk)
            case ["source", _] | ["file"]:
                self.parts.append(chunk)
            case ["message", "metadata"]:
                pass
            case _:
                self._end(kind, chunk)

    def _text(self, name: str, verb: str, chunk: dict[str, Any]) -> None:
        key = (name, chunk["id"])
        if verb == "start":
            assert key not in self._open
            self._open[key] = {"type": name, "text": ""}
            self.parts.append(self._open[key])
        elif verb == "delta":
            self._open[key]["text"] += chunk["delta"]
        else:
            del self._open[key]

    def _tool(self, kind: str, chunk: dict[str, Any]) -> None:
        if kind == "tool-approval-response":
            (call,) = (call for call in self._calls.values() if call.get("approvalId") == chunk["approvalId"])
            call.update(state=kind, approved=chunk["approved"])
            return
        call_id = chunk["toolCallId"]
        if kind == "tool-input-start" or (kind == "tool-input-available" and call_id not in self._calls):
            call = self._calls[call_id] = {
                "type": "tool",
                "id": call_id,
                "name": chunk["toolName"],
                "text": "",
            }
            self.parts.append(call)
        call = self._calls[call_id]
        if kind == "tool-input-delta":
            call["text"] += chunk["inputTextDelta"]
        elif not chunk.get("preliminary"):
            call.update(
                {
                    name: chunk[name]
                    for name in ("input", "output", "errorText", "approvalId")
                    if name in chunk
                }
            )
            call["state"] = kind

    def _end(self, kind: str, chunk: dict[str, Any]) -> None:
        assert kind in ("finish", "abort", "error")
        self.ending = kind if kind != "finish" else chunk["finishReason"]
        self.error = chunk.get("errorText")
