"""Providers by name: `provider/model` → the provider that answers, and its own name for the model.

Built in are `anthropic`, `openai`, `gemini`, `ollama`, which needs no key, and `bedrock`, which takes AWS credentials too;
any other comes from `[providers.NAME]` of the
settings, which may also change a built-in one. `sim`, the simulator, is always there, and `sim/demo` is the default
where no key is set.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Literal, NamedTuple

import msgspec

from turnstream.config import CapabilitySettings, ProviderSettings, Timeouts
from turnstream.errors import AuthenticationFailed, ConfigurationError, InvalidRequest
from turnstream.providers.base import Provider
from turnstream.providers.capabilities import Capabilities, capabilities_of
from turnstream.providers.endpoints import Endpoint, split_base_url
from turnstream.providers.http import HttpProvider
from turnstream.providers.signing import AwsSigner, Signer, has_credentials
from turnstream.simulator.in_process import SimulatedProvider
from turnstream.simulator.options import SCRIPT_NAMES
from turnstream.wires import WIRES
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.shared.botocore_library import is_installed, require_botocore
from turnstream.wires.shared.model_paths import WIRES_WITH_MODEL_PATHS, check_model_path

SIGNED_WIRE = "bedrock"
"""The wire whose requests are signed where no key is set."""
REGION = "{region}"
"""Stands for the region in a base URL."""
SIMULATOR = "sim"
SIMULATED_DEFAULT = f"{SIMULATOR}/demo"


class ProviderDescription(msgspec.Struct, frozen=True):
    """A provider, fully described. `models` are those to list; any other name may be asked for too."""

    wire: str
    base_url: str
    api_key_env: str | None
    headers: Mapping[str, str]
    models: tuple[str, ...]
    timeouts: Timeouts
    event_limit: int = DEFAULT_EVENT_LIMIT
    on_malformed: Literal["fail", "skip"] = "fail"
    trust_env: bool = False
    think_tags: tuple[str, ...] = ()
    context_overflow: tuple[str, ...] = ()
    region: str | None = None


class ListedModel(msgspec.Struct, frozen=True):
    """One line of the models list. `ready`: its provider's key is set, or it needs none."""

    id: str
    provider: str
    wire: str
    ready: bool
    default: bool


class Target(NamedTuple):
    """Whom to call, and the provider's own name of the model."""

    provider: Provider
    model: str


BUILT_IN: dict[str, ProviderSettings] = {
    "anthropic": ProviderSettings(
        wire="anthropic",
        base_url="https://api.anthropic.com",
        api_key_env="ANTHROPIC_API_KEY",
        models=("claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"),
    ),
    "openai": ProviderSettings(
        wire="openai-chat",
        base_url="https://api.openai.com/v1",
        api_key_env="OPENAI_API_KEY",
        models=("gpt-6.1-sol", "gpt-6.1-terra", "gpt-6-luna"),
    ),
    "gemini": ProviderSettings(
        wire="gemini",
        base_url="https://generativelanguage.googleapis.com",
        api_key_env="GEMINI_API_KEY",
        models=("gemini-3.8-flash", "gemini-3.1-pro-preview", "gemini-3.5-flash-lite"),
    ),
    "ollama": ProviderSettings(wire="ollama", base_url="http://127.0.0.1:11434"),
    "bedrock": ProviderSettings(
        wire="bedrock",
        base_url="https://bedrock-runtime.{region}.amazonaws.com",
        api_key_env="AWS_BEARER_TOKEN_BEDROCK",
        models=(
            "global.anthropic.claude-sonnet-5-5",
            "global.anthropic.claude-opus-5-5",
            "global.amazon.nova-2-lite-v1:0",
        ),
    ),
}


def parse_model(model: str, known: Collection[str]) -> tuple[str, str]:
    """`provider/model` → both; the model's own name may hold slashes.

    Raises InvalidRequest, naming the `known` providers, for anything else or a provider that is none of them.
    """
    provider, separator, name = model.partition("/")
    if not (separator and provider and name):
        reason = f"{model[:200]!r} is not a model: write provider/model, such as {SIMULATED_DEFAULT}"
    elif provider not in known:
        reason = f"no provider {provider[:80]!r} is configured"
    else:
        return provider, name
    raise InvalidRequest(f"{reason}; providers are {', '.join(known)}")


