"""Choices of chat.completions: several answers, or one whose index counts."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from tests.wires.openai_chat.chunks import FINISH, blocks, body, call, chunk, decode, frame
from tests.wires.openai_chat.test_openai_chat_decoder import WIRE
from turnstream.core.stream_events import MessageStop, StreamEvent, StreamNotice, TextDelta
from turnstream.errors import MalformedEvent
from turnstream.wires.openai_chat.choices import MOST_BEFORE_FIRST, MOST_HELD
from turnstream.wires.recording import decode_pieces


def say(text: str, index: int, finish: Any = None, **fields: Any) -> dict[str, Any]:
    return chunk({"content": text}, finish, index=index, **fields)


def several(*choices: tuple[int, str]) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": n, "delta": {"content": text}} for n, text in choices]}


def shown(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def notice(events: list[StreamEvent]) -> str:
    return "".join(event.message for event in events if isinstance(event, StreamNotice))


ONE_ANSWER: dict[str, list[dict[str, Any]]] = {
    "grows with each chunk": [say(text, n) for n, text in enumerate("abcdef")],
    "grows, and the last chunk finishes": [say("abcde", 0), say("f", 1, "stop")],
    "grows from 1": [say(text, n) for n, text in enumerate("abcdef", 1)],
    "grows from 1, three chunks": [say("ab", 1), say("cd", 2), say("ef", 3)],
    "counts the parts of the answer": [say("ab", 0), say("cd", 0), say("e", 1), say("f", 1)],
    "grows with ids that differ": [say(text, n, id=f"c{n}") for n, text in enumerate("abcdef")],
    "is another one throughout": [say(text, 3) for text in "abcdef"],
    "is another one throughout, for long": [say("", 1), *[say("", 1)] * MOST_BEFORE_FIRST, say("abcdef", 1)],
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("case", ONE_ANSWER)
def test_an_index_that_is_no_choice_loses_nothing(case: str) -> None:
    events = ONE_ANSWER[case]
    finish = chunk({}, "stop", index=events[-1]["choices"][0]["index"])
    decoded = decode(*events, *([] if events[-1]["choices"][0]["finish_reason"] else [finish]))
    assert (shown(decoded), notice(decoded)) == ("abcdef", "")
    assert decoded[-1] == MessageStop("end_turn", "stop")
    whole = decode_pieces(WIRE, [body(*events, finish)])
    assert [block["block_type"] for block in whole["blocks"]] == ["text"]
    single = [body(*events, finish)[n : n + 1] for n in range(len(body(*events, finish)))]
    assert decode_pieces(WIRE, single)["blocks"] == whole["blocks"]


@pytest.mark.fault(18)
def test_an_index_that_grows_streams_after_a_few_chunks() -> None:
    decoder = WIRE.decoder()
    texts = [shown(decoder.feed(frame(say(str(n), n)))) for n in range(8)]
    assert texts == ["0", "", "", "123", "4", "5", "6", "7"]


@pytest.mark.fault(18)
def test_a_body_without_an_end_mark_gives_what_was_held() -> None:
    decoder = WIRE.decoder()
    events = decoder.feed(body(say("a", 0), say("b", 1, "stop"), done=False)) + decoder.close()
    assert shown(events) == "ab"


SEVERAL_ANSWERS: dict[str, list[dict[str, Any]]] = {
    "in one chunk": [several((0, "ab"), (1, "x")), several((0, "c"), (1, "y"))],
    "in one chunk, the second first": [several((1, "x"), (0, "ab")), several((1, "y"), (0, "c"))],
    "in turn": [say("ab", 0), say("x", 1), say("c", 0), say("y", 1)],
    "in turn, the second first": [say("x", 1), say("ab", 0), say("y", 1), say("c", 0)],
    "in turn, long runs": [say("x", 1), say("y", 1), say("ab", 0), say("y", 1), say("z", 1), say("c", 0)],
    "one behind the other": [say("ab", 0), say("c", 0, "stop"), say("x", 1), say("y", 1, "stop")],
    "roles first": [
        *[chunk({"role": "assistant", "content": ""}, index=n) for n in range(6)],
        say("abc", 0),
        *[say("x", n) for n in range(1, 6)],
    ],
    "with ids that differ": [say("ab", 0, id="c0"), say("x", 1, id="c1"), say("c", 0, id="c0")],
}


@pytest.mark.fault(18)
@pytest.mark.parametrize("case", SEVERAL_ANSWERS)
def test_of_several_answers_the_first_is_decoded(case: str) -> None:
    decoded = decode(*SEVERAL_ANSWERS[case], FINISH)
    assert shown(decoded) == "abc"
    assert notice(decoded).startswith("choice 0 was decoded; not: 1")


@pytest.mark.fault(18)
def test_two_answers_are_never_spliced() -> None:
    """Four answers without roles look like one numbered answer, until the first comes again."""
    decoder = WIRE.decoder()
    decoder.feed(b"".join(frame(say("x", n)) for n in range(4)))
    with pytest.raises(MalformedEvent):
        decoder.feed(frame(say("x", 0)))


@pytest.mark.fault(18)
def test_what_is_held_has_a_bound() -> None:
    decoder = WIRE.decoder()
    events = [decoder.feed(frame(say("x", n))) for n in itertools.repeat(0, 2)]
    held = [decoder.feed(frame(say("y", 1))) for _ in range(MOST_HELD)]
    assert shown(events[0]) + shown(events[1]) == "xx"
    assert not any(shown(found) for found in held[:-1])
    assert shown(held[-1]) == "y" * MOST_HELD


@pytest.mark.fault(18)
def test_calls_and_reasoning_under_an_index_that_grows() -> None:
    events = (
        chunk({"reasoning_content": "hm"}, index=0),
        chunk({"tool_calls": [call(0, "a", "f", "{")]}, index=1),
        chunk({"tool_calls": [call(0, None, None, "}")]}, "tool_calls", index=2),
    )
    assert blocks(*events) == [("thinking", "hm"), ("f", "a", "{}")]


# --- the shape of completions
# ---------------------------------------------------------------------------------


@pytest.mark.fault(18)
@pytest.mark.parametrize("delta", [{}, {"delta": None}, {"delta": {}}, {"delta": {"role": "assistant"}}])
def test_text_chunks(delta: dict[str, Any]) -> None:
    events = [
        {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": text, **delta}]}
        for text in ("Hel", "lo", ", you", "")
    ]
    last = {"id": "c", "choices": [{"index": 0, "text": "!", **delta, "finish_reason": "stop"}]}
    assert blocks(*events, last) == [("text", "Hello, you!")]


@pytest.mark.fault(18, 19)
@pytest.mark.parametrize("pieces", [["Hel", "lo", "!"], ["Hel", "Hello", "Hello!"], ["Hello!", "Hello!"]])
@pytest.mark.parametrize("field", ["content", "reasoning_content"])
def test_messages_in_place_of_deltas(pieces: list[str], field: str) -> None:
    events = [
        {"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", field: piece}}]}
        for piece in pieces
    ]
    kind = "text" if field == "content" else "thinking"
    assert blocks(*events, FINISH) == [(kind, "Hello!")]


@pytest.mark.fault(18)
def test_a_call_in_each_message_is_one_call() -> None:
    message = {"content": "so", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    events = [{"id": "c", "choices": [{"index": 0, "message": message}]} for _ in range(3)]
    assert blocks(*events, FINISH) == [("text", "so"), ("f", "a", "{}")]


@pytest.mark.fault(18)
def test_a_delta_that_is_its_text() -> None:
    events = [{"id": "c", "choices": [{"index": 0, "delta": text}]} for text in ("Hel", "lo")]
    assert blocks(*events, FINISH) == [("text", "Hello")]


@pytest.mark.fault(18)
def test_text_beside_a_delta_that_says_it_too() -> None:
    both = {"id": "c", "choices": [{"index": 0, "text": "a", "delta": {"content": "a"}}]}
    special = {"id": "c", "choices": [{"index": 0, "text": "<|eot|>", "delta": {"content": ""}}]}
    assert blocks(both, special, FINISH) == [("text", "a")]


@pytest.mark.fault(18)
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_plain_answer_with_several_choices(order: tuple[int, int]) -> None:
    texts = {0: "ours", 1: "other"}
    answer = {
        "id": "c",
        "model": "m",
        "choices": [
            {"index": n, "message": {"role": "assistant", "content": texts[n]}, "finish_reason": "stop"}
            for n in order
        ],
    }
    assert shown(WIRE.decode_answer(json.dumps(answer).encode())) == "ours"


@pytest.mark.fault(18)
def test_a_plain_completion_is_its_text() -> None:
    answer = {"id": "c", "model": "m", "choices": [{"index": 0, "text": "hi", "finish_reason": "stop"}]}
    assert shown(WIRE.decode_answer(json.dumps(answer).encode())) == "hi"
