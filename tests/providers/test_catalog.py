"""Providers by name."""

from __future__ import annotations

import asyncio

import pytest

from turnstream.config import ProviderSettings, Timeouts
from turnstream.errors import AuthenticationFailed, ConfigurationError, InvalidRequest
from turnstream.providers.catalog import BUILT_IN, Catalog, parse_model
from turnstream.providers.endpoints import call_url, split_base_url
from turnstream.providers.http import HttpProvider
from turnstream.simulator.in_process import SimulatedProvider
from turnstream.simulator.registration import SIMULATOR
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES
from turnstream.wires.base import ModelRequest

LOCAL = ProviderSettings(wire="openai-chat", base_url="http://127.0.0.1:9/v1", models=("small", "large"))


class TestNames:
    @pytest.mark.parametrize(
        ("model", "parsed"),
        [
            ("anthropic/claude", ("anthropic", "claude")),
            ("router/meta/llama-3", ("router", "meta/llama-3")),
            ("sim/story:events=3,pace=0", ("sim", "story:events=3,pace=0")),
        ],
    )
    def test_provider_and_model(self, model, parsed):
        assert parse_model(model, ("anthropic", "router", "sim")) == parsed

    @pytest.mark.parametrize(
        "model", ["", "claude", "/claude", "anthropic/", "nobody/claude", "Anthropic/claude"]
    )
    def test_anything_else_is_refused_with_the_known_names(self, model):
        with pytest.raises(InvalidRequest, match=r"anthropic, openai, .*sim"):
            Catalog(in_process=SIMULATOR, environ={}).resolve(model)

    def test_a_long_name_is_not_repeated_whole(self):
        with pytest.raises(InvalidRequest) as caught:
            Catalog(in_process=SIMULATOR, environ={}).resolve("x" * 100_000)
        assert len(caught.value.message) < 500


class TestResolving:
    def test_built_in_providers(self):
        catalog = Catalog(
            in_process=SIMULATOR, environ={"ANTHROPIC_API_KEY": "k-a\n", "OPENAI_API_KEY": "k-o"}
        )
        provider, model = catalog.resolve("anthropic/claude-x")
        assert isinstance(provider, HttpProvider)
        assert (provider.name, provider.wire.name, model) == ("anthropic", "anthropic", "claude-x")
        assert provider.endpoint.api_key == "k-a"
        assert catalog.resolve("openai/gpt-x").provider.wire.name == "openai-chat"

    def test_a_provider_is_built_once(self):
        catalog = Catalog({"local": LOCAL}, in_process=SIMULATOR, environ={})
        assert catalog.resolve("local/small").provider is catalog.resolve("local/large").provider

    def test_a_missing_key_is_named_by_its_variable(self):
        catalog = Catalog(in_process=SIMULATOR, environ={"OPENAI_API_KEY": "  "})
        with pytest.raises(AuthenticationFailed, match="OPENAI_API_KEY") as caught:
            catalog.resolve("openai/gpt-x")
        assert not caught.value.retryable

    def test_settings_complete_a_built_in_provider(self):
        mine = ProviderSettings(
            base_url="https://proxy.example/v1",
            timeouts=Timeouts(idle=3),
            headers={"X-A": "b"},
            on_malformed="skip",
            event_limit=65536,
            trust_env=True,
        )
        provider, _ = Catalog(
            {"openai": mine}, in_process=SIMULATOR, environ={"OPENAI_API_KEY": "k"}
        ).resolve("openai/x")
        assert isinstance(provider, HttpProvider)
        assert provider.endpoint.base_url == "https://proxy.example/v1"
        assert provider.wire.name == "openai-chat"
        assert provider.timeouts.idle == 3
        assert provider.endpoint.headers == {"X-A": "b"}
        assert provider.endpoint.on_malformed == "skip"
        assert provider.endpoint.event_limit == 65536
        assert provider.endpoint.trust_env

    @pytest.mark.parametrize(
        ("name", "settings", "words"),
        [
            ("local", ProviderSettings(base_url="http://a.example"), "wire is missing"),
            ("local", ProviderSettings(wire="anthropic"), "base_url is missing"),
            (
                "local",
                ProviderSettings(wire="morse", base_url="http://a.example"),
                "no wire 'morse'.*openai-chat",
            ),
            ("local", ProviderSettings(wire="anthropic", base_url="http://u:p@a.example"), "credentials"),
            ("sim", LOCAL, "choose another"),
        ],
    )
    def test_settings_that_cannot_work_are_refused_at_once(self, name, settings, words):
        with pytest.raises(ConfigurationError, match=words):
            Catalog({name: settings}, in_process=SIMULATOR, environ={})

    def test_every_built_in_wire_is_there(self):
        assert {settings.wire for settings in BUILT_IN.values()} <= set(WIRES)

    async def test_a_configured_provider_answers(self):
        async with SimulatorServer() as server, asyncio.timeout(5):
            settings = ProviderSettings(wire="openai-chat", base_url=f"{server.url}/v1/")
            catalog = Catalog({"look-alike": settings}, in_process=SIMULATOR, environ={})
            provider, model = catalog.resolve("look-alike/story:events=3,pace=0")
            async with provider.stream(ModelRequest(model, ())) as batches:
                count = sum([len(batch) async for batch in batches])
            await catalog.close()
        assert count > 3


