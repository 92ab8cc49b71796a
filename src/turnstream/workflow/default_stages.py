"""The default stages. They work with any model: an answer that is not understood counts as the usual case."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from turnstream.llm.prompts import MessageLike
from turnstream.workflow.events import done, running, thinking
from turnstream.workflow.stage import ShownAnswer, StageOutput, StageRun
from turnstream.workflow.state import QUERY_TYPES, SUFFICIENCIES, ContextItem, WorkflowState

MAX_ROUNDS = 2
"""Rounds of gathering context."""
MAX_HISTORY = 10
"""Messages before the request that the model gets."""
MAX_ITEM = 20_000
"""Characters of a piece of context that the model gets."""

Run = StageRun[WorkflowState]
Word = TypeVar("Word", bound=str)


async def answer_directly(run: Run) -> AsyncIterator[StageOutput]:
    """Classify the request. Answer small talk, and ask if the request is not clear."""
    state, prompts = run.state, run.parts.prompts
    yield thinking("Reading the request")
    history = _history(state)
    text = await run.ask(state.request, system=prompts.classify, messages=history)
    state.query_type = kind = only_word(text, QUERY_TYPES) or "qa_analysis"
    if kind == "simple_chat":
        answer = run.answer(state.request, system=prompts.chat, messages=history)
        async for piece in answer:
            yield piece
        state.output = answer.text
    elif kind == "clarification_needed":
        question = _question(run)
        async for piece in question:
            yield piece
        state.question = question.text
    yield done("The request is understood", query_type=kind)


async def gather_context(run: Run) -> AsyncIterator[StageOutput]:
    """Gather context with `retrieve` and the tools, in at most MAX_ROUNDS rounds."""
    state, parts = run.state, run.parts
    yield thinking("Gathering context")
    if state.document_id is not None and state.document is None and parts.load_document is not None:
        state.document = await parts.load_document(state.document_id)
        yield running(f"Loaded the document {state.document_id}", found=state.document is not None)
    if parts.retrieve is not None:
        found = await parts.retrieve(state.request)
        state.items += [ContextItem(item) if isinstance(item, str) else item for item in found]
        state.rounds = 1
        yield running(f"Found {len(found)} pieces of context", progress=0.3, count=len(found))
    asked = _user_message(state)
    messages: list[MessageLike] = [*_history(state), {"role": "user", "content": asked}]
    verdict: str | None = None
    while parts.tools.tools and state.rounds < MAX_ROUNDS and verdict is None:
        message = await run.call(
            system=parts.prompts.gather,
            messages=messages,
            tools=[*parts.tools.tools.values()],
            run_tools=False,
        )
        if not (calls := message.tool_calls):
            verdict = message.text
            break
        state.rounds += 1
        yield running(f"Calling {', '.join(call.name for call in calls)}", progress=0.2 + 0.3 * state.rounds)
        messages.append(message)
        for call, output in zip(calls, await run.use_tools(calls), strict=True):
            yield run.shown_tool(call, output)
            messages.append(call.result(output.text, is_error=output.is_error))
            if not output.is_error:
                state.items.append(ContextItem(output.text[:MAX_ITEM], source=call.name))
    if verdict is None and (state.items or state.document):
        verdict = await run.ask(_user_message(state), system=parts.prompts.judge)
    state.sufficiency = only_word(verdict or "", SUFFICIENCIES) or "unknown"
    if state.sufficiency == "insufficient":
        question = _question(run)
        async for piece in question:
            yield piece
        state.question = question.text
    yield done("Context is gathered", sufficiency=state.sufficiency, items=len(state.items))


async def execute(run: Run) -> AsyncIterator[StageOutput]:
    """Write the answer: a new text, an edited one, or an answer to a question."""
    state, prompts = run.state, run.parts.prompts
    ways = {"content_generation": ("generate", prompts.generate), "document_edit": ("edit", prompts.edit)}
    action, system = ways.get(state.query_type or "", ("answer", prompts.answer))
    state.plan = {"action": action, "query_type": state.query_type, "items": len(state.items)}
    yield running(f"Execution: {action}", plan=state.plan)
    answer = run.answer(_user_message(state), system=system, messages=_history(state))
    async for piece in answer:
        yield piece
    state.output = answer.text
    yield done("The answer is written", plan=state.plan)


async def reflect(run: Run) -> AsyncIterator[StageOutput]:
    """Judge the answer, unless it is small talk or a question."""
    state = run.state
    if state.query_type == "simple_chat" or state.question is not None:
        state.reflection = {"summary": "", "success": True}
    else:
        yield thinking("Checking the answer")
        asked = f"{_user_message(state)}\n\nAnswer:\n{state.output or ''}"
        summary = await run.ask(asked, system=run.parts.prompts.reflect)
        state.reflection = {"summary": summary, "success": bool(state.output)}
    yield done("Reflection is complete", needs_input=state.question is not None, **state.reflection)


def _question(run: Run) -> ShownAnswer:
    """Return a question to the user. The run ends with it, and continues with the user's answer."""
    state = run.state
    return run.answer(state.request, system=run.parts.prompts.clarify, messages=_history(state))


def only_word(text: str, words: Sequence[Word]) -> Word | None:
    """Return the one of `words` that is in a model's text. None if there is none, or several."""
    found = {word for word in words if re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text.lower())}
    return found.pop() if len(found) == 1 else None


def _history(state: WorkflowState) -> list[MessageLike]:
    return [
        {"role": line["role"], "content": line["content"]}
        for line in state.chat_history[-MAX_HISTORY:]
        if line.get("role") in ("user", "assistant") and line.get("content")
    ]


def _user_message(state: WorkflowState) -> str:
    """Return the request with its context, as one message."""
    parts = [state.request]
    if state.selected_content:
        parts.append(f"Selected text:\n{state.selected_content}")
    if state.document:
        parts.append(f"Document {state.document_id}:\n{state.document}")
    parts += [f"Context ({item.title or item.source}):\n{item.content[:MAX_ITEM]}" for item in state.items]
    return "\n\n".join(parts)
