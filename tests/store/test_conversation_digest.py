"""Digests of conversations: equal for all forms of one conversation, and different for any other."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from turnstream.core.blocks import Block, BlockType, Message
from turnstream.store.conversation_digest import NO_TURNS, canonical_json, entries_of, path_digest

texts = st.text(max_size=30)
names = st.sampled_from(["look_up", "send"])
numbers = st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False, width=32)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
arguments = st.dictionaries(st.text(max_size=5), values, max_size=4)


def digest_of(messages: Sequence[Message]) -> str:
    digest = NO_TURNS
    for message in messages:
        digest = path_digest(digest, entries_of(message.role, message.blocks))
    return digest


def block(kind: BlockType, text: str | None = None, **content: Any) -> Block:
    return Block(0, kind, text, content or None)


def call(identity: str, name: str, given: dict[str, Any]) -> Block:
    return block("tool_use", tool_use_id=identity, tool_name=name, input=given, input_json=json.dumps(given))


def result(identity: str, text: str, **content: Any) -> Block:
    return block("tool_result", tool_use_id=identity, content=text, **content)


def pieces(text: str, cuts: Sequence[int]) -> list[Block]:
    """Return blocks whose texts joined are `text`."""
    places = sorted(cut % (len(text) + 1) for cut in cuts)
    ends = zip([0, *places], [*places, len(text)], strict=True)
    return [block("text", text[start:end]) for start, end in ends]


@given(texts, st.lists(st.integers(0, 100), max_size=4), st.data())
def test_splits_of_text_and_unseen_blocks_do_not_count(text: str, cuts: list[int], data: st.DataObject):
    plain = [Message("user", (block("text", "hi"),)), Message("assistant", (block("text", text),))]
    unseen = [
        block("thinking", "hm", signature="s"),
        block("provider", type="compaction"),
        call("here", "look_up", {"q": 1}),
        result("here", "found"),
        block("tool_use", tool_use_id="there", tool_name="web", provider_executed=True),
        block("tool_result", tool_use_id="there", content="page", provider_executed=True),
        Block(0, "tool_use", None, {"tool_use_id": "cut", "tool_name": "f", "input_json": '{"a'}, True),
    ]
    blocks = pieces(text, cuts)
    for extra in unseen:  # a call stays before its result: later ones come further back
        blocks.insert(data.draw(st.integers(0, len(blocks))), extra)
    cited = msgspec.structs.replace(blocks[0], partial=True)
    assert digest_of([plain[0], Message("assistant", (cited, *blocks[1:]))]) == digest_of(plain)
    assert digest_of([Message("user", tuple(pieces("hi", cuts))), plain[1]]) == digest_of(plain)


@given(arguments, st.randoms(use_true_random=False))
def test_key_order_and_forms_of_numbers_do_not_count(given: dict[str, Any], chance: Any):
    def shuffled(value: Any) -> Any:
        if isinstance(value, dict):
            items = [(key, shuffled(item)) for key, item in value.items()]
            chance.shuffle(items)
            return dict(items)
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        return value

    other = shuffled(given)
    assert canonical_json(other) == canonical_json(given)
    text_only = block("tool_use", tool_use_id="1", tool_name="f", input_json=json.dumps(other, indent=2))
    assert entries_of("assistant", [call("1", "f", given)]) == entries_of("assistant", [text_only])


@pytest.mark.parametrize("forms", [("1", "1.0", "1e0"), ("-0.0", "0"), ("1e22", "10000000000000000000000")])
def test_forms_of_a_number_are_the_same(forms: tuple[str, ...]):
    assert len({canonical_json(msgspec.json.decode(form)) for form in forms}) == 1


@st.composite
def conversations(draw: st.DrawFn) -> list[Message]:
    """Conversations of visible content in a form that any protocol could send."""
    messages: list[Message] = []
    for _ in range(draw(st.integers(1, 3))):
        said = [block("text", draw(texts))]
        if draw(st.booleans()):
            said.append(block("image", url=f"https://example.org/{draw(st.integers(0, 3))}"))
        messages.append(Message("user", tuple(said)))
        answer = [block("text", draw(texts))]
        answer += [call(f"c{n}", draw(names), draw(arguments)) for n in range(draw(st.integers(0, 2)))]
        messages.append(Message("assistant", tuple(answer)))
        results = [result(f"c{n}", draw(texts)) for n in range(len(answer) - 1)]
        if results:
            messages.append(Message("user", tuple(results)))
    return messages


def visible(messages: Sequence[Message]) -> str:
    """Return everything that makes conversations different, in another way than the digest."""
    said: list[Any] = []
    for message in messages:
        text = "".join(each.text_content or "" for each in message.blocks).replace("\r\n", "\n").strip()
        rest: list[Any] = []
        for each in message.blocks:
            content = {key: value for key, value in (each.content or {}).items() if key != "input_json"}
            if isinstance(content.get("content"), str):
                content["content"] = content["content"].replace("\r\n", "\n").strip()
            if content:
                rest.append(content)
        if text or rest:
            said.append([message.role, text, rest])
    return canonical_json(said)


@given(conversations(), conversations())
def test_conversations_are_the_same_if_what_is_seen_is_the_same(first: list[Message], second: list[Message]):
    assert (digest_of(first) == digest_of(second)) == (visible(first) == visible(second))


@given(conversations(), st.data())
def test_any_change_of_visible_text_counts(messages: list[Message], data: st.DataObject):
    place = data.draw(st.integers(0, len(messages) - 1))
    changed = list(messages)
    message = messages[place]
    assume(message.blocks[0].block_type == "text")
    first = msgspec.structs.replace(
        message.blocks[0], text_content=f"{message.blocks[0].text_content}{data.draw(st.sampled_from('.x☃'))}"
    )
    changed[place] = Message(message.role, (first, *message.blocks[1:]))
    assert digest_of(changed) != digest_of(messages)


def test_results_are_the_same_in_one_message_and_in_several():
    one = [Message("user", (result("a", "1"), result("b", "2"), block("text", "go")))]
    several = [
        Message("user", (result("a", "1", is_error=False),)),
        Message("user", (block("tool_result", tool_use_id="b", content=[{"type": "text", "text": "2"}]),)),
        Message("user", (block("text", "go"),)),
    ]
    assert digest_of(one) == digest_of(several)
    assert digest_of(one) != digest_of([Message("user", (result("b", "1"), result("a", "2")))])


def test_media_are_their_bytes():
    data = b"\xfb\xff picture"
    plain = base64.b64encode(data).decode()
    forms = [
        block("image", media_type="image/png", data=plain),
        block("document", media_type="image/png", data=plain.rstrip("="), title="a picture"),
        block("image", media_type="image/png", data=base64.urlsafe_b64encode(data).decode()),
        block("image", url=f"data:image/png;base64,{plain}"),
    ]
    assert len({entries_of("user", [form]) for form in forms}) == 1
    note = base64.b64encode("naïve".encode()).decode()
    text = Block(0, "document", None, {"text": "naïve"})
    assert entries_of("user", [text]) == entries_of(
        "user", [block("document", media_type="text/plain", data=note)]
    )
    urls = [entries_of("user", [block("image", url=f"https://example.org/{n}")]) for n in range(2)]
    assert urls[0] != urls[1]


def test_white_space_counts_within_a_text_only():
    def answer(text: str) -> tuple[str, ...]:
        return entries_of("assistant", [block("text", text)])

    assert answer(" \n one\r\ntwo\t") == answer("one\ntwo")
    assert answer("one  two") != answer("one two")
    assert answer(" \n ") == () == entries_of("assistant", [])
