"""Readers of the staged agent and of the relay, written from the descriptions of their pages, run by node.

In each case, a reader shows the stored answer at the end, or an error.
"""

from __future__ import annotations

import asyncio
import json
import os
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients.javascript.witnesses import NODE, SECONDS
from tests.server.live import Client, serving
from turnstream import LLM
from turnstream.config import AgentSettings, PriceSettings, RetrySettings, Settings
from turnstream.engine import Engine
from turnstream.workflow import Stage, StageRun, Workflow, done, thinking
from turnstream.workflow.stage import StageOutput

DOCUMENTS = Path(__file__).with_name("documents")
LONG = "sim/story:pace=0.01,events=150"
AGENTS = {
    **{name: AgentSettings(model=LONG) for name in ("whole", "cut", "late", "two", "other")},
    "endless": AgentSettings(model="sim/story:pace=0.01,events=100000"),
    "refused": AgentSettings(model="sim/story:pace=0,fault=error-before,status=429"),
    "broken": AgentSettings(model="sim/story:pace=0.001,fault=error,after=20,code=overloaded_error"),
}
ONCE = Settings(retry=RetrySettings(attempts=1))
PRICES = {"sim/*": PriceSettings(input_per_million=3, output_per_million=15)}

Outcomes = dict[str, dict[str, Any]]


