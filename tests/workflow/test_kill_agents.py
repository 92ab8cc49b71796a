"""Ten sessions of a staged agent at once, two of them in a server that is killed with kill -9."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.faults.processes import RunningProcess
from tests.server.live import Client, read_chunks, read_head
from tests.server.protocols.document_readers import LineReader
from tests.workflow.agent_server import AgentPlan, run_agent_server

SECONDS = 120.0
CHAT = "/agent/chat"
ENDS = {"stream_complete", "fail", "interrupted", "error"}


class Session:
    """One session: a conversation, a query, and what its stream has shown."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.query = f"question number {number} of session {number}"
        self.session_id = f"session-{number}"
        self.reader = LineReader()
        self.conversation = 0
        self.shown = asyncio.Event()

    async def run(self) -> None:
        """Ask, and read the stream to its end or its cut."""
        made = await self.client.call("POST", f"{CHAT}/conversations", {"page_name": self.session_id})
        self.conversation = made.json["id"]
        body = {"query": self.query, "session_id": self.session_id, "conversation_id": self.conversation}
        reader, writer = await self.client.open("POST", f"{CHAT}/stream", body)
        try:
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                self.reader.take(chunk)
                if self.reader.text == self.query:
                    self.shown.set()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def messages(self) -> list[dict[str, Any]]:
        return (await self.client.call("GET", f"{CHAT}/conversations/{self.conversation}/messages")).json

    @property
    def ends(self) -> list[str]:
        return [kind for kind in self.reader.types if kind in ENDS]


def client_of(server: RunningProcess) -> Client:
    port = urlsplit(server.url).port
    assert port is not None
    return Client(port)


@pytest.mark.requirement("H2", "H3", "P3", "D7")
async def test_ten_sessions_do_not_mix_and_two_survive_a_kill(tmp_path: Path) -> None:
    lasting = AgentPlan(tmp_path / "lasting.sqlite", tmp_path / "lasting-notes")
    killed = AgentPlan(tmp_path / "killed.sqlite", tmp_path / "killed-notes", holds=True)
    async with asyncio.timeout(SECONDS), RunningProcess(run_agent_server, lasting) as server:
        eight = [Session(client_of(server), number) for number in range(8)]
        async with RunningProcess(run_agent_server, killed) as other:
            two = [Session(client_of(other), number) for number in (8, 9)]
            running = [asyncio.create_task(session.run()) for session in (*eight, *two)]
            await asyncio.gather(*(session.shown.wait() for session in two))
            other.kill_now()
            await other.ended()
            await asyncio.gather(*running)
        for session in eight:
            assert session.ends == ["stream_complete"]
            assert session.reader.text == session.query
            (_, answer) = await session.messages()
            assert (answer["content"], answer["status"]) == (session.query, "completed")
            assert session.reader.events[0]["session_id"] == session.session_id
        for session in two:
            assert session.ends == []
        async with RunningProcess(run_agent_server, killed._replace(holds=False)) as again:
            for session in two:
                session.client = client_of(again)
                number = session.reader.events[0]["assistant_message_id"]
                (_, lost) = await session.messages()
                assert (lost["id"], lost["status"]) == (number, "failed")
                resumed = await session.client.call("POST", f"/agent/resume/{number}", {})
                assert resumed.status == 200, resumed
                assert resumed.json["execution"]["outputs"] == [session.query]
                same = await session.client.call("POST", f"/agent/resume/{number}", {})
                assert same.json["workflow_id"] == resumed.json["workflow_id"]
                (_, old, new) = await session.messages()
                assert (old["status"], new["status"], new["content"]) == (
                    "failed",
                    "completed",
                    session.query,
                )
    notes = killed.notes.read_text().splitlines()
    for session in two:
        assert sorted(line for line in notes if line.startswith(f"{session.query}:")) == [
            f"{session.query}: execute",
            f"{session.query}: execute",
            f"{session.query}: prepare",
        ]
