"""Limits at each entrance: a value at a limit passes, and one beyond it is refused and stores nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.server.live import Answer, Client, serving
from tests.server.masking.clients import REQUESTS, agents, stored
from turnstream import LLM
from turnstream import limits as limit
from turnstream.config import ServerSettings
from turnstream.core.identifiers import new_id
from turnstream.engine import Engine
from turnstream.workflow import Workflow

pytestmark = pytest.mark.requirement("K4")
MODEL = "sim/echo:pace=0"
MAX_BODY = 3 * 1024 * 1024
PASSES = frozenset({200, 201, 204})


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[], dict[str, Any]]:
    """Return a body of `REQUESTS`, changed in place."""

    def make() -> dict[str, Any]:
        body: dict[str, Any] = json.loads(json.dumps(REQUESTS[name].body).replace("MODEL", MODEL))
        change(body)
        return body

    return make


class Entrance(NamedTuple):
    """A value that comes in, of a given size.

    Attributes:
        name: The entrance and its value.
        largest: The limit.
        body: Makes the request's body for a size.
        protocol: Name in `REQUESTS`, for the address. Empty: `path` is the address.
        passes: Statuses of a value that is not refused for its size.
        refused: Statuses of the refusal.
    """

    name: str
    largest: int
    body: Callable[[int], Any]
    protocol: str = ""
    path: str = ""
    method: str = "POST"
    headers: Callable[[int], dict[str, str]] = lambda _size: {}
    passes: frozenset[int] = PASSES
    refused: frozenset[int] = frozenset({400})


def text(size: int) -> str:
    return "x" * size


def metadata(size: int) -> dict[str, str]:
    return {"k": text(size - len('{"k": ""}'))}


def nested(size: int) -> Any:
    value: Any = 1
    for _ in range(size - 1):
        value = [value]
    return {"x": value}


def tools(size: int) -> list[dict[str, Any]]:
    return [
        {"name": f"t{number}", "description": "", "input_schema": {"type": "object"}}
        for number in range(size)
    ]


def functions(size: int) -> list[dict[str, Any]]:
    return [
        {"type": "function", "function": {"name": f"t{n}", "parameters": {"type": "object"}}}
        for n in range(size)
    ]


def field(protocol: str, name: str, make: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda size: edited(protocol, lambda body: body.update({name: make(size)}))()


def forwarded(name: str, make: Callable[[int], Any]) -> Callable[[int], Any]:
    return lambda size: edited("ag-ui", lambda body: body["forwardedProps"].update({name: make(size)}))()


def block(make: Callable[[int], dict[str, Any]], kind: str) -> Callable[[int], Any]:
    return field("native", "turn_blocks", lambda size: [{"block_type": kind, "content": make(size)}])


def answers(size: int) -> list[dict[str, Any]]:
    return [{} for _ in range(size)]


NATIVE = "native, no stream"
FOUND = frozenset({404})
ENTRANCES = [
    Entrance("native: title", limit.MAX_TITLE, lambda n: {"title": text(n)}, path="/api/chats"),
    Entrance(
        "native: metadata of a chat",
        limit.MAX_METADATA,
        lambda n: {"metadata": metadata(n)},
        path="/api/chats",
    ),
    Entrance("native: metadata", limit.MAX_METADATA, field(NATIVE, "metadata", metadata), NATIVE),
    Entrance(
        "native: blocks",
        limit.MAX_BLOCKS,
        field(NATIVE, "turn_blocks", lambda n: [{"type": "text", "text": "a"}] * n),
        NATIVE,
    ),
    Entrance(
        "native: url",
        limit.LONGEST_URL,
        block(lambda n: {"url": f"https://a.example/{text(n - 18)}"}, "image"),
        NATIVE,
    ),
    Entrance(
        "native: title of a document",
        limit.LONGEST_TITLE,
        block(lambda n: {"text": "a", "title": text(n)}, "document"),
        NATIVE,
    ),
    Entrance("native: params", limit.NESTING_LIMIT, field(NATIVE, "params", nested), NATIVE),
    Entrance("native: tools", limit.MAX_TOOLS, field(NATIVE, "tools", tools), NATIVE),
    Entrance(
        "native: fallbacks", limit.MAX_FALLBACKS, field(NATIVE, "fallbacks", lambda n: [MODEL] * n), NATIVE
    ),
    Entrance("native: alternatives", limit.MAX_ALTERNATIVES, field(NATIVE, "alternatives", answers), NATIVE),
    Entrance(
        "native: key",
        limit.MAX_KEY,
        field(NATIVE, "role", lambda _: "user"),
        NATIVE,
        headers=lambda n: {"Idempotency-Key": text(n)},
    ),
    Entrance(
        "native: reason of an approval",
        limit.MAX_REASON,
        lambda n: {"approved": False, "reason": text(n)},
        path=f"/api/turns/{new_id()}/approvals/{new_id()}",
        passes=FOUND,
    ),
    Entrance("ai sdk: id", limit.CLIENT_ID_LENGTH, field("ai sdk", "id", text), "ai sdk"),
    Entrance("ai sdk: metadata", limit.MAX_METADATA, field("ai sdk", "metadata", metadata), "ai sdk"),
    Entrance(
        "ai sdk: fallbacks",
        limit.MAX_FALLBACKS,
        field("ai sdk", "fallbacks", lambda n: [MODEL] * n),
        "ai sdk",
    ),
    Entrance("ag-ui: threadId", limit.CLIENT_ID_LENGTH, field("ag-ui", "threadId", text), "ag-ui"),
    Entrance("ag-ui: runId", limit.CLIENT_ID_LENGTH, field("ag-ui", "runId", text), "ag-ui"),
    Entrance("ag-ui: metadata", limit.MAX_METADATA, forwarded("metadata", metadata), "ag-ui"),
    Entrance("ag-ui: fallbacks", limit.MAX_FALLBACKS, forwarded("fallbacks", lambda n: [MODEL] * n), "ag-ui"),
    Entrance(
        "ag-ui: tools",
        limit.MAX_TOOLS,
        field("ag-ui", "tools", lambda n: [{"name": f"t{i}", "description": ""} for i in range(n)]),
        "ag-ui",
    ),
    Entrance(
        "openai chat: metadata", limit.MAX_METADATA, field("openai chat", "metadata", metadata), "openai chat"
    ),
    Entrance("openai chat: tools", limit.MAX_TOOLS, field("openai chat", "tools", functions), "openai chat"),
    Entrance(
        "responses: items of a conversation",
        limit.MAX_NEW_ITEMS,
        lambda n: {"items": [{"type": "message", "role": "user", "content": "a"}] * n},
        path="/v1/conversations",
    ),
    Entrance("anthropic: tools", limit.MAX_TOOLS, field("anthropic", "tools", tools), "anthropic"),
    Entrance("ollama: tools", limit.MAX_TOOLS, field("ollama", "tools", functions), "ollama"),
    Entrance("relay: message", limit.MAX_MESSAGE, field("relay", "message", text), "relay"),
    Entrance(
        "relay: agent", limit.MAX_AGENT_ID, field("relay", "agentId", text), "relay", passes=FOUND | {400}
    ),
    Entrance("staged agent: query", limit.MAX_MESSAGE, field("staged agent", "query", text), "staged agent"),
    Entrance(
        "staged agent: session",
        limit.MAX_AGENT_NAME,
        field("staged agent", "session_id", text),
        "staged agent",
    ),
    Entrance(
        "staged agent: user_input",
        limit.MAX_MESSAGE,
        lambda n: {"workflow_id": "none", "user_input": text(n)},
        path="/api/agent/resume/none",
        passes=frozenset({200, 404}),
    ),
    Entrance(
        "staged agent: page",
        limit.MAX_AGENT_NAME,
        lambda n: {"page_name": text(n)},
        path="/api/agent/chat/conversations",
    ),
    *(
        Entrance(
            f"{name}: body",
            MAX_BODY,
            lambda n, name=name: padded(name, n),
            name,
            refused=frozenset({413}),
        )
        for name in REQUESTS
    ),
]


def padded(name: str, size: int) -> bytes:
    body = json.dumps(edited(name, lambda _: None)()).encode()
    return body + b" " * (size - len(body))


def message_of(protocol: str, answer: Answer) -> str:
    """Return the message of a refusal, in the form of its protocol."""
    body = answer.json
    if protocol.startswith("relay"):
        assert set(body) == {"error", "message"}
        return body["message"]
    if (
        protocol.startswith("ollama") and answer.status != 413
    ):  # without a body, its address is any protocol's
        return body["error"]
    if protocol.startswith("anthropic"):
        assert body["type"] == "error"
    error = body["error"]
    return error["message"] if isinstance(error, dict) else error


@pytest.mark.parametrize("entrance", ENTRANCES, ids=lambda entrance: entrance.name)
async def test_a_limit_holds_at_its_entrance(tmp_path: Path, entrance: Entrance) -> None:
    engine = Engine(
        f"sqlite:///{tmp_path}/turns.sqlite",
        server=ServerSettings(max_body_bytes=MAX_BODY),
        agents=agents(MODEL),
        workflow=Workflow(LLM(MODEL)),
    )
    async with serving(engine.application()) as port:
        client = Client(port, prefix="")
        chat = (await client.call("POST", "/api/chats")).json["id"]
        path = entrance.path or REQUESTS[entrance.protocol].path.replace("CHAT", chat)

        async def send(size: int) -> Answer:
            return await client.call(entrance.method, path, entrance.body(size), entrance.headers(size))

        before = stored(tmp_path / "turns.sqlite")
        refused = await send(entrance.largest + 1)
        assert refused.status in entrance.refused, refused
        protocol = entrance.protocol or entrance.name
        assert len(message_of(protocol, refused)) > 10
        assert stored(tmp_path / "turns.sqlite") == before
        accepted = await send(entrance.largest)
        assert accepted.status in entrance.passes, accepted
        if entrance.passes & entrance.refused:
            assert message_of(protocol, accepted) != message_of(protocol, refused)


@pytest.mark.parametrize(
    ("path", "largest"),
    [
        ("/api/chats?limit={}", limit.MAX_PAGE),
        ("/v1/conversations/{{}}/items?limit={}", limit.MAX_LISTED_ITEMS),
    ],
)
async def test_a_page_has_a_limit(tmp_path: Path, path: str, largest: int) -> None:
    engine = Engine(f"sqlite:///{tmp_path}/turns.sqlite")
    async with serving(engine.application()) as port:
        client = Client(port, prefix="")
        made = (await client.call("POST", "/v1/conversations", {})).json["id"]
        for size, status in ((largest, 200), (largest + 1, 400)):
            address = path.format(size).replace("{}", made)
            assert (await client.call("GET", address)).status == status
