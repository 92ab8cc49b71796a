"""The official `openai` client: streams one answer and prints what it accumulated, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
import openai

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather somewhere",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    client = openai.OpenAI(
        base_url=asked["url"] + "/v1", api_key="any", max_retries=0, timeout=asked["timeout"]
    )
    given: dict[str, Any] = {"tools": [WEATHER]} if asked["tools"] else {}
    with client.chat.completions.stream(
        model=asked["model"],
        messages=[{"role": "user", "content": "What is the weather?"}],
        stream_options={"include_usage": True},
        **given,
    ) as answer:
        for event in answer:
            if event.type == "chunk" and event.chunk.choices:
                told["thinking"] += getattr(event.chunk.choices[0].delta, "reasoning_content", None) or ""
        message = answer.get_final_completion()
    choice = message.choices[0]
    told["text"] = choice.message.content or ""
    told["calls"] = [
        {"id": call.id, "name": call.function.name, "input": json.loads(call.function.arguments)}
        for call in choice.message.tool_calls or ()
    ]
    told["stop_reason"] = choice.finish_reason
    if message.usage is not None:
        told["usage"] = {
            "input_tokens": message.usage.prompt_tokens,
            "output_tokens": message.usage.completion_tokens,
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
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, AssertionError) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