class Catalog:
    """The providers of one engine, each built when first asked for.

    `settings`: the `[providers.*]` tables by name. `environ`: where keys are looked up, each time a provider is built.
    `default_model` names the default; without it, it is the first listed model of the first provider whose key is set,
    configured before built-in. `capabilities`: what the settings say that models can do. Raises ConfigurationError where
    the settings cannot work.
    """

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings] | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        default_model: str | None = None,
        capabilities: Mapping[str, CapabilitySettings] | None = None,
    ) -> None:
        given = settings or {}
        self._capabilities = capabilities or {}
        self._environ = os.environ if environ is None else environ
        names = [*given, *(name for name in BUILT_IN if name not in given)]
        self._described = {name: _describe(name, given.get(name)) for name in names}
        self._built: dict[str, Provider] = {}
        if default_model is not None:
            parse_model(default_model, self.names)
        self._default = default_model

    @property
    def names(self) -> tuple[str, ...]:
        """All providers, the simulator last."""
        return (*self._described, SIMULATOR)

    @property
    def base_urls(self) -> dict[str, str]:
        """Where each provider is called, in some region where that is not settled."""
        return {
            name: description.base_url.replace(REGION, self._region(description) or "any")
            for name, description in self._described.items()
        }

    @property
    def default_model(self) -> str:
        """What a turn that names no model gets."""
        if self._default is not None:
            return self._default
        for name, description in self._described.items():
            if description.models and self.is_ready(name):
                return f"{name}/{description.models[0]}"
        return SIMULATED_DEFAULT

    def resolve(self, model: str) -> Target:
        """Whom to call for `provider/model`. Raises InvalidRequest for a name without a provider or with an unknown
        one, AuthenticationFailed where the provider's key is not set."""
        name, own_name = parse_model(model, self.names)
        provider = self._built.get(name)
        if provider is None:
            provider = self._built[name] = self._build(name)
        return Target(provider, own_name)

    def check_name(self, model: str) -> None:
        """Raise InvalidRequest for a name without a provider, with an unknown one, or that no path can hold."""
        provider, own_name = parse_model(model, self.names)
        if self.wire_of(provider) in WIRES_WITH_MODEL_PATHS:
            check_model_path(own_name)

    def capabilities_of(self, model: str) -> Capabilities:
        """What `provider/model` can do, the settings' word included. Raises InvalidRequest, as `resolve`."""
        name, own_name = parse_model(model, self.names)
        return capabilities_of(name, self.wire_of(name), own_name, self._capabilities)

    def is_ready(self, name: str) -> bool:
        """Whether a provider can be called: its key is set, or it needs none."""
        description = self._described.get(name)
        if description is None:
            return True
        key_is_set = bool(description.api_key_env) and self._key(description.api_key_env or "") is not None
        if description.wire == SIGNED_WIRE:
            placed = REGION not in description.base_url or self._region(description) is not None
            return is_installed() and placed and (key_is_set or has_credentials(self._environ))
        return key_is_set or not description.api_key_env

    def models(self) -> list[ListedModel]:
        """What is configured, for people to choose from; the default is always among it."""
        default = self.default_model
        listed = {
            f"{name}/{model}": name
            for name, description in self._described.items()
            for model in description.models
        }
        listed.update((f"{SIMULATOR}/{script}", SIMULATOR) for script in SCRIPT_NAMES)
        listed.setdefault(default, default.partition("/")[0])
        return [
            ListedModel(model, name, self.wire_of(name), self.is_ready(name), model == default)
            for model, name in listed.items()
        ]

    async def close(self) -> None:
        """Close every provider that was built."""
        built, self._built = self._built, {}
        for provider in built.values():
            await provider.close()

    def _build(self, name: str) -> Provider:
        if name == SIMULATOR:
            return SimulatedProvider(name)
        description = self._described[name]
        key = self._key(description.api_key_env) if description.api_key_env else None
        base_url = description.base_url
        signer: Signer | None = None
        if description.wire == SIGNED_WIRE:
            require_botocore()
            region = self._region(description)
            if region is None and (key is None or REGION in base_url):
                raise ConfigurationError(
                    f"{name} needs a region: set region in [providers.{name}], or AWS_REGION, and start again"
                )
            base_url = base_url.replace(REGION, region or "")
            signer = AwsSigner(region or "", self._environ) if key is None else None
        elif description.api_key_env and key is None:
            raise AuthenticationFailed(
                f"{name} needs a key: set {description.api_key_env} and start again", retryable=False
            )
        endpoint = Endpoint(
            base_url,
            key,
            description.headers,
            trust_env=description.trust_env,
            event_limit=description.event_limit,
            on_malformed=description.on_malformed,
            think_tags=description.think_tags,
            context_overflow=description.context_overflow,
            signer=signer,
        )
        return HttpProvider(name, WIRES[description.wire], endpoint, description.timeouts)

    def _region(self, description: ProviderDescription) -> str | None:
        return description.region or self._key("AWS_REGION") or self._key("AWS_DEFAULT_REGION")

    def _key(self, variable: str) -> str | None:
        return self._environ.get(variable, "").strip() or None

    def wire_of(self, name: str) -> str:
        description = self._described.get(name)
        return description.wire if description is not None else "anthropic"


def _describe(name: str, given: ProviderSettings | None) -> ProviderDescription:
    """Fill what is not given from the built-in provider of that name."""
    if name == SIMULATOR:
        raise ConfigurationError(f"providers.{SIMULATOR} is the simulator's name; choose another")
    built_in = BUILT_IN.get(name, ProviderSettings())
    given = given or built_in
    wire = given.wire or built_in.wire
    base_url = given.base_url or built_in.base_url
    if wire is None or base_url is None:
        missing = "wire" if wire is None else "base_url"
        raise ConfigurationError(f"providers.{name}: {missing} is missing")
    if wire not in WIRES:
        raise ConfigurationError(f"providers.{name}: no wire {wire!r}; there are {', '.join(WIRES)}")
    split_base_url(name, base_url)
    return ProviderDescription(
        wire=wire,
        base_url=base_url,
        api_key_env=given.api_key_env or built_in.api_key_env,
        headers=given.headers,
        models=given.models or built_in.models,
        timeouts=given.timeouts,
        event_limit=given.event_limit or DEFAULT_EVENT_LIMIT,
        on_malformed=given.on_malformed,
        trust_env=given.trust_env,
        think_tags=given.think_tags,
        context_overflow=tuple(words.pattern for words in given.context_overflow),
        region=given.region,
    )
