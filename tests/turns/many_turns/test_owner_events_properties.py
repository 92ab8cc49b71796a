"""For any history of an owner's chats and turns, and any cuts, a watcher resumes to the stored state."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.turns.many_turns.following import Events, ManyClient, ManyKnowledge, read_all
from tests.turns.world import OWNER, Feed, World
from turnstream.core.stream_events import ContentBlockStop, TextDelta
from turnstream.store.queries import ListChats
from turnstream.turns.executor import Executor
from turnstream.turns.owner_events import changes, subscription


class Step(NamedTuple):
    """One step of the history. `chosen` names its chat or turn."""

    kind: str
    chosen: int
    text: str = "a"


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(
            [
                "start",
                "start",
                "say",
                "say",
                "say",
                "stop",
                "end",
                "fail",
                "title",
                "chat",
                "delete",
                "read",
                "read",
            ]
        ),
        st.integers(0, 7),
        st.text("aé🙂\n", min_size=1, max_size=6),
    ),
    min_size=3,
    max_size=14,
)


class Story:
    """The chats and turns of a world, and a watcher from their beginning."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chats: list[str] = []
        self.running: list[tuple[Executor, Feed, str]] = []
        self.turns: dict[str, str] = {}
        """The chats of all turns, by turn id."""

    async def happens(self, step: Step) -> None:
        world = self.world
        chat = self.chats[step.chosen % len(self.chats)]
        match step.kind:
            case "start" if len(self.running) < 6:
                feed = Feed()
                executor = await world.start_foreign(feed.events(), chat_id=chat)
                self.running.append((executor, feed, chat))
                self.turns[executor.turn.id] = chat
            case "chat":
                self.chats.append(await world.chat())
            case "title":
                await world.commands.chats.update(OWNER, chat, title=step.text)
            case "delete" if len(self.chats) > 1:
                self.chats.remove(chat)
                await world.commands.chats.delete(OWNER, chat)
                self.running = [turn for turn in self.running if turn[2] != chat]
                self.turns = {turn: of for turn, of in self.turns.items() if of != chat}
            case "say" | "stop" | "end" | "fail" if self.running:
                await self._goes_on(step)
            case _:
                pass

    async def _goes_on(self, step: Step) -> None:
        place = step.chosen % len(self.running)
        executor, feed, _ = self.running[place]
        if step.kind == "say":
            await feed.say(TextDelta(step.chosen % 2, step.text))
        elif step.kind == "stop":
            await feed.say(ContentBlockStop(0))
        else:
            del self.running[place]
            feed.end(RuntimeError("broken") if step.kind == "fail" else None)
            await self.world.ended(executor.turn.id)

    async def is_known(self, known: ManyKnowledge) -> None:
        """Check that a watcher that has read everything has the stored state."""
        stored = await self.world.store.read(ListChats(owner=OWNER, limit=100))
        titles = {chat.id: chat.title for chat in stored}
        assert known.chats == {chat_id: titles.get(chat_id) for chat_id in known.chats}
        for turn_id, chat in self.turns.items():
            if turn_id not in known.turns:
                continue
            state = await self.world.state(turn_id)
            blocks = [row.block for row in state.blocks]
            if (executor := self.world.registry.executor(turn_id)) is not None:
                opened = executor.log.open_block
                blocks += [] if opened is None else [opened.finish(partial=True)]
                if opened is not None:
                    blocks = sorted(
                        {block.sequence: block for block in blocks}.values(), key=lambda b: b.sequence
                    )
            assert known.turns[turn_id].blocks == blocks, chat
            assert known.turns[turn_id].ended == (state.turn.status in {"complete", "error", "cancelled"})


async def play(path: Path, steps: list[Step], *, ring_limit: int, sinks: bool) -> None:
    async with World(path, ring_limit=ring_limit) as world:
        events, story = Events(world), Story(world)
        story.chats.append(await world.chat())
        client = ManyClient()
        watcher = await events.watch(client)
        await read_all(watcher, client, sink=sinks)
        for step in steps:
            await story.happens(step)
            if step.kind == "read":
                await read_all(watcher, client, sink=sinks)
        if subscription.MAX_TURNS < 6:  # the turns above the limit are announced when others end
            while story.running:
                await story.happens(Step("end", 0))
        await read_all(watcher, client, sink=sinks)
        await story.is_known(client.now)
        assert set(client.now.turns) >= set(story.turns)
        for past in client.past:
            resumed = await events.catch_up(ManyClient(past.copy()))
            await story.is_known(resumed.now)
            assert set(resumed.now.turns) >= set(story.turns), "no turn is lost"
            for seqs in resumed.now.seqs.values():
                assert ring_limit < 10_000 or seqs == sorted(set(seqs)), "no event comes twice"
        watcher.close()
        assert not any(log._followers for log in world.registry.logs())


@pytest.mark.requirement("N8")
@pytest.mark.parametrize("ring_limit", [64 * 1024, 1])
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(steps=STEPS, most=st.sampled_from([2, 64]), page=st.sampled_from([1, 32]), sinks=st.booleans())
def test_a_watcher_cut_at_any_frame_resumes_to_what_is_stored(
    ring_limit: int, steps: list[Step], most: int, page: int, sinks: bool
) -> None:
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(patch.object(subscription, "MAX_TURNS", most))
        stack.enter_context(patch.object(changes, "PAGE", page))
        asyncio.run(play(Path(folder) / "turns.sqlite", steps, ring_limit=ring_limit, sinks=sinks))
