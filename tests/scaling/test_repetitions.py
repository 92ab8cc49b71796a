"""Skipping text that a call repeats costs in proportion to the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tests.scaling.measuring import MOST, Work, cost_ratio
from turnstream.core.blocks import Block
from turnstream.core.stream_events import ContentBlockStart, TextDelta
from turnstream.providers.joining import ContinuationJoint, Joint, RepetitionJoint
from turnstream.providers.prefill import kept_of

pytestmark = pytest.mark.fault(26)
WORDS = "some words "


def repetition(shown: Sequence[Block]) -> Joint:
    return RepetitionJoint(shown)


def continuation(shown: Sequence[Block]) -> Joint:
    kept = kept_of(shown)
    assert kept is not None
    return ContinuationJoint(kept)


@pytest.mark.parametrize("joint_of", [repetition, continuation])
def test_text_that_comes_again(joint_of: Callable[[Sequence[Block]], Joint]) -> None:
    def work_of(size: int) -> Work:
        shown = [Block(0, "text", WORDS * size, partial=True)]
        batches = [[TextDelta(0, WORDS)] for _ in range(size)]

        def repeat() -> None:
            joint = joint_of(shown)
            joint.join([ContentBlockStart(0, "text")])
            assert not any(map(joint.join, batches)), "all of it is a repetition"

        return repeat

    assert cost_ratio(work_of, 20_000) <= MOST
