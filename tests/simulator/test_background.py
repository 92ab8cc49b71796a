"""The simulator keeps a bounded number of background responses."""

from __future__ import annotations

import json

from turnstream.core.blocks import Block, Message
from turnstream.simulator import background
from turnstream.simulator.actions import Send
from turnstream.simulator.background import BackgroundResponses
from turnstream.simulator.playback import PLAIN
from turnstream.wires.base import ModelRequest


def ask(responses: BackgroundResponses, said: str) -> str:
    request = ModelRequest("echo:pace=0", (Message("user", (Block(0, "text", said),)),), stream=False)
    (queued,) = responses.play(request, PLAIN)
    assert isinstance(queued, Send)
    return json.loads(queued.data)["id"]


def test_the_newest_are_kept(monkeypatch):
    monkeypatch.setattr(background, "RESPONSES_KEPT", 3)
    responses = BackgroundResponses()
    names = [ask(responses, f"question {number}") for number in range(5)]
    assert [responses.find(name) is not None for name in names] == [False, False, True, True, True]
    assert ask(responses, "question 4") == names[4], "the same question again replaces its answer"
    assert responses.find(names[2]) is not None


def test_the_bytes_are_bounded(monkeypatch):
    monkeypatch.setattr(background, "BYTES_KEPT", 20_000)
    responses = BackgroundResponses()
    small = ask(responses, "small")
    large = ask(responses, "large " * 5_000)
    assert responses.find(large) is None, "it alone is too large"
    assert responses.find(small) is None
    assert responses.find(ask(responses, "small")) is not None
