"""Readers of the one fold: stored blocks and shown blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block, Content
from turnstream.core.open_block import merge_content
from turnstream.core.stream_events import (
    StreamEvent,
)
from turnstream.core.turn_events import (
    BlockDelta,
    BlockStart,
    BlockStop,
    TurnEvent,
)


class Reader:
    """The accumulator's loop, as its owner runs it: the shown and the stored blocks."""

    def __init__(self, accumulator: Accumulator | None = None) -> None:
        self.accumulator = accumulator or Accumulator()
        self.shown: list[TurnEvent] = []
        self.stored: list[Block] = []

    def fold(self, *events: StreamEvent) -> None:
        position = 0
        while True:
            position = self.accumulator.fold(events, position)
            self.shown += self.accumulator.take_changes()
            if self.accumulator.finished is None:
                break
            self.stored.append(self.accumulator.finished)
            self.shown.append(self.accumulator.release())
        assert position == len(events)

    def end(self) -> None:
        self.accumulator.end()
        self.fold()

    def cut(self) -> None:
        events, cuts = self.accumulator.cut()
        for cut in cuts:
            assert isinstance(events[cut.stop], BlockStop)
            if cut.start is not None:
                assert isinstance(events[cut.start], BlockStart)
        self.shown += events
        self.stored += [cut.block for cut in cuts]


class Client:
    """A client's state, folded from TurnEvents by the rules of the protocol alone."""

    def __init__(self) -> None:
        self.blocks: dict[int, dict[str, Any]] = {}
        self.open: int | None = None

    def see(self, events: Sequence[TurnEvent]) -> None:
        for event in events:
            match event:
                case BlockStart():
                    assert self.open is None, "one block is open at a time"
                    assert event.block_index == len(self.blocks), "in order, without gaps"
                    self.open = event.block_index
                    content: Content = {}
                    merge_content(content, event.content or {})
                    self.blocks[event.block_index] = {
                        "type": event.block_type,
                        "text": "",
                        "content": content,
                        "partial": None,
                    }
                case BlockDelta():
                    assert event.block_index == self.open
                    block = self.blocks[event.block_index]
                    assert event.block_type == block["type"]
                    if event.field == "content":
                        merge_content(block["content"], event.value)
                    elif event.field == "signature":
                        block["content"]["signature"] = block["content"].get("signature", "") + event.value
                    else:
                        assert (event.field == "partial_json") is (block["type"] == "tool_use")
                        block["text"] += event.value
                case BlockStop():
                    assert event.block_index == self.open
                    self.open = None
                    self.blocks[event.block_index]["partial"] = event.partial
                case _:
                    pass


def seen(events: Sequence[TurnEvent]) -> Client:
    client = Client()
    client.see(events)
    return client


def assert_shown_is_stored(reader: Reader) -> None:
    client = seen(reader.shown)
    assert client.open is None
    assert [block.sequence for block in reader.stored] == list(client.blocks)
    for block in reader.stored:
        view = client.blocks[block.sequence]
        content = dict(block.content or {})
        assert view["type"] == block.block_type
        assert view["partial"] is block.partial
        if block.block_type == "tool_use":
            assert view["text"] == content.pop("input_json")
            content.pop("input_error", None)
            if view["text"].strip() or not isinstance(view["content"].get("input"), dict):
                content.pop("input")
                view["content"].pop("input", None)
            for name in ("tool_use_id", "tool_name"):
                view["content"].setdefault(name, "")
        else:
            assert view["text"] == (block.text_content or "")
        assert view["content"] == content
        msgspec.json.encode(block)


pieces = st.text(max_size=3) | st.sampled_from(
    ["\ud83d", "\ude00", "a\ud83d", "\ude00b", '{"x":', "1}", "{}"]
)
