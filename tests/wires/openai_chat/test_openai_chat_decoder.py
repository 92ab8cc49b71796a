"""chat.completions from bytes to events: what vendors do beyond what the recordings show."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    Metadata,
    SignatureDelta,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import EventTooLarge, MalformedEvent, ProviderError, StreamIncomplete
from turnstream.wires.openai_chat.decoder import _TEMPLATE_TRIES, OpenAIChatDecoder
from turnstream.wires.openai_chat.wire import WIRE
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.lenient_json import EVENT_NESTING_LIMIT

DONE = b"data: [DONE]\n\n"
START = MessageStart("c", "m")


def frame(event: Any, name: str | None = None) -> bytes:
    data = event if isinstance(event, bytes) else json.dumps(event).encode()
    return (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + data + b"\n\n"


def chunk(delta: Any = None, finish: Any = None, *, index: Any = 0, **fields: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": {} if delta is None else delta, "finish_reason": finish}
    return {"id": "c", "model": "m", "choices": [choice], **fields}


def text(value: str) -> dict[str, Any]:
    return chunk({"content": value})


def call(
    index: int | None = 0, identity: Any = None, name: Any = None, arguments: Any = None
) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    position = {} if index is None else {"index": index}
    return {**position, **({} if identity is None else {"id": identity}), "function": function}


def calls(*fragments: dict[str, Any]) -> dict[str, Any]:
    return chunk({"tool_calls": list(fragments)})


def body(*events: Any, done: bool = True) -> bytes:
    frames = [event if isinstance(event, bytes) and b"data:" in event else frame(event) for event in events]
    return b"".join(frames) + (DONE if done else b"")


def decode(*events: Any, on_malformed: Literal["fail", "skip"] = "fail") -> list[StreamEvent]:
    """The events of whole messages, their first and last left out where those are the usual ones."""
    decoder = WIRE.decoder(on_malformed=on_malformed)
    decoded = [*decoder.feed(body(*events)), *decoder.close()]
    if decoded and decoded[0] == START:
        decoded.pop(0)
    return decoded


def blocks(*events: Any) -> list[tuple[Any, ...]]:
    """The blocks of a message: type and text, or a tool call's name, id and arguments."""
    folded = decode_pieces(WIRE, [body(*events)])
    assert folded["complete"], folded["error"]
    return [
        (content["tool_name"], content["tool_use_id"], content["input_json"])
        if block["block_type"] == "tool_use" and (content := block["content"])
        else (block["block_type"], block["text_content"])
        for block in folded["blocks"]
    ]


FINISH = chunk(finish="stop")
END = MessageStop("end_turn", "stop")


@pytest.mark.requirement("E1", "E2")
def test_a_plain_answer() -> None:
    events = decode(chunk({"role": "assistant", "content": ""}), text("Hel"), text("lo"), FINISH)
    assert events == [
        ContentBlockStart(0, "text"),
        TextDelta(0, "Hel"),
        TextDelta(0, "lo"),
        ContentBlockStop(0),
        END,
    ]


@pytest.mark.requirement("B1")
def test_a_block_ends_where_the_kind_changes() -> None:
    events = (
        chunk({"reasoning_content": "a"}),
        chunk({"reasoning": "b", "content": "c"}),
        chunk({"reasoning_text": "d"}),
        chunk({"content": "e", "tool_calls": [call(0, "i", "f", "{}")]}),
        text("g"),
        FINISH,
    )
    expected = [
        ("thinking", "ab"),
        ("text", "c"),
        ("thinking", "d"),
        ("text", "e"),
        ("f", "i", "{}"),
        ("text", "g"),
    ]
    assert blocks(*events) == expected


@pytest.mark.requirement("B1")
def test_a_second_message_in_one_body_begins_new_blocks() -> None:
    second = chunk({"content": "b"}, id="d")
    assert blocks(text("a"), FINISH, second, chunk(finish="stop", id="d")) == [("text", "a"), ("text", "b")]
    assert blocks(text("a"), FINISH, text("b")) == [("text", "ab")], "late, but of the same message"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_text", "thinking"])
def test_reasoning_by_any_name(name: str) -> None:
    assert blocks(chunk({name: "a"}), chunk({name: "b", "content": ""}), FINISH) == [("thinking", "ab")]


def test_reasoning_under_two_names_is_one() -> None:
    both = chunk({"reasoning": "a", "reasoning_content": "a"})
    assert blocks(both, FINISH) == [("thinking", "a")]


# --- tool calls ---------------------------------------------------------------------------------------------


@pytest.mark.requirement("B1", "B5")
def test_a_call_is_stopped_as_soon_as_another_begins() -> None:
    events = decode(
        calls(call(0, "a", "f", "")), calls(call(0, None, None, "{}")), calls(call(1, "b", "g", "{"))
    )
    assert events[:5] == [
        ContentBlockStart(0, "tool_use", {"tool_use_id": "a", "tool_name": "f"}),
        ToolInputDelta(0, "{}"),
        ContentBlockStop(0),
        ContentBlockStart(1, "tool_use", {"tool_use_id": "b", "tool_name": "g"}),
        ToolInputDelta(1, "{"),
    ]


@pytest.mark.requirement("B5")
def test_interleaved_calls_stay_apart() -> None:
    events = (
        calls(call(0, "a", "f", '{"x":'), call(1, "b", "g", '{"y"')),
        calls(call(1, None, None, ":2}"), call(0, None, None, "1}")),
        chunk(finish="tool_calls"),
    )
    assert blocks(*events) == [("f", "a", '{"x":1}'), ("g", "b", '{"y":2}')]


