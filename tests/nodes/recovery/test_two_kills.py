"""Two owners of the same turns are killed, the second right after its takeover. A third node continues."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.faults.killing import KillPoint
from tests.faults.processes import RunningProcess
from tests.faults.watching import Api, Watcher, shown_text, stored_blocks
from tests.nodes.cluster import Cluster
from turnstream.config import ProviderSettings
from turnstream.core.stream_events import TextDelta
from turnstream.simulator.script import story
from turnstream.store.journal.pages import items_in, read_pages

SECONDS = 120.0
EVENTS = 200
WHOLE = "".join(event.text for event in story(EVENTS, 0) if isinstance(event, TextDelta))
RETRACTED, STORED = f"sim/story:events={EVENTS},pace=0.025", f"stored/story:events={EVENTS},pace=0.025"
"""A model that begins its answer again, and one whose provider stores the answer."""
_PAUSE = 0.05


async def start(api: Api, model: str) -> Watcher:
    """Start a turn. Return its watcher, which has seen some of the text."""
    body = {
        "model": model,
        "params": {"background": True} if model == STORED else {},
        "turn_blocks": [{"block_type": "text", "text_content": "hello"}],
    }
    status, started = await api.call("POST", f"/api/chats/{await api.create_chat()}/turns", body)
    assert status == 201, started
    watcher = Watcher(started["assistant_turn"]["id"])
    await watcher.watch(api, until=lambda _: len(watcher.open_text[1]) > 100)
    return watcher


async def is_in_the_journal(cluster: Cluster, turn_id: str, model: str) -> bool:
    """Return True if the journal has text of a turn, and the name of its answer if the provider stores it."""
    pages = [text for (text,) in await cluster.rows("SELECT segments FROM turnstream_journal ORDER BY page")]
    has_text = any(segment.text for segment in read_pages(pages, {turn_id: 0}).get(turn_id, ()))
    is_named = any(items.answer for page in pages for items in items_in(page, (turn_id,)))
    return has_text and (is_named or model != STORED)


@pytest.mark.requirement("Q3")
async def test_a_third_node_continues_what_the_second_had_just_taken_over(
    cluster: Cluster, session: aiohttp.ClientSession, provider: RunningProcess
) -> None:
    stored = ProviderSettings(wire="openai-responses", base_url=f"{provider.url}/v1")
    options = {"providers": {"stored": stored}}
    async with asyncio.timeout(SECONDS):
        async with (
            cluster.node(**options) as one,
            cluster.node(kill=KillPoint("ResumeClaimed", "after", occurrence=2), **options) as two,
        ):
            watchers = [await start(Api(one.url, session), model) for model in (RETRACTED, STORED)]
            for watcher, model in zip(watchers, (RETRACTED, STORED), strict=True):
                while not await is_in_the_journal(cluster, watcher.turn_id, model):  # noqa: ASYNC110
                    await asyncio.sleep(_PAUSE)  # a poll of rows
            one.kill_now()
            assert await one.ended() == -9
            assert await two.ended() == -9
        async with cluster.node(**options) as three:
            api = Api(three.url, session)
            for watcher in watchers:
                while not watcher.ended:
                    await watcher.watch(api)
                    await asyncio.sleep(0 if watcher.ended else _PAUSE)  # the pause of a client
            turns = [await api.turn(watcher.turn_id) for watcher in watchers]
    for turn, watcher, resets in zip(turns, watchers, (1, 0), strict=True):
        (block,) = stored_blocks(turn)
        assert watcher.fold.blocks == [block]
        assert shown_text(block) == WHOLE, "each character once"
        assert watcher.terminal_events() == ["turn_complete"]
        assert [frame.name for frame in watcher.frames].count("block_reset") == resets
    calls = (cluster.folder / "provider.log").read_text().splitlines()
    assert sum("model=story" in line and "went away" not in line for line in calls) == 1, calls
