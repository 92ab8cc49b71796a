"""Clients of OpenAI Responses over HTTP: streamed, plain, in background, continued, stopped, deleted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.dialects.response_fold import ResponseFold
from tests.server.live import SECONDS, read_chunks, read_head
from tests.server.protocols.openai_responses.world import (
    RESPONSES,
    STORY,
    WEATHER,
    asked,
    create,
    running,
    stream,
    text_of,
    turn_id,
)
from turnstream.config import ModelSettings


@pytest.mark.requirement("N5")
async def test_a_stream_a_plain_answer_and_a_retrieved_one_are_the_stored_turn(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        fold = await stream(client, asked("one", instructions="be brief", metadata={"for": "me"}))
        fold.check_end()
        assert fold.end == "response.completed"
        response = fold.response
        assert response is not None
        assert (response["instructions"], response["metadata"]) == ("be brief", {"for": "me"})
        assert response["usage"]["output_tokens"] == 20
        (row,) = await native.stored(turn_id(response))
        assert text_of(response) == row["text_content"]
        retrieved = await client.call("GET", f"{RESPONSES}/{response['id']}")
        assert retrieved.json == response
        plain = await create(client, asked("two"))
        assert plain["status"] == "completed"
        assert plain == (await client.call("GET", f"{RESPONSES}/{plain['id']}")).json


@pytest.mark.requirement("N5", "P2", "P5")
@pytest.mark.parametrize("model", ["sim/echo:pace=0", "sim/thinking:pace=0", "sim/agent:pace=0"])
async def test_a_stream_that_is_cut_after_any_byte_resumes_to_the_whole(tmp_path: Path, model: str) -> None:
    async with running(tmp_path) as (client, _):
        body = asked("hello, world", model, tools=[WEATHER], server_tools=["clock"])
        whole = (await client.call("POST", RESPONSES, {**body, "stream": True})).body
        complete = ResponseFold()
        complete.receive(whole)
        complete.check_end()
        for place in range(0, len(whole), 61):
            fold = ResponseFold()
            fold.receive(whole[:place])
            fold.cut()
            path = f"{RESPONSES}/{complete.identity}?stream=true"
            rest = await client.call("GET", path if fold.last < 0 else f"{path}&starting_after={fold.last}")
            fold.receive(rest.body)
            assert fold.response == complete.response
            assert (fold.end, fold.items, fold.done) == (complete.end, complete.items, complete.done)
        text = whole.decode()
        assert text.splitlines() == text.split("\n")[:-1], "a character ends a line for some readers"


@pytest.mark.requirement("N5", "P2")
async def test_a_running_response_is_resumed_live_and_its_socket_may_close(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        body = asked("one", "sim/story:events=400,pace=0.002", stream=True, background=True)
        fold = ResponseFold()
        async with asyncio.timeout(SECONDS):
            reader, writer = await client.open("POST", RESPONSES, body)
            _, headers = await read_head(reader)
            async for chunk in read_chunks(reader, headers):
                fold.receive(chunk)
                if fold.deltas > 5:
                    break
            writer.transport.abort()
            fold.cut()
            running_one = (await client.call("GET", f"{RESPONSES}/{fold.identity}")).json
            assert (running_one["status"], running_one["background"]) == ("in_progress", True)
            path = f"{RESPONSES}/{fold.identity}?stream=true&starting_after={fold.last}"
            fold.receive((await client.call("GET", path)).body)
        fold.check_end()
        assert fold.response is not None
        (row,) = await native.stored(turn_id(fold.response))
        assert text_of(fold.response) == row["text_content"]


@pytest.mark.requirement("N5", "N9")
async def test_previous_response_id_continues_that_answer_and_makes_branches(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        first = await create(client, asked("one", "sim/echo", instructions="speak French"))
        second = await create(client, asked("two", "sim/echo", previous_response_id=first["id"]))
        other = await create(client, asked("three", "sim/echo", previous_response_id=first["id"]))
        assert second["previous_response_id"] == other["previous_response_id"] == first["id"]
        assert second["instructions"] is None
        turn = (await native.call("GET", f"/turns/{turn_id(second)}")).json
        assert (turn["chat_id"], turn["system"]) == (
            (await native.call("GET", f"/turns/{turn_id(first)}")).json["chat_id"],
            None,
        )
        listed = (await native.call("GET", f"/chats/{turn['chat_id']}/turns?all=true")).json["turns"]
        assert len({turn["id"] for turn in listed if turn["role"] == "assistant"}) >= 2
        unknown = await client.call("POST", RESPONSES, asked("x", previous_response_id="resp_" + "0" * 32))
        assert unknown.status in {400, 404}


@pytest.mark.requirement("N5")
async def test_a_resent_conversation_continues_its_chat(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        first = await create(client, asked("one"))
        again = [{"role": "user", "content": "one"}, *first["output"], {"role": "user", "content": "two"}]
        await create(client, asked(again))
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        turns = (await native.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("resends", [True, False])
async def test_tools_of_the_client_and_of_the_server(tmp_path: Path, *, resends: bool) -> None:
    async with running(tmp_path) as (client, native):
        named = {"type": "mcp", "server_label": "turnstream", "allowed_tools": ["clock"]}
        fields: dict[str, Any] = {"model": "sim/agent", "tools": [WEATHER, named]}
        first = await stream(client, {"input": "one", **fields})
        assert first.response is not None
        output = first.response["output"]
        assert first.response["tools"] == [WEATHER, named]
        call = next(item for item in output if item["type"] == "function_call")
        assert call["name"] == "weather"
        result = {"type": "function_call_output", "call_id": call["call_id"], "output": "sunny"}
        if resends:
            body = {"input": [{"role": "user", "content": "one"}, *output, result], **fields}
        else:
            body = {"input": [result], "previous_response_id": first.identity, **fields}
        second = await create(client, body)
        assert "sunny" in text_of(second)
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        turns = (await native.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant"]


@pytest.mark.requirement("N5")
async def test_a_tool_that_runs_on_the_server_is_an_mcp_call_with_its_result(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        fold = await stream(client, asked("one", "sim/tools", server_tools=["clock"]))
        fold.check_end()
        assert fold.response is not None
        call = next(item for item in fold.response["output"] if item["type"] == "mcp_call")
        assert (call["name"], call["output"], call["server_label"]) == ("clock", "12:00", "turnstream")
        assert "response.mcp_call.completed" in fold.names


@pytest.mark.requirement("N5", "E1")
async def test_a_background_response_is_polled_and_cancelled_any_number_of_times(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        begun = await create(client, asked("one", "sim/story:pace=0.05", background=True))
        assert begun["status"] in {"queued", "in_progress"}
        path = f"{RESPONSES}/{begun['id']}"
        for _ in range(2):
            cancelled = (await client.call("POST", f"{path}/cancel")).json
            assert (cancelled["status"], cancelled["background"]) == ("cancelled", True)
        assert (await client.call("GET", path)).json["status"] == "cancelled"
        fold = ResponseFold()
        fold.receive((await client.call("GET", f"{path}?stream=true")).body)
        assert fold.end == "response.failed"


@pytest.mark.requirement("N5", "N9")
async def test_a_response_that_is_not_stored_has_no_row_and_resumes_while_it_lives(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        fold = await stream(client, asked("one", store=False))
        fold.check_end()
        assert fold.response is not None
        assert fold.response["store"] is False
        path = f"{RESPONSES}/{fold.identity}"
        assert (await client.call("GET", path)).json == fold.response
        rest = ResponseFold()
        rest.receive((await client.call("GET", f"{path}?stream=true")).body)
        assert rest.response == fold.response
        assert (await client.call("DELETE", path)).status == 409
        assert (await native.call("GET", "/chats")).json["chats"] == []
        stored = await create(client, asked("kept", "sim/echo"))
        again = await create(
            client, asked("more", "sim/echo", store=False, previous_response_id=stored["id"])
        )
        assert again["previous_response_id"] == stored["id"]
        (chat,) = (await native.call("GET", "/chats")).json["chats"]
        assert len((await native.call("GET", f"/chats/{chat['id']}/turns")).json["turns"]) == 2


@pytest.mark.requirement("N5")
async def test_a_deleted_response_is_gone_with_its_input(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, native):
        first = await create(client, asked("one"))
        second = await create(client, asked("two", previous_response_id=first["id"]))
        refused = await client.call("DELETE", f"{RESPONSES}/{first['id']}")
        assert (refused.status, "other turns follow" in refused.json["error"]["message"]) == (409, True)
        for response in (second, first):
            deleted = await client.call("DELETE", f"{RESPONSES}/{response['id']}")
            assert deleted.json == {"id": response["id"], "object": "response", "deleted": True}
            assert (await client.call("GET", f"{RESPONSES}/{response['id']}")).status == 404
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N5")
async def test_input_items_are_those_that_the_request_sent(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        picture = {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo="}
        parts = [{"type": "input_text", "text": "look"}, picture]
        first = await create(client, asked([{"role": "user", "content": parts}], "sim/echo"))
        second = await create(client, asked("two", "sim/echo", previous_response_id=first["id"]))
        items = (await client.call("GET", f"{RESPONSES}/{first['id']}/input_items")).json
        (message,) = items["data"]
        assert message["content"] == [parts[0], {"detail": "auto", **picture}]
        (message,) = (await client.call("GET", f"{RESPONSES}/{second['id']}/input_items")).json["data"]
        assert message["content"] == [{"type": "input_text", "text": "two"}]
        reference = {"type": "item_reference", "id": first["output"][0]["id"]}
        third = await create(
            client, asked([message, reference, {"role": "user", "content": "x"}], "sim/echo")
        )
        sent = (await client.call("GET", f"{RESPONSES}/{third['id']}/input_items?order=asc")).json["data"]
        assert [item["role"] for item in sent] == ["user", "assistant", "user"]


@pytest.mark.requirement("N5", "P5")
async def test_faults_before_and_after_output(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        before = asked("one", f"{STORY},fault=cut,after=0")
        plain = await client.call("POST", RESPONSES, before)
        assert (plain.status, plain.json["error"]["type"]) == (500, "server_error")
        fold = await stream(client, before)
        assert fold.end == "response.failed"
        after = asked("one", f"{STORY},fault=cut,after=8")
        fold = await stream(client, after)
        fold.check_end()
        assert fold.end == "response.failed"
        assert fold.response is not None
        assert fold.response["error"]["message"]
        (item,) = fold.response["output"]
        assert item["status"] == "incomplete"
        plain = await client.call("POST", RESPONSES, after)
        assert (plain.status, plain.json["status"]) == (200, "failed")


@pytest.mark.requirement("N9")
async def test_names_and_fallbacks_of_the_settings_and_of_the_request(tmp_path: Path) -> None:
    broken = f"{STORY},fault=cut,after=0"
    models = {"careful": ModelSettings(model=broken, fallbacks=("sim/echo",))}
    async with running(tmp_path, models=models) as (client, _):
        for fields in ({"model": "careful"}, {"model": broken, "fallbacks": ["sim/echo"]}):
            fold = await stream(client, {"input": "hello", **fields})
            assert fold.end == "response.completed"
            assert fold.response is not None
            assert "hello" in text_of(fold.response)


@pytest.mark.requirement("N5")
async def test_an_answer_that_is_too_long_is_incomplete(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        response = await create(client, asked("one", f"{STORY},fault=max-tokens,after=8"))
        assert response["status"] == "incomplete"
        assert response["incomplete_details"] == {"reason": "max_output_tokens"}


@pytest.mark.requirement("N5")
async def test_the_count_of_tokens_says_that_it_is_an_estimate(tmp_path: Path) -> None:
    async with running(tmp_path) as (client, _):
        answer = await client.call("POST", f"{RESPONSES}/input_tokens", {"input": "one two three"})
        counted = answer.json
        assert (counted["object"], counted["estimated"]) == ("response.input_tokens", True)
        assert counted["input_tokens"] > 0


@pytest.mark.requirement("N5")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": [{"role": "tool", "content": "x"}]}, "role"),
        ({"input": [{"role": "assistant", "content": "x"}]}, "last message"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "no item"),
        ({"model": "nowhere"}, "provider/model"),
        ({"prompt": {"id": "pmpt_1"}}, "template"),
        ({"top_logprobs": 2}, "logprobs"),
        ({"background": True, "store": False}, "background"),
        ({"previous_response_id": "resp_1", "conversation": "conv_1"}, "not both"),
        ({"server_tools": ["none"]}, "no tool called none"),
        ({"tools": [{"type": "mcp", "server_label": "turnstream"}]}, "allowed_tools"),
        ({"metadata": {"key": 7}}, "metadata"),
        ({"fallbacks": 7}, "fallbacks"),
    ],
)
async def test_a_faulty_body_is_refused_in_openais_form_and_nothing_is_stored(
    tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    async with running(tmp_path) as (client, native):
        answer = await client.call("POST", RESPONSES, {**asked("one"), **fields})
        assert answer.status == 400, answer
        assert words in answer.json["error"]["message"]
        assert answer.json["error"]["type"] == "invalid_request_error"
        assert (await native.call("GET", "/chats")).json["chats"] == []


@pytest.mark.requirement("N5")
@pytest.mark.parametrize("identity", ["resp_1", "resp_" + "0" * 32, "x", "%00"])
async def test_unknown_responses_are_404(tmp_path: Path, identity: str) -> None:
    async with running(tmp_path) as (client, _):
        for method, path in [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")]:
            answer = await client.call(method, f"{RESPONSES}/{identity}{path}")
            assert (answer.status, answer.json["error"]["type"]) == (404, "invalid_request_error"), answer
        assert (await client.call("GET", f"{RESPONSES}/{identity}?stream=true")).status == 404


@pytest.mark.requirement("N5")
async def test_included_fields_go_to_models_on_this_protocol(tmp_path: Path) -> None:
    sources = "web_search_call.action.sources"
    encrypted = "reasoning.encrypted_content"
    wanted = {
        (sources,): [sources, encrypted],
        (sources, encrypted): [sources, encrypted],
        (encrypted,): None,
    }
    async with running(tmp_path) as (client, native):
        for given, sent in wanted.items():
            made = await create(client, asked("hi", include=list(given)))
            params = (await native.call("GET", f"/turns/{turn_id(made)}")).json["params"] or {}
            own = params.get("wire_params", {}).get("openai-responses", {})
            assert own.get("include") == sent
        refused = await client.call("POST", RESPONSES, asked("hi", include=["message.output_text.logprobs"]))
    assert refused.status == 400
    assert "logprobs" in refused.json["error"]["message"]