TOOL_CASES: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str, str]]]] = {
    "the first index is not 0": ([call(1, "a", "f", "{}")], [("f", "a", "{}")]),
    "a new id at an old index": (
        [call(0, "a", "f", "{}"), call(0, "b", "g", "{}")],
        [("f", "a", "{}"), ("g", "b", "{}")],
    ),
    "empty id and name in what follows": (
        [call(0, "a", "f", "{"), {"index": 0, "id": "", "function": {"name": "", "arguments": "}"}}],
        [("f", "a", "{}")],
    ),
    "null id, name and arguments": (
        [
            {"index": 0, "id": "a", "function": {"name": "f", "arguments": None}},
            {"index": 0, "id": None, "type": None, "function": {"name": None, "arguments": "{}"}},
        ],
        [("f", "a", "{}")],
    ),
    "id and name repeated": (
        [call(0, "a", "f", "{"), call(0, "a", "f", "}"), call(0, "a", "f", "")],
        [("f", "a", "{}")],
    ),
    "no index, but ids": (
        [
            call(None, "a", "f", "{"),
            call(None, "b", "g", "{"),
            call(None, "a", None, "}"),
            call(None, "b", None, "}"),
        ],
        [("f", "a", "{}"), ("g", "b", "{}")],
    ),
    "neither index nor id in what follows": (
        [call(None, "a", "f", "{"), call(None, None, None, "}")],
        [("f", "a", "{}")],
    ),
    "the id comes late": ([call(0, None, "f", "{"), call(0, "a", None, "}")], [("f", "a", "{}")]),
    "the name comes late": ([call(0, "a"), call(0, None, "f", "{}")], [("f", "a", "{}")]),
    "the name comes in pieces": (
        [call(0, "a", "get_"), call(0, None, "time", ""), call(0, None, None, "{}")],
        [("get_time", "a", "{}")],
    ),
    "arguments as an object": ([call(0, "a", "f", {"x": 1})], [("f", "a", '{"x":1}')]),
    "an id that is a number": (
        [{"index": 0, "id": 7, "function": {"name": "f", "arguments": "{}"}}],
        [("f", "7", "{}")],
    ),
    "an id that says null": ([call(0, "a", "f", "{"), call(0, "null", None, "}")], [("f", "a", "{}")]),
    "no arguments at all": ([call(0, "a", "f"), call(1, "b", "g")], [("f", "a", ""), ("g", "b", "")]),
    "arguments that never become whole": (
        [call(0, "a", "f", '{"x":'), call(1, "b", "g", "{}")],
        [("f", "a", '{"x":'), ("g", "b", "{}")],
    ),
    "a custom tool's free text": (
        [{"index": 0, "id": "a", "type": "custom", "custom": {"name": "f", "input": "SELECT 1"}}],
        [("f", "a", "SELECT 1")],
    ),
}


@pytest.mark.requirement("E1")
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "in one chunk"])
@pytest.mark.parametrize("case", TOOL_CASES)
def test_tool_calls_however_they_are_numbered(case: str, together: bool) -> None:
    fragments, expected = TOOL_CASES[case]
    chunks = [calls(*fragments)] if together else [calls(fragment) for fragment in fragments]
    assert blocks(*chunks, chunk(finish="tool_calls")) == expected


def test_calls_without_any_id_get_one_that_is_stable_and_unique() -> None:
    events = (calls(call(0, "", "f", "{}"), call(0, "", "f", "{}")), chunk(finish="tool_calls"))
    (_, first, _), (_, second, _) = found = blocks(*events)
    assert first.startswith("call_")
    assert first != second
    assert len(first) <= 40
    assert found == blocks(*events)


def test_a_legacy_function_call() -> None:
    first = chunk({"function_call": {"name": "f", "arguments": ""}})
    rest = [chunk({"function_call": {"arguments": part}}) for part in ("{", "}")]
    events = decode(first, *rest, chunk(finish="function_call"))
    assert events[-1] == MessageStop("tool_use", "function_call")
    assert [event for event in events if isinstance(event, ToolInputDelta)] == [
        ToolInputDelta(0, "{"),
        ToolInputDelta(0, "}"),
    ]
    assert isinstance(events[0], ContentBlockStart)
    assert events[0].block_type == "tool_use"


def test_a_null_or_empty_function_call_is_none() -> None:
    assert blocks(chunk({"content": "a", "function_call": None}), chunk({"function_call": {}}), FINISH) == [
        ("text", "a")
    ]


@pytest.mark.requirement("B4")
def test_arguments_after_a_call_has_ended_are_never_lost_in_silence() -> None:
    events = [calls(call(0, "a", "f", "{}")), text("x"), calls(call(0, None, None, ' {"y":1}'))]
    decoder = WIRE.decoder()
    decoder.feed(body(*events))
    with pytest.raises(MalformedEvent):
        decoder.close()
    assert any(isinstance(event, StreamNotice) for event in decode(*events, on_malformed="skip"))
    assert blocks(*events[:2], calls(call(0, None, None, "\n")), FINISH) == [("f", "a", "{}"), ("text", "x")]


@pytest.mark.requirement("E3")
def test_a_forced_tool_call_ends_as_tool_use() -> None:
    assert decode(calls(call(0, "a", "f", "{}")), FINISH)[-1] == MessageStop("tool_use", "stop")
    assert decode(calls(call(0, "a", "f", "{")), chunk(finish="length"))[-1] == MessageStop(
        "max_tokens", "length"
    )


# --- reasoning_details --------------------------------------------------------------------------------------


def detail(kind: str = "text", **fields: Any) -> dict[str, Any]:
    return {"type": f"reasoning.{kind}", "format": "anthropic-claude-v1", "index": 0, **fields}


def details_of(block: dict[str, Any]) -> Any:
    return block["content"]["provider_metadata"]["reasoning_details"]


def fold(*events: Any) -> list[dict[str, Any]]:
    folded = decode_pieces(WIRE, [body(*events)])
    assert folded["complete"], folded["error"]
    return folded["blocks"]


