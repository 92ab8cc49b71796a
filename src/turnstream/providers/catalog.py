"""Providers by name: `provider/model` → the provider to call, and its own name for the model.

Built in are `anthropic`, `openai`, `gemini`, `ollama` (without a key) and `bedrock` (with a key or AWS
credentials). `[providers.NAME]` in the settings adds a provider or changes a built-in one. The engine and the
library add providers that answer in this process, such as the simulator.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import NamedTuple

import msgspec

from turnstream.access import is_loopback
from turnstream.config import CapabilitySettings, ProviderSettings, Timeouts
from turnstream.errors import AuthenticationFailed, ConfigurationError, InvalidRequest
from turnstream.providers.base import Provider
from turnstream.providers.capabilities import Capabilities, capabilities_of
from turnstream.providers.endpoints import BASE_URL_VARIABLES, Endpoint, base_url_of, split_base_url
from turnstream.providers.http import HttpProvider
from turnstream.providers.signing import AwsSigner, Signer, has_credentials
from turnstream.stored_keys import key_variables
from turnstream.wires import WIRES
from turnstream.wires.base import DEFAULT_EVENT_LIMIT
from turnstream.wires.shared.botocore_library import is_installed, require_botocore
from turnstream.wires.shared.model_paths import WIRES_WITH_MODEL_PATHS, check_model_path

SIGNED_WIRE = "bedrock"
"""Wire whose requests are signed if no key is set."""
START_AGAIN = " and start again"
"""End of the message for a missing key."""
REGION = "{region}"
"""Placeholder for the region in a base URL."""
logger = logging.getLogger(__name__)

EXAMPLE = "sim/demo"
"""Model that error messages show as an example."""


class ProviderDescription(msgspec.Struct, frozen=True):
    """A provider with all settings filled in. `models` are listed. A caller may also name any other model."""

    wire: str
    endpoint: Endpoint
    """Endpoint without its key. Its base URL may contain REGION."""
    api_key_env: str | None
    models: tuple[str, ...]
    timeouts: Timeouts
    region: str | None = None
    url_from: str = "settings"
    """Source of `base_url`: `settings`, `built in`, or the name of a variable."""


class ListedModel(msgspec.Struct, frozen=True):
    """One line of the models list. `ready` is True if the provider needs no key or its key is set."""

    id: str
    provider: str
    wire: str
    ready: bool
    default: bool


class InProcessProvider(NamedTuple):
    """A provider without a network. It is always ready, and the program names it, not the settings."""

    make: Callable[[str], Provider]
    """Function that returns the provider of the given name."""
    wire: str
    models: tuple[str, ...]
    """Models to list. If no other provider is ready, the first one is the default."""


class ProviderPlace(msgspec.Struct, frozen=True):
    """Address and key of a provider."""

    name: str
    url: str
    url_from: str
    """Source of `url`: `settings`, `built in`, or the name of a variable."""
    key_from: str | None
    """Variable that holds the key, or None if no key is sent."""
    key_is_set: bool
    key_is_stored: bool = False
    """True if the key comes from the file of `turnstream keys`, not from the environment."""


class Target(NamedTuple):
    """The provider to call, and its own name for the model."""

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
    """Split `provider/model`. The model's own name may contain slashes.

    Raises InvalidRequest, which names the `known` providers, if `model` has another form or its provider is
    unknown.
    """
    provider, separator, name = model.partition("/")
    if not (separator and provider and name):
        reason = f"{model[:200]!r} is not a model: write provider/model, such as {EXAMPLE}"
    elif provider not in known:
        reason = f"no provider {provider[:80]!r} is configured"
        if close := difflib.get_close_matches(provider[:80], known, n=1):
            reason += f"; did you mean {close[0]}/{name[:200]}?"
    else:
        return provider, name
    raise InvalidRequest(f"{reason}; providers are {', '.join(known)}")


class Catalog:
    """Holds the providers of one engine. Each is built at its first use.

    Args:
        settings: The `[providers.*]` tables by name.
        in_process: Providers without a network, by name. The settings cannot change them.
        environ: Variables that hold keys, read when a provider is built. None: those of the process, and the
            keys that `turnstream keys` has stored.
        default_model: None: the first listed model of the first ready provider. Providers of the settings
            come first, then the built-in ones, then those in this process.
        capabilities: Capabilities of models from the settings.

    Raises ConfigurationError if the settings cannot work.
    """

    def __init__(
        self,
        settings: Mapping[str, ProviderSettings] | None = None,
        *,
        in_process: Mapping[str, InProcessProvider] | None = None,
        environ: Mapping[str, str] | None = None,
        default_model: str | None = None,
        capabilities: Mapping[str, CapabilitySettings] | None = None,
    ) -> None:
        given = settings or {}
        self._in_process = in_process or {}
        self._capabilities = capabilities or {}
        self._environ = key_variables(environ)
        for name in given:
            if name in self._in_process:
                raise ConfigurationError(f"providers.{name} is the simulator's name; choose another")
        names = [*given, *(name for name in BUILT_IN if name not in given)]
        self._described = {name: _describe(name, given.get(name), self._environ) for name in names}
        self._offered = {**self._described, **self._in_process}
        self._built: dict[str, Provider] = {}
        self._keyless: dict[str, HttpProvider] = {}
        """Providers whose calls bring a key of their own."""
        if default_model is not None:
            parse_model(default_model, self.names)
        self._default = default_model

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all providers. Those in this process come last."""
        return tuple(self._offered)

    @property
    def base_urls(self) -> dict[str, str]:
        """Base URLs by provider. A region that is not set is `any` in them."""
        return {
            name: description.endpoint.base_url.replace(REGION, self._region(description) or "any")
            for name, description in self._described.items()
        }

    @property
    def places(self) -> list[ProviderPlace]:
        """Addresses and keys of the providers on a network, with the source of each."""
        return [
            ProviderPlace(
                name,
                description.endpoint.base_url,
                description.url_from,
                description.api_key_env,
                description.api_key_env is not None and self._key(description.api_key_env) is not None,
                self._environ.is_stored(description.api_key_env or ""),
            )
            for name, description in self._described.items()
        ]

    @property
    def default_model(self) -> str:
        """Model of a turn that does not name one."""
        if self._default is not None:
            return self._default
        with_models = [name for name, provider in self._offered.items() if provider.models]
        chosen = next(filter(self.is_ready, with_models), with_models[0])
        return f"{chosen}/{self._offered[chosen].models[0]}"

    def report_simulated_default(self) -> None:
        """Log if a simulated model is the default because no provider is ready."""
        model = self.default_model
        if self._default is None and model.partition("/")[0] in self._in_process:
            logger.info(
                "no provider is configured: the simulated model %s answers turns that do not name a model; "
                "set ANTHROPIC_API_KEY or OPENAI_API_KEY, or describe a provider in turnstream.toml",
                model,
            )

    def resolve(self, model: str, keys: Mapping[str, str] | None = None) -> Target:
        """Return the target of `provider/model`.

        Args:
            model: The model.
            keys: Keys by provider, which replace those of the environment. A provider in this process needs
                no key.

        Raises InvalidRequest if the provider is missing or unknown, AuthenticationFailed if its key
        is not set, and ConfigurationError if a header cannot carry it.
        """
        name, own_name = parse_model(model, self.names)
        if keys and name in keys and name in self._described:
            return Target(self._with_key(name, keys[name]), own_name)
        provider = self._built.get(name)
        if provider is None:
            provider = self._built[name] = self._build(name)
        return Target(provider, own_name)

    def check_name(self, model: str) -> None:
        """Raise InvalidRequest if the provider is missing or unknown, or the name does not fit in a URL."""
        provider, own_name = parse_model(model, self.names)
        if self.wire_of(provider) in WIRES_WITH_MODEL_PATHS:
            check_model_path(own_name)

    def capabilities_of(self, model: str) -> Capabilities:
        """Return the capabilities of `provider/model`, with those of the settings.

        Raises InvalidRequest like `resolve`.
        """
        name, own_name = parse_model(model, self.names)
        return capabilities_of(name, self.wire_of(name), own_name, self._capabilities)

    def is_ready(self, name: str) -> bool:
        """Return True if a provider can be called: it needs no key, or its key is set."""
        description = self._described.get(name)
        if description is None:
            return True
        key_is_set = bool(description.api_key_env) and self._key(description.api_key_env or "") is not None
        if description.wire == SIGNED_WIRE:
            placed = REGION not in description.endpoint.base_url or self._region(description) is not None
            return is_installed() and placed and (key_is_set or has_credentials(self._environ))
        return key_is_set or not description.api_key_env

    def models(self) -> list[ListedModel]:
        """Return the listed models of all providers, and the default model."""
        default = self.default_model
        listed = {
            f"{name}/{model}": name for name, provider in self._offered.items() for model in provider.models
        }
        listed.setdefault(default, default.partition("/")[0])
        return [
            ListedModel(model, name, self.wire_of(name), self.is_ready(name), model == default)
            for model, name in listed.items()
        ]

    async def close(self) -> None:
        """Close all providers that were built."""
        built, self._built = self._built, {}
        keyless, self._keyless = self._keyless, {}
        for provider in (*built.values(), *keyless.values()):
            await provider.close()

    def _with_key(self, name: str, key: str) -> Provider:
        if not key:
            raise AuthenticationFailed(f"{name}: the key for this call is empty", retryable=False)
        provider = self._keyless.get(name)
        if provider is None:
            description = self._described[name]
            base_url, region = description.endpoint.base_url, self._region(description)
            if region is None and REGION in base_url:
                raise _region_missing(name)
            endpoint = replace(description.endpoint, base_url=base_url.replace(REGION, region or ""))
            provider = HttpProvider(name, WIRES[description.wire], endpoint, description.timeouts)
            self._keyless[name] = provider
        return provider.with_key(key)

    def _build(self, name: str) -> Provider:
        if name in self._in_process:
            return self._in_process[name].make(name)
        description = self._described[name]
        key = self._key(description.api_key_env) if description.api_key_env else None
        base_url = description.endpoint.base_url
        signer: Signer | None = None
        if description.wire == SIGNED_WIRE:
            require_botocore()
            region = self._region(description)
            if region is None and (key is None or REGION in base_url):
                raise _region_missing(name)
            base_url = base_url.replace(REGION, region or "")
            signer = AwsSigner(region or "", self._environ) if key is None else None
        elif description.api_key_env and key is None:
            raise AuthenticationFailed(
                f"{name} needs a key: set {description.api_key_env}{START_AGAIN}", retryable=False
            )
        endpoint = replace(description.endpoint, base_url=base_url, api_key=key, signer=signer)
        return HttpProvider(name, WIRES[description.wire], endpoint, description.timeouts)

    def _region(self, description: ProviderDescription) -> str | None:
        return description.region or self._key("AWS_REGION") or self._key("AWS_DEFAULT_REGION")

    def _key(self, variable: str) -> str | None:
        return self._environ.get(variable, "").strip() or None

    def wire_of(self, name: str) -> str:
        """Return the name of a provider's wire, or `anthropic` if the provider is unknown."""
        provider = self._offered.get(name)
        return provider.wire if provider is not None else "anthropic"


