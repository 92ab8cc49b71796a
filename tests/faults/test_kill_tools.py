"""kill -9 of the server in the middle of tool loops: inside a tool, and around the commits of calls and
results
(requirements D5, D7, G1, G5, P3, P4)."""

from __future__ import annotations

import asyncio
import logging
import random
from pathlib import Path

import aiohttp
import pytest

from tests.faults.crashes import AtMoment, AtText, Crashes, Kill, plan_of
from tests.faults.killing import InTool, KillPoint, Moment
from tests.faults.load import AGENTS
from tests.faults.processes import RunningProcess
from tests.faults.tools import STEPS
from turnstream.config import ProviderSettings

logger = logging.getLogger(__name__)

GROUPS = 2


def kills(group: int) -> list[list[Kill]]:
    """Ten kills, as the lives of two servers; over the two groups twenty: eleven inside a tool, two between
    a call's
    commit and its result, six around a result's commit (four of them between it and its block_stop), one at
    random."""
    draw = random.Random(f"tools {group}")
    moments: tuple[Moment, ...] = ("before", "within")
    anything: Kill = AtMoment(draw.uniform(0.1, 0.3)) if group else AtText(draw.randint(1500, 3500))
    return [
        [
            in_tool(draw),
            KillPoint("SaveBlock", "after", draw.randint(1, 4), "tool_use"),
            in_tool(draw),
            KillPoint("SaveBlock", "after", draw.randint(1, 4), "tool_result"),
            in_tool(draw),
        ],
        [
            KillPoint("SaveBlock", moments[group], draw.randint(1, 4), "tool_result"),
            in_tool(draw),
            anything if group else in_tool(draw),
            KillPoint("SaveBlock", "after", draw.randint(1, 4), "tool_result"),
            in_tool(draw),
        ],
    ]


def in_tool(draw: random.Random) -> InTool:
    """Two calls of each of three turns: the first four surely come."""
    return InTool(draw.randint(1, 4), draw.randint(1, STEPS))


@pytest.mark.requirement("C3", "D1", "D5", "D7", "G1", "G5", "P3", "P4")
@pytest.mark.parametrize("group", range(GROUPS))
async def test_a_tool_loop_that_is_killed_can_be_gone_on_from(
    group: int, tmp_path: Path, session: aiohttp.ClientSession, provider: RunningProcess
) -> None:
    providers = {
        "messages": ProviderSettings(wire="anthropic", base_url=provider.url),
        "completions": ProviderSettings(wire="openai-chat", base_url=f"{provider.url}/v1"),
        "chats": ProviderSettings(wire="ollama", base_url=provider.url),
    }

    async def live_through(number: int, lives: list[Kill]) -> Crashes:
        plan = plan_of(tmp_path, number, providers)
        return await Crashes(plan, session, f"tools {group} {number}", AGENTS).live_through(lives)

    async with asyncio.TaskGroup() as tasks:
        found = [tasks.create_task(live_through(number, lives)) for number, lives in enumerate(kills(group))]
    accounts = [account for task in found for account in task.result().accounts]
    planned = sum(isinstance(kill, InTool) for lives in kills(group) for kill in lives)
    inside = sum(account.inside_tools > 0 for account in accounts)
    assert inside >= planned >= 5, "kills inside a tool"
    assert all(account.calls_in_histories for account in accounts[1:5])
    logger.info(
        "%d kills, %d inside %d running tools; %d watchers resumed, %d of them told of something that is gone",
        len(accounts),
        inside,
        sum(account.inside_tools for account in accounts),
        sum(account.resumed for account in accounts),
        sum(account.truncated for account in accounts),
    )