@pytest.mark.requirement("B3", "B5", "E1")
def test_reasoning_details_are_kept_whole_and_not_shown_twice() -> None:
    thinking, answer = fold(
        chunk({"reasoning": None, "reasoning_details": [detail(text="", signature="")]}),
        chunk({"reasoning": "Let", "reasoning_details": [detail(text="Let")]}),
        chunk({"reasoning": " me", "reasoning_details": [detail(text=" me")]}),
        chunk({"content": "", "reasoning_details": [detail(signature="SIG")]}),
        chunk({"content": "ok", "reasoning_details": []}),
        FINISH,
    )
    assert thinking["text_content"] == "Let me"
    assert thinking["content"]["signature"] == "SIG"
    assert details_of(thinking) == [detail(text="Let me", signature="SIG")]
    assert answer["text_content"] == "ok"


def test_reasoning_details_alone_are_shown() -> None:
    (thinking,) = fold(
        chunk({"reasoning_details": [detail("summary", summary="a", format="openai-responses-v1")]}),
        chunk({"reasoning_details": [detail("summary", summary="b", format="openai-responses-v1")]}),
        chunk({"reasoning_details": [detail("encrypted", data="D", format="openai-responses-v1", id="rs")]}),
        FINISH,
    )
    assert thinking["text_content"] == "ab"
    assert "signature" not in thinking["content"]
    assert [item.get("summary") or item.get("data") for item in details_of(thinking)] == ["ab", "D"]


def test_thoughts_of_another_index_are_another_block() -> None:
    events = [
        chunk({"reasoning_details": [detail(text=value, index=index)]})
        for index, value in ((0, "a"), (0, "b"), (1, "c"))
    ]
    assert [(block["text_content"], details_of(block)[0]["index"]) for block in fold(*events, FINISH)] == [
        ("ab", 0),
        ("c", 1),
    ]


def test_details_that_come_late_get_a_block_of_their_own() -> None:
    answer, thinking, tool = fold(
        text("hm"),
        chunk({"content": "m", "reasoning_details": [detail("encrypted", data="D")]}),
        calls(call(0, "a", "f", "{}")),
        chunk(finish="tool_calls"),
    )
    assert (answer["text_content"], thinking["text_content"], tool["block_type"]) == ("hmm", "", "tool_use")
    assert details_of(thinking) == [detail("encrypted", data="D")]
    first, second = fold(
        calls(call(0, "a", "f", "{}")), chunk({"reasoning_details": [detail("encrypted", data="D")]}), FINISH
    )
    assert (first["block_type"], second["block_type"]) == ("tool_use", "thinking")


def test_a_signature_of_another_vendor_is_no_signature_of_the_block() -> None:
    events = decode(
        chunk({"reasoning_details": [detail(text="a", signature="S", format="google-gemini-v1")]}), FINISH
    )
    assert not any(isinstance(event, SignatureDelta) for event in events)
    assert any(isinstance(event, ContentDelta) for event in events)


def test_long_reasoning_with_details_is_linear() -> None:
    events = [chunk({"reasoning": "x" * 50, "reasoning_details": [detail(text="x" * 50)]})] * 3000
    (thinking,) = fold(*events, FINISH)
    assert len(details_of(thinking)) == 1
    assert len(details_of(thinking)[0]["text"]) == 150_000


# --- content in other shapes --------------------------------------------------------------------------------


@pytest.mark.requirement("E1", "B3")
def test_content_as_a_list_of_parts() -> None:
    found = fold(
        chunk(
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "a"}], "closed": True}]}
        ),
        chunk({"content": [{"type": "thinking", "thinking": "b"}, {"type": "text", "text": "c"}, "d"]}),
        chunk({"content": [{"type": "reference", "reference_ids": [1]}]}),
        chunk({"content": {"type": "text", "text": "e"}}),
        chunk({"content": [{"type": "tool_reference", "tool": "web_search"}]}),
        FINISH,
    )
    assert [(block["block_type"], block["text_content"]) for block in found] == [
        ("thinking", "ab"),
        ("text", "cde"),
        ("provider", None),
    ]
    assert found[1]["content"]["citations"] == [{"type": "reference", "reference_ids": [1]}]
    assert found[2]["content"] == {"content": [{"type": "tool_reference", "tool": "web_search"}]}


@pytest.mark.requirement("E3")
def test_a_refusal_is_text_that_says_so() -> None:
    decoded = decode_pieces(
        WIRE, [body(chunk({"refusal": "I "}), chunk({"refusal": "won't", "content": None}), FINISH)]
    )
    assert decoded["stop_reason"] == "refusal"
    assert decoded["raw_stop_reason"] == "stop"
    (block,) = decoded["blocks"]
    assert (block["block_type"], block["text_content"]) == ("text", "I won't")
    assert block["content"] == {"provider_metadata": {"refusal": True}}


def test_annotations_belong_to_the_text() -> None:
    first, second = (
        {"type": "url_citation", "url_citation": {"url": "u"}},
        {"type": "url_citation", "url_citation": {"url": "v"}},
    )
    (block,) = fold(
        text("a"),
        chunk({"content": "", "annotations": [first]}),
        chunk({"content": "b", "annotations": [first, second]}),
        FINISH,
    )
    assert block["text_content"] == "ab"
    assert block["content"]["citations"] == [first, second]


def test_citations_before_the_text_wait_for_it() -> None:
    early = chunk({"role": "assistant", "content": ""}, citations=["u", "v"])
    (block,) = fold(early, chunk({"content": "a"}, citations=["u", "v"]), FINISH)
    assert block["content"]["citations"] == [{"url": "u"}, {"url": "v"}]
    (alone,) = fold(early, FINISH)
    assert (alone["block_type"], alone["content"]) == (
        "provider",
        {"citations": [{"url": "u"}, {"url": "v"}]},
    )


