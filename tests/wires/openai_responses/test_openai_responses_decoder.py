"""The wire openai-responses from bytes to events, beyond the recordings."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wires.openai_responses.responses import RESPONSE, decode, end, frames, marked
from turnstream.core import stream_events as say
from turnstream.core.answers import Answer, fold_answer
from turnstream.core.usage import Usage
from turnstream.errors import (
    EventTooLarge,
    MalformedEvent,
    StreamIncomplete,
)
from turnstream.wires.base import Position
from turnstream.wires.openai_responses.wire import WIRE


def item(kind: str, output_index: int = 0, *, done: bool = False, **fields: Any) -> dict[str, Any]:
    ending = "done" if done else "added"
    return {
        "type": f"response.output_item.{ending}",
        "output_index": output_index,
        "item": {"type": kind, **fields},
    }


def delta(name: str, text: str, output_index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"type": f"response.{name}.delta", "output_index": output_index, "delta": text, **fields}


def answer(*events: dict[str, Any]) -> Answer:
    return fold_answer(decode(frames(*events)))


MESSAGE = item("message", id="msg_1", role="assistant", content=[])


# --- how a response ends


@pytest.mark.requirement("E3")
@pytest.mark.parametrize(
    ("last", "reason", "raw"),
    [
        (end(), "end_turn", "completed"),
        (
            end("incomplete", incomplete_details={"reason": "max_output_tokens"}),
            "max_tokens",
            "max_output_tokens",
        ),
        (
            end("incomplete", incomplete_details={"reason": "content_filter"}),
            "content_filtered",
            "content_filter",
        ),
        (end("incomplete", incomplete_details={"reason": "steered"}), "unknown", "steered"),
        (end("incomplete"), "unknown", "incomplete"),
    ],
)
def test_stop_reasons(last, reason, raw):
    stop = answer(MESSAGE, delta("output_text", "hi"), last).stop
    assert stop == say.MessageStop(reason, raw)


@pytest.mark.requirement("E3")
def test_a_refusal_is_text_that_says_so():
    found = answer(
        MESSAGE, delta("refusal", "I can"), delta("refusal", "not."),
        {"type": "response.refusal.done", "output_index": 0, "content_index": 0, "refusal": "I cannot."},
        item("message", id="msg_1", role="assistant", content=[{"type": "refusal", "refusal": "I cannot."}], done=True),
        end(),
    )  # fmt: skip
    (block,) = found.blocks
    assert (block.block_type, block.text_content) == ("text", "I cannot.")
    assert block.content == {
        "provider_metadata": {"refusal": True, "responses": {"type": "message", "id": "msg_1"}}
    }
    assert found.stop == say.MessageStop("refusal", "completed")


@pytest.mark.requirement("D6", "P5")
def test_a_body_without_an_end_is_incomplete():
    with pytest.raises(StreamIncomplete):
        decode(frames(MESSAGE, delta("output_text", "hi")))
    with pytest.raises(StreamIncomplete):
        decode(frames(MESSAGE, delta("output_text", "hi"), end())[:-30])


@pytest.mark.requirement("D4", "E2")
@pytest.mark.parametrize(
    ("code", "kind", "ours"),
    [
        ("context_length_exceeded", "validation", "context_length_exceeded"),
        ("rate_limit_exceeded", "throttling", "rate_limit_error"),
        ("insufficient_quota", "throttling", "insufficient_quota"),
        ("server_error", "internal_server", "api_error"),
        ("server_is_overloaded", "service_unavailable", "overloaded_error"),
        ("content_filter", "validation", "content_filtered"),
        ("image_content_policy_violation", "validation", "content_filtered"),
        ("invalid_prompt", "validation", "invalid_request_error"),
        ("vector_store_timeout", "service_unavailable", "timeout_error"),
    ],
)
def test_errors_in_mid_stream(code, kind, ours):
    expected = say.StreamError(kind, ours, "no")
    plain = {"type": "error", "code": code, "message": "no", "param": None}
    nested = {"type": "error", "error": {"type": "x", "code": code, "message": "no", "param": None}}
    failed = end("failed", error={"code": code, "message": "no"})
    for last in (plain, nested, failed):
        events = decode(frames(MESSAGE, delta("output_text", "hi"), last, delta("output_text", "more")))
        assert events[-1] == expected
        assert not any(isinstance(event, say.MessageStop) for event in events)


def test_what_was_used_before_a_failure_is_told():
    usage = {"input_tokens": 3, "output_tokens": 2}
    *_, told, error = decode(frames(MESSAGE, end("failed", error={"code": "server_error"}, usage=usage)))
    assert isinstance(told, say.Metadata)
    assert told.usage == Usage(3, 2)
    assert isinstance(error, say.StreamError)


def test_a_cancelled_response_is_no_whole_answer():
    *_, last = decode(frames(MESSAGE, delta("output_text", "hi"), end("cancelled")))
    assert last == say.StreamError("model_stream", "response_cancelled", "the response was cancelled")


# --- items


@pytest.mark.requirement("B3", "B5")
def test_items_interleave():
    events = decode(
        frames(
            item("function_call", 0, id="fc_1", call_id="call_1", name="one", arguments=""),
            item("function_call", 1, id="fc_2", call_id="call_2", name="two", arguments=""),
            delta("function_call_arguments", '{"a"', 0),
            delta("function_call_arguments", '{"b"', 1),
            delta("function_call_arguments", ":1}", 0),
            delta("function_call_arguments", ":2}", 1),
            item("function_call", 1, id="fc_2", call_id="call_2", name="two", arguments='{"b":2}', done=True),
            item("function_call", 0, id="fc_1", call_id="call_1", name="one", arguments='{"a":1}', done=True),
            end(),
        )
    )
    found = fold_answer(events)
    calls = [block.content or {} for block in found.blocks]
    assert [(call["tool_use_id"], call["input"]) for call in calls] == [
        ("call_1", {"a": 1}),
        ("call_2", {"b": 2}),
    ]
    assert found.stop == say.MessageStop("tool_use", "completed")


@pytest.mark.requirement("B3", "K2")
def test_what_reasoning_has_to_take_back_is_kept_on_its_last_block():
    whole = item(
        "reasoning",
        id="rs_1",
        summary=[{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
        encrypted_content="secret",
        done=True,
    )
    found = answer(
        item("reasoning", id="rs_1", summary=[], encrypted_content="early"),
        delta("reasoning_summary_text", "one", summary_index=0),
        delta("reasoning_summary_text", "two", summary_index=1),
        whole,
        end(),
    )
    one, two = found.blocks
    assert (one.text_content, one.content) == ("one", marked("reasoning", id="rs_1"))
    assert (two.text_content, two.content) == (
        "two",
        marked("reasoning", id="rs_1", encrypted_content="secret"),
    )
    assert answer(whole, end()) == found, "an item that was never streamed is the same"


@pytest.mark.requirement("B3")
def test_a_custom_tool_takes_text_and_a_program_can_run_it():
    found = answer(
        item("custom_tool_call", id="ctc_1", call_id="call_1", name="sql", input=""),
        delta("custom_tool_call_input", "SELECT "),
        delta("custom_tool_call_input", "1"),
        item("custom_tool_call", id="ctc_1", call_id="call_1", name="sql", input="SELECT 1", done=True),
        end(),
    )
    (block,) = found.blocks
    content = block.content or {}
    assert (content["input_json"], content["input"]) == ("SELECT 1", {"input": "SELECT 1"})
    assert found.stop == say.MessageStop("tool_use", "completed")


@pytest.mark.requirement("B3")
@pytest.mark.parametrize("failed", [False, True])
def test_what_the_provider_ran_is_a_call_and_its_result(failed):
    outcome = {"error": {"code": 5}, "output": None} if failed else {"output": "sunny", "error": None}
    call = {"id": "mcp_1", "name": "weather", "server_label": "sky", "arguments": '{"city":"Oslo"}'}
    found = answer(
        item("mcp_call", **{**call, "arguments": ""}),
        delta("mcp_call_arguments", '{"city":'),
        delta("mcp_call_arguments", '"Oslo"}'),
        item("mcp_call", **call, **outcome, done=True),
        end(),
    )
    use, result = (block.content or {} for block in found.blocks)
    assert (use["tool_name"], use["input"], use["provider_executed"]) == ("weather", {"city": "Oslo"}, True)
    assert use["provider_metadata"] == marked("mcp_call", id="mcp_1", server_label="sky")["provider_metadata"]
    assert (result["tool_use_id"], result["is_error"]) == ("mcp_1", failed)
    assert result["content"] == ({"code": 5} if failed else "sunny")
    assert found.stop == say.MessageStop("end_turn", "completed"), "nobody has to run anything"


@pytest.mark.requirement("B3", "E1")
def test_an_unknown_item_event_and_field_is_kept_raw():
    quantum = {"id": "q_1", "answer": 42, "deep": {"a": [1]}}
    events = decode(
        frames(
            item("quantum_call", **quantum),
            {"type": "response.quantum_call.thinking", "output_index": 0, "hint": "in the item, later"},
            item("quantum_call", **quantum, done=True),
            {"type": "response.weather", "sky": "blue"},
            {"type": "response.heartbeat", "output_index": 0},
            end(moderation={"flagged": False}),
        )
    )
    assert say.ContentBlockStart(0, "provider", {"type": "quantum_call", **quantum}) in events
    (told,) = (event.provider_metadata for event in events if isinstance(event, say.Metadata))
    assert told is not None
    assert told["moderation"] == {"flagged": False}
    assert [event["type"] for event in told["events"]] == ["response.weather"]


@pytest.mark.requirement("E6")
def test_unknown_events_are_kept_up_to_a_limit():
    noise = [{"type": "response.noise", "data": "x" * 300} for _ in range(9)]
    events = decode(frames(*noise, MESSAGE, delta("output_text", "hi"), end()), event_limit=1000)
    assert [event.code for event in events if isinstance(event, say.StreamNotice)] == ["events_dropped"]
    (told,) = (event.provider_metadata for event in events if isinstance(event, say.Metadata))
    assert told is not None
    assert len(told["events"]) == 2
    assert fold_answer(events).complete


def test_a_stream_that_only_ends_has_its_answer_in_the_end():
    content = [{"type": "output_text", "text": "all", "annotations": [{"type": "url_citation", "url": "u"}]}]
    found = answer(end(output=[{"type": "message", "id": "m", "role": "assistant", "content": content}]))
    (block,) = found.blocks
    assert block.text_content == "all"
    assert (block.content or {})["citations"] == [{"type": "url_citation", "url": "u"}]


def test_an_event_that_was_given_out_does_not_change():
    begin = item("function_call", id="fc_1", name="weather", arguments="")
    done = item("function_call", id="fc_1", call_id="c", name="weather", arguments="{}", done=True)
    together = decode(frames(begin, done, end()))
    (start,) = [event for event in together if isinstance(event, say.ContentBlockStart)]
    assert (start.content or {})["tool_use_id"] == "fc_1"
    assert (fold_answer(together).blocks[0].content or {})["tool_use_id"] == "c"


def test_an_item_that_only_the_end_tells_of_is_not_lost():
    message = {"type": "message", "id": "renamed", "content": [{"type": "output_text", "text": "one"}]}
    call = {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "weather", "arguments": "{}"}
    for streamed in (
        [MESSAGE, delta("output_text", "one")],
        [delta("output_text", "one")],
        [delta("output_text", "one", 7), item("message", 7, done=True, **message)],
    ):
        found = answer(*streamed, end(output=[message, call]))
        text, use = found.blocks
        assert text.text_content == "one"
        assert (use.content or {})["tool_use_id"] == "c"
        assert found.stop == say.MessageStop("tool_use", "completed")


@pytest.mark.requirement("B4")
def test_halves_of_a_surrogate_pair_in_two_deltas():
    body = frames(MESSAGE, delta("output_text", "\ud83d"), delta("output_text", "\ude00"), end())
    assert fold_answer(decode(body)).blocks[0].text_content == "😀"


def test_what_its_deltas_left_out_comes_with_the_whole_text():
    done = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "one two"}
    assert answer(MESSAGE, delta("output_text", "one"), done, end()).blocks[0].text_content == "one two"
    assert answer(MESSAGE, done, done, end()).blocks[0].text_content == "one two"


def test_what_is_said_after_an_end_is_not_lost_nor_doubled():
    part = {"type": "response.content_part.done", "output_index": 0, "content_index": 0}
    part["part"] = {"type": "output_text", "text": "one", "annotations": []}
    whole = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "one"}
    found = answer(
        MESSAGE, delta("output_text", "one"), part, whole, part, delta("output_text", "more"), end()
    )
    assert [block.text_content for block in found.blocks] == ["one", "more"]
    thought = item("reasoning", id="rs_1", summary=[])
    summaries = (
        delta("reasoning_summary_text", text, summary_index=n) for n, text in ((0, "a"), (1, "b"), (0, "c"))
    )
    assert [block.text_content for block in answer(thought, *summaries, end()).blocks] == ["a", "b", "c"]
    ended = item("message", id="msg_1", role="assistant", content=[], done=True)
    decoder = WIRE.decoder()
    decoder.feed(frames(MESSAGE, ended, delta("output_text", "late")))
    with pytest.raises(MalformedEvent):
        decoder.feed(b"")


def test_missing_starts_are_no_failure():
    found = answer(delta("output_text", "hi"), delta("output_text", " you", 3), end())
    assert [block.text_content for block in found.blocks] == ["hi", " you"]


@pytest.mark.requirement("E6")
def test_a_malformed_event_fails_or_is_skipped():
    body = (
        frames(MESSAGE, delta("output_text", "a"))
        + b"data: {\n\n"
        + frames(delta("output_text", "b"), end(), created=False)
    )
    decoder = WIRE.decoder()
    assert decoder.feed(body)[-1] == say.TextDelta(0, "a")
    with pytest.raises(MalformedEvent):
        decoder.feed(b"")
    events = decode(body, on_malformed="skip")
    assert [event.text for event in events if isinstance(event, say.TextDelta)] == ["a", "b"]
    with pytest.raises(EventTooLarge):
        decode(body, event_limit=20)


# --- going on with a background response


@pytest.mark.requirement("E1")
def test_a_position_is_where_a_background_response_can_be_gone_on_with():
    kept = {"type": "response.created", "response": {**RESPONSE, "background": True}}
    body = frames(
        kept, MESSAGE, delta("output_text", "one "), delta("output_text", "two"), end(), created=False
    )
    decoder = WIRE.decoder()
    assert decoder.position is None
    whole = decode(body)
    cut = body.index(b"two") + 1
    events = decoder.feed(body[:cut])
    assert decoder.position == Position("resp_1", 2)
    request = WIRE.encode_resume(decoder.position)
    assert (request.method, request.path) == ("GET", "/responses/resp_1?stream=true&starting_after=2")
    decoder.reattach()
    events += decoder.feed(body) + decoder.close()
    assert events == whole, "what was taken already is left out, whatever the provider sends again"
    assert decoder.position is None
    other = WIRE.decoder()
    other.feed(frames(MESSAGE))
    assert other.position is None, "this one is not kept"
