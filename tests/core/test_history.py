"""Any turns make a history that every provider accepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.core.history_checks import text
from turnstream.core.blocks import Block, Message
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
