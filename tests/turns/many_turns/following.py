"""A client of many turns, by the rules of PROTOCOL.md, and the engine's parts below it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.turnlog.watching import Knowledge
from tests.turns.world import OWNER, SECONDS, World, ticks
from turnstream.core.owner_events.cursor import parse_events_cursor
from turnstream.core.sse import SseDecoder
from turnstream.dialects.native import chat_event_frame
from turnstream.turns.owner_events.subscription import EventSources, OwnerSubscription, event_sources


class ManyFrame(NamedTuple):
    id: str | None
    name: str
    data: dict[str, Any]

    @property
    def turn_id(self) -> str | None:
        return self.data.get("turn_id")

    @property
    def own_seq(self) -> int:
        """Return the seq of the event in its turn."""
        assert self.id is not None
        return int(self.id.rpartition("-")[2])


@dataclass
class ManyKnowledge:
    """State of a client after it has received a frame."""

    cursor: str | None = None
    turns: dict[str, Knowledge] = field(default_factory=dict)
    chats: dict[str, str | None] = field(default_factory=dict)
    """Titles of the chats that were announced."""
    seqs: dict[str, list[int]] = field(default_factory=dict)
    """Seqs of the events that were received of each turn."""
    announced: set[tuple[str, ...]] = field(default_factory=set)
    """The changes of chats that were announced."""
    ended: str | None = None

    def copy(self) -> ManyKnowledge:
        turns = {turn_id: known.copy() for turn_id, known in self.turns.items()}
        seqs = {turn_id: list(known) for turn_id, known in self.seqs.items()}
        return ManyKnowledge(self.cursor, turns, dict(self.chats), seqs, set(self.announced), self.ended)


class ManyClient:
    """One watcher of many turns over all its connections."""

    def __init__(self, known: ManyKnowledge | None = None) -> None:
        self.now = known or ManyKnowledge()
        self.past: list[ManyKnowledge] = []
        """States of the client after each frame. A reloaded page starts from any of them."""
        self.frames: list[ManyFrame] = []
        self.data = b""
        """The bytes of the current connection."""
        self._decoder = SseDecoder(event_limit=1 << 24)

    def reconnect(self) -> str | None:
        self._decoder, self.data = SseDecoder(event_limit=1 << 24), b""
        self.now.ended = None
        return self.now.cursor

    def receive(self, data: bytes) -> None:
        self.data += data
        for name, payload, identity in self._decoder.feed(data):
            frame = ManyFrame(
                identity.decode() if identity else None, (name or b"").decode(), json.loads(payload)
            )
            self.frames.append(frame)
            self._take(frame)
            self.past.append(self.now.copy())

    def _take(self, frame: ManyFrame) -> None:
        now, data = self.now, frame.data
        assert data["type"] == frame.name
        match frame.name:
            case "events_start":
                now.turns.clear()
                now.chats.clear()
                now.seqs.clear()
                now.announced.clear()
            case "events_end":
                now.ended = data["code"]
            case "chat_created":
                now.chats[data["chat_id"]] = data["title"]
                self._announce(frame.name, data["chat_id"])
            case "chat_changed":
                now.chats[data["chat_id"]] = data["title"]
                self._announce(frame.name, data["chat_id"], data["updated_at"])
            case "chat_deleted":
                now.chats.pop(data["chat_id"], None)
                self._announce(frame.name, data["chat_id"])
            case "turn_started":
                assert data["turn_id"] not in now.turns, "a turn is announced once"
                now.turns[data["turn_id"]] = Knowledge()
            case _:
                turn_id = data["turn_id"]
                now.turns[turn_id].fold.feed(frame.name, data)
                now.seqs.setdefault(turn_id, []).append(frame.own_seq)
        if frame.id is None:
            assert (frame.name, now.cursor) == ("events_end", None), "each event can be resumed after"
        else:
            assert len(frame.id) < 4096
            now.cursor = frame.id

    def _announce(self, *change: str) -> None:
        assert change not in self.now.announced, "a change is announced once"
        self.now.announced.add(change)


class Events:
    """The watchers of many turns of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sources: EventSources = event_sources(world.store, world.watching, chat_event_frame)

    async def watch(
        self, client: ManyClient, chat_id: str | None = None, owner: str = OWNER
    ) -> OwnerSubscription:
        cursor = client.reconnect()
        after = None if cursor is None else parse_events_cursor(cursor)
        assert cursor is None or after is not None
        return await self.sources.watch(owner, chat_id, after=after)

    async def catch_up(self, client: ManyClient, chat_id: str | None = None) -> ManyClient:
        """Connect a client, and read everything that is there."""
        subscription = await self.watch(client, chat_id)
        await read_all(subscription, client)
        subscription.close()
        return client


async def read_all(subscription: OwnerSubscription, client: ManyClient, *, sink: bool = False) -> bool:
    """Read until nothing is left, or the stream ends. Return True at its end. `sink`: take frames at once."""

    def take(data: bytes) -> bool:
        client.receive(data)
        return True

    async with asyncio.timeout(SECONDS):
        while True:
            reading = asyncio.ensure_future(subscription.next(take if sink else None))
            while not (reading.done() or subscription.waiting):
                await ticks(1)
            subscription.nudge()
            data = await reading
            if not data:
                return data is None
            client.receive(bytes(data))
