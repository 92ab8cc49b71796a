"""The prompts of the default stages. Each can be replaced."""

from __future__ import annotations

from typing import NamedTuple


class StagePrompts(NamedTuple):
    """System prompts of the default stages. The request and its context are the user's message."""

    classify: str = (
        "Classify the user's request. Answer with one of these words and nothing else:\n"
        "simple_chat: small talk, or a question that needs no context\n"
        "document_edit: change the given document or selection\n"
        "qa_analysis: answer a question with the help of context\n"
        "content_generation: write a new text\n"
        "clarification_needed: it is not clear what the user wants"
    )
    chat: str = "Answer the user briefly and in a friendly tone."
    clarify: str = "The request is not clear enough to answer. Ask the user one short question about it."
    gather: str = (
        "Gather the context that is needed to answer the request. Call tools if you need more. Do not answer "
        "the request. If you need no more tools, judge the context with one of these words and nothing else: "
        "sufficient, partial, insufficient."
    )
    judge: str = (
        "Judge the context for answering the request. Answer with one of these words and nothing else: "
        "sufficient, partial, insufficient."
    )
    generate: str = "Write the text that the user asks for. Use the given context."
    edit: str = "Apply the user's request to the given document or selection. Answer with the new text only."
    answer: str = "Answer the user's request from the given context. Say so if the context lacks something."
    reflect: str = (
        "Judge in one or two sentences if the answer does what the user asked for, and what it lacks."
    )
