"""The official `openai` client against a server's Responses. Each case prints one line of JSON: its name and
outcome.

Arguments: the address of the server, and the addresses of proxies that cut their first connection.
Each case asks a question of its own, by which the test finds the stored turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from openai.types.responses import Response
from pydantic import BaseModel

URL, *CUTTERS = sys.argv[1:]
STORY = "sim/story:events=16,pace=0"
LONG = "sim/story:events=4000,pace=0.005"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
FAILURES = (openai.OpenAIError, httpx2.HTTPError, ValueError, RuntimeError)


class City(BaseModel):
    city: str


class Reading:
    """The part of a raw stream that a client has."""

    def __init__(self) -> None:
        self.text = self.identity = self.last = ""
        self.number = -1
        self.final: Response | None = None

    def copy(self) -> Reading:
        other = Reading()
        other.__dict__.update(self.__dict__)
        return other

    def take(self, event: Any) -> None:
        assert event.sequence_number > self.number, event
        self.number, self.last = event.sequence_number, event.type
        if event.type == "response.created":
            self.identity = event.response.id
        elif event.type == "response.output_text.delta":
            self.text += event.delta
        if hasattr(event, "response"):
            self.final = event.response


def client_of(url: str = URL) -> openai.OpenAI:
    return openai.OpenAI(base_url=url + "/v1", api_key="any", max_retries=0, timeout=30)


def question(name: str) -> str:
    return f"question of {name}"


def shown(response: Any) -> dict[str, Any]:
    """Return the facts of a response."""
    return {
        "id": response.id,
        "status": response.status,
        "text": response.output_text,
        "thinking": "".join(
            part.text for item in response.output if item.type == "reasoning" for part in item.summary
        ),
        "calls": [
            [item.call_id, item.name, json.loads(item.arguments)]
            for item in response.output
            if item.type == "function_call"
        ],
        "usage": [response.usage.input_tokens, response.usage.output_tokens] if response.usage else None,
    }


def failure(error: Exception) -> dict[str, Any]:
    return {
        "error": type(error).__name__,
        "status": getattr(error, "status_code", None),
        "body": getattr(error, "body", None),
    }


def streamed(name: str, model: str, url: str = URL, **given: Any) -> dict[str, Any]:
    """Return the response of a stream, or the failure with the text before it."""
    given.setdefault("input", question(name))
    text = ended = ""
    try:
        with client_of(url).responses.stream(model=model, **given) as stream:
            for event in stream:
                ended = event.type
                if event.type == "response.output_text.delta":
                    text = event.snapshot
            response = stream.get_final_response()
    except FAILURES as error:
        return {**failure(error), "part": text, "last": ended}
    return shown(response)


def plain(name: str, model: str, **given: Any) -> dict[str, Any]:
    given.setdefault("input", question(name))
    try:
        return shown(client_of().responses.create(model=model, **given))
    except FAILURES as error:
        return failure(error)


def rounds(name: str, model: str, *, resends: bool) -> list[dict[str, Any]]:
    """Return the responses of a conversation with tools of the client."""
    sent: Any = [{"role": "user", "content": question(name)}]
    given: dict[str, Any] = {"input": sent, "tools": [WEATHER]}
    responses: list[dict[str, Any]] = []
    while True:
        with client_of().responses.stream(model=model, **given) as stream:
            response = stream.until_done().get_final_response()
        responses.append(shown(response))
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return responses
        results = [
            {"type": "function_call_output", "call_id": call.call_id, "output": f"clear sky {number}"}
            for number, call in enumerate(calls)
        ]
        if resends:
            sent = [*sent, *(item.to_dict() for item in response.output), *results]
            given["input"] = sent
        else:
            given |= {"input": results, "previous_response_id": response.id}


def parsed(name: str) -> Any:
    text = json.dumps({"city": name})
    response = client_of().responses.parse(model="sim/echo:pace=0", input=text, text_format=City)
    return {**shown(response), "value": response.output_parsed.model_dump()}


def every_cut(name: str) -> Any:
    """Leave after each event, and resume both ways."""
    client, place = client_of(), 0
    ends: list[dict[str, Any]] = []
    while True:
        seen = Reading()
        with client.responses.create(model=STORY, input=question(name), stream=True) as stream:
            for number, event in enumerate(stream):
                seen.take(event)
                if number == place:
                    break
        if seen.last == "response.completed":
            return ends
        helped = seen.copy()
        with client.responses.stream(response_id=seen.identity, starting_after=seen.number) as rest:
            for event in rest:
                helped.take(event)
        for event in client.responses.retrieve(seen.identity, stream=True, starting_after=seen.number):
            seen.take(event)
        ends.append({**shown(seen.final), "raw": seen.text, "helped": helped.text})
        place += 1


def cut(name: str, place: int) -> Any:
    """Read through a proxy that cuts the connection, and resume without it."""
    seen = Reading()
    error = None
    try:
        for event in client_of(CUTTERS[place]).responses.create(
            model="sim/story:events=60,pace=0.001", input=question(name), stream=True
        ):
            seen.take(event)
    except FAILURES as cut_error:
        error = type(cut_error).__name__
    if not seen.identity:
        return {"error": error}
    for event in client_of().responses.retrieve(seen.identity, stream=True, starting_after=seen.number):
        seen.take(event)
    return {**shown(seen.final), "raw": seen.text, "error": error}


def cancelled(name: str) -> Any:
    client, seen = client_of(), Reading()
    statuses: list[str | None] = []
    with client.responses.create(model=LONG, input=question(name), stream=True, background=True) as stream:
        for event in stream:
            seen.take(event)
            if seen.text and not statuses:
                statuses += [client.responses.cancel(seen.identity).status for _ in range(2)]
    response = client.responses.retrieve(seen.identity)
    return {**shown(response), "raw": seen.text, "last": seen.last, "statuses": statuses}


def background(name: str) -> Any:
    client = client_of()
    now = client.responses.create(model=STORY, input=question(name), background=True)
    deadline = time.monotonic() + 30
    while now.status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        now = client.responses.retrieve(now.id)
    return shown(now)


def closed(name: str) -> Any:
    """Leave after the first event. The response goes on."""
    client, seen = client_of(), Reading()
    with client.responses.create(model=STORY, input=question(name), stream=True) as stream:
        seen.take(next(iter(stream)))
    for event in client.responses.retrieve(seen.identity, stream=True, starting_after=seen.number):
        seen.take(event)
    return {**shown(seen.final), "raw": seen.text}


def image(name: str) -> Any:
    url = f"data:image/png;base64,{PNG}"
    parts: Any = [{"type": "input_text", "text": question(name)}, {"type": "input_image", "image_url": url}]
    response = plain(name, "sim/echo", input=[{"role": "user", "content": parts}])
    (item,) = client_of().responses.input_items.list(response["id"]).data
    return {**response, "same": item.content[1].image_url == url}


def conversation(name: str) -> Any:
    client = client_of()
    made = client.conversations.create(
        items=[{"role": "user", "content": question(name)}, {"role": "assistant", "content": "yes"}],
        metadata={"a": "b"},
    )
    response = client.responses.create(model=STORY, input="more", conversation=made.id)
    items = list(client.conversations.items.list(made.id, order="asc", limit=2))
    one = client.conversations.items.retrieve(items[0].id, conversation_id=made.id)
    changed = client.conversations.update(made.id, metadata={"c": "d"})
    return {
        **shown(response),
        "roles": [item.role for item in items],
        "same": one.id == items[0].id,
        "metadata": changed.metadata,
    }


def deleted(name: str) -> Any:
    client = client_of()
    response = client.responses.create(model=STORY, input=question(name))
    client.responses.delete(response.id)
    try:
        client.responses.retrieve(response.id)
    except openai.NotFoundError as error:
        return failure(error)
    return None


BROKEN = f"{STORY},fault=error-before,status=429"
CASES: dict[str, Callable[[str], Any]] = {
    "plain": lambda name: plain(name, STORY),
    "streamed": lambda name: streamed(name, STORY),
    "thinking": lambda name: streamed(name, "sim/thinking", reasoning={"effort": "low"}),
    "tools": lambda name: rounds(name, "sim/tools", resends=True),
    "continued": lambda name: rounds(name, "sim/tools", resends=False),
    "serverTools": lambda name: streamed(name, "sim/tools", extra_body={"server_tools": ["clock"]}),
    "structured": parsed,
    "image": image,
    "everyCut": every_cut,
    "cancelled": cancelled,
    "background": background,
    "closed": closed,
    "conversation": conversation,
    "deleted": deleted,
    "plainFault": lambda name: plain(name, BROKEN),
    "faultBefore": lambda name: streamed(name, BROKEN),
    "faultAfter": lambda name: streamed(name, f"{STORY},fault=cut,after=8"),
    "maxTokens": lambda name: streamed(name, f"{STORY},fault=max-tokens,after=8"),
    "fallback": lambda name: streamed(name, BROKEN, extra_body={"fallbacks": [STORY]}),
    "refused": lambda name: plain(name, "sim/echo", previous_response_id="resp_1"),
    **{f"cut {place}": lambda name, place=place: cut(name, place) for place in range(len(CUTTERS))},
}


def main() -> None:
    for name, case in CASES.items():
        sys.stdout.write(json.dumps({"name": name, "outcome": case(name)}) + "\n")
        sys.stdout.flush()


main()
