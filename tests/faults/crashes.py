"""A server that is killed and restarted on one database, under load, and the checks after each crash."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from tests.faults.histories import check_history, path_to
from tests.faults.killing import Death, InTool, KillPoint
from tests.faults.load import Account, Conversation, WatchedTurn, verify_after_crash
from tests.faults.processes import NotStarted, RunningProcess, server
from tests.faults.server_process import ServerPlan
from tests.faults.tools import Call, Notes, read_notes
from tests.faults.watching import Api, Frame, stored_blocks, text_of
from turnstream.config import EngineSettings, NodeSettings, ProviderSettings

JOURNAL_INTERVAL = 0.1


class AtMoment(NamedTuple):
    """Kill `seconds` after the load began."""

    seconds: float


class AtText(NamedTuple):
    """Kill when all clients together have received `characters`. Blocks are open then."""

    characters: int


class InRecovery(NamedTuple):
    """Kill like AtText, then again while the restarted server ends a turn of the dead process."""

    characters: int
    point: KillPoint


Kill = Death | AtMoment | AtText | InRecovery


LEASE = 8.0
"""Seconds after which a server on PostgreSQL recovers the turns of a killed one."""


def plan_of(
    folder: Path, number: int, providers: Mapping[str, ProviderSettings], database: str | None = None
) -> ServerPlan:
    """One of several servers, with its own files.

    `database`: URL of its database. None: a file.
    """
    return ServerPlan(
        database or folder / f"chats{number}.sqlite",
        folder / f"server{number}.log",
        providers=dict(providers),
        engine=EngineSettings(journal_interval=JOURNAL_INTERVAL),
        nodes=NodeSettings(lease=LEASE),
        log_level="info",
        tool_notes=folder / f"tools{number}.txt",
    )


class Crashes:
    """A server that is killed and restarted on one database. `scripts`: the prompts, one conversation each,
    for any providers of the plan. The plan names `tool_notes`."""

    def __init__(
        self, plan: ServerPlan, session: aiohttp.ClientSession, seed: str, scripts: Sequence[str]
    ) -> None:
        self._plan = plan
        self._scripts = list(scripts)
        self._session = session
        self._draw = random.Random(seed)
        self.account = Account()
        self.accounts: list[Account] = []
        self.conversations: list[Conversation] = []
        self.ended: dict[str, str] = {}
        """Every assistant turn that had ended after a crash, with its status."""
        self._unfinished: set[Call] = set()

    async def live_through(self, lives: Sequence[Kill]) -> Crashes:
        """Run every crash, then check the final state."""
        for kill in lives:
            try:
                await self.crash(kill)
            except BaseException as error:
                error.add_note(f"at {kill}")
                raise
        await self.check_at_last()
        return self

    def _server(self, kill: Death | None = None) -> RunningProcess:
        return server(replace(self._plan, kill=kill))

    async def crash(self, kill: Kill) -> None:
        """Run the server once, and check the state that it left."""
        account = self.account = Account()
        point = kill if isinstance(kill, KillPoint | InTool) else None
        async with self._server(point) as process:
            turns = await self._load_until_killed(process, kill)
        notes = self._notes()
        account.inside_tools = len(notes.unfinished - self._unfinished)
        self._unfinished = notes.unfinished
        if isinstance(kill, InRecovery):
            with pytest.raises(NotStarted) as died:
                async with self._server(kill.point):
                    pass
            assert died.value.exit_code == -signal.SIGKILL
        async with self._server() as process:
            api = Api(process.url, self._session)
            async with asyncio.TaskGroup() as group:
                for turn in turns:
                    group.create_task(self._check(turn, api))
        self._check_tools()
        self.accounts.append(account)
        match kill:
            case KillPoint("StartTurns", "before" | "within"):
                assert not all(turn.turn_ids for turn in turns)
            case KillPoint("StartTurns", "after"):
                assert account.kept_unacknowledged, "the turn was durable before its POST was answered"
            case InTool():
                assert account.inside_tools, "a tool was running"
            case KillPoint("SaveBlock", "after", _, "tool_result"):
                assert account.results_stored_unseen, "the result was stored before its stop was shown"
            case KillPoint("SaveBlock", "after"):
                assert account.stored_unseen, "the block was stored before its stop was shown"
            case _:
                pass

    async def _load_until_killed(self, process: RunningProcess, kill: Kill) -> list[WatchedTurn]:
        loop = asyncio.get_running_loop()
        api = Api(process.url, self._session)
        if not self.conversations:
            self.conversations = [Conversation(await api.create_chat()) for _ in self._scripts]
        scripts = self._draw.sample(self._scripts, len(self._scripts))
        turns = [
            WatchedTurn(conversation, self._provider(), script)
            for conversation, script in zip(self.conversations, scripts, strict=True)
        ]
        characters = 0

        def on_frame(frame: Frame) -> None:
            nonlocal characters
            characters += len(text_of(frame))
            if isinstance(kill, AtText | InRecovery) and characters >= kill.characters:
                process.kill_now()

        if isinstance(kill, AtMoment):
            loop.call_later(kill.seconds, process.kill_now)
        async with asyncio.TaskGroup() as group:
            for turn in turns:
                group.create_task(turn.run(api, self._draw, on_frame))
        if not isinstance(kill, KillPoint | InTool):
            process.kill_now()  # the turns ended first
        assert await process.ended() == -signal.SIGKILL
        return turns

    async def _check(self, turn: WatchedTurn, api: Api) -> None:
        if turn.turn_ids is not None:
            await api.watched(turn.turn_id)  # on PostgreSQL a turn ends once its node's lease has lapsed
            row = await verify_after_crash(turn, api, JOURNAL_INTERVAL, self.account)
            self.ended[turn.turn_id] = row["status"]
        kept = {one["id"] for one in await api.turns(turn.conversation.chat_id)}
        again = await turn.post(api)
        turn_ids = again["user_turn"]["id"], again["assistant_turn"]["id"]
        if turn.turn_ids is not None:
            assert turn_ids == turn.turn_ids, "the same key gave other turns"
        else:
            self.account.kept_unacknowledged += turn_ids[1] in kept
        watcher = await api.watched(turn_ids[1])
        row = await api.turn(turn_ids[1])
        assert watcher.fold.blocks == stored_blocks(row)
        listed = await api.turns(turn.conversation.chat_id)
        children = [
            one
            for one in listed
            if one["prev_turn_id"] == turn.conversation.last_turn and one["role"] == "user"
        ]
        assert [one["id"] for one in children] == [turn_ids[0]], "one POST, one user turn"
        self.ended[turn_ids[1]] = row["status"]
        turn.conversation.path += [await api.turn(turn_ids[0]), row]
        await self._go_on(turn.conversation, api)

    async def _go_on(self, conversation: Conversation, api: Api) -> None:
        """Check that the stored blocks are a history for any wire, and that the agent's next turn
        completes."""
        self.account.calls_in_histories += check_history(conversation.path)
        turn_id = await self._ask(conversation, api)
        watcher = await api.watched(turn_id)
        row = await api.turn(turn_id)
        assert row["status"] == "complete", row
        assert watcher.fold.blocks == stored_blocks(row)
        assert watcher.terminal_events() == ["turn_complete"]
        conversation.path += [await api.turn(row["prev_turn_id"]), row]
        check_history(conversation.path)
        self.ended[turn_id] = "complete"

    async def _ask(self, conversation: Conversation, api: Api) -> str:
        """Return the assistant turn's id."""
        model = f"{self._provider()}/agent:pace=0"
        return await api.start(conversation.chat_id, "and?", model, prev=conversation.last_turn)

    def _provider(self) -> str:
        return self._draw.choice(list(self._plan.providers))

    def _notes(self) -> Notes:
        assert self._plan.tool_notes is not None
        return read_notes(self._plan.tool_notes)

    def _check_tools(self) -> None:
        """Check that no call ran twice across all crashes, and that only calls of a crash have no end."""
        notes = self._notes()
        assert {*notes.began.values()} <= {1}, notes.began
        assert notes.unfinished == self._unfinished

    async def check_at_last(self) -> None:
        """Check that no turn has changed since, and that every chat accepts another turn."""
        async with self._server() as process:
            api = Api(process.url, self._session)
            for conversation in self.conversations:
                assert await path_to(api, conversation.last_turn) == conversation.path
                await self._go_on(conversation, api)
                for turn in await api.turns(conversation.chat_id):
                    if turn["role"] == "assistant":
                        assert turn["status"] == self.ended[turn["id"]]
