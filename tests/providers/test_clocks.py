"""Time limits of a call: from the settings, or shorter while another model can take over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from turnstream.config import CapabilitySettings, ModelSettings, Timeouts
from turnstream.core.blocks import Block, Message
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import ModelNotFound, ProviderError, ProviderFailed, ProviderTimeout
from turnstream.providers.base import CalledModel, Patience
from turnstream.providers.capabilities import capabilities_of
from turnstream.providers.catalog import Catalog
from turnstream.providers.clocks import Limits, limits_of
from turnstream.providers.plan import PlannedModel, Planner, ShownBlocks
from turnstream.providers.routing import Routing
from turnstream.wires.base import ModelRequest

ALONE, REPLACEABLE = Patience(), Patience(replaceable=True)
THINKS, BOTH = Patience(thinks=True), Patience(thinks=True, replaceable=True)
REQUEST = ModelRequest("", (Message("user", (Block(0, "text", "Hi"),)),))


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    ("given", "patience", "limits"),
    [
        ({}, ALONE, Limits(300, 120, 900)),
        ({}, REPLACEABLE, Limits(30, 30, 900)),
        ({}, THINKS, Limits(300, 240, 900)),
        ({}, BOTH, Limits(120, 120, 900)),
        ({"first_token": 200}, REPLACEABLE, Limits(200, 30, 900)),
        ({"idle": 200}, REPLACEABLE, Limits(30, 200, 900)),
        ({"first_token": 5, "idle": 7, "total": 60}, BOTH, Limits(5, 7, 60)),
    ],
)
def test_clocks_that_are_not_set_depend_on_what_else_can_be_done(
    given: dict[str, float], patience: Patience, limits: Limits
) -> None:
    assert limits_of(Timeouts(**given), patience) == limits


@pytest.mark.fault(33)
@pytest.mark.parametrize(
    ("name", "wire", "params", "thinks"),
    [
        ("openai/gpt-4o-mini", "openai-chat", {}, False),
        ("openai/gpt-5.1", "openai-responses", {}, True),
        ("openai/gpt-5.1", "openai-responses", {"reasoning_effort": "none"}, False),
        ("openai/gpt-5.1", "openai-responses", {"thinking": {"effort": "none"}}, False),
        ("openai/o1-preview", "openai-chat", {}, True),
        ("anthropic/claude-haiku-4-5", "anthropic", {}, False),
        ("anthropic/claude-haiku-4-5", "anthropic", {"thinking": {"budget_tokens": 4000}}, True),
        ("anthropic/claude-opus-4-8", "anthropic", {"thinking": {"type": "disabled"}}, False),
        ("gemini/gemini-2.5-flash", "gemini", {}, True),
        ("gemini/gemini-2.5-flash", "gemini", {"thinking": {"budget_tokens": 0}}, False),
        ("deepseek/deepseek-reasoner", "openai-chat", {}, True),
        ("deepseek/deepseek-chat", "openai-chat", {}, False),
        ("xai/grok-4-fast-non-reasoning", "openai-chat", {}, False),
        ("xai/grok-4-fast-reasoning", "openai-chat", {}, True),
        ("mine/kimi-k2-thinking", "openai-chat", {}, True),
        ("mine/known-better", "openai-chat", {}, True),
    ],
)
def test_which_models_may_be_silent_while_they_think(
    name: str, wire: str, params: dict[str, Any], thinks: bool
) -> None:
    own = {"mine/known*": CapabilitySettings(thinks=True)}
    provider, _, model = name.partition("/")
    assert capabilities_of(provider, wire, model, own).may_think(params) is thinks


class NotingProvider:
    """Notes with which patience it was called. Each call fails with `error`."""

    error: ProviderError = ModelNotFound("-")

    def __init__(self, name: str, noted: list[tuple[str, Patience]]) -> None:
        self.name = name
        self.noted = noted

    def stream(self, request: ModelRequest) -> NotingProvider:
        return self

    def wait_with(self, patience: Patience) -> None:
        self.noted.append((self.name, patience))

    async def __aenter__(self) -> AsyncIterator[Sequence[StreamEvent]]:
        raise self.error

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""

    async def close(self) -> None:
        """Nothing is open."""


@pytest.mark.fault(33)
async def test_a_plan_says_whether_another_model_is_left() -> None:
    noted: list[tuple[str, Patience]] = []
    models = [
        PlannedModel(NotingProvider(name, noted), CalledModel(name, "m", "anthropic"), thinks=name == "b")
        for name in "abc"
    ]
    plan = Planner().plan(models)
    call = plan.begin(REQUEST)
    for _ in range(3):
        with pytest.raises(ModelNotFound) as raised:
            await call.__aenter__()
        if len(noted) < 3:
            call = plan.recover(raised.value, ShownBlocks()).call
    assert noted == [("a", REPLACEABLE), ("b", BOTH), ("c", ALONE)]


class SilentProvider(NotingProvider):
    error = ProviderTimeout("-", code="first_token_timeout")


@pytest.mark.fault(33)
async def test_once_all_were_silent_each_is_waited_for_as_if_alone() -> None:
    """The models may only be slow, so a second short wait would not help."""
    noted: list[tuple[str, Patience]] = []
    models = [PlannedModel(SilentProvider(name, noted), CalledModel(name, "m", "anthropic")) for name in "ab"]
    SilentProvider.error.silence = 30.0
    plan = Planner().plan(models)
    call = plan.begin(REQUEST)
    for _ in range(3):
        with pytest.raises(ProviderTimeout) as raised:
            await call.__aenter__()
        call = plan.recover(raised.value, ShownBlocks()).call
    assert noted == [("a", REPLACEABLE), ("b", REPLACEABLE), ("a", ALONE), ("b", ALONE)]


class StreamlessProvider(NotingProvider):
    error = ProviderFailed("no streams here", provider_status=501)


@pytest.mark.fault(33)
async def test_a_whole_answer_is_waited_for_as_one_that_needs_thought() -> None:
    noted: list[tuple[str, Patience]] = []
    models = [
        PlannedModel(StreamlessProvider(name, noted), CalledModel(name, "m", "ollama")) for name in "ab"
    ]
    plan = Planner().plan(models)
    with pytest.raises(ProviderFailed) as raised:
        await plan.begin(REQUEST).__aenter__()
    plan.recover(raised.value, ShownBlocks())
    assert plan.sent.stream is False
    assert noted == [("a", REPLACEABLE), ("a", BOTH)]


@pytest.mark.fault(33)
def test_routing_knows_which_models_think() -> None:
    catalog = Catalog({}, environ={"OPENAI_API_KEY": "sk-0123456789"})
    routing = Routing(catalog, {"mine": ModelSettings(model="openai/gpt-5.1")})
    models = routing.models("mine", ["openai/gpt-4o"], REQUEST)
    assert [model.thinks for model in models] == [True, False]
