"""Our wires send the same request as the official clients, for the same call (requirement F1)."""

from __future__ import annotations

import json
from typing import NamedTuple
from urllib.parse import unquote

import pytest

from tests.clients.request_builders import Body
from tests.clients.request_cases import CASES
from tests.clients.request_clients import CLIENTS
from tests.clients.request_differences import DIFFERENCES, Difference
from tests.clients.running import make_calls
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES


class Sent(NamedTuple):
    """Return `path` without its query, with all percent escapes decoded."""

    path: str
    body: Body


def normal(client: str, body: Body, *, leave: Difference | None = None) -> Body:
    for rule in DIFFERENCES:
        if rule.client in (None, client) and rule is not leave:
            body = rule.apply(body)
    return body


def ours(name: str) -> dict[str, Sent]:
    client = CLIENTS[name]
    made: dict[str, Sent] = {}
    for case in client.cases():
        post = WIRES[client.wire].encode_request(client.ours(case))
        path = client.base + unquote(post.path.partition("?")[0])
        made[case.name] = Sent(path, json.loads(post.body))
    return made


async def theirs(simulator: SimulatorServer, name: str) -> dict[str, Sent]:
    """Return the requests that the simulator logged. Each got its answer."""
    client = CLIENTS[name]
    cases = client.cases()
    arguments = [client.arguments(case) for case in cases]
    await make_calls(name, simulator.url, arguments, environment=client.environment)
    noted = simulator.log.newest(len(cases))
    answered = [(request.answered.status, request.answered.stream) for request in noted]
    assert answered == [(200, case.request.stream) for case in cases]
    assert not any(request.body_truncated for request in noted)
    return {
        case.name: Sent(request.path, json.loads(bytes(request.body)))
        for case, request in zip(cases, noted, strict=True)
    }


@pytest.mark.requirement("E1", "F1")
@pytest.mark.parametrize("client", CLIENTS)
async def test_the_request_is_the_clients(simulator: SimulatorServer, client: str):
    sent, made = await theirs(simulator, client), ours(client)
    for name, (path, body) in sent.items():
        assert made[name].path == path, name
        assert normal(client, made[name].body) == normal(client, body), name
    for rule in DIFFERENCES:
        if rule.client in (None, client):
            needed = (
                normal(client, made[name].body, leave=rule) != normal(client, body, leave=rule)
                for name, (_, body) in sent.items()
            )
            assert any(needed), f"no call needs this rule: take it out: {rule.reason}"


@pytest.mark.parametrize("name", CLIENTS)
def test_each_client_makes_each_call_or_there_is_a_reason(name: str):
    client = CLIENTS[name]
    assert client.calls.keys() | client.cannot.keys() == {case.name for case in CASES}
    assert not client.calls.keys() & client.cannot.keys()
