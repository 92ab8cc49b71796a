"""A server, and clients of its addresses for OpenAI Responses."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.dialects.response_fold import ResponseFold
from tests.server.live import Client, serving
from turnstream.engine import Engine
from turnstream.tools.base import tool

RESPONSES = "/responses"
STORY = "sim/story:events=20,pace=0"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


@tool
def clock() -> str:
    """Tell the time."""
    return "12:00"


@asynccontextmanager
async def running(tmp_path: Path, **options: Any) -> AsyncIterator[tuple[Client, Client]]:
    """A client of `/v1`, and one of the native API."""
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", tools=[clock], **options)
    async with serving(engine.application()) as port:
        yield Client(port, prefix="/v1"), Client(port)


def asked(text: Any, model: str = STORY, **fields: Any) -> dict[str, Any]:
    return {"model": model, "input": text, **fields}


async def stream(client: Client, body: dict[str, Any]) -> ResponseFold:
    answer = await client.call("POST", RESPONSES, {**body, "stream": True})
    assert answer.status == 200, answer
    fold = ResponseFold()
    fold.receive(answer.body)
    assert fold.end is not None
    return fold


async def create(client: Client, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.call("POST", RESPONSES, body)
    assert answer.status == 200, answer
    return answer.json


def text_of(response: dict[str, Any]) -> str:
    """Return the text that the SDKs call `output_text`."""
    return "".join(
        part["text"]
        for item in response["output"]
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )


def turn_id(response: dict[str, Any]) -> str:
    digits = response["id"].removeprefix("resp_")
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