def _region_missing(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} needs a region: set region in [providers.{name}], or AWS_REGION, and start again"
    )


def _describe(
    name: str, settings: ProviderSettings | None, environ: Mapping[str, str]
) -> ProviderDescription:
    """Fill the fields that the settings omit, from the provider's variables or else the built-in provider."""
    built_in = BUILT_IN.get(name, ProviderSettings())
    given = settings or ProviderSettings()
    wire = given.wire or built_in.wire
    base_url, url_from = given.base_url, "settings"
    if base_url is None:
        variable = BASE_URL_VARIABLES.get(name, "")
        base_url, url_from = base_url_of(variable, environ), variable
    if base_url is None:
        base_url, url_from = built_in.base_url, "built in"
    if wire is None or base_url is None:
        missing = "wire" if wire is None else "base_url"
        raise ConfigurationError(f"providers.{name}: {missing} is missing: set it")
    if wire not in WIRES:
        raise ConfigurationError(f"providers.{name}: no wire {wire!r}; choose one of {', '.join(WIRES)}")
    host = split_base_url(name if url_from == "settings" else f"{name} ({url_from})", base_url).hostname
    endpoint = Endpoint(
        base_url,
        headers=given.headers,
        trust_env=given.trust_env if given.trust_env is not None else not is_loopback(host or ""),
        event_limit=given.event_limit or DEFAULT_EVENT_LIMIT,
        on_malformed=given.on_malformed,
        think_tags=given.think_tags,
        context_overflow=tuple(words.pattern for words in given.context_overflow),
    )
    key, models = given.api_key_env or built_in.api_key_env, given.models or built_in.models
    return ProviderDescription(wire, endpoint, key, models, given.timeouts, given.region, url_from)
