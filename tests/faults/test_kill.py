"""kill -9 of the server at any moment, and what is left of it (requirements D5, D7, C3, P3, P5)."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from tests.faults.load import MODELS, Account, Conversation, WatchedTurn, verify_after_crash
from tests.faults.processes import NotStarted, RunningProcess, server
from tests.faults.server_process import KillPoint, ServerPlan
from tests.faults.watching import Api, Frame, stored_blocks
from turnstream.config import EngineSettings, ProviderSettings

CONVERSATIONS = 3
JOURNAL_INTERVAL = 0.1
LONGEST_TURN = 0.8
"""Seconds that a turn of the load takes, about."""
GROUPS = 5


class AtMoment(NamedTuple):
    """Kill so many seconds after the load began."""

    seconds: float


class AtDelta(NamedTuple):
    """Kill when clients have received so many deltas, all together: a block is open then."""

    count: int


class InRecovery(NamedTuple):
    """Kill at a moment, then again when the restarted server ends the first of the turns it found."""

    seconds: float
    point: KillPoint


Kill = KillPoint | AtMoment | AtDelta | InRecovery


def kills(group: int) -> list[Kill]:
    """Ten kills; over the five groups, fifty: ten inside POST, ten inside an open block, ten about a block's commit,
    five about a turn's end, five in the recovery, ten at random."""
    draw = random.Random(group)
    moments = ("before", "within", "after")
    return [
        KillPoint("StartTurns", moments[group % 3], draw.randint(1, CONVERSATIONS)),
        KillPoint("StartTurns", moments[(group + 1) % 3], draw.randint(1, CONVERSATIONS)),
        AtDelta(draw.randint(1, 100)),
        AtDelta(draw.randint(100, 400)),
        KillPoint("SaveBlock", "after", draw.randint(1, 3)),
        KillPoint("SaveBlock", moments[group % 2], draw.randint(1, 3)),
        KillPoint(*((("FinishTurn", "after"), ("AppendJournal", "within"), ("FinishTurn", "within"))[group % 3]), draw.randint(1, 3)),
        InRecovery(
            draw.uniform(0.2, LONGEST_TURN), KillPoint("TakeOver", moments[group % 3], draw.randint(1, CONVERSATIONS))
        ),
        AtMoment(draw.uniform(0.0, LONGEST_TURN)),
        AtMoment(draw.uniform(0.0, LONGEST_TURN)),
    ]


class Crashes:
    """A server that is killed and restarted on one file, under load."""

    def __init__(self, plan: Callable[[KillPoint | None], ServerPlan], session: aiohttp.ClientSession, seed: int) -> None:
        self._plan = plan
        self._session = session
        self._draw = random.Random(seed)
        self.account = Account()
        self.conversations: list[Conversation] = []
        self.ended: dict[str, str] = {}
        """Every assistant turn that was found ended, with its status."""

    async def prepare(self) -> None:
        async with server(self._plan(None)) as process:
            api = Api(process.url, self._session)
            self.conversations = [Conversation(await api.create_chat()) for _ in range(CONVERSATIONS)]

    async def crash(self, kill: Kill) -> None:
        """One life of the server, and the look at what it left."""
        point = kill if isinstance(kill, KillPoint) else None
        async with server(self._plan(point)) as process:
            turns = await self._load_until_killed(process, kill)
        if isinstance(kill, InRecovery):
            with pytest.raises(NotStarted) as died:
                async with server(self._plan(kill.point)):
                    pass
            assert died.value.exit_code == -signal.SIGKILL
        async with server(self._plan(None)) as process:
            api = Api(process.url, self._session)
            await asyncio.gather(*(self._check(turn, api) for turn in turns))

    async def _load_until_killed(self, process: RunningProcess, kill: Kill) -> list[WatchedTurn]:
        loop = asyncio.get_running_loop()
        api = Api(process.url, self._session)
        scripts = list(MODELS)
        self._draw.shuffle(scripts)
        turns = [
            WatchedTurn(conversation, self._draw.choice(("messages", "completions")), script)
            for conversation, script in zip(self.conversations, scripts, strict=True)
        ]
        deltas = 0

        def on_frame(frame: Frame) -> None:
            nonlocal deltas
            deltas += frame.name == "block_delta"
            if isinstance(kill, AtDelta) and deltas == kill.count:
                process.kill_now()

        if isinstance(kill, AtMoment | InRecovery):
            loop.call_later(kill.seconds, process.kill_now)
        async with asyncio.TaskGroup() as group:
            for turn in turns:
                group.create_task(turn.run(api, self._draw, on_frame))
        assert await process.ended() == -signal.SIGKILL
        return turns

    async def _check(self, turn: WatchedTurn, api: Api) -> None:
        if turn.turn_ids is not None:
            row = await verify_after_crash(turn, api, JOURNAL_INTERVAL, self.account)
            self.ended[turn.turn_id] = row["status"]
        again = await turn.post(api)
        turn_ids = again["user_turn"]["id"], again["assistant_turn"]["id"]
        if turn.turn_ids is not None:
            assert turn_ids == turn.turn_ids, "the same key gave other turns"
        watcher = await api.watched(turn_ids[1])
        row = await api.turn(turn_ids[1])
        assert watcher.fold.blocks == stored_blocks(row)
        listed = await api.turns(turn.conversation.chat_id)
        children = [one for one in listed if one["prev_turn_id"] == turn.conversation.last_turn and one["role"] == "user"]
        assert [one["id"] for one in children] == [turn_ids[0]], "one POST, one user turn"
        self.ended[turn_ids[1]] = row["status"]
        turn.conversation.last_turn = turn_ids[1]

    async def check_at_last(self) -> None:
        """No turn has changed since, and every chat goes on."""
        async with server(self._plan(None)) as process:
            api = Api(process.url, self._session)
            for conversation in self.conversations:
                turn_id = await api.start(
                    conversation.chat_id, "and?", "messages/echo:pace=0", prev=conversation.last_turn
                )
                await api.watched(turn_id)
                self.ended[turn_id] = "complete"
                for turn in await api.turns(conversation.chat_id):
                    if turn["role"] == "assistant":
                        assert turn["status"] == self.ended[turn["id"]]


@pytest.mark.requirement("C3", "D1", "D2", "D5", "D7", "P3", "P5")
@pytest.mark.parametrize("group", range(GROUPS))
async def test_nothing_shown_is_lost_silently(
    group: int, tmp_path: Path, session: aiohttp.ClientSession, provider: RunningProcess
) -> None:
    providers = {
        "messages": ProviderSettings(wire="anthropic", base_url=provider.url),
        "completions": ProviderSettings(wire="openai-chat", base_url=f"{provider.url}/v1"),
    }

    def plan(kill: KillPoint | None) -> ServerPlan:
        return ServerPlan(
            tmp_path / "chats.sqlite",
            tmp_path / "server.log",
            providers=providers,
            engine=EngineSettings(journal_interval=JOURNAL_INTERVAL),
            log_level="info",
            kill=kill,
        )

    crashes = Crashes(plan, session, group)
    await crashes.prepare()
    for kill in kills(group):
        try:
            await crashes.crash(kill)
        except BaseException as error:
            error.add_note(f"at {kill}")
            raise
    await crashes.check_at_last()
    lost = sorted(crashes.account.lost)
    print(f"group {group}: {crashes.account.resumed} resumed, {crashes.account.truncated} told, lost {lost[-3:]}")
