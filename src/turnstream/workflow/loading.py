"""The workflow of a server whose host application does not give one."""

from __future__ import annotations

from turnstream.config import Settings
from turnstream.llm.language_model import LLM
from turnstream.safety.redaction import Redaction
from turnstream.tools.runner import ToolRunner
from turnstream.workflow.staged_workflow import Workflow


def configured_workflow(
    model: str, settings: Settings, tools: ToolRunner, redaction: Redaction | None
) -> Workflow:
    """Return the default stages.

    Args:
        model: The model of all stages, as `provider/model`.
        settings: The settings of the model.
        tools: Tools that the stages may call.
        redaction: Rules in place of those of the settings. None: those of the settings.
    """
    return Workflow(LLM(model, settings=settings, redaction=redaction), tools=tools)
