"""The official `google-genai` client: streams one answer and prints what it accumulated, as JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
from google import genai
from google.genai import errors, types

WEATHER = {
    "name": "get_weather",
    "description": "The weather somewhere",
    "parameters_json_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    options = types.HttpOptions(base_url=asked["url"], timeout=int(asked["timeout"] * 1000))
    client = genai.Client(api_key="any", http_options=options)
    config = types.GenerateContentConfig(
        max_output_tokens=64,
        tools=[types.Tool(function_declarations=[WEATHER])] if asked["tools"] else None,
    )
    for chunk in client.models.generate_content_stream(
        model=asked["model"], contents="What is the weather?", config=config
    ):
        for candidate in chunk.candidates or ():
            for part in (candidate.content and candidate.content.parts) or ():
                take(part, told)
            if candidate.finish_reason is not None:
                told["stop_reason"] = candidate.finish_reason.value
        if (usage := chunk.usage_metadata) is not None:
            told["usage"] = {
                "input_tokens": usage.prompt_token_count,
                "output_tokens": usage.candidates_token_count,
            }


def take(part: Any, told: dict[str, Any]) -> None:
    if (call := part.function_call) is not None:
        told["calls"].append({"id": call.id, "name": call.name, "input": call.args})
    elif part.thought:
        told["thinking"] += part.text or ""
    else:
        told["text"] += part.text or ""
    if part.thought_signature is not None:
        told["signature"] = True


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
    except (errors.APIError, errors.UnknownApiResponseError, httpx2.HTTPError, ValueError) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