def test_search_results_say_more_than_citations() -> None:
    result = {"title": "T", "url": "u", "date": None}
    (block,) = fold(chunk({"content": "a"}, citations=["u"], search_results=[result]), FINISH)
    assert block["content"]["citations"] == [result]
    (block,) = fold(chunk({"content": "a"}, citations=["u"], search_results=[]), FINISH)
    assert block["content"]["citations"] == [{"url": "u"}]
    (block,) = fold(chunk({"content": "a"}, citations=None, search_results=None), FINISH)
    assert block["content"] is None


def test_images_become_blocks_and_what_nobody_knows_stays_raw() -> None:
    found = fold(
        chunk(
            {
                "content": "a",
                "images": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}],
            }
        ),
        chunk(
            {"images": [{"image_url": {"url": "https://e.org/i.png"}}], "audio": {"id": "x", "data": "QQ=="}}
        ),
        chunk({"audio": {"data": "Qg=="}, "images": ["odd"], "graph_data": {"sources": None}}),
        FINISH,
    )
    assert [(block["block_type"], block["content"]) for block in found] == [
        ("text", None),
        ("image", {"media_type": "image/png", "data": "QUJD"}),
        ("image", {"url": "https://e.org/i.png"}),
        ("provider", {"audio": [{"id": "x", "data": "QQ=="}, {"data": "Qg=="}], "images": [["odd"]]}),
    ]


@pytest.mark.requirement("O2")
def test_what_is_kept_raw_has_a_bound() -> None:
    audio = frame(chunk({"audio": {"data": "A" * 400}}))
    for on_malformed in ("fail", "skip"):
        decoder = WIRE.decoder(event_limit=1000, on_malformed=on_malformed)
        decoder.feed(audio * 3)
        with pytest.raises(EventTooLarge):
            decoder.feed(audio)


@pytest.mark.requirement("J3")
def test_a_whole_message_is_decoded_like_a_stream() -> None:
    message = {
        "role": "assistant",
        "content": "hi",
        "reasoning_content": "r",
        "tool_calls": [call(None, "a", "f", "{}")],
    }
    whole = {
        "id": "c",
        "model": "m",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}],
    }
    assert blocks(whole) == [("thinking", "r"), ("text", "hi"), ("f", "a", "{}")]
    repeated = {"id": "c", "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
    assert blocks(text("hi"), repeated) == [("text", "hi")], "a message after its deltas only repeats them"
    assert blocks({"id": "c", "choices": [{"text": "a", "index": 0}]}, FINISH) == [("text", "a")]


def test_the_first_choice_is_decoded_and_the_others_are_named() -> None:
    both = {
        "id": "c",
        "choices": [{"index": 1, "delta": {"content": "x"}}, {"index": 0, "delta": {"content": "a"}}],
    }
    late = {"id": "c", "choices": [{"index": 2, "delta": {"content": "y"}, "finish_reason": "length"}]}
    events = decode(both, late, text("b"), FINISH)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]
    assert [event for event in events if isinstance(event, StreamNotice)] == [
        StreamNotice("other_choices", "choice 0 was decoded; not: 1, 2")
    ]
    assert events[-1] == END


def test_the_one_choice_may_have_another_index() -> None:
    assert blocks(chunk({"content": "a"}, index=3), chunk({"content": "b"}, "stop", index=3)) == [
        ("text", "ab")
    ]


# --- begin, end, usage --------------------------------------------------------------------------------------


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("raw", "ours"),
    [
        ("stop", "end_turn"), ("length", "max_tokens"), ("tool_calls", "tool_use"), ("function_call", "tool_use"),
        ("content_filter", "content_filtered"), ("eos_token", "end_turn"), ("STOP", "end_turn"), ("model_length", "max_tokens"),
        ("sensitive", "content_filtered"), ("stop_sequence", "stop_sequence"), ("wibble", "unknown"),
    ],
)  # fmt: skip
def test_stop_reasons(raw: str, ours: str) -> None:
    assert decode(text("a"), chunk(finish=raw))[-1] == MessageStop(ours, raw)  # type: ignore[arg-type]


@pytest.mark.requirement("E3")
@pytest.mark.parametrize("field", ["stop_reason", "matched_stop"])
def test_a_stop_sequence_that_a_vendor_names(field: str) -> None:
    finish = chunk(finish="stop")
    finish["choices"][0][field] = "END"
    assert decode(text("a"), finish)[-1] == MessageStop("stop_sequence", "stop", "END")
    finish["choices"][0][field] = 128001
    assert decode(text("a"), finish)[-1] == END
    finish["choices"][0][field] = "end_turn"
    assert decode(text("a"), finish)[-1] == END


@pytest.mark.parametrize("empty", [None, "", "null"])
def test_an_empty_finish_reason_is_none(empty: Any) -> None:
    assert decode(chunk({"content": "a"}, empty), FINISH)[-1] == END
    assert decode(chunk({"content": "a"}, empty))[-1] == MessageStop(None, None)


@pytest.mark.requirement("E4", "D6", "P5")
def test_the_end_with_and_without_its_marks() -> None:
    def ends(*events: Any, done: bool) -> Any:
        decoded = decode_pieces(WIRE, [body(*events, done=done)])
        return decoded["complete"], (decoded["error"] or {}).get("code"), decoded["stop_reason"]

    assert ends(text("a"), FINISH, done=True) == (True, None, "end_turn")
    assert ends(text("a"), FINISH, done=False) == (True, None, "end_turn")
    assert ends(text("a"), done=True) == (True, None, None)
    assert ends(text("a"), done=False) == (False, "stream_incomplete", None)
    assert ends(done=True) == (False, "stream_incomplete", None)
    assert ends(done=False) == (False, "stream_incomplete", None)
    assert ends(chunk({"role": "assistant"}), done=True) == (False, "stream_incomplete", None)
    assert ends(chunk(usage={"prompt_tokens": 1}), done=True) == (False, "stream_incomplete", None)
    assert ends(FINISH, done=True) == (True, None, "end_turn")


