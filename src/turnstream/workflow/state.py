"""The state of a workflow: the request, and the results of its stages."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

import msgspec

QueryType: TypeAlias = Literal[
    "simple_chat", "document_edit", "qa_analysis", "content_generation", "clarification_needed"
]
Sufficiency: TypeAlias = Literal["sufficient", "partial", "insufficient", "unknown"]
QUERY_TYPES: tuple[QueryType, ...] = get_args(QueryType)
SUFFICIENCIES: tuple[Sufficiency, ...] = get_args(Sufficiency)
MAX_STATE = 1024 * 1024
"""Bytes of a state as JSON."""


class ContextItem(msgspec.Struct, omit_defaults=True):
    """A piece of context for an answer.

    Args:
        content: Text.
        source: Name of the tool or of the store that it comes from.
        title: Title for people.
        metadata: Details, as JSON.
    """

    content: str
    source: str = "retrieval"
    title: str = ""
    metadata: dict[str, Any] = {}


class WorkflowState(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The state that the stages of a run read and change. It is stored after each stage.

    A workflow may use a subclass with more fields. They must be JSON.

    Args:
        query: The user's request.
        user_input: The user's answers to questions of earlier runs, oldest first.
        chat_history: Earlier messages, each `{role, content}`.
        selected_content: Text that the user has selected, or None.
        document_id: Id of the document that the request is about, or None.
        document: Text of that document, once it is loaded.
        extra: Other values of the client's context.
        stages_done: Names of the stages that have ended.
        query_type: Kind of the request, once it is known.
        items: Context that was gathered.
        rounds: Rounds of gathering.
        sufficiency: Judgement of the context.
        plan: Plan of the execution.
        question: Question to the user that ended the run. None: the run needs no answer.
        output: Text of the answer, once it is complete.
        reflection: Judgement of the answer.
    """

    query: str
    user_input: list[str] = []
    chat_history: list[dict[str, str]] = []
    selected_content: str | None = None
    document_id: str | None = None
    document: str | None = None
    extra: dict[str, Any] = {}
    stages_done: list[str] = []
    query_type: QueryType | None = None
    items: list[ContextItem] = []
    rounds: int = 0
    sufficiency: Sufficiency = "unknown"
    plan: dict[str, Any] = {}
    question: str | None = None
    output: str | None = None
    reflection: dict[str, Any] | None = None

    @property
    def request(self) -> str:
        """The request, with the user's answers to questions."""
        return "\n".join((self.query, *self.user_input))

    def answered(self, user_input: str | None) -> None:
        """Take the user's answer to the question. The stages after the request is understood run again."""
        if user_input:
            self.user_input = [*self.user_input, user_input]
        if self.question is not None:
            self.question = self.output = self.query_type = self.reflection = None
            self.stages_done, self.items, self.rounds, self.sufficiency = [], [], 0, "unknown"
