"""Models that a turn may call: names from the settings, and fallbacks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from turnstream.config import ModelSettings, RetrySettings
from turnstream.core.stream_events import StreamEvent
from turnstream.errors import AuthenticationFailed, ConfigurationError, InvalidRequest
from turnstream.limits import MAX_FALLBACKS
from turnstream.providers.base import CalledModel, Provider
from turnstream.providers.catalog import START_AGAIN, Catalog, ListedModel, Target, parse_model
from turnstream.providers.circuit import CircuitPolicy, Circuits
from turnstream.providers.decisions import RetryPolicy
from turnstream.providers.plan import PlannedModel, Planner
from turnstream.wires.base import ModelRequest


class Routing:
    """Maps names to the models to call, in order.

    Args:
        catalog: The providers.
        models: Tables `[models.NAME]` of the settings.
        fallbacks: Fallbacks of all models without their own.

    Raises ConfigurationError if the settings cannot work.
    """

    def __init__(
        self,
        catalog: Catalog,
        models: Mapping[str, ModelSettings] | None = None,
        fallbacks: Sequence[str] = (),
    ) -> None:
        self._catalog = catalog
        self._models = models or {}
        self._fallbacks = fallbacks
        for name, settings in self._models.items():
            self._check(f"models.{name}", [name, *(settings.fallbacks or ())])
        self._check("engine.fallbacks", fallbacks)

    def names(self, asked: str, fallbacks: Sequence[str] | None) -> list[str]:
        """Return `provider/model` of each model to call, without repetitions. Raises InvalidRequest."""
        if fallbacks is None:
            settings = self._models.get(asked)
            given = settings.fallbacks if settings is not None else None
            fallbacks = self._fallbacks if given is None else given
        if len(fallbacks) > MAX_FALLBACKS:
            raise InvalidRequest(f"more than {MAX_FALLBACKS} fallbacks: name fewer")
        names = [self._known(name) for name in (asked, *fallbacks)]
        for name in names:
            self._catalog.check_name(name)
        return list(dict.fromkeys(names))

    def models(
        self,
        asked: str,
        fallbacks: Sequence[str] | None,
        request: ModelRequest,
        *,
        keys: Mapping[str, str] | None = None,
        needs_key: bool = True,
    ) -> list[PlannedModel]:
        """Return the models to call for `request`. A model without its key fails when it is called.

        Raises InvalidRequest, ConfigurationError, and AuthenticationFailed if the keys of all models are
        missing.

        Args:
            asked: The model that the request names.
            fallbacks: Its fallbacks. None: those of the settings.
            request: The request.
            keys: Keys by provider, which replace those of the environment.
            needs_key: False if keys may come later: then missing keys are not an error here.
        """
        if unknown := set(keys or ()) - set(self._catalog.names):
            raise ConfigurationError(f"there is a key for {min(unknown)!r}, which is not a provider")
        names = self.names(asked, fallbacks)
        targets: list[Target] = []
        missing: dict[str, AuthenticationFailed] = {}
        for name in names:
            try:
                targets.append(self._catalog.resolve(name, keys))
            except AuthenticationFailed as error:
                missing[name] = error
                targets.append(_without_key(name, error))
        if len(missing) == len(names):
            error = _all_of(missing.values())
            if needs_key:
                raise error
            targets = [_without_key(name, error) for name in names]
        return [self._planned(name, target, request) for name, target in zip(names, targets, strict=True)]

    def _check(self, where: str, names: Sequence[str]) -> None:
        try:
            for name in names:
                parse_model(self._known(name), self._catalog.names)
        except InvalidRequest as error:
            raise ConfigurationError(f"{where}: {error.message}") from None
        if len(names) > MAX_FALLBACKS:
            raise ConfigurationError(f"{where}: more than {MAX_FALLBACKS} fallbacks: name fewer")

    def listed(self) -> list[ListedModel]:
        """Return the models that the settings name."""
        found: list[ListedModel] = []
        for name, settings in self._models.items():
            if settings.model is not None:
                provider, _ = parse_model(settings.model, self._catalog.names)
                ready = self._catalog.is_ready(provider)
                found.append(
                    ListedModel(name, provider, self._catalog.wire_of(provider), ready, default=False)
                )
        return found

    def _known(self, name: str) -> str:
        settings = self._models.get(name)
        return settings.model if settings is not None and settings.model is not None else name

    def _planned(self, name: str, target: Target, request: ModelRequest) -> PlannedModel:
        provider, model = target
        called = CalledModel(provider.name, model, self._catalog.wire_of(provider.name))
        can = self._catalog.capabilities_of(name)
        params = request.params
        thinks = can.may_think(params)
        field = can.reasoning_field if thinks else None
        return PlannedModel(
            provider, called, can.may_prefill(params), can.context_tokens, thinks, reasoning_field=field
        )


def planner_of(retry: RetrySettings) -> Planner:
    """Return the planner for `[retry]` of the settings."""
    policy = RetryPolicy(
        retry.attempts, retry.delay, retry.max_delay, retry.budget, retry.spacing, retry.silence
    )
    return Planner(policy, Circuits(CircuitPolicy(retry.circuit_failures, retry.circuit_seconds)))


def _all_of(missing: Iterable[AuthenticationFailed]) -> AuthenticationFailed:
    """Return one error for the missing keys of several models."""
    variables = dict.fromkeys(error.message.removesuffix(START_AGAIN) for error in missing)
    return AuthenticationFailed("; ".join(variables) + START_AGAIN, retryable=False)


def _without_key(name: str, error: AuthenticationFailed) -> Target:
    provider, _, model = name.partition("/")
    return Target(_KeylessProvider(provider, error), model)


class _KeylessProvider(Provider):
    """A provider whose API key is missing. Each call fails with the same error."""

    def __init__(self, name: str, error: AuthenticationFailed) -> None:
        self.name = name
        self._error = error

    @asynccontextmanager
    async def stream(
        self,
        request: ModelRequest,  # noqa: ARG002
    ) -> AsyncGenerator[AsyncIterator[Sequence[StreamEvent]], None]:
        """Raise the error when the call is entered."""
        raise self._error
        yield

    async def close(self) -> None:
        """Do nothing, as nothing is open."""
