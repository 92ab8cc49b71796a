"""Rows that nodes write for each other, and reads of each other's turns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from sqlalchemy import Connection, Engine, event, select

from tests.store.samples import running_turn, save
from turnstream.core.identifiers import new_id
from turnstream.core.turn_events import Notice
from turnstream.store.base import Annotation, Query, TurnRecord
from turnstream.store.journal.following import ReadHeads
from turnstream.store.operations.approvals import StartWaiting
from turnstream.store.operations.content import SaveAnnotations
from turnstream.store.operations.nodes import Heartbeat, RemoveNodes
from turnstream.store.operations.progress import SaveStep
from turnstream.store.operations.signals import FollowNodes, ReadSignals, RequestStop
from turnstream.store.queries import LastSeq
from turnstream.store.schema import followers
from turnstream.store.sql import SqlStore


async def test_a_request_to_stop_reaches_the_node_that_has_the_turn_now(store: SqlStore):
    """The request to an earlier node of the turn was not answered, and its row is still there."""
    turn = await running_turn(store)
    await store.write(RequestStop(turn_id=turn.id, node="one"))
    await store.write(RequestStop(turn_id=turn.id, node="two"))
    assert (await store.read(ReadSignals(node="two"))).stops == (turn.id,)
    assert (await store.read(ReadSignals(node="one"))).stops == ()


class Followers(Query[list[tuple[str, str]]], frozen=True, kw_only=True):
    def fetch(self, connection: Connection) -> list[tuple[str, str]]:
        return [(row.node, row.follower) for row in connection.execute(select(followers))]


async def test_followers_go_with_their_node_and_with_the_node_that_they_follow(store: SqlStore):
    lost, alive, other = new_id(), new_id(), new_id()
    await store.write(Heartbeat(id=lost, address="here", lease=1, state="ended"))
    for node in (alive, other):
        await store.write(Heartbeat(id=node, address="here", lease=10**9))
    await store.write(FollowNodes(follower=alive, nodes=(lost, other), seconds=60.0))
    await store.write(FollowNodes(follower=lost, nodes=(alive,), seconds=60.0))
    assert len(await store.read(Followers())) == 3
    assert await store.write(RemoveNodes(age=-(10**9))) == [lost]
    assert await store.read(Followers()) == [(other, alive)]


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """The statements that SQLAlchemy runs within the block."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def waiting_turn(store: SqlStore, block: int, event: int) -> TurnRecord:
    """A turn that waits. Its last seq is that of a block or an event."""
    turn = await running_turn(store)
    await store.write(save(turn, block))
    rows = (Annotation(turn.id, event, msgspec.json.encode(Notice("a", "b"))),)
    await store.write(SaveAnnotations(turn_id=turn.id, generation=turn.generation, rows=rows))
    account = SaveStep(turn_id=turn.id, generation=turn.generation, steps=(), attempts=())
    await store.write(
        StartWaiting(
            turn_id=turn.id, generation=turn.generation, approvals=(), events=(), account=account, now=3
        )
    )
    return turn


async def test_the_heads_of_all_mirrors_are_read_in_two_statements(store: SqlStore):
    turns = [await running_turn(store) for _ in range(10)]
    turns += [await waiting_turn(store, place % 3, 15) for place in range(20)]
    with counted_statements() as statements:
        heads = await store.read(ReadHeads(turn_ids=tuple(turn.id for turn in turns)))
    assert len(statements) == 2, statements
    assert [heads[turn.id].status for turn in turns] == ["streaming"] * 10 + ["waiting"] * 20
    assert {heads[turn.id].stored_seq for turn in turns} == {0, 15, 19, 29}
    for turn in turns[10:]:
        assert heads[turn.id].stored_seq == await store.read(LastSeq(turn_id=turn.id))
