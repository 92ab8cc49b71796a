"""The official `anthropic` client: streams one answer and prints what it accumulated, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import anthropic
import httpx2

WEATHER = {
    "name": "get_weather",
    "description": "The weather somewhere",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    client = anthropic.Anthropic(
        base_url=asked["url"], api_key="any", max_retries=0, timeout=asked["timeout"]
    )
    given: dict[str, Any] = {"tools": [WEATHER]} if asked["tools"] else {}
    with client.messages.stream(
        model=asked["model"],
        max_tokens=64,
        messages=[{"role": "user", "content": "What is the weather?"}],
        **given,
    ) as answer:
        message = answer.get_final_message()
    for block in message.content:
        match block.type:
            case "text":
                told["text"] += block.text
            case "thinking":
                told["thinking"] += block.thinking
                told["signature"] = block.signature
            case "tool_use":
                told["calls"].append({"id": block.id, "name": block.name, "input": block.input})
    told["stop_reason"] = message.stop_reason
    told["usage"] = {
        "input_tokens": message.usage.input_tokens,
        "output_tokens": message.usage.output_tokens,
    }


def main() -> None:
    told: dict[str, Any] = {
        "text": "",
        "thinking": "",
        "calls": [],
        "usage": None,
        "stop_reason": None,
        "error": None,
    }
    try:
        stream(json.loads(sys.argv[1]), told)
    except (anthropic.AnthropicError, httpx2.HTTPError, ValueError, AssertionError) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
