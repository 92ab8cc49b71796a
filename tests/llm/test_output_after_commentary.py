"""A typed value is read from the final message only, after any other output of the model. Its phase is sent
back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

import turnstream as ts
from tests.llm.scripted import Scripted, streaming
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block, Message
from turnstream.core.history import build_history
from turnstream.core.stream_events import StreamEvent
from turnstream.llm.output import OutputFormat
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest
from turnstream.wires.recording import frame_line

pytestmark = pytest.mark.fault(24)
WIRE = WIRES["openai-responses"]


class City(msgspec.Struct):
    name: str


def message(
    index: int, text: str, *, phase: str | None, when: str, identity: str | None
) -> list[dict[str, Any]]:
    """Return the events of a message item. `when`: its phase comes at its start, at its end, or both."""
    said = {} if identity is None else {"id": identity}
    told = {} if phase is None else {"phase": phase}
    begin = {"type": "message", "role": "assistant", **said, "content": [], **(told if when != "end" else {})}
    content = [{"type": "output_text", "text": text, "annotations": []}]
    end = {
        "type": "message",
        "role": "assistant",
        **said,
        "content": content,
        **(told if when != "start" else {}),
    }
    at = {"output_index": index}
    pieces = [text[n : n + 3] for n in range(0, len(text), 3)]
    return [
        {"type": "response.output_item.added", **at, "item": begin},
        *(
            {"type": "response.output_text.delta", **at, "content_index": 0, "delta": piece}
            for piece in pieces
        ),
        {"type": "response.output_item.done", **at, "item": end},
    ]


def decoded(*events: Sequence[dict[str, Any]]) -> list[list[StreamEvent]]:
    """Return the events of a response, in as many batches as there were events."""
    end = {
        "type": "response.completed",
        "response": {"id": "r", "status": "completed", "model": "m", "output": []},
    }
    decoder = WIRE.decoder()
    said = [event for item in events for event in item]
    return [decoder.feed(frame_line(WIRE, json.dumps(event).encode())) for event in [*said, end]]


async def value_of(batches: list[list[StreamEvent]]) -> tuple[Any, list[Any]]:
    """Return the value, and the partial values before it."""
    source = Scripted(batches, stepwise=True)
    assert source.go is not None
    seen: list[Any] = []
    async with streaming(source, OutputFormat(City)) as stream:
        for _ in batches:
            source.go.release()
        async for value in stream.partials:
            seen.append(value)  # noqa: PERF401
        return await stream.final_output(), seen


@pytest.mark.parametrize("when", ["start", "end", "both"])
@pytest.mark.parametrize("identity", ["msg", None])
@pytest.mark.parametrize("commentary", ["Let me think about it.", '{"name": "Rome"}', '{"name": '])
async def test_the_value_is_the_final_messages(when: str, identity: str | None, commentary: str) -> None:
    ids = (None, None) if identity is None else (f"{identity}_0", f"{identity}_1")
    batches = decoded(
        message(0, commentary, phase="commentary", when=when, identity=ids[0]),
        message(1, '{"name": "Paris"}', phase="final_answer", when=when, identity=ids[1]),
    )
    value, seen = await value_of(batches)
    assert value == City("Paris")
    assert seen[-1] == {"name": "Paris"}
    if when != "end":
        assert all("Paris".startswith(partial.get("name", "")) for partial in seen)


async def test_the_last_of_two_messages_counts_where_no_phase_is_told() -> None:
    batches = decoded(
        message(0, "First I look.", phase=None, when="both", identity="a"),
        message(1, '{"name": "Paris"}', phase=None, when="both", identity="b"),
    )
    assert (await value_of(batches))[0] == City("Paris")


async def test_one_message_of_several_parts_is_one_value() -> None:
    item = {"type": "message", "id": "a", "role": "assistant", "content": [], "phase": "final_answer"}
    parts = [{"type": "output_text", "text": text} for text in ('{"name": ', '"Paris"}')]
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": '{"name": '},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 1, "delta": '"Paris"}'},
        {"type": "response.output_item.done", "output_index": 0, "item": {**item, "content": parts}},
    ]
    assert (await value_of(decoded(events)))[0] == City("Paris")


async def test_commentary_alone_is_no_value() -> None:
    batches = decoded(message(0, '{"name": "Rome"}', phase="commentary", when="both", identity="a"))
    async with streaming(Scripted(batches), OutputFormat(City)) as stream:
        with pytest.raises(ts.InvalidOutput):
            await stream.final_output()


@pytest.mark.parametrize("identity", ["msg", None])
@pytest.mark.parametrize("when", ["start", "end", "both"])
def test_phases_go_back_to_the_provider(identity: str | None, when: str) -> None:
    ids = (None, None) if identity is None else ("a", "b")
    batches = decoded(
        message(0, "I look.", phase="commentary", when=when, identity=ids[0]),
        message(1, "Paris.", phase="final_answer", when=when, identity=ids[1]),
    )
    blocks = fold_answer(event for batch in batches for event in batch).blocks
    history = build_history(
        [("user", "complete", (Block(0, "text", "Where?"),)), ("assistant", "complete", blocks)]
    )
    asked = json.loads(WIRE.encode_request(ModelRequest("m", history)).body)["input"]
    assert [item.get("phase") for item in asked if item["role"] == "assistant"] == [
        "commentary",
        "final_answer",
    ]
    again = WIRE.decode_request("", WIRE.encode_request(ModelRequest("m", history)).body).messages
    assert [said.role for said in again] == [said.role for said in history]


def test_a_message_without_a_phase_goes_back_as_before() -> None:
    history = (
        Message("user", (Block(0, "text", "Where?"),)),
        Message("assistant", (Block(0, "text", "Paris."),)),
    )
    asked = json.loads(WIRE.encode_request(ModelRequest("m", history)).body)["input"]
    assert asked[1] == {"role": "assistant", "content": "Paris."}
