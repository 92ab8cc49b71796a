"""Ollama's own clients. An answer is what the server has stored, or the client fails in its own way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.dialects.witnesses import CUTS, StoredTurn, Witness, run_cases

CLIENTS = {"python": ("ollama_cases.py", "ollama"), "javascript": ("ollama.mjs", "provider-sdks")}


@pytest.fixture(scope="module", params=CLIENTS)
def witness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process of each client runs them all."""
    script, environment = CLIENTS[request.param]
    return asyncio.run(run_cases(script, environment, tmp_path_factory.mktemp("ollama")))


def stored(turn: StoredTurn) -> tuple[str, str, list[tuple[str, Any]]]:
    """The text, the thinking and the calls of a turn."""
    texts = {"text": "", "thinking": ""}
    calls: list[tuple[str, Any]] = []
    for block in turn.blocks:
        if block["block_type"] == "tool_use":
            calls.append((block["content"]["tool_name"], block["content"]["input"]))
        else:
            texts[block["block_type"]] += block["text_content"]
    return texts["text"], texts["thinking"], calls


def shown(outcome: dict[str, Any]) -> tuple[str, str, list[tuple[str, Any]]]:
    calls = [(call["function"]["name"], call["function"]["arguments"]) for call in outcome["calls"]]
    return outcome["text"], outcome["thinking"], calls


def check_answer(outcome: dict[str, Any], turn: StoredTurn, reason: str = "stop") -> None:
    last = outcome["last"]
    assert shown(outcome) == stored(turn)
    assert (last["done"], last["done_reason"], turn.status) == (True, reason, "complete")
    assert last["prompt_eval_count"] == turn.raw["input_tokens"]
    assert last["eval_count"] == turn.raw["output_tokens"]
    parts = last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"]
    assert 0 < parts == last["total_duration"]


@pytest.mark.requirement("N7", "P2")
@pytest.mark.parametrize("case", ["plain", "streamed", "thinking", "image", "generated", "generatedWhole"])
def test_an_answer_is_the_stored_turn(witness: Witness, case: str) -> None:
    (turn,) = witness.answers_of(case)
    check_answer(witness.outcomes[case], turn)


@pytest.mark.requirement("N7")
def test_an_answer_that_reaches_its_limit_says_so(witness: Witness) -> None:
    (turn,) = witness.answers_of("maxTokens")
    check_answer(witness.outcomes["maxTokens"], turn, "length")


@pytest.mark.requirement("N7")
def test_a_resent_conversation_stores_each_message_once(witness: Witness) -> None:
    (turns,) = witness.chats_of("conversation")
    assert [turn.raw["role"] for turn in turns] == ["user", "assistant"] * 4
    for outcome, turn in zip(
        witness.outcomes["conversation"], witness.answers_of("conversation"), strict=True
    ):
        check_answer(outcome, turn)


@pytest.mark.requirement("N7")
@pytest.mark.parametrize("case", ["tools", "agent"])
def test_parallel_calls_go_to_the_client_and_their_results_come_back(witness: Witness, case: str) -> None:
    first, last = witness.outcomes[case]
    assert len(first["calls"]) == 2
    assert last["text"] == "The tools say: clear sky 0; clear sky 1"
    answers = witness.answers_of(case)
    check_answer(first, answers[0])
    check_answer(last, answers[-1])


@pytest.mark.requirement("N7")
def test_images_options_and_the_system_prompt_reach_the_turn(witness: Witness) -> None:
    ((question, _),) = witness.chats_of("image")
    assert [block["block_type"] for block in question.blocks] == ["text", "image"]
    (turn,) = witness.answers_of("streamed")
    assert turn.raw["params"]["temperature"] == 0.5
    assert turn.raw["params"]["wire_params"] == {"ollama": {"num_ctx": 4096}}
    (turn,) = witness.answers_of("generated")
    assert turn.raw["system"] == "Be kind."
    assert witness.outcomes["structured"]["value"] == {"city": "structured"}


@pytest.mark.requirement("N7", "P5")
@pytest.mark.parametrize("case", ["faultBefore", "plainFault"])
def test_a_fault_before_output_has_the_providers_status(witness: Witness, case: str) -> None:
    outcome = witness.outcomes[case]
    assert (outcome["error"], outcome["status"]) == ("ResponseError", 401)
    (turn,) = witness.answers_of(case)
    assert turn.status == "error"


@pytest.mark.requirement("N7", "P5")
def test_a_fault_after_output_raises_in_the_client(witness: Witness) -> None:
    outcome = witness.outcomes["faultAfter"]
    (turn,) = witness.answers_of("faultAfter")
    assert outcome["error"] in {"ResponseError", "Error"}
    assert outcome["message"].startswith("the answer ended before it was complete")
    assert (shown(outcome["part"]), turn.status) == (stored(turn), "error")


@pytest.mark.requirement("N7", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_is_an_error_and_stops_the_turn(witness: Witness, place: int) -> None:
    outcome = witness.outcomes[f"cut {place}"]
    (turn,) = witness.answers_of(f"cut {place}")
    assert outcome["error"] in {"RemoteProtocolError", "TypeError"}
    assert turn.status == "cancelled"
    assert stored(turn)[0].startswith(outcome["part"]["text"])


@pytest.mark.requirement("N7")
def test_a_client_that_leaves_stops_its_turn(witness: Witness) -> None:
    (turn,) = witness.answers_of("left")
    assert turn.status == "cancelled"


@pytest.mark.requirement("N7")
def test_nothing_is_stored_for_a_refused_request(witness: Witness) -> None:
    assert (witness.outcomes["refused"]["error"], witness.outcomes["refused"]["status"]) == (
        "ResponseError",
        400,
    )
    assert witness.chats_of("refused") == []


@pytest.mark.requirement("N7")
def test_requests_without_a_prompt_only_load_a_model(witness: Witness) -> None:
    assert witness.outcomes["loaded"] == ["load", "unload"]


@pytest.mark.requirement("N7")
def test_models_are_listed_and_described(witness: Witness) -> None:
    listed = witness.outcomes["listed"]
    assert "sim/story:latest" in listed["names"]
    assert listed["running"] == []
    assert listed["shown"]["capabilities"] == ["completion", "tools"]


@pytest.mark.requirement("N7")
def test_what_is_not_possible_is_said_in_a_sentence(witness: Witness) -> None:
    found = [(one["status"], one["message"].split(" (")[0]) for one in witness.outcomes["unknown"]]
    assert found == [
        (404, "model 'no such/model' not found: list the models"),
        (404, "turnstream does not store models: its settings name the models of providers"),
        (404, "turnstream runs conversations: ask the provider of the model for embeddings"),
        (400, "suffix is not possible here: leave it out"),
        (400, "raw is not possible here: leave it out"),
    ]
