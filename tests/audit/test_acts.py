"""Each kind of act leaves its lines in the audit log of a real server (requirement K3)."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from tests.audit.test_chain import lines_of
from tests.audit.test_trail import full_disk
from tests.server.live import SECONDS, Client, serving
from turnstream.audit import trail as trail_module
from turnstream.audit.audited_store import ACTS, FACTS
from turnstream.audit.chain import check_files
from turnstream.audit.records import AuditRecord
from turnstream.config import AuditSettings
from turnstream.core.blocks import Block
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    RedactContent,
    TextDelta,
)
from turnstream.engine import Engine
from turnstream.errors import Unauthorized
from turnstream.server.auth import Principal
from turnstream.store.base import Operation
from turnstream.tools import tool

pytestmark = pytest.mark.requirement("K3")
SECRET = "the user's own words"
TOOLS = "sim/tools:pace=0"
SLOW = "sim/echo:pace=1000"
KEY = "sk-a-key-of-a-user-1234"


def by_header(request: Request) -> Principal:
    name = request.headers.get("x-user", "alice")
    if name == "unknown":
        raise Unauthorized("no such user")
    return Principal(name)


ran: list[str] = []


@tool(ask="always")
def delete(path: str) -> str:
    """Delete a file."""
    ran.append(path)
    return f"{path} is gone"


@tool
def clock() -> str:
    """Tell the time."""
    ran.append("clock")
    return "12:00"


class Audited:
    """A server with an audit log, and a client."""

    def __init__(self, engine: Engine, client: Client, path: Path, before: int) -> None:
        self.engine = engine
        self.client = client
        self.path = path
        self._before = before

    def records(self, act: str = "") -> list[dict[str, Any]]:
        """The records of an act that this server has written."""
        lines = self.path.read_bytes()[self._before :].splitlines()
        return [record for record in map(json.loads, lines) if act in ("", record["act"])]

    async def written(self, act: str, count: int) -> list[dict[str, Any]]:
        """The records of an act, as soon as there are `count`: what is queued before this one is written."""
        audit = self.engine._audit  # pyright: ignore[reportPrivateUsage]
        assert audit is not None
        async with asyncio.timeout(SECONDS):
            await audit.require(AuditRecord(act="test"))
        found = self.records(act)
        assert len(found) == count, found
        return found

    async def ask(self, model: str, text: str = SECRET, **fields: Any) -> dict[str, Any]:
        chat = (await self.client.call("POST", "/chats")).json["id"]
        answer = await self.client.call(
            "POST", f"/chats/{chat}/turns", {"turn_blocks": text, "model": model, **fields}
        )
        assert answer.status == 201, answer
        return answer.json["assistant_turn"]

    async def ended(self, turn_id: str) -> dict[str, Any]:
        async with asyncio.timeout(SECONDS):
            await self.engine.commands.ended(turn_id)
        return (await self.client.call("GET", f"/turns/{turn_id}")).json


@asynccontextmanager
async def audited(folder: Path, *, prefill: int = 0, **options: Any) -> AsyncIterator[Audited]:
    path = folder / "audit.jsonl"
    before = b"".join(lines_of(prefill)[0])
    path.write_bytes(before)
    engine = Engine(f"sqlite:///{folder}/turns.sqlite", audit=AuditSettings(path=str(path)), **options)
    async with serving(engine.application()) as port:
        yield Audited(engine, Client(port), path, len(before))
    assert check_files([path]).fault is None


def pairs(records: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(record.get(name) for name in names) for record in records]


async def test_turns_are_recorded_from_start_to_end(tmp_path: Path) -> None:
    async with audited(tmp_path, authenticate=by_header) as server:
        turn = await server.ask("sim/echo:pace=0")
        await server.ended(turn["id"])
        starts = await server.written("turn.start", 2)
        assert pairs(starts, "owner", "chat", "turn", "decision", "outcome") == [
            ("alice", turn["chat_id"], turn["id"], "allowed", "begun"),
            ("alice", turn["chat_id"], turn["id"], "allowed", "done"),
        ]
        assert starts[0]["details"]["characters"] == len(SECRET)
        (end,) = await server.written("turn.end", 1)
        assert pairs([end], "owner", "chat", "turn", "outcome") == [
            ("alice", turn["chat_id"], turn["id"], "complete")
        ]
        assert end["details"]["output_tokens"] > 0
        refused = await server.client.call(
            "POST",
            f"/chats/{turn['chat_id']}/turns",
            {"turn_blocks": "again", "model": "sim/echo", "prev_turn_id": turn["prev_turn_id"]},
        )
        assert refused.status == 409
        assert (await server.written("turn.start", 4))[-1]["outcome"] == "invalid_prev_turn"
    assert [record["act"] for record in server.records()][:1] == ["audit.opened"]
    assert [record["act"] for record in server.records()][-1:] == ["audit.closed"]
    assert SECRET not in server.path.read_text()


async def test_a_stop_is_recorded_with_its_caller(tmp_path: Path) -> None:
    async with audited(tmp_path, authenticate=by_header) as server:
        turn = await server.ask(SLOW)
        for _ in range(3):
            stopped = await server.client.call("POST", f"/turns/{turn['id']}/interrupt")
            assert stopped.json["status"] == "cancelled"
        (stop,) = await server.written("turn.stop", 1)
        assert pairs([stop], "owner", "turn", "decision") == [("alice", turn["id"], "allowed")]
        (end,) = await server.written("turn.end", 1)
        assert end["outcome"] == "cancelled"


async def test_a_turn_without_rows_is_recorded_too(tmp_path: Path) -> None:
    async with audited(tmp_path) as server:
        turn = await server.ask("sim/echo:pace=0", store=False)
        await server.ended(turn["id"])
        begun, done = await server.written("turn.start", 2)
        assert (begun["outcome"], done["outcome"], done["turn"]) == ("begun", "done", turn["id"])
        assert (await server.written("turn.end", 1))[0]["turn"] == turn["id"]


@pytest.mark.parametrize("approved", [True, False])
async def test_approvals_and_runs_of_tools_are_recorded(tmp_path: Path, approved: bool) -> None:
    ran.clear()
    async with audited(tmp_path, tools=[delete, clock], authenticate=by_header) as server:
        turn = await server.ask(TOOLS, tools=["delete", "clock"])
        waiting = await server.ended(turn["id"])
        (approval,) = waiting["approvals"]
        answer = {"approved": approved, "reason": SECRET}
        path = f"/turns/{turn['id']}/approvals/{approval['approval_id']}"
        for _ in range(2):
            assert (await server.client.call("POST", path, answer)).status == 200
        await server.ended(turn["id"])
        answers = await server.written("approval.answer", 4)
        assert [record["outcome"] for record in answers] == ["begun", "done", "begun", "repeated"]
        assert {record["decision"] for record in answers} == {"approved" if approved else "denied"}
        assert {record["owner"] for record in answers} == {"alice"}
        runs = await server.written("tool.run", 4 if approved else 2)
        assert pairs(runs, "tool", "decision", "outcome")[:2] == [
            ("clock", "allowed", "begun"),
            ("clock", "allowed", "done"),
        ]
        assert pairs(runs, "tool", "decision", "outcome")[2:] == (
            [("delete", "approved", "begun"), ("delete", "approved", "done")] if approved else []
        )
        assert len(runs[0]["details"]["input_sha256"]) == 64
    assert len(ran) == (2 if approved else 1)
    assert SECRET not in server.path.read_text()


async def test_an_expired_approval_is_recorded(tmp_path: Path) -> None:
    async with audited(tmp_path, tools=[delete]) as server:
        turn = await server.ask(TOOLS, tools=["delete"])
        assert (await server.ended(turn["id"]))["status"] == "waiting"
        with closing(sqlite3.connect(tmp_path / "turns.sqlite")) as database, database:
            database.execute("UPDATE turnstream_approvals SET expires_at = 1")
        server.engine._registry.began_waiting.set()  # pyright: ignore[reportPrivateUsage]
        live = await server.engine.subscribe(turn["id"])
        while await live.next() is not None:
            pass
        answers = await server.written("approval.answer", 4)
        assert pairs(answers, "decision", "outcome") == 2 * [("expired", "begun"), ("expired", "done")]


async def test_deletions_are_recorded(tmp_path: Path) -> None:
    async with audited(tmp_path, authenticate=by_header) as server:
        turn = await server.ask("sim/echo:pace=0")
        await server.ended(turn["id"])
        chat = turn["chat_id"]
        assert (await server.client.call("DELETE", f"/chats/{chat}", headers={"x-user": "eve"})).status == 404
        assert server.records("chat.delete") == []
        assert (await server.client.call("DELETE", f"/chats/{chat}")).status == 204
        deleted = await server.written("chat.delete", 2)
        assert pairs(deleted, "owner", "chat", "outcome") == [
            ("alice", chat, "begun"),
            ("alice", chat, "done"),
        ]


async def test_redactions_are_recorded(tmp_path: Path) -> None:
    async def source() -> AsyncIterator[Any]:
        yield MessageStart()
        yield RedactContent("user", "[hidden]")
        yield ContentBlockStart(0, "text")
        yield TextDelta(0, "fine")
        yield ContentBlockStop(0)
        yield MessageStop("end_turn")

    async with audited(tmp_path) as server:
        live = await server.engine.start(source(), blocks=(Block(0, "text", SECRET),))
        await live.wait()
        (redacted,) = await server.written("content.redacted", 1)
        assert redacted["turn"] == live.id
        assert redacted["details"]["of"] == "user"
        assert redacted["chat"] == live.chat_id


async def test_refused_callers_are_recorded(tmp_path: Path) -> None:
    async with audited(tmp_path, authenticate=by_header) as server:
        headers = {"x-user": "unknown", "Authorization": f"Bearer {KEY}"}
        assert (await server.client.call("GET", "/chats", headers=headers)).status == 401
        (refused,) = await server.written("access.refused", 1)
        assert refused["decision"] == "refused"
        assert refused["details"] == {"count": 1, "last_address": "127.0.0.1"}
    assert KEY not in server.path.read_text()


async def test_acts_of_other_protocols_are_recorded(tmp_path: Path) -> None:
    """OpenAI Chat Completions and Responses, whose clients also delete turns and conversations."""
    async with audited(tmp_path, tools=[clock]) as server:
        client = Client(server.client.port, prefix="/v1")
        asked = {
            "model": TOOLS,
            "messages": [{"role": "user", "content": SECRET}],
            "server_tools": ["clock"],
        }
        answer = await client.call("POST", "/chat/completions", asked)
        assert answer.status == 200, answer
        runs = [record["outcome"] for record in await server.written("tool.run", 4)]
        assert sorted(runs) == ["begun", "begun", "done", "done"]
        await server.written("turn.start", 2)
        await server.written("turn.end", 1)
        response = await client.call("POST", "/responses", {"model": "sim/echo:pace=0", "input": SECRET})
        assert response.status == 200, response
        assert (await client.call("DELETE", f"/responses/{response.json['id']}")).status == 200
        deleted = [record["outcome"] for record in await server.written("turn.delete", 2)]
        assert deleted == ["begun", "done"]
    assert SECRET not in server.path.read_text()


async def test_without_room_on_the_disk_nothing_is_done_unrecorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran.clear()
    monkeypatch.setattr(trail_module, "REQUIRE_SECONDS", 0.2)
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    async with audited(tmp_path, prefill=12_000, tools=[delete, clock]) as server:
        client = server.client
        running = await server.ask(SLOW)
        waiting = await server.ask(TOOLS, tools=["delete", "clock"])
        (approval,) = (await server.ended(waiting["id"]))["approvals"]
        await server.written("turn.start", 4)
        with full_disk(server.path):
            chat = (await client.call("POST", "/chats")).json["id"]
            started = await client.call("POST", f"/chats/{chat}/turns", {"turn_blocks": "a", "model": SLOW})
            assert (started.status, started.json["error"]["code"]) == (503, "audit_unavailable")
            assert started.headers["retry-after"] == "1"
            assert (await client.call("GET", f"/chats/{chat}/turns")).json["turns"] == []
            unstored = {"turn_blocks": "a", "model": SLOW, "store": False}
            assert (await client.call("POST", f"/chats/{chat}/turns", unstored)).status == 503
            path = f"/turns/{waiting['id']}/approvals/{approval['approval_id']}"
            assert (await client.call("POST", path, {"approved": True})).status == 503
            assert (await client.call("DELETE", f"/chats/{chat}")).status == 503
            assert (await client.call("GET", f"/chats/{chat}")).status == 200
            stopped = await client.call("POST", f"/turns/{running['id']}/interrupt")
            assert (stopped.status, stopped.json["status"]) == (200, "cancelled")
            assert server.engine.active_turns == 0
        assert ran == ["clock"]
        assert (await client.call("POST", path, {"approved": True})).status == 200
        assert (await server.ended(waiting["id"]))["status"] == "complete"
        (stop,) = await server.written("turn.stop", 1)
        assert stop["turn"] == running["id"]
        assert len(await server.written("turn.end", 2)) == 2
        (resumed,) = await server.written("audit.resumed", 1)
        assert resumed["details"]["refused"] == 4
    assert len(ran) == 2


async def test_a_tool_does_not_run_without_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran.clear()
    monkeypatch.setattr(trail_module, "REQUIRE_SECONDS", 0.2)
    monkeypatch.setattr(trail_module, "RETRY_SECONDS", 0.01)
    async with audited(tmp_path, prefill=12_000, tools=[clock]) as server:
        fill_disk = ExitStack()
        original = trail_module.AuditTrail.require

        async def require(trail: Any, record: Any) -> None:
            if record.act == "tool.run":
                fill_disk.enter_context(full_disk(server.path))
            await original(trail, record)

        monkeypatch.setattr(trail_module.AuditTrail, "require", require)
        with fill_disk:
            turn = await server.ask(TOOLS, tools=["clock"])
            ended = await server.ended(turn["id"])
        monkeypatch.setattr(trail_module.AuditTrail, "require", original)
        results = [block["content"] for block in ended["blocks"] if block["block_type"] == "tool_result"]
        assert len(results) == 2
        for result in results:
            assert result["is_error"]
            assert "the tool was not run: the audit log cannot be written" in result["content"]
        assert ran == []


NOT_AUDITED = {
    # Content and progress of turns whose start is recorded
    "SaveBlock", "SaveAnnotations", "MarkStreaming", "SaveStep", "StartWaiting", "ContinueTurn", "HookDone",
    "AppendJournal", "TrimJournal",
    # Rows of a deletion that is recorded
    "PurgeChat",
    # Chats, names and messages of clients, without a model or a tool
    "CreateChat", "UpdateChat", "AppendTurns", "NameRun", "CreateAgentConversation", "NumberAgentMessages",
    "CreateAgentMessage", "ChangeAgentMessage",
    # A title: the start of the turn that makes it is recorded
    "SetMadeTitle",
    "KeepSecret",
    # Nodes, and turns that change their node: the start and the end of a turn are recorded
    "Heartbeat", "RemoveNodes", "ClaimTurn", "ClaimTurns", "ClaimReleased",
    "ReadOwnTurns", "BeginDrain",
    "ReleaseTurn", "RequestStop", "ForgetStops",
    "FollowNodes", "ResumeClaimed",
    # The ledger of tool runs: the audited tools record each run
    "BeginToolRun", "EndToolRun",
}  # fmt: skip


def test_each_write_of_the_store_is_recorded_or_named_here() -> None:
    known = {kind.__name__ for kind in (*ACTS, *FACTS)}
    found: set[str] = set()
    waiting: list[type[Any]] = [Operation]
    while waiting:
        kind = waiting.pop()
        for inner in kind.__subclasses__():
            waiting.append(inner)
            if inner.__module__.startswith("turnstream."):
                found.add(inner.__name__.partition("[")[0])
    found.discard("Operation")
    assert found - NOT_AUDITED == known
