"""The official `ollama` client against a server. Each case prints one line of JSON: its name and outcome.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import httpx
import ollama

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=30,pace=0"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
FAILURES = (ollama.ResponseError, httpx.HTTPError, ConnectionError, ValueError)


def client_of(url: str = URL) -> ollama.Client:
    return ollama.Client(host=url, timeout=30)


def asked(name: str, **given: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"question of {name}", **given}]


class Reading:
    """The sum of a stream's parts."""

    def __init__(self) -> None:
        self.text = self.thinking = ""
        self.calls: list[dict[str, Any]] = []
        self.last: dict[str, Any] = {}

    def add(self, part: Any) -> None:
        message = getattr(part, "message", None)
        self.text += (part.response if message is None else message.content) or ""
        self.thinking += (part.thinking if message is None else message.thinking) or ""
        self.calls += [call.model_dump() for call in (message and message.tool_calls) or ()]
        raw = part.model_dump(exclude_none=True)
        raw.pop("message", None)
        self.last = raw

    def outcome(self) -> dict[str, Any]:
        return {"text": self.text, "thinking": self.thinking, "calls": self.calls, "last": self.last}


def failure(error: Exception) -> dict[str, Any]:
    status = getattr(error, "status_code", None)
    return {"error": type(error).__name__, "status": status, "message": str(error)}


def streamed(name: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the sum of a stream, or the failure with the part before it."""
    messages = given.pop("messages", None) or asked(name)
    reading = Reading()
    try:
        for part in client_of(url).chat(model=model, messages=messages, stream=True, **given):
            reading.add(part)
    except FAILURES as error:
        return failure(error) | {"part": reading.outcome()}
    return reading.outcome()


def whole(name: str, model: str, **given: Any) -> dict[str, Any]:
    messages = given.pop("messages", None) or asked(name)
    reading = Reading()
    try:
        reading.add(client_of().chat(model=model, messages=messages, **given))
    except FAILURES as error:
        return failure(error)
    return reading.outcome()


def rounds(name: str, model: str) -> list[dict[str, Any]]:
    """Answer all calls of the model until it stops calling."""
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    while not answers or answers[-1]["calls"]:
        answer = streamed(name, model, messages=messages, tools=[WEATHER])
        answers.append(answer)
        spoken = {"content": answer["text"], "thinking": answer["thinking"], "tool_calls": answer["calls"]}
        messages = [*messages, {"role": "assistant", **spoken}]
        messages += [
            {"role": "tool", "tool_name": call["function"]["name"], "content": f"clear sky {number}"}
            for number, call in enumerate(answer["calls"])
        ]
    return answers


def conversation(name: str) -> list[dict[str, Any]]:
    messages = asked(name)
    answers: list[dict[str, Any]] = []
    for number in range(4):
        answers.append(streamed(name, STORY, messages=messages))
        messages = [
            *messages,
            {"role": "assistant", "content": answers[-1]["text"]},
            {"role": "user", "content": f"{name} goes on, {number}"},
        ]
    return answers


def structured(name: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    messages = [{"role": "user", "content": json.dumps({"city": name})}]
    answer = whole(name, "sim/echo:pace=0", messages=messages, format=schema)
    return {**answer, "value": json.loads(answer["text"])}


def generated(name: str, **given: Any) -> dict[str, Any]:
    reading = Reading()
    for part in client_of().generate(
        model="sim/thinking:pace=0", prompt=f"question of {name}", system="Be kind.", stream=True, **given
    ):
        reading.add(part)
    return reading.outcome()


def generated_whole(name: str) -> dict[str, Any]:
    reading = Reading()
    reading.add(
        client_of().generate(model=STORY, prompt=f"question of {name}", images=[PNG], keep_alive="5m")
    )
    return reading.outcome()


def loaded(_name: str) -> list[Any]:
    client = client_of()
    load = client.generate(model="sim/story", prompt="")
    unload = client.chat(model="sim/story", messages=[], keep_alive=0)
    return [load.done_reason, unload.done_reason]


def left(name: str) -> dict[str, Any]:
    """Close the stream after its first text."""
    reading = Reading()
    parts = client_of().chat(model="sim/story:events=4000,pace=0.005", messages=asked(name), stream=True)
    for part in parts:
        reading.add(part)
        if reading.text:
            parts.close()
            break
    return reading.outcome()


def listed(_name: str) -> dict[str, Any]:
    client = client_of()
    return {
        "names": [model.model for model in client.list().models],
        "running": [model.model for model in client.ps().models],
        "shown": client.show("sim/story:latest").model_dump(mode="json"),
    }


def unknown(_name: str) -> list[Any]:
    """Return the failures of what is not possible."""
    client = client_of()
    calls: list[Callable[[], Any]] = [
        lambda: client.show("no such/model"),
        lambda: client.pull("sim/story"),
        lambda: client.embed("sim/story", "text"),
        lambda: client.generate("sim/story", "text", suffix="end"),
        lambda: client.generate("sim/story", "text", raw=True),
    ]
    found: list[Any] = []
    for call in calls:
        try:
            found.append({"answer": str(call())})
        except FAILURES as error:
            found.append(failure(error))
    return found


CASES: dict[str, Callable[[str], Any]] = {
    "plain": lambda name: whole(name, STORY),
    "streamed": lambda name: streamed(name, STORY, options={"temperature": 0.5, "num_ctx": 4096}),
    "conversation": conversation,
    "tools": lambda name: rounds(name, "sim/tools:pace=0"),
    "agent": lambda name: rounds(name, "sim/agent:pace=0"),
    "thinking": lambda name: streamed(name, "sim/thinking:pace=0", think=True),
    "image": lambda name: streamed(name, "sim/echo:pace=0", messages=asked(name, images=[PNG])),
    "structured": structured,
    "generated": generated,
    "generatedWhole": generated_whole,
    "loaded": loaded,
    "left": left,
    "maxTokens": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=max-tokens,after=6"),
    "faultBefore": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
    "plainFault": lambda name: whole(name, "sim/story:events=9,pace=0,fault=error-before,status=401"),
    "faultAfter": lambda name: streamed(name, "sim/story:events=9,pace=0,fault=cut,after=6"),
    "refused": lambda name: whole(name, "no such/model"),
    "listed": listed,
    "unknown": unknown,
}
for place, cutter in enumerate(CUTTERS):
    CASES[f"cut {place}"] = lambda name, url=cutter: streamed(name, "sim/story:events=40,pace=0.002", url)

for case, run in CASES.items():
    json.dump({"name": case, "outcome": run(case)}, sys.stdout)
    sys.stdout.write("\n")
