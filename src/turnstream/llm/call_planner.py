"""Whom a stream of the library calls: the one place where the plan of its calls is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from turnstream.config import ModelSettings, RetrySettings
from turnstream.providers.catalog import Catalog
from turnstream.providers.plan import CallPlan, Planner
from turnstream.providers.routing import Routing, planner_of
from turnstream.wires.base import ModelRequest


class Callees(NamedTuple):
    """`model`, and what stands in for it: `provider/model`s, or names of `[models]`. `fallbacks` None: as the settings have it."""

    model: str
    fallbacks: Sequence[str] | None = None


class CallPlanner:
    """Makes the plans of one LLM in one event loop; the circuits of models that fail are theirs together."""

    def __init__(
        self,
        catalog: Catalog,
        retry: RetrySettings,
        models: Mapping[str, ModelSettings] | None = None,
        fallbacks: Sequence[str] = (),
    ) -> None:
        self.catalog = catalog
        self._routing = Routing(catalog, models, fallbacks)
        self._planner: Planner = planner_of(retry)

    def names(self, callees: Callees) -> list[str]:
        """`provider/model` of each model that may answer. Raises InvalidRequest."""
        return self._routing.names(callees.model, callees.fallbacks)

    def plan(self, callees: Callees, request: ModelRequest) -> CallPlan:
        """The plan of one stream. What the model has shown may be taken back, as long as no text of it was read.

        Raises InvalidRequest, and AuthenticationFailed where the only model's key is missing."""
        return self._planner.plan(self._routing.models(callees.model, callees.fallbacks, request))

    async def close(self) -> None:
        """Close every provider that was called."""
        await self.catalog.close()
