"""Our own client against the cases that every client has to pass: over sockets, and without any."""

from __future__ import annotations

import asyncio
import dataclasses

import msgspec
import pytest

from tests.client.scripted_server import Reply, ScriptedServer
from tests.conformance.cases import CASES, Case, Connection, Outcome, known_names
from turnstream.client import AsyncClient, Client, Retry, WatchedTurn
from turnstream.core.native_fold import frame_decoder
from turnstream.errors import MalformedEvent, NotFound, TurnstreamError, Unauthorized

RETRY = Retry(first_delay=0.001, max_delay=0.002, idle=0.25, budget=10)
RAISED = {404: NotFound, 401: Unauthorized, "malformed": MalformedEvent}

pytestmark = pytest.mark.requirement("F6", "C3", "D7", "P1")
each_case = pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])


def reply(connection: Connection, pieces: int) -> Reply:
    body = connection.body.encode()
    return Reply(connection.status, body, connection.headers, connection.end, pieces)


def check(turn: WatchedTurn, expected: Outcome) -> None:
    if expected.raises is None:
        assert turn.status == expected.status
    assert turn.ended == (expected.raises is None)
    assert turn.blocks == expected.blocks
    assert [notice.block_index for notice in turn.lost] == expected.lost
    assert turn.last_id == expected.last_id
    assert (turn.error.code if turn.error is not None else None) == (expected.error or {}).get("code")
    if expected.usage is not None:
        assert turn.usage is not None
        assert {
            k: v for k, v in msgspec.structs.asdict(turn.usage).items() if v is not None
        } == expected.usage


def check_requests(server: ScriptedServer, case: Case) -> None:
    assert len(server.asked) == case.outcome.connections == len(case.connections)
    for asked, connection in zip(server.asked, case.connections, strict=True):
        assert (asked.method, asked.path) == ("GET", "/api/turns/t/stream")
        if connection.asked_with is not msgspec.UNSET:
            assert asked.headers.get("last-event-id") == connection.asked_with


@pytest.mark.parametrize("pieces", [0, 7], ids=["whole", "in small pieces"])
@each_case
async def test_over_http(case: Case, pieces: int) -> None:
    async with ScriptedServer([reply(connection, pieces) for connection in case.connections]) as server:
        async with AsyncClient(server.url, retry=RETRY) as client, asyncio.timeout(20):
            turn = client.watch("t", after=case.after)
            if case.outcome.raises is None:
                await turn.wait()
            else:
                with pytest.raises(RAISED[case.outcome.raises]):
                    await turn.wait()
        check(turn, case.outcome)
        check_requests(server, case)


@each_case
async def test_over_http_without_asyncio(case: Case) -> None:
    def watch(url: str) -> WatchedTurn:
        with Client(url, retry=RETRY) as client:
            turn = client.watch("t", after=case.after)
            if case.outcome.raises is None:
                return turn.wait()
            with pytest.raises(TurnstreamError):
                turn.wait()
            return turn

    async with ScriptedServer([reply(connection, 0) for connection in case.connections]) as server:
        check(await asyncio.to_thread(watch, server.url), case.outcome)
        check_requests(server, case)


@pytest.mark.parametrize("pieces", [1, 5, 1 << 20])
@each_case
def test_the_fold_alone(case: Case, pieces: int) -> None:
    turn = WatchedTurn("t", after=case.after)
    try:
        for connection in case.connections:
            if connection.asked_with is not msgspec.UNSET:
                assert turn.last_id == connection.asked_with
            if connection.status == 204:
                turn.end_reached()
            elif connection.status == 200:
                receive(turn, connection.body.encode(), pieces)
    except MalformedEvent:
        assert case.outcome.raises == "malformed"
    check(turn, case.outcome)


def receive(turn: WatchedTurn, body: bytes, pieces: int) -> None:
    turn.connected()
    decoder = frame_decoder()
    for start in range(0, len(body), pieces):
        for frame in decoder.feed(body[start : start + pieces]):
            turn.take(frame)


def test_the_file_says_only_what_is_understood() -> None:
    for kind, names in zip((Case, Connection, Outcome), known_names().values(), strict=True):
        assert names <= {field.name for field in dataclasses.fields(kind)}
    assert len({case.name for case in CASES}) == len(CASES)
