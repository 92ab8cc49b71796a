"""Tools that ask first, with clients of AG-UI: an interrupt, an answer, and the rest of the turn."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.run_fold import RunFold
from tests.server.live import SECONDS, Client
from tests.server.protocols.test_ag_ui import RUN, ask, asked, running, turn_of, user
from turnstream.tools.base import tool

MODEL = "sim/agent:pace=0"


class Eraser:
    """A tool that asks first. `erased` has the names of the erased files."""

    def __init__(self) -> None:
        self.erased: list[str] = []

    @property
    def function(self) -> Any:
        erased = self.erased

        @tool(ask="always")
        def erase(path: str) -> str:
            """Erase a file."""
            erased.append(path)
            return "gone"

        return erase


def question(run_id: str, *messages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return asked(run_id, *messages, forwardedProps={"model": MODEL, "tools": ["clock", "erase"]}, **fields)


def interrupts(fold: RunFold) -> list[dict[str, Any]]:
    assert fold.ending is not None
    return fold.ending["outcome"]["interrupts"]


async def status(client: Client, fold: RunFold) -> dict[str, Any]:
    return (await client.call("GET", f"/turns/{turn_of(fold)}")).json


@pytest.mark.requirement("N4")
@pytest.mark.parametrize(
    ("answer", "runs"),
    [
        ({"status": "resolved", "payload": {"approved": True}}, True),
        ({"status": "resolved", "payload": True}, True),
        ({"status": "resolved", "payload": {"approved": False, "reason": "not today"}}, False),
        ({"status": "cancelled"}, False),
    ],
)
async def test_an_answer_continues_the_same_turn_as_a_new_run(
    tmp_path: Path, answer: dict[str, Any], runs: bool
) -> None:
    eraser = Eraser()
    async with running(tmp_path, eraser.function) as client:
        first = await ask(client, question("r1", user("one")))
        assert first.outcome == "interrupt"
        (asked_for,) = interrupts(first)
        waiting = await status(client, first)
        assert (waiting["status"], len(waiting["approvals"])) == ("waiting", 1)
        again = await ask(client, question("r1", *first.messages))
        assert (again.outcome, again.messages) == ("interrupt", first.messages)
        resume = [{"interruptId": asked_for["id"], **answer}]
        second = await ask(client, question("r2", *first.messages, resume=resume))
        assert second.outcome == "success"
        assert turn_of(second) == turn_of(first)
        assert second.messages[: len(first.messages) - 1] == first.messages[:-1]
        (result,) = [one for one in second.messages if one.get("toolCallId") == asked_for["toolCallId"]]
        assert (result["content"] == "gone") == runs == bool(eraser.erased)
        if answer.get("payload", True) is not True and not runs:
            assert "not today" in result["content"]
        repeated = await ask(client, question("r2", *first.messages, resume=resume))
        assert repeated.messages == second.messages
        third = await ask(client, asked("r3", *second.messages, user("two")))
        assert (await status(client, third))["chat_id"] == waiting["chat_id"]
        turns = (await client.call("GET", f"/chats/{waiting['chat_id']}/turns")).json["turns"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]


@pytest.mark.requirement("N4")
async def test_answers_that_do_not_fit_are_refused_and_the_turn_waits_on(tmp_path: Path) -> None:
    eraser = Eraser()
    async with running(tmp_path, eraser.function) as client:
        first = await ask(client, question("r1", user("one")))
        (asked_for,) = interrupts(first)
        yes = {"status": "resolved", "payload": True}
        for interrupt_id in ("x", turn_of(first)):
            body = question("r2", *first.messages, resume=[{"interruptId": interrupt_id, **yes}])
            assert (await client.call("POST", RUN, body)).status == 404
        assert (await status(client, first))["status"] == "waiting"
        stopped = (await client.call("POST", f"{RUN}/runs/r1/stop")).json
        assert stopped["status"] == "cancelled"
        late = question("r3", *first.messages, resume=[{"interruptId": asked_for["id"], **yes}])
        assert (await ask(client, late)).outcome == "cancelled"
        joined = await ask(client, question("r1", user("one")))
        assert joined.outcome == "cancelled"
        assert eraser.erased == []


@pytest.mark.requirement("N4")
async def test_an_answer_with_the_id_of_the_interrupted_run_continues_it(tmp_path: Path) -> None:
    eraser = Eraser()
    async with running(tmp_path, eraser.function) as client:
        first = await ask(client, question("r1", user("one")))
        resume = [{"interruptId": interrupts(first)[0]["id"], "status": "resolved", "payload": True}]
        second = await ask(client, question("r1", *first.messages, resume=resume))
        assert second.outcome == "success"
        assert len(eraser.erased) == 1


@pytest.mark.requirement("N4")
async def test_answers_are_stored_together_or_not_at_all(tmp_path: Path) -> None:
    eraser = Eraser()
    async with running(tmp_path, eraser.function) as client:
        first = await ask(client, question("r1", user("one")))
        other = await ask(client, {**question("r1", user("two")), "threadId": "another thread"})
        yes = {"status": "resolved", "payload": True}
        one, two = ({"interruptId": interrupts(fold)[0]["id"], **yes} for fold in (first, other))
        unknown = {"interruptId": "x", **yes}
        elsewhere = {"threadId": "another thread"}
        for status_code, body in (
            (404, question("r2", *first.messages, resume=[one, unknown])),
            (400, question("r2", *first.messages, resume=[one, two])),
            (404, question("r2", *first.messages, resume=[one], **elsewhere)),
            (404, question("r2", *first.messages, resume=[one], threadId="an unknown thread")),
        ):
            assert (await client.call("POST", RUN, body)).status == status_code
            assert [(await status(client, fold))["status"] for fold in (first, other)] == ["waiting"] * 2
        done = await ask(client, question("r2", *first.messages, resume=[one]))
        assert done.outcome == "success"
        taken = question("r2", *other.messages, resume=[two], threadId="another thread")
        assert (await ask(client, taken)).outcome == "success"
        third = await ask(client, question("r3", *done.messages, user("three")))
        (asked_for,) = interrupts(third)
        used = question("r2", resume=[{"interruptId": asked_for["id"], **yes}])
        refused = await client.call("POST", RUN, used)
        assert refused.status == 400
        assert "names another turn" in refused.json["error"]["message"]
        assert len(eraser.erased) == 2


@pytest.mark.requirement("N4")
async def test_an_answer_in_the_native_protocol_continues_a_run(tmp_path: Path) -> None:
    eraser = Eraser()
    async with running(tmp_path, eraser.function) as client:
        first = await ask(client, question("r1", user("one")))
        path = f"/turns/{turn_of(first)}/approvals/{interrupts(first)[0]['id']}"
        assert (await client.call("POST", path, {"approved": True})).status == 200
        async with asyncio.timeout(SECONDS):
            joined = await ask(client, question("r1", *first.messages))
        assert joined.outcome == "success"
        assert len(eraser.erased) == 1
