"""OpenAI's own clients. A completion is what the server has stored, or the client fails in its own way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.clients.dialects.witnesses import CUTS, StoredTurn, Witness, run_cases

CLIENTS = {"python": ("openai_chat_cases.py", "openai"), "javascript": ("openai_chat.mjs", "provider-sdks")}
CUT = {"APIConnectionError", "RemoteProtocolError", "APIError", "ReadError", "TypeError"}
"""Errors of the clients for a connection that was cut."""


@pytest.fixture(scope="module", params=CLIENTS)
def witness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Witness:
    """The outcomes of all cases. One process of each client runs them all."""
    script, environment = CLIENTS[request.param]
    return asyncio.run(run_cases(script, environment, tmp_path_factory.mktemp("openai")))


def stored_text(turn: StoredTurn) -> str:
    return "".join(block["text_content"] for block in turn.blocks if block["block_type"] == "text")


def stored_calls(turn: StoredTurn) -> list[tuple[Any, ...]]:
    calls = [block["content"] for block in turn.blocks if block["block_type"] == "tool_use"]
    return [(call["tool_use_id"], call["tool_name"], call["input"]) for call in calls]


def shown_calls(message: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    ]


def check_answers(witness: Witness, case: str) -> list[StoredTurn]:
    """The case's completions are the answers of its only chat. Return the answers."""
    outcome = witness.outcomes[case]
    completions = outcome if isinstance(outcome, list) else [outcome]
    answers = witness.answers_of(case)
    assert len(completions) == len(answers)
    for completion, turn in zip(completions, answers, strict=True):
        assert turn.status == "complete"
        assert completion["id"] == f"chatcmpl-{turn.raw['id']}"
        assert completion["message"].get("content", "") == stored_text(turn)
        assert shown_calls(completion["message"]) == stored_calls(turn)
        assert completion["usage"]["completion_tokens"] == turn.raw["output_tokens"]
        assert completion["usage"]["prompt_tokens"] == turn.raw["input_tokens"]
    return answers


@pytest.mark.requirement("N5", "P2")
@pytest.mark.parametrize(
    "case", ["plain", "streamed", "conversation", "tools", "agent", "image", "extras", "maxTokens"]
)
def test_a_completion_is_the_stored_turn(witness: Witness, case: str) -> None:
    check_answers(witness, case)


@pytest.mark.requirement("N5")
def test_a_stream_without_the_helper_ends_once(witness: Witness) -> None:
    (turn,) = witness.answers_of("chunks")
    assert witness.outcomes["chunks"] == {"text": stored_text(turn), "thinking": "", "reasons": ["stop"]}


@pytest.mark.requirement("N5")
def test_thinking_comes_in_its_own_field(witness: Witness) -> None:
    (turn,) = witness.answers_of("thinking")
    outcome = witness.outcomes["thinking"]
    thoughts = [block["text_content"] for block in turn.blocks if block["block_type"] == "thinking"]
    assert outcome["thinking"] == "".join(thoughts) != ""
    assert outcome["text"] == stored_text(turn)
    assert turn.raw["params"]["thinking"] == {"effort": "low"}


@pytest.mark.requirement("N5")
def test_a_resent_conversation_stores_each_message_once(witness: Witness) -> None:
    (turns,) = witness.chats_of("conversation")
    assert [turn.raw["role"] for turn in turns] == ["user", "assistant"] * 4
    assert {turn.raw["system"] for turn in turns[1::2]} == {"Be kind."}


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("case", ["tools", "agent"])
def test_parallel_calls_go_to_the_client_and_their_results_come_back(witness: Witness, case: str) -> None:
    first, last = witness.outcomes[case]
    assert len(first["message"]["tool_calls"]) == 2
    assert last["message"]["content"] == "The tools say: clear sky 0; clear sky 1"
    (turns,) = witness.chats_of(case)
    assert len(turns) == 4


