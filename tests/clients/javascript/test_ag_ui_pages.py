"""Threads of AG-UI with the real package: `HttpAgent` of @ag-ui/client.

A thread ends with what the server has stored, or its client hears of an error.

    cell                                     case
    plain, thinking, images in, max tokens   plain, thinking, image, maxTokens
    tools on both sides                      tools
    approval given, denied, expired          approved, denied and dismissed, expired
    cut and resumed at every event           cut; a page that goes and comes back: reload
    stop                                     stop
    regenerate                               regenerate
    provider fault before and after output   faultBefore, faultAfter; a refused request: refused
    late join                                lateJoin
    two clients at once                      lateJoin (one run), twoAtOnce (two threads)
    kill -9 in mid-answer, while it waits    killed
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.javascript.witnesses import messages_of, run_cases

GOOD = ["success"]


def turns_of(outcomes: dict[str, Any]) -> dict[str, str]:
    """The turns that the shown messages belong to."""
    found = {message["id"].rpartition("-")[0] for message in messages_of(outcomes)}
    return {turn_id: turn_id for turn_id in found}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcomes of all cases. One process of the client runs them all."""
    folder = tmp_path_factory.mktemp("ag-ui")
    return asyncio.run(run_cases("ag-ui", "ag_ui.mjs", "/api/ag-ui", folder, turns_of=turns_of))


def parts_of(messages: list[dict[str, Any]]) -> Iterator[tuple[Any, ...]]:
    results = {message["toolCallId"]: message for message in messages if message["role"] == "tool"}
    for message in messages:
        if message["role"] == "reasoning":
            yield "thinking", message["content"]
        if message["role"] == "assistant":
            if "content" in message:
                yield "text", message["content"]
            for call in message.get("toolCalls", ()):
                result = results.get(call["id"], {})
                is_error = bool(result.get("metadata", {}).get("isError"))
                function = call["function"]
                yield (
                    "tool",
                    function["name"],
                    json.loads(function["arguments"]),
                    is_error,
                    result.get("content"),
                )


def check_shown(outcomes: dict[str, Any], outcome: dict[str, Any], *, turns: int = 1) -> str:
    """The thread shows its stored turns. Return the status of the last one."""
    by_turn: dict[str, list[dict[str, Any]]] = {}
    for message in outcome["messages"]:
        if message["role"] != "user":
            by_turn.setdefault(message["id"].rpartition("-")[0], []).append(message)
    assert len(by_turn) == turns
    for turn_id, messages in by_turn.items():
        assert list(parts_of(messages)) == outcomes["stored"][turn_id]["parts"]
    return outcomes["stored"][list(by_turn)[-1]]["status"]


@pytest.mark.requirement("N4", "P2")
@pytest.mark.parametrize(("name", "turns"), [("plain", 2), ("thinking", 1), ("image", 1), ("maxTokens", 1)])
def test_an_answer_is_the_stored_turn(outcomes: dict[str, Any], name: str, turns: int) -> None:
    outcome = outcomes[name]
    assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD * turns)
    assert check_shown(outcomes, outcome, turns=turns) == "complete"


def test_an_image_is_a_block_of_the_question(outcomes: dict[str, Any]) -> None:
    (stored,) = [
        outcomes["stored"][turn_id] for turn_id in turns_of({"image": outcomes["image"]["messages"]})
    ]
    assert stored["question"] == ["text", "image"]


@pytest.mark.requirement("N4")
def test_tools_on_both_sides(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["tools"]
    assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD * 2)
    said = [one["content"] for one in outcome["messages"] if one["role"] == "assistant" and "content" in one]
    assert "clear sky" in said[-1]
    results = [message for message in outcome["messages"] if message["role"] == "tool"]
    assert len(results) == 2
    assert len(turns_of({"tools": outcome["messages"]})) == 2


@pytest.mark.requirement("N4")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("approved", "is gone"),
        ("denied", "not this file"),
        ("dismissed", "dismissed"),
        ("expired", "expired"),
    ],
)
def test_a_tool_that_asks_interrupts_the_run_and_the_answer_continues_it(
    outcomes: dict[str, Any], name: str, text: str
) -> None:
    outcome = outcomes[name]
    assert (outcome["errors"], outcome["outcomes"]) == ([], ["interrupt", "success"])
    (interrupt,) = outcome["interrupts"]
    (result,) = [one for one in outcome["messages"] if one.get("toolCallId") == interrupt["toolCallId"]]
    assert text in result["content"]
    assert check_shown(outcomes, outcome) == "complete"


