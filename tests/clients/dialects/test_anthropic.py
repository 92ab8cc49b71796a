"""Anthropic's own clients. A message is what the server has stored, or the client fails in its own way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.clients.dialects.witnesses import CUTS, StoredTurn, Witness, run_cases

CLIENTS = {"python": ("anthropic_cases.py", "anthropic"), "javascript": ("anthropic.mjs", "provider-sdks")}
CUT = {"APIConnectionError", "RemoteProtocolError", "AnthropicError"}
"""Errors of the clients for a connection that was cut."""


@pytest.fixture(scope="module", params=CLIENTS)
def witness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process of each client runs them all."""
    script, environment = CLIENTS[request.param]
    return asyncio.run(run_cases(script, environment, tmp_path_factory.mktemp("anthropic")))


def shown(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    """The blocks of a message, as `stored` returns those of a turn."""
    found: list[tuple[Any, ...]] = []
    for block in message["content"]:
        match block["type"]:
            case "text":
                found.append(("text", block["text"]))
            case "thinking":
                found.append(("thinking", block["thinking"], block["signature"].rpartition(".")[2]))
            case "tool_use":
                found.append(("tool_use", block["id"], block["name"], block["input"]))
            case kind:
                found.append((kind,))
    return found


def stored(turn: StoredTurn) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for block in turn.blocks:
        content = block["content"] or {}
        match block["block_type"]:
            case "text":
                found.append(("text", block["text_content"]))
            case "thinking":
                found.append(("thinking", block["text_content"], content["signature"]))
            case "tool_use":
                found.append(("tool_use", content["tool_use_id"], content["tool_name"], content["input"]))
            case kind:
                found.append((kind,))
    return found


def check_answers(witness: Witness, case: str) -> list[StoredTurn]:
    """The case's messages are the answers of its only chat. Return the answers."""
    outcome = witness.outcomes[case]
    messages = outcome if isinstance(outcome, list) else [outcome]
    answers = witness.answers_of(case)
    assert [shown(message) for message in messages] == [stored(turn) for turn in answers]
    assert [message["id"] for message in messages] == [f"msg_{turn.raw['id']}" for turn in answers]
    for message, turn in zip(messages, answers, strict=True):
        assert turn.status == "complete"
        assert message["stop_reason"] == turn.raw["stop_reason"]
        assert message["usage"]["output_tokens"] == turn.raw["output_tokens"]
        assert message["usage"]["input_tokens"] == turn.raw["input_tokens"]
    return answers


@pytest.mark.requirement("N6", "P2")
@pytest.mark.parametrize(
    "case",
    ["plain", "streamed", "conversation", "tools", "agent", "thinking", "media", "extras", "maxTokens"],
)
def test_a_message_is_the_stored_turn(witness: Witness, case: str) -> None:
    check_answers(witness, case)


@pytest.mark.requirement("N6")
def test_a_resent_conversation_stores_each_message_once(witness: Witness) -> None:
    (turns,) = witness.chats_of("conversation")
    assert [turn.raw["role"] for turn in turns] == ["user", "assistant"] * 4


@pytest.mark.requirement("N6")
@pytest.mark.parametrize("case", ["tools", "agent"])
def test_parallel_calls_go_to_the_client_and_their_results_come_back(witness: Witness, case: str) -> None:
    first, last = witness.outcomes[case]
    assert [block["type"] for block in first["content"]][-2:] == ["tool_use", "tool_use"]
    assert last["content"][-1]["text"] == "The tools say: clear sky 0; clear sky 1"
    (turns,) = witness.chats_of(case)
    assert len(turns) == 4


@pytest.mark.requirement("N6")
def test_a_tool_of_the_server_runs_there_when_the_request_names_it(witness: Witness) -> None:
    message = witness.outcomes["serverTools"]
    (turn,) = witness.answers_of("serverTools")
    visible = [block for block in stored(turn) if block[0] == "text"]
    assert shown(message) == visible
    assert message["stop_reason"] == "end_turn"
    kinds = [block["block_type"] for block in turn.blocks]
    assert kinds == ["text", "tool_use", "tool_use", "tool_result", "tool_result", "text"]


@pytest.mark.requirement("N6")
def test_a_signature_goes_out_and_comes_back(witness: Witness) -> None:
    first, second = witness.outcomes["thinking"]
    assert first["content"][0]["signature"]
    assert shown(first)[0] == shown(second)[0]


@pytest.mark.requirement("N6")
def test_images_and_documents_are_blocks_of_the_question(witness: Witness) -> None:
    ((question, _),) = witness.chats_of("media")
    assert [block["block_type"] for block in question.blocks] == ["text", "image", "document"]


@pytest.mark.requirement("N6")
def test_the_fields_of_a_request_reach_the_turn(witness: Witness) -> None:
    (turn,) = witness.answers_of("extras")
    assert turn.raw["system"] == "Be kind."
    assert turn.raw["metadata"] == {"user_id": "user 7"}
    assert turn.raw["params"]["stop"] == ["STOP"]
    assert turn.raw["params"]["temperature"] == 0.5
    assert witness.outcomes["structured"]["value"] == {"city": "structured"}


@pytest.mark.requirement("N6", "P5")
@pytest.mark.parametrize("case", ["faultBefore", "plainFault"])
def test_a_fault_before_output_has_the_providers_status(witness: Witness, case: str) -> None:
    outcome = witness.outcomes[case]
    (turn,) = witness.answers_of(case)
    assert (outcome["error"], outcome["status"]) == ("AuthenticationError", 401)
    assert outcome["body"]["error"]["type"] == "authentication_error"
    assert outcome["request_id"] == outcome["body"]["request_id"] == turn.raw["id"]
    assert turn.status == "error"


@pytest.mark.requirement("N6", "P5")
def test_a_fault_after_output_raises_in_the_client(witness: Witness) -> None:
    outcome = witness.outcomes["faultAfter"]
    (turn,) = witness.answers_of("faultAfter")
    assert outcome["error"] in {"APIStatusError", "APIError"}
    assert outcome["body"]["error"]["type"] == "stream_incomplete"
    assert outcome["body"]["request_id"] == turn.raw["id"]
    assert (shown(outcome["part"]), turn.status) == (stored(turn), "error")


@pytest.mark.requirement("N6", "N9")
@pytest.mark.parametrize("case", ["fallback", "lateFallback"])
def test_a_fallback_answers_and_its_text_is_whole(witness: Witness, case: str) -> None:
    check_answers(witness, case)


@pytest.mark.requirement("N6", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_is_an_error_and_stops_the_turn(witness: Witness, place: int) -> None:
    outcome = witness.outcomes[f"cut {place}"]
    (turn,) = witness.answers_of(f"cut {place}")
    assert outcome["error"] in CUT
    assert turn.status == "cancelled"
    if "part" in outcome:
        assert stored(turn)[0][1].startswith(outcome["part"]["content"][0]["text"])


@pytest.mark.requirement("N6")
def test_a_client_that_leaves_stops_its_turn(witness: Witness) -> None:
    (turn,) = witness.answers_of("left")
    assert turn.status == "cancelled"


@pytest.mark.requirement("N6", "P5")
def test_a_stop_from_elsewhere_raises_in_the_client(witness: Witness) -> None:
    outcome = witness.outcomes["stopped"]
    (turn,) = witness.answers_of("stopped")
    assert outcome["error"] in {"APIStatusError", "APIError"}
    assert outcome["body"]["error"]["type"] == "cancelled"
    assert (shown(outcome["part"]), turn.status) == (stored(turn), "cancelled")


@pytest.mark.requirement("N6")
@pytest.mark.parametrize("case", ["refused", "empty"])
def test_nothing_is_stored_for_a_refused_request(witness: Witness, case: str) -> None:
    outcome = witness.outcomes[case]
    assert (outcome["error"], outcome["status"]) == ("BadRequestError", 400)
    assert outcome["body"]["error"]["type"] == "invalid_request_error"
    assert outcome["request_id"] == outcome["body"]["request_id"]
    assert witness.chats_of(case) == []


@pytest.mark.requirement("N6")
def test_a_count_of_tokens_says_that_it_is_an_estimate(witness: Witness) -> None:
    counted = witness.outcomes["counted"]
    assert counted["input_tokens"] > 0
    assert counted["estimate"] == "input_tokens"


@pytest.mark.requirement("N6")
def test_the_models_are_listed_in_anthropics_form(witness: Witness) -> None:
    assert "sim/story" in witness.outcomes["listed"]
