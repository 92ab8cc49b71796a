"""Whom a stream of the library calls: the one place where the provider of its steps is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from turnstream.llm.accounts import CalledModel
from turnstream.llm.model_source import Called
from turnstream.providers.catalog import Catalog


class Retry(NamedTuple):
    """How often one model is asked before it is given up, and seconds before the second time; each further wait is twice the
    one before."""

    attempts: int = 3
    delay: float = 1.0


class Callees(NamedTuple):
    """`models`: `provider/model`s, the first choice first; the others stand in for it."""

    models: Sequence[str]
    retry: Retry


def called_for(catalog: Catalog, callees: Callees) -> Called:
    """The provider that answers. Raises InvalidRequest, AuthenticationFailed."""
    provider, model = catalog.resolve(callees.models[0])
    return Called(provider, CalledModel(provider.name, model, catalog.wire_of(provider.name)))
