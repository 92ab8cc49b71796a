"""The default stages with scripted models: intents, gathering, sufficiency, questions, reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.workflow.runs import ended, engine_in, stored_events, text_of
from turnstream import LLM
from turnstream.engine import Engine
from turnstream.turns.new_turns import TurnRequest
from turnstream.workflow import ContextItem, StagePrompts, Workflow
from turnstream.workflow.commands import WorkflowCommands
from turnstream.workflow.default_stages import only_word
from turnstream.workflow.state import QUERY_TYPES, SUFFICIENCIES

ECHO = "sim/echo:pace=0"
STORY = "sim/story:pace=0,events=8"


class Words:
    """A model that answers some system prompts with fixed words, and others with a simulated model.

    The words go through the simulator's `echo`, so that every call is a real call of the library.
    """

    def __init__(self, words: dict[str, str]) -> None:
        self._words = words
        self._echo = LLM(ECHO)
        self._story = LLM(STORY)
        self._tools = LLM("sim/tools:pace=0")
        self.systems: list[str] = []

    def stream(self, prompt: Any = None, **options: Any) -> Any:
        system = options.get("system") or ""
        self.systems.append(system)
        if options.get("tools"):
            return self._tools.stream(prompt, **options)
        if system in self._words:
            return self._echo.stream(self._words[system])
        return self._story.stream(prompt, **options)


PROMPTS = StagePrompts()


def lookup(topic: str) -> str:
    """Look a topic up."""
    return f"about {topic}"


async def found(_request: str) -> list[ContextItem | str]:
    return ["a note", ContextItem("another", source="notes", title="Two")]


@asynccontextmanager
async def run(tmp_path: Path, words: dict[str, str], **options: Any) -> AsyncIterator[Any]:
    model = Words(words)
    context = options.pop("context", {})
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(Workflow(model, **options).source("the request", context=context))
        state = await ended(turn)
        states = await stored_events(engine, turn.id, "workflow_state")
        yield state, states[-1], await stored_events(engine, turn.id), model


@pytest.mark.requirement("H4")
async def test_small_talk_is_answered_in_the_intent_stage(tmp_path: Path) -> None:
    async with run(tmp_path, {PROMPTS.classify: "simple_chat", PROMPTS.chat: "Hello!"}) as (
        turn,
        state,
        _,
        model,
    ):
        assert text_of(turn) == "Hello!"
        assert state["stages_done"] == ["intent_analysis", "reflection"]
        assert model.systems == [PROMPTS.classify, PROMPTS.chat]


@pytest.mark.requirement("H4")
async def test_a_request_that_is_not_clear_ends_in_a_question(tmp_path: Path) -> None:
    words = {PROMPTS.classify: "clarification_needed", PROMPTS.clarify: "What do you mean?"}
    async with run(tmp_path, words) as (turn, state, events, _):
        assert turn.turn.status == "complete"
        assert text_of(turn) == "What do you mean?"
        assert state["question"] == "What do you mean?"
        assert state["stages_done"] == ["intent_analysis", "reflection"]
        assert events[-1]["metadata"]["needs_input"] is True


@pytest.mark.requirement("H4")
async def test_insufficient_context_ends_in_a_question_and_reflection_runs(tmp_path: Path) -> None:
    words = {
        PROMPTS.classify: "qa_analysis",
        PROMPTS.judge: "insufficient",
        PROMPTS.clarify: "Which notes do you mean?",
    }
    async with run(tmp_path, words, retrieve=found) as (turn, state, events, _):
        assert turn.turn.status == "complete"
        assert text_of(turn) == "Which notes do you mean?"
        assert state["sufficiency"] == "insufficient"
        assert state["stages_done"] == ["intent_analysis", "context_gathering", "reflection"]
        assert [event["stage"] for event in events if event["type"] == "done"] == state["stages_done"]


@pytest.mark.requirement("H4", "H1")
@pytest.mark.parametrize(
    ("kind", "action", "system"),
    [
        ("qa_analysis", "answer", PROMPTS.answer),
        ("content_generation", "generate", PROMPTS.generate),
        ("document_edit", "edit", PROMPTS.edit),
        ("I do not know", "answer", PROMPTS.answer),
    ],
)
async def test_the_execution_follows_the_intent(tmp_path: Path, kind: str, action: str, system: str) -> None:
    async def load(document_id: str) -> str | None:
        return f"text of {document_id}"

    words = {PROMPTS.classify: kind, PROMPTS.judge: "sufficient", system: "The answer."}
    context = {"document_id": "d-1", "selected_content": "some words", "page": "home"}
    async with run(tmp_path, words, load_document=load, context=context) as (turn, state, events, model):
        assert text_of(turn) == "The answer."
        assert (state["document"], state["extra"]) == ("text of d-1", {"page": "home"})
        assert state["plan"]["action"] == action
        assert system in model.systems
        assert state["reflection"]["success"] is True
        plans = [event["metadata"].get("plan") for event in events if event["type"] == "done"]
        assert state["plan"] in plans
        assert len(state["stages_done"]) == 4


@pytest.mark.requirement("H4")
async def test_context_is_gathered_with_tools_in_at_most_two_rounds(tmp_path: Path) -> None:
    class Restless(Words):
        def stream(self, prompt: Any = None, **options: Any) -> Any:
            if options.get("tools"):  # a model that calls tools for ever
                options["messages"] = [{"role": "user", "content": "again"}]
            return super().stream(prompt, **options)

    model = Restless({PROMPTS.classify: "qa_analysis", PROMPTS.judge: "partial"})
    async with engine_in(tmp_path) as engine:
        turn = await engine.start(Workflow(model, tools=[lookup]).source("the request"))
        state = await ended(turn)
        saved = (await stored_events(engine, turn.id, "workflow_state"))[-1]
    calls = [row.block for row in state.blocks if row.block.block_type == "tool_use"]
    results = [row.block for row in state.blocks if row.block.block_type == "tool_result"]
    assert (len(calls), len(results)) == (4, 4)
    assert model.systems.count(PROMPTS.gather) == 2
    assert (saved["rounds"], saved["sufficiency"]) == (2, "partial")
    assert [item["source"] for item in saved["items"]] == ["lookup"] * 4
    assert all((result.content or {})["content"].startswith("about example") for result in results)
    assert state.turn.status == "complete"


@pytest.mark.requirement("H1", "F1")
@pytest.mark.parametrize("model", ["sim/demo:pace=0", ECHO, "sim/agent:pace=0", "sim/thinking:pace=0"])
async def test_every_simulated_model_works(tmp_path: Path, model: str) -> None:
    async with engine_in(tmp_path) as engine:
        agent = Workflow(LLM(model), tools=[lookup], retrieve=found)
        turn = await engine.start(agent.source("What is new?"))
        state = await ended(turn)
    assert state.turn.status == "complete", state.turn.error_message
    assert text_of(state)


@pytest.mark.requirement("H3")
async def test_the_question_is_answered_with_the_user_s_input(tmp_path: Path) -> None:
    words = {PROMPTS.classify: "clarification_needed", PROMPTS.clarify: "Which?"}
    async with engine_in(tmp_path) as engine:
        runs = WorkflowCommands(engine.commands, Workflow(Words(words)))
        report = await started(engine, runs, "change it")
        assert report.needs_input
        words[PROMPTS.classify] = "qa_analysis"
        again = await runs.resume("local", report.turn.id, "the second")
        after = await runs.wait("local", again.assistant_turn.id)
        assert again.user_turn is not None
    assert after.state.user_input == ["the second"]
    assert (after.state.question, after.turn.status) == (None, "complete")
    assert after.state.output


async def started(engine: Engine, runs: WorkflowCommands, query: str) -> Any:
    chat = await engine.commands.chats.create("local")
    made = await runs.start("local", query, TurnRequest(chat_id=chat.id))
    return await runs.wait("local", made.assistant_turn.id)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("qa_analysis", "qa_analysis"),
        (" **Simple_Chat**.", "simple_chat"),
        ("simple_chat or qa_analysis", None),
        ("no_simple_chat_here", None),
        ("", None),
    ],
)
def test_one_word_of_a_list_is_found(text: str, word: str | None) -> None:
    assert only_word(text, QUERY_TYPES) == word


def test_insufficient_is_not_sufficient() -> None:
    assert only_word("insufficient", SUFFICIENCIES) == "insufficient"
