"""Portkey's gateway in front of turnstream and behind it: an answer is what is stored, or the client fails.

The version of its HTTP server is that of Portkey's own lock file. With newer ones, the gateway answers every
stream with the status 500, whatever the provider: it changes headers that cannot be changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.dialects.witnesses import NODE, Witness
from tests.clients.gateways.gateways import (
    ANSWERED,
    CUT,
    FAILED,
    Addresses,
    Asked,
    Call,
    answers_of,
    calls_of,
    check_answer,
    check_cut,
    check_failure,
    model_of_turnstream,
    run_calls,
    script_of,
)
from tests.clients.running import PROJECT

PROVIDERS = {"chat": "openai", "messages": "anthropic"}
"""Portkey's names of providers, by the protocol."""
PROGRAM = PROJECT / ".tools/clients/portkey/node_modules/@portkey-ai/gateway/build/start-server.js"


class Portkey:
    """Portkey's gateway. The headers of a request name the provider and its address."""

    environ: Mapping[str, str] = {}
    is_ready = "Ready for connections"
    tells_errors = False

    def command(self, addresses: Addresses, folder: Path) -> list[str | Path]:
        return [NODE, PROGRAM, f"--port={addresses.gateway.rpartition(':')[2]}", "--headless"]

    def in_front(self, call: Call, addresses: Addresses) -> Asked:
        address = addresses.turnstream_for(call.protocol, call.model)
        return Asked(model_of_turnstream(call.model), self._headers(call.protocol, address))

    def behind(self, protocol: str, model: str, addresses: Addresses) -> Asked:
        return Asked(script_of(model), self._headers(protocol, addresses.simulator))

    @staticmethod
    def _headers(protocol: str, address: str) -> dict[str, str]:
        return {
            "x-portkey-provider": PROVIDERS[protocol],
            "x-portkey-custom-host": f"{address}/v1",
            "authorization": "Bearer any",
        }


IN_FRONT = calls_of("in front", "chat", "messages")
BEHIND = calls_of("behind", "chat", "messages")
CALLS = [*IN_FRONT, *BEHIND]


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all calls. One process of the gateway and of each client makes them."""
    return asyncio.run(run_calls(Portkey(), CALLS, tmp_path_factory.mktemp("portkey")))


def those(*cases: str) -> Any:
    """Return the parameters of a test of the calls of some cases."""
    found = [call for call in CALLS if call.case in cases]
    return pytest.mark.parametrize("call", found, ids=[call.name.replace(" ", "-") for call in found])


@pytest.mark.requirement("N5", "N6")
@those(*ANSWERED)
def test_an_answer_is_what_is_stored(witness: Witness, call: Call) -> None:
    check_answer(witness, call)


@pytest.mark.requirement("N5", "N6", "P5")
@those(*FAILED)
def test_a_fault_of_the_model_fails_in_the_client(witness: Witness, call: Call) -> None:
    check_failure(witness, call)


@pytest.mark.requirement("N5", "P5")
@those(*CUT)
def test_a_cut_connection_fails_or_is_called_again(witness: Witness, call: Call) -> None:
    """Portkey ends a cut stream cleanly. Its clients see an answer without a finish reason."""
    check_cut(witness, call, may_lack_end=call.place == "in front")


@pytest.mark.requirement("N5")
@those("left")
def test_portkey_reads_on_when_its_client_leaves(witness: Witness, call: Call) -> None:
    (turn,) = answers_of(witness, call)
    assert turn.status == ("complete" if call.place == "in front" else "cancelled")
