"""The official `openai` client's Responses API: it streams one answer and prints the accumulated result as
JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

import httpx2
import openai

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather somewhere",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}


def stream(asked: dict[str, Any], told: dict[str, Any]) -> None:
    client = openai.OpenAI(
        base_url=asked["url"] + "/v1", api_key="any", max_retries=0, timeout=asked["timeout"]
    )
    given: dict[str, Any] = {"tools": [WEATHER]} if asked["tools"] else {}
    snapshot = ""
    with client.responses.stream(model=asked["model"], input="What is the weather?", **given) as answer:
        for event in answer:
            if event.type == "response.output_text.delta":
                snapshot = event.snapshot
            elif event.type in ("response.incomplete", "response.failed"):
                told["stop_reason"] = event.response.status
        response = answer.get_final_response()
    told["text"] = response.output_text
    assert snapshot in told["text"]
    for item in response.output:
        if item.type == "reasoning":
            told["thinking"] += "".join(part.text for part in item.summary)
        elif item.type == "function_call":
            told["calls"].append({"id": item.call_id, "name": item.name, "input": json.loads(item.arguments)})
    told["stop_reason"] = response.status
    if response.usage is not None:
        told["usage"] = {
            "input_tokens": response.usage.input_tokens,
            "output_tokens": response.usage.output_tokens,
        }


def resume(asked: dict[str, Any], told: dict[str, Any]) -> None:
    """Read a background answer whose first connection is cut, then continue in the client's own way."""
    client = openai.OpenAI(
        base_url=asked["url"] + "/v1", api_key="any", max_retries=0, timeout=asked["timeout"]
    )
    identity, number, said = "", 0, ""
    try:
        for event in client.responses.create(
            model=asked["model"], input="What is the weather?", background=True, stream=True
        ):
            number = event.sequence_number
            if event.type == "response.created":
                identity = event.response.id
            elif event.type == "response.output_text.delta":
                said += event.delta
    except openai.APIError as error:
        told["error"] = type(error).__name__
    for event in client.responses.retrieve(identity, stream=True, starting_after=number):
        if event.type == "response.output_text.delta":
            said += event.delta
        elif event.type == "response.completed":
            told["stop_reason"] = event.response.status
            assert said == event.response.output_text
    told["text"] = said
    with client.responses.stream(response_id=identity, starting_after=number) as answer:
        assert answer.get_final_response().output_text == said


def main() -> None:
    told: dict[str, Any] = {
        "text": "",
        "thinking": "",
        "calls": [],
        "usage": None,
        "stop_reason": None,
        "error": None,
    }
    asked = json.loads(sys.argv[1])
    try:
        (resume if "fault=cut,after=9" in asked["model"] else stream)(asked, told)
    except (openai.OpenAIError, httpx2.HTTPError, ValueError, AssertionError, RuntimeError) as error:
        told["error"] = type(error).__name__
    json.dump(told, sys.stdout)


main()
