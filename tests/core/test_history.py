"""Any turns make a history that every provider accepts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnstream.core.blocks import Block, BlockType, Content, Message
from turnstream.core.history import (
    CANCELLED,
    CANCELLED_BY_ERROR,
    CONTINUE,
    UNNAMED_TOOL,
    PastTurn,
    build_history,
)
from turnstream.core.lifecycle import TurnStatus
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest


def text(value: str, *, partial: bool = False) -> Block:
    return Block(0, "text", value, None, partial)


def thinking(value: str = "hm", *, partial: bool = False, **content: Any) -> Block:
    return Block(0, "thinking", value, content or None, partial)


def call(identity: str, name: str = "f", *, partial: bool = False, **content: Any) -> Block:
    return Block(
        0,
        "tool_use",
        None,
        {"tool_use_id": identity, "tool_name": name, "input": {}, "input_json": "{}", **content},
        partial,
    )


def result(identity: str, content: Any = "ok", **more: Any) -> Block:
    return Block(
        0, "tool_result", None, {"tool_use_id": identity, "content": content, "is_error": False, **more}
    )


def user(*blocks: Block) -> PastTurn:
    return PastTurn("user", "complete", blocks)


def assistant(*blocks: Block, status: TurnStatus = "complete") -> PastTurn:
    return PastTurn("assistant", status, blocks)


def shape(messages: Sequence[Message]) -> list[tuple[str, list[Any]]]:
    """Messages as (role, blocks): texts as they are, calls as `id()`, results as `id=…`."""
    return [(message.role, [shape_of(block) for block in message.blocks]) for message in messages]


def shape_of(block: Block) -> str:
    content = block.content or {}
    match block.block_type:
        case "tool_use":
            return f"{content['tool_use_id']}()"
        case "tool_result":
            return f"{content['tool_use_id']}={'!' if content['is_error'] else ''}{content['content']}"
        case "text":
            return str(block.text_content)
        case other:
            return f"<{other}>"


def test_plain_turns_are_plain_messages() -> None:
    messages = build_history(
        [user(text("a")), assistant(thinking(signature="s"), text("b")), user(text("c"))]
    )
    assert shape(messages) == [("user", ["a"]), ("assistant", ["<thinking>", "b"]), ("user", ["c"])]
    assert [block.sequence for block in messages[1].blocks] == [0, 1]
    assert build_history([]) == ()
    assert build_history([("user", "complete", (text("a"),))]) == build_history([user(text("a"))])


@pytest.mark.requirement("P4")
def test_nothing_empty_goes_out() -> None:
    turns = [
        user(text(" \n"), text("a")),
        assistant(text(""), status="cancelled"),
        user(text("b")),
        assistant(),
        user(),
    ]
    assert shape(build_history(turns)) == [("user", ["a", "b"])]
    assert build_history([user(text(" ")), assistant(status="error")]) == ()


@pytest.mark.requirement("P4", "J4")
def test_what_was_cut_off() -> None:
    cut = assistant(thinking(signature="s"), text("hal", partial=True), status="error")
    assert shape(build_history([user(text("a")), cut, user(text("b"))]))[1] == (
        "assistant",
        ["<thinking>", "hal"],
    )
    for lost in (
        thinking("h", partial=True),
        thinking("h", signature="s"),
        call("x", partial=True),
        Block(0, "provider", None, {"type": "t"}, True),
    ):
        turn = assistant(text("said"), lost, status="cancelled")
        assert shape(build_history([user(text("a")), turn, user(text("b"))]))[1] == ("assistant", ["said"])


@pytest.mark.requirement("G5", "P4")
@pytest.mark.parametrize(
    ("status", "reason"), [("cancelled", CANCELLED), ("error", CANCELLED_BY_ERROR), ("streaming", CANCELLED)]
)
def test_a_call_without_its_result_is_cancelled(status: TurnStatus, reason: str) -> None:
    turns = [
        user(text("a")),
        assistant(text("b"), call("x"), call("y"), result("x"), status=status),
        user(text("c")),
    ]
    assert shape(build_history(turns)) == [
        ("user", ["a"]),
        ("assistant", ["b", "x()", "y()"]),
        ("user", ["x=ok", f"y=!{reason}", "c"]),
    ]


@pytest.mark.requirement("G1", "G2", "P4")
def test_results_follow_their_calls_in_call_order() -> None:
    turn = assistant(
        text("b"),
        call("x"),
        call("y"),
        result("y"),
        result("x"),
        thinking(signature="s"),
        text("c"),
        call("z"),
        result("z"),
        text("d"),
    )
    assert shape(build_history([user(text("a")), turn, user(text("e"))])) == [
        ("user", ["a"]),
        ("assistant", ["b", "x()", "y()"]),
        ("user", ["x=ok", "y=ok"]),
        ("assistant", ["<thinking>", "c", "z()"]),
        ("user", ["z=ok"]),
        ("assistant", ["d"]),
        ("user", ["e"]),
    ]


@pytest.mark.requirement("G6")
def test_the_next_user_turn_may_carry_the_results() -> None:
    turns = [
        user(text("a")),
        assistant(call("x"), call("y"), result("x")),
        user(text("c"), result("y", "mine")),
    ]
    assert shape(build_history(turns))[2] == ("user", ["x=ok", "y=mine", "c"])


@pytest.mark.requirement("P4")
def test_results_of_no_call() -> None:
    turns = [
        user(text("a"), result("lost", "words")),
        assistant(result("gone"), text("b")),
        user(result("b", [{"type": "text"}]), text("c")),
    ]
    assert shape(build_history(turns)) == [("user", ["words", "a"]), ("assistant", ["b"]), ("user", ["c"])]
    twice = [
        user(text("a")),
        assistant(call("x"), result("x", "1"), result("x", "2")),
        user(result("x", "3"), text("b")),
    ]
    assert shape(build_history(twice))[2] == ("user", ["x=1", "b"])


@pytest.mark.requirement("P4")
def test_ids_are_unique_and_never_empty() -> None:
    turns = [
        user(text("a")),
        assistant(
            call("0"),
            result("0", "1"),
            call("0"),
            call("0"),
            result("0", "2"),
            result("0", "3"),
            call(""),
            result("", "4"),
        ),
        user(text("b")),
    ]
    assert shape(build_history(turns)) == [
        ("user", ["a"]),
        ("assistant", ["0()"]),
        ("user", ["0=1"]),
        ("assistant", ["0_2()", "0_3()"]),
        ("user", ["0_2=2", "0_3=3"]),
        ("assistant", ["call_2()"]),
        ("user", ["call_2=4", "b"]),
    ]


@pytest.mark.requirement("P4")
def test_a_provider_s_own_tools() -> None:
    asked, answered = call("s", provider_executed=True), result("s", [], provider_executed=True)
    whole = assistant(text("b"), asked, answered, text("c"))
    assert shape(build_history([user(text("a")), whole]))[1] == ("assistant", ["b", "s()", "s=[]", "c"])
    for torn in (assistant(text("b"), asked, status="error"), assistant(text("b"), answered)):
        assert shape(build_history([user(text("a")), torn]))[1] == ("assistant", ["b"])


@pytest.mark.requirement("P4")
def test_a_provider_s_answer_stands_after_what_was_asked() -> None:
    def asked(identity: str) -> Block:
        return call(identity, provider_executed=True)

    def answered(identity: str) -> Block:
        return result(identity, [], provider_executed=True)

    def said(*blocks: Block) -> list[tuple[str, list[Any]]]:
        return shape(build_history([user(text("a")), assistant(*blocks), user(text("z"))]))[1:-1]

    assert said(answered("s"), asked("s"), text("b")) == [("assistant", ["b"])], "the wrong way round"
    assert said(asked("s"), answered("s"), answered("s"), text("b")) == [("assistant", ["s()", "s=[]", "b"])]
    assert said(asked("s"), text("b"), asked("s"), answered("s")) == [("assistant", ["b", "s()", "s=[]"])]
    assert said(thinking(signature="s"), asked("s")) == [], "thinking led to nothing that stays"
    assert said(asked("s"), asked("t"), answered("s"), answered("t"), text("b")) == [
        ("assistant", ["s()", "t()", "s=[]", "t=[]", "b"])
    ]


@pytest.mark.requirement("P4")
def test_a_provider_s_answer_may_come_after_results_of_client_tools() -> None:
    asked, answered = call("s", provider_executed=True), result("s", [], provider_executed=True)
    messages = build_history([user(text("a")), assistant(asked, call("x"), result("x"), answered, text("b"))])
    assert shape(messages)[1:4] == [
        ("assistant", ["s()", "x()"]),
        ("user", ["x=ok"]),
        ("assistant", ["s=[]", "b"]),
    ]
    assert build_history([PastTurn(m.role, "complete", m.blocks) for m in messages]) == messages
    words_between = [
        user(text("a")),
        assistant(asked, call("x")),
        user(result("x"), text("b")),
        assistant(answered, text("c")),
    ]
    assert shape(build_history(words_between))[1:4] == [
        ("assistant", ["x()"]),
        ("user", ["x=ok", "b"]),
        ("assistant", ["c"]),
    ]


@pytest.mark.requirement("P4")
def test_a_provider_s_answer_goes_with_the_first_words_that_asked_for_it() -> None:
    asked, answered = call("s", provider_executed=True), result("s", [], provider_executed=True)
    for first in (
        [assistant(asked, call("x"), result("x"), answered, text("b")), user(text("c"))],
        [assistant(asked, call("x")), assistant(answered, text("b")), user(text("c"))],
        [assistant(asked), user(result("lost", "")), assistant(answered), user(text("c"))],
    ):
        assert shape(build_history(first)) == [("user", ["c"])]


@pytest.mark.requirement("P4")
def test_the_user_begins_and_ends() -> None:
    turns = [
        assistant(text("hello"), call("x"), result("x")),
        assistant(text("again")),
        user(text("a")),
        assistant(text("b")),
    ]
    assert shape(build_history(turns)) == [("user", ["a"]), ("assistant", ["b"]), ("user", [CONTINUE])]
    assert shape(build_history(turns, for_next_call=False)) == [("user", ["a"]), ("assistant", ["b"])]
    assert shape(build_history([assistant(call("x")), user(result("x", "1"), text("a"))])) == [
        ("user", ["a"])
    ]
    assert build_history([assistant(text("hello"))]) == ()


def test_assistants_in_a_row_are_one_unless_calls_are_open() -> None:
    assert shape(
        build_history([user(text("a")), assistant(text("b"), status="error"), assistant(text("c"))])
    )[1] == ("assistant", ["b", "c"])
    turns = [user(text("a")), assistant(call("x"), status="error"), assistant(text("c"))]
    assert shape(build_history(turns))[1:4] == [
        ("assistant", ["x()"]),
        ("user", [f"x=!{CANCELLED_BY_ERROR}"]),
        ("assistant", ["c"]),
    ]


def test_what_only_one_side_may_say() -> None:
    image = Block(0, "image", None, {"url": "u"})
    turns = [
        user(image, thinking(signature="s"), call("x"), Block(0, "image", None, {"data": "QQ=="})),
        assistant(image, text("b")),
    ]
    assert shape(build_history(turns))[:2] == [("user", ["<image>"]), ("assistant", ["b"])]
    reference = Block(0, "reference", "see this", {"url": "u"})
    assert shape(build_history([user(reference, Block(1, "partial_reference", " "))])) == [
        ("user", ["see this"])
    ]


@pytest.mark.requirement("P4")
def test_thinking_leads_to_something() -> None:
    late = thinking(
        "", provider_metadata={"reasoning_details": [{"type": "reasoning.encrypted", "data": "D"}]}
    )
    (_, message, _) = build_history(
        [user(text("a")), assistant(thinking(signature="s"), call("x"), late, status="error")]
    )
    assert shape([message]) == [("assistant", ["<thinking>", "<thinking>", "x()"])]
    assert message.blocks[1].content == late.content
    assert shape(build_history([user(text("a")), assistant(text("b"), late)]))[1] == ("assistant", ["b"])
    assert shape(build_history([user(text("a")), assistant(late), user(text("b"))])) == [("user", ["a", "b"])]


@pytest.mark.fault(15)
@pytest.mark.parametrize("answered", [True, False], ids=["answered", "without a result"])
@pytest.mark.parametrize(
    "wire", ["openai-chat", "anthropic", "gemini", "ollama", "bedrock", "openai-responses"]
)
def test_a_nameless_call_stays_in_the_history_under_a_name(wire: str, answered: bool) -> None:
    said = [call("a", ""), *([result("a", "the call named no tool")] if answered else [])]
    messages = build_history([user(text("go")), assistant(*said)])
    assert shape(messages)[1:] == [
        ("assistant", ["a()"]),
        ("user", ["a=the call named no tool" if answered else f"a=!{CANCELLED}"]),
    ]
    assert (messages[1].blocks[0].content or {})["tool_name"] == UNNAMED_TOOL
    sent = WIRES[wire].encode_request(ModelRequest("m", messages)).body.decode()
    assert UNNAMED_TOOL in sent
    assert '"name":""' not in sent


# --- any turns ----------------------------------------------------------------------------------------------

STATUSES: tuple[TurnStatus, ...] = ("pending", "streaming", "waiting", "complete", "error", "cancelled")
ids = st.sampled_from(["a", "b", "c", ""])
words = st.sampled_from(["x", "yes", " ", "", "\n", "word "])


@st.composite
def any_block(draw: st.DrawFn) -> Block:
    block_type: BlockType = draw(st.sampled_from(get_args(BlockType)))
    partial = draw(st.booleans())
    content: Content = {}
    match block_type:
        case "tool_use":
            given = draw(st.sampled_from([{}, {"q": 1}, None]))
            content = {
                "tool_use_id": draw(ids),
                "tool_name": draw(st.sampled_from(["f", ""])),
                "input": given,
                "input_json": json.dumps(given) if given is not None else "{oops",
            }
        case "tool_result":
            content = {
                "tool_use_id": draw(ids),
                "content": draw(st.sampled_from(["ok", "", [{"type": "text", "text": "t"}], None])),
                "is_error": draw(st.booleans()),
            }
        case "thinking":
            content = draw(
                st.sampled_from(
                    [
                        {},
                        {"signature": "s"},
                        {"redacted": "r"},
                        {
                            "provider_metadata": {
                                "reasoning_details": [{"type": "reasoning.text", "text": "t"}]
                            }
                        },
                    ]
                )
            )
        case "image":
            content = draw(
                st.sampled_from(
                    [
                        {},
                        {"url": "https://e.org/i"},
                        {"media_type": "image/png", "data": "QQ=="},
                        {"data": "QQ=="},
                    ]
                )
            )
        case "provider":
            content = draw(st.sampled_from([{}, {"type": "compaction", "content": "c"}, {"audio": [1]}]))
        case _:
            content = draw(st.sampled_from([{}, {"citations": [{"url": "u"}]}]))
    if block_type in ("tool_use", "tool_result") and draw(st.booleans()):
        kind = "server_tool_use" if block_type == "tool_use" else "web_search_tool_result"
        content |= {"provider_executed": True, "provider_metadata": {"type": kind}}
    spoken = draw(words) if block_type not in ("tool_use", "tool_result", "image", "provider") else None
    return Block(draw(st.integers(0, 9)), block_type, spoken, content or None, partial)


any_turns = st.lists(
    st.builds(
        PastTurn,
        st.sampled_from(["user", "assistant"]),
        st.sampled_from(STATUSES),
        st.lists(any_block(), max_size=7).map(tuple),
    ),
    max_size=6,
)


@settings(max_examples=600, deadline=None)
@given(any_turns)
@pytest.mark.requirement("P4", "G5")
def test_any_turns_make_a_history_that_providers_accept(turns: list[PastTurn]) -> None:
    turns = labelled(turns)
    messages = build_history(turns)
    check_blocks(messages)
    check_said(turns, messages)
    if messages:
        check_anthropic(request_of("anthropic", messages))
        check_chat(request_of("openai-chat", messages))
    assert build_history([PastTurn(m.role, "complete", m.blocks) for m in messages]) == messages, (
        "it is its own history"
    )
    shorter = build_history(turns, for_next_call=False)
    assert messages in (shorter, (*shorter, Message("user", (text(CONTINUE),))))


def request_of(wire: str, messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    return json.loads(WIRES[wire].encode_request(ModelRequest("m", messages)).body)["messages"]


def labelled(turns: list[PastTurn]) -> list[PastTurn]:
    """The same turns, in which everything said is told apart: the word of block 3 of turn 2 is `2.3`."""
    return [
        PastTurn(
            turn.role,
            turn.status,
            tuple(
                Block(
                    b.sequence,
                    b.block_type,
                    f"{n}.{k}" if (b.text_content or "").strip() else b.text_content,
                    b.content,
                    b.partial,
                )
                for k, b in enumerate(turn.blocks)
            ),
        )
        for n, turn in enumerate(turns)
    ]


def check_said(turns: list[PastTurn], messages: Sequence[Message]) -> None:
    """Whatever was said is in the history, in order, by the same side, once; but for what the assistant said first."""
    kinds = ("text", "reference", "partial_reference")
    spoken = [
        (turn.role, b.text_content)
        for turn in turns
        for b in turn.blocks
        if b.block_type in kinds and (b.text_content or "").strip()
    ]
    heard = [
        (m.role, b.text_content)
        for m in messages
        for b in m.blocks
        if b.block_type == "text" and "." in str(b.text_content)[1:2]
    ]
    missing = len(spoken) - len(heard)
    assert heard == spoken[missing:]
    assert all(role == "assistant" for role, _ in spoken[:missing])


def check_blocks(messages: Sequence[Message]) -> None:
    """The rules of core/history, on our own blocks."""
    assert all(message.blocks for message in messages)
    for place, message in enumerate(messages):
        assert message.role == ("user", "assistant")[place % 2]
        assert [block.sequence for block in message.blocks] == list(
            range(len(message.blocks))
        ) or message.blocks[0].text_content == CONTINUE
        assert not any(block.partial for block in message.blocks)
    assert len(messages) % 2 == 1 or not messages


def check_anthropic(messages: list[dict[str, Any]]) -> None:
    assert messages[0]["role"] == messages[-1]["role"] == "user"
    seen: set[str] = set()
    open_server_tools: set[str] = set()
    pending: list[str] = []
    for place, message in enumerate(messages):
        content = message["content"]
        assert content, "content is never empty"
        assert message["role"] == ("user", "assistant")[place % 2], "roles alternate"
        if message["role"] == "user":
            results = [block["tool_use_id"] for block in content if block["type"] == "tool_result"]
            assert results == pending, "each call is answered in the next message"
            assert all(block["type"] == "tool_result" for block in content[: len(pending)]), (
                "results come first"
            )
            assert {block["type"] for block in content} <= {"text", "image", "tool_result"}
        else:
            pending = [block["id"] for block in content if block["type"] == "tool_use"]
            assert len(set(pending)) == len(pending)
            assert not seen & set(pending), "ids are unique"
            seen |= set(pending)
            assert content[-1]["type"] not in ("thinking", "redacted_thinking"), "thinking is not the last"
            assert not any(block["type"] in ("image", "tool_result") for block in content)
        for block in content:
            if block["type"] == "text":
                assert block["text"].strip(), "text is not blank"
            elif block["type"] == "thinking":
                assert block["signature"]
            elif block["type"] == "tool_use":
                assert block["id"]
                assert block["name"]
                assert isinstance(block["input"], dict)
            elif block["type"] == "server_tool_use":
                open_server_tools.add(block["id"])
            elif block["type"] == "web_search_tool_result":
                assert block["tool_use_id"] in open_server_tools
            elif block["type"] == "image":
                assert block["source"].get("url") or block["source"]["data"]


def check_chat(messages: list[dict[str, Any]]) -> None:
    assert messages[0]["role"] == "user"
    assert messages[-1]["role"] in ("user", "tool")
    seen: set[str] = set()
    pending: list[str] = []
    for message in messages:
        role = message["role"]
        if role == "tool":
            assert pending, "a result follows its call"
            assert message["tool_call_id"] == pending.pop(0)
            assert isinstance(message["content"], str)
            continue
        assert not pending, "results follow before anything else"
        if role == "user":
            assert message["content"]
            continue
        assert role == "assistant"
        assert message["content"] or message["tool_calls"]
        for one in message.get("tool_calls", []):
            assert one["id"] not in seen
            assert one["function"]["name"]
            assert isinstance(json.loads(one["function"]["arguments"]), dict)
            seen.add(one["id"])
            pending.append(one["id"])
    assert not pending
