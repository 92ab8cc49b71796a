"""Answers of lost executors that their provider stores: finding them in the journal, and cancelling them."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import cast

from turnstream.errors import ConfigurationError, ProviderError, RequestError
from turnstream.providers.base import StoresAnswers
from turnstream.providers.catalog import Catalog
from turnstream.store.base import Store, TurnRecord
from turnstream.store.journal.following import PagesWith
from turnstream.store.journal.pages import NOT_JSON, items_in
from turnstream.wires.base import StoredAnswer

logger = logging.getLogger(__name__)


class LostAnswers:
    """Finds and cancels the stored answers of turns that this node has claimed."""

    def __init__(self, store: Store, catalog: Catalog) -> None:
        self._store = store
        self._catalog = catalog

    async def of(self, turn: TurnRecord) -> StoredAnswer | None:
        """Return the last stored answer that the pages of the turn's lost node name, or None.

        Raises StoreError.
        """
        found: StoredAnswer | None = None
        for page in await self._store.read(PagesWith(owner=turn.taken_from or "", turn_id=turn.id)):
            with suppress(*NOT_JSON):  # logged when the journal was read
                for items in items_in(page, (turn.id,)):
                    found = items.answer or found
        return found

    def cancel(self, answer: StoredAnswer | None) -> None:
        """Stop an answer at its provider, as no node reads it any more. Does not wait."""
        if answer is None:
            return
        try:
            provider = self._catalog.resolve(answer.model).provider
        except (RequestError, ProviderError, ConfigurationError) as error:
            logger.warning("answer %s may still run at its provider: %s", answer.response_id, error)
            return
        if getattr(provider, "can_resume", False):
            cast("StoresAnswers", provider).cancel(answer.response_id)
