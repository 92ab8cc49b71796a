"""The official `ollama` client: streams one answer and prints what it accumulated, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx
import ollama

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    client = ollama.Client(host=asked["url"], timeout=asked["timeout"])
    for part in client.chat(
        model=asked["model"],
        messages=[{"role": "user", "content": "What is the weather?"}],
        tools=[WEATHER] if asked["tools"] else None,
        stream=True,
    ):
        told["text"] += part.message.content or ""
        told["thinking"] += part.message.thinking or ""
        told["calls"] += [
            {"name": call.function.name, "input": dict(call.function.arguments)}
            for call in part.message.tool_calls or ()
        ]
        if part.done:
            told["stop_reason"] = part.done_reason
            told["usage"] = {"input_tokens": part.prompt_eval_count, "output_tokens": part.eval_count}


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
    except (ollama.ResponseError, httpx.HTTPError, ConnectionError, ValueError) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