@pytest.mark.requirement("D6", "P5")
@pytest.mark.parametrize("lost", [1, 10, 30])
def test_a_last_event_cut_in_two_is_incomplete_and_not_malformed(lost: int) -> None:
    whole = body(text("abc"), text("def"), done=False)
    decoder = WIRE.decoder()
    decoder.feed(whole[: -lost - 2])
    with pytest.raises(StreamIncomplete):
        decoder.close()
    decoder = WIRE.decoder()
    decoder.feed(body(text("abc"), FINISH, done=False) + b'data: {"choices":[],"usage":{"prompt')
    assert decoder.close()[-1] == END, "the model's end had come"


def test_a_last_event_without_its_blank_line_counts() -> None:
    decoder = WIRE.decoder()
    decoder.feed(body(text("a"), done=False) + b"data: " + json.dumps(FINISH).encode())
    assert decoder.close() == [ContentBlockStop(0), END]
    assert decoder.close() == []


@pytest.mark.requirement("E8", "I1")
def test_usage_wherever_it_comes() -> None:
    first, second = (
        {"prompt_tokens": 3, "completion_tokens": 1},
        {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    )
    moonshot = chunk({}, "stop")
    moonshot["choices"][0]["usage"] = second
    for events in (
        [chunk({"content": "a"}, usage=first), FINISH, {"id": "c", "choices": [], "usage": second}],
        [chunk({"content": "a"}, usage=first), chunk(finish="stop", usage=second)],
        [text("a"), chunk(finish="stop", x_groq={"id": "r", "usage": second})],
        [text("a"), moonshot],
        [text("a"), FINISH, DONE, {"id": "c", "choices": [], "usage": second}],
    ):
        decoded = decode_pieces(WIRE, [body(*events)])
        assert decoded["raw_usage"] == second
        assert decoded["usage"]["input_tokens"] == 3
        assert decoded["usage"]["output_tokens"] == 2
        assert decoded["complete"]


@pytest.mark.requirement("I1")
def test_usage_details() -> None:
    raw = {
        "prompt_tokens": 100, "completion_tokens": 20.0, "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 7}, "cost": 0.1,
    }  # fmt: skip
    (event,) = [
        event for event in decode(text("a"), chunk(finish="stop", usage=raw)) if isinstance(event, Metadata)
    ]
    assert event == Metadata(Usage(100, 20, 60, 5, 7), raw)
    odd = {
        "prompt_tokens": 10**30,
        "completion_tokens": "many",
        "input_tokens": 4,
        "prompt_cache_hit_tokens": 2,
        "prompt_tokens_details": None,
    }
    (event,) = [
        event for event in decode(text("a"), chunk(finish="stop", usage=odd)) if isinstance(event, Metadata)
    ]
    assert event.usage == Usage(input_tokens=4, cache_read_tokens=2)


def test_equal_usage_reports_are_one_event() -> None:
    usage = {"prompt_tokens": 1}
    events = decode(
        chunk({"content": "a"}, usage=usage),
        chunk({"content": "b"}, usage=usage),
        chunk(finish="stop", usage=usage),
    )
    assert sum(isinstance(event, Metadata) for event in events) == 1


@pytest.mark.requirement("E1")
def test_what_a_vendor_says_beside_the_answer_is_kept() -> None:
    finish = chunk(finish="stop", time_info={"queue_time": 0.1})
    finish["choices"][0]["native_finish_reason"] = "completed"
    events = decode(
        chunk({"content": "a"}, provider="P", service_tier="default", obfuscation="x"),
        chunk({"content": "b"}, provider="P"),
        finish,
    )
    assert [event.provider_metadata for event in events if isinstance(event, Metadata)] == [
        {"provider": "P", "service_tier": "default"},
        {"time_info": {"queue_time": 0.1}, "native_finish_reason": "completed"},
    ]


def test_a_message_starts_once_its_name_is_known() -> None:
    filtered = {"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
    decoder = WIRE.decoder()
    events = decoder.feed(body(filtered, text("a"), FINISH))
    assert [event for event in events if isinstance(event, MessageStart)] == [START]
    nameless = WIRE.decoder().feed(body({"choices": [{"index": 0, "delta": {"content": "a"}}]}))
    assert nameless[0] == MessageStart(None, None)


# --- errors -------------------------------------------------------------------------------------------------

IN_BAND: dict[str, tuple[bytes, str, str]] = {
    "openai": (frame({"error": {"message": "boom", "type": "server_error", "code": None}}), "api_error", "boom"),
    "by name": (frame({"error": {"message": "boom", "type": "invalid_request_error"}}, "error"), "invalid_request_error", "boom"),
    "by name, bare": (frame({"message": "boom", "type": "rate_limit_error"}, "error"), "rate_limit_error", "boom"),
    "by name, text": (frame(b"boom", "error"), "api_error", "boom"),
    "text": (frame({"error": "boom"}), "api_error", "boom"),
    "with a status": (frame({"error": {"message": "boom", "code": 429}}), "rate_limit_error", "boom"),
    "with a status as text": (frame({"error": {"message": "boom", "code": "503"}}), "overloaded_error", "boom"),
    "anthropic": (frame({"type": "error", "error": {"type": "overloaded_error", "message": "boom"}}), "overloaded_error", "boom"),
    "vllm": (frame({"object": "error", "message": "boom", "type": "BadRequestError", "code": 400}), "invalid_request_error", "boom"),
    "in a list": (frame([{"error": {"message": "boom", "status": 401}}]), "authentication_error", "boom"),
    "dashscope": (frame({"code": "Throttling", "message": "boom", "request_id": "r"}), "rate_limit_error", "boom"),
    "fastapi": (frame({"detail": "boom"}), "api_error", "boom"),
    "openrouter": (
        frame({"id": "c", "error": {"code": 502, "message": "boom"}, "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}),
        "api_error",
        "boom",
    ),
    "in a choice": (
        frame({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "error", "error": {"code": 429, "message": "boom"}}]}),
        "rate_limit_error",
        "boom",
    ),
    "minimax": (frame({"id": "c", "choices": None, "base_resp": {"status_code": 1002, "status_msg": "boom"}}), "api_error", "boom"),
    "tgi": (frame({"error": "boom", "error_type": "overloaded"}), "overloaded_error", "boom"),
    "groq": (frame({"id": "c", "choices": [], "x_groq": {"id": "r", "error": "boom"}}), "api_error", "boom"),
    "no words": (frame({"error": {"code": "context_length_exceeded"}}), "context_length_exceeded", '{"code":"context_length_exceeded"}'),
}  # fmt: skip


@pytest.mark.requirement("E2", "D4", "P5")
@pytest.mark.parametrize("shape", IN_BAND)
def test_errors_in_the_stream(shape: str) -> None:
    error, code, message = IN_BAND[shape]
    decoded = decode_pieces(WIRE, [body(text("so far"), error, text("ignored"), FINISH)])
    assert decoded["complete"] is False
    assert decoded["error"] == {"code": code, "message": message}
    assert [block["text_content"] for block in decoded["blocks"]] == ["so far"]
    assert decoded["stop_reason"] is None


@pytest.mark.requirement("E2")
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "m", "code": 429}, "throttling"),
        ({"message": "m", "type": "server_error"}, "internal_server"),
        ({"message": "m", "code": 503}, "service_unavailable"),
        ({"message": "m", "type": "invalid_request_error"}, "validation"),
        (
            {"message": "m", "type": "invalid_request_error", "code": "tool_use_failed", "status_code": 400},
            "model_stream",
        ),
    ],
)
def test_kinds_of_stream_errors(error: dict[str, Any], kind: str) -> None:
    event = decode(frame({"error": error}))[-1]
    assert isinstance(event, StreamError)
    assert event.kind == kind


