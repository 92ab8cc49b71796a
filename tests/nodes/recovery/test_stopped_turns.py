"""A turn that a user has stopped does not continue, even if all nodes that knew of it are lost."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.nodes.cluster import Cluster
from tests.nodes.recovery.pairs import Pair, engines, read_until, taken_over
from tests.turnlog.watching import Client
from turnstream.store.operations.signals import RequestStop


@pytest.fixture
async def pair(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Pair]:
    async with engines(cluster, monkeypatch, options={}) as pair:
        yield pair


@pytest.mark.requirement("A4", "Q3")
async def test_a_lost_turn_with_a_request_to_stop_ends_as_cancelled(pair: Pair) -> None:
    turn = await pair.one.send("hello", model="sim/story:events=1000,pace=0.02")
    client = Client()
    await read_until(pair.one, turn.id, client, lambda client: bool(client.now.blocks))
    # The request names another node, so that the turn's node, which is not really lost, does not act on it.
    await pair.store.write(RequestStop(turn_id=turn.id, node="lost"))
    async with taken_over(pair, turn.id):
        pass
    stored, _ = await pair.end_of(turn.id)
    assert (stored.status, stored.error_code) == ("cancelled", None)