async def plan(_run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    yield thinking("Reading the request")
    yield done("planned")


async def answer(run: StageRun[Any]) -> AsyncIterator[StageOutput]:
    shown = run.answer(run.state.request, model=LLM(run.state.extra["model"], settings=ONCE))
    async for text in shown:
        yield text
    run.state.output = shown.text
    yield done("answered")


STAGES = [Stage("intent_analysis", plan, "intent"), Stage("execution", answer, "execute")]


async def run_cases(port: int) -> Outcomes:
    """Run all cases. Return their outcomes by reader and name."""
    node = await asyncio.create_subprocess_exec(
        NODE,
        "--experimental-eventsource",
        "--input-type=module",
        "--eval",
        "".join((DOCUMENTS / name).read_text() for name in ("readers.mjs", "cases.mjs")),
        f"http://127.0.0.1:{port}",
        stdout=PIPE,
        stderr=PIPE,
        env={name: value for name, value in os.environ.items() if name != "NODE_OPTIONS"},
    )
    try:
        async with asyncio.timeout(SECONDS):
            said, errors = await node.communicate()
    finally:
        if node.returncode is None:
            node.kill()
            await node.wait()
    assert node.returncode == 0, errors.decode()
    outcomes: Outcomes = {}
    for line in map(json.loads, said.splitlines()):
        outcomes.setdefault(line["reader"], {})[line["name"]] = line["outcome"]
    return outcomes


class Stored:
    """Reads what the server has stored."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def turn(self, turn_id: str) -> tuple[str, str]:
        """Return the status and the text of a turn."""
        found = (await self._client.call("GET", f"/turns/{turn_id}")).json
        return found["status"], "".join(block["text_content"] or "" for block in found["blocks"])

    async def last_of(self, conversation: str) -> tuple[str, str]:
        """Return the status and the text of the last turn of a chat."""
        chat = (await self._client.call("GET", f"/chats/{conversation}")).json
        return await self.turn(chat["active_turn_id"])


@pytest.mark.requirement("N1", "N2", "D2", "P5", "M1")
async def test_readers_of_the_documents_show_what_is_stored_or_an_error(tmp_path: Path) -> None:
    engine = Engine(
        f"sqlite:///{tmp_path / 'chats.sqlite'}",
        workflow=Workflow(LLM(LONG), STAGES),
        agents=AGENTS,
        prices=PRICES,
        retry=ONCE.retry,
    )
    async with serving(engine.application()) as port:
        outcomes = await run_cases(port)
        stored = Stored(Client(port))
        await check_lines(outcomes["agent"], stored)
        await check_event_source(outcomes["eventSource"], stored)
        await check_fetch(outcomes["byFetch"], stored)
        check_provider_reader(outcomes["controller"])


# -- the line reader ---------------------------------------------------------------------------------------


async def check_lines(cases: dict[str, Any], stored: Stored) -> None:
    for whole in (cases["whole"], *cases["two"], cases["late"]["first"]):
        assert whole["types"] == [
            "session_start",
            "thinking",
            "done",
            "stream_chunk",
            "done",
            "stream_complete",
        ]
        assert whole["ended"] == ["complete"]
        assert await is_stored(whole, stored) == whole["text"]
    first, second = cases["two"]
    assert first["text"] != second["text"]
    assert [cut["connections"] for cut in cases["cut"]] == [1] * 5
    for cut in cases["cut"]:
        assert cut["ended"] == ["TypeError"], "a cut is an error for the page, not an end"
        assert "stream_complete" not in cut["types"]
        text = await is_stored(cut, stored)
        assert text.startswith(cut["text"])
        assert len(cut["text"]) < len(text)
    assert cases["cut"][0]["text"] == ""
    aborted, late = cases["abort"], cases["late"]["other"]
    assert aborted["ended"] == [], "an abort is silent"
    assert (await is_stored(aborted, stored)).startswith(aborted["text"])
    assert late["before"]["status"] == "streaming"
    assert (await is_stored(late, stored)).startswith(late["before"]["content"])
    stopped = cases["stop"]
    assert (stopped["types"][-1], stopped["ended"]) == ("interrupted", ["complete"])
    assert (stopped["after"]["status"], stopped["after"]["content"]) == ("cancelled", stopped["text"])
    for failed, has_text in ((cases["refused"], False), (cases["broken"], True)):
        assert (failed["types"][-1], failed["ended"]) == ("fail", ["complete"])
        assert (failed["after"]["status"], failed["after"]["content"]) == ("failed", failed["text"])
        assert failed["after"]["error_message"]
        assert bool(failed["text"]) == has_text


async def is_stored(shown: dict[str, Any], stored: Stored) -> str:
    """Check that a page that was loaded again shows what is stored. Return the text."""
    status, text = await stored.turn(shown["turn"])
    assert (status, shown["after"]["status"]) == ("complete", "completed")
    assert shown["after"]["content"] == text
    assert shown["outputs"] == [text]
    return text


# -- the relay ---------------------------------------------------------------------------------------------


async def check_event_source(cases: dict[str, Any], stored: Stored) -> None:
    for whole in (cases["whole"], cases["cut"], *cases["late"].values(), *cases["two"]):
        if isinstance(whole, dict):
            assert whole["end"] == "done"
            assert await stored.turn(turn_of(whole)) == ("complete", whole["text"])
            assert whole["cost"]["totalCost"] > 0
    assert cases["whole"]["opened"] == 1
    assert 3 <= cases["cut"]["opened"] <= cases["cut"]["connections"] <= 5
    assert len(set(map(turn_of, cases["two"]))) == 2
    for name in ("cut", "late"):
        (turns,) = cases[name]["conversations"]
        assert len(turns) == 2, "a reconnect starts no second turn"
    assert turn_of(cases["late"]["first"]) == turn_of(cases["late"]["other"])
    stopped, broken, refused = cases["stop"], cases["broken"], cases["refused"]
    assert (stopped["end"], stopped["error"]) == ("error", "the answer was stopped")
    assert await stored.turn(turn_of(stopped)) == ("cancelled", stopped["text"])
    assert (broken["end"], bool(broken["error"])) == ("error", True)
    assert await stored.turn(turn_of(broken)) == ("error", broken["text"])
    ((_, refused_turn),) = refused["conversations"]
    assert (refused["end"], refused["text"]) == ("error", "")
    assert refused["error"]
    assert await stored.turn(refused_turn) == ("error", "")


def turn_of(shown: dict[str, Any]) -> str:
    return shown["lastId"].split(":")[0]


async def check_fetch(cases: dict[str, Any], stored: Stored) -> None:
    for whole in (cases["whole"], cases["cut"], cases["late"]["first"], *cases["two"]):
        assert whole["end"] == "done"
        assert await stored.last_of(whole["conversation"]) == ("complete", whole["text"])
    assert 3 <= cases["cut"]["requests"] == cases["cut"]["connections"] <= 5
    late = cases["late"]
    assert late["joined"] + late["other"]["text"] == late["first"]["text"]
    told = cases["told"]
    assert (told.get("end"), told["broken"]) == (None, "TypeError")
    _, text = await stored.last_of(told["conversation"])
    assert text.startswith(told["text"])
    stopped, broken, refused = cases["stop"], cases["broken"], cases["refused"]
    assert await stored.last_of(stopped["conversation"]) == ("cancelled", stopped["text"])
    assert await stored.last_of(broken["conversation"]) == ("error", broken["text"])
    assert await stored.last_of(refused["conversation"]) == ("error", "")
    for failed in (stopped, broken):
        assert failed["end"] == "error"
        assert failed["error"]
    assert (refused["status"], refused["error"]) == (429, "rate_limit_error")
    assert (cases["unknown"]["status"], cases["unknown"]["error"]) == (404, "agent_not_found")


# -- the relay's own reader of a provider ------------------------------------------------------------------


def check_provider_reader(cases: dict[str, Any]) -> None:
    whole, *two = cases["whole"], *cases["two"]
    for shown in (whole, *two):
        assert shown["types"][0] == "message_start"
        assert shown["types"][-1] == "message_stop"
        assert shown["text"] == whole["text"] != ""
        assert shown["outputTokens"] == 150
    cut, refused, broken = cases["cut"], cases["refused"], cases["broken"]
    assert cut["broken"] == "TypeError"
    assert "message_stop" not in cut["types"]
    assert whole["text"].startswith(cut["text"])
    assert (refused["status"], refused["text"]) == (429, "")
    assert broken["types"][-1] == "error"
    assert (broken["error"], bool(broken["text"])) == ("overloaded_error", True)