@pytest.mark.requirement("P5")
@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource", "abort"])
def test_a_finish_reason_that_says_failure_is_one(reason: str) -> None:
    decoded = decode_pieces(WIRE, [body(text("a"), chunk(finish=reason))])
    assert decoded["complete"] is False
    assert decoded["error"]["code"] == ("overloaded_error" if "resource" in reason else "api_error")


@pytest.mark.parametrize(
    "nothing", [{"error": None}, {"error": {}}, {"error": ""}, {"message": "fyi"}, {"code": 0, "data": None}]
)
def test_what_is_no_error(nothing: dict[str, Any]) -> None:
    assert blocks(text("a"), nothing, FINISH) == [("text", "a")]


# --- malformed ----------------------------------------------------------------------------------------------

MALFORMED = [
    b"{",
    b"not json",
    b"[]",
    b"1",
    b'"text"',
    b'{"a":' * 2000,
    b"[" * 100_000,
    b"\xff\xfe",
    b'{"choices":[{"delta":{"content":"\xff"}}]}',
]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("data", MALFORMED, ids=lambda data: repr(data[:12]))
def test_malformed_events_fail_or_are_skipped(data: bytes) -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(body(text("a"), frame(data), text("b"), FINISH))[-1] == TextDelta(0, "a"), (
        "what came before is given"
    )
    with pytest.raises(MalformedEvent):
        decoder.feed(DONE)
    with pytest.raises(MalformedEvent):
        decoder.close()
    decoder = WIRE.decoder(on_malformed="skip")
    events = [*decoder.feed(body(text("a"), frame(data), text("b"), FINISH)), *decoder.close()]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]
    assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
    assert events[-1] == END


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("field", ["extra", "annotations", "reasoning_details", "content"])
def test_absurd_nesting_is_malformed(field: str) -> None:
    deep: Any = "x"
    for _ in range(EVENT_NESTING_LIMIT + 5):
        deep = [deep]
    delta = {field: [{"type": "reasoning.text", "text": "t", "more": deep}]}
    decoder = WIRE.decoder()
    with pytest.raises(MalformedEvent):
        decoder.feed(body(chunk(delta), done=False))
    with pytest.raises(MalformedEvent):
        WIRE.decoder().feed(frame({"id": "c", "choices": [], "usage": {"more": deep}}))


def test_what_is_beside_the_wire_is_ignored() -> None:
    events = [
        frame(b"", None),
        frame({"type": "ping"}, "ping"),
        frame(b"pong", "ping"),
        frame(b"null"),
        b": data: x\n\n",
    ]
    assert blocks(text("a"), *events, text("b"), FINISH) == [("text", "ab")]


@pytest.mark.requirement("E4")
def test_an_event_above_the_limit_is_refused() -> None:
    decoder = WIRE.decoder(event_limit=200)
    decoder.feed(body(text("a"), done=False))
    with pytest.raises(EventTooLarge):
        decoder.feed(frame(text("b" * 200)))


@pytest.mark.requirement("B4")
def test_a_surrogate_pair_halved_over_two_events() -> None:
    halves = [
        rb'{"id":"c","model":"m","choices":[{"index":0,"delta":{"%b":"%b"}}]}' % (name, half)
        for name in (b"content", b"reasoning")
        for half in (rb"a\ud83d", rb"\ude00b")
    ]
    assert blocks(*halves, FINISH) == [("text", "a😀b"), ("thinking", "a😀b")]
    fragments = [
        rb'{"id":"c","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"i","function":{"name":"f","arguments":"%b"}}]}}]}'
        % part
        for part in (rb"{\"x\":\"\ud83d", rb"\ude00\"}")
    ]
    assert blocks(*fragments, FINISH) == [("f", "i", '{"x":"😀"}')]
    strange = rb'{"id":"\ud83d","model":"m","choices":[{"index":0,"delta":{"content":"a","foo":"\ud83d"}}],"usage":{"x":"\udc00"},"provider":"\ud800"}'
    decoded = decode_pieces(WIRE, [body(strange, FINISH)])
    json.dumps(decoded, ensure_ascii=False).encode()


