"""Several threads may feed and read the one fold."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from turnstream.core.blocks import Block
from turnstream.core.shared_accumulator import SharedAccumulator
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    TextDelta,
)
from turnstream.core.turn_events import (
    BlockStop,
    TurnEvent,
)

# --- threads ------------------------------------------------------------------------------------------------


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Switch threads every few microseconds, so that their calls interleave."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.requirement("B6")
def test_several_threads_may_feed(often_switching: None) -> None:
    threads, each = 6, 400
    accumulator = SharedAccumulator()
    barrier = threading.Barrier(threads)
    shown: list[list[TurnEvent]] = [[] for _ in range(threads)]
    stored: list[list[Block]] = [[] for _ in range(threads)]
    failures: list[BaseException] = []

    def feed(number: int) -> None:
        try:
            barrier.wait(timeout=10)
            for round_ in range(each):
                text = f"<{number}:{round_}>"
                index = number * each + round_
                events = [
                    ContentBlockStart(index, "text"),
                    *(TextDelta(index, part) for part in text),
                    ContentBlockStop(index),
                ]
                changes, blocks = accumulator.feed(events[:4])
                shown[number] += changes
                stored[number] += blocks
                meets, is_shown = round_ == 0, False
                if meets:  # all have begun a block; the shown block stops last, and releases the others
                    barrier.wait(timeout=10)
                    is_shown = accumulator.shown is not None and accumulator.shown.index == index
                if is_shown:
                    barrier.wait(timeout=10)
                changes, blocks = accumulator.feed(events[4:])
                shown[number] += changes
                stored[number] += blocks
                if meets and not is_shown:
                    barrier.wait(timeout=10)
                assert accumulator.statistics.chunks > 0
        except BaseException as failure:  # noqa: BLE001 - it is asserted on in the main thread
            failures.append(failure)

    workers = [threading.Thread(target=feed, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=30)
    assert not failures
    assert not any(worker.is_alive() for worker in workers)
    blocks = sorted((block for found in stored for block in found), key=lambda block: block.sequence)
    assert [block.sequence for block in blocks] == list(range(threads * each))
    assert sorted(block.text_content or "" for block in blocks) == sorted(
        f"<{n}:{r}>" for n in range(threads) for r in range(each)
    )
    assert accumulator.statistics.length == sum(len(block.text_content or "") for block in blocks)
    foreign = [
        block
        for n, found in enumerate(stored)
        for block in found
        if not (block.text_content or "").startswith(f"<{n}:")
    ]
    assert foreign, "blocks of one thread were let go by another: they did interleave"
    assert accumulator.cut() == ([], [])


@pytest.mark.requirement("B6")
def test_a_reader_beside_feeding_threads_sees_whole_states() -> None:
    accumulator = SharedAccumulator()
    done = threading.Event()
    counts: list[int] = []

    def watch() -> None:
        while not done.is_set():
            counts.append(accumulator.statistics.length)
        counts.append(accumulator.statistics.length)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(300):
        accumulator.feed([TextDelta(0, "ab"), TextDelta(0, "cd")])
    done.set()
    watcher.join(timeout=10)
    assert not watcher.is_alive()
    assert counts == sorted(counts)
    assert all(count % 4 == 0 for count in counts), "a batch is folded as one"
    events, (cut,) = accumulator.cut()
    assert cut.block.text_content == "abcd" * 300
    assert isinstance(events[-1], BlockStop)
    accumulator.end()
