"""OpenAI's own clients over Responses. A response is what the server has stored, or the client fails in its
own way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.dialects.witnesses import StoredTurn, Witness, run_cases

CUTS = (100, 700, 1500, 2500, 4000)
CUT = {"APIConnectionError", "RemoteProtocolError", "APIError", "ReadError", "TypeError", "Error"}
"""Errors of the clients for a connection that was cut."""


@pytest.fixture(scope="module", params=["openai_responses_cases.py", "openai_responses.mjs"])
def witness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases of one client. One process runs them all."""
    environment = "openai" if request.param.endswith(".py") else "provider-sdks"
    return asyncio.run(run_cases(request.param, environment, tmp_path_factory.mktemp(environment), cuts=CUTS))


def stored_text(turn: StoredTurn, kind: str = "text") -> str:
    return "".join(block["text_content"] for block in turn.blocks if block["block_type"] == kind)


def stored_calls(turn: StoredTurn) -> list[list[Any]]:
    calls = [block["content"] for block in turn.blocks if block["block_type"] == "tool_use"]
    return [[call["tool_use_id"], call["tool_name"], call["input"]] for call in calls]


def check(response: dict[str, Any], turn: StoredTurn, *, calls: bool = True) -> None:
    """The response is the stored turn."""
    assert response["id"] == "resp_" + turn.raw["id"].replace("-", "")
    assert response["text"] == stored_text(turn)
    assert response["thinking"] == stored_text(turn, "thinking")
    assert not calls or response["calls"] == stored_calls(turn)
    assert response["usage"] == [turn.raw["input_tokens"], turn.raw["output_tokens"]]
    if "raw" in response:
        assert response["raw"] == response["text"]


@pytest.mark.requirement("N5", "P2")
@pytest.mark.parametrize(
    "case",
    [
        "plain", "streamed", "thinking", "image", "background", "closed", "conversation", "fallback",
    ],
)  # fmt: skip
def test_a_response_is_the_stored_turn(witness: Witness, case: str) -> None:
    response = witness.outcomes[case]
    turn = witness.answers_of(case)[-1]
    check(response, turn)
    assert (response["status"], turn.status) == ("completed", "complete")


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("case", ["tools", "continued"])
def test_parallel_calls_go_to_the_client_and_their_results_come_back(witness: Witness, case: str) -> None:
    responses, answers = witness.outcomes[case], witness.answers_of(case)
    for response, turn in zip(responses, answers, strict=True):
        check(response, turn)
    assert len(responses[0]["calls"]) == 2
    assert responses[-1]["text"] == "The tools say: clear sky 0; clear sky 1"


@pytest.mark.requirement("N5")
def test_a_tool_of_the_server_runs_there_when_the_request_names_it(witness: Witness) -> None:
    response = witness.outcomes["serverTools"]
    (turn,) = witness.answers_of("serverTools")
    check(response, turn, calls=False)
    assert response["calls"] == []


@pytest.mark.requirement("N5", "P2", "P5")
def test_every_cut_resumes_to_the_whole(witness: Witness) -> None:
    responses = witness.outcomes["everyCut"]
    turns = [turns[-1] for turns in witness.chats_of("everyCut")]
    stored = {"resp_" + turn.raw["id"].replace("-", ""): turn for turn in turns}
    assert len(responses) > 20
    for response in responses:
        check(response, stored[response["id"]])
        assert response["helped"] == response["text"]


@pytest.mark.requirement("N5", "P2", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_resumes_to_the_whole(witness: Witness, place: int) -> None:
    response = witness.outcomes[f"cut {place}"]
    assert response["error"] in CUT
    (turn,) = witness.answers_of(f"cut {place}")
    assert turn.status == "complete"
    if "id" in response:  # else the client has read no event, and has nothing to resume
        check(response, turn)


@pytest.mark.requirement("N5", "E1")
def test_a_cancelled_response_says_so_as_often_as_it_is_asked(witness: Witness) -> None:
    response = witness.outcomes["cancelled"]
    (turn,) = witness.answers_of("cancelled")
    check(response, turn)
    assert response["statuses"] == ["cancelled", "cancelled"]
    assert (response["status"], response["last"], turn.status) == (
        "cancelled",
        "response.failed",
        "cancelled",
    )


@pytest.mark.requirement("N5", "P5")
def test_faults_are_the_clients_own_errors(witness: Witness) -> None:
    refused = witness.outcomes["plainFault"]
    assert (refused["error"], refused["status"]) == ("RateLimitError", 429)
    for case in ("faultBefore", "faultAfter"):
        failed = witness.outcomes[case]
        (turn,) = witness.answers_of(case)
        assert turn.status == "error"
        assert failed["last"] == "response.failed"
        assert failed["part"] == stored_text(turn)
    incomplete = witness.outcomes["maxTokens"]
    (turn,) = witness.answers_of("maxTokens")
    assert (incomplete["last"], incomplete["part"]) == ("response.incomplete", stored_text(turn))


@pytest.mark.requirement("N5")
def test_conversations_and_refusals(witness: Witness) -> None:
    assert witness.outcomes["structured"]["value"] == {"city": "structured"}
    outcome = witness.outcomes["conversation"]
    assert (outcome["roles"][:2], outcome["same"]) == (["user", "assistant"], True)
    assert outcome["metadata"] == {"c": "d"}
    assert witness.outcomes["image"]["same"]
    assert witness.outcomes["deleted"]["status"] == 404
    assert witness.chats_of("deleted") == []
    assert witness.outcomes["refused"]["status"] in {400, 404}
    assert witness.chats_of("refused") == []