# --- properties ---------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 600)
    | st.sampled_from([2**64, -(10**40)])
    | st.floats()
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def loose(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of these fields, whatever is in them."""
    return st.fixed_dictionaries({}, optional=dict.fromkeys(names, json_values))


fragments = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 2) | json_values,
        "id": st.sampled_from(["a", "b", ""]) | json_values,
        "function": st.fixed_dictionaries(
            {},
            optional={
                "name": st.sampled_from(["f", "g"]) | json_values,
                "arguments": st.sampled_from(["{", "}", "{}"]) | json_values,
            },
        )
        | json_values,
    },
)
deltas = st.fixed_dictionaries(
    {},
    optional={
        "content": st.text(max_size=4) | st.lists(loose("type", "text", "summary"), max_size=2) | json_values,
        "reasoning": st.text(max_size=4) | json_values,
        "reasoning_content": json_values,
        "refusal": st.text(max_size=2) | json_values,
        "tool_calls": st.lists(fragments, max_size=3) | json_values,
        "function_call": loose("name", "arguments") | json_values,
        "reasoning_details": st.lists(loose("type", "text", "index", "signature"), max_size=2) | json_values,
        "annotations": json_values,
        "images": json_values,
        "other": json_values,
        "index": st.integers(0, 2) | json_values,
        "thinking": loose("text", "thinking", "summary", "signature") | json_values,
        "thinking_blocks": st.lists(loose("type", "thinking", "signature", "data"), max_size=2) | json_values,
        "signature": json_values,
        "provider_specific_fields": loose("thinking_blocks", "reasoning_content", "n") | json_values,
        "provider_metadata": json_values,
    },
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 3) | json_values,
        "delta": deltas | json_values,
        "finish_reason": st.sampled_from(["stop", "length"]) | json_values,
        "message": deltas,
        "text": st.text(max_size=3) | json_values,
        "error": json_values,
        "usage": json_values,
    },
)
chunks = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["c", "d"]) | json_values,
        "choices": st.lists(choices, max_size=2) | json_values,
        "usage": json_values,
        "error": json_values,
        "citations": json_values,
        "x_groq": json_values,
    },
)
frames = st.one_of(
    chunks.map(frame),
    st.binary(max_size=30).map(frame),
    json_values.map(frame),
    st.just(DONE),
    st.sampled_from(
        [frame(text("ab")), frame(text("c")), frame(FINISH), frame({"error": "x"}, "error"), b": c\n\n"]
    ),
)


@pytest.mark.fault(18)
@pytest.mark.parametrize("index", [1, True, 3])
def test_text_that_waited_for_its_choice_comes_before_the_error(index: int) -> None:
    chunk = {"error": {"message": "boom"}, "choices": [{"index": index, "delta": {"content": "0"}}]}
    events, _ = outcome([frame(chunk)], "fail")
    assert [type(event).__name__ for event in events[-2:]] == ["TextDelta", "StreamError"]


@settings(max_examples=400, deadline=None)
@given(st.lists(frames, max_size=8), st.sampled_from(["fail", "skip"]), st.randoms(use_true_random=False))
@pytest.mark.requirement("E4", "E6")
def test_nothing_but_our_errors_and_any_cut_alike(
    sent: list[bytes], on_malformed: Literal["fail", "skip"], chance: random.Random
) -> None:
    data = b"".join(sent)
    whole = outcome([data], on_malformed)
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randrange(12)))
    bounds = [0, *places, len(data)]
    assert outcome([data[a:b] for a, b in itertools.pairwise(bounds)], on_malformed) == whole
    assert outcome([data[n : n + 1] for n in range(len(data))], on_malformed) == whole
    events, _ = whole
    usages = [event.usage for event in events if isinstance(event, Metadata) and event.usage is not None]
    assert all(0 <= (usage.input_tokens or 0) < 2**63 for usage in usages)
    stops = [place for place, event in enumerate(events) if isinstance(event, MessageStop | StreamError)]
    assert len([event for event in events if isinstance(event, MessageStop)]) <= 1
    assert len(stops) <= 1
    if stops:
        assert all(isinstance(event, Metadata | StreamNotice) for event in events[stops[0] + 1 :])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
@pytest.mark.requirement("E6")
def test_any_bytes(data: bytes) -> None:
    outcome([data], "fail")
    outcome([b"data: " + data + b"\n\n"], "skip")


def outcome(
    pieces: list[bytes], on_malformed: Literal["fail", "skip"]
) -> tuple[list[StreamEvent], str | None]:
    decoder = WIRE.decoder(on_malformed=on_malformed)
    events: list[StreamEvent] = []
    try:
        for piece in pieces:
            events.extend(decoder.feed(piece))
        events.extend(decoder.close())
    except ProviderError as error:
        return events, error.code
    return events, None


vendor_shapes = st.sampled_from([
    b'{"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":%b},"finish_reason":null}]}',
    b'{"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"role": "assistant", "content": %b}}], "usage": null}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"abc"}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":""}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"obfuscation":"a-b"}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"p":"abcdefghi"}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"p":""}',
    b'{"id":"c","model":"m","choices":[{"index":0,"message":{"content":"content"},"delta":{"content":%b}}]}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"reasoning_content":%b,"content":""}}]}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"reasoning":%b}}],"created":1}',
    b'{"id":"c","model":"m","choices":[{"index":1,"delta":{"content":%b}}]}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":%b}}]}}]}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"g","arguments":%b}}]}}]}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b}}],"usage":{"prompt_tokens":1}}',
    b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%b},"finish_reason":"stop"}]}',
    b'{"id":"d","model":"m","choices":[{"index":0,"delta":{"content":%b,"new":1}}]}',
])  # fmt: skip
texts = st.one_of(
    st.text(max_size=5).map(lambda value: json.dumps(value).encode()),
    st.text(max_size=5).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ),
    st.sampled_from(
        [
            b'"a\\"},\\"obfuscation\\":\\"x"',
            b'"\\ud83d"',
            b'"\\ude00"',
            b"null",
            b'"a","content":"b"',
            b'"another"',
            b'"other"',
            b'""',
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(vendor_shapes, st.lists(texts, min_size=1, max_size=6)), min_size=1, max_size=6))
@pytest.mark.requirement("E4")
def test_the_short_cut_changes_nothing(runs: list[tuple[bytes, list[bytes]]]) -> None:
    """Runs of one vendor's plain events, as they are decoded with templates and without."""
    sent = [frame(shape % value) for shape, values in runs for value in values]
    in_full = decode_all([b"".join(sent)], short_cut=False)
    assert decode_all([b"".join(sent)], short_cut=True) == in_full
    assert decode_all(sent, short_cut=True) == in_full


def decode_all(reads: list[bytes], *, short_cut: bool) -> list[StreamEvent]:
    decoder = OpenAIChatDecoder(event_limit=10_000, on_malformed="skip")
    if not short_cut:
        decoder._template_tries = 10**9
    return [event for read in (*reads, DONE) for event in decoder.feed(read)]


@pytest.mark.requirement("E4", "E6")
@pytest.mark.parametrize("padding", [b"", b"ab", b"a-b", b'a\\"b', b'","x":"'])
@pytest.mark.parametrize("end", [b'"}', b"}", b'"', b""])
def test_padding_is_read_as_json_is(padding: bytes, end: bytes) -> None:
    padded = b'{"id":"c","choices":[{"index":0,"delta":{"content":"%b"}}],"obfuscation":"%b%b'
    sent = [
        frame(padded % (b"a", b"x", b'"}')),
        frame(padded % (b"b", b"", b'"}')),
        frame(padded % (b"c", padding, end)),
    ]
    assert decode_all(sent, short_cut=True) == decode_all(sent, short_cut=False)


@pytest.mark.parametrize("padding", [b"", b',"obfuscation":"%b"', b',"p":"%b"'])
def test_the_short_cut_is_taken(padding: bytes) -> None:
    def plain(number: int) -> bytes:
        pad = padding % (b"ab" * ((number + 1) % 5)) if padding else b""
        return b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"t%d"}}]%b}\n\n' % (
            number,
            pad,
        )

    decoder = OpenAIChatDecoder(event_limit=10_000, on_malformed="fail")
    events = decoder.feed(b"".join(plain(number) for number in range(100)))
    assert [event.text for event in events if isinstance(event, TextDelta)] == [
        f"t{number}" for number in range(100)
    ]
    assert decoder._template is not None
    assert decoder._template.hits >= 98


