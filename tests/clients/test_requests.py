"""For the same call our wires send what the official clients send (requirement F1)."""

from __future__ import annotations

import json

import pytest

from tests.clients.request_cases import CASES, DIFFERENCES, WIRES_OF, Body, Difference
from tests.clients.running import make_calls
from turnstream.simulator.server import SimulatorServer
from turnstream.wires import WIRES


def normal(client: str, body: Body, *, leave: Difference | None = None) -> Body:
    for rule in DIFFERENCES:
        if rule.client in (None, client) and rule is not leave:
            body = rule.apply(body)
    return body


def ours(client: str) -> dict[str, Body]:
    wire = WIRES[WIRES_OF[client]]
    cases = (case for case in CASES if client in case.calls)
    return {case.name: json.loads(wire.encode_request(case.ours(client)).body) for case in cases}


async def theirs(simulator: SimulatorServer, client: str) -> dict[str, Body]:
    """The bodies that the client sent, as the simulator noted them; each was answered."""
    cases = [case for case in CASES if client in case.calls]
    await make_calls(client, simulator.url, [case.arguments(client) for case in cases])
    noted = simulator.log.newest(len(cases))
    assert [request.answered.status for request in noted] == [200] * len(cases)
    assert not any(request.body_truncated for request in noted)
    return {case.name: json.loads(bytes(request.body)) for case, request in zip(cases, noted, strict=True)}


@pytest.mark.requirement("E1", "F1")
@pytest.mark.parametrize("client", WIRES_OF)
async def test_the_body_is_the_clients(simulator: SimulatorServer, client: str):
    sent, made = await theirs(simulator, client), ours(client)
    for name, body in sent.items():
        assert normal(client, made[name]) == normal(client, body), name
    for rule in DIFFERENCES:
        if rule.client in (None, client):
            needed = (
                normal(client, made[name], leave=rule) != normal(client, body, leave=rule)
                for name, body in sent.items()
            )
            assert any(needed), f"no call needs this rule: take it out: {rule.reason}"


@pytest.mark.parametrize("client", WIRES_OF)
def test_each_client_is_asked_for_most(client: str):
    assert len(ours(client)) >= len(CASES) // 2