@pytest.mark.requirement("N4", "P2")
def test_a_client_that_joins_in_mid_run_ends_with_the_same_messages(outcomes: dict[str, Any]) -> None:
    first, second = outcomes["lateJoin"]
    assert "MESSAGES_SNAPSHOT" in second["kinds"]
    assert "MESSAGES_SNAPSHOT" not in first["kinds"]
    assert first["messages"] == second["messages"]
    for outcome in (first, second):
        assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD)
        check_shown(outcomes, outcome)


@pytest.mark.requirement("N4")
def test_regenerate_gives_the_question_another_answer(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["regenerate"]
    assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD * 2)
    assert check_shown(outcomes, outcome) == "complete"
    (last,), (first,) = (turns_of({"regenerate": outcome[name]}) for name in ("messages", "first"))
    assert last != first
    assert outcomes["stored"][last]["asked_by"] == outcomes["stored"][first]["asked_by"]


@pytest.mark.requirement("N4", "P2")
def test_a_run_that_is_cut_at_any_event_is_an_error_and_joined_it_is_whole(outcomes: dict[str, Any]) -> None:
    ends = [outcome["cut"]["outcomes"] for outcome in outcomes["cut"]]
    assert ends[0] == []
    assert ends[-1] == GOOD
    for outcome in outcomes["cut"]:
        cut = outcome["cut"]
        assert cut["errors"] or cut["outcomes"] == GOOD
        assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD)
        assert check_shown(outcomes, outcome) == "complete"


@pytest.mark.requirement("N4", "P2")
def test_a_page_that_comes_back_joins_its_run(outcomes: dict[str, Any]) -> None:
    for outcome in outcomes["reload"]:
        assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD)
        assert check_shown(outcomes, outcome) == "complete"


@pytest.mark.requirement("N4")
def test_a_stop_ends_the_run_and_the_page_has_what_was_stored(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["stop"]
    assert outcome["stopped"]["status"] == "cancelled"
    assert (outcome["errors"], outcome["outcomes"]) == ([], ["cancelled"])
    assert check_shown(outcomes, outcome) == "cancelled"


def test_two_threads_at_once_have_their_own_answers(outcomes: dict[str, Any]) -> None:
    for outcome in outcomes["twoAtOnce"]:
        assert (outcome["errors"], outcome["outcomes"]) == ([], GOOD)
        check_shown(outcomes, outcome)


@pytest.mark.requirement("N4", "P5")
def test_faults_are_errors_of_the_run(outcomes: dict[str, Any]) -> None:
    before, after = outcomes["faultBefore"], outcomes["faultAfter"]
    assert (len(before["errors"]), before["outcomes"]) == (1, [])
    assert (len(after["errors"]), after["outcomes"]) == (1, [])
    assert check_shown(outcomes, after) == "error"
    (refused,) = outcomes["refused"]["errors"]
    assert "HTTP 400" in refused
    assert "no provider" in refused


@pytest.mark.requirement("N4", "P5")
def test_a_killed_server_is_an_error_and_the_page_joins_what_was_stored(outcomes: dict[str, Any]) -> None:
    assert len(outcomes["killed"]["cut"]["errors"]) == 1
    again = outcomes["killed"]["again"]
    assert (len(again["errors"]), again["outcomes"]) == (1, [])
    assert check_shown(outcomes, again) == "error"


@pytest.mark.requirement("N4", "P5")
def test_a_run_that_waits_for_an_approval_outlives_a_killed_server(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["killed"]["waited"]
    assert (outcome["errors"], outcome["outcomes"]) == ([], ["interrupt", "success"])
    (interrupt,) = outcome["interrupts"]
    (result,) = [one for one in outcome["messages"] if one.get("toolCallId") == interrupt["toolCallId"]]
    assert "is gone" in result["content"]
    assert check_shown(outcomes, outcome) == "complete"
