"""The digest of a call's arguments, and the fold of approvals, by properties."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.blocks import Block
from turnstream.core.native_fold import NativeFold
from turnstream.core.tool_input import call_digest, input_digest
from turnstream.store.columns import decode_json, encode_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
ARGUMENTS = st.dictionaries(st.text(), VALUES, max_size=5)


@pytest.mark.requirement("G7")
@given(ARGUMENTS)
def test_the_digest_survives_the_store_and_any_order_of_keys(arguments: dict[str, Any]) -> None:
    digest = input_digest(arguments)
    assert input_digest(decode_json(encode_json(arguments))) == digest
    assert input_digest(dict(reversed(arguments.items()))) == digest
    assert call_digest(Block(0, "tool_use", None, {"input": arguments})) == digest
    assert input_digest({**arguments, "another": 1, "a": [arguments]}) != digest


@given(events=st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12), ends=st.booleans())
def test_the_fold_holds_the_requests_without_a_response(
    events: list[tuple[str, bool]], *, ends: bool
) -> None:
    fold, expected = NativeFold(), set[str]()
    for identity, is_request in events:
        fold.feed("approval_request" if is_request else "approval_response", {"approval_id": identity})
        (expected.add if is_request else expected.discard)(identity)
    assert fold.approvals.keys() == expected
    if ends:
        fold.feed("turn_cancelled", {"status": "cancelled"})
        assert not fold.approvals
