"""Sources of turns: whatever an iterator gives is checked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnstream.core.stream_events import TextDelta, ThinkingDelta, ToolInputDelta
from turnstream.model_loop.sources import _checked_any, checked_event


@pytest.mark.requirement("F7")
@given(
    st.sampled_from([TextDelta, ThinkingDelta, ToolInputDelta]),
    st.integers(0, 9) | st.none() | st.text(max_size=2) | st.booleans(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.none() | st.integers(),
)
def test_the_fast_path_of_text_admits_the_same_events(kind: Any, index: Any, text: Any) -> None:
    try:
        expected = _checked_any(kind(index, text))
    except TypeError:
        with pytest.raises(TypeError):
            checked_event(kind(index, text))
        return
    assert checked_event(kind(index, text)) == expected
