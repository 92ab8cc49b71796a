"""The official `anthropic` client against a server. Each case prints one line of JSON: its name and outcome.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import Any
from urllib.request import Request, urlopen

import anthropic
import httpx2

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "name": "weather",
    "description": "Tell the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FAILURES = (anthropic.AnthropicError, httpx2.HTTPError, ValueError)


def client_of(url: str = URL) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, timeout=30)


def asked(name: str, text: Any = None) -> list[dict[str, Any]]:
    content = f"question of {name}"
    return [
        {"role": "user", "content": content if text is None else [{"type": "text", "text": content}, *text]}
    ]


def shown(message: Any) -> dict[str, Any]:
    """Return the blocks and the facts of a message."""
    raw = message.model_dump(exclude_unset=True)
    return {
        "id": raw["id"],
        "model": raw["model"],
        "content": raw["content"],
        "stop_reason": raw["stop_reason"],
        "usage": raw["usage"],
    }


def failure(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "body": getattr(error, "body", None),
        "request_id": getattr(error, "request_id", None),
    }


def streamed(name: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the message of a stream, or the failure with the part before it."""
    messages = given.pop("messages", None) or asked(name)
    part = None
    try:
        with client_of(url).messages.stream(model=model, max_tokens=64, messages=messages, **given) as stream:
            for _ in stream:
                part = stream.current_message_snapshot
            return shown(stream.get_final_message())
    except FAILURES as error:
        return failure(error) | ({} if part is None else {"part": shown(part)})


def whole(name: str, model: str, **given: Any) -> dict[str, Any]:
    """Return the message of a plain answer, or the failure."""
    messages = given.pop("messages", None) or asked(name)
    try:
        return shown(client_of().messages.create(model=model, max_tokens=64, messages=messages, **given))
    except FAILURES as error:
        return failure(error)


def rounds(name: str, model: str, **given: Any) -> list[dict[str, Any]]:
    """Answer all calls of the model until it stops calling."""
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1]["stop_reason"] == "tool_use":
        answer = streamed(name, model, messages=messages, **given)
        answers.append(answer)
        calls = [block for block in answer["content"] if block["type"] == "tool_use"]
        results = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": f"clear sky {number}"}
            for number, call in enumerate(calls)
        ]
        messages = [*messages, {"role": "assistant", "content": answer["content"]}]
        messages += [{"role": "user", "content": results}] if results else []
    return answers


def conversation(name: str) -> list[dict[str, Any]]:
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    for number in range(4):
        answers.append(streamed(name, STORY, messages=messages))
        messages = [
            *messages,
            {"role": "assistant", "content": answers[-1]["content"]},
            {"role": "user", "content": f"{name} goes on, {number}"},
        ]
    return answers


def thinking(name: str) -> list[dict[str, Any]]:
    first = streamed(name, "sim/thinking:pace=0", thinking={"type": "enabled", "budget_tokens": 1024})
    again = [
        *asked(name),
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": "go on"},
    ]
    return [first, streamed(name, "sim/thinking:pace=0", messages=again)]


def media(name: str) -> dict[str, Any]:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "a page"}}
    return streamed(name, "sim/echo:pace=0", messages=asked(name, [image, document]))


def structured(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    messages = [{"role": "user", "content": json.dumps({"city": name})}]
    output = {"format": {"type": "json_schema", "schema": schema}}
    answer = whole(name, "sim/echo:pace=0", messages=messages, extra_body={"output_config": output})
    return {**answer, "value": json.loads(answer["content"][0]["text"])}


def extras(name: str) -> dict[str, Any]:
    cached = {"cache_control": {"type": "ephemeral"}}
    return whole(
        name,
        "sim/echo:pace=0",
        messages=asked(name, [{"type": "text", "text": "cached", **cached}]),
        system=[{"type": "text", "text": "Be kind.", **cached}],
        stop_sequences=["STOP"],
        metadata={"user_id": "user 7"},
        extra_body={"temperature": 0.5},
    )


def left(name: str) -> dict[str, Any]:
    """Close the stream after its first text."""
    with client_of().messages.stream(
        model="sim/story:events=4000,pace=0.005", max_tokens=64, messages=asked(name)
    ) as stream:
        for event in stream:
            if event.type == "text":
                return {"part": shown(stream.current_message_snapshot)}
    return {}


def stopped(name: str) -> dict[str, Any]:
    """Stop the turn with turnstream's own API while its stream is read."""
    stops: list[threading.Thread] = []
    part = None
    try:
        with client_of().messages.stream(
            model="sim/story:events=4000,pace=0.005", max_tokens=64, messages=asked(name)
        ) as stream:
            for event in stream:
                part = stream.current_message_snapshot
                if event.type == "text" and not stops:
                    turn_id = part.id.removeprefix("msg_")
                    request = Request(f"{URL}/api/turns/{turn_id}/interrupt", data=b"", method="POST")
                    stops.append(threading.Thread(target=urlopen, args=(request,)))
                    stops[0].start()
            return shown(stream.get_final_message())
    except FAILURES as error:
        return failure(error) | {"part": shown(part)}


def fallback(name: str, fault: str) -> dict[str, Any]:
    return streamed(name, f"sim/story:events=9,pace=0,{fault}", extra_body={"fallbacks": [STORY]})


def counted(name: str) -> dict[str, Any]:
    answer = client_of().messages.with_raw_response.count_tokens(
        model=STORY, messages=asked(name), system="Be kind.", tools=[WEATHER]
    )
    return {
        "input_tokens": answer.parse().input_tokens,
        "estimate": answer.headers.get("turnstream-estimate"),
    }


def listed(_name: str) -> list[str]:
    return [model.id for model in client_of().models.list()]


CASES: dict[str, Callable[[str], Any]] = {
    "plain": lambda name: whole(name, STORY),
    "streamed": lambda name: streamed(name, STORY),
    "conversation": conversation,
    "tools": lambda name: rounds(name, "sim/tools:pace=0", tools=[WEATHER]),
    "agent": lambda name: rounds(name, "sim/agent:pace=0", tools=[WEATHER]),
    "serverTools": lambda name: streamed(name, "sim/tools:pace=0", extra_body={"server_tools": ["clock"]}),
    "thinking": thinking,
    "media": media,
    "structured": structured,
    "extras": extras,
    "left": left,
    "stopped": stopped,
    "maxTokens": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
    "faultBefore": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
    "plainFault": lambda name: whole(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
    "faultAfter": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
    "fallback": lambda name: fallback(name, "fault=error-before,status=401"),
    "lateFallback": lambda name: fallback(name, "fault=cut,after=6"),
    "refused": lambda name: whole(name, "no such/model"),
    "empty": lambda name: whole(name, STORY, messages=[{"role": "user", "content": " "}]),
    "counted": counted,
    "listed": listed,
}
for place, cutter in enumerate(CUTTERS):
    CASES[f"cut {place}"] = lambda name, url=cutter: streamed(name, "sim/story:events=40,pace=0.002", url)

for case, run in CASES.items():
    json.dump({"name": case, "outcome": run(case)}, sys.stdout)
    sys.stdout.write("\n")