def test_thinking_and_tool_input_take_the_short_cut_too() -> None:
    decoder = OpenAIChatDecoder(event_limit=10_000, on_malformed="fail")
    decoder.feed(b"".join(frame(chunk({"reasoning": str(number)})) for number in range(50)))
    assert decoder._template is not None
    assert decoder._template.hits == 49
    events = decoder.feed(
        b"".join(
            [
                frame(calls(call(0, "a", "f", "["))),
                *(frame(calls(call(0, None, None, f"{number},"))) for number in range(50)),
            ]
        )
    )
    assert decoder._template.hits == 49
    assert "".join(event.partial_json for event in events if isinstance(event, ToolInputDelta)).startswith(
        "[0,1,2"
    )
    assert isinstance(decoder.feed(frame(calls(call(1, "b", "g", "{}"))))[0], ContentBlockStart), (
        "the first is not whole"
    )


def test_where_it_is_of_no_use_the_short_cut_is_given_up() -> None:
    decoder = OpenAIChatDecoder(event_limit=10_000, on_malformed="fail")
    for number in range(40):
        decoder.feed(frame(chunk({"content": "x"}, usage={"completion_tokens": number})))
    assert decoder._template is None
    assert decoder._template_tries == _TEMPLATE_TRIES


def test_thinking_deltas_are_thinking(  # the two kinds of short cut never mix
) -> None:
    decoder = OpenAIChatDecoder(event_limit=10_000, on_malformed="fail")
    sent = [
        frame(chunk({"reasoning": "a"})),
        frame(chunk({"reasoning": "b"})),
        frame(text("c")),
        frame(text("d")),
        frame(chunk({"reasoning": "e"})),
    ]
    kinds = [
        type(event) for event in decoder.feed(b"".join(sent)) if isinstance(event, TextDelta | ThinkingDelta)
    ]
    assert kinds == [ThinkingDelta, ThinkingDelta, TextDelta, TextDelta, ThinkingDelta]


def test_what_a_vendor_adds_to_a_call_goes_with_it() -> None:
    signed = {
        **call(0, "a", "f", "{}"),
        "type": "function",
        "extra_content": {"google": {"thought_signature": "S"}},
    }
    (block,) = fold(calls(signed), FINISH)
    assert block["content"]["provider_metadata"] == {"extra_content": {"google": {"thought_signature": "S"}}}


def test_a_call_that_is_in_no_list() -> None:
    assert blocks(chunk({"tool_calls": call(0, "a", "f", "{}")}), FINISH) == [("f", "a", "{}")]


@pytest.mark.parametrize("text_of_it", ["another", "other", "content"])
def test_the_short_cut_is_not_learnt_at_another_field_of_the_same_name(text_of_it: str) -> None:
    repeated = b'{"id":"c","choices":[{"index":0,"message":{"content":"%b"},"delta":{"content":"%b"}}]}'
    sent = [repeated % (text_of_it.encode(), text_of_it.encode()), repeated % (b"more", b"more")]
    events = WIRE.decoder().feed(b"".join(map(frame, sent)))
    assert [event.text for event in events if isinstance(event, TextDelta)] == [text_of_it, "more"]
