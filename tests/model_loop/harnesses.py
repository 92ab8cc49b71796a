"""The driver of the model loop with each of its sinks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

from tests.turnlog.scripted import TURN_ID, ListStore, Ticks, turn_row
from turnstream.core.blocks import Block
from turnstream.core.cursor import first_generation
from turnstream.core.open_block import OpenBlock
from turnstream.core.turn_events import (
    BlockDelta,
    BlockStop,
    TurnEvent,
)
from turnstream.dialects.native import NativeEncoder
from turnstream.llm.live_answer import LiveAnswer
from turnstream.llm.memory_sink import MemorySink
from turnstream.model_loop.sink import Sink
from turnstream.turnlog.log import TurnLog
from turnstream.turns.interruption import Interruption, TaskStopped
from turnstream.turns.writing import TurnWriter


class Harness(Protocol):
    """A sink of one kind, and what a test sees of it. `stopped`: the error that an interrupted run ends
    with."""

    sink: Sink
    stopped: type[BaseException]

    def shown(self) -> list[TurnEvent]: ...
    def kept(self) -> list[Block]: ...
    def interrupt(self, task: asyncio.Task[Any]) -> None: ...


class SeenLog(TurnLog):
    """A log that remembers each event, and checks that a block is stored before its block_stop is shown."""

    def __init__(self, store: ListStore) -> None:
        generation = first_generation(TURN_ID)
        super().__init__(TURN_ID, generation, NativeEncoder(TURN_ID, generation))
        self.store = store
        self.seen: list[TurnEvent] = []

    def show(self, events: Sequence[TurnEvent], open_block: OpenBlock | None) -> None:
        for event in events:
            if isinstance(event, BlockStop):
                assert event.block_index in [row.block.sequence for row in self.store.blocks]
        super().show(events, open_block)
        assert self.open_block is open_block
        self.seen += events

    def grow(self, delta: BlockDelta) -> None:
        super().grow(delta)
        self.seen.append(delta)


class ServerHarness:
    stopped = TaskStopped

    def __init__(self) -> None:
        self.store = ListStore(Ticks())
        self.log = SeenLog(self.store)
        self.interruption = Interruption()
        self.sink = TurnWriter(turn_row(), self.log, self.store, self.interruption)
        self.sink.committed.set()

    def shown(self) -> list[TurnEvent]:
        return self.log.seen

    def kept(self) -> list[Block]:
        return [row.block for row in self.store.blocks]

    def interrupt(self, task: asyncio.Task[Any]) -> None:
        self.interruption.task = task
        self.interruption.request_stop("cancelled")


class LibraryHarness:
    stopped = asyncio.CancelledError

    def __init__(self) -> None:
        self.live = LiveAnswer(1000)
        self.queue = self.live.open_queue()
        self.sink = MemorySink("s", self.live)
        self._seen: list[TurnEvent] = []

    def shown(self) -> list[TurnEvent]:
        self._seen += self.queue.take()
        return self._seen

    def kept(self) -> list[Block]:
        return self.live.fold.blocks

    def interrupt(self, task: asyncio.Task[Any]) -> None:
        task.cancel()
