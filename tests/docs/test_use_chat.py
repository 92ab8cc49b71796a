"""The example with `useChat` and its page name addresses that the server has, and its settings ask first."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import HOW_TO, PROJECT
from tests.server.live import Client, serving
from turnstream import Engine, load_settings

EXAMPLE = PROJECT / "examples" / "use_chat"
NAMED = {
    file.name: found[1]
    for file in (EXAMPLE / "src" / "server.ts", HOW_TO / "use-chat.md")
    if (found := re.search(r'const api = "(/[^"]+)";', file.read_text("utf-8"))) is not None
}
"""Return the address of the chat endpoint, by the file that names it."""


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    settings = load_settings(EXAMPLE / "turnstream.toml", environ={})
    engine = Engine.from_settings(settings, store_url=f"sqlite:///{tmp_path / 'chats.sqlite'}")
    async with serving(engine.application()) as port:
        yield Client(port, prefix="")


@pytest.mark.requirement("N3", "F1")
@pytest.mark.parametrize("file", ["server.ts", "use-chat.md"])
async def test_the_server_has_the_addresses_of_the_page(client: Client, file: str) -> None:
    api = NAMED[file]
    assert (await client.call("GET", f"{api}/a chat/stream".replace(" ", "%20"))).status == 204
    question: dict[str, Any] = {"role": "user", "parts": [{"type": "text", "text": "Hello"}]}
    asked = {"id": "a chat", "messages": [question], "model": "sim/tools:pace=0"}
    answer = await client.call("POST", api, asked)
    chunks = [
        json.loads(line.removeprefix("data: "))
        for line in answer.body.decode().splitlines()
        if line.startswith("data: {")
    ]
    (approval,) = [chunk for chunk in chunks if chunk["type"] == "tool-approval-request"]
    (call,) = [
        chunk
        for chunk in chunks
        if chunk["type"] == "tool-input-available" and chunk["toolCallId"] == approval["toolCallId"]
    ]
    assert call["toolName"] == "clock"
    assert (await client.call("GET", f"{api}/a%20chat/stream")).status == 200
    assert len((await client.call("GET", f"{api}/a%20chat/messages")).json) == 1
    stopped = await client.call("POST", f"{api}/a%20chat/stop")
    assert stopped.json == {"stopped": [chunks[0]["messageMetadata"]["turnId"]]}


def test_the_page_calls_the_port_of_the_server() -> None:
    port = load_settings(EXAMPLE / "turnstream.toml", environ={}).server.port
    proxied = f'"http://127.0.0.1:{port}"'
    assert proxied in (EXAMPLE / "vite.config.ts").read_text("utf-8")
    assert proxied in (HOW_TO / "use-chat.md").read_text("utf-8")


def test_the_example_has_the_versions_that_are_tested() -> None:
    folder = PROJECT / "tests" / "clients" / "javascript" / "ai-sdk-7"
    example, tested = (
        json.loads((root / "package.json").read_text("utf-8"))["dependencies"] for root in (EXAMPLE, folder)
    )
    both = example.keys() & tested.keys()
    assert both >= {"ai", "@ai-sdk/react", "react"}
    assert {name: example[name] for name in both} == {name: tested[name] for name in both}
