"""`Workflow`: stages, with the model and the tools that they use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from turnstream.core.admission import plain_request_json
from turnstream.errors import ConfigurationError, InvalidRequest
from turnstream.tools.base import Tool, ToolFunction, by_name
from turnstream.tools.runner import ToolLimits, ToolRunner
from turnstream.workflow.default_stages import answer_directly, execute, gather_context, reflect
from turnstream.workflow.prompts import StagePrompts
from turnstream.workflow.source import WorkflowSource
from turnstream.workflow.stage import (
    LoadDocument,
    Retrieve,
    RunContext,
    Stage,
    StageFunction,
    StageParts,
    StreamingModel,
)
from turnstream.workflow.state import WorkflowState


def is_unanswered(state: WorkflowState) -> bool:
    """Return True if the run has no answer and no question yet."""
    return state.output is None and state.question is None


DEFAULT_STAGES = (
    Stage("intent_analysis", answer_directly, "intent"),
    Stage("context_gathering", gather_context, "context", when=is_unanswered),
    Stage("execution", execute, "execute", when=is_unanswered),
    Stage("reflection", reflect, "reflect"),
)
"""Intent, context, execution and reflection: stages for any model."""

_FIELDS = frozenset({"chat_history", "selected_content", "document_id"})


class Workflow:
    """Stages, with the model and the tools that they use. One workflow may run any number of times at once.

    Args:
        model: The model that the stages call, such as `LLM(…)`.
        stages: Stages, or async generator functions. None: `DEFAULT_STAGES`.
        state: Class of the state.
        tools: Functions that models may call while context is gathered, or the tools of a server. Tools of a
            server that ask first are left out.
        tool_limits: Limits of the tools. None: the defaults.
        prompts: System prompts of the default stages. None: the defaults.
        retrieve: Async function that returns context for a request. None: only the tools give context.
        load_document: Async function that returns the text of a document by its id, or None if it does not
            exist. None: requests about documents have no text.

    Raises ConfigurationError.
    """

    def __init__(  # noqa: PLR0913 - the parts of a workflow, which come by name
        self,
        model: StreamingModel,
        stages: Sequence[Stage | StageFunction] | None = None,
        *,
        state: type[WorkflowState] = WorkflowState,
        tools: Sequence[ToolFunction | Tool] | ToolRunner = (),
        tool_limits: ToolLimits | None = None,
        prompts: StagePrompts | None = None,
        retrieve: Retrieve | None = None,
        load_document: LoadDocument | None = None,
    ) -> None:
        self.stages = tuple(map(Stage.of, DEFAULT_STAGES if stages is None else stages))
        names = [stage.name for stage in self.stages]
        if not names or len(set(names)) < len(names):
            raise ConfigurationError(f"a workflow needs stages with different names: {names}")
        if isinstance(tools, ToolRunner):
            tool_limits = tool_limits or tools.limits
            tools = [tool for tool in tools.tools.values() if tool.ask == "never"]
        found = by_name(tools)
        if asking := [name for name, tool in found.items() if tool.ask != "never"]:
            raise ConfigurationError(f"the tool {asking[0]} asks first, and a workflow cannot ask")
        self.state_type = state
        runner = ToolRunner(found, tool_limits)
        self.parts = StageParts(model, runner, prompts or StagePrompts(), retrieve, load_document)

    def new_state(self, query: str, context: Mapping[str, Any] | None = None) -> WorkflowState:
        """Return the state of a new run. Raises InvalidRequest.

        Args:
            query: The user's request.
            context: `chat_history`, `selected_content` and `document_id`, all of which may be missing. Other
                values go to `state.extra`.
        """
        given = dict(context or {})
        known = {name: given.pop(name) for name in _FIELDS & given.keys() if given[name] is not None}
        try:
            state = msgspec.convert({"query": query, "extra": given, **known}, self.state_type)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"the context is not valid: {error}; correct that field") from None
        return plain_request_json(state, "the context")

    def source(
        self,
        request: str | WorkflowState,
        *,
        context: Mapping[str, Any] | None = None,
        turn: RunContext | None = None,
    ) -> WorkflowSource:
        """Return a run as the source of a turn, for `engine.start`. Raises InvalidRequest.

        Args:
            request: The user's request, or the state of an earlier run, which continues.
            context: See `new_state`.
            turn: The turn, as tools see it.
        """
        state = self.new_state(request, context) if isinstance(request, str) else request
        return WorkflowSource(self.stages, state, self.parts, turn or RunContext())
