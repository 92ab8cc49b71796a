"""Staged agents in a server that is killed with kill -9: ten sessions at once, and calls in flight."""

from __future__ import annotations

import asyncio
import math
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.processes import RunningProcess
from tests.server.live import Client, Watcher, read_chunks, read_head
from tests.server.protocols.document_readers import LineReader
from tests.workflow.agent_server import AgentPlan, run_agent_server
from turnstream.core.native_fold import TERMINAL_NAMES

SECONDS = 120.0
CHAT = "/agent/chat"
ENDS = {"stream_complete", "fail", "interrupted", "error"}


class Session:
    """One session: a conversation, a query, and what its stream has shown.

    Attributes:
        thinks: Set once the first stage has begun.
        begun: Set once so much text was shown that a part of it is in the journal.
        shown: Set once the whole query was shown.
    """

    def __init__(self, number: int) -> None:
        self.query = f"question number {number} of session {number}"
        self.session_id = f"session-{number}"
        self.reader = LineReader()
        self.conversation = 0
        self.thinks, self.begun, self.shown = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, client: Client) -> None:
        """Ask, and read the stream to its end or its cut."""
        made = await client.call("POST", f"{CHAT}/conversations", {"page_name": self.session_id})
        self.conversation = made.json["id"]
        body = {"query": self.query, "session_id": self.session_id, "conversation_id": self.conversation}
        reader, writer = await client.open("POST", f"{CHAT}/stream", body)
        try:
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                self.reader.take(chunk)
                self._note()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _note(self) -> None:
        if "thinking" in self.reader.types:
            self.thinks.set()
        if self.reader.types.count("stream_chunk") >= 40:
            self.begun.set()
        if self.reader.text == self.query:
            self.shown.set()

    async def messages(self, client: Client) -> list[dict[str, Any]]:
        return (await client.call("GET", f"{CHAT}/conversations/{self.conversation}/messages")).json

    async def turn(self, client: Client) -> str:
        """Return the id of the turn of the session's first answer."""
        number = self.reader.events[0]["assistant_message_id"]
        return (await client.call("GET", f"/agent/state/{number}")).json["state"]["workflow_id"]

    @property
    def ends(self) -> list[str]:
        return [kind for kind in self.reader.types if kind in ENDS]


def client_of(server: RunningProcess) -> Client:
    port = urlsplit(server.url).port
    assert port is not None
    return Client(port)


async def terminal_events(client: Client, turn_id: str) -> list[str]:
    """Return the names of a turn's terminal events, as a watcher from the beginning sees them."""
    watcher = Watcher(client, turn_id)
    await watcher.watch_to_the_end()
    return [name for name in watcher.names if name in TERMINAL_NAMES]


