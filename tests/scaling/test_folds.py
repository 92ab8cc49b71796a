"""Folding costs in proportion to its input, whatever the input is made of; and nothing of it is without a
bound."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.scaling.measuring import MOST, Work, cost_ratio
from turnstream.client.watched_turn import WatchedTurn
from turnstream.core.accumulator import Accumulator
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.core.bounds import BLOCK_CHARGE, FREE_BLOCKS
from turnstream.core.history import build_history
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.turn_events import BlockDelta, ToolProgress
from turnstream.errors import StreamBroken
from turnstream.llm.event_queue import EventQueue
from turnstream.llm.message_fold import MessageFold
from turnstream.llm.text_log import TextLog

pytestmark = pytest.mark.fault(26)
TEXT = ContentBlockStart(0, "text")


def call(index: int, identity: str = "") -> ContentBlockStart:
    return ContentBlockStart(index, "tool_use", {"tool_use_id": identity or f"c{index}", "tool_name": "f"})


EVENTS: dict[str, Callable[[int], list[StreamEvent]]] = {
    "text": lambda n: [TEXT, *(TextDelta(0, "word ") for _ in range(n))],
    "halves of pairs": lambda n: [TEXT, *(TextDelta(0, "\ud83d\ude00"[i % 2]) for i in range(n))],
    "citations": lambda n: [TEXT, *(ContentDelta(0, {"citations": [{"n": i}]}) for i in range(n))],
    "citations and text": lambda n: [
        TEXT, *(e for i in range(n) for e in (TextDelta(0, "x"), ContentDelta(0, {"citations": [i]}))),
    ],
    "two lists": lambda n: [TEXT, *(ContentDelta(0, {"citations": [i], "deltas": [i]}) for i in range(n))],
    "content keys": lambda n: [TEXT, *(ContentDelta(0, {f"k{i}": 1}) for i in range(n))],
    "signature": lambda n: [ContentBlockStart(0, "thinking"), *(SignatureDelta(0, "abcd") for _ in range(n))],
    "blocks": lambda n: [
        e for i in range(n) for e in (ContentBlockStart(i, "text"), TextDelta(i, "x"), ContentBlockStop(i))
    ],
    "implicit blocks": lambda n: [(TextDelta if i % 2 else ThinkingDelta)(0, "ab") for i in range(n)],
    "implicit blocks with indexes": lambda n: [TextDelta(i, "ab") for i in range(n)],
    "implicit blocks beside open ones": lambda n: [
        *(ContentBlockStart(i + 1, "text") for i in range(n)),
        *((TextDelta if i % 2 else ThinkingDelta)(0, "ab") for i in range(n)),
    ],
    "open calls": lambda n: [*map(call, range(n)), *(ToolInputDelta(i, "{}") for i in range(n)), MessageStop("tool_use")],
    "calls without arguments": lambda n: [
        *(e for i in range(n) for e in (call(i), ContentBlockStop(i))), MessageStop("tool_use"),
    ],
    "calls and their results": lambda n: [
        e for i in range(n)
        for e in (call(2 * i), ContentBlockStop(2 * i), ContentBlockStart(2 * i + 1, "tool_result", {"tool_use_id": f"c{2 * i}"}))
    ],
    "metadata": lambda n: [Metadata(provider_metadata={f"k{i}": i}) for i in range(n)],
    "raw usage": lambda n: [Metadata(raw={f"k{i}": i}) for i in range(n)],
    "the same metadata": lambda n: [Metadata(raw={"n": i}, provider_metadata={"id": "x"}) for i in range(n)],
}  # fmt: skip


@pytest.mark.parametrize("name", list(EVENTS))
def test_folding_a_message(name: str) -> None:
    def work_of(size: int) -> Work:
        events = EVENTS[name](size)

        def fold() -> None:
            folded = MessageFold()
            for place in range(0, len(events), 8):
                folded.fold(events[place : place + 8])
            folded.end_call()
            assert folded.snapshot() or size

        return fold

    assert cost_ratio(work_of, 2000) <= MOST


@pytest.mark.parametrize("name", ["citations", "implicit blocks", "open calls", "metadata"])
def test_folding_an_answer_that_is_no_stream(name: str) -> None:
    def work_of(size: int) -> Work:
        events = EVENTS[name](size)
        return lambda: fold_answer(events)

    assert cost_ratio(work_of, 2000) <= MOST


def _text_log(size: int) -> Work:
    def work() -> None:
        log, position = TextLog(), 0
        for index in range(size):
            log.begin_block(index)
            log.append("some words ")
            position += len(log.read(position))

    return work


def _repeated_text(size: int) -> Work:
    """Text that was read, taken back, and comes again in small pieces."""
    log = TextLog()
    log.begin_block(0)
    log.append("some words " * 20 * size)
    log.read(0)
    log.retract(0)

    def work() -> None:
        log.begin_block(0)
        for _ in range(20 * size):
            log.append("some words ")
        log.end()

    return work


def _queue(size: int) -> Work:
    def work() -> None:
        queue = EventQueue(256)
        for n in range(size):
            queue.push([BlockDelta(0, "text", "text", "x"), ToolProgress(f"c{n}", "x")])
        queue.take()

    return work


@pytest.mark.parametrize("work_of", [_text_log, _repeated_text, _queue])
def test_what_readers_are_given(work_of: Callable[[int], Work]) -> None:
    assert cost_ratio(work_of, 4000) <= MOST


CLIENT: dict[str, Callable[[int], list[tuple[str, dict[str, Any]]]]] = {
    "text": lambda n: [_native("block_delta", delta={"text": "word "}) for _ in range(n)],
    "citations": lambda n: [_native("block_delta", delta={"content": {"citations": [i]}}) for i in range(n)],
    "signature": lambda n: [_native("block_delta", delta={"signature": "abcd"}) for _ in range(n)],
    "blocks": lambda n: [_native("block_start", i) for i in range(n)],
    "lost text": lambda n: [_native("notice", code="truncated", message="-") for _ in range(n)],
}


def _native(name: str, index: int = 0, **fields: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": name, "turn_id": "t", "block_index": index, "block_type": "text", **fields}


@pytest.mark.parametrize("name", list(CLIENT))
def test_a_client_that_follows_a_turn(name: str) -> None:
    def work_of(size: int) -> Work:
        start = (
            "turn_start",
            {"type": "turn_start", "turn_id": "t", "chat_id": "c", "role": "assistant", "model": "m"},
        )
        events = [start, _native("block_start"), *CLIENT[name](size)]
        frames = [
            (n.encode(), json.dumps(data).encode(), b"5-%d" % seq) for seq, (n, data) in enumerate(events, 1)
        ]
        turn = WatchedTurn("t")

        def follow() -> None:
            for frame in frames:
                turn.take(frame)
            assert turn.blocks or name == "lost text"

        return follow

    assert cost_ratio(work_of, 1500) <= MOST


def _results(ids: Sequence[str]) -> list[Block]:
    return [
        Block(0, "tool_result", None, {"tool_use_id": one, "content": "x", "is_error": False}) for one in ids
    ]


@pytest.mark.parametrize("ids", ["own", "reversed", "one for all", "empty", "none has a result"])
def test_a_history_of_many_calls(ids: str) -> None:
    def work_of(size: int) -> Work:
        named = {"one for all": ["same"] * size, "empty": [""] * size}.get(
            ids, [f"c{n}" for n in range(size)]
        )
        content = [{"tool_use_id": one, "tool_name": "f", "input": {}, "input_json": "{}"} for one in named]
        calls = [Block(0, "tool_use", None, each) for each in content]
        answers = [] if ids == "none has a result" else _results(named[::-1] if ids == "reversed" else named)
        said = Block(0, "text", "Go.")
        turns = [("user", "complete", (said,)), ("assistant", "complete", (*calls, *answers))]
        return lambda: build_history(turns)  # type: ignore[arg-type]

    assert cost_ratio(work_of, 300) <= MOST


# -- bounds
# ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["blocks", "implicit blocks", "implicit blocks with indexes", "open calls", "calls without arguments"],
)
def test_blocks_count_against_the_answers_limit_whatever_they_hold(name: str) -> None:
    limit = 100 * BLOCK_CHARGE
    accumulator = Accumulator(max_length=limit)
    events = EVENTS[name](2 * FREE_BLOCKS)

    def fold() -> None:
        for event in events:
            accumulator.fold([event])
            accumulator.take_changes()
            while accumulator.finished is not None:
                accumulator.release()

    with pytest.raises(StreamBroken) as raised:
        fold()
    assert (raised.value.code, raised.value.retryable) == ("answer_too_large", False)


@pytest.mark.parametrize("field", ["raw", "provider_metadata"])
@pytest.mark.parametrize("is_one_key", [True, False])
def test_metadata_counts_once_for_each_key(field: str, is_one_key: bool) -> None:
    accumulator = Accumulator(max_length=10_000)
    for n in range(20):
        accumulator.fold([Metadata(**{field: {"same": "x" * 900}})])
        accumulator.fold([Metadata(**{field: {"count": n}})])
    larger = [{"same" if is_one_key else f"k{n}": "x" * (n + 1) * 900} for n in range(20)]
    with pytest.raises(StreamBroken, match="grew past"):
        accumulator.fold([Metadata(**{field: values}) for values in larger])


def test_ordinary_answers_pay_for_no_block() -> None:
    accumulator = Accumulator(max_length=10)
    for index in range(FREE_BLOCKS // 2):
        accumulator.fold([ContentBlockStart(index, "text"), ContentBlockStop(index)])
        accumulator.release()
    assert accumulator.statistics.length == 0


def test_what_was_shown_of_a_list_does_not_change_when_it_grows() -> None:
    accumulator = Accumulator()
    accumulator.fold([ContentBlockStart(0, "text", {"citations": [0]})])
    (start,) = accumulator.take_changes()
    shown = accumulator.shown
    assert shown is not None
    seen = [shown.catchup().content, shown.shown_content(), shown.finish().content]
    for n in range(1, 4):
        accumulator.fold([ContentDelta(0, {"citations": [n]})])
        seen.append(shown.catchup().content)
    assert getattr(start, "content") == {"citations": [0]}  # noqa: B009
    assert [content and content["citations"] for content in seen] == [
        [0],
        [0],
        [0],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
    ]


def test_facts_that_were_handed_out_do_not_change() -> None:
    accumulator = Accumulator()
    accumulator.fold([Metadata(raw={"a": 1}, provider_metadata={"x": 1})])
    before = (accumulator.raw_usage, accumulator.provider_metadata)
    accumulator.fold([Metadata(raw={"b": 2, "a": None}, provider_metadata={"y": 2})])
    assert before == ({"a": 1}, {"x": 1})
    assert (accumulator.raw_usage, accumulator.provider_metadata) == ({"b": 2}, {"x": 1, "y": 2})
