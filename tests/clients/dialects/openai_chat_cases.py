"""The official `openai` client against a server. Each case prints one line of JSON: its name and outcome.

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

import httpx2
import openai

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
LONG = "sim/story:events=4000,pace=0.005"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FAILURES = (openai.OpenAIError, httpx2.HTTPError, ValueError)


def client_of(url: str = URL) -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=30)


def asked(name: str, *more: dict[str, Any]) -> list[dict[str, Any]]:
    text = f"question of {name}"
    return [{"role": "user", "content": [{"type": "text", "text": text}, *more] if more else text}]


def shown(completion: Any) -> dict[str, Any]:
    """Return the message and the facts of a completion."""
    raw = completion.model_dump(exclude_none=True)
    (choice,) = raw["choices"]
    message = choice["message"]
    message.pop("parsed", None)
    for call in message.get("tool_calls", ()):
        call.pop("index", None)
        call["function"].pop("parsed_arguments", None)
    return {
        "id": raw["id"],
        "model": raw["model"],
        "message": message,
        "reason": choice["finish_reason"],
        "usage": raw.get("usage"),
    }


def failure(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "body": getattr(error, "body", None),
        "request_id": getattr(error, "request_id", None),
    }


def streamed(name: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the completion of a stream, or the failure with the text before it."""
    messages = given.pop("messages", None) or asked(name)
    part = ""
    try:
        with client_of(url).chat.completions.stream(
            model=model, messages=messages, stream_options={"include_usage": True}, **given
        ) as stream:
            for event in stream:
                if event.type == "content.delta":
                    part = event.snapshot
            return shown(stream.get_final_completion())
    except FAILURES as error:
        return failure(error) | {"part": part}


def chunks(name: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the parts of a stream without the client's helper, or the failure with the text before it."""
    text, reasons, thoughts = "", [], ""
    try:
        for chunk in client_of(url).chat.completions.create(
            model=model, messages=asked(name), stream=True, **given
        ):
            for choice in chunk.choices:
                text += choice.delta.content or ""
                thoughts += getattr(choice.delta, "reasoning_content", None) or ""
                reasons += [choice.finish_reason] if choice.finish_reason else []
    except FAILURES as error:
        return failure(error) | {"part": text}
    return {"text": text, "thinking": thoughts, "reasons": reasons}


def whole(name: str, model: str, **given: Any) -> dict[str, Any]:
    """Return the completion of a plain answer, or the failure."""
    messages = given.pop("messages", None) or asked(name)
    try:
        return shown(client_of().chat.completions.create(model=model, messages=messages, **given))
    except FAILURES as error:
        return failure(error)


def rounds(name: str, model: str, **given: Any) -> list[dict[str, Any]]:
    """Answer all calls of the model until it stops calling."""
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1]["reason"] == "tool_calls":
        answer = streamed(name, model, messages=messages, **given)
        answers.append(answer)
        calls = answer["message"].get("tool_calls", ())
        messages = [*messages, answer["message"]]
        messages += [
            {"role": "tool", "tool_call_id": call["id"], "content": f"clear sky {number}"}
            for number, call in enumerate(calls)
        ]
    return answers


def conversation(name: str) -> list[dict[str, Any]]:
    messages = [{"role": "system", "content": "Be kind."}, *asked(name)]
    answers: list[dict[str, Any]] = []
    for number in range(4):
        answers.append(streamed(name, STORY, messages=messages))
        again = {"role": "user", "content": f"{name} goes on, {number}"}
        messages = [*messages, answers[-1]["message"], again]
    return answers


def structured(name: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    messages = [{"role": "user", "content": json.dumps({"city": name})}]
    answer = whole(name, "sim/echo:pace=0", messages=messages, response_format=wanted)
    return {**answer, "value": json.loads(answer["message"]["content"])}


def extras(name: str) -> dict[str, Any]:
    return whole(
        name,
        "sim/echo:pace=0",
        stop=["STOP"],
        temperature=0.5,
        max_completion_tokens=64,
        seed=7,
        metadata={"project": "x"},
    )


def left(name: str) -> dict[str, Any]:
    """Close the stream after its first text."""
    with client_of().chat.completions.create(model=LONG, messages=asked(name), stream=True) as stream:
        for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                return {"part": chunk.choices[0].delta.content}
    return {}


def left_plain(name: str) -> dict[str, Any]:
    """Close the connection of a plain answer before it comes."""
    client = openai.OpenAI(base_url=URL + "/v1", api_key="any", max_retries=0, timeout=1)
    try:
        client.chat.completions.create(model=LONG, messages=asked(name))
    except FAILURES as error:
        return failure(error)
    return {}


def stopped(name: str) -> dict[str, Any]:
    """Stop the turn with turnstream's own API while its stream is read."""
    stops: list[threading.Thread] = []
    text = ""
    try:
        for chunk in client_of().chat.completions.create(model=LONG, messages=asked(name), stream=True):
            text += chunk.choices[0].delta.content or ""
            if text and not stops:
                turn_id = chunk.id.removeprefix("chatcmpl-")
                request = Request(f"{URL}/api/turns/{turn_id}/interrupt", data=b"", method="POST")
                stops.append(threading.Thread(target=urlopen, args=(request,)))
                stops[0].start()
    except FAILURES as error:
        return failure(error) | {"part": text}
    return {"text": text}


def fallback(name: str, fault: str) -> dict[str, Any]:
    return streamed(name, f"sim/story:events=9,pace=0,{fault}", extra_body={"fallbacks": [STORY]})


def listed(_name: str) -> list[str]:
    return [model.id for model in client_of().models.list()]


def image(name: str) -> dict[str, Any]:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
    return streamed(name, "sim/echo:pace=0", messages=asked(name, part))


CASES: dict[str, Callable[[str], Any]] = {
    "plain": lambda name: whole(name, STORY),
    "streamed": lambda name: streamed(name, STORY),
    "chunks": lambda name: chunks(name, STORY),
    "conversation": conversation,
    "tools": lambda name: rounds(name, "sim/tools:pace=0", tools=[WEATHER]),
    "agent": lambda name: rounds(name, "sim/agent:pace=0", tools=[WEATHER]),
    "serverTools": lambda name: streamed(name, "sim/tools:pace=0", extra_body={"server_tools": ["clock"]}),
    "thinking": lambda name: chunks(name, "sim/thinking:pace=0", reasoning_effort="low"),
    "image": image,
    "structured": structured,
    "extras": extras,
    "left": left,
    "leftPlain": left_plain,
    "stopped": stopped,
    "maxTokens": lambda name: whole(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
    "faultBefore": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=error-before,status=429"),
    "plainFault": lambda name: whole(name, "sim/story:events=9,pace=0,fault=error-before,status=429"),
    "faultAfter": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
    "fallback": lambda name: fallback(name, "fault=error-before,status=401"),
    "lateFallback": lambda name: fallback(name, "fault=cut,after=6"),
    "refused": lambda name: whole(name, "no such/model"),
    "empty": lambda name: whole(name, STORY, messages=[{"role": "user", "content": ""}]),
    "listed": listed,
}
for place, cutter in enumerate(CUTTERS):
    CASES[f"cut {place}"] = lambda name, url=cutter: chunks(name, "sim/story:events=40,pace=0.002", url)

for case, run in CASES.items():
    json.dump({"name": case, "outcome": run(case)}, sys.stdout)
    sys.stdout.write("\n")
