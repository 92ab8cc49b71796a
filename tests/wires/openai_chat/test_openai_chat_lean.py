"""The fast path for deltas with extra fields gives the same events as the general path."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wires.openai_chat.chunks import DONE, FINISH, call, calls, chunk, frame, text
from tests.wires.openai_chat.extra_fields import EXTRAS, decode_all
from turnstream.core.stream_events import StreamEvent, StreamNotice, TextDelta, ThinkingDelta
from turnstream.errors import ProviderError
from turnstream.wires.openai_chat.decoder import OpenAIChatDecoder
from turnstream.wires.openai_chat.lean import LeanReader

pytestmark = pytest.mark.fault(20)

# --- the fast path for extras
# -----------------------------------------------------------------------------------


def lean_after(*events: Any) -> Any:
    decoder = OpenAIChatDecoder(event_limit=100_000, on_malformed="fail")
    decoder.feed(b"".join(map(frame, events)))
    return decoder._template


@pytest.mark.parametrize("name", sorted(EXTRAS.keys()))
def test_the_fast_path_is_taken_with_extras_too(name: str) -> None:
    template = lean_after(*[chunk({"content": f"t{n}", **EXTRAS[name](n)}) for n in range(100)])
    assert template is not None
    assert template.hits >= 45


@pytest.mark.parametrize("name", sorted(EXTRAS.keys()))
def test_the_fast_path_is_taken_for_arguments_too(name: str) -> None:
    first = calls(call(1, "a", "f", '{"x":"'))
    more = [
        chunk({"tool_calls": [call(1, None, None, f"t{n}")], "content": "", **EXTRAS[name](n)})
        for n in range(100)
    ]
    template = lean_after(first, *more)
    assert template is not None
    assert template.hits >= 45
    events = [first, *more, calls(call(1, None, None, '"}')), calls(call(2, "b", "g", "{}"))]
    assert decode_all(events, short_cut=True) == decode_all(events, short_cut=False)


@pytest.mark.parametrize(
    "name", ["", 'a"b', "a\\b", "a\nb", "é", "\ud83d", "\x7f", "text", "field_0", "choices"]
)
def test_a_field_may_have_any_name(name: str) -> None:
    for values in ([1, 2, 3], ["x", "x", "y"], [{name: 1}, {name: 2}, {name: "x"}], [None, "", []]):
        events = [chunk({"content": f"t{n}", name: values[n % 3], "token_ids": [n]}) for n in range(30)]
        assert decode_all(events, short_cut=True) == decode_all(events, short_cut=False)


def test_a_short_cut_for_arguments_takes_no_other_call() -> None:
    def more(n: int, *fragments: dict[str, Any]) -> dict[str, Any]:
        return chunk({"tool_calls": list(fragments), "token_ids": [n]})

    begin = [calls(call(0, "a", "f", "{"), call(1, "b", "g", "{"))]
    run = [more(n, call(0, None, None, " ")) for n in range(20)]
    for surprise in (
        call(1, None, None, "}"),
        call(None, None, None, "}"),
        call(0, "b", None, "}"),
        call(0, "c", "h", "{}"),
        call(0, None, "x", "}"),
        {**call(0, None, None, "}"), "extra_content": {"signature": "S"}},
    ):
        events = [*begin, *run, more(1, surprise), *run]
        assert decode_all(events, short_cut=True) == decode_all(events, short_cut=False)


def test_a_short_cut_takes_nothing_that_has_an_effect() -> None:
    """Each of these follows a run of plain events with changing extras, and is decoded on the general
    path."""
    run = [chunk({"content": "a", "token_ids": [n], "provider_specific_fields": {"n": n}}) for n in range(20)]
    assert isinstance(lean_after(*run), LeanReader)
    surprises = [
        {"content": "b", "token_ids": [1], "novel": "x"},
        {"content": "b", "provider_specific_fields": {"n": 1, "novel": "x"}},
        {"content": "b", "provider_specific_fields": {"n": 1, "reasoning_content": "hm"}},
        {
            "content": "b",
            "provider_specific_fields": {"thinking_blocks": [{"thinking": "hm", "signature": "S"}]},
        },
        {"content": "b", "token_ids": [1], "images": [{"image_url": {"url": "https://e.org/i.png"}}]},
        {"content": "b", "token_ids": [1], "refusal": "no"},
        {"content": [{"type": "text", "text": "b"}], "token_ids": [1]},
    ]
    for surprise in surprises:
        assert decode_all([*run, chunk(surprise), *run], short_cut=True) == decode_all(
            [*run, chunk(surprise), *run], short_cut=False
        )
        assert len(decode_all([chunk(surprise)], short_cut=True)) > 2


inner = st.one_of(
    st.integers(0, 2), st.sampled_from(["x", "y", "", None]),
    st.dictionaries(st.just("k"), st.sampled_from([None, "", 1, "x"]), max_size=1),
)  # fmt: skip
values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(0, 1), st.sampled_from(["", "x", "y"]),
    st.lists(st.integers(0, 2), max_size=2), st.just([{"text": "x"}]),
    st.dictionaries(st.sampled_from(["n", "m"]), inner, max_size=2),
    st.lists(st.dictionaries(st.sampled_from(["n", "m"]), inner, max_size=1), max_size=2),
)  # fmt: skip
entries = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["thinking", "redacted_thinking"])},
        optional={
            "thinking": st.sampled_from(["", "h", None]),
            "signature": st.sampled_from(["", "S", None]),
        },
    ),
    max_size=2,
)
extra_fields = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(0, 3),
        "token_ids": st.lists(st.integers(0, 9), max_size=2),
        "created": st.integers(0, 2),
        "tier": values,
        "provider_metadata": values,
        "provider_specific_fields": st.fixed_dictionaries(
            {}, optional={"thinking_blocks": entries, "reasoning_content": st.sampled_from(["", "h"]), "n": values}
        )
        | values,
        "thinking_blocks": entries | values,
        "tool_calls": st.sampled_from([None, []]),
        "refusal": st.sampled_from([None, "", "no"]),
        "signature": st.sampled_from(["", "S"]),
        "reasoning": st.sampled_from(["", "h", None]),
        'odd"': values,
    },
)  # fmt: skip
runs = st.lists(
    st.tuples(
        st.sampled_from(["content", "reasoning_content", "reasoning"]),
        st.lists(st.tuples(st.sampled_from(["a", "", "é"]), extra_fields), min_size=1, max_size=3),
        st.integers(1, 6),
    ),
    max_size=5,
)


@settings(max_examples=400, deadline=None)
@given(runs)
def test_the_fast_path_changes_nothing_with_extras(sent: list[Any]) -> None:
    events: list[Any] = [text("begin")]
    for field, said, times in sent:
        events += [chunk({field: word, **extras}) for _ in range(times) for word, extras in said]
    assert decode_all(events, short_cut=True) == decode_all(events, short_cut=False)


# --- the bytes themselves
# ---------------------------------------------------------------------------------------


def five(n: int) -> dict[str, Any]:
    return {
        "index": n,
        "token_ids": [n, n + 1],
        "created": n // 50,
        "speed": n / 7,
        "provider_metadata": {"cost": f"{n}"},
    }


def three_times(n: int, said: str) -> dict[str, Any]:
    entries = [{"type": "thinking", "thinking": said, "signature": None}]
    return {
        "thinking_blocks": entries,
        "provider_specific_fields": {"thinking_blocks": entries, "reasoning_content": said, "n": n},
    }


FIELDS = ["content", "reasoning_content", "reasoning", "tool_calls"]
"""Names of the text's field. With `reasoning`, only the copies of the text differ."""