@pytest.mark.requirement("N5")
def test_a_tool_of_the_server_runs_there_when_the_request_names_it(witness: Witness) -> None:
    completion = witness.outcomes["serverTools"]
    (turn,) = witness.answers_of("serverTools")
    assert completion["message"]["content"] == stored_text(turn)
    assert "tool_calls" not in completion["message"]
    assert completion["reason"] == "stop"
    kinds = [block["block_type"] for block in turn.blocks]
    assert kinds == ["text", "tool_use", "tool_use", "tool_result", "tool_result", "text"]
    assert completion["usage"]["completion_tokens"] == turn.raw["output_tokens"]


@pytest.mark.requirement("N5")
def test_images_are_blocks_of_the_question(witness: Witness) -> None:
    ((question, _),) = witness.chats_of("image")
    assert [block["block_type"] for block in question.blocks] == ["text", "image"]


@pytest.mark.requirement("N5")
def test_the_fields_of_a_request_reach_the_turn(witness: Witness) -> None:
    (turn,) = witness.answers_of("extras")
    assert turn.raw["metadata"] == {"project": "x"}
    params = turn.raw["params"]
    assert (params["stop"], params["temperature"], params["max_tokens"]) == (["STOP"], 0.5, 64)
    assert params["wire_params"] == {"openai-chat": {"seed": 7}}
    assert witness.outcomes["structured"]["value"] == {"city": "structured"}


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("case", ["faultBefore", "plainFault"])
def test_a_fault_before_output_has_the_providers_status(witness: Witness, case: str) -> None:
    outcome = witness.outcomes[case]
    (turn,) = witness.answers_of(case)
    assert (outcome["error"], outcome["status"]) == ("RateLimitError", 429)
    assert outcome["body"]["type"] == "rate_limit_error"
    assert outcome["request_id"] == turn.raw["id"]
    assert turn.status == "error"


@pytest.mark.requirement("N5", "P5")
def test_a_fault_after_output_raises_in_the_client(witness: Witness) -> None:
    outcome = witness.outcomes["faultAfter"]
    (turn,) = witness.answers_of("faultAfter")
    assert outcome["error"] == "APIError"
    assert outcome["body"]["code"] == "stream_incomplete"
    assert (outcome["part"], turn.status) == (stored_text(turn), "error")


@pytest.mark.requirement("N5", "N9")
@pytest.mark.parametrize("case", ["fallback", "lateFallback"])
def test_a_fallback_answers_and_its_text_is_whole(witness: Witness, case: str) -> None:
    check_answers(witness, case)


@pytest.mark.requirement("N5", "P5")
@pytest.mark.parametrize("place", range(len(CUTS)))
def test_a_cut_connection_is_an_error_and_stops_the_turn(witness: Witness, place: int) -> None:
    outcome = witness.outcomes[f"cut {place}"]
    (turn,) = witness.answers_of(f"cut {place}")
    assert outcome["error"] in CUT
    assert turn.status == "cancelled"
    assert stored_text(turn).startswith(outcome["part"])


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("case", ["left", "leftPlain"])
def test_a_client_that_leaves_stops_its_turn(witness: Witness, case: str) -> None:
    (turn,) = witness.answers_of(case)
    assert turn.status == "cancelled"


@pytest.mark.requirement("N5", "P5")
def test_a_stop_from_elsewhere_raises_in_the_client(witness: Witness) -> None:
    outcome = witness.outcomes["stopped"]
    (turn,) = witness.answers_of("stopped")
    assert outcome["error"] == "APIError"
    assert outcome["body"]["code"] == "cancelled"
    assert (outcome["part"], turn.status) == (stored_text(turn), "cancelled")


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("case", ["refused", "empty"])
def test_nothing_is_stored_for_a_refused_request(witness: Witness, case: str) -> None:
    outcome = witness.outcomes[case]
    assert (outcome["error"], outcome["status"]) == ("BadRequestError", 400)
    assert outcome["body"]["type"] == "invalid_request_error"
    assert witness.chats_of(case) == []


@pytest.mark.requirement("N5")
def test_the_models_are_listed_in_openais_form(witness: Witness) -> None:
    assert "sim/story" in witness.outcomes["listed"]
