"""LiteLLM over three protocols: an answer is what the server has stored, or the client fails."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.clients.dialects.witnesses import StoredTurn, Witness, run_cases

PREFIXES = pytest.mark.parametrize("prefix", ["anthropic", "ollama_chat", "openai"])
FAILURES = {
    "MidStreamFallbackError",
    "BadRequestError",
    "InternalServerError",
    "APIError",
    "APIConnectionError",
}


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process of the client runs them all."""
    return asyncio.run(run_cases("litellm_cases.py", "litellm", tmp_path_factory.mktemp("litellm")))


def stored(turn: StoredTurn, block_type: str) -> str:
    return "".join(block["text_content"] for block in turn.blocks if block["block_type"] == block_type)


def check_answer(outcome: dict[str, Any], turn: StoredTurn) -> None:
    assert turn.status == "complete"
    assert (outcome["text"], outcome["thinking"]) == (stored(turn, "text"), stored(turn, "thinking"))
    calls = [block["content"] for block in turn.blocks if block["block_type"] == "tool_use"]
    assert [
        (call["function"]["name"], json.loads(call["function"]["arguments"])) for call in outcome["calls"]
    ] == [(call["tool_name"], call["input"]) for call in calls]


@PREFIXES
@pytest.mark.requirement("N5", "N6", "N7")
@pytest.mark.parametrize("case", ["plain", "streamed", "thinking", "image"])
def test_an_answer_is_the_stored_turn(witness: Witness, prefix: str, case: str) -> None:
    name = f"{case} of {prefix}"
    (turn,) = witness.answers_of(name)
    check_answer(witness.outcomes[name], turn)
    assert witness.outcomes[name]["reason"] == "stop"


@PREFIXES
@pytest.mark.requirement("N5", "N6", "N7")
@pytest.mark.parametrize("case", ["tools", "plainTools"])
def test_parallel_calls_and_their_results(witness: Witness, prefix: str, case: str) -> None:
    name = f"{case} of {prefix}"
    first, last = witness.outcomes[name]
    answers = witness.answers_of(name)
    check_answer(first, answers[0])
    check_answer(last, answers[-1])
    assert len(first["calls"]) == 2
    assert last["text"] == "The tools say: clear sky 0; clear sky 1"


@PREFIXES
@pytest.mark.requirement("N5", "N6", "N7", "P5")
def test_a_fault_before_output_has_the_providers_status(witness: Witness, prefix: str) -> None:
    outcome = witness.outcomes[f"faultBefore of {prefix}"]
    assert (outcome["error"], outcome["status"]) == ("AuthenticationError", 401)


@PREFIXES
@pytest.mark.requirement("N5", "N6", "N7", "P5")
@pytest.mark.parametrize(("case", "status"), [("faultAfter", "error"), ("cut", "cancelled")])
def test_a_fault_after_output_and_a_cut_raise_in_the_client(
    witness: Witness, prefix: str, case: str, status: str
) -> None:
    name = f"{case} of {prefix}"
    outcome = witness.outcomes[name]
    (turn,) = witness.answers_of(name)
    assert outcome["error"] in FAILURES
    assert turn.status == status
    assert outcome["text"]
    assert stored(turn, "text").startswith(outcome["text"])
