"""For every turn, and every cut of clients of Responses, each client resumes to the stored blocks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.dialects.response_fold import ResponseFold
from tests.turnlog.scripted import ListArchive, ScriptedTurn, Ticks
from tests.turnlog.test_subscription_properties import (
    ACTIONS,
    BATCHES,
    ENDS,
    LIMITS,
    SECONDS,
    TICKS,
    Action,
    End,
    Limits,
    log_of_rows,
    patched,
    scripted,
)
from turnstream.core.turn_events import BlockReset, SourceEvent
from turnstream.dialects.openai_responses.encoder import encoder_of, repeating, response_of
from turnstream.store.base import TurnRecord
from turnstream.turnlog.dialect_subscription import DialectSubscription
from turnstream.turnlog.log import TurnLog
from turnstream.wires.base import ToolDefinition


class ResumingClient:
    """A client whose connection is cut at any byte, and that resumes after its last event."""

    def __init__(self, turn: TurnRecord, ticks: Ticks, *, filters: bool, exact: bool) -> None:
        self.fold = ResponseFold()
        self.filters = filters
        self._turn = turn
        self._ticks = ticks
        self._exact = exact
        self._subscription: DialectSubscription | None = None
        self._reading: asyncio.Task[bytes | None] | None = None

    def connect(self, log: TurnLog, turn: ScriptedTurn) -> None:
        encoder = encoder_of(self._turn, starting_after=-1 if self.filters else self.fold.last)
        encoder.resets = lambda: log.history.resets
        archive = ListArchive(turn.store, self._ticks, log)
        made = DialectSubscription(log, archive, repeating(encoder), is_exact=self._exact)
        encoder.divides = self.filters and made.needs_catch_up
        self._subscription = made

    def read(self, room: int) -> bool:
        """Take the bytes of the last read, and begin another. Return False at the end."""
        assert self._subscription is not None
        if self._reading is not None and self._reading.done():
            data, self._reading = self._reading.result(), None
            if data is None:
                return False
            self._receive(data)
        if self._reading is None:
            taken = 0

            def take(data: bytes) -> bool:
                nonlocal taken
                taken += 1
                if taken <= room:
                    self._receive(data)
                return taken <= room

            coming = self._subscription.next(take if room else None)
            self._reading = asyncio.get_running_loop().create_task(coming)
        return True

    def _receive(self, data: bytes) -> None:
        self.fold.receive(self._unknown(data) if self.filters else data)

    def _unknown(self, data: bytes) -> bytes:
        """Return the frames with a higher number than the last one, as the stream helper of the SDK does."""
        frames = [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]
        return b"".join(frame for frame in frames if _number(frame) > self.fold.last)

    async def cut(self, place: int) -> None:
        """Lose the connection, with the bytes on their way."""
        if self._reading is not None:
            if not self._reading.done():
                self._reading.cancel()
                await asyncio.wait([self._reading])
            elif data := self._reading.result():
                data = self._unknown(data) if self.filters else data
                self.fold.receive(data[: place % (len(data) + 1)])
        self.fold.cut()
        self._reading = self._subscription = None

    async def read_to_the_end(self) -> None:
        while self.read(0):
            assert self._reading is not None
            await asyncio.wait([self._reading])

    @property
    def is_connected(self) -> bool:
        return self._subscription is not None


def _number(frame: bytes) -> int:
    return int(frame.rpartition(b'"sequence_number":')[2].rstrip(b"}\n"))


@pytest.mark.requirement("P2", "P5", "N5")
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=BATCHES,
    limits=LIMITS,
    ticks=TICKS,
    archive_ticks=TICKS,
    actions=ACTIONS,
    end=ENDS,
    of_client=st.booleans(),
)
def test_every_cut_resumes_to_the_stored_blocks(
    batches: list[list[SourceEvent]],
    limits: Limits,
    ticks: list[int],
    archive_ticks: list[int],
    actions: list[Action],
    end: End,
    of_client: bool,
) -> None:
    async def example() -> None:
        async with asyncio.timeout(SECONDS):
            turn = scripted(batches, limits, (ticks, ticks), end)
            row = replace(turn.executor.turn, tools=(ToolDefinition("n"),) if of_client else ("n",))
            clients = await play(turn, row, actions, archive_ticks)
            ended = replace(turn.executor.turn, tools=row.tools)
            stored = response_of(ended, sorted(turn.store.blocks, key=lambda one: one.block.sequence))
            for client in clients:
                check(client, stored, batches)

    with ExitStack() as stack:
        patched(stack, limits._replace(part=32 * 1024))
        asyncio.run(example())


async def play(
    turn: ScriptedTurn, row: TurnRecord, actions: Sequence[Action], archive_ticks: Sequence[int]
) -> list[ResumingClient]:
    ticks = Ticks(archive_ticks)
    # A client that drops events by itself does not tell what it has: it cannot learn of a retraction.
    may_filter = not any(isinstance(event, BlockReset) for batch in turn.batches for event in batch)
    clients: dict[int, ResumingClient] = {}
    task = turn.begin()
    for action in actions:
        client = clients.get(action.watcher)
        if client is None:
            exact = bool(action.number % 2)
            client = ResumingClient(row, ticks, filters=may_filter and action.watcher == 2, exact=exact)
            clients[action.watcher] = client
        if client.fold.end is None:
            if not client.is_connected:
                client.connect(turn.log, turn)
            if action.kind == "read":
                client.read(action.number % 4)
            elif action.kind == "cut":
                await client.cut(action.number)
        await asyncio.sleep(0)
    await task
    late = ResumingClient(row, ticks, filters=False, exact=False)
    late.connect(log_of_rows(turn), turn)
    for number, client in enumerate(clients.values()):
        if client.fold.end is None and not client.is_connected:
            client.connect(turn.log if number % 2 else log_of_rows(turn), turn)
        if client.fold.end is None:
            await client.read_to_the_end()
    await late.read_to_the_end()
    return [*clients.values(), late]


def check(client: ResumingClient, stored: dict[str, object], batches: list[list[SourceEvent]]) -> None:
    fold = client.fold
    assert fold.end is not None
    may_lose = any(isinstance(event, BlockReset) for batch in batches for event in batch)
    if fold.end == "error":
        assert fold.error is not None
        assert fold.error["code"] == "retracted"
        assert may_lose
        return
    fold.check_end()
    assert fold.response is not None
    if may_lose and fold.end == "response.failed":
        assert fold.response["status"] == stored["status"]  # it may still show what was retracted before
    else:
        assert fold.response == stored