class TestList:
    def test_without_any_key_the_simulator_is_the_default(self):
        catalog = Catalog(in_process=SIMULATOR, environ={})
        assert catalog.default_model == "sim/demo"
        listed = {model.id: model for model in catalog.models()}
        assert listed["sim/demo"].default
        assert listed["sim/demo"].ready
        assert not any(model.ready for model in listed.values() if model.provider == "openai")
        assert isinstance(catalog.resolve(catalog.default_model).provider, SimulatedProvider)

    def test_the_first_provider_with_a_key_is_the_default(self):
        catalog = Catalog(in_process=SIMULATOR, environ={"OPENAI_API_KEY": "k"})
        assert catalog.default_model == f"openai/{BUILT_IN['openai'].models[0]}"
        (default,) = [model for model in catalog.models() if model.default]
        assert (default.provider, default.wire, default.ready) == ("openai", "openai-chat", True)

    def test_a_configured_provider_comes_before_a_built_in_one(self):
        catalog = Catalog({"local": LOCAL}, in_process=SIMULATOR, environ={"OPENAI_API_KEY": "k"})
        assert catalog.default_model == "local/small"
        assert catalog.models()[0].id == "local/small"

    def test_a_default_that_is_not_listed_is_listed(self):
        catalog = Catalog(in_process=SIMULATOR, environ={}, default_model="sim/story:events=5")
        (default,) = [model for model in catalog.models() if model.default]
        assert (default.id, default.ready) == ("sim/story:events=5", True)

    @pytest.mark.parametrize(
        ("environ", "default", "lines"),
        [({}, None, 1), ({}, "sim/echo", 0), ({"OPENAI_API_KEY": "k"}, None, 0)],
    )
    def test_a_simulated_default_is_logged_if_nothing_is_configured(
        self, environ: dict[str, str], default: str | None, lines: int, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level("INFO", logger="turnstream")
        Catalog(in_process=SIMULATOR, environ=environ, default_model=default).report_simulated_default()
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == lines
        assert all("the simulated model sim/demo answers" in line for line in told)

    def test_a_default_of_an_unknown_provider_is_refused(self):
        with pytest.raises(InvalidRequest, match="nobody"):
            Catalog(in_process=SIMULATOR, environ={}, default_model="nobody/x")


class TestVariablesOfTheProvidersOwnClients:
    @pytest.mark.requirement("R5")
    @pytest.mark.parametrize(
        ("environ", "model", "url"),
        [
            (
                {"OPENAI_BASE_URL": "https://gate.example/v1/"},
                "openai/x",
                "https://gate.example/v1/chat/completions",
            ),
            (
                {"OPENAI_BASE_URL": "https://gate.example"},
                "openai/x",
                "https://gate.example/chat/completions",
            ),
            (
                {"ANTHROPIC_BASE_URL": " https://gate.example "},
                "anthropic/x",
                "https://gate.example/v1/messages",
            ),
            ({"OLLAMA_HOST": "gpu-1"}, "ollama/x", "http://gpu-1:11434/api/chat"),
            ({"OLLAMA_HOST": "gpu-1:8000"}, "ollama/x", "http://gpu-1:8000/api/chat"),
            ({"OLLAMA_HOST": ":8000"}, "ollama/x", "http://127.0.0.1:8000/api/chat"),
            ({"OLLAMA_HOST": "0.0.0.0"}, "ollama/x", "http://0.0.0.0:11434/api/chat"),
            ({"OLLAMA_HOST": "[::1]"}, "ollama/x", "http://[::1]:11434/api/chat"),
            ({"OLLAMA_HOST": "[::1]:9"}, "ollama/x", "http://[::1]:9/api/chat"),
            ({"OLLAMA_HOST": "::1"}, "ollama/x", "http://[::1]:11434/api/chat"),
            ({"OLLAMA_HOST": "https://gpu.example"}, "ollama/x", "https://gpu.example/api/chat"),
            ({"OLLAMA_HOST": "gpu-1/ollama"}, "ollama/x", "http://gpu-1:11434/ollama/api/chat"),
        ],
    )
    def test_an_address_comes_from_the_variable(self, environ: dict[str, str], model: str, url: str):
        catalog = Catalog(environ={**environ, "OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
        provider, _ = catalog.resolve(model)
        assert isinstance(provider, HttpProvider)
        path = url.partition("//")[2].partition("/")[2]
        assert (
            call_url(split_base_url("x", provider.endpoint.base_url), "/" + path.rpartition("ollama/")[2])
            == url
        )
        place = next(place for place in catalog.places if place.name == model.partition("/")[0])
        assert place.url_from == next(iter(environ))

    def test_settings_win_over_the_variable(self):
        mine = ProviderSettings(base_url="https://mine.example/v1")
        catalog = Catalog({"openai": mine}, environ={"OPENAI_BASE_URL": "https://gate.example"})
        (place,) = (place for place in catalog.places if place.name == "openai")
        assert (place.url, place.url_from) == ("https://mine.example/v1", "settings")

    def test_an_address_that_cannot_be_used_names_its_variable(self):
        with pytest.raises(ConfigurationError, match="OPENAI_BASE_URL"):
            Catalog(environ={"OPENAI_BASE_URL": "gate.example/v1"})

    @pytest.mark.parametrize(
        ("url", "given", "uses"),
        [
            ("https://far.example", None, True),
            ("https://far.example", False, False),
            ("http://127.0.0.1:1", None, False),
            ("http://localhost:1", None, False),
            ("http://[::1]:1", None, False),
            ("http://127.0.0.1:1", True, True),
        ],
    )
    def test_proxies_of_the_environment_are_used_except_for_this_machine(
        self, url: str, given: bool | None, uses: bool
    ):
        settings = ProviderSettings(wire="ollama", base_url=url, trust_env=given)
        provider, _ = Catalog({"mine": settings}, environ={}).resolve("mine/x")
        assert isinstance(provider, HttpProvider)
        assert provider.endpoint.trust_env is uses