def event_of(n: int, field: str, **more: Any) -> bytes:
    """Return an event of a run. Some events also differ from the one before outside of their deltas."""
    said = f't{n} \n"' if n % 9 == 0 else f"t{n}"
    if field == "tool_calls":
        first = (None, None) if n else ("a", "f")
        delta: dict[str, Any] = {"tool_calls": [call(0, *first, said)], **five(n)}
    elif field == "reasoning":
        delta = {field: said, **three_times(0, said)}
    else:
        delta = {field: said, **(three_times(n, said) if field == "reasoning_content" else five(n))}
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return frame({"id": "c", "created": 7 + n // 40, "choices": [choice], **more})


def events_of(reads: Iterable[bytes], *, short_cut: bool) -> list[StreamEvent]:
    decoder = OpenAIChatDecoder(event_limit=30_000, on_malformed="skip")
    if not short_cut:
        decoder._template_tries = 10**9
    events: list[StreamEvent] = []
    try:
        for read in reads:
            events += decoder.feed(read)
        events += decoder.close()
    except ProviderError as error:
        events.append(StreamNotice(error.code, str(error)))
    return events


def cut(sent: bytes, sizes: Iterable[int]) -> list[bytes]:
    places = itertools.takewhile(lambda place: place < len(sent), itertools.accumulate(sizes))
    return [sent[begin:end] for begin, end in itertools.pairwise([0, *places, len(sent)])]


SURPRISES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "a comment": lambda _: b": still here\n\n",
    "an event with a name": lambda more: b"event: error\n" + more,
    "an event with an id": lambda more: b"id: 7\n" + more,
    "an event whose name comes last": lambda more: more[:-1] + b"event: error\n\n",
    "carriage returns": lambda more: more.replace(b"\n", b"\r\n"),
    "a carriage return in a delta": lambda more: more.replace(b'"t19"', b'\r"t19"'),
    "a line feed in a delta": lambda more: more.replace(b'"t19"', b'\n"t19"'),
    "no blank line": lambda more: more[:-1] + more,
    "more blank lines": lambda more: b"\n\n\n" + more + b"\n",
    "no space": lambda more: more.replace(b"data: ", b"data:"),
    "a line that is no data": lambda more: b"xdata: " + more,
    "a delta that is cut": lambda more: more.replace(b'"t19"', b'"t19'),
    "an event that is too large": lambda more: more.replace(b'"t19"', b'"%b"' % (b"t19" * 20_000)),
    "another choice": lambda more: more.replace(b'{"index":0', b'{"index":1').replace(b'{"index": 0', b'{"index": 1'),
    "a field that is new": lambda more: more.replace(b'"t19"', b'"t19", "refusal": "no"'),
    "half a surrogate pair": lambda more: more.replace(b'"t19"', rb'"\ud83d"'),
    "no UTF-8": lambda more: more.replace(b'"t19"', b'"\xff"'),
    "two deltas for one": lambda more: more.replace(b'"t19"', b'"t19"},{"content":"y"'),
    "a copy that differs": lambda more: more.replace(b'"t19"', b'"t20"', 1),
    "a copy with a signature": lambda more: more.replace(b'"signature": null', b'"signature": "S"', 1),
    "an empty text": lambda more: more.replace(b'"t19"', b'""'),
    "usage": lambda more: more.replace(b'"choices"', b'"usage":{"completion_tokens":9},"choices"'),
    "an error": lambda more: more.replace(b'"choices"', b'"error":{"message":"overloaded"},"choices"'),
}  # fmt: skip
"""Bytes between two runs of plain events. `more`: an event like the last of the first run, with the text
t19."""


@pytest.mark.parametrize("name", SURPRISES)
@pytest.mark.parametrize("field", FIELDS)
def test_bytes_mean_the_same_however_they_are_read(field: str, name: str) -> None:
    run = [event_of(n, field) for n in range(20)]
    sent = b"".join([*run, SURPRISES[name](event_of(19, field)), *run[1:], frame(FINISH), DONE])
    slow = events_of([sent], short_cut=False)
    assert len(slow) > 20
    begin = len(b"".join(run[:4]))
    for sizes in ([begin], itertools.repeat(1), itertools.repeat(997), itertools.cycle((5000, 3, 400))):
        assert events_of(cut(sent, sizes), short_cut=True) == slow
    by_event = [part + b"\n\n" for part in sent.removesuffix(b"\n\n").split(b"\n\n")]
    assert events_of(by_event, short_cut=True) == slow


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(sorted(SURPRISES)), max_size=3), st.lists(st.integers(1, 4000), min_size=1))
def test_bytes_of_any_stream_mean_the_same(names: list[str], sizes: list[int]) -> None:
    run, more = [event_of(n, "content") for n in range(20)], event_of(19, "content")
    parts = [part for name in names for part in (SURPRISES[name](more), *run)]
    sent = b"".join([*run, *parts, frame(FINISH), DONE])
    fast = events_of(cut(sent, itertools.cycle(sizes)), short_cut=True)
    assert fast == events_of([sent], short_cut=False)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("per_read", [1, 50])
