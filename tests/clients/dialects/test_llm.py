"""The library `llm`: an answer is what the server has stored, or the library raises."""

from __future__ import annotations

import asyncio

import pytest

from tests.clients.dialects.test_openai_chat import stored_text
from tests.clients.dialects.witnesses import CUTS, Witness, run_cases


@pytest.fixture(scope="module")
def witness(tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process runs them all."""
    return asyncio.run(run_cases("llm_cases.py", "llm", tmp_path_factory.mktemp("llm")))


@pytest.mark.requirement("N5", "P2")
@pytest.mark.parametrize("case", ["plain", "streamed", "image"])
def test_an_answer_is_the_stored_turn(witness: Witness, case: str) -> None:
    (turn,) = witness.answers_of(f"llm {case}")
    assert turn.status == "complete"
    assert witness.outcomes[f"llm {case}"]["text"] == stored_text(turn) != ""


@pytest.mark.requirement("N5")
def test_tools_of_the_client_run_over_two_rounds_in_one_chat(witness: Witness) -> None:
    first, last = witness.answers_of("llm tools")
    assert [block["block_type"] for block in first.blocks].count("tool_use") == 2
    assert witness.outcomes["llm tools"] == {"text": stored_text(last), "rounds": 2}
    assert "clear sky" in stored_text(last)


@pytest.mark.requirement("N5")
def test_an_answer_may_have_a_schema(witness: Witness) -> None:
    assert witness.outcomes["llm structured"] == {"city": "llm structured"}


@pytest.mark.requirement("N5", "P5")
def test_a_fault_is_the_librarys_own_error(witness: Witness) -> None:
    before = witness.outcomes["llm faultBefore"]
    assert (before["error"], before["status"]) == ("AuthenticationError", 401)
    after = witness.outcomes["llm faultAfter"]
    (turn,) = witness.answers_of("llm faultAfter")
    assert (after["error"], after["part"], turn.status) == ("APIError", stored_text(turn), "error")


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_is_an_error_or_another_turn_answers(witness: Witness, place: int) -> None:
    """The library sends a request again if the connection was cut before the response began."""
    name = f"llm cut {place}"
    outcome = witness.outcomes[name]
    answers = [turn for turns in witness.chats_of(name) for turn in turns[1:]]
    (cut,) = (turn for turn in answers if turn.status == "cancelled")
    if "error" in outcome:
        assert outcome["error"] == "APIConnectionError"
        assert stored_text(cut).startswith(outcome["part"])
    else:
        (again,) = (turn for turn in answers if turn.status == "complete")
        assert outcome["text"] == stored_text(again)
