"""The plans of a stream's model calls. All plans of the library are made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from turnstream.config import ModelSettings, RetrySettings
from turnstream.providers.catalog import Catalog
from turnstream.providers.plan import CallPlan, Planner
from turnstream.providers.routing import Routing, planner_of
from turnstream.wires.base import ModelRequest


class ModelSelection(NamedTuple):
    """A model and its fallbacks, as `provider/model`s or names of `[models]`.

    Attributes:
        fallbacks: Models to call if the model fails. None: those of the settings.
    """

    model: str
    fallbacks: Sequence[str] | None = None


class CallPlanner:
    """Makes the plans of one LLM in one event loop. The plans share the circuits of failing models."""

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

    def names(self, selection: ModelSelection) -> list[str]:
        """Return the `provider/model` of each model that may answer. Raises InvalidRequest."""
        return self._routing.names(selection.model, selection.fallbacks)

    def plan(self, selection: ModelSelection, request: ModelRequest) -> CallPlan:
        """Return the plan of one stream. Its calls may retract blocks, as long as no text of them was read.

        Raises InvalidRequest, and AuthenticationFailed if the only model's key is missing.
        """
        return self._planner.plan(self._routing.models(selection.model, selection.fallbacks, request))

    async def close(self) -> None:
        """Close every provider that was called."""
        await self.catalog.close()
