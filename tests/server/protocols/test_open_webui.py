"""The requests of Open WebUI 0.12.4, as its server sent them: connection checks, model lists, chats."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Client, serving
from turnstream.engine import Engine

HEADERS = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br",
    "User-Agent": "Python/3.11 aiohttp/3.14.5",
}
KEY = {**HEADERS, "Authorization": "Bearer any"}
PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}
TOOLS = [{"type": "function", "function": {"name": "w", "description": "d", "parameters": PARAMETERS}}]
PICTURE = "iVBORw0KGgo="
SYSTEM = {"role": "system", "content": "Be kind."}
OLLAMA_CHAT = {
    "model": "sim/echo:latest",
    "messages": [SYSTEM, {"role": "user", "content": "look", "images": [PICTURE]}],
    "options": {"num_predict": 50},
    "stream": True,
    "tools": TOOLS,
}
OPENAI_CHAT = {
    "model": "sim/echo",
    "messages": [
        SYSTEM,
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
            ],
        },
    ],
    "stream": True,
    "temperature": 0.5,
    "max_tokens": 50,
    "stream_options": {"include_usage": True},
    "tools": TOOLS,
}


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}")
    async with serving(engine.application()) as port:
        yield Client(port, prefix="")


@pytest.mark.requirement("N7")
async def test_an_ollama_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        check = await client.call("GET", "/api/version", headers=HEADERS)
        tags = await client.call("GET", "/api/tags", headers=HEADERS)
        loaded = await client.call("GET", "/api/ps", headers=HEADERS)
        answer = await client.call("POST", "/api/chat", OLLAMA_CHAT, headers=HEADERS)
        stored = await Client(client.port).stored(answer.headers["x-request-id"])
    assert check.json["version"]
    assert OLLAMA_CHAT["model"] in {model["model"] for model in tags.json["models"]}
    assert loaded.json == {"models": []}
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert "".join(line["message"]["content"] for line in lines) == stored[0]["text_content"] == "look"
    assert (lines[-1]["done"], lines[-1]["model"]) == (True, "sim/echo:latest")


@pytest.mark.requirement("N5")
async def test_an_openai_connection(tmp_path: Path) -> None:
    async with running(tmp_path) as client:
        models = await client.call("GET", "/v1/models", headers=KEY)
        answer = await client.call("POST", "/v1/chat/completions", OPENAI_CHAT, headers=KEY)
        stored = await Client(client.port).stored(answer.headers["x-request-id"])
    assert OPENAI_CHAT["model"] in {model["id"] for model in models.json["data"]}
    *frames, done, rest = answer.body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "")
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames]
    texts = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert "".join(texts) == stored[0]["text_content"] == "look"
    assert chunks[-1]["usage"]["completion_tokens"] == 1
