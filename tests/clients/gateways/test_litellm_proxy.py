"""LiteLLM's proxy in front of turnstream and behind it: an answer is what is stored, or the client fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.clients.dialects.witnesses import Witness
from tests.clients.gateways.gateways import (
    ANSWERED,
    CUT,
    FAILED,
    MODELS,
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

PREFIXES = {"chat": "openai", "responses": "openai", "messages": "anthropic"}
"""LiteLLM's prefixes of models, by the protocol."""
PATHS = {"openai": "/v1", "anthropic": ""}


class LiteLlm:
    """LiteLLM's proxy. Its list of models names turnstream's models, and those of the simulator."""

    environ: Mapping[str, str] = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    is_ready = "Uvicorn running on"
    tells_errors = True

    def command(self, addresses: Addresses, folder: Path) -> list[str | Path]:
        settings = folder / "litellm.yaml"
        settings.write_text(json.dumps(self._settings(addresses)))  # JSON is YAML, too
        port = addresses.gateway.rpartition(":")[2]
        return [
            PROJECT / ".tools/litellm/bin/litellm", "--config", settings, "--host", "127.0.0.1",
            "--port", port, "--num_workers", "1",
        ]  # fmt: skip

    def in_front(self, call: Call, addresses: Addresses) -> Asked:
        return Asked(f"{call.protocol}-{call.model}")

    def behind(self, protocol: str, model: str, addresses: Addresses) -> Asked:
        return Asked(f"simulated-{protocol}-{'paced' if model in CUT else model}")

    @staticmethod
    def _settings(addresses: Addresses) -> dict[str, Any]:
        models: list[dict[str, Any]] = []

        def add(name: str, prefix: str, model: str, address: str) -> None:
            called = {"model": f"{prefix}/{model}", "api_base": address + PATHS[prefix], "api_key": "any"}
            models.append({"model_name": name, "litellm_params": called})

        for protocol, prefix in PREFIXES.items():
            for name in (*MODELS, *CUT, "safe"):
                address = addresses.turnstream_for(protocol, name)
                add(f"{protocol}-{name}", prefix, model_of_turnstream(name), address)
            for name in MODELS:
                add(f"simulated-{protocol}-{name}", prefix, script_of(name), addresses.simulator)
        return {
            "model_list": models,
            "litellm_settings": {"telemetry": False, "num_retries": 0, "drop_params": False},
            "router_settings": {"disable_cooldowns": True},
            "general_settings": {
                "disable_spend_logs": True,
                "dangerously_permit_weak_or_unset_master_key": True,
            },
        }


IN_FRONT = calls_of("in front", "chat", "messages", "responses")
BEHIND = calls_of("behind", "chat", "messages")
CALLS = [*IN_FRONT, *BEHIND]


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all calls. One process of the proxy and of each client makes them."""
    return asyncio.run(run_calls(LiteLlm(), CALLS, tmp_path_factory.mktemp("litellm-proxy")))


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
    check_cut(witness, call)


@pytest.mark.requirement("N5")
@those("left")
def test_a_client_that_leaves_stops_its_turn(witness: Witness, call: Call) -> None:
    (turn,) = answers_of(witness, call)
    assert turn.status == "cancelled"
