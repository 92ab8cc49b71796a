"""Calls of the official `anthropic` client, through gateways. See `openai_calls`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "name": "weather",
    "description": "Tell the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FAILURES = (anthropic.AnthropicError, httpx2.HTTPError, ValueError, RuntimeError, AssertionError)


class Messages:
    """One call of Messages, or several with the results of tools."""

    def __init__(self, call: dict[str, Any]) -> None:
        self._client = anthropic.Anthropic(
            base_url=call["url"],
            api_key="any",
            max_retries=0,
            timeout=30,
            default_headers=call.get("headers"),
        )
        self._question = f"question of {call['name']}"
        self._messages: list[Any] = [{"role": "user", "content": self._question}]
        self._given: dict[str, Any] = {"model": call["model"], "max_tokens": 2048}

    def plain(self) -> Any:
        """Return the outcome of a plain answer."""
        try:
            return outcome_of(self._client.messages.create(messages=self._messages, **self._given))
        except FAILURES as error:
            return failure(error)

    def streamed(self) -> Any:
        """Return the outcome of a streamed answer."""
        part = ""
        try:
            with self._client.messages.stream(messages=self._messages, **self._given) as stream:
                for text in stream.text_stream:
                    part += text
                return outcome_of(stream.get_final_message())
        except FAILURES as error:
            return failure(error) | {"part": part}

    def tools(self) -> Any:
        """Return the outcomes of streamed answers, until the model stops calling."""
        return self._rounds(self.streamed)

    def plain_tools(self) -> Any:
        """Return the outcomes of plain answers, until the model stops calling."""
        return self._rounds(self.plain)

    def thinking(self) -> Any:
        """Return the outcome of an answer with thinking."""
        self._given["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        return self.streamed()

    def image(self) -> Any:
        """Return the outcome of a question with an image."""
        source = {"type": "base64", "media_type": "image/png", "data": PNG}
        parts = [{"type": "text", "text": self._question}, {"type": "image", "source": source}]
        self._messages = [{"role": "user", "content": parts}]
        return self.streamed()

    def left(self) -> Any:
        """Close the stream after its first text."""
        with self._client.messages.stream(messages=self._messages, **self._given) as stream:
            for text in stream.text_stream:
                return {"part": text}
        return {}

    def _rounds(self, ask: Callable[[], Any]) -> list[Any]:
        self._given["tools"] = [WEATHER]
        outcomes = [ask()]
        while outcomes[-1].get("calls"):
            calls = outcomes[-1]["calls"]
            spoken = [{"type": "text", "text": outcomes[-1]["text"]}] if outcomes[-1]["text"] else []
            spoken += [
                {"type": "tool_use", "id": identity, "name": name, "input": given}
                for identity, name, given in calls
            ]
            results = [
                {"type": "tool_result", "tool_use_id": identity, "content": f"clear sky {number}"}
                for number, (identity, _, _) in enumerate(calls)
            ]
            self._messages += [{"role": "assistant", "content": spoken}, {"role": "user", "content": results}]
            outcomes.append(ask())
        return outcomes


def outcome_of(message: Any) -> dict[str, Any]:
    return {
        "text": "".join(block.text for block in message.content if block.type == "text"),
        "thinking": "".join(block.thinking for block in message.content if block.type == "thinking"),
        "calls": [
            [block.id, block.name, block.input] for block in message.content if block.type == "tool_use"
        ],
        "reason": message.stop_reason,
    }


def failure(error: Exception) -> dict[str, Any]:
    return {"error": type(error).__name__, "status": getattr(error, "status_code", None), "words": str(error)}


for asked in json.load(sys.stdin):
    kind = asked["kind"].partition(" ")[2]
    json.dump({"name": asked["name"], "outcome": getattr(Messages(asked), kind)()}, sys.stdout)
    sys.stdout.write("\n")
    sys.stdout.flush()
