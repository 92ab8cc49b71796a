"""kill -9 of the server at any moment, and what is left of it (requirements D5, D7, C3, P3, P5)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest

from tests.faults.crashes import AtMoment, AtText, Crashes, InRecovery, Kill, plan_of
from tests.faults.killing import KillPoint, Moment
from tests.faults.load import MIXED
from tests.faults.processes import RunningProcess
from tests.postgresql import PostgresServer
from turnstream.config import ProviderSettings

logger = logging.getLogger(__name__)

CONVERSATIONS = len(MIXED)
LONGEST_TURN = 0.45
"""Seconds that a turn of the load takes, about."""
GROUPS = 5
"""Those in SQLite. The last group is in PostgreSQL."""


def kills(group: int) -> list[list[Kill]]:
    """Ten kills, as the lives of two servers; over the five groups fifty: ten inside POST, ten inside an
    open block,
    ten around a block's commit (six of them between it and its stop), five around a turn's end or in the
    journal, five
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


@pytest.mark.requirement("C3", "D1", "D2", "D5", "D7", "G5", "P3", "P4", "P5")
@pytest.mark.parametrize("group", range(GROUPS))
async def test_nothing_shown_is_lost_silently(
    group: int, tmp_path: Path, session: aiohttp.ClientSession, provider: RunningProcess
) -> None:
    await live_through_group(group, tmp_path, session, provider)


@pytest.mark.requirement("D5", "D7")
async def test_nothing_shown_is_lost_silently_in_postgresql(
    tmp_path: Path,
    session: aiohttp.ClientSession,
    provider: RunningProcess,
    postgres: PostgresServer,
    postgres_template: str,
) -> None:
    databases = [postgres.database(postgres_template) for _ in range(2)]
    await live_through_group(GROUPS, tmp_path, session, provider, databases)


async def live_through_group(
    group: int,
    tmp_path: Path,
    session: aiohttp.ClientSession,
    provider: RunningProcess,
    databases: Sequence[str | None] = (None, None),
) -> None:
    providers = {
        "messages": ProviderSettings(wire="anthropic", base_url=provider.url),
        "completions": ProviderSettings(wire="openai-chat", base_url=f"{provider.url}/v1"),
    }

    async def live_through(number: int, lives: list[Kill]) -> Crashes:
        plan = plan_of(tmp_path, number, providers, databases[number])
        if databases[number] is not None:  # a node serves before it recovers; tests/nodes kills it then
            lives = [kill for kill in lives if not isinstance(kill, InRecovery)]
        return await Crashes(plan, session, f"{group} {number}", MIXED).live_through(lives)

    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(live_through(number, lives)) for number, lives in enumerate(kills(group))]
    accounts = [account for task in found for account in task.result().accounts]
    assert sum(account.open_at_death > 0 for account in accounts) >= 2, "kills inside an open block"
    lost = sorted(stretch for account in accounts for stretch in account.lost)
    logger.info(
        "%d kills, %d of them inside a tool; %d watchers resumed, %d of them told of text that is gone; longest lost: %s",
        len(accounts),
        sum(account.inside_tools > 0 for account in accounts),
        sum(account.resumed for account in accounts),
        sum(account.truncated for account in accounts),
        ", ".join(f"{seconds * 1000:.0f} of {allowed * 1000:.0f} ms" for seconds, allowed in lost[-3:]),
    )
