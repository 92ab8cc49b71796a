"""Requests to the simulator as a plain HTTP client makes them."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import aiohttp
import msgspec
from yarl import URL

from turnstream.wires.base import ModelRequest, Wire

PATHS = {
    "anthropic": "/v1/messages",
    "openai-chat": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "ollama": "/api/chat",
}
"""Paths of the server by wire. A wire without an entry has the model in its path."""


class Got(NamedTuple):
    """An answer. `broken` tells that the connection ended before it did."""

    status: int
    headers: dict[str, str]
    body: bytes
    broken: bool


async def post(
    url: str, wire: Wire, request: ModelRequest, simulate: str = "", *, stream: bool = True
) -> Got:
    """POST a request; `simulate` goes into the header `X-Simulate`."""
    encoded = wire.encode_request(msgspec.structs.replace(request, stream=stream))
    body: dict[str, Any] = json.loads(encoded.body)
    if wire.name in PATHS:
        body["stream"] = stream
    address = URL(url + PATHS.get(wire.name, encoded.path), encoded=True)
    headers = {"X-Simulate": simulate} if simulate else {}
    data = bytearray()
    broken = False
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
        session.post(address, json=body, headers=headers) as answer,
    ):
        try:
            async for piece in answer.content.iter_any():
                data += piece
        except aiohttp.ClientError:
            broken = True
        return Got(answer.status, dict(answer.headers), bytes(data), broken)
