"""The models that a name and its fallbacks select."""

from __future__ import annotations

import pytest

from turnstream.config import CapabilitySettings, ModelSettings, RetrySettings
from turnstream.errors import AuthenticationFailed, ConfigurationError, InvalidRequest
from turnstream.providers.catalog import Catalog
from turnstream.providers.routing import MAX_FALLBACKS, Routing, planner_of
from turnstream.simulator.registration import SIMULATOR
from turnstream.wires.base import ModelRequest

MODELS = {
    "fast": ModelSettings(model="sim/echo", fallbacks=("sim/story", "sim/echo")),
    "alone": ModelSettings(model="sim/echo", fallbacks=()),
    "sim/demo": ModelSettings(fallbacks=("fast",)),
}


@pytest.fixture
def routing() -> Routing:
    capabilities = {"sim/*": CapabilitySettings(prefill=True, context_tokens=500)}
    return Routing(
        Catalog({}, in_process=SIMULATOR, environ={}, capabilities=capabilities), MODELS, ("sim/thinking",)
    )


@pytest.mark.requirement("J1")
@pytest.mark.parametrize(
    ("asked", "fallbacks", "names"),
    [
        ("sim/tools", None, ["sim/tools", "sim/thinking"]),
        ("sim/tools", (), ["sim/tools"]),
        ("sim/tools", ("fast", "sim/agent"), ["sim/tools", "sim/echo", "sim/agent"]),
        ("sim/thinking", None, ["sim/thinking"]),
        ("fast", None, ["sim/echo", "sim/story"]),
        ("alone", None, ["sim/echo"]),
        ("sim/demo", None, ["sim/demo", "sim/echo"]),
        ("fast", ("sim/agent",), ["sim/echo", "sim/agent"]),
    ],
)
def test_names(routing: Routing, asked: str, fallbacks: tuple[str, ...] | None, names: list[str]) -> None:
    assert routing.names(asked, fallbacks) == names
    planned = routing.models(asked, fallbacks, ModelRequest("", ()))
    assert [model.called.name for model in planned] == names
    assert all((model.prefills, model.context) == (True, 500) for model in planned)


@pytest.mark.parametrize(
    "asked", [("slow", ()), ("sim/demo", ("slow",)), ("x/y", ()), ("sim/demo", ("sim/echo",) * 9)]
)
def test_what_is_not_there(routing: Routing, asked: tuple[str, tuple[str, ...]]) -> None:
    with pytest.raises(InvalidRequest):
        routing.names(*asked)


@pytest.mark.requirement("J4")
def test_a_model_that_is_told_to_think_is_not_given_words_of_its_own(routing: Routing) -> None:
    thinking = ModelRequest("", (), params={"thinking": {"budget_tokens": 1024}})
    assert not any(model.prefills for model in routing.models("fast", None, thinking))


async def test_a_key_that_is_missing_matters_when_the_model_is_called(routing: Routing) -> None:
    request = ModelRequest("", ())
    with pytest.raises(AuthenticationFailed):
        routing.models("openai/gpt-6-luna", (), request)
    first, second = routing.models("openai/gpt-6-luna", ("sim/echo",), request)
    assert (first.called.name, second.called.name) == ("openai/gpt-6-luna", "sim/echo")
    with pytest.raises(AuthenticationFailed):
        await first.provider.stream(request).__aenter__()


@pytest.mark.parametrize(
    ("models", "fallbacks"),
    [
        ({"fast": ModelSettings()}, ()),
        ({"fast": ModelSettings(model="nobody/x")}, ()),
        ({"fast": ModelSettings(model="sim/echo", fallbacks=("slow",))}, ()),
        ({}, ("nobody/x",)),
        ({}, tuple(f"sim/{number}" for number in range(MAX_FALLBACKS + 1))),
    ],
)
def test_settings_that_cannot_work(models: dict[str, ModelSettings], fallbacks: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError):
        Routing(Catalog({}, in_process=SIMULATOR, environ={}), models, fallbacks)


def test_the_settings_make_the_policy() -> None:
    planner = planner_of(RetrySettings(attempts=2, delay=0.5, circuit_failures=7))
    assert (planner.policy.attempts, planner.policy.delay, planner.policy.budget) == (2, 0.5, 120.0)
    assert planner.circuits.policy.failures == 7


def test_the_settings_own_names_are_listed() -> None:
    catalog = Catalog({}, in_process=SIMULATOR, environ={})
    routing = Routing(
        catalog, {"fast": ModelSettings(model="sim/echo"), "sim/demo": ModelSettings(fallbacks=("sim/echo",))}
    )
    assert [(model.id, model.provider, model.ready) for model in routing.listed()] == [("fast", "sim", True)]
