"""pydantic-ai, langchain-openai: an answer is what the server has stored, or the library raises."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.dialects.test_openai_chat import stored_text
from tests.clients.dialects.witnesses import CUTS, Witness, run_cases

LIBRARIES = ("pydantic", "langchain")
FAILED_BEFORE = {"pydantic": "ModelAuthenticationError", "langchain": "OpenAIAuthenticationError"}
CUT = {"OpenAIConnectionError", "ModelConnectionError", "APIError", "ModelAPIError"}
"""Errors of the libraries for a connection that was cut, and for an error in a stream."""


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process runs them all."""
    folder = tmp_path_factory.mktemp("libraries")
    return asyncio.run(run_cases("openai_libraries_cases.py", "libraries", folder))


@pytest.mark.requirement("N5", "P2")
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", ["plain", "streamed", "image", "fallback"])
def test_an_answer_is_the_stored_turn(witness: Witness, library: str, case: str) -> None:
    (turn,) = witness.answers_of(f"{library} {case}")
    assert turn.status == "complete"
    assert witness.outcomes[f"{library} {case}"]["text"] == stored_text(turn) != ""


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("library", LIBRARIES)
def test_tools_of_the_client_run_over_two_rounds_in_one_chat(witness: Witness, library: str) -> None:
    first, last = witness.answers_of(f"{library} tools")
    calls = [block for block in first.blocks if block["block_type"] == "tool_use"]
    assert len(calls) == 2
    assert witness.outcomes[f"{library} tools"]["text"] == stored_text(last)
    assert "clear sky" in stored_text(last)


@pytest.mark.requirement("N5")
def test_an_answer_may_have_a_schema(witness: Witness) -> None:
    assert witness.outcomes["langchain structured"] == {"city": "langchain structured"}


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_fault_is_the_librarys_own_error(witness: Witness, library: str) -> None:
    before = witness.outcomes[f"{library} faultBefore"]
    assert (before["error"], before["status"]) == (FAILED_BEFORE[library], 401)
    after = witness.outcomes[f"{library} faultAfter"]
    (turn,) = witness.answers_of(f"{library} faultAfter")
    assert after["error"] in CUT
    assert stored_text(turn).startswith(after["part"])
    assert turn.status == "error"


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_is_an_error_and_stops_the_turn(witness: Witness, place: int) -> None:
    name = f"{LIBRARIES[0] if place % 2 else LIBRARIES[1]} cut {place}"
    outcome = witness.outcomes[name]
    (turn,) = witness.answers_of(name)
    assert outcome["error"] in CUT
    assert turn.status == "cancelled"
    assert stored_text(turn).startswith(outcome["part"])