def test_events_with_extras_are_read_from_their_bytes(field: str, per_read: int) -> None:
    decoder = OpenAIChatDecoder()
    run = [event_of(n, field) for n in range(200)]
    for begin in range(0, 200, per_read):
        decoder.feed(b"".join(run[begin : begin + per_read]))
    assert isinstance(decoder._template, LeanReader)
    assert decoder._template.reads_bytes
    assert decoder._template.hits >= 190


def copied(said: str) -> bytes:
    return frame(chunk({"reasoning": said, **three_times(0, said)}))


@pytest.mark.parametrize("said", ["t", 'a "word" \n', "another"])
def test_copies_of_a_text_are_compared(said: str) -> None:
    decoder = OpenAIChatDecoder()
    for _ in range(3):
        decoder.feed(b"".join([copied("some"), copied(said)] * 5))
    assert isinstance(decoder._template, LeanReader)
    assert len(decoder._template._around_copies) == 5
    assert decoder.feed(copied("é") * 3) == [ThinkingDelta(0, "é")] * 3


def test_a_text_like_a_word_of_its_event_is_no_copy() -> None:
    decoder = OpenAIChatDecoder()
    for _ in range(3):
        decoder.feed(copied("thinking") * 9)
    assert isinstance(decoder._template, LeanReader)
    assert decoder._template._around_copies == []
    assert decoder.feed(copied("type") * 3) == [ThinkingDelta(0, "type")] * 3


def test_events_that_differ_around_their_deltas_are_read_one_by_one() -> None:
    decoder = OpenAIChatDecoder()
    events = [event for n in range(200) for event in decoder.feed(event_of(n, "content", created=n))]
    assert sum(isinstance(event, TextDelta) for event in events) == 200
    assert isinstance(decoder._template, LeanReader)
    assert not decoder._template.reads_bytes


@pytest.mark.parametrize("position", [2**31 + 1, 2**63, -(2**70), True, 1.5])
def test_calls_of_any_index_are_read(position: Any) -> None:
    call = {"index": position, "id": "c", "function": {"name": "f", "arguments": ""}}
    pieces = [{"index": position, "function": {"arguments": text}} for text in ("{", '"a"', ":1", "}")]
    frames = [chunk({"tool_calls": [piece], "token_ids": [n]}) for n, piece in enumerate([call, *pieces])]
    lean_after(*frames)
