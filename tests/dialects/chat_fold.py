"""A reader of Chat Completions streams that is as strict as the strictest client."""

from __future__ import annotations

import json
from typing import Any

_KEYS = {"role", "content", "refusal", "reasoning_content", "tool_calls", "annotations", "images"}
_KEYS |= {"reasoning_details", "thinking_blocks"}


class ChatFold:
    """Folds chunks into a message. A chunk that a client cannot read fails the test."""

    def __init__(self) -> None:
        self.text = ""
        self.thoughts = ""
        self.calls: list[dict[str, str]] = []
        self.reasons: list[str] = []
        self.error: dict[str, Any] | None = None
        self.usage: dict[str, Any] | None = None
        self.done = False
        self.heads: set[tuple[Any, ...]] = set()

    def receive(self, data: bytes) -> None:
        text = data.decode()
        assert text.endswith("\n\n") or not text
        for frame in text.split("\n\n")[:-1]:
            assert not self.done, f"{frame} after [DONE]"
            assert self.error is None, f"{frame} after an error"
            if frame.startswith(":"):
                continue
            payload = frame.removeprefix("data: ")
            if payload == "[DONE]":
                assert len(self.reasons) == 1
                self.done = True
            else:
                self._fold(json.loads(payload))

    def message(self) -> dict[str, Any]:
        """Return the message as a client sends it back."""
        calls = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in self.calls
        ]
        return {"role": "assistant", "content": self.text, **({"tool_calls": calls} if calls else {})}

    def _fold(self, chunk: dict[str, Any]) -> None:
        if "error" in chunk:
            assert chunk["error"]["message"]
            self.error = chunk["error"]
            return
        assert chunk["object"] == "chat.completion.chunk"
        self.heads.add((chunk["id"], chunk["created"], chunk["model"]))
        assert len(self.heads) == 1
        if not chunk["choices"]:
            self.usage = chunk["usage"]
            return
        assert not self.reasons
        (choice,) = chunk["choices"]
        delta = choice["delta"]
        assert delta.keys() <= _KEYS, delta
        self.text += delta.get("content") or ""
        self.thoughts += delta.get("reasoning_content") or ""
        for call in delta.get("tool_calls", ()):
            self._add(call)
        if choice["finish_reason"] is not None:
            self.reasons.append(choice["finish_reason"])

    def _add(self, call: dict[str, Any]) -> None:
        function = call.get("function", {})
        if call["index"] == len(self.calls):
            assert call["type"] == "function"
            self.calls.append({"id": call["id"], "name": function["name"], "arguments": ""})
        known = self.calls[call["index"]]
        known["arguments"] += function.get("arguments", "")
        known["id"] = call.get("id", known["id"])
        known["name"] = function.get("name", known["name"])
