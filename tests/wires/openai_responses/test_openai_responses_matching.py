"""Output items whose events name the wrong item. They are matched by id, then by index, then by type."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from tests.wires.openai_responses.responses import RESPONSE, decode, frames
from turnstream.core.answers import fold_answer
from turnstream.core.blocks import Block
from turnstream.core.stream_events import ContentBlockStop, StreamNotice, TextDelta
from turnstream.errors import StreamBroken
from turnstream.wires.openai_responses import matching as openai_responses_matching
from turnstream.wires.openai_responses.wire import WIRE
from turnstream.wires.recording import decode_pieces

pytestmark = pytest.mark.fault(17)
Event = dict[str, Any]


def added(index: int | None, **item: Any) -> Event:
    return {"type": "response.output_item.added", **_at(index), "item": item}


def done(index: int | None, **item: Any) -> Event:
    return {"type": "response.output_item.done", **_at(index), "item": item}


def piece(kind: str, text: str, index: int | None = None, item_id: str | None = None) -> Event:
    named = {} if item_id is None else {"item_id": item_id}
    return {"type": f"response.{kind}.delta", **_at(index), **named, "delta": text}


def words(text: str, index: int | None = None, item_id: str | None = None) -> Event:
    return piece("output_text", text, index, item_id)


def arguments(text: str, index: int | None = None, item_id: str | None = None) -> Event:
    return piece("function_call_arguments", text, index, item_id)


def thought(text: str, index: int | None = None, item_id: str | None = None) -> Event:
    return piece("reasoning_summary_text", text, index, item_id)


def call(name: str, written: str = "", **ids: str) -> Event:
    return {"type": "function_call", "name": name, "arguments": written, **ids}


def message(text: str | None = None, **fields: Any) -> Event:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "role": "assistant", "content": content, **fields}


def _at(index: int | None) -> Event:
    return {} if index is None else {"output_index": index}


def blocks_of(*events: Event, output: Sequence[Event] = ()) -> tuple[Block, ...]:
    """Return the blocks of a response that ends with `output`. They are the same for every cut."""
    end = {
        "type": "response.completed",
        "response": {**RESPONSE, "status": "completed", "output": list(output)},
    }
    body = frames(*events, end)
    answer = fold_answer(decode(body))
    assert answer.stop is not None
    single = decode_pieces(WIRE, [body[n : n + 1] for n in range(len(body))])
    whole = decode_pieces(WIRE, [body])
    assert single["blocks"] == whole["blocks"]
    return answer.blocks


def calls_in(blocks: Sequence[Block]) -> list[tuple[str, str, Any]]:
    found = [block.content or {} for block in blocks if block.block_type == "tool_use"]
    return [(content["tool_use_id"], content["tool_name"], content["input"]) for content in found]


def texts_in(blocks: Sequence[Block], block_type: str = "text") -> list[str | None]:
    return [block.text_content for block in blocks if block.block_type == block_type]


PARIS, ROME = '{"city":"Paris"}', '{"city":"Rome"}'
BOTH = [("c1", "weather", {"city": "Paris"}), ("c2", "delete", {"city": "Rome"})]


@pytest.mark.parametrize("order", ["in turn", "interleaved", "all at the end", "ends swapped"])
@pytest.mark.parametrize(
    ("index", "names"),
    [
        *itertools.product(["none", "one for all", "right"], ["call_id alone", "id and call_id"]),
        ("right", "one id for all"),
    ],
)
def test_two_calls_stay_two(order: str, index: str, names: str) -> None:
    at = {"none": (None, None), "one for all": (0, 0), "right": (0, 1)}[index]
    if names == "one id for all":
        ids: list[dict[str, str]] = [{"id": "fake", "call_id": "c1"}, {"id": "fake", "call_id": "c2"}]
        pieces = ["fake", "fake"]
    elif names == "call_id alone":
        ids, pieces = [{"call_id": "c1"}, {"call_id": "c2"}], ["c1", "c2"]
    else:
        ids = [{"id": "fc_1", "call_id": "c1"}, {"id": "fc_2", "call_id": "c2"}]
        pieces = ["fc_1", "fc_2"]
    begin = [added(at[0], **call("weather", **ids[0])), added(at[1], **call("delete", **ids[1]))]
    first = [arguments(part, at[0], pieces[0]) for part in (PARIS[:4], PARIS[4:])]
    second = [arguments(part, at[1], pieces[1]) for part in (ROME[:4], ROME[4:])]
    end = [done(at[0], **call("weather", PARIS, **ids[0])), done(at[1], **call("delete", ROME, **ids[1]))]
    events = {
        "in turn": [begin[0], *first, end[0], begin[1], *second, end[1]],
        "interleaved": [*begin, first[0], second[0], first[1], second[1], *end],
        "all at the end": [begin[0], *first, begin[1], *second, *end],
        "ends swapped": [*begin, *first, *second, end[1], end[0]],
    }[order]
    output = [call("weather", PARIS, **ids[0]), call("delete", ROME, **ids[1])]
    assert calls_in(blocks_of(*events, output=output)) == BOTH
    assert calls_in(blocks_of(*events)) == BOTH


def test_pieces_before_their_item_are_of_it() -> None:
    events = [
        arguments(PARIS[:5], 0, "fc_1"),
        added(0, **call("weather", id="fc_1", call_id="c1")),
        arguments(PARIS[5:], 0, "fc_1"),
    ]
    assert (
        calls_in(blocks_of(*events, done(0, **call("weather", PARIS, id="fc_1", call_id="c1")))) == BOTH[:1]
    )
    without_index = [
        {key: value for key, value in event.items() if key != "output_index"} for event in events
    ]
    assert calls_in(blocks_of(*without_index)) == BOTH[:1]
    said = [
        words("He", 0, "msg_1"),
        added(0, **message(id="msg_1", phase="commentary")),
        words("llo", 0, "msg_1"),
    ]
    (block,) = blocks_of(*said, done(0, **message("Hello", id="msg_1", phase="commentary")))
    assert block.text_content == "Hello"
    assert (block.content or {})["provider_metadata"]["responses"]["phase"] == "commentary"


def test_an_item_that_ends_without_having_begun_is_whole() -> None:
    for index in (None, 0):
        events = [
            done(index, **call("weather", PARIS, call_id="c1")),
            done(index, **call("delete", ROME, call_id="c2")),
        ]
        assert calls_in(blocks_of(*events)) == BOTH
    assert texts_in(
        blocks_of(done(None, **message("One.", id="a")), done(None, **message("Two.", id="b")))
    ) == ["One.", "Two."]


@pytest.mark.parametrize("again", [0, 1, None])
@pytest.mark.parametrize("streams_again", [False, True])
def test_an_ended_item_that_is_announced_again_is_a_repetition(
    again: int | None, streams_again: bool
) -> None:
    first = [
        added(0, **message(id="msg_1")),
        words("Hel", 0, "msg_1"),
        words("lo", 0, "msg_1"),
        done(0, **message("Hello", id="msg_1")),
    ]
    repeated = [
        added(again, **message(id="msg_1")),
        *([words("Hello", again, "msg_1")] if streams_again else []),
        done(again, **message("Hello", id="msg_1")),
    ]
    tool = [
        added(1, **call("weather", PARIS, id="fc_1", call_id="c1")),
        done(1, **call("weather", PARIS, id="fc_1", call_id="c1")),
    ]
    output = [message("Hello", id="msg_1"), call("weather", PARIS, id="fc_1", call_id="c1")]
    blocks = blocks_of(*first, *repeated, *tool, *tool, output=output)
    assert texts_in(blocks) == ["Hello"]
    assert calls_in(blocks) == BOTH[:1]
    events = WIRE.decoder().feed(frames(*first, *repeated))
    assert [type(event) for event in events if isinstance(event, StreamNotice)] == [StreamNotice]


@pytest.mark.parametrize("ended", [True, False])
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("index", [0, None])
def test_a_message_at_the_index_of_reasoning_is_shown_as_it_comes(
    ended: bool, announced: bool, index: int | None
) -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Think."}]}
    events = [added(index, type="reasoning", id="rs_1", summary=None), thought("Think.", index, "rs_1")]
    events += [done(index, **reasoning)] if ended else []
    events += [added(index, **message(id="msg_1"))] if announced else []
    events += [words("Hi", index, "msg_1"), words(".", index, "msg_1")]
    early = WIRE.decoder().feed(frames(*events))
    place = next(n for n, event in enumerate(early) if isinstance(event, TextDelta))
    assert ContentBlockStop(0) in early[:place], "the text is not behind thinking that is still open"
    ends = [*([] if ended else [done(index, **reasoning)]), done(index, **message("Hi.", id="msg_1"))]
    blocks = blocks_of(*events, *ends, output=[reasoning, message("Hi.", id="msg_1")])
    assert [(block.block_type, block.text_content) for block in blocks] == [
        ("thinking", "Think."),
        ("text", "Hi."),
    ]


def test_thinking_that_goes_on_beside_a_message_is_not_lost() -> None:
    events = [
        added(None, type="reasoning", id="rs_1", summary=[]), thought("A", None, "rs_1"), added(None, **message(id="msg_1")),
        words("x", None, "msg_1"), thought("B", None, "rs_1"), words("y", None, "msg_1"),
        done(None, type="reasoning", id="rs_1", summary=[{"type": "summary_text", "text": "AB"}]),
    ]  # fmt: skip
    blocks = blocks_of(*events, done(None, **message("xy", id="msg_1")))
    assert "".join(text or "" for text in texts_in(blocks, "thinking")) == "AB"
    assert "".join(text or "" for text in texts_in(blocks)) == "xy"


def test_what_a_paused_item_says_only_at_its_end_still_comes() -> None:
    begin = [added(None, **message(id="msg_1")), words("Let me ", None, "msg_1")]
    tool = [
        added(None, **call("weather", call_id="c1")),
        arguments(PARIS, None, "c1"),
        done(None, **call("weather", PARIS, call_id="c1")),
    ]
    blocks = blocks_of(*begin, *tool, done(None, **message("Let me look.", id="msg_1")))
    assert texts_in(blocks) == ["Let me ", "look."]
    assert calls_in(blocks) == BOTH[:1]


@pytest.mark.parametrize("index", [0, 3])
@pytest.mark.parametrize("is_announced", [True, False])
def test_ids_that_change_with_each_event_tell_nothing(index: int, is_announced: bool) -> None:
    events = [
        *([added(index, **message(id="a"))] if is_announced else []),
        {"type": "response.content_part.added", "item_id": "b", "output_index": index, "content_index": 0, "part": {"type": "output_text", "text": ""}},
        words("Hel", index, "c"), words("lo", index, "d"),
        {"type": "response.output_text.done", "item_id": "e", "output_index": index, "content_index": 0, "text": "Hello"},
        {"type": "response.content_part.done", "item_id": "f", "output_index": index, "content_index": 0, "part": {"type": "output_text", "text": "Hello"}},
        done(index, **message("Hello", id="g")),
    ]  # fmt: skip
    late = {
        "type": "response.output_text.done",
        "item_id": "h",
        "output_index": index,
        "content_index": 0,
        "text": "Hello",
    }
    assert texts_in(blocks_of(*events, late, output=[message("Hello", id="i")])) == ["Hello"]
    tools = [
        added(index, **call("weather", id="a", call_id="c1")), arguments(PARIS[:3], index, "b"), arguments(PARIS[3:], index, "c"),
        done(index, **call("weather", PARIS, id="d", call_id="c1")), added(index + 1, **call("delete", id="e", call_id="c2")),
        arguments(ROME, index + 1, "f"), done(index + 1, **call("delete", ROME, id="g", call_id="c2")),
    ]  # fmt: skip
    output = [call("weather", PARIS, id="h", call_id="c1"), call("delete", ROME, id="i", call_id="c2")]
    assert calls_in(blocks_of(*tools, output=output)) == BOTH


def test_one_made_up_id_for_all_items_of_a_response() -> None:
    fake = "__made_up__"
    events = [
        added(0, type="reasoning", id=fake, summary=[]), thought("Think.", 0, fake),
        done(0, type="reasoning", id=fake, summary=[{"type": "summary_text", "text": "Think."}]),
        added(1, **message(id=fake)), words("Hi.", 1, fake), done(1, **message("Hi.", id=fake)),
        added(2, **call("weather", id=fake, call_id="c1")), arguments(PARIS[:3], 2, fake),
        added(3, **call("delete", id=fake, call_id="c2")), arguments(ROME, 3, fake), arguments(PARIS[3:], 2, fake),
        done(2, **call("weather", PARIS, id=fake, call_id="c1")), done(3, **call("delete", ROME, id=fake, call_id="c2")),
    ]  # fmt: skip
    blocks = blocks_of(*events)
    assert (texts_in(blocks, "thinking"), texts_in(blocks), calls_in(blocks)) == (["Think."], ["Hi."], BOTH)


def test_calls_with_other_names_are_never_one_nor_share_an_id() -> None:
    for index in (None, 0):
        events = [
            added(index, **call("weather", call_id="c1")), arguments(PARIS, index, "c1"), done(index, **call("weather", PARIS, call_id="c1")),
            done(index, **call("delete", ROME, call_id="c1")),
        ]  # fmt: skip
        (first, second) = calls_in(blocks_of(*events))
        assert (first, second[1:]) == (BOTH[0], ("delete", {"city": "Rome"}))
        assert second[0] not in ("", "c1")


def test_items_without_any_id_are_told_by_their_type() -> None:
    events = [
        added(None, type="reasoning", summary=[]), thought("Think."), added(None, **message()), words("Hi "), words("there."),
        added(None, **call("weather")), arguments(PARIS), added(None, **call("delete")), arguments(ROME),
        done(None, type="reasoning", summary=[{"type": "summary_text", "text": "Think."}]), done(None, **message("Hi there.")),
        done(None, **call("weather", PARIS)), done(None, **call("delete", ROME)),
    ]  # fmt: skip
    blocks = blocks_of(*events, output=[event["item"] for event in events[-4:]])
    assert [block.block_type for block in blocks] == ["thinking", "text", "tool_use", "tool_use"]
    assert [entry[1:] for entry in calls_in(blocks)] == [entry[1:] for entry in BOTH]
    assert len({entry[0] for entry in calls_in(blocks)}) == 2


def test_a_response_of_one_id_that_says_more_at_its_end_loses_nothing() -> None:
    events = [
        added(0, **message(id="m")),
        words("One.", 0, "m"),
        done(0, **message("One.", id="m")),
        done(1, **message("Two.", id="m")),
    ]
    assert texts_in(blocks_of(*events, output=[message("One.", id="m"), message("Two.", id="m")])) == [
        "One.",
        "Two.",
    ]


def test_items_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_responses_matching, "MAX_ITEMS", 3)
    decoder = WIRE.decoder()
    decoder.feed(frames(*(added(n, **message(id=f"m{n}")) for n in range(3))))
    with pytest.raises(StreamBroken, match="output items") as raised:
        decoder.feed(frames(added(3, **message(id="m3"))))
    assert raised.value.code == "answer_too_large"