@pytest.mark.requirement("H2", "H3", "P3", "D7")
async def test_ten_sessions_do_not_mix_and_two_survive_a_kill(tmp_path: Path) -> None:
    sessions = [Session(number) for number in range(10)]
    eight, two = sessions[:8], sessions[8:]
    holds = frozenset(session.query for session in two)
    plan = AgentPlan(tmp_path / "chats.sqlite", tmp_path / "notes", holds=holds, together=10)
    async with asyncio.timeout(SECONDS):
        async with RunningProcess(run_agent_server, plan) as server:
            running = [asyncio.create_task(session.run(client_of(server))) for session in sessions]
            await asyncio.gather(*running[:8], *(session.shown.wait() for session in two))
            server.kill_now()
            await server.ended()
            await asyncio.gather(*running)
        assert [session.ends for session in sessions] == [["stream_complete"]] * 8 + [[]] * 2
        async with RunningProcess(run_agent_server, plan._replace(holds=frozenset(), together=1)) as again:
            client = client_of(again)
            for session in eight:
                assert session.reader.text == session.query
                assert session.reader.events[0]["session_id"] == session.session_id
                (_, answer) = await session.messages(client)
                assert (answer["content"], answer["status"]) == (session.query, "completed")
                assert await terminal_events(client, await session.turn(client)) == ["turn_complete"]
            for session in two:
                number = session.reader.events[0]["assistant_message_id"]
                lost_turn = await session.turn(client)
                (_, lost) = await session.messages(client)
                assert (lost["id"], lost["status"]) == (number, "failed")
                resumed = await client.call("POST", f"/agent/resume/{number}", {})
                assert resumed.status == 200, resumed
                assert resumed.json["execution"]["outputs"] == [session.query]
                same = await client.call("POST", f"/agent/resume/{number}", {})
                assert same.json["workflow_id"] == resumed.json["workflow_id"] != lost_turn
                (_, old, new) = await session.messages(client)
                shown = (old["status"], new["status"], new["content"])
                assert shown == ("failed", "completed", session.query)
                assert await terminal_events(client, lost_turn) == ["turn_error"]
                assert await terminal_events(client, resumed.json["workflow_id"]) == ["turn_complete"]
    notes = plan.notes.read_text().splitlines()
    for session in sessions:
        stages = ["execute", "execute", "prepare"] if session in two else ["execute", "prepare"]
        own = sorted(line for line in notes if line.startswith(f"{session.query}:"))
        assert own == [f"{session.query}: {stage}" for stage in stages]


@pytest.mark.requirement("I3", "P3")
async def test_calls_before_a_kill_and_the_call_in_flight_are_in_the_account(tmp_path: Path) -> None:
    """The answer is running, after the call of an earlier stage. Its shown part is its output."""
    slow = "sim/story:pace=0.01,events=100000"
    plan = AgentPlan(tmp_path / "chats.sqlite", tmp_path / "notes", shown=slow)
    session = Session(1)
    async with asyncio.timeout(SECONDS):
        async with RunningProcess(run_agent_server, plan) as server:
            running = asyncio.create_task(session.run(client_of(server)))
            await session.begun.wait()
            server.kill_now()
            await server.ended()
            await running
        async with RunningProcess(run_agent_server, plan) as again:
            client = client_of(again)
            turn = (await client.call("GET", f"/turns/{await session.turn(client)}")).json
    text = "".join(block["text_content"] or "" for block in turn["blocks"])
    words = len(session.query.split())
    asked, said = math.ceil(len(session.query) / 4), math.ceil(len(text) / 4)
    assert text
    assert turn["status"] == "error"
    assert (turn["input_tokens"], turn["output_tokens"]) == (words + asked, words + said)
    assert turn["cost_estimated"] is True
    cost = Decimal(3 * (words + asked) + 15 * (words + said)) / 10**6
    assert Decimal(turn["cost"]) == cost


@pytest.mark.requirement("I3", "P3")
async def test_a_hidden_call_in_flight_counts_with_its_input(tmp_path: Path) -> None:
    hidden = "sim/story:pace=0.01,events=100000"
    plan = AgentPlan(tmp_path / "chats.sqlite", tmp_path / "notes", hidden=hidden)
    session = Session(1)
    async with asyncio.timeout(SECONDS):
        async with RunningProcess(run_agent_server, plan) as server:
            running = asyncio.create_task(session.run(client_of(server)))
            await session.thinks.wait()
            await until_booked(plan.database)
            server.kill_now()
            await server.ended()
            await running
        async with RunningProcess(run_agent_server, plan) as again:
            client = client_of(again)
            turn = (await client.call("GET", f"/turns/{await session.turn(client)}")).json
    assert (turn["input_tokens"], turn["output_tokens"]) == (math.ceil(len(session.query) / 4), 0)
    assert turn["cost_estimated"] is True


async def until_booked(database: Path) -> None:
    """Wait until the only running turn has a booked call."""
    query = "SELECT count(*) FROM turnstream_turns WHERE steps IS NOT NULL AND steps != 'null'"
    with closing(sqlite3.connect(database)) as connection:
        while connection.execute(query).fetchone() == (0,):  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0)
