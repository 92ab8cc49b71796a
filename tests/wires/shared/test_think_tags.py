"""`<think>` tags in text become thinking blocks, for every cut of the text (requirement L4)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from turnstream.config import ProviderSettings, Timeouts
from turnstream.core.stream_events import (
    ContentBlockStart,
    ContentBlockStop,
    ContentDelta,
    MessageStart,
    MessageStop,
    StreamError,
    StreamEvent,
    TextDelta,
    ToolInputDelta,
)
from turnstream.errors import StreamIncomplete
from turnstream.providers.endpoints import Endpoint
from turnstream.providers.http import HttpProvider
from turnstream.wires import WIRES
from turnstream.wires.recording import decode_pieces
from turnstream.wires.shared.think_tags import BLANK_LIMIT, TAGS, ThinkTagDecoder


class Tagged:
    """A wire whose decoders find thinking in the text."""

    def __init__(self, name: str) -> None:
        self._wire: Any = WIRES[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def decoder(self, **options: Any) -> ThinkTagDecoder:
        return ThinkTagDecoder(self._wire.decoder(**options))


def split(*pieces: str) -> list[tuple[str, str]]:
    """Return the blocks of an answer in `pieces`: kind and text."""
    events: list[StreamEvent] = [ContentBlockStart(0, "text"), *(TextDelta(0, piece) for piece in pieces)]
    return blocks_of([*events, ContentBlockStop(0), MessageStop("end_turn")])


def blocks_of(events: list[StreamEvent]) -> list[tuple[str, str]]:
    splitter = ThinkTagDecoder(WIRES["ollama"].decoder())
    found: dict[int, list[str]] = {}
    stopped: set[int] = set()
    for event in [out for one in events for out in splitter.split([one])]:
        if isinstance(event, ContentBlockStart):
            assert event.index == len(found), "indexes have no gaps"
            assert len(stopped) == len(found), "one block at a time"
            found[event.index] = [event.block_type, ""]
        elif isinstance(event, ContentBlockStop):
            stopped.add(event.index)
        elif (text := getattr(event, "text", None)) is not None:
            assert event.index not in stopped
            assert text
            found[event.index][1] += text
    assert stopped == found.keys()
    return [(kind, text) for kind, text in found.values()]


def expected(text: str) -> list[tuple[str, str]]:
    """Return the expected blocks by splitting the whole text at once."""
    blocks: list[tuple[str, str]] = []
    thought = False
    while match := re.match(rf"(\s*)<({'|'.join(TAGS)})>(.*?)(</\2>|\Z)", text, re.DOTALL):
        if len(match[1]) > BLANK_LIMIT:
            break
        if thinking := match[3].lstrip():
            blocks.append(("thinking", thinking))
        if not match[4]:
            return blocks
        thought, text = True, text[match.end() :]
    blank = len(text) - len(text.lstrip())
    if thought and blank <= BLANK_LIMIT:
        text = text.lstrip()
    return [*blocks, ("text", text)] if text or not thought else blocks


@pytest.mark.requirement("L4")
@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("<think>\nhm\n</think>\n\nyes", [("thinking", "hm\n"), ("text", "yes")]),
        (" \n<think>a</think>b", [("thinking", "a"), ("text", "b")]),
        ("<think>\n\n</think>\n\nyes", [("text", "yes")]),
        ("<think>a</think><think>b</think>c", [("thinking", "a"), ("thinking", "b"), ("text", "c")]),
        ("<think>a < b </thin> </think", [("thinking", "a < b </thin> </think")]),
        ("<think>only", [("thinking", "only")]),
        ("<think>only</think>\n", [("thinking", "only")]),
        ("write <think>x</think>", [("text", "write <think>x</think>")]),
        ("<thin", [("text", "<thin")]),
        ("  two blanks", [("text", "  two blanks")]),
        ("<think>a</think> <thin", [("thinking", "a"), ("text", "<thin")]),
        ("", [("text", "")]),
        ("<thinking>a</thinking>b", [("thinking", "a"), ("text", "b")]),
        ("<reasoning>\na\n</reasoning>\n\nb", [("thinking", "a\n"), ("text", "b")]),
        ("<thinking>a</think>b</thinking>c", [("thinking", "a</think>b"), ("text", "c")]),
        ("<thinker>a", [("text", "<thinker>a")]),
    ],
)
@pytest.mark.fault(19)
def test_tags_cut_everywhere(text: str, blocks: list[tuple[str, str]]) -> None:
    assert expected(text) == blocks
    assert split(text) == blocks
    assert split(*text) == blocks
    for one in range(len(text)):
        for two in range(one, len(text)):
            assert split(*filter(None, (text[:one], text[one:two], text[two:]))) == blocks


tokens = st.sampled_from(
    [
        "<think>",
        "</think>",
        "<reasoning>",
        "</reasoning>",
        "<thinking>",
        "<thin",
        "<",
        "think>",
        "</",
        ">",
        "a",
        " ",
        "\n",
        "\u2028",
        "é",
        " " * BLANK_LIMIT,
    ]
)


@pytest.mark.requirement("L4")
@settings(max_examples=300, deadline=None)
@given(st.lists(tokens, max_size=12).map("".join), st.data())
@example(" " * (BLANK_LIMIT + 1) + "<think>a", None)
def test_any_text_cut_anywhere_gives_the_same_blocks(text: str, data: st.DataObject | None) -> None:
    places = sorted(data.draw(st.sets(st.integers(0, len(text))))) if data else range(len(text))
    bounds = [0, *places, len(text)]
    pieces = [text[start:end] for start, end in pairwise(bounds)]
    assert split(*filter(None, pieces)) == expected(text)


@pytest.mark.requirement("L4", "B5")
def test_other_blocks_pass_with_indexes_that_fit() -> None:
    start = ContentBlockStart(1, "tool_use", {"tool_use_id": "1", "tool_name": "f"})
    given_events: list[StreamEvent] = [
        MessageStart("i", "m"),
        ContentBlockStart(0, "text"),
        TextDelta(0, "<think>a</think>b"),
        ContentDelta(0, {"citations": [1]}),
        start,
        ToolInputDelta(1, "{}"),
        ContentBlockStop(0),
        ContentBlockStop(1),
        MessageStop("tool_use"),
    ]
    found = ThinkTagDecoder(WIRES["ollama"].decoder()).split(given_events)
    assert [event for event in found if getattr(event, "index", None) == 1][1:] == [
        TextDelta(1, "b"),
        ContentDelta(1, {"citations": [1]}),
        ContentBlockStop(1),
    ]
    assert [event for event in found if getattr(event, "index", None) == 2] == [
        ContentBlockStart(2, "tool_use", start.content),
        ToolInputDelta(2, "{}"),
        ContentBlockStop(2),
    ]


def test_citations_wait_for_their_text() -> None:
    given_events: list[StreamEvent] = [
        ContentBlockStart(0, "text"),
        TextDelta(0, "<think>a"),
        ContentDelta(0, {"citations": [1]}),
        TextDelta(0, "</think>"),
        ContentBlockStop(0),
    ]
    found = ThinkTagDecoder(WIRES["ollama"].decoder()).split(given_events)
    assert found[-3:] == [
        ContentBlockStart(1, "text"),
        ContentDelta(1, {"citations": [1]}),
        ContentBlockStop(1),
    ]


@pytest.mark.parametrize("end", [MessageStop("end_turn"), StreamError("internal_server", "api_error", "x")])
def test_what_is_held_back_is_shown_before_the_end(end: StreamEvent) -> None:
    found = ThinkTagDecoder(WIRES["ollama"].decoder()).split([TextDelta(0, "<thi"), end])
    assert found == [ContentBlockStart(0, "text"), TextDelta(0, "<thi"), end]


def test_errors_of_the_wire_pass() -> None:
    with pytest.raises(StreamIncomplete):
        ThinkTagDecoder(WIRES["ollama"].decoder()).close()


@pytest.mark.requirement("L4", "E4")
@pytest.mark.parametrize("wire", WIRES)
def test_a_tagged_answer_on_every_wire_at_every_byte(wire: str) -> None:
    encoder = WIRES[wire].encoder(model="m", message_id="i")
    said: list[StreamEvent] = [TextDelta(0, piece) for piece in ("<th", "ink>é</", "think>\n", "yes")]
    body = encoder.feed([MessageStart("i", "m"), ContentBlockStart(0, "text"), *said, ContentBlockStop(0)])
    body += encoder.feed([MessageStop("end_turn")]) + encoder.close()
    tagged: Any = Tagged(wire)
    whole = decode_pieces(tagged, [body])
    assert [(b["block_type"], b["text_content"]) for b in whole["blocks"]] == [
        ("thinking", "é"),
        ("text", "yes"),
    ]
    for place in range(1, len(body)):
        cut = decode_pieces(tagged, [body[:place], body[place:]])
        assert cut["blocks"] == whole["blocks"]
        assert cut["complete"] is True


def test_only_the_models_named_are_split() -> None:
    names = ProviderSettings.model_validate({"think_tags": ["deepseek-r1*", "qwq"]}).think_tags
    endpoint = Endpoint("http://127.0.0.1", think_tags=names)
    assert [endpoint.has_think_tags(model) for model in ("deepseek-r1:8b", "qwq", "qwq:32b")] == [
        True,
        True,
        False,
    ]
    assert not Endpoint("http://127.0.0.1").has_think_tags("deepseek-r1:8b")
    HttpProvider("test", WIRES["ollama"], endpoint, Timeouts())
