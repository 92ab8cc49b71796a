"""Options of `turnstream ask`: more input, other output, and continuing the last conversation."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.programs import Program, listening, run
from turnstream.cli.conversation import MAX_PLACES, ConversationPlace, recall, remember
from turnstream.cli.presenting import usage_line
from turnstream.core.native_fold import NativeFold
from turnstream.simulator.texts import UNUSUAL
from turnstream.user_folders import state_folder

ECHO = ("-m", "sim/echo:pace=0")


async def test_words_and_standard_input_make_one_question(tmp_path: Path) -> None:
    ended = await run("ask", "Explain:", "-", *ECHO, cwd=tmp_path, given=b"a diff\n")
    assert (ended.code, ended.output) == (0, "Explain:\n\na diff\n")
    ended = await run("ask", *ECHO, cwd=tmp_path, given=b"nur Eingabe")
    assert (ended.code, ended.output) == (0, "nur Eingabe\n")


async def test_words_without_quotes_are_one_sentence(tmp_path: Path) -> None:
    ended = await run("ask", "Why", "is", "it", "-", "so?", *ECHO, cwd=tmp_path, given=b"blue")
    assert (ended.code, ended.output) == (0, "Why is it\n\nblue\n\nso?\n")


async def test_no_question_is_refused_with_an_example(tmp_path: Path) -> None:
    ended = await run("ask", *ECHO, cwd=tmp_path)  # standard input is empty
    assert ended.code == 1
    assert ended.errors == 'turnstream: the question is empty: turnstream ask "Why is the sky blue?"\n'


async def test_continue_goes_on_in_the_chat_asked_in_last(tmp_path: Path) -> None:
    first = await run("ask", "one", *ECHO, "--json", cwd=tmp_path)
    second = await run("ask", "-c", "two", "--json", cwd=tmp_path)
    begun, gone_on = json.loads(first.output), json.loads(second.output)
    assert gone_on["chat_id"] == begun["chat_id"]
    assert gone_on["model"] == begun["model"], "the conversation keeps its model"
    assert [block["text_content"] for block in gone_on["blocks"]] == ["two"]
    other = await run("ask", "three", *ECHO, "--json", cwd=tmp_path)
    assert json.loads(other.output)["chat_id"] != begun["chat_id"]


async def test_continue_goes_on_at_a_server_too(tmp_path: Path) -> None:
    async with Program("serve", "--port", "0", cwd=tmp_path) as server:
        url = await listening(server)
        at = ("--url", url, "--json")
        begun = json.loads((await run("ask", "one", *ECHO, *at, cwd=tmp_path)).output)
        gone_on = json.loads((await run("ask", "-c", "two", *at, cwd=tmp_path)).output)
        assert gone_on["chat_id"] == begun["chat_id"]
        nowhere = await run("ask", "-c", "two", *ECHO, cwd=tmp_path)
        assert "no conversation is known" in nowhere.errors, (
            "a server's conversations are not those of this machine"
        )


async def test_continue_without_a_conversation_says_what_to_do(tmp_path: Path) -> None:
    ended = await run("ask", "-c", "two", *ECHO, cwd=tmp_path)
    assert ended.code == 1
    assert "ask without --continue first" in ended.errors


async def test_events_as_lines_of_json(tmp_path: Path) -> None:
    ended = await run("ask", "Hello", *ECHO, "--ndjson", cwd=tmp_path)
    events = [json.loads(line) for line in ended.output.splitlines()]
    assert [event["event"] for event in events][:2] == ["turn_start", "step_start"]
    assert events[-1]["event"] == "turn_complete"
    assert ended.errors == ""


async def test_a_whole_answer_is_its_text_alone(tmp_path: Path) -> None:
    ended = await run("ask", "Hello", "-m", "sim/thinking:pace=0", "--no-stream", cwd=tmp_path)
    assert ended.output == UNUSUAL if UNUSUAL.endswith("\n") else f"{UNUSUAL}\n"
    assert ended.errors == ""


async def test_usage_is_told_beside_the_answer(tmp_path: Path) -> None:
    ended = await run("ask", "one two", *ECHO, "-u", cwd=tmp_path)
    assert ended.output == "one two\n"
    assert ended.errors.startswith("[tokens: 2 input, 2 output")


def test_usage_without_a_price_says_so() -> None:
    fold = NativeFold()
    fold.feed("turn_complete", {"usage": {"output_tokens": 1200}, "unpriced": True, "estimated": True})
    assert usage_line(fold) == "[tokens: 1,200 output, estimated; cost: unknown, for want of a price]"


async def test_two_at_once_both_get_their_answer(tmp_path: Path) -> None:
    slow = "sim/story:events=300,pace=0,fault=silence,after=20"
    async with Program("ask", "wait", "-m", slow, cwd=tmp_path) as first:
        await first.until(r"\w+ \w+ \w+")
        ended = await run("ask", "quick", *ECHO, cwd=tmp_path)
        assert (ended.code, ended.output) == (0, "quick\n")
        assert "this answer is not stored" in ended.errors


def test_places_are_kept_for_those_used_last(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    for number in range(MAX_PLACES + 5):
        remember(f"http://{number}", ConversationPlace(f"chat-{number}", f"turn-{number}"))
    assert recall(f"http://{MAX_PLACES + 4}") == ConversationPlace(
        f"chat-{MAX_PLACES + 4}", f"turn-{MAX_PLACES + 4}"
    )
    stored = json.loads((state_folder() / "last-asked.json").read_bytes())
    assert len(stored) == MAX_PLACES
    assert [path.name for path in state_folder().iterdir()] == ["last-asked.json"]
