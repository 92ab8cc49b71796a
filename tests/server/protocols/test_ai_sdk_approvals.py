"""Clients of the AI SDK 6 and 7 approve tool calls over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.ui_fold import UiMessageFold
from tests.server.live import Client, serving
from tests.server.test_ai_sdk import body, clock, stored_texts, user
from tests.turns.tools.asking import expire_approvals
from turnstream.engine import Engine
from turnstream.tools.base import tool

PATHS = {6: "/ai-sdk/v6/chat", 7: "/ai-sdk/v7/chat"}
EVERY_MAJOR = pytest.mark.parametrize("major", PATHS)


@tool(ask="always")
def erase(path: str) -> str:
    """Erase a file."""
    return f"{path} is gone"


@asynccontextmanager
async def chatting(tmp_path: Path) -> AsyncIterator[Client]:
    engine = Engine(f"sqlite:///{tmp_path / 'chats.sqlite'}", tools=[clock, erase])
    async with serving(engine.application()) as port:
        yield Client(port)


async def asked(client: Client, major: int) -> UiMessageFold:
    """A message that waits for the approval of one of its two calls."""
    answer = await client.call("POST", PATHS[major], body("c", user("one"), model="sim/tools:pace=0"))
    fold = UiMessageFold(major)
    fold.receive(answer.body)
    assert (fold.ending, fold.done) == ("tool-calls", True)
    return fold


def call_of(fold: UiMessageFold, name: str) -> dict[str, Any]:
    (call,) = (part for part in fold.parts if part["type"] == "tool" and part["name"] == name)
    return call


def responded(fold: UiMessageFold, *, approved: bool, reason: str | None = None) -> dict[str, Any]:
    """The message with the user's answer."""
    parts: list[dict[str, Any]] = [part for part in fold.parts if part["type"] != "tool"]
    for name in ("clock", "erase"):
        call = call_of(fold, name)
        part = {"type": f"tool-{name}", "toolCallId": call["id"], "input": call["input"]}
        if name == "erase":
            part |= {
                "state": "approval-responded",
                "approval": {"id": call["approvalId"], "approved": approved, "reason": reason},
            }
        else:
            part |= {"state": "output-available", "output": call["output"]}
        parts.append(part)
    return {"id": fold.message_id, "role": "assistant", "parts": parts}


async def answered(client: Client, major: int, fold: UiMessageFold, message: dict[str, Any]) -> UiMessageFold:
    answer = await client.call("POST", PATHS[major], body("c", user("one"), message))
    assert answer.status == 200, answer
    rest = UiMessageFold(major)
    rest.continue_from(fold)
    rest.receive(answer.body)
    assert rest.done
    assert rest.message_id == fold.message_id
    return rest


@pytest.mark.requirement("N3")
@EVERY_MAJOR
async def test_an_approved_call_runs_and_the_same_turn_continues(tmp_path: Path, major: int) -> None:
    async with chatting(tmp_path) as client:
        fold = await asked(client, major)
        assert call_of(fold, "clock")["output"] == "12:00"
        assert call_of(fold, "erase")["state"] == "tool-approval-request"
        rest = await answered(client, major, fold, responded(fold, approved=True))
        assert rest.ending == "stop"
        assert "is gone" in call_of(rest, "erase")["output"]
        assert fold.message_id is not None
        assert rest.texts("text") == await stored_texts(client, fold.message_id)
        again = await answered(client, major, fold, responded(fold, approved=True))
        assert again.ending == "stop"


@EVERY_MAJOR
async def test_a_denied_call_does_not_run(tmp_path: Path, major: int) -> None:
    async with chatting(tmp_path) as client:
        fold = await asked(client, major)
        rest = await answered(client, major, fold, responded(fold, approved=False, reason="not this"))
        assert (call_of(rest, "erase")["state"], rest.ending) == ("tool-output-denied", "stop")
        assert "not this" in rest.texts("text")[-1]


@EVERY_MAJOR
async def test_an_answer_after_its_time_shows_the_denial(tmp_path: Path, major: int) -> None:
    async with chatting(tmp_path) as client:
        fold = await asked(client, major)
        expire_approvals(tmp_path / "chats.sqlite")
        rest = await answered(client, major, fold, responded(fold, approved=True))
        assert (call_of(rest, "erase")["state"], rest.ending) == ("tool-output-denied", "stop")


@EVERY_MAJOR
async def test_a_reload_shows_the_request_again_and_a_stop_ends_the_turn(tmp_path: Path, major: int) -> None:
    async with chatting(tmp_path) as client:
        fold = await asked(client, major)
        answer = await client.call("GET", PATHS[major] + "/c/stream")
        again = UiMessageFold(major)
        again.receive(answer.body)
        assert (again.message_id, again.ending) == (fold.message_id, "tool-calls")
        assert call_of(again, "erase")["approvalId"] == call_of(fold, "erase")["approvalId"]
        stopped = await client.call("POST", PATHS[major] + "/c/stop")
        assert stopped.json == {"stopped": [fold.message_id]}
        rest = await answered(client, major, fold, responded(fold, approved=True))
        assert rest.ending == "abort"


async def test_an_unknown_approval_is_not_found(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        fold = await asked(client, 6)
        message = responded(fold, approved=True)
        message["parts"][-1]["approval"]["id"] = "unknown"
        answer = await client.call("POST", PATHS[6], body("c", user("one"), message))
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")


async def test_major_5_gets_no_tool_that_asks(tmp_path: Path) -> None:
    async with chatting(tmp_path) as client:
        asked_body = body("c", user("one"), model="sim/tools:pace=0")
        fold = UiMessageFold()
        fold.receive((await client.call("POST", "/ai-sdk/chat", asked_body)).body)
        assert {part["name"] for part in fold.parts if part["type"] == "tool"} == {"clock"}
        refused = await client.call("POST", "/ai-sdk/chat", {**asked_body, "tools": ["erase"]})
        assert refused.status == 400
        assert "asks first" in refused.json["error"]["message"]
