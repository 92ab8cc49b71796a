"""The fast path for plain events of chat.completions gives the same events as the general path."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_chat.chunks import DONE, call, calls, chunk, frame, text
from turnstream.core.stream_events import (
    ContentBlockStart,
    StreamEvent,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.wires.openai_chat.decoder import _TEMPLATE_TRIES, OpenAIChatDecoder
from turnstream.wires.openai_chat.wire import WIRE

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
def test_the_fast_path_changes_nothing(runs: list[tuple[bytes, list[bytes]]]) -> None:
    """Runs of one vendor's plain events, decoded with templates and without."""
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
def test_the_fast_path_is_taken(padding: bytes) -> None:
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


def test_thinking_and_tool_input_take_the_fast_path_too() -> None:
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


def test_a_fast_path_that_never_hits_is_disabled() -> None:
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


@pytest.mark.parametrize("text_of_it", ["another", "other", "content"])
def test_the_fast_path_is_not_learnt_from_another_field_of_the_same_name(text_of_it: str) -> None:
    repeated = b'{"id":"c","choices":[{"index":0,"message":{"content":"%b"},"delta":{"content":"%b"}}]}'
    sent = [repeated % (text_of_it.encode(), text_of_it.encode()), repeated % (b"more", b"more")]
    events = WIRE.decoder().feed(b"".join(map(frame, sent)))
    assert [event.text for event in events if isinstance(event, TextDelta)] == [text_of_it, "more"]
