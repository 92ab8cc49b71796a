"""One request of each protocol, and all bytes that its client and a later reader get."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tests.server.live import Client
from turnstream.config import AgentSettings

QUESTION = "say something"
MESSAGES = [{"role": "user", "content": QUESTION}]


class Asking(NamedTuple):
    """A request that starts a turn. `MODEL` in its body is replaced by the model."""

    path: str
    body: dict[str, Any]


REQUESTS: Mapping[str, Asking] = {
    "native": Asking("/api/chats/CHAT/turns?stream=true", {"turn_blocks": QUESTION, "model": "MODEL"}),
    "native, no stream": Asking("/api/chats/CHAT/turns", {"turn_blocks": QUESTION, "model": "MODEL"}),
    "ai sdk": Asking(
        "/api/ai-sdk/v7/chat",
        {
            "id": "c-1",
            "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": QUESTION}]}],
            "trigger": "submit-message",
            "model": "MODEL",
        },
    ),
    "ag-ui": Asking(
        "/api/ag-ui",
        {
            "threadId": "t-1",
            "runId": "r-1",
            "protocolVersion": "1.0",
            "messages": [{"id": "m", "role": "user", "content": QUESTION}],
            "tools": [],
            "context": [],
            "state": {},
            "forwardedProps": {"model": "MODEL"},
        },
    ),
    "openai chat": Asking("/v1/chat/completions", {"model": "MODEL", "messages": MESSAGES}),
    "openai chat stream": Asking(
        "/v1/chat/completions", {"model": "MODEL", "messages": MESSAGES, "stream": True}
    ),
    "responses": Asking("/v1/responses", {"model": "MODEL", "input": QUESTION}),
    "responses stream": Asking("/v1/responses", {"model": "MODEL", "input": QUESTION, "stream": True}),
    "anthropic": Asking("/v1/messages", {"model": "MODEL", "messages": MESSAGES, "max_tokens": 9}),
    "anthropic stream": Asking(
        "/v1/messages", {"model": "MODEL", "messages": MESSAGES, "max_tokens": 9, "stream": True}
    ),
    "ollama": Asking("/api/chat", {"model": "MODEL", "messages": MESSAGES, "stream": False}),
    "ollama stream": Asking("/api/chat", {"model": "MODEL", "messages": MESSAGES}),
    "relay": Asking("/api/command-center/message", {"agentId": "agent", "message": QUESTION}),
    "staged agent": Asking("/api/agent/chat/stream", {"query": QUESTION, "context": {}}),
}
"""Each protocol's request, as a client writes it."""


def agents(model: str) -> dict[str, AgentSettings]:
    """The preset agent of the relay's request."""
    return {"agent": AgentSettings(model=model)}


async def seen_by_clients(port: int, name: str, model: str) -> bytes:
    """Return the answer of a request, then everything that the native protocol shows of the chats."""
    client = Client(port, prefix="")
    asking = REQUESTS[name]
    path = asking.path
    seen: list[bytes] = []
    if "CHAT" in path:
        made = await client.call("POST", "/api/chats")
        seen.append(made.body)
        if made.status != 201:
            return made.body
        path = path.replace("CHAT", made.json["id"])
    body = json.loads(json.dumps(asking.body).replace("MODEL", model))
    answer = await client.call("POST", path, body)
    seen += [str(answer.headers).encode(), answer.body]
    listed = await client.call("GET", "/api/chats?limit=1")
    if listed.status != 200:
        return b"\n".join([*seen, listed.body])
    for chat in listed.json["chats"]:
        for address in ("", "/turns", "/path"):
            seen.append((await client.call("GET", f"/api/chats/{chat['id']}{address}")).body)
        turns = (await client.call("GET", f"/api/chats/{chat['id']}/turns")).json["turns"]
        for turn in turns:
            seen.append((await client.call("GET", f"/api/turns/{turn['id']}/stream")).body)
            seen.append((await client.call("GET", f"/api/turns/{turn['id']}")).body)
    return b"\n".join(seen)


def stored(database: Path) -> str:
    """Return all rows of a database, without the secret that a server creates once."""
    with closing(sqlite3.connect(database)) as connection:
        return "\n".join(
            line for line in connection.iterdump() if line.startswith("INSERT") and "_secrets" not in line
        )
