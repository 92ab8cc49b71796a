"""A turn over a failing provider, as a client of OpenAI Chat Completions requests and reads it."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.faults.survival_faults import SEED, STORY, Fault, story_of
from tests.server.live import Client
from turnstream.core.cursor import Cursor, first_generation
from turnstream.engine import Engine
from turnstream.turnlog.watch_decision import Pause

_STATUSES = {
    "rate_limit_error": 429,
    "overloaded_error": 503,
    "connection_error": 500,
    "first_token_timeout": 504,
    "context_length_exceeded": 400,
    "content_filtered": 400,
    "invalid_request_error": 400,
    "not_found_error": 404,
    "authentication_error": 401,
    "insufficient_quota": 429,
    "api_error": 500,
}
"""Status of a failure before output, by its code."""


async def read_answer(client: Client, model: str, fallbacks: list[str]) -> dict[str, Any]:
    """Return what the client has: `turn`, `status`, `text`, `error`, and True as `done` after a clean end."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "go on"}],
        "stream": True,
        "fallbacks": fallbacks,
    }
    answer = await Client(client.port, prefix="/v1").call("POST", "/chat/completions", body)
    found = {"turn": answer.headers["x-request-id"], "status": answer.status, "text": "", "done": False}
    if answer.status != 200:
        return {**found, "error": answer.json["error"]}
    frames = [frame for frame in answer.body.decode().split("\n\n") if frame.startswith("data: ")]
    done = frames[-1] == "data: [DONE]"
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[: -1 if done else None]]
    choices = [choice for chunk in chunks for choice in chunk.get("choices", ())]
    assert done == any(choice["finish_reason"] for choice in choices)
    text = "".join(choice["delta"].get("content") or "" for choice in choices)
    return {**found, "text": text, "done": done, "error": chunks[-1].get("error")}


async def notices_of(engine: Engine, turn_id: str) -> list[str]:
    """Return the codes of the notices of a turn whose events are all in memory."""
    subscription = await engine.subscribe(turn_id, after=Cursor(first_generation(turn_id), 0))
    frames: list[bytes] = []
    while not isinstance(data := await subscription.ready(), Pause):
        frames.append(bytes(data))
    subscription.close()
    found = re.findall(rb'event: notice\ndata: {[^\n]*"code":"([a-z_]+)"', b"".join(frames))
    return [code.decode() for code in found]


async def ended_row(engine: Engine, client: Client, turn_id: str) -> dict[str, Any]:
    """Return a turn's row after its end."""
    await engine.commands.ended(turn_id)
    return (await client.call("GET", f"/turns/{turn_id}")).json


def client_code(read: dict[str, Any], row: dict[str, Any]) -> str | None:
    """Return the code of the failure that the client sees, or None for a clean end.

    A failure is never a clean end, and it has the status and the type of OpenAI's API.
    """
    error = read["error"]
    assert (error is None) == read["done"], read
    if error is None:
        return None
    assert error["message"]
    assert error["type"]
    if error["code"] == "retracted":
        return "retracted"
    code = row["error"]["code"]
    if not read["text"]:
        assert read["status"] == _STATUSES.get(code, 500), (read, code)
    return code


def check_retracted(fault: Fault, outcome: Any) -> None:
    """Another model answered in other words. The client has an error, and no word of the other answer."""
    assert fault.seed != SEED
    assert outcome.text
    assert STORY.startswith(outcome.text)
    assert outcome.row["status"] == "complete"
    assert "".join(block["text_content"] or "" for block in outcome.row["blocks"]) == story_of(fault.seed)
