"""kill -9 of the server at any moment, and what is left of it (requirements D5, D7, C3, P3, P5)."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import aiohttp
import pytest

from tests.faults.load import MODELS, Account, Conversation, WatchedTurn, verify_after_crash
from tests.faults.processes import NotStarted, RunningProcess, server
from tests.faults.server_process import KillPoint, Moment, ServerPlan
from tests.faults.watching import Api, Frame, stored_blocks, text_of
from turnstream.config import EngineSettings, ProviderSettings

logger = logging.getLogger(__name__)

CONVERSATIONS = 3
JOURNAL_INTERVAL = 0.1
LONGEST_TURN = 0.45
"""Seconds that a turn of the load takes, about."""
GROUPS = 5


class AtMoment(NamedTuple):
    """Kill so many seconds after the load began."""

    seconds: float


class AtText(NamedTuple):
    """Kill when clients have received so many characters, all together: blocks are open then."""

    characters: int


class InRecovery(NamedTuple):
    """Kill as AtText, then again while the restarted server ends a turn that it found."""

    characters: int
    point: KillPoint


Kill = KillPoint | AtMoment | AtText | InRecovery


def kills(group: int) -> list[list[Kill]]:
    """Ten kills, as the lives of two servers; over the five groups fifty: ten inside POST, ten inside an open block,
    ten around a block's commit (six of them between it and its stop), five around a turn's end or in the journal, five
    in the recovery, ten at random."""
    draw = random.Random(group)
    moments: tuple[Moment, ...] = ("before", "within", "after")
    ends = (("FinishTurn", "after"), ("AppendJournal", "within"), ("FinishTurn", "within"))
    return [
        [
            KillPoint("StartTurns", moments[group % 3], draw.randint(1, CONVERSATIONS)),
            AtText(draw.randint(1, 600)),
            KillPoint("SaveBlock", "after", draw.randint(1, 3)),
            KillPoint(*ends[group % 3], draw.randint(1, 2)),
            AtMoment(draw.uniform(0.0, LONGEST_TURN)),
        ],
        [
            KillPoint("StartTurns", moments[(group + 1) % 3], draw.randint(1, CONVERSATIONS)),
            AtText(draw.randint(600, 2500)),
            KillPoint("SaveBlock", ("after", "within", "before")[group % 3], draw.randint(1, 3)),
            InRecovery(draw.randint(1, 1500), KillPoint("TakeOver", moments[group % 3])),
            AtMoment(draw.uniform(0.0, LONGEST_TURN)),
        ],
    ]


class Crashes:
    """A server that is killed and restarted on one file, under load."""

    def __init__(self, plan: ServerPlan, session: aiohttp.ClientSession, seed: str) -> None:
        self._plan = plan
        self._session = session
        self._draw = random.Random(seed)
        self.account = Account()
        self.accounts: list[Account] = []
        self.conversations: list[Conversation] = []
        self.ended: dict[str, str] = {}
        """Every assistant turn that was found ended, with its status."""

    def _server(self, kill: KillPoint | None = None) -> RunningProcess:
        return server(replace(self._plan, kill=kill))

    async def prepare(self) -> None:
        async with self._server() as process:
            api = Api(process.url, self._session)
            self.conversations = [Conversation(await api.create_chat()) for _ in range(CONVERSATIONS)]

    async def crash(self, kill: Kill) -> None:
        """One life of the server, and the look at what it left."""
        account = self.account = Account()
        point = kill if isinstance(kill, KillPoint) else None
        async with self._server(point) as process:
            turns = await self._load_until_killed(process, kill)
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
        self.accounts.append(account)
        match kill:
            case KillPoint("StartTurns", "before" | "within"):
                assert not all(turn.turn_ids for turn in turns)
            case KillPoint("StartTurns", "after"):
                assert account.kept_unacknowledged, "the turn was durable before its POST was answered"
            case KillPoint("SaveBlock", "after"):
                assert account.stored_unseen, "the block was stored before its stop was shown"
            case _:
                pass

    async def _load_until_killed(self, process: RunningProcess, kill: Kill) -> list[WatchedTurn]:
        loop = asyncio.get_running_loop()
        api = Api(process.url, self._session)
        scripts = list(MODELS)
        self._draw.shuffle(scripts)
        turns = [
            WatchedTurn(conversation, self._draw.choice(("messages", "completions")), script)
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
        if not isinstance(kill, KillPoint):
            process.kill_now()  # the turns ended first
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
        else:
            self.account.kept_unacknowledged += again["assistant_turn"]["status"] == "error"
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
        turn.conversation.last_turn = turn_ids[1]

    async def check_at_last(self) -> None:
        """No turn has changed since, and every chat goes on."""
        async with self._server() as process:
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

    async def live_through(number: int, lives: list[Kill]) -> list[Account]:
        plan = ServerPlan(
            tmp_path / f"chats{number}.sqlite",
            tmp_path / f"server{number}.log",
            providers=providers,
            engine=EngineSettings(journal_interval=JOURNAL_INTERVAL),
            log_level="info",
        )
        crashes = Crashes(plan, session, f"{group} {number}")
        await crashes.prepare()
        for kill in lives:
            try:
                await crashes.crash(kill)
            except BaseException as error:
                error.add_note(f"at {kill}")
                raise
        await crashes.check_at_last()
        return crashes.accounts

    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(live_through(number, lives)) for number, lives in enumerate(kills(group))]
    accounts = [account for task in found for account in task.result()]
    assert sum(account.open_at_death > 0 for account in accounts) >= 2, "kills inside an open block"
    lost = sorted(stretch for account in accounts for stretch in account.lost)
    logger.info(
        "%d kills; %d watchers resumed, %d of them told of text that is gone; longest lost: %s",
        len(accounts),
        sum(account.resumed for account in accounts),
        sum(account.truncated for account in accounts),
        ", ".join(f"{seconds * 1000:.0f} of {allowed * 1000:.0f} ms" for seconds, allowed in lost[-3:]),
    )
