"""The kinds of feeds."""

from __future__ import annotations

from functools import partial

import pytest

from tests.postgresql import PostgresServer, postgres, postgres_template  # noqa: F401 - fixtures
from tests.turnlog.mirroring import MakeFeed, local_feed, pages_feed
from turnstream.store.migrations import upgrade_database


@pytest.fixture(scope="session")
def feed_database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('feed') / 'pages.db'}"
    upgrade_database(url)
    return url


@pytest.fixture(params=["local", "sqlite", "postgresql"])
def make(request: pytest.FixtureRequest) -> MakeFeed:
    """Makes feeds: within the process, and over the journal's pages in each kind of database."""
    if request.param == "local":
        return local_feed
    if request.param == "sqlite":
        return partial(pages_feed, request.getfixturevalue("feed_database"))
    server: PostgresServer = request.getfixturevalue("postgres")
    return partial(pages_feed, server.database(request.getfixturevalue("postgres_template")))
