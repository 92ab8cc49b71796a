"""Turns over the raw HTTP client, and watchers that are cut and resume."""

from __future__ import annotations

from collections.abc import Callable

from tests.e2e.raw_http import Answer, RawStream, call
from tests.turnlog.watching import Client, Frame

from turnstream.core.blocks import Block


async def new_chat(port: int, **headers: str) -> str:
    answer = await call(port, "POST", "/api/chats", {}, headers=headers)
    assert answer.status == 201, answer
    return answer.json["id"]


def turn_body(text: str = "hello", model: str = "sim/echo:pace=0", **more: object) -> dict[str, object]:
    return {"turn_blocks": [{"block_type": "text", "text_content": text}], "model": model, **more}


async def start(port: int, model: str, text: str = "hello", **more: object) -> str:
    """The id of a new assistant turn."""
    chat_id = await new_chat(port)
    answer = await call(port, "POST", f"/api/chats/{chat_id}/turns", turn_body(text, model, **more))
    assert answer.status == 201, answer
    return answer.json["assistant_turn"]["id"]


async def stored_blocks(port: int, turn_id: str) -> list[Block]:
    answer = await call(port, "GET", f"/api/turns/{turn_id}/blocks")
    assert answer.status == 200, answer
    return [
        Block(row["sequence"], row["block_type"], row["text_content"], row["content"], row["partial"])
        for row in answer.json["blocks"]
    ]


async def turn(port: int, turn_id: str) -> Answer:
    return await call(port, "GET", f"/api/turns/{turn_id}")


async def watch(
    port: int,
    turn_id: str,
    client: Client | None = None,
    *,
    by_query: bool = False,
    bytes_at_most: int | None = None,
    until: Callable[[Frame], bool] | None = None,
) -> Client:
    """Watch from where the client is. The connection is cut after so many bytes of the body, or at the end of the
    frame that `until` asks for, whatever else has come by then."""
    client = client or Client()
    cursor = client.reconnect()
    target, headers = f"/api/turns/{turn_id}/stream", {}
    if cursor is not None and by_query:
        target += f"?after={cursor}"
    elif cursor is not None:
        headers["Last-Event-ID"] = cursor
    async with RawStream(port, target, headers=headers) as stream:
        if stream.status == 204:
            return client
        assert stream.status == 200, stream.status
        left = bytes_at_most
        while (piece := await stream.read()) is not None:
            if left is not None:
                piece, left = piece[:left], left - len(piece)
            for frame_bytes in pieces_by_frame(piece) if until is not None else [piece]:
                frames = client.receive(frame_bytes)
                if until is not None and any(until(frame) for frame in frames):
                    return client
            if left is not None and left <= 0:
                return client
    return client


def pieces_by_frame(data: bytes) -> list[bytes]:
    """Cut behind each blank line."""
    parts = data.split(b"\n\n")
    return [part + b"\n\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
