"""The answers of the scripts are the same on every wire."""

from __future__ import annotations

import pytest

from turnstream.core.accumulator import Accumulator
from turnstream.core.blocks import Block
from turnstream.core.stream_events import MessageStop, StreamEvent, TextDelta, ToolInputDelta
from turnstream.errors import InvalidModelRequest, ModelNotFound
from turnstream.simulator import texts
from turnstream.simulator.actions import Send
from turnstream.simulator.options import SCRIPT_NAMES, SimulatorOptions, parse_model_name
from turnstream.simulator.playback import play
from turnstream.simulator.script import example_of, script_for
from turnstream.wires import WIRES

BOTH_WIRES = pytest.mark.parametrize("wire", WIRES.values(), ids=lambda wire: wire.name)


def folded(events: list[StreamEvent]) -> tuple[list[Block], Accumulator]:
    accumulator = Accumulator()
    blocks: list[Block] = []
    position = 0
    while True:
        position = accumulator.fold(events, position)
        if accumulator.finished is None:
            return blocks, accumulator
        blocks.append(accumulator.finished)
        accumulator.release()


def text_of(events: list[StreamEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@BOTH_WIRES
@pytest.mark.parametrize(
    "script", [*SCRIPT_NAMES, "story:events=40,seed=3", "demo:batch=7", "thinking:batch=0"]
)
@pytest.mark.parametrize("chunk", [0, 1, 3, 1000])
def test_the_body_decodes_to_the_script(ask, wire, script, chunk):
    model = f"{script}{',' if ':' in script else ':'}chunk={chunk}"
    request = ask(model, tools=True)
    blocks, told = folded(list(script_for(request).events))
    decoder = wire.decoder()
    events: list[StreamEvent] = []
    for action in play(request, wire):
        assert isinstance(action, Send)
        events += decoder.feed(action.data)
    events += decoder.close()
    decoded, heard = folded(events)
    if wire.name != "anthropic":
        blocks = [_unsigned(block) for block in blocks]
        decoded = [_unsigned(_unmarked(block)) for block in decoded]
    assert decoded == blocks
    assert heard.stop is not None
    assert told.stop is not None
    assert heard.stop.stop_reason == told.stop.stop_reason
    assert (heard.usage.input_tokens, heard.usage.output_tokens) == (
        told.usage.input_tokens,
        told.usage.output_tokens,
    )


def _unmarked(block: Block) -> Block:
    """A wire may keep the ids of its own items beside a block."""
    content = {key: value for key, value in (block.content or {}).items() if key != "provider_metadata"}
    return Block(block.sequence, block.block_type, block.text_content, content or None)


def _unsigned(block: Block) -> Block:
    """Only Anthropic has a place for the signature of a thinking block."""
    if block.block_type != "thinking":
        return block
    return Block(block.sequence, block.block_type, block.text_content)


@pytest.mark.parametrize("script", SCRIPT_NAMES)
def test_the_same_request_gets_the_same_answer(ask, script):
    one, two = script_for(ask(script, tools=True)), script_for(ask(script, tools=True))
    assert one.message_id == two.message_id
    assert list(one.events) == list(two.events)


def test_seeds_tell_stories_apart(ask):
    stories = {text_of(list(script_for(ask(f"story:events=50,seed={seed}")).events)) for seed in range(5)}
    assert len(stories) == 5


@pytest.mark.parametrize("deltas", [0, 1, 60, 1000])
def test_a_story_has_as_many_deltas_as_asked_for(ask, deltas):
    events = list(script_for(ask(f"story:events={deltas}")).events)
    assert sum(isinstance(event, TextDelta) for event in events) == deltas


def test_the_demo_fits_a_server_a_terminal_and_a_program(ask):
    said = text_of(list(script_for(ask("demo", Block(0, "text", "Hi"))).events))
    places = [said.index(place) for place in ("At a server", "With `turnstream ask`", "In a program")]
    assert places == sorted(places)
    assert "start the server" not in said


def test_the_demo_says_that_it_is_simulated_and_what_it_heard(ask):
    said = text_of(list(script_for(ask("demo", Block(0, "text", "Hi {there}\nyou"))).events))
    assert "no provider" in said
    assert "> Hi {there}\n> you" in said
    assert 150 <= len(said.split()) <= 300


def test_the_echo_is_what_was_said(ask):
    assert text_of(list(script_for(ask("echo", Block(0, "text", "a  b\r\n c\n"))).events)) == "a  b\r\n c\n"


def test_thinking_is_signed_and_hard_to_carry(ask):
    blocks, _ = folded(list(script_for(ask("thinking")).events))
    thinking, text = blocks
    assert thinking.text_content == texts.THOUGHT
    assert thinking.content is not None
    assert thinking.content["signature"]
    assert text.text_content == texts.UNUSUAL
    for awkward in ("\r\n", "\u2028", "\u0301", "👩‍👩‍👧‍👦", "\ufeff"):
        assert awkward in texts.THOUGHT + texts.UNUSUAL


class TestTools:
    def test_two_calls_with_fitting_arguments(self, ask):
        blocks, answer = folded(list(script_for(ask("tools", tools=True)).events))
        calls = [block.content for block in blocks if block.block_type == "tool_use"]
        assert [call["input"] for call in calls] == [
            {"city": "example 1", "unit": "F"},
            {"city": "example 2", "unit": "C"},
        ]
        assert len({call["tool_use_id"] for call in calls}) == 2
        assert answer.stop == MessageStop("tool_use")

    def test_arguments_come_in_fragments(self, ask):
        events = list(script_for(ask("tools", tools=True)).events)
        assert sum(isinstance(event, ToolInputDelta) for event in events) > 4

    def test_results_are_answered_in_text(self, ask):
        result = Block(
            0, "tool_result", None, {"tool_use_id": "t", "content": "21 degrees", "is_error": False}
        )
        blocks, answer = folded(list(script_for(ask("tools", result, tools=True)).events))
        assert "21 degrees" in (blocks[0].text_content or "")
        assert answer.stop == MessageStop("end_turn")

    def test_without_tools_it_says_so(self, ask):
        assert text_of(list(script_for(ask("tools")).events)) == texts.NO_TOOLS

    @pytest.mark.parametrize(
        ("schema", "example"),
        [
            ({}, {}),
            ({"type": "object", "properties": {"a": {"type": ["integer", "null"]}}}, {"a": 1}),
            ({"type": "array", "items": {"type": "boolean"}}, [True]),
            ({"const": 7}, 7),
            ({"type": "number", "minimum": 40}, 40),
            ({"type": "null"}, None),
            ({"type": "array", "items": True}, ["example 1"]),
            ({"properties": {"a": True}, "required": ["a"]}, {"a": "example 1"}),
            ({"properties": [], "required": "a"}, {}),
            ({"type": "integer", "minimum": "many", "enum": 7}, 1),
            ({"type": []}, {}),
        ],
    )
    def test_examples(self, schema, example):
        assert example_of(schema, 1) == example

    def test_a_schema_without_end(self):
        endless: dict[str, object] = {"type": "object", "required": ["again"]}
        endless["properties"] = {"again": endless}
        assert example_of(endless, 1)


class TestNames:
    def test_options(self):
        parsed = parse_model_name("story:events=300,pace=0.002, seed=7,retry-after=2")
        assert parsed == ("story", SimulatorOptions(events=300, pace=0.002, seed=7, retry_after=2))

    def test_no_options(self):
        assert parse_model_name("demo") == ("demo", SimulatorOptions())

    @pytest.mark.parametrize("name", ["gpt-4", "", "demo2:pace=0"])
    def test_unknown_scripts(self, name):
        with pytest.raises(ModelNotFound, match="demo, echo"):
            parse_model_name(name)

    @pytest.mark.parametrize(
        "options", ["pace", "pace=fast", "pace=-1", "events=1e99", "fault=fire", "speed=3", "status=200"]
    )
    def test_options_that_do_not_fit(self, options):
        with pytest.raises(InvalidModelRequest):
            parse_model_name(f"demo:{options}")


@BOTH_WIRES
class TestWrites:
    def test_a_write_for_each_event(self, ask, wire):
        assert len(list(play(ask("story:events=100"), wire))) >= 100

    def test_batches(self, ask, wire):
        assert len(list(play(ask("story:events=100,batch=10"), wire))) <= 12

    def test_the_largest_writes(self, ask, wire):
        sends = list(play(ask("story:events=10000,batch=0,pace=0"), wire))
        assert len(sends) < 100
        assert all(len(send.data) >= 64 * 1024 for send in sends[:-1])

    def test_a_batch_takes_the_time_of_its_events(self, ask, wire):
        single = sum(send.delay for send in play(ask("story:events=100,pace=0.01"), wire))
        batched = sum(send.delay for send in play(ask("story:events=100,pace=0.01,batch=20"), wire))
        assert single == pytest.approx(1.0, rel=0.1)
        assert batched == pytest.approx(single, rel=0.1)

    def test_chunks_cut_wherever_they_fall(self, ask, wire):
        pieces = [send.data for send in play(ask("thinking:chunk=11"), wire)]
        assert {len(piece) for piece in pieces[:-1]} == {11}

    def test_a_story_told_again_is_not_encoded_again(self, ask, wire):
        one, two = (list(play(ask("story:events=20,seed=9"), wire)) for _ in range(2))
        assert one == two
        assert one[0].data is two[0].data or len(one) == 1
