"""Content of chat.completions beyond plain text: reasoning details, parts, citations, images, choices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wires.openai_chat.chunks import (
    END,
    FINISH,
    blocks,
    body,
    call,
    calls,
    chunk,
    decode,
    fold,
    frame,
    text,
)
from turnstream.core.stream_events import (
    ContentDelta,
    SignatureDelta,
    StreamNotice,
    TextDelta,
)
from turnstream.errors import EventTooLarge
from turnstream.wires.openai_chat.wire import WIRE
from turnstream.wires.recording import decode_pieces

# --- reasoning_details --------------------------------------------------------------------------------------


def detail(kind: str = "text", **fields: Any) -> dict[str, Any]:
    return {"type": f"reasoning.{kind}", "format": "anthropic-claude-v1", "index": 0, **fields}


def details_of(block: dict[str, Any]) -> Any:
    return block["content"]["provider_metadata"]["reasoning_details"]


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
