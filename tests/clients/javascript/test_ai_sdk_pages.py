"""Pages of the AI SDK, majors 5 to 7, with the real packages: `Chat` of @ai-sdk/react without a browser.

A page ends with what the server has stored, or it shows that it failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.clients.javascript.witnesses import messages_of, run_cases

PATHS = {5: "/api/ai-sdk/chat", 6: "/api/ai-sdk/v6/chat", 7: "/api/ai-sdk/v7/chat"}
ENDED = {"isAbort": False, "isDisconnect": False, "isError": False, "finishReason": "stop"}


_outcomes: dict[int, dict[str, Any]] = {}


def outcomes_of(major: int, folders: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcomes of all cases of one major. One process of the client runs them all."""
    if major not in _outcomes:
        folder = folders.mktemp(f"ai-sdk-{major}")
        found = asyncio.run(run_cases(f"ai-sdk-{major}", "ai_sdk.mjs", PATHS[major], folder, str(major)))
        _outcomes[major] = {**found, "major": major}
    return _outcomes[major]


@pytest.fixture(scope="module", params=PATHS, ids=lambda major: f"ai {major}")
def outcomes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return outcomes_of(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The outcomes of the cases with a WorkflowChatTransport, which is for major 7."""
    return outcomes_of(7, tmp_path_factory)


def parts_of(message: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    for part in message["parts"]:
        kind = part["type"]
        if kind in ("text", "reasoning"):
            yield "text" if kind == "text" else "thinking", part["text"]
        elif kind.startswith("tool-"):
            is_error = part["state"] in ("output-error", "output-denied")
            output = part.get("errorText") if is_error else part.get("output")
            yield "tool", kind.removeprefix("tool-"), part["input"], is_error, output


def check_shown(outcomes: dict[str, Any], name: str, *, messages: int) -> None:
    """Each of the case's answers is what the server has stored."""
    shown = list(messages_of(outcomes[name]))
    assert len(shown) == messages
    for message in shown:
        assert list(parts_of(message)) == outcomes["stored"][message["id"]]["parts"]


@pytest.mark.requirement("N3", "P2")
@pytest.mark.parametrize(
    ("name", "messages"), [("plain", 2), ("thinking", 1), ("image", 1), ("regenerate", 1), ("reload", 1)]
)
def test_an_answer_is_the_stored_turn(outcomes: dict[str, Any], name: str, messages: int) -> None:
    outcome = outcomes[name]
    assert (outcome["status"], outcome["errors"]) == ("ready", [])
    finish = outcome["finishes"][-1]
    assert {**finish, "finishReason": finish.get("finishReason", "stop")} == ENDED
    check_shown(outcomes, name, messages=messages)


@pytest.mark.requirement("N3", "P2")
def test_a_page_loads_its_messages_and_continues_the_chat(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["loaded"]
    assert (outcome["status"], outcome["errors"]) == ("ready", [])
    assert [message["role"] for message in outcome["messages"]] == ["user", "assistant"] * 2
    check_shown(outcomes, "loaded", messages=2)
    assert len({message["metadata"]["chatId"] for message in messages_of(outcome)}) == 1


def test_an_image_is_a_block_of_the_question(outcomes: dict[str, Any]) -> None:
    (message,) = messages_of(outcomes["image"])
    assert outcomes["stored"][message["id"]]["question"] == ["image", "text"]


def test_regenerate_makes_another_turn(outcomes: dict[str, Any]) -> None:
    (message,) = messages_of(outcomes["regenerate"])
    assert message["id"] != outcomes["regenerate"]["first"]


@pytest.mark.requirement("N3")
def test_tools_on_both_sides_share_a_message(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["tools"]
    assert (outcome["status"], outcome["errors"]) == ("ready", [])
    assert [finish.get("finishReason", "none") for finish in outcome["finishes"]] == ["tool-calls", "stop"]
    (message,) = messages_of(outcome)
    tools = {part[1]: part[4] for part in parts_of(message) if part[0] == "tool"}
    assert tools["weather"] == {"sky": "clear"}
    assert tools["clock"]
    check_shown(outcomes, "tools", messages=1)


@pytest.mark.requirement("N3", "P2")
def test_a_cut_connection_is_an_error_and_the_resumed_answer_is_whole(outcomes: dict[str, Any]) -> None:
    for outcome in outcomes["cut"]:
        assert outcome["cut"] == {"status": "error", "errors": 1}
        assert outcome["status"] == "ready"
    check_shown(outcomes, "cut", messages=len(outcomes["cut"]))


@pytest.mark.requirement("N3")
def test_a_stop_ends_the_turn_and_the_page_has_what_was_stored(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["stop"]
    (message,) = messages_of(outcome)
    assert outcome["stopped"] == {"stopped": [message["id"]]}
    assert (outcome["status"], outcome["errors"]) == ("ready", [])
    assert outcomes["stored"][message["id"]]["status"] == "cancelled"
    check_shown(outcomes, "stop", messages=1)


@pytest.mark.requirement("N3")
@pytest.mark.parametrize("name", ["lateJoin", "twoAtOnce"])
def test_two_pages_end_with_what_was_stored(outcomes: dict[str, Any], name: str) -> None:
    for outcome in outcomes[name]:
        assert (outcome["status"], outcome["errors"]) == ("ready", [])
    check_shown(outcomes, name, messages=2)
    ids = {message["id"] for message in messages_of(outcomes[name])}
    assert len(ids) == (1 if name == "lateJoin" else 2)


@pytest.mark.requirement("N3", "P5")
@pytest.mark.parametrize("name", ["faultBefore", "faultAfter"])
def test_a_fault_of_the_provider_is_an_error_of_the_page(outcomes: dict[str, Any], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["status"] == "error"
    assert len(outcome["errors"]) == 1
    (message,) = messages_of(outcome)
    assert message["metadata"]["errorCode"]
    assert outcomes["stored"][message["id"]]["status"] == "error"
    check_shown(outcomes, name, messages=1)


def test_a_refused_request_is_an_error_of_the_page(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["refused"]
    assert outcome["status"] == "error"
    assert "no provider" in outcome["errors"][0]


def test_the_model_stops_at_its_limit(outcomes: dict[str, Any]) -> None:
    outcome = outcomes["maxTokens"]
    assert (outcome["status"], outcome["finishes"][0].get("finishReason")) == ("ready", "length")
    check_shown(outcomes, "maxTokens", messages=1)


@pytest.mark.requirement("N3", "P5")
def test_a_killed_server_is_an_error_and_the_page_resumes_to_what_was_stored(
    outcomes: dict[str, Any],
) -> None:
    cut = outcomes["killed"]["cut"]
    assert (cut["status"], len(cut["errors"])) == ("error", 1)
    for page in ("own", "again"):
        (message,) = messages_of(outcomes["killed"][page])
        assert outcomes["killed"][page]["status"] == "error"
        assert list(parts_of(message)) == outcomes["stored"][message["id"]]["parts"]


@pytest.mark.requirement("N3")
@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("approved", "is gone"),
        ("denied", "not this file"),
        ("expired", "expired"),
        ("approvedAfterKill", "is gone"),
        ("approvedAfterKillAndReload", "is gone"),
    ],
)
def test_a_page_answers_an_approval(outcomes: dict[str, Any], name: str, output: str) -> None:
    if outcomes["major"] == 5:
        assert name not in outcomes
        return
    outcome = outcomes[name]
    assert outcome["asked"]["type"] == "tool-erase"
    assert (outcome["status"], outcome["errors"]) == ("ready", [])
    assert [finish["finishReason"] for finish in outcome["finishes"]] == ["tool-calls", "stop"]
    (message,) = messages_of(outcome)
    stored = outcomes["stored"][message["id"]]
    shown = list(parts_of(message))
    assert len(shown) == len(stored["parts"]) == 4
    (call,) = (part for part in stored["parts"] if part[1] == "erase")
    assert output in call[4]
    assert output in shown[-1][1]
    (part,) = (part for part in message["parts"] if part["type"] == "tool-erase")
    assert part["state"] == ("output-available" if name.startswith("approved") else "output-denied")
    without_denial = [
        (one, other) for one, other in zip(shown, stored["parts"], strict=True) if one[1] != "erase"
    ]
    assert all(one == other for one, other in without_denial)


# -- the workflow transport ----------------------------------------------------------------------------------


@pytest.mark.requirement("N3", "P2")
@pytest.mark.parametrize(
    ("name", "messages"), [("workflowPlain", 2), ("workflowTools", 1), ("workflowApproved", 1)]
)
def test_a_page_of_the_workflow_transport_has_the_stored_turn(
    workflow: dict[str, Any], name: str, messages: int
) -> None:
    assert (workflow[name]["status"], workflow[name]["errors"]) == ("ready", [])
    check_shown(workflow, name, messages=messages)


@pytest.mark.requirement("N3", "P2")
def test_the_workflow_transport_continues_a_cut_answer_by_itself(workflow: dict[str, Any]) -> None:
    for outcome in workflow["workflowCut"]:
        assert (outcome["status"], outcome["errors"]) == ("ready", [])
        assert len(outcome["runs"]) == 1
    check_shown(workflow, "workflowCut", messages=len(workflow["workflowCut"]))


@pytest.mark.requirement("N3", "P2")
def test_a_page_that_loads_gets_the_whole_answer_for_any_start_index(workflow: dict[str, Any]) -> None:
    for outcome in workflow["workflowReload"]:
        assert (outcome["status"], outcome["errors"]) == ("ready", [])
    check_shown(workflow, "workflowReload", messages=len(workflow["workflowReload"]))


def test_a_page_that_loads_without_an_answer_is_ready(workflow: dict[str, Any]) -> None:
    outcome = workflow["workflowIdle"]
    assert (outcome["status"], outcome["errors"], outcome["messages"]) == ("ready", [], [])


@pytest.mark.requirement("N3")
def test_a_stop_and_a_fault_end_the_workflow_transport(workflow: dict[str, Any]) -> None:
    stopped, failed = workflow["workflowStop"], workflow["workflowFault"]
    (message,) = messages_of(stopped)
    assert stopped["stopped"] == {"stopped": [message["id"]]}
    assert (stopped["status"], stopped["errors"]) == ("ready", [])
    assert workflow["stored"][message["id"]]["status"] == "cancelled"
    assert (failed["status"], len(failed["errors"])) == ("error", 1)
    check_shown(workflow, "workflowStop", messages=1)
    check_shown(workflow, "workflowFault", messages=1)
