"""Ollama's protocol both ways: what servers send, and that what is encoded decodes to itself."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    MessageStart,
    MessageStop,
    Metadata,
    StreamError,
    StreamEvent,
    StreamNotice,
    TextDelta,
    ThinkingDelta,
    ToolInputDelta,
)
from turnstream.core.usage import Usage
from turnstream.errors import (
    AuthenticationFailed,
    ContextLengthExceeded,
    EventTooLarge,
    InvalidModelRequest,
    InvalidRequest,
    MalformedEvent,
    ModelNotFound,
    Overloaded,
    PermissionDenied,
    ProviderError,
    ProviderFailed,
    ProviderTimeout,
    RateLimited,
    StreamIncomplete,
)
from turnstream.wires.base import ModelRequest, ToolDefinition
from turnstream.wires.ollama.lines import LineDecoder
from turnstream.wires.ollama.wire import WIRE
from turnstream.wires.recording import decode_pieces

START = MessageStart(None, "m")
PNG = "iVBORw0KGgoAAAANSUhEUg=="


def line(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    said = {} if message is None else {"message": {"role": "assistant", "content": "", **message}}
    value = {"model": "m", "created_at": "2026-01-01T00:00:00Z", **said, "done": False, **fields}
    return json.dumps(value).encode() + b"\n"


def done(message: dict[str, Any] | None = None, **fields: Any) -> bytes:
    return line(message or {}, **{"done": True, "done_reason": "stop", **fields})


def text(*pieces: str) -> bytes:
    return b"".join(line({"content": piece}) for piece in pieces)


def call(name: str, arguments: Any, **fields: Any) -> dict[str, Any]:
    return {**fields, "function": {"name": name, "arguments": arguments}}


def decode(data: bytes) -> list[StreamEvent]:
    decoder = WIRE.decoder()
    return [*decoder.feed(data), *decoder.close()]


def message_of(data: bytes) -> dict[str, Any]:
    """The decoded message, the same at every cut."""
    whole = decode_pieces(WIRE, [data])
    for place in range(1, len(data)):
        assert decode_pieces(WIRE, [data[:place], data[place:]]) == whole
    return whole


def texts_of(data: bytes, block_type: str = "text") -> list[str]:
    return [b["text_content"] for b in message_of(data)["blocks"] if b["block_type"] == block_type]


def inputs_of(data: bytes) -> list[tuple[str, Any]]:
    blocks = [block["content"] for block in message_of(data)["blocks"] if block["block_type"] == "tool_use"]
    return [(content["tool_name"], content["input"]) for content in blocks]


# --- what servers send --------------------------------------------------------------------------------------


@pytest.mark.requirement("B1", "E2", "L4")
def test_thinking_and_text_are_blocks_of_their_own() -> None:
    body = line({"thinking": "h"}) + line({"thinking": "m"}) + text("a", "b") + done()
    assert decode(body) == [
        START,
        ContentBlockStart(0, "thinking"),
        ThinkingDelta(0, "h"),
        ThinkingDelta(0, "m"),
        ContentBlockStop(0),
        ContentBlockStart(1, "text"),
        TextDelta(1, "a"),
        TextDelta(1, "b"),
        ContentBlockStop(1),
        MessageStop("end_turn", "stop"),
    ]


@pytest.mark.requirement("E5")
@pytest.mark.parametrize(
    "last", ["", "c", "abc", "ab"], ids=["nothing", "a delta", "everything", "what was said"]
)
def test_the_final_line_says_nothing_twice(last: str) -> None:
    assert texts_of(text("a", "b") + done({"content": last})) == ["ab" if last in ("", "ab") else "abc"]
    thought = line({"thinking": "a"}) + line({"thinking": "b"}) + done({"thinking": last})
    assert texts_of(thought, "thinking") == ["ab" if last in ("", "ab") else "abc"]


@pytest.mark.requirement("E5")
def test_a_final_line_alone_is_the_answer() -> None:
    assert texts_of(done({"content": "all of it"})) == ["all of it"]


@pytest.mark.requirement("E5")
def test_a_final_line_repeats_thinking_text_and_calls_around_blocks() -> None:
    one, two = call("f", {"a": 1}), call("g", {})
    body = line({"thinking": "hm"}) + text("x") + line({"tool_calls": [one]}) + text("y")
    whole = body + done({"thinking": "hm", "content": "xyz", "tool_calls": [one, two]})
    found = message_of(whole)
    assert [(block["block_type"], block["text_content"]) for block in found["blocks"]] == [
        ("thinking", "hm"),
        ("text", "x"),
        ("tool_use", None),
        ("text", "yz"),
        ("tool_use", None),
    ]


@pytest.mark.requirement("B4", "E5")
def test_a_repetition_is_recognised_where_a_surrogate_pair_was_halved() -> None:
    halves = b'{"model":"m","message":{"content":"\\ud83d"}}\n{"message":{"content":"\\ude00!"}}\n'
    assert texts_of(halves + done({"content": "😀! 👍"})) == ["😀! 👍"]


@pytest.mark.requirement("E5", "G2")
def test_calls_come_on_any_line_and_get_ids_that_stay() -> None:
    calls = [call("f", {"a": 1}), call("f", {"a": 2})]
    body = line({"tool_calls": calls[:1]}) + done({"tool_calls": calls[1:]})
    assert inputs_of(body) == [("f", {"a": 1}), ("f", {"a": 2})]
    ids = [block["content"]["tool_use_id"] for block in message_of(body)["blocks"]]
    assert len(set(ids)) == 2
    assert ids == [block["content"]["tool_use_id"] for block in message_of(body)["blocks"]]
    later = body.replace(b"2026-01-01", b"2026-01-02")
    assert not set(ids) & {block["content"]["tool_use_id"] for block in message_of(later)["blocks"]}
    assert message_of(body)["stop_reason"] == "tool_use"
    assert message_of(body)["raw_stop_reason"] == "stop"


@pytest.mark.requirement("E5")
def test_given_ids_are_kept_and_never_used_twice() -> None:
    body = line({"tool_calls": [call("f", {}, id="c1"), call("f", {}, id="c1")]}) + done()
    first, second = (block["content"]["tool_use_id"] for block in message_of(body)["blocks"])
    assert first == "c1" != second


@pytest.mark.requirement("E5")
def test_a_call_on_the_final_line_with_another_id_is_another_call() -> None:
    body = line({"tool_calls": [call("f", {}, id="1")]}) + done({"tool_calls": [call("f", {}, id="2")]})
    assert len(inputs_of(body)) == 2


@pytest.mark.requirement("B4")
@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({}, {}),
        (None, {}),
        ('{"a": "é"}', {"a": "é"}),
        ("{", None),
        ([1], None),
        ({"😀": "\ud83d"}, {"😀": "\ufffd"}),
    ],
)
def test_arguments_of_any_form(arguments: Any, found: Any) -> None:
    body = line({"tool_calls": [call("f", arguments)]}) + done()
    if found == {"😀": "\ufffd"}:
        assert message_of(body)["blocks"][0]["content"]["input_error"]  # half a character is no valid JSON
        return
    assert inputs_of(body) == [("f", found)]


@pytest.mark.requirement("B3")
def test_images_are_blocks() -> None:
    block = message_of(line({"images": [PNG, "AAAA"]}) + done())["blocks"]
    assert [item["content"] for item in block] == [
        {"media_type": "image/png", "data": PNG},
        {"media_type": "application/octet-stream", "data": "AAAA"},
    ]


@pytest.mark.requirement("E5", "I1")
def test_counts_and_durations_are_exposed() -> None:
    numbers = {"total_duration": 3_000_000, "load_duration": 1, "prompt_eval_count": 4, "eval_count": 5}
    metadata = [event for event in decode(text("a") + done({}, **numbers)) if isinstance(event, Metadata)]
    assert metadata == [Metadata(Usage(input_tokens=4, output_tokens=5), numbers, latency_ms=3.0)]


@pytest.mark.requirement("E8")
def test_counts_after_the_end_are_collected() -> None:
    assert decode(done() + line(eval_count=7))[-1] == Metadata(Usage(output_tokens=7), {"eval_count": 7})


@pytest.mark.requirement("E1")
def test_what_a_server_says_beside_the_answer_is_kept() -> None:
    body = line({"content": "a", "mood": "good"}, remote_host="h") + done({}, context=[1, 2])
    found = [event.provider_metadata for event in decode(body) if isinstance(event, Metadata)]
    assert found == [{"remote_host": "h"}, {"message": {"mood": "good"}}, {"context": [1, 2]}]


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("word", "reason"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("moon", "unknown"), (None, None)],
)
def test_stop_reasons(word: str | None, reason: str | None) -> None:
    assert decode(text("a") + done(done_reason=word))[-1] == MessageStop(reason, word)


@pytest.mark.requirement("D6", "P5")
@pytest.mark.parametrize("body", [b"", text("a"), text("a") + done()[:-3], b"\n\n"])
def test_without_a_line_that_is_done_the_stream_is_incomplete(body: bytes) -> None:
    decoder = WIRE.decoder()
    decoder.feed(body)
    with pytest.raises(StreamIncomplete):
        decoder.close()


@pytest.mark.requirement("E4")
def test_a_last_line_without_its_end_counts() -> None:
    assert message_of(text("a") + done().rstrip())["complete"] is True


@pytest.mark.requirement("D4", "E2")
@pytest.mark.parametrize(
    ("fields", "code", "kind"),
    [
        ({"error": "an error was encountered while running the model"}, "api_error", "internal_server"),
        ({"error": "model 'x' not found, try pulling it first"}, "not_found_error", "validation"),
        ({"error": "the input length exceeds the context length"}, "context_length_exceeded", "validation"),
        ({"error": "slow down", "status": 429}, "rate_limit_error", "throttling"),
        ({"error": {"message": "server busy"}, "StatusCode": 503}, "overloaded_error", "service_unavailable"),
    ],
)
def test_an_error_in_the_stream_is_its_last_event(fields: dict[str, Any], code: str, kind: str) -> None:
    events = decode(text("a") + json.dumps(fields).encode() + b"\n" + text("b") + done())
    assert isinstance(events[-1], StreamError)
    assert (events[-1].code, events[-1].kind) == (code, kind)
    assert message_of(text("a") + json.dumps(fields).encode())["complete"] is False


@pytest.mark.requirement("D4", "J1", "J2")
@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "registry.ollama.ai/library/x does not support tools", InvalidModelRequest),
        (400, "prompt is too long for the context window", ContextLengthExceeded),
        (401, "unauthorized", AuthenticationFailed),
        (403, "this model requires a subscription", PermissionDenied),
        (404, "model 'x' not found", ModelNotFound),
        (429, "you've reached your hourly usage limit", RateLimited),
        (500, "llama runner process has terminated", ProviderFailed),
        (502, "", ProviderFailed),
        (503, "server busy, please try again", Overloaded),
        (504, "", ProviderTimeout),
    ],
)
def test_errors_by_status_come_back_as_they_went(status: int, words: str, kind: type[ProviderError]) -> None:
    error = WIRE.decode_error(status, {"Retry-After": "3"}, json.dumps({"error": words}).encode())
    assert type(error) is kind
    assert (error.provider_status, error.retry_after) == (status, 3.0)
    assert words in (error.detail or "")
    assert words not in error.message or not words
    again = WIRE.decode_error(*flipped(WIRE.encode_error(error)))
    assert type(again) is kind
    assert type(WIRE.decode_error(status, {}, b"<html>nothing here</html>")) is not None


def flipped(encoded: tuple[int, bytes]) -> tuple[int, dict[str, str], bytes]:
    return encoded[0], {}, encoded[1]


@pytest.mark.requirement("E6")
@pytest.mark.parametrize("bad", [b"{\n", b"[1]\n", b"\xff\n", b'{"a":' + b"[" * 200 + b"]" * 200 + b"}\n"])
def test_a_malformed_line_fails_or_is_skipped(bad: bytes) -> None:
    decoder = WIRE.decoder()
    assert decoder.feed(text("a") + bad + text("b"))[-1] == TextDelta(0, "a")
    with pytest.raises(MalformedEvent):
        decoder.feed(b"")
    decoder = WIRE.decoder(on_malformed="skip")
    events = decoder.feed(text("a") + bad + text("b") + done())
    assert [event.code for event in events if isinstance(event, StreamNotice)] == ["malformed_event"]
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["a", "b"]


@pytest.mark.requirement("E4")
def test_a_line_has_a_limit_wherever_it_is_cut() -> None:
    long = text("x" * 500)
    fitting = len(long) - 1
    assert WIRE.decoder(event_limit=fitting).feed(long)
    for size in (1, 7, len(long)):
        decoder = WIRE.decoder(event_limit=fitting - 1)
        feed_all = [long[at : at + size] for at in range(0, len(long), size)]
        with pytest.raises(EventTooLarge) as refused:
            list(map(decoder.feed, feed_all))
        assert not refused.value.retryable
    large = text("y" * 3_000_000) + done()
    assert len(texts_of_once(large)) == 3_000_000


def texts_of_once(body: bytes) -> str:
    return decode_pieces(WIRE, [body])["blocks"][0]["text_content"]


# --- both ways ----------------------------------------------------------------------------------------------

LINE_ENDS = "\x85\u2028\u2029"
any_text = st.text(min_size=1, max_size=10)
json_objects = st.dictionaries(
    st.text(max_size=4), st.none() | st.integers(-9, 9) | st.text(max_size=5) | st.lists(st.booleans(), max_size=2),
    max_size=3,
)  # fmt: skip


def arguments_on_one_line(value: dict[str, Any]) -> str:
    """Arguments as this wire carries them: what ends a line for some readers is escaped. The decoder keeps the text."""
    written = json.dumps(value, ensure_ascii=False)
    for character in LINE_ENDS:
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


@st.composite
def canonical_messages(draw: st.DrawFn) -> list[StreamEvent]:
    """What the decoder makes of an answer: texts and thinking alternate, calls and images anywhere."""
    events: list[StreamEvent] = [START]
    kinds = draw(st.lists(st.sampled_from(["text", "thinking", "tool_use", "image"]), max_size=6))
    kinds = [kind for kind, _ in itertools.groupby(kinds)]
    for index, kind in enumerate(kinds):
        if kind in ("text", "thinking"):
            delta = TextDelta if kind == "text" else ThinkingDelta
            events.append(ContentBlockStart(index, kind))
            events.extend(delta(index, piece) for piece in draw(st.lists(any_text, min_size=1, max_size=3)))
        elif kind == "image":
            events.append(ContentBlockStart(index, "image", {"media_type": "image/png", "data": PNG}))
        else:
            content = {"tool_use_id": f"c{index}", "tool_name": draw(st.text(max_size=5))}
            arguments = draw(json_objects.map(arguments_on_one_line) | st.just('{ "a":  1.50}'))
            events += [ContentBlockStart(index, "tool_use", content), ToolInputDelta(index, arguments)]
        events.append(ContentBlockStop(index))
    if draw(st.booleans()):
        counts = {"eval_count": draw(st.integers(0, 99)), "total_duration": draw(st.integers(0, 10**12))}
        usage = Usage(output_tokens=counts["eval_count"])
        events.append(Metadata(usage, counts, latency_ms=counts["total_duration"] / 1_000_000))
    if "tool_use" in kinds:
        return [*events, MessageStop("tool_use", "stop")]
    return [
        *events,
        draw(st.sampled_from([MessageStop("end_turn", "stop"), MessageStop("max_tokens", "length")])),
    ]


@pytest.mark.requirement("E1")
@settings(max_examples=150, deadline=None)
@given(canonical_messages(), st.integers(1, 30))
def test_what_is_encoded_decodes_to_itself(events: list[StreamEvent], size: int) -> None:
    encoder = WIRE.encoder(model="other", message_id="i")
    body = b"".join([encoder.feed([event]) for event in events]) + encoder.close()
    assert decode(body) == events
    decoder = WIRE.decoder()
    pieces = [decoder.feed(body[at : at + size]) for at in range(0, len(body), size)]
    assert [event for piece in pieces for event in piece] + decoder.close() == events
    for item in body.decode().splitlines():
        json.loads(item)


pieces_of_lines = st.sampled_from(
    [
        b"{}\n",
        b"a\n",
        b" b \r\n",
        b"\n",
        b" \r\n",
        b"c",
        b"d\ne\n",
        b"f\ng",
        b"\xef\xbb\xbf",
        b"h" * 20 + b"\n",
    ]
)


@pytest.mark.requirement("E4")
@given(st.lists(pieces_of_lines, max_size=12), st.sampled_from([12, 1000]))
def test_lines_do_not_depend_on_the_reads(reads: list[bytes], limit: int) -> None:
    body = b"".join(reads)
    expected = [line.strip(b" \t\r") for line in body.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
    too_long = [len(line) > limit for line in body.split(b"\n")]
    if True in too_long:
        expected = expected[: too_long.index(True)]
    found: list[bytes] = []
    decoder = LineDecoder(limit=limit)
    try:
        for read in reads:
            found.extend(decoder.feed(read))
        found.append(decoder.close())
    except EventTooLarge:
        assert True in too_long
    else:
        assert True not in too_long
    assert [line for line in found if line] == [line for line in expected if line]


@pytest.mark.requirement("E1", "E4")
@pytest.mark.parametrize("character", LINE_ENDS)
def test_no_line_is_broken_by_what_some_readers_take_for_its_end(character: str) -> None:
    said = f"a{character}b"
    encoder = WIRE.encoder(model=said, message_id="i")
    events: list[StreamEvent] = [
        *(ContentBlockStart(0, "text"), TextDelta(0, said), ContentBlockStop(0)),
        ContentBlockStart(1, "tool_use", {"tool_use_id": said, "tool_name": said}),
        *(ToolInputDelta(1, json.dumps({said: said}, ensure_ascii=False)), ContentBlockStop(1)),
        MessageStop("tool_use", "stop"),
    ]
    body = encoder.feed(events) + encoder.close()
    assert [json.loads(line)["model"] for line in body.decode().splitlines()] == [said] * 3
    decoded = decode_pieces(WIRE, [body])["blocks"]
    assert decoded[0]["text_content"] == said
    assert decoded[1]["content"]["input"] == {said: said}
    assert decoded[1]["content"]["tool_name"] == said


@pytest.mark.requirement("D4")
@pytest.mark.parametrize(
    "code", ["rate_limit_error", "overloaded_error", "api_error", "authentication_error"]
)
def test_an_error_is_encoded_as_a_line(code: str) -> None:
    encoder = WIRE.encoder(model="m", message_id="i")
    body = encoder.feed([START, ContentBlockStart(0, "text"), TextDelta(0, "a")])
    body += encoder.feed([StreamError("internal_server", code, "no more")])
    assert encoder.close() == b""
    last = decode(body)[-1]
    assert isinstance(last, StreamError)
    assert (last.code, last.message) == (code, "no more")


@pytest.mark.requirement("P5")
def test_without_a_stop_no_line_is_done() -> None:
    encoder = WIRE.encoder(model="m", message_id="i")
    body = encoder.feed([START, TextDelta(0, "a"), ContentBlockStart(1, "tool_use", {"tool_name": "f"})])
    assert b'"done":true' not in body + encoder.close()
    assert b"tool_calls" not in body


# --- requests -----------------------------------------------------------------------------------------------

HISTORY = (
    Message(
        "user", (Block(0, "text", "look"), Block(1, "image", None, {"media_type": "image/png", "data": PNG}))
    ),
    Message(
        "assistant",
        (
            Block(0, "thinking", "hm", {"signature": "s"}),
            Block(1, "text", "I will"),
            Block(
                2,
                "tool_use",
                None,
                {"tool_use_id": "1", "tool_name": "f", "input": {"a": 1}, "input_json": '{"a":1}'},
            ),
        ),
    ),
    Message(
        "user", (Block(0, "tool_result", None, {"tool_use_id": "1", "content": "no", "is_error": True}),)
    ),
)
TOOL = ToolDefinition("f", "does it", {"type": "object", "properties": {"a": {"type": "integer"}}})


def body_of(request: ModelRequest) -> dict[str, Any]:
    post = WIRE.encode_request(request)
    assert post.path == "/api/chat"
    return json.loads(post.body)


@pytest.mark.requirement("F1", "G6", "P4")
def test_a_request_as_ollama_takes_it() -> None:
    params = {
        "max_tokens": 9,
        "temperature": 0,
        "seed": 3,
        "thinking": {"budget_tokens": 5},
        "keep_alive": "5m",
    }
    assert body_of(ModelRequest("m", HISTORY, "be good", (TOOL,), params)) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be good"},
            {"role": "user", "content": "look", "images": [PNG]},
            {
                "role": "assistant",
                "content": "I will",
                "thinking": "hm",
                "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}],
            },
            {"role": "tool", "content": "Error: no", "tool_call_id": "1", "tool_name": "f"},
        ],
        "stream": True,
        "keep_alive": "5m",
        "think": True,
        "options": {"num_predict": 9, "temperature": 0, "seed": 3},
        "tools": [
            {
                "type": "function",
                "function": {"name": "f", "description": "does it", "parameters": TOOL.input_schema},
            }
        ],
    }


@pytest.mark.requirement("F1")
def test_a_request_comes_back_as_it_went() -> None:
    params = {
        "max_tokens": 9,
        "stop": ["x"],
        "options": {"new_one": 1},
        "response_format": {"type": "json_object"},
    }
    request = ModelRequest("m", HISTORY, "be good", (TOOL,), params)
    again = WIRE.decode_request("/api/chat", WIRE.encode_request(request).body)
    assert (again.system, again.tools, again.params) == (request.system, request.tools, request.params)
    assert body_of(again) == body_of(request)
    assert [block.block_type for message in again.messages for block in message.blocks] == [
        block.block_type for message in HISTORY for block in message.blocks
    ]


@pytest.mark.requirement("P4")
def test_what_ollama_would_refuse_is_said_otherwise() -> None:
    blocks = (
        Block(0, "tool_use", None, {"tool_use_id": "1", "tool_name": "f", "input": None, "input_json": "{"}),
        Block(
            1,
            "tool_result",
            None,
            {"tool_use_id": "1", "content": [{"type": "text", "text": "a"}, {"type": "image", "data": PNG}]},
        ),
        Block(
            2,
            "tool_use",
            None,
            {"tool_use_id": "2", "tool_name": "web", "input": {}, "provider_executed": True},
        ),
        Block(3, "provider", None, {"x": 1}),
        Block(4, "thinking", "cut", None, partial=True),
    )
    user = Message("user", (Block(0, "image", None, {"url": "https://x/y.png"}),))
    assert body_of(ModelRequest("m", (user, Message("assistant", blocks))))["messages"] == [
        {"role": "user", "content": "[image: https://x/y.png]"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": {}}}],
        },
        {"role": "tool", "content": "a", "tool_call_id": "1", "tool_name": "f", "images": [PNG]},
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("named", [True, False])
def test_a_history_of_very_many_calls_is_read_in_linear_time(named: bool) -> None:
    many = 30_000
    calls = [{"function": {"name": "f" if n % 2 else "g", "arguments": {}}} for n in range(many)]
    order = [*range(1, many, 2), *range(0, many, 2)] if named else range(many)
    results = [
        {"role": "tool", "content": str(n), **({"tool_name": "f" if n % 2 else "g"} if named else {})}
        for n in order
    ]
    body = {"model": "m", "messages": [{"role": "assistant", "content": "", "tool_calls": calls}, *results]}
    asked, answered = WIRE.decode_request("/api/chat", json.dumps(body).encode()).messages
    identities = [(block.content or {})["tool_use_id"] for block in asked.blocks]
    assert len({*identities}) == many
    for block in answered.blocks:
        content = block.content or {}
        assert content["tool_use_id"] == identities[int(content["content"])]


@pytest.mark.requirement("G6")
def test_results_without_ids_find_their_calls() -> None:
    calls = [call("f", {}), call("g", {}), call("f", {})]
    results = [
        {"role": "tool", "content": str(n), "tool_name": name} for n, name in enumerate(("g", "f", "f"))
    ]
    body = {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls}, *results]}
    said, answered = WIRE.decode_request("/api/chat", json.dumps(body).encode()).messages
    ids = [(block.content or {})["tool_use_id"] for block in said.blocks]
    assert [(block.content or {})["tool_use_id"] for block in answered.blocks] == [ids[1], ids[0], ids[2]]


def test_tool_choice_none_sends_no_tools() -> None:
    assert "tools" not in body_of(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": "none"}))
    assert body_of(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": "auto"}))["tools"]
    for choice in ("required", {"name": "weather"}):
        with pytest.raises(InvalidRequest, match="auto or none"):
            WIRE.encode_request(ModelRequest("m", HISTORY, None, (TOOL,), {"tool_choice": choice}))


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b"{}", b'{"model":"m"}', b'{"model":"m","messages":[1]}', b'{"model":"m","messages":[{"role":"x"}]}',
        b'{"model":"m","messages":[{"role":"user","content":[]}]}', b'{"model":"m","messages":[],"options":1}',
        b'{"model":"m","messages":[],"tools":1}', b'{"model":"m","messages":[{"role":"user","images":[1]}]}',
        b'{"model":"m","messages":[{"role":"assistant","tool_calls":[1]}]}',
    ],
)  # fmt: skip
def test_requests_that_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        WIRE.decode_request("/api/chat", body)


def test_a_key_is_a_bearer() -> None:
    assert WIRE.auth_headers("k") == {"authorization": "Bearer k"}


# --- fields of look-alikes ----------------------------------------------------------------------------------------


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "said",
    [
        {"thinking": {"text": "hm"}},
        {"thinking": [{"type": "thinking", "thinking": "hm"}]},
        {"reasoning": "hm"},
        {"reasoning_content": [{"text": "hm"}]},
    ],
)
def test_thinking_in_any_shape(said: dict[str, Any]) -> None:
    found = decode_pieces(WIRE, [lines(said, {"content": [{"type": "text", "text": "yes"}]})])
    assert [(b["block_type"], b["text_content"]) for b in found["blocks"]] == [
        ("thinking", "hm"),
        ("text", "yes"),
    ]


def lines(*messages: dict[str, Any]) -> bytes:
    """A whole answer with these messages."""
    said = [
        {"model": "m", "message": {"role": "assistant", **message}, "done": False} for message in messages
    ]
    last = {"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"}
    return b"".join(json.dumps(line).encode() + b"\n" for line in (*said, last))


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    "extra", [{"index": 0}, {"token_ids": [1]}, {"speed": 1}, {"meta": {"n": 1}}, {"mood": "good"}]
)
def test_extras_in_each_line_are_kept_once(extra: dict[str, Any]) -> None:
    def message(n: int) -> dict[str, Any]:
        changed = {key: n if isinstance(value, int) else value for key, value in extra.items()}
        return {"content": "x", **changed}

    events = WIRE.decoder().feed(lines(*map(message, range(200))))
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "x" * 200
    told = [
        event
        for event in events
        if isinstance(event, Metadata) and "message" in (event.provider_metadata or {})
    ]
    assert len(told) <= 1


@pytest.mark.fault(20)
def test_after_extras_new_fields_are_still_seen() -> None:
    messages = [{"content": "x", "mood": "good", "speed": n} for n in range(20)]
    events = WIRE.decoder().feed(lines(*messages, {"content": "y", "tone": "soft"}, *messages))
    told = [
        event.provider_metadata for event in events if isinstance(event, Metadata) and event.provider_metadata
    ]
    assert told[0] == {"message": {"mood": "good", "speed": 0}}
    assert {"message": {"mood": "good", "speed": 0, "tone": "soft"}} in told


@pytest.mark.fault(15)
def test_a_call_whose_name_stands_beside_its_function_or_without_one() -> None:
    flat = {"tool_calls": [{"name": "f", "arguments": {"x": 1}}]}
    beside = {"tool_calls": [{"name": "g", "function": {"arguments": {"y": 2}}}]}
    nameless = {"tool_calls": [{"function": {"arguments": {}}}]}
    found = decode_pieces(WIRE, [lines(flat, beside, nameless)])
    calls = [block["content"] for block in found["blocks"]]
    assert [(c["tool_name"], c["input"]) for c in calls] == [("f", {"x": 1}), ("g", {"y": 2}), ("", {})]
    assert len({c["tool_use_id"] for c in calls}) == 3
